"""Fixtures of the tests of deploy and destroy: the Terraform double, a package, a terminal, a state."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.support.terraform_double import TerraformDouble

# The relevant part of Terraform's state after a deployment to AWS.
HELD = [
    "aws_cloudformation_stack_set.members[0]",
    "aws_iam_role.connector[0]",
    "aws_iam_role.function",
    "aws_iam_role_policies_exclusive.connector[0]",
    "aws_iam_role_policy.connector[0]",
    "aws_lambda_function.this",
    "aws_s3_bucket.exports",
    "aws_s3_bucket_policy.exports",
    "aws_scheduler_schedule.this",
]

DATA = {"aws_s3_bucket.exports", "aws_s3_bucket_policy.exports"}
IDENTITY = {one for one in HELD if "connector" in one or "stack_set" in one}


@pytest.fixture
def terraform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TerraformDouble:
    """Put the double on the PATH, and hide this machine's plugin cache."""
    double = TerraformDouble(tmp_path / "bin")
    monkeypatch.setenv("PATH", double.path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return double


@pytest.fixture
def package(tmp_path: Path) -> str:
    """Return a file that replaces the function's package, which has separate tests."""
    path = tmp_path / "given.zip"
    path.write_bytes(b"PK")
    return f"package={path}"


class Terminal(io.StringIO):
    """A terminal with prepared input."""

    def isatty(self) -> bool:
        return True


Typing = Callable[[str], Terminal]


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Typing:
    """Return a function that prepares a terminal with one line of input."""

    def type_(line: str) -> Terminal:
        screen = Terminal()
        monkeypatch.setattr("sys.stdin", Terminal(f"{line}\n"))
        monkeypatch.setattr("sys.stderr", screen)
        return screen

    return type_
