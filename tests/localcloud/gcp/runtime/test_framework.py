"""The local Cloud Run runtime, with small functions written for each test."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.gcp.runtime.framework import FunctionsFramework
from tests.limits import HANG_S, SHORT_S

Make = Callable[..., FunctionsFramework]


@pytest.fixture
def framework(tmp_path: Path) -> Make:
    """Return a factory of functions from a module's source; the entry point is `answer`."""

    def make(source: str, env: dict[str, str] | None = None, **options: object) -> FunctionsFramework:
        package = tmp_path / "tiny"
        package.mkdir(exist_ok=True)
        (package / "__init__.py").write_text("", encoding="utf-8")
        (package / "handler.py").write_text(source, encoding="utf-8")
        arguments: dict[str, object] = {"grace_s": 0.2, **options}
        return FunctionsFramework("tiny.handler:answer", env or {}, source=tmp_path, **arguments)  # type: ignore[arg-type]  # the test passes the options

    return make


def is_running(process: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    answer = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True, check=False)
    return not answer.stdout.strip().startswith(("Z", "X")) and answer.returncode == 0


def test_request_and_response_pass_unchanged(framework: Make) -> None:
    """Method, path, body and headers reach the function, and its status, headers and body are returned."""
    source = (
        "def answer(request):\n"
        "    got = [request.method, request.path, request.get_json(), request.headers['X-Mine']]\n"
        "    return {'got': got}, 418, {'X-Yours': 'tea'}\n"
    )
    with framework(source) as function:
        response = function.invoke({"scopes": ["ü"]}, {"X-Mine": "yes"}, method="PUT", path="/pot")
    assert response.error is None
    assert (response.status, response.headers["x-yours"]) == (418, "tea")
    assert response.payload == {"got": ["PUT", "/pot", {"scopes": ["ü"]}, "yes"]}


def test_body_bytes_are_passed_unchanged(framework: Make) -> None:
    """A body that is not JSON reaches the function byte for byte, and an absent body stays absent."""
    with framework("def answer(request):\n    return request.get_data()\n") as function:
        raw, empty = function.invoke(b"{\xff"), function.invoke()
    assert (raw.body, raw.payload) == (b"{\xff", None)
    assert empty.body == b""


