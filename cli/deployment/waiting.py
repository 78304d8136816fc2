"""The reasons why a command waits for a deployed function."""

from __future__ import annotations


def subject(reason: str) -> str:
    """Return a reason for waiting without the expiry of the lock: a run in progress renews it with every save."""
    return reason.partition("; it expires at")[0]
