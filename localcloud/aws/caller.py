"""Who calls, as the operations see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Caller:
    """The account a request's credentials belong to, the region it is signed for, and the principal's ARN."""

    account: str
    region: str
    principal: str


Handler = Callable[[Caller, dict[str, Any]], dict[str, Any]]
