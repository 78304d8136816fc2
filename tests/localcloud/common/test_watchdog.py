"""The watchdog: a killed process leaves no children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from localcloud.common import watchdog
from localcloud.common.watchdog import Watchdog
from tests.limits import HANG_S

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
OWNER = """
    import os, subprocess, sys, time
    from localcloud.common.watchdog import WATCHDOG

    child = subprocess.Popen({sleep!r}, start_new_session=True, pass_fds=[{held}])
    os.close({held})
    with WATCHDOG.over(child.pid):
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_child_ends_when_its_owner_is_killed(number: signal.Signals, repository: Path) -> None:
    """A killed process runs no code of its own, and still takes its children with it."""
    end, held = os.pipe()
    with os.fdopen(end, "rb") as alive:
        source = textwrap.dedent(OWNER).format(sleep=SLEEP, held=held)
        with subprocess.Popen(
            [sys.executable, "-c", source], cwd=repository, pass_fds=[held], stdout=subprocess.PIPE, text=True
        ) as owner:
            os.close(held)
            assert owner.stdout is not None
            assert owner.stdout.readline() == "ready\n"
            owner.send_signal(number)
            # Only the child has the other end now: it closes when the child dies.
            assert alive.read() == b""
        assert owner.returncode == -number


def test_released_children_are_left_alone() -> None:
    """Only process groups that are still registered are killed."""
    children = [subprocess.Popen(SLEEP, start_new_session=True) for _ in range(3)]
    kept, ended, gone = children
    try:
        gone.kill()
        gone.wait(HANG_S)
        watchdog.keep([f"+{kept.pid}\n", f"+{ended.pid}\n", f"-{kept.pid}\n", f"+{gone.pid}\n"])
        assert ended.wait(HANG_S) == -signal.SIGKILL
        assert kept.poll() is None
    finally:
        for child in children:
            child.kill()
            child.wait(HANG_S)


def test_closed_watchdog_can_be_used_again() -> None:
    """Closing leaves no process behind, released children live on, and the next child starts a new watchdog."""
    one = Watchdog()
    with subprocess.Popen(SLEEP, start_new_session=True) as child:
        for _ in range(2):
            with one.over(child.pid):
                process = one._process
            assert process is not None
            one.close()
            assert process.returncode == 0
            assert child.poll() is None
        child.kill()
