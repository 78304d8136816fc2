"""Interrupts during the start of a resource: it is always known to the code that ends it."""

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
    """Let SIGINT raise KeyboardInterrupt, whatever the shell that runs the tests has asked for."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def interrupted_start(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Interrupt this process whenever it has just started a child; return the children."""
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
    # More storage accounts than the emulators have that the tests take in turns.
    with LocalAzure(storage_accounts=ACCOUNTS + 1):
        pass


@pytest.mark.parametrize("use", [_lambda, _functions_host, _framework, _azurite])
def test_a_child_whose_start_is_interrupted_is_ended(
    use: Callable[[Path], None], tmp_path: Path, interrupted_start: list[subprocess.Popen[bytes]]
) -> None:
    """The interrupt comes when the child is known to its owner: the owner ends it, with every thread of its own."""
    (tmp_path / "tiny.py").write_text("handler = app = print\n", encoding="utf-8")
    threads = set(threading.enumerate())
    with pytest.raises(KeyboardInterrupt):
        use(tmp_path)
    (child,) = interrupted_start
    assert child.returncode is not None
    assert set(threading.enumerate()) <= threads


def test_an_interrupt_waits_for_the_end_of_the_section() -> None:
    """All of the section is done, then the interrupt is raised where the section ends."""
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


def test_a_fault_in_the_section_is_not_lost() -> None:
    """An error of the section passes; with an interrupt it is the interrupt's context."""

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


def test_other_threads_leave_the_signal_alone() -> None:
    """Only the main thread may set handlers, and only it is interrupted."""
    seen: list[object] = []

    def work() -> None:
        with uninterrupted():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.default_int_handler]


def test_what_follows_a_run_ends_with_an_interrupt_at_its_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread that shows the calls of a demonstration's run has ended after it, however early the interrupt was."""
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
