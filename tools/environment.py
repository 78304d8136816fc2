"""Install what a make target needs: exactly the locked files, without resolving, whatever was released since.

Called by tools/setup.sh with the name of a set: demo, run, test, check or release.

The Python packages go into .venv. Each of the first four sets holds the one before it, and .venv keeps the widest that
was asked for. uv installs them; its own wheel is one of the locked files, installed by the pip that Python carries.
Where uv does not work, that pip installs the same files. Node packages and other parts follow. Optional parts that
cannot be installed are reported, and everything else still works.

A part that is complete is recorded with a fingerprint of what it was made from. What was interrupted, was copied from
another machine, or was made by another Python or from another lock is made again. Only one set-up runs at a time.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
DONE = VENV / ".setup"  # one file for each complete part: its fingerprint
UNFINISHED = VENV / ".unfinished"
LOG = ROOT / ".setup.log"
PYTHON = VENV / "bin" / "python"
UV = VENV / "bin" / "uv"
REQUIREMENTS = ROOT / "requirements"
NODE_MODULES = ROOT / "node_modules"

SETS = ("demo", "run", "test", "check")
NODE_MAJOR = 20
PROGRESS_S = 10.0
HASHED = ("--require-hashes", "--only-binary", ":all:")
LEAST_FREE = 16 * 1024 * 1024  # bytes; with less, what failed had no room
FULL = re.compile(r"no space left on device|disk quota exceeded|\bENOSPC\b", re.IGNORECASE)
RETRY = (
    "Check the network and the proxy (HTTPS_PROXY; an index of your own: PIP_INDEX_URL), then run the same command"
    f" again: what was downloaded is kept. Details: {LOG.name}"
)


class SetupError(Exception):
    """Something could not be set up; the message says what failed and why."""


class NotReached(SetupError):
    """No package index answers, so another installer would fail as well."""


class DiskFull(SetupError):
    """Nothing more can be written, so another installer or the network would not help."""


class Unwritable(SetupError):
    """This checkout cannot be written, and something in it is not complete."""

    why = ""  # while set-up works on such a checkout


def require_writable(what: str) -> None:
    """Raise Unwritable where something is to be made in a checkout that cannot be written."""
    if Unwritable.why:
        raise Unwritable(
            f"{ROOT} cannot be written ({Unwritable.why}), and {what} is not complete there."
            " Copy the checkout to your own folder, or change its rights."
        )


# An interrupt that comes while Python finalizes an object raises there and is swallowed: the next command sees it here.
interrupted: list[int] = []


def interrupt(number: int, _frame: object) -> None:
    """Handle Ctrl-C."""
    interrupted.append(number)
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Print a line of progress. Standard output belongs to the command that follows."""
    print(f"set-up: {text}", file=sys.stderr, flush=True)


