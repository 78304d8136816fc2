"""Interrupts during the start of a resource: its owner always knows it and can stop it."""

from __future__ import annotations

import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.terminal.console import out
from cli.terminal.progress import Watcher, noting
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.common.foreground import uninterrupted
from localcloud.common.watchdog import WATCHDOG
from localcloud.gcp.runtime.framework import FunctionsFramework
from tests.azurites import ACCOUNTS


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, whatever the shell has set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Interrupt this process after each start of a child; return the children."""
    WATCHDOG.start()
    started: list[subprocess.Popen[bytes]] = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    return started


def _lambda(folder: Path) -> None:
    with LambdaRuntime("tiny.handler", {}, "111122223333", "eu-west-1", task_root=folder) as runtime:
        runtime.invoke({})


def _functions_host(folder: Path) -> None:
    with AzureWorker("tiny", {}, task_root=folder) as worker:
        worker.functions()


def _framework(folder: Path) -> None:
    with FunctionsFramework("tiny:handler", {}, source=folder, grace_s=0.2) as framework:
        framework.invoke()


def _azurite(_folder: Path) -> None:
    # More storage accounts than the shared emulators have.
    with LocalAzure(storage_accounts=ACCOUNTS + 1):
        pass


@pytest.mark.parametrize("use", [_lambda, _functions_host, _framework, _azurite])
def test_child_is_ended_if_its_start_is_interrupted(
    use: Callable[[Path], None], tmp_path: Path, interrupted_start: list[subprocess.Popen[bytes]]
) -> None:
    """The owner knows the child before the interrupt, and ends it with all of its threads."""
    (tmp_path / "tiny.py").write_text("handler = app = print\n", encoding="utf-8")
    threads = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        use(tmp_path)
    (child,) = interrupted_start
    assert child.returncode is not None
    assert set(threading.enumerate()) <= threads


def test_interrupt_is_raised_at_the_end_of_the_section() -> None:
    """The section completes first."""
    done = []

    def interrupted() -> None:
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            done.append("section")
        done.append("what follows")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["section"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_error_in_the_section_is_raised() -> None:
    """With an interrupt, the error is the interrupt's context."""

    def faulty(number: signal.Signals | None) -> None:
        with uninterrupted():
            if number:
                signal.raise_signal(number)
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        faulty(None)
    with pytest.raises(KeyboardInterrupt) as raised:
        faulty(signal.SIGINT)
    assert isinstance(raised.value.__context__, ValueError)


def test_section_in_another_thread_sets_no_handler() -> None:
    """Only the main thread may set signal handlers."""
    handlers: list[object] = []

    def work() -> None:
        with uninterrupted():
            handlers.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert handlers == [signal.default_int_handler]


def test_follower_thread_ends_if_the_run_is_interrupted_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that shows a demonstration's calls ends, however early the interrupt."""
    start = threading.Thread.start
    followers: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        followers.append(thread)
        start(thread)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(threading.Thread, "start", interrupted)
    with pytest.raises(KeyboardInterrupt), Watcher(out(), quiet=True) as watcher, noting(watcher, lambda: "calls"):
        pytest.fail("the run is not begun")
    (follower,) = followers
    assert not follower.is_alive()