def test_environment_has_only_cloud_runs_and_the_given_variables(
    framework: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The function gets no variable of the calling process."""
    monkeypatch.setenv("LEAKED", "yes")
    source = "import os\ndef answer(request):\n    return dict(os.environ)\n"
    with framework(source, {"COPY": "off"}, timeout_s=60) as function:
        payload = function.invoke().payload
    assert isinstance(payload, dict)
    assert "LEAKED" not in payload
    assert payload["COPY"] == "off"
    assert payload["K_SERVICE"] == "tailpipe-exports"
    assert payload["FUNCTION_TARGET"] == "answer"
    assert payload["CLOUD_RUN_TIMEOUT_SECONDS"] == "60"
    assert int(payload["PORT"]) > 0
    assert payload["HOME"] != os.environ.get("HOME")


def test_every_call_has_a_trace(framework: Make) -> None:
    """A call without a trace gets a new one, and a call with a trace keeps it."""
    source = "def answer(request):\n    return request.headers['X-Cloud-Trace-Context']\n"
    with framework(source) as function:
        first, second = function.invoke(), function.invoke()
        given = function.invoke(headers={"X-Cloud-Trace-Context": f"{'ab' * 16}/7;o=1"})
    assert first.body.decode().startswith(f"{first.trace}/")
    assert len(first.trace) == 32
    assert first.trace != second.trace
    assert (given.trace, given.body) == ("ab" * 16, b"ab" * 16 + b"/7;o=1")


def test_exception_is_500_and_the_instance_stays_warm(framework: Make) -> None:
    """The traceback is in the log, and the next call reaches the same process."""
    source = (
        "import os\n"
        "def answer(request):\n"
        "    if request.args: raise RuntimeError('account 42 is closed')\n"
        "    return str(os.getpid())\n"
    )
    with framework(source) as function:
        before, failed, after = function.invoke(), function.invoke(path="/?fail=1"), function.invoke()
    assert failed.status == 500
    assert any("account 42 is closed" in line for line in failed.logs)
    assert before.body == after.body


def test_failing_import_is_503_and_is_retried_by_the_next_call(framework: Make, tmp_path: Path) -> None:
    """The response has the last log lines, and a later call starts a new instance."""
    with framework("raise KeyError('BUCKET')\n") as function:
        failed = function.invoke()
        (tmp_path / "tiny" / "handler.py").write_text("def answer(request):\n    return 'well'\n", encoding="utf-8")
        healed = function.invoke()
    assert (failed.status, failed.payload) == (503, None)
    assert failed.error is not None
    assert "did not start" in failed.error
    assert "BUCKET" in failed.error
    assert (healed.status, healed.body) == (200, b"well")


def test_killed_instance_is_503_and_is_replaced(framework: Make) -> None:
    """The failed call returns the last log lines, and the next one succeeds."""
    source = (
        "import os, signal\n"
        "def answer(request):\n"
        "    if request.args:\n"
        "        print('about to end')\n"
        "        os.killpg(os.getpgid(0), signal.SIGKILL)\n"
        "    return 'alive'\n"
    )
    with framework(source) as function:
        failed, after = function.invoke(path="/?end=1"), function.invoke()
    assert failed.status == 503
    assert failed.error is not None
    assert "SIGKILL" in failed.error
    assert "about to end" in failed.error
    assert (after.status, after.body) == (200, b"alive")


def test_call_past_its_timeout_is_504(framework: Make) -> None:
    """The instance stays alive and serves the next call."""
    source = (
        "import os, threading\n"
        "def answer(request):\n"
        "    if request.args: threading.Event().wait()\n"
        "    return str(os.getpid())\n"
    )
    with framework(source, timeout_s=SHORT_S) as function:
        before, failed, after = function.invoke(), function.invoke(path="/?hang=1"), function.invoke()
    assert (failed.status, failed.body) == (504, b"")
    assert failed.duration_s >= SHORT_S
    assert before.body == after.body != b""


def test_hanging_import_is_ended_and_reported(framework: Make) -> None:
    """The start-up has a time limit."""
    with framework("import threading\nthreading.Event().wait()\n", start_limit_s=1) as function:
        failed = function.invoke()
    assert failed.status == 503
    assert "did not listen within 1 s" in str(failed.error)


def test_log_lines_belong_to_their_call(framework: Make) -> None:
    """Each call has its lines of standard output and error, and a listener gets all lines."""
    source = (
        "import sys\n"
        "print('importing')\n"
        "def answer(request):\n"
        "    print('out', request.args['n'])\n"
        "    print('err', request.args['n'], file=sys.stderr)\n"
        "    return ''\n"
    )
    outcome: list[str] = []
    with framework(source, on_line=outcome.append) as function:
        first, second = function.invoke(path="/?n=1"), function.invoke(path="/?n=2")
    assert first.logs == ("importing", "out 1", "err 1")
    assert second.logs == ("out 2", "err 2")
    assert outcome == ["importing", "out 1", "err 1", "out 2", "err 2"]


def test_peak_memory_is_that_of_the_serving_process(framework: Make) -> None:
    """The peak includes memory that the function has released."""
    source = "def answer(request):\n    return str(len(bytearray(int(request.args['n'])) * 1))\n"
    with framework(source) as function:
        small, large = function.invoke(path="/?n=1"), function.invoke(path=f"/?n={64 * 1024 * 1024}")
    if small.peak_mb is None:
        pytest.skip("this system does not report a process's peak memory")
    assert large.peak_mb is not None
    assert large.peak_mb - small.peak_mb > 50


def test_no_process_or_port_outlives_the_context(framework: Make) -> None:
    """This holds even if a call is still hanging."""
    source = (
        "import os, threading\n"
        "def answer(request):\n"
        "    if request.args: threading.Event().wait()\n"
        "    return [os.getpid(), os.getppid(), int(os.environ['PORT'])]\n"
    )
    with framework(source, timeout_s=SHORT_S) as function:
        payload = function.invoke().payload
        function.invoke(path="/?hang=1")
    assert isinstance(payload, list)
    *processes, port = payload
    assert not any(is_running(process) for process in processes)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=HANG_S)


def test_reserved_variables_are_refused(framework: Make) -> None:
    """The error lists every variable that contradicts Cloud Run's."""
    with pytest.raises(ValueError, match="reserves K_SERVICE, PORT"):
        framework("", {"K_SERVICE": "other", "PORT": "80", "COPY": "off"})


@pytest.mark.parametrize("name", ["handler", "a.b:", ":c", "a-b:c", "a;import os:c"])
def test_malformed_function_name_is_refused(name: str, tmp_path: Path) -> None:
    """A name that is not `module:name` creates no file."""
    with pytest.raises(ValueError, match="is not module:name"):
        FunctionsFramework(name, {}, source=tmp_path)
