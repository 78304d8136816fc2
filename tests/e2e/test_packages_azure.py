"""The Azure package: run it in the platform's worker runtime, and compare it with the one for Flex Consumption."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from zipfile import ZipFile

import pytest

from cli.packaging import Package, Target, build
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.runtime.worker import AzureWorker
from tests.e2e.unpacked import Unpacked, imported_from_elsewhere, machine, native, pure, unpack

LIBRARIES = ".python_packages/lib/site-packages"
# The lock pins another version of this package for Python 3.13 and newer; Flex Consumption runs 3.12.
NEWER = (f"{LIBRARIES}/azure/functions/", f"{LIBRARIES}/azure_functions-") if sys.version_info >= (3, 13) else ()
# Included in the worker's image.
RUNTIME = ("grpcio", "protobuf")
NATIVE = {
    "_cffi_backend",
    # The SDK of Durable Functions calls the host with aiohttp.
    "aiohttp/_http_parser",
    "aiohttp/_http_writer",
    "aiohttp/_websocket/mask",
    "aiohttp/_websocket/reader_c",
    "frozenlist/_frozenlist",
    "multidict/_multidict",
    "multidict/_testcapi",
    "propcache/_helpers_c",
    "yarl/_quoting_c",
    "charset_normalizer/cd",
    "charset_normalizer/md",
    "cryptography/hazmat/bindings/_rust",
    "markupsafe/_speedups",
    "msgspec/_core",
}


@pytest.fixture(scope="module")
def host_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for this interpreter."""
    return build("azure", tmp_path_factory.mktemp("host"), Target.host())


@pytest.fixture(scope="module")
def target_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for Flex Consumption."""
    return build("azure", tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def unpacked(host_package: Package, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """Return the unpacked package for this interpreter, with only the worker's own imports installed."""
    return unpack(host_package.path, tmp_path_factory.mktemp("unpacked"), folders=("", LIBRARIES), platform=RUNTIME)


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a tenant of three subscriptions."""
    with LocalAzure(subscriptions=3, limits=UNLIMITED) as cloud:
        yield cloud


@pytest.mark.slow
def test_package_contains_everything_that_the_app_imports(unpacked: Unpacked) -> None:
    """All imports, including the deferred ones, are found in the package or the standard library."""
    later = (
        "azure.durable_functions",
        "azure.identity",
        "azure.mgmt.billing",
        "azure.mgmt.managementgroups",
        "azure.mgmt.resource.resources",
    )
    assert imported_from_elsewhere(unpacked, "function_app", *later) == []


@pytest.mark.slow  # test_azure_runtime.py runs the checkout in this runtime on each change
def test_package_covers_a_tenant(azure: LocalAzure, unpacked: Unpacked) -> None:
    """In the worker runtime, the package's function_app.py serves the timer, which creates all exports, and HTTP."""
    environment = {**azure.environment(), "PYTHONPATH": unpacked.pythonpath}
    with AzureWorker("function_app", environment, task_root=unpacked.root, python=unpacked.python) as worker:
        assert worker.worker.startswith("azure-functions-runtime ")
        assert worker.functions().keys() == {"reconcile_timer", "reconcile_http", "changes_timer", "status"}
        timer_run = worker.invoke_timer("reconcile_timer")
        assert timer_run.error is None
        assert len(azure.exports()) == 3
        report = worker.invoke_http("POST", "/api/reconcile").json()
    assert (report["status"], report["scopes"]["covered"]) == ("ok", 3)
    assert report["outcomes"].keys() == {"KEEP"}


@pytest.mark.slow
def test_package_for_azure_differs_in_native_modules_only(host_package: Package, target_package: Package) -> None:
    """All other files are identical. The native modules are for Python 3.12 on x86-64."""
    ours, theirs = (
        {name: content for name, content in pure(one.path).items() if not name.startswith(NEWER)}
        for one in (host_package, target_package)
    )
    assert ours == theirs
    modules = native(target_package.path, f"{LIBRARIES}/")
    assert native(host_package.path, f"{LIBRARIES}/").keys() == modules.keys() == NATIVE
    assert {machine(module) for module in modules.values()} == {"x86_64"}
    tags = {name.partition("/_core.")[2] for name in target_package.files if "msgspec/_core." in name}
    assert tags == {"cpython-312-x86_64-linux-gnu.so"}


def test_package_root_contains_only_what_the_host_requires(target_package: Package, repository: Path) -> None:
    """The root has the host's configuration, the two-line app, our packages and the libraries."""
    top = {name.partition("/")[0] for name in target_package.files}
    ours = {"azure_function", "shared"}
    assert f"{LIBRARIES}/certifi/cacert.pem" in target_package.files  # which no call to a local cloud would need
    assert top - ours == {".python_packages", "LICENSE", "function_app.py", "host.json", "requirements.txt"}
    with ZipFile(target_package.path) as zipped:
        host = json.loads(zipped.read("host.json"))
        assert host == json.loads((repository / "azure_function" / "host.json").read_text())
        assert len(zipped.read("function_app.py").decode().split("\n\n")) == 2