def run(what: str, *command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command and show what it does and for how long. Raises SetupError with the end of its output."""
    if interrupted:
        raise KeyboardInterrupt
    begun = shown = time.monotonic()
    terminal = sys.stderr.isatty()
    with LOG.open("w+b") as log:
        log.write(f"{what}\n".encode())
        log.flush()
        try:
            child = subprocess.Popen(command, cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            raise SetupError(f"{what}: {command[0]} cannot be started ({error.strerror})") from error
        try:
            while _runs(child):
                now = time.monotonic()
                if terminal:
                    print(f"\rset-up: {what} … {now - begun:.0f} s", end="", file=sys.stderr, flush=True)
                elif now - shown >= PROGRESS_S:
                    shown = now
                    say(f"{what} … {now - begun:.0f} s")
        except BaseException:
            child.terminate()
            child.wait()
            raise
        finally:
            if terminal:
                print("\r\x1b[K", end="", file=sys.stderr, flush=True)
        if child.returncode != 0:
            log.seek(0)
            output = log.read().decode(errors="replace")
            # What makes an environment does not pass on why its pip could not be installed.
            if FULL.search(output) or shutil.disk_usage(ROOT).free < LEAST_FREE:
                raise DiskFull(f"{what}: no space is left on the device of {ROOT}, the cache or temporary files")
            # What pip says last, that no release exists, is only what follows from it.
            broken = re.search(r"connection broken by '(\w+)(?:.*(\[Errno -?\d+\] [\w ]+|timed out))?", output)
            if broken and re.search(r"from versions: none|Max retries exceeded", output):
                raise NotReached(f"{what}: the package index cannot be reached ({broken[2] or broken[1]})")
            lines = [line.strip() for line in output.splitlines()[1:] if line.strip()]
            named = [line for line in lines if re.match(r"(npm )?error|\W*caus|× ", line, re.IGNORECASE)]
            raise SetupError(f"{what}: {' '.join((named or lines or ['no output'])[-3:])[:400]}")
    say(f"{what}: {time.monotonic() - begun:.1f} s")


def _runs(child: subprocess.Popen[bytes]) -> bool:
    try:
        child.wait(1.0)
    except subprocess.TimeoutExpired:
        return True
    return False


def fingerprint(*parts: str | Path) -> str:
    """Return a hash of texts and of the content of files."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def part(stamp: Path, made_from: str, make: Callable[[], None]) -> None:
    """Make a part unless it is complete and was made from the same. Raises SetupError if it cannot be made."""
    if _read(stamp) == made_from:
        return
    require_writable(stamp.name if stamp.parent == DONE else stamp.parent.name)
    failed = DONE / f"failed-{stamp.parent.name}-{stamp.name}"
    if before := _read(failed):
        say(f"trying again what failed before ({before})")
    stamp.unlink(missing_ok=True)
    try:
        make()
    except SetupError as error:
        with contextlib.suppress(OSError):
            failed.write_text(str(error), encoding="utf-8")
        raise
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(made_from, encoding="utf-8")
    failed.unlink(missing_ok=True)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def make_environment() -> None:
    """Make .venv, unless there is a complete one that this interpreter made here."""
    mine = json.dumps([sys.version, sys.base_prefix, str(ROOT), platform.machine()])
    stamp = DONE / "environment"
    if _read(stamp) == mine and PYTHON.exists() and not UNFINISHED.exists():
        return
    require_writable(".venv")
    if (VENV / "pyvenv.cfg").exists():
        say("making .venv again: it is incomplete, or of another Python, folder or machine")
    run(f"making .venv with Python {platform.python_version()}", sys.executable, "-m", "venv", "--clear", VENV)
    DONE.mkdir()
    stamp.write_text(mine, encoding="utf-8")


def pins(lock: Path) -> list[str]:
    """Return the entries of a lock file: one distribution each, with its hashes."""
    return re.split(r"^(?=[A-Za-z0-9])", lock.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]


def install(what: str, lock: Path, *, python: Path = PYTHON, into: Path | None = None) -> None:
    """Install exactly the files of `lock`, into an environment or a folder. Raises SetupError."""
    many = len(pins(lock))
    what = f"installing {many} package{'s' if many > 1 else ''} {what}"
    try:
        _bring_uv()
        how: tuple[str | Path, ...] = ("sync", "--python", python, lock)
        if into:
            # Azure's runtime declares a newer Python than the oldest we support, and works on that one too.
            how = ("install", "--no-deps", "--target", into, "--python-version", "3.13", "-r", lock)
        run(what, UV, "pip", "--quiet", *how, *HASHED, env=_uv_environment())
    except (NotReached, DiskFull):
        raise
    except SetupError as error:
        say(f"uv does not work here, installing the same files with pip ({error})")
        exact = DONE / "with-pip.txt"
        # Where uv has no wheel for this machine, everything but `package` works without it.
        exact.write_text("".join(pin for pin in pins(lock) if UV.exists() or not pin.startswith("uv==")))
        where = ("--target", into, "--ignore-requires-python") if into else ()
        _pip(what, "--python", python, "install", "--no-compile", "--no-deps", *HASHED, *where, "-r", exact)


def _bring_uv() -> None:
    """Install uv's own wheel, as the widest lock pins it, unless it is there."""
    [pin] = [one for one in pins(REQUIREMENTS / "run.txt") if one.startswith("uv==")]
    stamp = DONE / "uv"

    def make() -> None:
        only = DONE / "uv.txt"
        only.write_text(pin, encoding="utf-8")
        _pip("installing uv", "install", "--no-deps", *HASHED, "-r", only)

    if not UV.exists():
        stamp.unlink(missing_ok=True)
    part(stamp, fingerprint(pin), make)


def _pip(what: str, *arguments: str | Path) -> None:
    options = ("--disable-pip-version-check", "--no-input", "--quiet", "--retries", "2")
    run(what, PYTHON, "-m", "pip", *options, *arguments)


@functools.cache  # each call of uv needs it, and pip takes a moment to start
def _uv_environment() -> dict[str, str]:
    """Return the environment for uv, with what the operator has configured for pip and not for uv."""
    found = dict(os.environ)
    asked = subprocess.run([PYTHON, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    for name, value in re.findall(r"^[\w:]*\.([\w-]+)='(.*)'$", asked.stdout, re.MULTILINE):
        if variable := {"index-url": "UV_DEFAULT_INDEX", "cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY"}.get(name):
            found.setdefault(variable, value)
    if not can_be_written(Path(found.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "uv"):
        found.setdefault("UV_CACHE_DIR", str(VENV / "uv-cache"))
    # Whatever else is active must not be what uv works on, and it must not fetch another Python.
    return {**found, "VIRTUAL_ENV": str(VENV), "UV_PYTHON_DOWNLOADS": "never"}


def can_be_written(folder: Path) -> bool:
    """Return whether files can be made in a folder, which is made if need be."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".tailpipe-exports-{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError:
        return False
    return True


def _npm_environment() -> dict[str, str]:
    """Return the environment for npm, whose cache must be a folder that can be written."""
    found = dict(os.environ)
    if not can_be_written(Path(found.get("npm_config_cache") or Path.home() / ".npm")):
        found["npm_config_cache"] = str(VENV / "npm-cache")
    return found


def python_packages(name: str) -> None:
    """Install a set's packages, and from `run` on the project itself; check that they fit together."""
    recorded = _read(DONE / "widest")
    widest = max(name, recorded if recorded in SETS else name, key=SETS.index)
    lock, pyproject = REQUIREMENTS / f"{widest}.txt", ROOT / "pyproject.toml"
    packages = " ".join(sorted(str(one.parent) for one in ROOT.glob("*/__init__.py")))

    def make() -> None:
        UNFINISHED.touch()
        install(f"for {widest}", lock)
        if widest != "demo":
            _pip("installing the project", "install", "--no-deps", "--no-build-isolation", "--no-index", "-e", ROOT)
        (DONE / "widest").write_text(widest, encoding="utf-8")
        check_packages(lock)
        UNFINISHED.unlink()

    part(DONE / "packages", fingerprint(lock, pyproject, packages), make)


def check_packages(lock: Path) -> None:
    """Check that the installed packages fit together, but for what a narrow set leaves out. Raises SetupError."""
    by = (UV, "pip", "check", "--python", PYTHON) if os.access(UV, os.X_OK) else (PYTHON, "-m", "pip", "check")
    checked = subprocess.run(by, cwd=ROOT, capture_output=True, text=True, check=False, env=_uv_environment())
    names = {one: {pin.partition("==")[0] for pin in pins(one)} for one in (REQUIREMENTS / "run.txt", lock)}
    left_out = names[REQUIREMENTS / "run.txt"] - names[lock] | (set() if UV.exists() else {"uv"})
    conflicts = [
        line
        for line in (checked.stdout + checked.stderr).splitlines()
        if "requires" in line and not left_out & set(re.findall(r"[\w.-]+", line))
    ]
    if conflicts:
        raise SetupError(f"the packages do not fit together: {' · '.join(conflicts)}. Run make lock")


SELECT = """
import shutil, sys
from localcloud.gcp.discovery import DOCUMENTS, IN_LIBRARY
for name in DOCUMENTS:
    shutil.copy(f"{sys.argv[1]}/{IN_LIBRARY}/{name}.json", sys.argv[2])
"""


def discovery_documents() -> None:
    """Extract the few of Google's discovery documents that the local Google Cloud reads: its library has 110 MB."""
    lock, target = REQUIREMENTS / "discovery.txt", VENV / "google-discovery"

    def make() -> None:
        whole = VENV / "google-discovery-whole"
        shutil.rmtree(whole, ignore_errors=True)
        install("for its discovery documents", lock, into=whole)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir()
        run("selecting the discovery documents", PYTHON, "-c", SELECT, whole, target)
        shutil.rmtree(whole)

    part(DONE / "discovery", fingerprint(lock, ROOT / "localcloud/gcp/discovery.py"), make)


def node_packages() -> None:
    """Install the storage emulator of the local Azure: the one part that runs on Node. Raises SetupError."""
    try:
        asked = subprocess.run(["node", "--version"], capture_output=True, text=True, check=False)
        version = asked.stdout.strip()
    except OSError:
        version = ""
    major = re.match(r"v(\d+)", version)
    if not major or not shutil.which("npm"):
        raise SetupError(f"Node.js {NODE_MAJOR} or newer with npm was not found")
    if int(major[1]) < NODE_MAJOR:
        raise SetupError(f"Node.js {NODE_MAJOR} or newer is required, and this one is {version}")
    quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--fetch-retries=1")
    files = fingerprint(ROOT / "package-lock.json", ROOT / "package.json", ROOT / ".npmrc")

    def make() -> None:
        run("installing the storage emulator", "npm", "ci", *quiet, env=_npm_environment())

    part(NODE_MODULES / ".setup", files, make)


def azure_runtime() -> None:
    """Install Azure's worker runtime into a folder of its own.

    Its wheels hold a package `tests`, which would hide ours. Without it the Azure function is run by its library, and
    the output says so.
    """
    lock, target = REQUIREMENTS / "azure_runtime.txt", VENV / "azure-runtime"

    def make() -> None:
        shutil.rmtree(target, ignore_errors=True)
        install("of Azure's worker runtime", lock, into=target)

    part(DONE / "azure-runtime", fingerprint(lock), make)


def pips() -> None:
    """Install the pips with which a test sets up: the oldest, the one of a stock Python 3.11.7, and the newest."""
    for lock in sorted(REQUIREMENTS.glob("pip_*.txt")):
        target = VENV / "pips" / lock.stem.removeprefix("pip_")

        def make(lock: Path = lock, target: Path = target) -> None:
            shutil.rmtree(target, ignore_errors=True)
            install(f"for tests of set-up: pip {target.name}", lock, into=target)

        part(DONE / lock.stem, fingerprint(lock), make)


def apart(name: str) -> None:
    """Install a set into an environment of its own below .venv, since its pins are not those of the others."""
    lock, target = REQUIREMENTS / f"{name}.txt", VENV / name.replace("_", "-")

    def make() -> None:
        run(f"making .venv/{target.name}", PYTHON, "-m", "venv", "--clear", "--without-pip", target)
        install(f"for {target.name}", lock, python=target / "bin" / "python")

    part(DONE / name, fingerprint(lock), make)


def schemas() -> None:
    """Fetch the published schemas of Terraform's providers, with which infra/ is validated and planned."""
    folder = ROOT / "tests/infra/standin"
    made_from = fingerprint(*(folder / name for name in ("published.py", "bindings/package-lock.json")))
    what = "fetching the providers' schemas (60 MB)"
    part(DONE / "schemas", made_from, lambda: run(what, PYTHON, "-m", "tests.infra.standin.published"))


# What each set needs besides Python packages, and what is missing without it.
OPTIONAL: dict[str, list[tuple[Callable[[], None], str]]] = {
    "demo": [
        (node_packages, "The local Azure needs it for its storage emulator; AWS and Google Cloud work without it."),
        (azure_runtime, "The Azure function's own library stands in for Azure's worker runtime."),
    ],
    "run": [],
    "test": [
        (pips, "The test of set-up with other releases of pip is skipped."),
        (schemas, "The tests of infra/ that need the providers' schemas are skipped."),
    ],
    "check": [(lambda: apart("infra_check"), "The policy scan of infra/ is not run.")],
}


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Hold the lock of this checkout's set-up. A read-only checkout has no lock, and nothing may be made in it."""
    try:
        lock = (ROOT / ".setup.lock").open("w", encoding="utf-8")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise
        Unwritable.why = error.strerror or "no reason given"
        try:
            yield
        finally:
            Unwritable.why = ""
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            say("another set-up of this checkout is running; waiting for it to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def set_up(name: str) -> None:
    """Make everything that a set needs. Raises SetupError for what it cannot do without."""
    make_environment()
    if name == "release":
        apart(name)
        return
    python_packages(name)
    discovery_documents()
    for one in SETS[: SETS.index(name) + 1]:
        for make, without in OPTIONAL[one]:
            try:
                make()
            except SetupError as error:
                say(f"{error}. {without}")


def main(arguments: Sequence[str]) -> int:
    """Set up the named set. Returns 0, 1 with one sentence on standard error, or 130 after an interruption."""
    if len(arguments) != 1 or arguments[0] not in (*SETS, "release"):
        print(f"usage: tools/setup.sh {'|'.join(SETS)}|release", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _frame: sys.exit(128 + number))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, interrupt)
    try:
        with alone():
            set_up(arguments[0])
    except SetupError as error:
        say(f"failed. {error}")
        if isinstance(error, DiskFull):
            say("Free space there, then run the same command again: what is half made is made again.")
        elif LOG.exists() and not isinstance(error, Unwritable):
            say(RETRY)
        return 1
    except OSError as error:
        say(f"failed. {error.filename or ROOT}: {error.strerror}. Free space or change rights, then run it again.")
        return 1
    except KeyboardInterrupt:
        say("interrupted; run the same command again, it continues or begins anew as needed")
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
