"""Settings and fixtures for all tests: only loopback is reachable, and the user's credentials are hidden."""

from __future__ import annotations

import gc
import importlib
import os
import signal
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings
from pytest_socket import socket_allow_hosts

from localcloud import Unavailable
from tests import canaries

if TYPE_CHECKING:
    from localcloud.azure.services.azurite import Azurite

# Cloud settings of the user who runs the tests are removed; a test sets what it needs.
CLOUD_PREFIXES = ("AWS_", "AZURE_", "ARM_", "GOOGLE_", "GCLOUD_", "GCE_", "CLOUDSDK_", "BOTO_", "TAILPIPE_")
CLOUD_SUFFIXES = ("_ENDPOINT_URL", "_EMULATOR_HOST")
# The location of Terraform's plugins depends on the machine.
KEPT = {"TAILPIPE_EXPORTS_TF_PLUGIN_DIR", "TAILPIPE_EXPORTS_TF_NETWORK"}
NO_FILE = os.devnull

TESTS = Path(__file__).resolve().parent
# The duration of an example depends on the machine, not on the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_configure(config: pytest.Config) -> None:
    """Clean the environment before any of our modules, or an SDK, is imported, and search for secrets from then on."""
    config.pluginmanager.register(canaries, "canaries")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell's background jobs ignore SIGINT, and child processes that tests interrupt would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        # nohup does the same with SIGHUP. A no-op handler keeps this process alive when its terminal closes, while its
        # children, whose handlers are reset to the default, still end.
        signal.signal(signal.SIGHUP, lambda *_: None)
    for name in set(os.environ) - KEPT:
        if name.startswith(CLOUD_PREFIXES) or name.endswith(CLOUD_SUFFIXES) or "_ENDPOINT_URL_" in name:
            del os.environ[name]
    # Container images often disable bytecode files. Without them each of several hundred processes compiles its
    # imports, and each worker rewrites the assertions of all tests.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    os.environ["AWS_CONFIG_FILE"] = NO_FILE
    os.environ["AWS_SHARED_CREDENTIALS_FILE"] = NO_FILE
    # Otherwise a client without credentials calls the instance metadata service on a link-local address.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    # Local clouds and SDK models are long-lived: Python's default threshold spends 10 % of the time on collections.
    gc.set_threshold(50_000, 10, 10)
    # Terraform's providers are large Go programs: fewer garbage collections save a third of their time.
    os.environ.setdefault("GOGC", "400")
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        os.environ.pop(name, None)


def pytest_xdist_auto_num_workers() -> int:
    """Return one worker more than there are cores: the longest tests mostly wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect no garbage while modules are imported, which leave none: it takes a tenth of the time of this phase."""
    gc.disable()
    try:
        _import_in_own_order(session.config)
        return (yield)
    finally:
        gc.enable()


def _import_in_own_order(config: pytest.Config) -> None:
    """Let each worker import all test modules, beginning with other ones than the other workers.

    In a fresh checkout, the workers would compile the same modules at the same moment, each all of them. So each
    begins with one cloud's, and finds most of the others' compiled.
    """
    worker = getattr(config, "workerinput", None)
    if worker is None or [Path(argument).resolve() for argument in config.args] != [TESTS]:
        return
    ignored = [Path(path).resolve() for path in config.option.ignore or ()]
    paths = [path for path in sorted(TESTS.rglob("test_*.py")) if not any(path.is_relative_to(one) for one in ignored)]
    names = [".".join(path.relative_to(TESTS.parent).with_suffix("").parts) for path in paths]
    first = ("tests.aws_lambda.", "tests.azure_function.", "tests.gcp_function.")[int(worker["workerid"][2:]) % 3]
    names.sort(key=lambda name: not name.startswith(first))
    for name in names:
        # Collection reports the modules that fail, and those that skip all their tests.
        with suppress(Exception, pytest.skip.Exception):
            importlib.import_module(name)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Share emulators and SDK data between tests."""
    if "localcloud.azure.cloud" in sys.modules:
        from tests import azurites

        azurites.install()
        session.config.add_cleanup(azurites.close)
    if "botocore.loaders" in sys.modules:
        from tests import botocore_data

        botocore_data.install()
    # Modules and tests stay in memory: scanning these millions of objects added 0.5 s to each full collection.
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the longest tests first: one that starts last would leave one worker running alone."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup() -> Generator[None, None, None]:
    """Allow a test to connect to this machine only."""
    socket_allow_hosts(["127.0.0.1", "::1", "localhost"], allow_unix_socket=True)
    with _skip_if_unavailable():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None, None, None]:
    """Skip a test of a local cloud that this machine cannot run."""
    with _skip_if_unavailable():
        return (yield)


@contextmanager
def _skip_if_unavailable() -> Iterator[None]:
    try:
        yield
    except Unavailable as error:
        # CI has all optional tools installed, so a test that cannot run there is a failure.
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(autouse=True)
def _own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test an empty home directory, so that no tool reads the user's configuration."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture(autouse=True)
def _own_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the credentials that a test registers: each message is searched for all of them."""
    from shared import redaction

    monkeypatch.setattr(redaction, "_in_use", redaction._in_use.copy())


@pytest.fixture
def collected() -> Iterator[None]:
    """Collect the test's garbage at its end, so that its leftovers are reported there.

    Without collections during the test, its objects stay in the youngest generation; scanning all others takes 0.6 s.
    """
    gc.collect(0)
    gc.disable()
    try:
        yield
        gc.collect(0)
    finally:
        gc.enable()


@pytest.fixture(scope="session")
def azurite() -> Iterator[Azurite]:
    """Return the emulator shared by a worker's tests: starting one takes longer than most tests."""
    from localcloud.azure.cloud import start_azurite
    from shared.runtime.clock import VirtualClock

    running = start_azurite(clock=VirtualClock())
    yield running
    running.stop()


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the checkout's root."""
    return Path(__file__).resolve().parent.parent
