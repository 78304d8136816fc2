"""The time from `git clone` to the end of the demo, and the size of its dependencies."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from tests.bench.measure import ROOT, Measure

# Part of Python; setup.sh does not install them.
CARRIED = {"pip", "setuptools"}


def measures() -> Iterator[Measure]:
    """Yield the measurements of `make demo` in two fresh clones with one fresh home: without and with caches.

    Raises subprocess.CalledProcessError, with the output, if the demo fails.
    """
    with tempfile.TemporaryDirectory(prefix="bench-setup-") as folder:
        home = Path(folder, "home")
        home.mkdir()
        cold, clone = _demo(Path(folder, "cold"), home)
        method = "git clone and make demo in a fresh home, until the demo ends; wall clock, one run"
        yield Measure("setup.demo_cold_s", cold, "s", 180, method)
        packages = {
            one.name for one in distributions(path=[str(one) for one in clone.glob(".venv/lib/*/site-packages")])
        }
        yield Measure("setup.packages_demo", len(packages - CARRIED), "packages", 70, "Python distributions in .venv")
        size = sum(_bytes(clone / part) for part in (".venv", "node_modules")) / 1e6
        yield Measure("setup.mb_demo", size, "MB", 400, "files in .venv and node_modules, except Python's bytecode")
        warm, _ = _demo(Path(folder, "warm"), home)
        yield Measure("setup.demo_warm_s", warm, "s", 45, f"{method}, with the caches of the first run")


def _demo(clone: Path, home: Path) -> tuple[float, Path]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("UV_", "PYTHON"))}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / "cache"), "npm_config_cache": str(home / "npm")}
    started = time.monotonic()
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    done = subprocess.run(["make", "demo"], cwd=clone, env=environment, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - started
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, "make demo", done.stdout, done.stderr)
    return seconds, clone


def _bytes(folder: Path) -> int:
    return sum(one.lstat().st_size for one in folder.rglob("*") if one.suffix != ".pyc" and not one.is_symlink())
