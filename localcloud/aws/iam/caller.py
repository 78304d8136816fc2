"""The caller of an operation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Identity:
    """The identity of a request's credentials.

    `principal` is the ARN of the user or of the role, or a service's name; `session` is moto's record of an assumed
    role, None for other callers.
    """

    account: str
    principal: str
    session: Any = None

    @property
    def arn(self) -> str:
        """The caller's ARN as in IAM messages: for a role, the ARN of its session."""
        return str(self.session.arn) if self.session is not None else self.principal


@dataclass(frozen=True)
class Caller:
    """The account of a request's credentials, the region it is signed for, and the principal's ARN.

    `key` is the access key, with which a service makes calls on behalf of the caller.
    """

    account: str
    region: str
    principal: str
    key: str = ""


Handler = Callable[[Caller, dict[str, Any]], dict[str, Any]]
