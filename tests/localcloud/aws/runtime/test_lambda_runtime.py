"""The local Lambda runtime, with small handlers written for each test."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

import pytest

from localcloud.aws.runtime.lambda_runtime import LambdaRuntime, runtime_folder
from localcloud.aws.runtime.lambda_runtime_api import MAX_PAYLOAD_BYTES, Call, RuntimeApi
from tests.limits import HANG_S, SHORT_S

Make = Callable[..., LambdaRuntime]

ACCOUNT = "111122223333"


@pytest.fixture
def runtime(tmp_path: Path) -> Make:
    """Return a factory of runtimes for a handler module's source."""

    def make(source: str, **options: object) -> LambdaRuntime:
        (tmp_path / "tiny.py").write_text(source, encoding="utf-8")
        arguments: dict[str, object] = {"env": {}, "account_id": ACCOUNT, "region": "eu-west-1", **options}
        return LambdaRuntime(handler="tiny.handler", task_root=tmp_path, **arguments)  # type: ignore[arg-type]  # the test passes the options

    return make


def test_handlers_result_is_returned(runtime: Make) -> None:
    """The event reaches the handler unchanged, and its result is decoded."""
    with runtime("def handler(event, context):\n    return {'got': event}\n") as function:
        result = function.invoke({"dry_run": True, "scopes": ["ü"]})
    assert result.error is None
    assert result.payload == {"got": {"dry_run": True, "scopes": ["ü"]}}
    assert result.duration_s >= 0


