"""Import contracts: the engine imports no cloud, and the checker detects violations."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.limits import HANG_S

PACKAGES = ("shared", "aws_lambda", "azure_function", "gcp_function", "localcloud", "cli", "tailpipe_exports")
CLOUD_FOLDERS = ("aws_lambda", "azure_function", "gcp_function")
# These modules have the same name in all three clouds because they implement the same port.
CORE_MODULES = (
    "handler", "settings", "clients", "errors", "scopes", "targets", "provider", "state_store", "manual_steps",
)  # fmt: skip
LINTER = Path(sys.executable).with_name("lint-imports")


def lint(root: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of the tree below `root` only."""
    environment = {"PATH": os.environ["PATH"], "COLUMNS": "200", "HOME": os.environ["HOME"]}
    return subprocess.run(
        [str(LINTER), "--no-cache"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANG_S,
    )


@pytest.fixture
def copy(repository: Path, tmp_path: Path) -> Path:
    """Return a copy of the packages and their contracts that a test may modify."""
    shutil.copy(repository / "pyproject.toml", tmp_path)
    for package in PACKAGES:
        if (repository / package).is_dir():
            shutil.copytree(repository / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_project_keeps_its_import_contracts(repository: Path) -> None:
    """No package of this project imports what its contract forbids."""
    result = lint(repository)
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("folder", "offence"),
    [
        pytest.param("shared", "boto3", id="engine imports an AWS SDK"),
        pytest.param("shared", "azure.identity", id="engine imports an Azure SDK"),
        pytest.param("shared", "google.cloud.storage", id="engine imports a Google SDK"),
        pytest.param("shared", "aws_lambda", id="engine imports a cloud folder"),
        pytest.param("shared", "gcp_function", id="engine imports a cloud folder that may not exist yet"),
        pytest.param("aws_lambda", "localcloud", id="function imports the local cloud"),
        pytest.param("aws_lambda", "azure_function.handler", id="cloud folder imports another"),
        pytest.param("aws_lambda", "tests.conftest", id="function imports the tests"),
        pytest.param("localcloud", "aws_lambda", id="local cloud imports a function"),
    ],
)
def test_forbidden_import_is_reported_with_both_modules(copy: Path, folder: str, offence: str) -> None:
    """The check fails and names the importing and the imported module."""
    (copy / folder / "offender.py").write_text(f"import {offence}\n", encoding="utf-8")
    result = lint(copy)
    assert result.returncode != 0
    assert f"{folder}.offender -> {offence.partition('.')[0]}" in " ".join(result.stdout.split())


@pytest.mark.parametrize("folder", CLOUD_FOLDERS)
def test_every_cloud_folder_has_the_core_modules(repository: Path, folder: str) -> None:
    """Each cloud's function has the same ports in the same files."""
    assert [name for name in CORE_MODULES if not (repository / folder / f"{name}.py").is_file()] == []


def test_every_cloud_folder_has_an_import_contract(repository: Path) -> None:
    """A new cloud needs a contract of its own in pyproject.toml."""
    settings = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    held = {source for contract in settings["contracts"] for source in contract.get("source_modules", ())}
    handlers = {path.parent.name for path in repository.glob("*/handler.py")}
    assert handlers == set(CLOUD_FOLDERS)
    assert handlers - held == set()
