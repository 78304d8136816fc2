"""The AWS package: run it in Lambda's own runtime client, and compare it with the one for Lambda."""

from __future__ import annotations

import contextlib
from zipfile import ZipFile

import pytest

from aws_lambda.clients import RATES
from cli.packaging import TARGETS, Package, Target, build
from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from tests.e2e.unpacked import Unpacked, imported_from_elsewhere, machine, native, pure, unpack

HANDLER = "aws_lambda.handler.handler"
RESERVED = ("AWS_REGION", "AWS_DEFAULT_REGION")
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")  # included in Lambda's image
LIMIT = 50 * 1024 * 1024  # bytes; the maximum for a direct upload ("Lambda quotas")


@pytest.fixture(scope="module")
def host_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for this interpreter."""
    return build("aws", tmp_path_factory.mktemp("host"), Target.host())


@pytest.fixture(scope="module")
def target_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for Lambda."""
    return build("aws", tmp_path_factory.mktemp("target"))


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the package for Lambda, built in another working directory."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        return build("aws", tmp_path_factory.mktemp("rebuilt"), TARGETS["aws"])


@pytest.fixture(scope="module")
def unpacked(host_package: Package, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """Return the unpacked package for this interpreter, with only Lambda's runtime client installed."""
    return unpack(host_package.path, tmp_path_factory.mktemp("unpacked"), platform=RUNTIME)


def test_package_contains_everything_that_the_handler_imports(unpacked: Unpacked) -> None:
    """All imports, including the SDK, are found in the package or the standard library."""
    assert imported_from_elsewhere(unpacked, "aws_lambda.handler") == []


def test_package_covers_an_organization(unpacked: Unpacked) -> None:
    """In Lambda's runtime client, the package onboards every account, and its second run changes nothing."""
    with LocalAws(accounts=4) as aws:
        environment = {name: value for name, value in aws.environment().items() if name not in RESERVED}
        environment["PYTHONPATH"] = unpacked.pythonpath
        with LambdaRuntime(
            HANDLER, environment, aws.account, aws.region, task_root=unpacked.root, python=unpacked.python
        ) as function:
            first, second = function.invoke({}), function.invoke({})
        assert len(aws.client("bcm-data-exports").list_exports()["Exports"]) == 1
    assert (first.error, second.error) == (None, None)
    assert isinstance(first.payload, dict)
    assert isinstance(second.payload, dict)
    scopes = first.payload["scopes"]
    assert (first.payload["status"], scopes["covered"] + scopes["pending"]) == ("ok", 4)
    assert second.payload["outcomes"].keys() == {"KEEP"}


def test_package_contains_only_the_service_models_it_uses(host_package: Package) -> None:
    """Botocore's data has models only of the services that the function calls, and of Lambda for the collector."""
    places = [name.split("/") for name in host_package.files if name.startswith("botocore/data/")]
    assert {parts[2] for parts in places if len(parts) > 3} == {*RATES, "lambda"}
    assert "botocore/cacert.pem" in host_package.files  # which no call to a local cloud would need
    assert {"endpoints.json", "partitions.json"} <= {parts[2] for parts in places if len(parts) == 3}


def test_package_for_lambda_differs_in_one_native_module(host_package: Package, target_package: Package) -> None:
    """All other files are identical. The native module is for Python 3.13 on Graviton."""
    assert pure(host_package.path) == pure(target_package.path)
    assert native(host_package.path).keys() == native(target_package.path).keys() == {"msgspec/_core"}
    assert machine(native(target_package.path)["msgspec/_core"]) == "aarch64"
    assert "msgspec/_core.cpython-313-aarch64-linux-gnu.so" in target_package.files
    assert target_package.path.stat().st_size < LIMIT


def test_every_distribution_includes_its_license(target_package: Package) -> None:
    """Each distribution has its metadata and its license text."""
    distributions = {name.partition("/")[0] for name in target_package.files if ".dist-info/" in name}
    assert distributions
    for one in distributions:
        inside = {name.removeprefix(f"{one}/") for name in target_package.files if name.startswith(f"{one}/")}
        assert "METADATA" in inside
        assert any("licen" in name.lower() for name in inside), one
    assert "LICENSE" in target_package.files


@pytest.mark.slow
def test_build_is_reproducible(target_package: Package, rebuilt: Package) -> None:
    """A build in another directory, into another directory, has the same hash."""
    assert rebuilt.path != target_package.path
    assert rebuilt.path.read_bytes() == target_package.path.read_bytes()
    assert (rebuilt.sha256, rebuilt.files) == (target_package.sha256, target_package.files)
    with ZipFile(rebuilt.path) as zipped:
        assert zipped.testzip() is None
