"""Start the installed tool and the AWS CLI as an operator's shell would."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.limits import HANG_S

BIN = Path(sys.executable).parent
TAILPIPE = str(BIN / "tailpipe-exports")
AWS_CLI = str(BIN / "aws")


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return an operator's environment with these variables and no others of a cloud."""
    return {**os.environ, "AWS_PAGER": "", "PYTHONUNBUFFERED": "1", **variables}


def call(command: Sequence[str], variables: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a command to completion and capture its output."""
    return subprocess.run(
        command, env=environment(variables), capture_output=True, text=True, timeout=HANG_S, check=False
    )


class LocalCloud:
    """A running `tailpipe-exports local <cloud>`; `variables` are those that it printed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.variables: dict[str, str] = {}
        self.last_line = ""
        assert process.stdout is not None
        for line in process.stdout:
            self.last_line = line.strip()
            if self.last_line == "ready":
                break
            word, assignment = shlex.split(line)
            assert word == "export"
            name, _, value = assignment.partition("=")
            self.variables[name] = value

    def end(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(HANG_S)


@contextmanager
def local_cloud(name: str, *arguments: str) -> Iterator[LocalCloud]:
    """Run `tailpipe-exports local <name>` while the context is open."""
    process = subprocess.Popen(
        [TAILPIPE, "local", name, *arguments],
        env=environment({}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            yield LocalCloud(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait(HANG_S)


def local_aws(*arguments: str) -> AbstractContextManager[LocalCloud]:
    """Run `tailpipe-exports local aws` while the context is open."""
    return local_cloud("aws", *arguments)
