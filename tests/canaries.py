"""Secrets of the tests that can be recognized, and a search for them wherever they must not appear.

The tests' External IDs, webhook addresses and signing keys are the values below. This plugin searches for them, and for
what the local clouds issue: the access key of the local AWS, the tokens, storage keys, shared access signatures and
function keys of the local Azure, and the access tokens of the local Google Cloud. It fails the test in which one is
found, or the session:

- in what a test logged, printed or raised (`log`, `stdout`, `stderr`, `exception`);
- in each document that anything stores in a local cloud, functions in other processes included: state, reports, pages,
  deliveries (`stored`);
- in each message that a receiver of webhooks gets (`message`);
- at the end of the session, in all files below the temporary folders of its tests, including those of processes that
  were killed (`file`).

`ALLOWED` lists the places where a secret belongs. What is reported names the kind of secret, never its value.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

EXTERNAL_ID = "external-id-CANARY11-of-the-tests"
WEBHOOK_PATH = "T0CANARY00/B0CANARY22/aVerySecretPart99"
SIGNING_KEY = "whsec_a2V5LWNhbmFyeS1rZXk="
SAS = "c2FzLWNhbmFyeS1zaWduYXR1cmU%3D"
TOKEN = "eyJjYW5hcnkiOiJ0b2tlbiJ9.CANARY33"

# By what each is recognized, also where only a part of it is shown.
KINDS = {
    "External ID": (b"external-id-CANARY11",),
    "webhook address": (b"T0CANARY00", b"B0CANARY22", b"aVerySecretPart99"),
    "webhook signing key": (b"a2V5LWNhbmFyeS1rZXk",),
    "shared access signature": (b"c2FzLWNhbmFyeS1zaWduYXR1cmU",),
    "token": (b"eyJjYW5hcnkiOiJ0b2tlbiJ9", b"CANARY33"),
    "access key": (b"local-cloud-has-no-secrets",),
    "Azure access token": (b"signature-of-the-local-azure",),
    "storage key": (b"o/buQrkFX4BW/G+6l/wCQ/rreiKG0x+jJRw3sGzw",),
    "function key": (b"local-function-key-",),
    "Google access token": (b"local-google-token.",),
}
# A signature of Azure Storage that the tests' storage key made: HMAC-SHA256 in base64.
_SIGNED = re.compile(rb"\bsig=[A-Za-z0-9+/%]{43,}")
# Files and stored documents that hold a secret by design, with the reason.
ALLOWED = {
    r"\.tfstate(\.backup)?$": "Terraform's state holds the values of all variables; its bucket and folder are private",
    r"\.tfplan$|/plan\.json$|\.tfvars(\.json)?$": "Terraform's own input and plan, in the operator's private folder",
    r"\.env$|/environment[^/]*$|/variables[^/]*$": "variables for a shell, which a test wrote for its process",
    r"/bin/(calls\.jsonl|answer-[a-z]+\.json)$": "what the stand-in for Terraform is given, and answers",
    r"/onboarding-[a-z]+-[\w.-]+\.json$": "the document for Tailpipe, in a file that only its owner can read",
    r"/\.?aws/(config|credentials)$": "the tests' own credentials of a local cloud",
}
_ALLOWED = re.compile("|".join(ALLOWED))
LONGEST = 8 << 20  # bytes of a file that are searched; larger ones are packages and plugins
PACKAGES = {".zip", ".whl", ".gz", ".so", ".pyc", ".py", ".parquet", ".pdf", ".png"}
_leaks: list[str] = []
_in_workers: list[str] = []
_lock = threading.Lock()


def found(text: bytes | str) -> list[str]:
    """Return the kinds of the secrets in a text."""
    data = text.encode(errors="surrogatepass") if isinstance(text, str) else text
    kinds = [kind for kind, parts in KINDS.items() if any(part in data for part in parts)]
    return [*kinds, "storage signature"] if _SIGNED.search(data) else kinds


def search(place: str, text: bytes | str) -> None:
    """Note each secret in a text as a leak; the running test fails at its end."""
    if kinds := found(text):
        with _lock:
            _leaks.extend(f"{place}: {kind}" for kind in kinds)


def stored(path: str, body: bytes) -> None:
    """Search a document that is stored under this path in a local cloud."""
    if not _ALLOWED.search(path.partition("?")[0]):
        search(f"stored {path[:200]}", body)


def take() -> list[str]:
    """Return the leaks that were noted, and forget them."""
    with _lock:
        leaks, _leaks[:] = list(dict.fromkeys(_leaks)), []
    return leaks


def in_files(folder: Path) -> Iterator[str]:
    """Yield the leaks in all files below a folder; links are not followed."""
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("site-packages", ".terraform", ".git", "node_modules")]
        for name in names:
            path = Path(parent, name)
            try:
                status = path.lstat()
                if not path.is_file() or path.is_symlink() or status.st_size > LONGEST or path.suffix in PACKAGES:
                    continue
                data = path.read_bytes()
            except OSError:
                continue
            if not _ALLOWED.search(str(path)):
                yield from (f"file {path.relative_to(folder)}: {kind}" for kind in found(data))


def watch_stores() -> None:
    """Search each document that is sent to a local cloud of this process."""
    from localcloud.common import http_server

    respond: Callable[..., Any] = http_server._Handler._respond

    def searched(handler: Any, request: http_server.Request) -> Any:
        upload = request.method == "PUT" or request.path.startswith("/upload/storage/")
        if upload and not request.path.startswith("/subscriptions/") and request.body:
            name = request.one("name") or request.path
            stored(name, request.body)
        return respond(handler, request)

    http_server._Handler._respond = searched  # type: ignore[assignment, method-assign]  # the wrapper has the same call


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that show a secret."""
    config.addinivalue_line("markers", "shows_secret(reason): the test's output shows a secret by design")


