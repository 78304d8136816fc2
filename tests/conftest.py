"""What every test relies on: only loopback is reachable, and no credentials of the user are visible."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

from localcloud import Unavailable

if TYPE_CHECKING:
    from localcloud.azure.services.azurite import Azurite

# AWS, Azure and Google settings of whoever runs the tests; a test sets what it needs.
CLOUD_PREFIXES = ("AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCLOUD_", "GCE_", "CLOUDSDK_", "BOTO_", "TAILPIPE_")
CLOUD_SUFFIXES = ("_ENDPOINT_URL", "_EMULATOR_HOST")
# Where Terraform's plugins lie is the machine's business.
KEPT = {"TAILPIPE_EXPORTS_TF_PLUGIN_DIR", "TAILPIPE_EXPORTS_TF_NETWORK"}
NO_FILE = os.devnull

TESTS = Path(__file__).resolve().parent
# Whose tests measure coverage; pyproject.toml says of which packages.
MEASURED = {"shared", "aws_lambda", "azure_function", "gcp_function"}

# How long an example takes says something of the machine and nothing of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure() -> None:
    """Clean the environment before any module of ours, or an SDK, is imported."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background job ignores it, and so would the processes that tests interrupt.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # The same under nohup. With a handler that does nothing this process survives its terminal, and its children,
        # for whom a handler is reset to the default, do not.
        signal.signal(signal.SIGHUP, lambda *_: None)
    for name in set(os.environ) - KEPT:
        if name.startswith(CLOUD_PREFIXES) or name.endswith(CLOUD_SUFFIXES) or "_ENDPOINT_URL_" in name:
            del os.environ[name]
    # Container images often forbid stored bytecode. Without it each of several hundred processes compiles its imports,
    # and each worker rewrites the assertions of all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["AWS_CONFIG_FILE"] = NO_FILE
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = NO_FILE
    # Without this a client with no credentials asks the instance metadata service, on a link-local address.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    # Local clouds and models of SDKs live long: with Python's own threshold a tenth of the time is spent collecting.
    gc.set_threshold(50_000, 10, 10)
    # Terraform's provider is a large Go program: fewer collections save a third of its time.
    os.environ.setdefault("GOGC", "400")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)


def pytest_xdist_auto_num_workers() -> int:
    """Let `-n auto` be one worker more than cores: the longest stories wait for other processes most of the time."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_finish(session: pytest.Session) -> None:
    """Let tests share emulators, and, where coverage is measured, nothing be traced that cannot count."""
    if "localcloud.azure.cloud" in sys.modules:
        from tests import azurites

        azurites.install()
        session.config.add_cleanup(azurites.close)
    if session.config.getoption("cov_source", None):
        from tests import unmeasured

        unmeasured.install()
    # Modules and tests stay: to look through these millions of objects took each full collection half a second.
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that no worker is left alone with it at the end; measure what is near the code.

    To measure branches takes half of a test's time again, and what commands, local clouds and Terraform run of the
    engine and the functions is covered by the tests of these.
    """
    items.sort(key=lambda item: item.get_closest_marker("long") is None)
    for item in items:
        if not item.path.is_relative_to(TESTS) or item.path.relative_to(TESTS).parts[0] not in MEASURED:
            item.add_marker("no_cover")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Let a test connect to this machine and to nothing else."""
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
    with _skipping_what_is_missing():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip a test of a local cloud that this machine cannot run."""
    with _skipping_what_is_missing():
        return (yield)


@contextmanager
def _skipping_what_is_missing() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        # Where all that is optional has to be there, a test that does not run is a failure.
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty home directory, so that no tool reads the user's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def collected() -> Iterator[None]:
    """Let what a test leaves to the garbage collector end with the test."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Return the emulator that the tests of a worker share: starting one takes longer than most of them."""
    from localcloud.azure.cloud import start_azurite
    from shared.runtime.clock import VirtualClock

    running = start_azurite(clock=VirtualClock())
    yield running
    running.stop()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the checkout's root."""
    return Path(__file__).resolve().parent.parent