def test_environment_has_only_lambdas_and_the_given_variables(runtime: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function gets no variable of the calling process."""
    monkeypatch.setenv("LEAKED", "yes")
    source = "import os\ndef handler(event, context):\n    return dict(os.environ)\n"
    with runtime(source, env={"EXPORTS": "cur2"}, memory_mb=256) as function:
        payload = function.invoke({}).payload
    assert isinstance(payload, dict)
    assert "LEAKED" not in payload
    assert payload["EXPORTS"] == "cur2"
    assert payload["AWS_REGION"] == payload["AWS_DEFAULT_REGION"] == "eu-west-1"
    assert payload["AWS_LAMBDA_FUNCTION_NAME"] == "tailpipe-exports"
    assert payload["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert payload["AWS_LAMBDA_FUNCTION_VERSION"] == "$LATEST"
    assert payload["AWS_LAMBDA_LOG_GROUP_NAME"] == "/aws/lambda/tailpipe-exports"
    assert "[$LATEST]" in payload["AWS_LAMBDA_LOG_STREAM_NAME"]
    assert payload["_HANDLER"] == "tiny.handler"
    assert payload["AWS_EXECUTION_ENV"].startswith("AWS_Lambda_python3.")
    assert payload["HOME"] != os.environ.get("HOME")


def test_context_has_identity_and_deadline(runtime: Make) -> None:
    """The context names the function with its partition, and counts down from the configured timeout."""
    source = (
        "def handler(event, context):\n"
        "    left = context.get_remaining_time_in_millis()\n"
        "    return [context.invoked_function_arn, context.aws_request_id, left]\n"
    )
    with runtime(source, region="us-gov-west-1", partition="aws-us-gov", timeout_s=30) as function:
        result = function.invoke({})
    assert isinstance(result.payload, list)
    arn, request_id, remaining_ms = result.payload
    assert arn == f"arn:aws-us-gov:lambda:us-gov-west-1:{ACCOUNT}:function:tailpipe-exports"
    assert request_id == result.request_id
    assert 0 < remaining_ms <= 30_000


def test_raised_exception_is_the_runtimes_error_document(runtime: Make) -> None:
    """The document has type, message and stack trace, and the environment stays warm."""
    source = (
        "import os\n"
        "def handler(event, context):\n"
        "    if event: raise RuntimeError('account 42 is closed')\n"
        "    return os.getpid()\n"
    )
    with runtime(source) as function:
        before = function.invoke(None)
        failed = function.invoke({"fail": True})
        after = function.invoke(None)
    assert failed.payload is None
    assert failed.error is not None
    assert failed.error["errorType"] == "RuntimeError"
    assert failed.error["errorMessage"] == "account 42 is closed"
    assert failed.error["stackTrace"]
    assert before.payload == after.payload


def test_failing_import_is_an_init_error_and_is_retried(runtime: Make, tmp_path: Path) -> None:
    """The error has its type, and a later invocation starts a new environment."""
    with runtime("raise KeyError('BUCKET')\n") as function:
        failed = function.invoke({})
        (tmp_path / "tiny.py").write_text("def handler(event, context):\n    return 'well'\n", encoding="utf-8")
        healed = function.invoke({})
    assert failed.error is not None
    assert failed.error["errorType"] == "KeyError"
    assert any("BUCKET" in line for line in failed.logs)
    assert healed.payload == "well"


def test_unknown_handler_module_is_an_init_error(runtime: Make, tmp_path: Path) -> None:
    """The error names the module, as Lambda's does."""
    with LambdaRuntime("absent.handler", {}, ACCOUNT, "eu-west-1", task_root=tmp_path) as function:
        failed = function.invoke({})
    assert failed.error is not None
    assert failed.error["errorType"] == "Runtime.ImportModuleError"
    assert "absent" in str(failed.error["errorMessage"])


def test_init_error_before_the_first_call_is_its_error() -> None:
    """On a busy machine the initialization may fail before the call is offered."""
    error = {"errorType": "Runtime.ImportModuleError", "errorMessage": "No module named 'absent'"}
    with RuntimeApi() as api:
        assert api.accept(None, "error", json.dumps(error).encode()) == HTTPStatus.ACCEPTED
        api.offer(call := Call(b"{}", "arn", timeout_s=1))
        api.fail("Runtime.ExitError", "exit status 1")
    assert call.error == error


@pytest.mark.parametrize(
    ("ending", "how"),
    [
        pytest.param("os._exit(3)", "exit status 3", id="exit"),
        pytest.param("os.kill(os.getpid(), 9)", "signal: SIGKILL", id="killed"),
    ],
)
def test_process_that_dies_is_an_error_with_its_last_log_lines(runtime: Make, ending: str, how: str) -> None:
    """The next invocation succeeds."""
    source = (
        "import os\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        print('about to end', flush=True)\n"
        f"        {ending}\n"
        "    return 'alive'\n"
    )
    with runtime(source) as function:
        failed = function.invoke({"end": True})
        after = function.invoke(None)
    assert failed.error is not None
    assert failed.error["errorType"] == "Runtime.ExitError"
    assert how in str(failed.error["errorMessage"])
    assert failed.error["lastLogLines"] == ["about to end"]
    assert after.payload == "alive"


def test_process_that_dies_between_invocations_is_replaced(runtime: Make) -> None:
    """The next invocation has a cold start or one error, but never hangs."""
    source = (
        "import os, threading\n"
        "def handler(event, context):\n"
        "    if event: threading.Timer(0.05, os._exit, [4]).start()\n"
        "    return os.getpid()\n"
    )
    with runtime(source) as function:
        first = function.invoke({"die": True})
        results = [function.invoke(None)]
        while results[-1].error is None and results[-1].payload == first.payload:
            results.append(function.invoke(None))
        last = function.invoke(None)
    assert last.error is None
    assert last.payload != first.payload


def test_logs_belong_to_their_invocation(runtime: Make) -> None:
    """Each invocation has the lines from print, logging and standard error written during it."""
    source = (
        "import logging, sys\n"
        "print('importing')\n"
        "def handler(event, context):\n"
        "    print('out', event)\n"
        "    print('err', event, file=sys.stderr)\n"
        "    logging.getLogger().warning('log %s', event)\n"
    )
    with runtime(source) as function:
        first, second = function.invoke(1), function.invoke(2)
    assert first.logs[:3] == ("importing", "out 1", "err 1")
    assert first.logs[3].endswith("log 1")
    assert second.logs[:2] == ("out 2", "err 2")
    assert len(second.logs) == 3


def test_output_beyond_a_pipes_capacity_does_not_block_the_function(runtime: Make) -> None:
    """Every line is kept."""
    source = "def handler(event, context):\n    for n in range(20_000): print(f'line {n:05}')\n"
    with runtime(source) as function:
        logs = function.invoke({}).logs
    assert len(logs) == 20_000
    assert logs[-1] == "line 19999"


def test_handler_past_its_deadline_is_killed_and_reported_as_a_timeout(runtime: Make) -> None:
    """The error is Lambda's document, and the next invocation gets a new process."""
    source = (
        "import os, threading\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        print(os.getpid())\n"
        "        threading.Event().wait()\n"
        "    return os.getpid()\n"
    )
    with runtime(source, timeout_s=SHORT_S) as function:
        failed = function.invoke({"hang": True})
        after = function.invoke(None)
    assert failed.error is not None
    assert failed.error["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 2.00 seconds" in str(failed.error["errorMessage"])
    assert failed.duration_s >= SHORT_S
    assert after.payload != int(failed.logs[0])
    assert not Path(f"/proc/{failed.logs[0]}").exists()


def test_hanging_import_is_ended_and_reported(runtime: Make) -> None:
    """Initialization has a time limit."""
    with runtime("import threading\nthreading.Event().wait()\n", init_limit_s=1) as function:
        failed = function.invoke({})
    assert failed.error is not None
    assert failed.error["errorType"] == "Sandbox.Timedout"
    assert "Init" in str(failed.error["errorMessage"])


def test_large_payloads_pass_in_both_directions(runtime: Make) -> None:
    """Payloads of some megabytes, below Lambda's limit, pass unchanged."""
    with runtime("def handler(event, context):\n    return event + event\n") as function:
        result = function.invoke("x" * 2_500_000)
    assert result.error is None
    assert result.payload == "x" * 5_000_000


def test_payloads_above_the_limit_are_refused(runtime: Make) -> None:
    """A result above 6 MB is Lambda's error, and an event above it is not sent."""
    with runtime("def handler(event, context):\n    return 'x' * event\n") as function:
        failed = function.invoke(MAX_PAYLOAD_BYTES)
        with pytest.raises(ValueError, match="Lambda accepts"):
            function.invoke("x" * MAX_PAYLOAD_BYTES)
        after = function.invoke(2)
    assert failed.error is not None
    assert failed.error["errorType"] == "Function.ResponseSizeTooLarge"
    assert after.payload == "xx"


def test_peak_memory_is_that_of_the_function(runtime: Make) -> None:
    """The peak includes memory that the handler has released."""
    source = "def handler(event, context):\n    return len(bytearray(event) * 1)\n"
    with runtime(source) as function:
        small, large = function.invoke(1), function.invoke(64 * 1024 * 1024)
    if small.peak_mb is None:
        pytest.skip("this system does not report a process's peak memory")
    assert large.peak_mb is not None
    assert large.peak_mb - small.peak_mb > 50


def test_process_ends_with_the_context(runtime: Make) -> None:
    """No process and no server is left."""
    source = "import os\ndef handler(event, context):\n    return [os.getpid(), os.environ['AWS_LAMBDA_RUNTIME_API']]\n"
    with runtime(source) as function:
        payload = function.invoke({}).payload
    assert isinstance(payload, list)
    with pytest.raises(ProcessLookupError):
        os.kill(payload[0], 0)
    host, _, port = payload[1].partition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=HANG_S)


def test_reserved_variables_are_refused(tmp_path: Path) -> None:
    """The error lists every variable that Lambda reserves."""
    env = {"AWS_REGION": "us-east-1", "_HANDLER": "other.handler", "BUCKET": "b"}
    with pytest.raises(ValueError, match="reserves AWS_REGION, _HANDLER"):
        LambdaRuntime("tiny.handler", env, ACCOUNT, "eu-west-1", task_root=tmp_path)


def test_runtime_folder_excludes_installed_packages(runtime: Make, tmp_path: Path) -> None:
    """The path has only the function's folder and the runtime client."""
    folder = tmp_path / "runtime"
    folder.mkdir()
    source = (
        "import importlib.util, sys\n"
        "def handler(event, context):\n"
        "    return [name for name in event if importlib.util.find_spec(name)], sys.path\n"
    )
    with runtime(source, runtime_path=runtime_folder(folder)) as function:
        response = function.invoke(["tiny", "awslambdaric", "pytest", "boto3", "localcloud"]).payload
    assert isinstance(response, list)
    assert response[0] == ["tiny", "awslambdaric"]
    assert [one for one in response[1] if "site-packages" in one] == []


def test_retry_keeps_its_request_id_and_log_stream(runtime: Make) -> None:
    """The context has the given id, and invocations of a warm environment share a log stream."""
    with runtime("def handler(event, context):\n    return context.aws_request_id\n") as function:
        first, second = function.invoke({}, "0f0f-1"), function.invoke({}, "0f0f-1")
    assert first.payload == second.payload == first.request_id == "0f0f-1"
    assert first.log_stream == second.log_stream
    assert "[$LATEST]" in first.log_stream


def test_stopping_the_runtime_fails_the_running_invocation(runtime: Make, tmp_path: Path) -> None:
    """The process is ended from another thread, and the next invocation gets a new one."""
    source = (
        "import pathlib, time\n"
        "def handler(event, context):\n"
        "    if event:\n"
        "        pathlib.Path(event).touch()\n"
        "        time.sleep(60)\n"
        "    return 'done'\n"
    )
    began = tmp_path / "began"
    with runtime(source, on_line=None) as function:
        results = []
        busy = threading.Thread(target=lambda: results.append(function.invoke(str(began))))
        busy.start()
        pause = threading.Event()
        while not began.exists():
            pause.wait(0.01)
        function.stop()
        busy.join(HANG_S)
        assert results[0].error is not None
        assert results[0].error["errorType"] == "Runtime.ExitError"
        assert function.invoke(None).payload == "done"
