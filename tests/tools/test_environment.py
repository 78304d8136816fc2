"""Set-up installs exactly the locked versions with every release of pip, even if newer versions are published."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from uv import find_uv_bin

from localcloud.gcp.discovery import DOCUMENTS, IN_LIBRARY
from tests.tools.index import PIN, Index

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.long

PIPS = Path(sys.prefix, "pips")
# The Python that created the test environment: set-up is called with a system Python.
BASE_PYTHON: str = getattr(sys, "_base_executable", sys.executable)
LIMIT_S = 900.0  # set-up takes ten seconds on an idle machine
# The files of a checkout that set-up needs, except the locks.
PARTS = ("Makefile", "pyproject.toml", "tools", "localcloud/__init__.py", "localcloud/gcp/discovery.py")
IMPORTED = (
    "localcloud/gcp/__init__.py",
    "localcloud/gcp/errors.py",
    "localcloud/common/__init__.py",
    "localcloud/common/oracles.py",
)


class Checkout:
    """A copy of the files for set-up, with locks of its own index, in a folder whose name has a space and an umlaut."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "über all"
        self.home = folder / "home"
        self.index = Index(folder / "files")
        self.path = folder / "bin"
        for part in (*PARTS, *IMPORTED):
            target = self.root / part
            target.parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / part).is_dir():
                shutil.copytree(ROOT / part, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(ROOT / part, target)
        shutil.copytree(ROOT / "requirements", self.root / "requirements")
        self.home.mkdir()
        # The system's tools without Node, because npm would call its registry.
        self.path.mkdir()
        for tool in ("sh", "bash", "env", "sed", "dirname", "make", "awk", "uname", "true"):
            if found := shutil.which(tool):
                (self.path / tool).symlink_to(found)
        self._add_uv()
        self.index.add(
            "google-api-python-client", self.pinned("discovery")["google-api-python-client"], files=_library()
        )
        for name in ("demo", "run", "discovery", "azure_runtime"):
            self.index.relock(self.root / "requirements" / f"{name}.txt")

    def _add_uv(self) -> None:
        """Pack the real uv into a wheel, because set-up must run it."""
        version = self.pinned("demo")["uv"]
        binary = {f"uv-{version}.data/scripts/uv": Path(find_uv_bin()).read_bytes()}
        self.index.add("uv", version, files=binary)

    def pinned(self, name: str) -> dict[str, str]:
        """Return the versions of a lock by name, except those for another Python or system."""
        text = (self.root / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
        from packaging.requirements import Requirement

        entries = [Requirement(f"{one['name']}=={one['version']}{one['marker']}") for one in PIN.finditer(text)]
        chosen = [one for one in entries if one.marker is None or one.marker.evaluate()]
        return {one.name: str(one.specifier).removeprefix("==") for one in chosen}

    def environment(self, index: str, **more: str) -> dict[str, str]:
        """Return the environment variables of a new home whose pip has one index."""
        return {
            "HOME": str(self.home),
            "PATH": f"{self.path}:{Path(BASE_PYTHON).parent}",
            "PIP_INDEX_URL": index,
            "PIP_CONFIG_FILE": os.devnull,
            "UV_CACHE_DIR": str(self.home / "uv"),
            "PYTHON": BASE_PYTHON,
            **more,
        }

    def set_up(self, index: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run set-up to completion."""
        return subprocess.run(
            [str(self.root / "tools" / "setup.sh"), *(arguments or ("demo",))],
            env=self.environment(index, **more),
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )

    def installed(self) -> dict[str, str]:
        """Return the distributions in .venv by name, except those of Python."""
        listing = (
            "import importlib.metadata as m, json, re;"
            "print(json.dumps({re.sub('[-_.]+', '-', d.name.lower()): d.version for d in m.distributions()}))"
        )
        python = self.root / ".venv" / "bin" / "python"
        done = subprocess.run([python, "-I", "-c", listing], capture_output=True, text=True, check=True)
        found: dict[str, str] = json.loads(done.stdout)
        return {name: version for name, version in found.items() if name not in ("pip", "setuptools")}


def _library() -> dict[str, bytes]:
    return {f"{IN_LIBRARY}/{name}.json": b"{}" for name in (*DOCUMENTS, "another.v1")}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return the checkout of this module's tests; each test removes the environment that it created."""
    return Checkout(tmp_path_factory.mktemp("setup"))


@pytest.fixture(autouse=True)
def _fresh(checkout: Checkout) -> Iterator[None]:
    yield
    shutil.rmtree(checkout.root / ".venv", ignore_errors=True)
    shutil.rmtree(checkout.home / "uv", ignore_errors=True)


def pips() -> Sequence[object]:
    """Return parameters for the oldest pip of Python 3.11, the one of 3.11.7, and the newest."""
    too_old = pytest.mark.skipif(
        sys.version_info >= (3, 12), reason="this release does not run on Python 3.12 or newer"
    )
    return [
        pytest.param("23.0", marks=[too_old, pytest.mark.slow]),
        pytest.param("23.2.1", marks=pytest.mark.slow),
        pytest.param("newest", marks=pytest.mark.slow),
    ]


def of_pip(name: str) -> dict[str, str]:
    """Return the variable that puts this release of pip before Python's."""
    folder = PIPS / name
    if not folder.is_dir():
        pytest.skip(f"pip {name} could not be installed when the tests were set up")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize("pip", pips())
def test_pip_installs_exactly_the_locked_versions(checkout: Checkout, pip: str) -> None:
    """Without a wheel of uv, each release of pip ignores newer published versions."""
    with checkout.index.served(without=["uv"]) as index:
        done = checkout.set_up(index, **of_pip(pip))
    assert done.returncode == 0, done.stderr
    assert "installing the same files with pip" in done.stderr
    expected = checkout.pinned("demo")
    del expected["uv"]
    assert checkout.installed() == expected


@pytest.mark.slow
def test_uv_installs_exactly_the_locked_versions_once(checkout: Checkout) -> None:
    """The lock contains uv, and a second call needs no index.

    A machine without Node gets everything else, and one sentence on what is missing and what works.
    """
    with checkout.index.served() as index:
        done = checkout.set_up(index)
    assert done.returncode == 0, done.stderr
    assert "with pip" not in done.stderr
    assert checkout.installed() == checkout.pinned("demo")
    documents = {path.stem for path in (checkout.root / ".venv" / "google-discovery").iterdir()}
    assert documents == set(DOCUMENTS)
    [without] = [line for line in done.stderr.splitlines() if "Node.js" in line]
    assert "20 or newer with npm was not found" in without
    assert "AWS and Google Cloud work without it" in without
    again = checkout.set_up("http://127.0.0.1:9/simple/")
    assert (again.returncode, again.stderr.splitlines()) == (0, [without])


@pytest.mark.slow
def test_resolving_installer_fails(checkout: Checkout) -> None:
    """Without --no-deps, pip refuses the same lock, which proves that the newer releases matter."""
    environment = checkout.root / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    with checkout.index.served() as index:
        done = subprocess.run(
            [
                *(
                    sys.executable,
                    "-m",
                    "pip",
                    "--python",
                    environment / "bin" / "python",
                    "install",
                    "--require-hashes",
                ),
                *("--only-binary", ":all:", "-r", checkout.root / "requirements" / "run.txt"),
            ],
            env={**checkout.environment(index), **of_pip("23.2.1")},
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert done.returncode != 0
    assert "must have their versions pinned" in done.stderr


@pytest.mark.slow
def test_interrupted_environment_is_completed_by_the_next_call(checkout: Checkout) -> None:
    """The first set-up was killed."""
    with checkout.index.served() as index:
        process = subprocess.Popen(
            [str(checkout.root / "tools" / "setup.sh"), "demo"],
            env=checkout.environment(index),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            assert process.stderr is not None
            for line in process.stderr:
                if "installing uv" in line:
                    os.killpg(process.pid, signal.SIGKILL)
        (checkout.root / ".venv" / "left-over").touch()
        done = checkout.set_up(index)
    assert done.returncode == 0, done.stderr
    assert "making .venv again" in done.stderr
    assert not (checkout.root / ".venv" / "left-over").exists()
    assert checkout.installed() == checkout.pinned("demo")


def test_interrupt_ends_set_up_with_one_sentence(checkout: Checkout) -> None:
    """Ctrl-C shows no traceback, ends the child processes and sets the exit code."""
    with checkout.index.served() as index:
        process = subprocess.Popen(
            [str(checkout.root / "tools" / "setup.sh"), "demo"],
            env=checkout.environment(index),
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            assert process.stderr is not None
            first = process.stderr.readline()
            os.killpg(process.pid, signal.SIGINT)
            rest = process.stderr.read()
    assert process.returncode == 130, first + rest
    assert "Traceback" not in first + rest
    assert rest.splitlines()[-1].startswith("set-up: interrupted")


@pytest.mark.slow
def test_file_with_a_wrong_hash_is_refused(checkout: Checkout) -> None:
    """This holds for both installers."""
    lock = checkout.root / "requirements" / "demo.txt"
    before = lock.read_text(encoding="utf-8")
    try:
        head, _, tail = before.partition("anyio==") if "anyio==" in before else before.partition("blinker==")
        name = "blinker=="
        first, rest = tail.split("--hash=sha256:", 1)
        lock.write_text(f"{head}{name}{first}--hash=sha256:{'0' * 64}{rest[64:]}", encoding="utf-8")
        with checkout.index.served() as index:
            done = checkout.set_up(index)
    finally:
        lock.write_text(before, encoding="utf-8")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hash" in done.stderr.lower()
    assert not (checkout.root / ".venv" / ".setup" / "packages").exists()


@pytest.mark.slow
def test_unreachable_index_is_reported_with_a_remedy(checkout: Checkout) -> None:
    """Without a network, set-up prints the reason and the remedy in one sentence each, and exits with 1."""
    done = checkout.set_up("http://user:hidden@127.0.0.1:9/simple/", PIP_RETRIES="0", UV_HTTP_RETRIES="0")
    assert done.returncode == 1
    assert "set-up: failed." in done.stderr
    assert "the package index cannot be reached ([Errno" in done.stderr
    assert "Check the network and the proxy" in done.stderr
    assert "uv does not work here" not in done.stderr
    assert "No matching distribution" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.slow
def test_truncated_downloads_are_reported_and_completed_by_the_next_call(checkout: Checkout) -> None:
    """Nothing of a truncated download is used."""
    with checkout.index.served(breaks_after=6) as index:
        done = checkout.set_up(index, UV_HTTP_RETRIES="0", PIP_RETRIES="0")
    assert done.returncode == 1
    assert "set-up: failed." in done.stderr
    assert "Check the network and the proxy" in done.stderr
    assert "Traceback" not in done.stderr
    with checkout.index.served() as index:
        again = checkout.set_up(index)
    assert again.returncode == 0, again.stderr
    assert checkout.installed() == checkout.pinned("demo")


@pytest.mark.slow
def test_concurrent_set_ups_do_the_work_once(checkout: Checkout) -> None:
    """The second one waits for the first and then has nothing to do."""
    with checkout.index.served() as index:
        both = [
            subprocess.Popen(
                [str(checkout.root / "tools" / "setup.sh"), "demo"],
                env=checkout.environment(index),
                stderr=subprocess.PIPE,
                text=True,
            )
            for _ in range(2)
        ]
        outputs = [process.communicate(timeout=LIMIT_S)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted("making .venv" in one for one in outputs) == [False, True]
    assert checkout.installed() == checkout.pinned("demo")


def failing_python(folder: Path, text: str) -> str:
    """Return the path of an interpreter that fails with a text."""
    path = folder / "python-of-yours"
    path.write_text(f"#!/bin/sh\necho '{text}' >&2\nexit 1\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("text", ["is Python 3.9", "is Python 3.11 without its venv module"])
def test_unusable_python_is_reported(checkout: Checkout, tmp_path: Path, text: str) -> None:
    """Set-up tries only the interpreter in PYTHON, and prints the reason."""
    done = checkout.set_up("http://127.0.0.1:9/", PYTHON=failing_python(tmp_path, text))
    assert done.returncode == 1
    assert text in done.stderr
    assert "python3-venv" in done.stderr


def test_missing_python_is_reported_with_what_to_install(checkout: Checkout) -> None:
    """The message is one sentence."""
    done = checkout.set_up("http://127.0.0.1:9/", PYTHON="", PATH=str(checkout.path))
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "Python 3.11 or newer with its venv module is needed" in done.stderr


def test_folder_that_is_not_writable_is_reported(checkout: Checkout, tmp_path: Path) -> None:
    """A read-only checkout ends with one sentence; here a file has the folder's name."""
    (checkout.root / ".setup.lock").unlink(missing_ok=True)
    (checkout.root / ".setup.lock").mkdir()
    try:
        done = checkout.set_up("http://127.0.0.1:9/")
    finally:
        (checkout.root / ".setup.lock").rmdir()
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_set_is_refused_with_the_usage(checkout: Checkout) -> None:
    """Nothing is installed."""
    done = checkout.set_up("http://127.0.0.1:9/", "everything")
    assert done.returncode == 1
    assert "demo|run|test|check" in done.stderr
    assert not (checkout.root / ".venv").exists()
