"""The local Functions host, with small apps written for each test, in Azure's worker runtime."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from localcloud.azure.runtime.worker import AzureWorker
from tests.limits import HANG_S, SHORT_S

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
    """Return a factory of workers for an app's source."""

    def make(source: str, env: dict[str, str] | None = None, **options: object) -> AzureWorker:
        (tmp_path / "tiny.py").write_text(HEAD + source, encoding="utf-8")
        return AzureWorker("tiny", env or {}, task_root=tmp_path, **options)  # type: ignore[arg-type]  # the test passes the options

    return make


def any_doing(body: str) -> str:
    """Return the source of a function without a key whose body is `body`."""
    return ANY.format(body=body)


def test_azures_runtime_runs_the_functions(worker: Make) -> None:
    """The installed runtime indexes and invokes them, and reports its version."""
    with worker(TICK + ECHO) as app:
        assert app.worker.startswith("azure-functions-runtime ")
        assert set(app.functions()) == {"tick", "echo"}


@pytest.mark.parametrize("runtime", [None, Path("/nowhere")], ids=["runtime", "library"])
def test_http_request_and_response_pass_unchanged(worker: Make, runtime: Path | None) -> None:
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
def test_timer_invokes_its_function_and_has_its_log_lines(worker: Make, runtime: Path | None) -> None:
    """The lines include logging and standard output, but not the worker's."""
    options = {} if runtime is None else {"runtime": runtime}
    with worker(TICK + ECHO, SCHEDULE, **options) as app:
        first, second = app.invoke_timer(), app.invoke_timer("tick", past_due=True)
    assert (first.error, second.error) == (None, None)
    assert (first.logs, second.logs) == (("late False", "printed"), ("late True", "printed"))
    assert first.peak_mb is None or first.peak_mb > 5


def test_library_is_reported_as_the_fallback_runtime(worker: Make) -> None:
    """It is used without Azure's runtime."""
    with worker(TICK, runtime=Path("/nowhere")) as app:
        assert app.worker.startswith("azure-functions ")
        assert "not the worker runtime" in app.worker


def test_host_requires_key_route_and_method(worker: Make) -> None:
    """A wrong key is 401, an unknown route or method 404, and an anonymous function needs no key."""
    with worker(ECHO + any_doing("return func.HttpResponse('hello')")) as app:
        assert app.invoke_http("POST", "/api/say/echo", key="guessed").status == 401
        assert app.invoke_http("POST", "/api/say/echo", key="").status == 401
        assert app.invoke_http("GET", "/api/say/echo").status == 404
        assert app.invoke_http("POST", "/api/nothing").status == 404
        assert app.invoke_http("GET", "/api/any", key="").body == b"hello"


def test_environment_has_only_the_platforms_and_the_given_variables(
    worker: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The functions get no variable of the calling process."""
    monkeypatch.setenv("LEAKED", "yes")
    source = any_doing("return func.HttpResponse(json.dumps(dict(os.environ)))")
    with worker(source, {"EXPORTS": "focus"}) as app:
        variables = app.invoke_http("GET", "/api/any").json()
    assert "LEAKED" not in variables
    assert (variables["EXPORTS"], variables["FUNCTIONS_WORKER_RUNTIME"]) == ("focus", "python")
    assert variables["HOME"] != os.environ["HOME"]


def test_runtime_packages_do_not_shadow_the_apps(worker: Make, tmp_path: Path) -> None:
    """Azure's runtime contains a package `tests`; the app's package of that name is imported."""
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "__init__.py").write_text("WHOSE = 'ours'\n", encoding="utf-8")
    with worker(any_doing("import tests; return func.HttpResponse(tests.WHOSE)")) as app:
        assert app.invoke_http("GET", "/api/any").body == b"ours"


def test_function_that_raises_is_an_error_and_500(worker: Make) -> None:
    """The error has type, message and stack trace, and the process stays for the next invocation."""
    source = any_doing("raise RuntimeError('subscription 42')") + ECHO
    with worker(source) as app:
        failed, after = app.invoke_http("GET", "/api/any"), app.invoke_http("POST", "/api/say/echo", "on")
    assert failed.status == 500
    assert failed.error is not None
    assert "subscription 42" in failed.error["errorMessage"]
    assert "RuntimeError" in failed.error["errorMessage"] + failed.error["stackTrace"]
    assert after.json()["body"] == "on"


def test_app_that_cannot_be_indexed_is_an_error_and_is_retried(worker: Make, tmp_path: Path) -> None:
    """The error at import is returned, and the next call starts a new process."""
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


def test_function_past_its_timeout_is_ended(worker: Make) -> None:
    """The process is ended, and the next invocation gets a new one."""
    source = any_doing("time.sleep(60 if req.params.get('x') else 0); return func.HttpResponse(str(os.getpid()))")
    with worker(source, timeout_s=SHORT_S) as app:
        before = int(app.invoke_http("GET", "/api/any").body)
        late = app.invoke_http("GET", "/api/any?x=1")
        after = int(app.invoke_http("GET", "/api/any").body)
        with pytest.raises(ProcessLookupError):
            os.kill(before, 0)
    assert late.status == 500
    assert late.error is not None
    assert "Timeout" in late.error["errorMessage"]
    assert before != after


def test_response_past_the_load_balancers_timeout_is_502(worker: Make) -> None:
    """The function itself continues."""
    source = any_doing("time.sleep(float(req.params.get('x') or 0)); return func.HttpResponse(str(os.getpid()))")
    with worker(source, http_limit_s=SHORT_S) as app:
        before = app.invoke_http("GET", "/api/any").body
        assert app.invoke_http("GET", "/api/any?x=60").status == 502
        assert app.invoke_http("GET", "/api/any").body == before


def test_crash_is_an_error_with_the_last_log_lines(worker: Make) -> None:
    """The call does not hang, and the next invocation gets a new process."""
    source = any_doing("print('last words', flush=True); os._exit(7)") + TICK
    with worker(source, SCHEDULE) as app:
        crashed, after = app.invoke_http("GET", "/api/any"), app.invoke_timer()
    assert crashed.status == 500
    assert crashed.error is not None
    assert "code 7" in crashed.error["errorMessage"]
    assert "last words" in crashed.error["lastLogLines"]
    assert after.error is None


def test_invocations_run_concurrently_in_one_process(worker: Make, tmp_path: Path) -> None:
    """A second one is served while the first waits for it."""
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


def test_process_ends_with_the_context(worker: Make) -> None:
    """Killing the process before is not an error."""
    with worker(any_doing("return func.HttpResponse(str(os.getpid()))")) as app:
        pid = int(app.invoke_http("GET", "/api/any").body)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_log_lines_are_passed_on_during_the_invocation(worker: Make, tmp_path: Path) -> None:
    """A callback receives each line immediately."""
    lines: list[str] = []
    go, early = tmp_path / "go", threading.Event()

    def watch(line: str) -> None:
        lines.append(line)
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
    assert lines == ["early"]
