"""Answers that are replaced on their way, as a broken proxy, gateway or disk does; the calls themselves take effect."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

Change = Callable[[bytes], bytes]


@dataclass
class Spoiled:
    """One order: the calls whose name fits `pattern` are answered with a changed body; `left` None is for ever."""

    pattern: str
    change: Change
    left: int | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    hits: int = 0


class SpoiledAnswers:
    """A mixin of the local clouds' faults. Patterns take `*`; each cloud says how it names its calls."""

    def __init__(self) -> None:
        self._spoiled: list[Spoiled] = []
        self._spoiling = threading.Lock()

    def spoil(
        self,
        pattern: str,
        body: bytes | Change,
        *,
        times: int | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Spoiled:
        """Answer matching calls with another body (bytes, or what a function makes of the true one).

        `status` and `headers` replace the true ones. Returns the order, which counts its hits.
        """
        change: Change = body if callable(body) else lambda _true: body
        order = Spoiled(pattern, change, times, status, headers or {})
        with self._spoiling:
            self._spoiled.append(order)
        return order

    def restore(self) -> None:
        """Answer truly again."""
        with self._spoiling:
            self._spoiled.clear()

    def spoils(self, name: str) -> Spoiled | None:
        """Return the order that the answer to a call falls under, counted; None if it is to be true."""
        if not self._spoiled:
            return None
        with self._spoiling:
            for order in self._spoiled:
                if order.left != 0 and fnmatchcase(name, order.pattern):
                    order.hits += 1
                    if order.left is not None:
                        order.left -= 1
                    return order
        return None
