"""The GCP package: install it as the platform's builder does, serve it, and check its content."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cli.packaging import Package, Target, build
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework
from tests.e2e.unpacked import Unpacked, imported_from_elsewhere, pure, unpack

ENTRY = "main:reconcile"


@pytest.fixture(scope="module")
def host_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for this interpreter."""
    return build("gcp", tmp_path_factory.mktemp("host"), Target.host())


@pytest.fixture(scope="module")
def target_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for Cloud Run."""
    return build("gcp", tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def unpacked(host_package: Package, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """Return the unpacked package, with only the requirements of its own requirements.txt installed."""
    found = unpack(host_package.path, tmp_path_factory.mktemp("unpacked"))
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", found.python, "install", "-q", "--no-input", "--no-compile"),
            # As in the builder, pip resolves dependencies: a missing pin is an error in hash-checking mode.
            *("--upgrade", "--upgrade-strategy", "only-if-needed", "--requirement", found.root / "requirements.txt"),
        ],
        check=True,
        capture_output=True,
    )
    (libraries,) = found.python.parent.parent.glob("lib/python*/site-packages")
    return replace(found, path=(*found.path, libraries))


@pytest.fixture(scope="module")
def gcp() -> Iterator[LocalGcp]:
    """Return a project with three billing accounts; two have completed the console step."""
    with LocalGcp(accounts=3, history_days=2, rows=4) as cloud:
        yield cloud


@pytest.mark.slow
def test_requirements_contain_everything_that_the_function_imports(unpacked: Unpacked) -> None:
    """All imports are found in the package, its requirements or the standard library, including deferred imports."""
    later = ("google.cloud.bigquery", "google.cloud.storage", "google.auth.transport.requests")
    assert imported_from_elsewhere(unpacked, "main", *later) == []


def test_package_copies_every_partition(gcp: LocalGcp, unpacked: Unpacked) -> None:
    """functions-framework serves the package's main.py, and one call copies all partitions."""
    with FunctionsFramework(
        ENTRY, gcp.environment(), source=unpacked.root, python=unpacked.python, grace_s=1
    ) as function:
        done = function.invoke(headers={"User-Agent": "Google-Cloud-Scheduler"})
    assert isinstance(done.payload, dict), done
    assert (done.status, done.payload["status"]) == (200, "ok")
    assert sum(name.endswith("/manifest.json") for name in gcp.copies()) == 8


def test_package_contains_source_and_hashed_requirements_only(host_package: Package, target_package: Package) -> None:
    """It is the same on every machine, contains no library, and pins each requirement by version and hash."""
    assert host_package.sha256 == target_package.sha256
    top = {name.partition("/")[0] for name in target_package.files}
    assert top == {"LICENSE", "gcp_function", "main.py", "requirements.txt", "shared"}
    assert {Path(name).suffix for name in target_package.files} == {".py", ".txt", ""}
    requirements = pure(target_package.path)["requirements.txt"].decode()
    pins = [line for line in requirements.splitlines() if not line.startswith(" ")]
    assert {"functions-framework", "google-cloud-bigquery"} <= {pin.partition("==")[0] for pin in pins}
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert requirements.count("--hash=sha256:") >= len(pins)
    assert "index" not in requirements
