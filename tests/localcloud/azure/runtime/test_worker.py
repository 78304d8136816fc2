"""The Functions host against small apps written for each test, in Azure's worker runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.azure.runtime.worker import AzureWorker
from tests.limits import HANG_S

Make = Callable[..., AzureWorker]

HEAD = """
import json, logging, os, time
import azure.functions as func

app = func.FunctionApp()
"""
ECHO = """
@app.function_name("echo")
@app.route(route="say/echo", methods=["POST"], auth_level=func.AuthLevel.FUNCTION)
def echo(req: func.HttpRequest) -> func.HttpResponse:
    got = {"body": req.get_body().decode(), "x": req.params.get("x"), "h": req.headers.get("X-Own"), "url": req.url}
    return func.HttpResponse(json.dumps(got), status_code=409, mimetype="application/json", headers={"X-Back": "b"})
"""
TICK = """
@app.function_name("tick")
@app.timer_trigger(arg_name="timer", schedule="%SCHEDULE%", run_on_startup=False, use_monitor=True)
def tick(timer: func.TimerRequest) -> None:
    logging.getLogger("own").info("late %s", timer.past_due)
    print("printed")
"""
ANY = """
@app.route(route="any", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
def any(req: func.HttpRequest) -> func.HttpResponse:
    {body}
"""
SCHEDULE = {"SCHEDULE": "0 17 * * * *"}


@pytest.fixture
def worker(tmp_path: Path) -> Make:
    """Return a maker of workers for an app's source."""

    def make(source: str, env: dict[str, str] | None = None, **options: object) -> AzureWorker:
        (tmp_path / "tiny.py").write_text(HEAD + source, encoding="utf-8")
        return AzureWorker("tiny", env or {}, task_root=tmp_path, **options)  # type: ignore[arg-type]  # options are the test's own

    return make


def any_doing(body: str) -> str:
    """Return a function without a key that does `body`."""
    return ANY.format(body=body)


def test_azures_own_runtime_runs_the_functions(worker: Make) -> None:
    """The runtime that make venv has installed indexes and invokes them, and says its version."""
    with worker(TICK + ECHO) as app:
        assert app.worker.startswith("azure-functions-runtime ")
        assert set(app.functions()) == {"tick", "echo"}


@pytest.mark.parametrize("runtime", [None, Path("/nowhere")], ids=["runtime", "library"])
def test_http_function_gets_the_request_and_its_answer_comes_back(worker: Make, runtime: Path | None) -> None:
    """Body, query, headers and URL reach the function; status, headers and body return, with either runtime."""
    options = {} if runtime is None else {"runtime": runtime}
    with worker(ECHO, **options) as app:
        answer = app.invoke_http("POST", "/api/say/echo?x=1", "ü", headers={"X-Own": "o"})
    assert (answer.status, answer.error, answer.function) == (409, None, "echo")
    assert answer.json() == {"body": "ü", "x": "1", "h": "o", "url": "https://localhost/api/say/echo?x=1"}
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["x-back"] == "b"
    assert headers["content-type"].startswith("application/json")


@pytest.mark.parametrize("runtime", [None, Path("/nowhere")], ids=["runtime", "library"])
def test_timer_ticks_and_logs(worker: Make, runtime: Path | None) -> None:
    """A tick invokes the timer's function; what it logs and prints are its lines, the worker's own are not."""
    options = {} if runtime is None else {"runtime": runtime}
    with worker(TICK + ECHO, SCHEDULE, **options) as app:
        first, second = app.invoke_timer(), app.invoke_timer("tick", past_due=True)
    assert (first.error, second.error) == (None, None)
    assert (first.logs, second.logs) == (("late False", "printed"), ("late True", "printed"))
    assert first.peak_mb is None or first.peak_mb > 5


def test_library_says_that_it_is_only_the_next_best(worker: Make) -> None:
    """Without the runtime, the library is reported as what it is."""
    with worker(TICK, runtime=Path("/nowhere")) as app:
        assert app.worker.startswith("azure-functions ")
        assert "not the worker runtime" in app.worker


def test_host_wants_the_key_route_and_method(worker: Make) -> None:
    """A wrong key is 401, an unknown route or method 404, and an anonymous function needs no key."""
    with worker(ECHO + any_doing("return func.HttpResponse('hello')")) as app:
        assert app.invoke_http("POST", "/api/say/echo", key="guessed").status == 401
        assert app.invoke_http("POST", "/api/say/echo", key="").status == 401
        assert app.invoke_http("GET", "/api/say/echo").status == 404
        assert app.invoke_http("POST", "/api/nothing").status == 404
        assert app.invoke_http("GET", "/api/any", key="").body == b"hello"


def test_environment_is_the_apps_and_nothing_of_ours(worker: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The functions see the platform's variables and the given ones, and none of the calling process."""
    monkeypatch.setenv("LEAKED", "yes")
    source = any_doing("return func.HttpResponse(json.dumps(dict(os.environ)))")
    with worker(source, {"EXPORTS": "focus"}) as app:
        seen = app.invoke_http("GET", "/api/any").json()
    assert "LEAKED" not in seen
    assert (seen["EXPORTS"], seen["FUNCTIONS_WORKER_RUNTIME"]) == ("focus", "python")
    assert seen["HOME"] != os.environ["HOME"]


def test_runtimes_packages_hide_none_of_the_apps(worker: Make, tmp_path: Path) -> None:
    """The runtime brings a package `tests` along; an app's own one of that name is the one that it imports."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("WHOSE = 'ours'\n", encoding="utf-8")
    with worker(any_doing("import tests; return func.HttpResponse(tests.WHOSE)")) as app:
        assert app.invoke_http("GET", "/api/any").body == b"ours"


def test_function_that_raises_is_an_error_and_500(worker: Make) -> None:
    """Type, message and trace come back, and the process stays for the next invocation."""
    source = any_doing("raise RuntimeError('subscription 42')") + ECHO
    with worker(source) as app:
        failed, after = app.invoke_http("GET", "/api/any"), app.invoke_http("POST", "/api/say/echo", "on")
    assert failed.status == 500
    assert failed.error is not None
    assert "subscription 42" in failed.error["errorMessage"]
    assert "RuntimeError" in failed.error["errorMessage"] + failed.error["stackTrace"]
    assert after.json()["body"] == "on"


def test_app_that_cannot_be_indexed_is_an_error_and_is_tried_anew(worker: Make, tmp_path: Path) -> None:
    """An error at import is reported to the caller, and the next use starts a new process."""
    with worker("raise KeyError('DESTINATION')\n") as app:
        timer, http = app.invoke_timer(), app.invoke_http("GET", "/api/any")
        (tmp_path / "tiny.py").write_text(HEAD + any_doing("return func.HttpResponse('well')"), encoding="utf-8")
        assert app.invoke_http("GET", "/api/any").body == b"well"
    assert timer.error is not None
    assert "DESTINATION" in timer.error["errorMessage"]
    assert http.status == 500


def test_schedule_without_its_setting_is_refused(worker: Make) -> None:
    """As on Azure, a timer whose %SETTING% is missing does not run."""
    with worker(TICK) as app:
        refused = app.invoke_timer()
    assert refused.error is not None
    assert "%SCHEDULE%" in refused.error["errorMessage"]
    assert not any("late" in line for line in refused.logs)


def test_function_over_its_time_is_ended(worker: Make) -> None:
    """After the function's own limit the process is ended, and the next invocation gets a new one."""
    source = any_doing("time.sleep(60 if req.params.get('x') else 0); return func.HttpResponse(str(os.getpid()))")
    with worker(source, timeout_s=0.5) as app:
        before = int(app.invoke_http("GET", "/api/any").body)
        late = app.invoke_http("GET", "/api/any?x=1")
        after = int(app.invoke_http("GET", "/api/any").body)
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
    assert late.status == 500
    assert late.error is not None
    assert "Timeout" in late.error["errorMessage"]
    assert before != after


def test_answer_that_comes_too_late_for_http_is_502(worker: Make) -> None:
    """The load balancer gives up before the function's own limit; the function itself goes on."""
    source = any_doing("time.sleep(float(req.params.get('x') or 0)); return func.HttpResponse(str(os.getpid()))")
    with worker(source, http_limit_s=0.3) as app:
        before = app.invoke_http("GET", "/api/any").body
        assert app.invoke_http("GET", "/api/any?x=1").status == 502
        assert app.invoke_http("GET", "/api/any").body == before


def test_crash_is_reported_with_the_last_lines(worker: Make) -> None:
    """A process that dies in the middle is an error, never a hang, and the next invocation gets a new one."""
    source = any_doing("print('last words', flush=True); os._exit(7)") + TICK
    with worker(source, SCHEDULE) as app:
        crashed, after = app.invoke_http("GET", "/api/any"), app.invoke_timer()
    assert crashed.status == 500
    assert crashed.error is not None
    assert "code 7" in crashed.error["errorMessage"]
    assert "last words" in crashed.error["lastLogLines"]
    assert after.error is None


def test_invocations_overlap(worker: Make, tmp_path: Path) -> None:
    """Timer and HTTP at once are two invocations in one process: the second is served while the first waits for it."""
    source = """
import threading
met = threading.Event()

@app.function_name("tick")
@app.timer_trigger(arg_name="timer", schedule="0 0 * * * *")
def tick(timer: func.TimerRequest) -> None:
    met.wait()
""" + any_doing("met.set(); return func.HttpResponse('met')")
    with worker(source) as app:
        assert app.worker
        ticked = []
        thread = threading.Thread(target=lambda: ticked.append(app.invoke_timer()))
        thread.start()
        assert app.invoke_http("GET", "/api/any").body == b"met"
        thread.join()
    assert [one.error for one in ticked] == [None]


def test_nothing_is_left_running(worker: Make) -> None:
    """When the context ends the process is gone, and killing it before is not an error."""
    with worker(any_doing("return func.HttpResponse(str(os.getpid()))")) as app:
        pid = int(app.invoke_http("GET", "/api/any").body)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_lines_come_while_the_function_works(worker: Make, tmp_path: Path) -> None:
    """A callback gets a line before the invocation has ended."""
    seen: list[str] = []
    go, early = tmp_path / "go", threading.Event()

    def watch(line: str) -> None:
        seen.append(line)
        early.set()

    waiting = f"while not os.path.exists({str(go)!r}): time.sleep(0.01)"
    source = any_doing(f"print('early', flush=True)\n    {waiting}\n    return func.HttpResponse('ended')")
    with worker(source, on_line=watch) as app:
        assert app.worker
        thread = threading.Thread(target=lambda: app.invoke_http("GET", "/api/any"))
        thread.start()
        assert early.wait(HANG_S)
        assert thread.is_alive()
        go.touch()
        thread.join()
    assert seen == ["early"]
