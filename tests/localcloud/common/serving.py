"""A local cloud in a separate process, for the tests of `serve`."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.limits import HANG_S

ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def serving(cloud: str, first: str = "pass") -> Iterator[tuple[subprocess.Popen[str], dict[str, str]]]:
    """Serve a cloud such as `aws.cloud.LocalAws(accounts=3)`; yield its process and its printed variables.

    `first` is a statement that imports what its arguments need.
    """
    module, _, made = cloud.rpartition(".")
    name = made.partition("(")[0]
    code = (
        f"{first}; from localcloud.{module} import {name}; "
        f"from localcloud.common.local_cloud import serve; exit(serve({made}))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        variables: dict[str, str] = {}
        assert process.stdout is not None
        for line in process.stdout:
            if line == "ready\n":
                break
            name, _, value = line.removeprefix("export ").partition("=")
            variables[name] = shlex.split(value)[0]
        yield process, variables
    finally:
        if process.poll() is None:
            process.terminate()
        process.communicate(timeout=HANG_S)
