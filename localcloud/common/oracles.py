"""Counts how often a request or an answer was held against a description that its vendor wrote.

With ORACLE_COUNTS, a folder, each process writes its counts there when it ends; `make oracles` adds them up.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

FOLDER = "ORACLE_COUNTS"
P = ParamSpec("P")
R = TypeVar("R")

_counts: Counter[tuple[str, str]] = Counter()
_lock = threading.Lock()


def oracle(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Count the calls of a check under the name of its oracle: those that held, and those that it refused."""

    def decorate(check: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(check)
        def counted(*arguments: P.args, **options: P.kwargs) -> R:
            verdict = "refused"
            try:
                found = check(*arguments, **options)
                verdict = "held"
            finally:
                with _lock:
                    _counts[name, verdict] += 1
            return found

        return counted

    return decorate


def write_counts() -> None:
    """Write this process's counts as {oracle: {verdict: number}}, if the environment names a folder for them."""
    folder = os.environ.get(FOLDER)
    if folder and _counts:
        found: dict[str, dict[str, int]] = {}
        for (name, verdict), number in _counts.items():
            found.setdefault(name, {})[verdict] = number
        Path(folder, f"{os.getpid()}.json").write_text(json.dumps(found), encoding="utf-8")


atexit.register(write_counts)
