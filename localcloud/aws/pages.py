"""Pagination and its tokens."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import TypeVar

from localcloud.aws.errors import invalid

T = TypeVar("T")


def page(
    service: str, items: Sequence[T], token: str | None, requested: int | None, maximum: int
) -> tuple[list[T], str | None]:
    """Return a page of at most `maximum` items and the token of the next page, None on the last page.

    Raises AwsError with the service's validation code for an invalid token.
    """
    start = read_token(service, token)
    size = min(requested or maximum, maximum)
    end = start + size
    return list(items[start:end]), (make_token(end) if end < len(items) else None)


def make_token(*numbers: int) -> str:
    """Return an opaque token that encodes numbers."""
    return base64.urlsafe_b64encode(":".join(map(str, numbers)).encode()).decode()


def read_token(service: str, token: str | None) -> int:
    """Return the first number in a token, or 0 without a token."""
    return read_tokens(service, token, 1)[0]


def read_tokens(service: str, token: str | None, count: int) -> list[int]:
    """Return all numbers in a token, or zeros without a token."""
    if not token:
        return [0] * count
    try:
        numbers = [int(part) for part in base64.urlsafe_b64decode(token.encode()).decode().split(":")]
    except (ValueError, binascii.Error, UnicodeDecodeError) as error:
        raise invalid(service, "The pagination token is invalid.") from error
    if len(numbers) != count or min(numbers) < 0:
        raise invalid(service, "The pagination token is invalid.")
    return numbers