def pytest_sessionstart(session: pytest.Session) -> None:
    """Give the session a temporary folder of its own, so that what its processes leave behind is found."""
    if _controls(session.config):
        return
    session.config._tmp_path_factory.getbasetemp()  # type: ignore[attr-defined]  # outside of this folder, to be kept
    tempfile.tempdir = os.environ["TMPDIR"] = tempfile.mkdtemp(prefix="tp-")
    session.config.add_cleanup(_remove_folder)


def _controls(config: pytest.Config) -> bool:
    """Return whether this process runs no tests, but the workers that do."""
    return not hasattr(config, "workerinput") and bool(getattr(config.option, "numprocesses", None))


def _remove_folder() -> None:
    folder, tempfile.tempdir = tempfile.tempdir, None
    if folder and os.environ.pop("TMPDIR", None) == folder:
        shutil.rmtree(folder, ignore_errors=True)


def pytest_collection_finish() -> None:
    """Watch the local clouds."""
    watch_stores()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail a test whose output, exception or stored documents hold a secret."""
    report = yield
    if item.get_closest_marker("shows_secret") is not None:
        take()
        return report
    for title, text in report.sections:
        if title.endswith(f" {call.when}"):  # the sections of the phases before are there too
            search(title.removeprefix("Captured "), text)
    if report.failed:
        search("exception", report.longreprtext)
    if leaks := take():
        report.outcome = "failed"
        report.longrepr = "secrets were found in:\n" + "\n".join(leaks)
        report.sections.clear()
        item._report_sections.clear()  # which the next phase would show
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Search the temporary folders of this process's tests."""
    config = session.config
    leaks = list(_in_workers)
    if not _controls(config):
        folders = [config._tmp_path_factory.getbasetemp(), Path(tempfile.gettempdir())]  # type: ignore[attr-defined]  # the session's
        leaks += [leak for folder in folders for leak in in_files(folder)]
    output = getattr(config, "workeroutput", None)
    if output is not None:
        output["leaks"] = leaks
    elif leaks:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
        reporter = config.pluginmanager.get_plugin("terminalreporter")
        if reporter is not None:
            reporter.write_line("\nsecrets were found in temporary files:\n" + "\n".join(leaks), red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Collect what a worker found at its end."""
    _in_workers.extend(getattr(node, "workeroutput", {}).get("leaks", []))
