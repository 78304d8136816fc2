"""Everything that can be made to go wrong: errors on demand, and latency."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from localcloud.azure.errors import ArmError
from localcloud.common.corrupted_answers import SpoiledAnswers


class Attempt(NamedTuple):
    """A request as a fault sees it; `resource` is the path without query, header names are lower-case."""

    app: str
    method: str
    action: str
    resource: str
    headers: Mapping[str, str]
    at: float


@dataclass
class Fault:
    """An error to answer with; `left` counts down, None is for ever. `after`: the write happens, its answer is lost."""

    action: str
    resource: str
    error: ArmError
    left: int | None
    when: Callable[[Attempt], bool] | None
    after: bool

    def hits(self, attempt: Attempt) -> bool:
        return (
            self.left != 0
            and fnmatchcase(attempt.action.lower(), self.action.lower())
            and fnmatchcase(attempt.resource.lower(), self.resource.lower())
            and (self.when is None or self.when(attempt))
        )


class Faults(SpoiledAnswers):
    """Faults in the order they were added; the first that hits answers. Patterns take `*`, case does not matter."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._faults: list[Fault] = []
        self._latency: list[tuple[str, float]] = []

    def add(
        self,
        action: str,
        code: str,
        message: str = "injected by the local cloud",
        *,
        status: int = 500,
        times: int | None = 1,
        resource: str = "*",
        headers: Mapping[str, str] | None = None,
        when: Callable[[Attempt], bool] | None = None,
        after: bool = False,
    ) -> Fault:
        """Answer the next `times` matching calls (None: all) with the error; they have no effect, unless `after`."""
        fault = Fault(action, resource, ArmError(status, code, message, headers), times, when, after)
        with self._lock:
            self._faults.append(fault)
        return fault

    def latency(self, seconds: float, action: str = "*") -> None:
        """Let `seconds` pass on the local clock before each matching call is answered."""
        with self._lock:
            self._latency.append((action.lower(), seconds))

    def clear(self) -> None:
        self.restore()
        with self._lock:
            self._faults.clear()
            self._latency.clear()

    def delay(self, action: str) -> float:
        if not self._latency:
            return 0.0
        with self._lock:
            return sum(seconds for pattern, seconds in self._latency if fnmatchcase(action.lower(), pattern))

    def meet(self, attempt: Attempt, after: bool = False) -> None:
        """Raises the ArmError that was ordered for this request, if any."""
        if not self._faults:
            return
        with self._lock:
            for fault in self._faults:
                if fault.after == after and fault.hits(attempt):
                    if fault.left is not None:
                        fault.left -= 1
                    raise fault.error
