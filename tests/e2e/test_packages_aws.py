"""AWS's archive: run as it is in Lambda's own runtime client, and the one for Lambda compared with it."""

from __future__ import annotations

import contextlib
from zipfile import ZipFile

import pytest

from aws_lambda.clients import RATES
from cli.packaging import TARGETS, Package, Target, build
from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from tests.e2e.unpacked import Unpacked, from_elsewhere, machine, native, pure, unpack

HANDLER = "aws_lambda.handler.handler"
RESERVED = ("AWS_REGION", "AWS_DEFAULT_REGION")
RUNTIME = ("awslambdaric", "simplejson", "snapshot-restore-py")  # what Lambda's image has of it
LIMIT = 50 * 1024 * 1024  # bytes; what can be uploaded directly ("Lambda quotas")


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the archive for this interpreter."""
    return build("aws", tmp_path_factory.mktemp("here"), Target.host())


@pytest.fixture(scope="module")
def there(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the archive for Lambda."""
    return build("aws", tmp_path_factory.mktemp("there"))


@pytest.fixture(scope="module")
def again(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """Return the archive for Lambda, built from another working folder."""
    with contextlib.chdir(tmp_path_factory.mktemp("elsewhere")):
        return build("aws", tmp_path_factory.mktemp("again"), TARGETS["aws"])


@pytest.fixture(scope="module")
def unpacked(here: Package, tmp_path_factory: pytest.TempPathFactory) -> Unpacked:
    """Return the archive for this interpreter, unpacked beside nothing but Lambda's runtime client."""
    return unpack(here.path, tmp_path_factory.mktemp("unpacked"), platform=RUNTIME)


def test_nothing_is_imported_from_outside_the_archive(unpacked: Unpacked) -> None:
    """The handler finds all it imports in the archive and the standard library, the SDK too."""
    assert from_elsewhere(unpacked, "aws_lambda.handler") == []


def test_the_unpacked_archive_covers_an_organization(unpacked: Unpacked) -> None:
    """Under Lambda's runtime client the archive alone onboards every account, then finds nothing left to do."""
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


def test_only_the_functions_services_are_described(here: Package) -> None:
    """Of the SDK's descriptions of services there are those of the clients that the function makes."""
    places = [name.split("/") for name in here.files if name.startswith("botocore/data/")]
    assert {parts[2] for parts in places if len(parts) > 3} == set(RATES)
    assert "botocore/cacert.pem" in here.files  # which a cloud on loopback would not miss
    assert {"endpoints.json", "partitions.json"} <= {parts[2] for parts in places if len(parts) == 3}


def test_the_archive_for_lambda_differs_in_one_native_module(here: Package, there: Package) -> None:
    """Every other file has the same bytes; the native module is one for Python 3.13 on Graviton."""
    assert pure(here.path) == pure(there.path)
    assert native(here.path).keys() == native(there.path).keys() == {"msgspec/_core"}
    assert machine(native(there.path)["msgspec/_core"]) == "aarch64"
    assert "msgspec/_core.cpython-313-aarch64-linux-gnu.so" in there.files
    assert there.path.stat().st_size < LIMIT


def test_every_distribution_brings_its_licence(there: Package) -> None:
    """Each distribution's metadata is there, with the text that its license asks to be passed on."""
    distributions = {name.partition("/")[0] for name in there.files if ".dist-info/" in name}
    assert distributions
    for one in distributions:
        inside = {name.removeprefix(f"{one}/") for name in there.files if name.startswith(f"{one}/")}
        assert "METADATA" in inside
        assert any("licen" in name.lower() for name in inside), one
    assert "LICENSE" in there.files


@pytest.mark.slow
def test_a_second_build_has_the_same_bytes(there: Package, again: Package) -> None:
    """Built again, into another folder and from another one, the archive has the same hash."""
    assert again.path != there.path
    assert again.path.read_bytes() == there.path.read_bytes()
    assert (again.sha256, again.files) == (there.sha256, there.files)
    with ZipFile(again.path) as zipped:
        assert zipped.testzip() is None
