"""The command line: usage errors, interrupts, and imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from tests.limits import HANG_S


def test_version_is_that_of_the_project(repository: Path) -> None:
    """--version prints the installed version."""
    result = CliRunner().invoke(main, ["--version"])
    assert result.exit_code == 0
    assert f'version = "{result.stdout.split()[1]}"' in (repository / "pyproject.toml").read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["plan", "azur"], ["run", "azur"], ["demo", "azur"], ["local", "azur"]])
def test_unknown_cloud_is_refused_with_the_known_ones(arguments: list[str]) -> None:
    """The exit code is not that of a plan with writes."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "no cloud is called 'azur'; this version knows: aws" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("arguments", [["plan"], ["plan", "aws", "--jsno"], ["demo", "--scopes", "1"], ["nothing"]])
def test_usage_error_exits_with_1(arguments: list[str]) -> None:
    """A misspelled command must not look like a plan with writes."""
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1
    assert "Usage:" in result.stderr


def test_help_imports_no_cloud_and_no_sdk() -> None:
    """The command line imports neither an SDK nor a function nor a local cloud."""
    source = (
        "import sys, cli.main\n"
        "slow = {'boto3', 'botocore', 'moto', 'google.auth', 'duckdb', 'rich', 'msgspec'}\n"
        "slow |= {'functions_framework', 'aws_lambda', 'gcp_function', 'localcloud', 'shared'}\n"
        "print(sorted(slow & sys.modules.keys()))\n"
    )
    answer = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=HANG_S)
    assert answer.stdout.strip() == "[]"


def test_sdk_logs_and_warnings_are_not_printed() -> None:
    """This covers azure-identity's list of credentials and google-auth's warnings."""
    source = (
        "import logging, warnings\n"
        "from cli.main import main\n"
        "main(['completion', 'bash'], standalone_mode=False)\n"
        "logging.getLogger('azure.identity').warning('Attempted credentials')\n"
        "logging.getLogger('google.auth').error('noise')\n"
        "warnings.warn('Your application has authenticated using end user credentials', stacklevel=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", source], check=True, capture_output=True, text=True, timeout=HANG_S)
    assert done.stderr == ""
