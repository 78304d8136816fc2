"""Unpack a function's archive and check it for compiled modules that this machine cannot run."""

from __future__ import annotations

import io
import re
import sys
import zipfile
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from packaging.tags import parse_tag, sys_tags

from localcloud.aws.errors import AwsError

_TAGGED = re.compile(r"\.(cpython-|cp)\d")


def unpack(code: bytes, into: Path) -> None:
    """Unpack an archive. Raises AwsError (InvalidZipFileException) for content that is not a zip."""
    try:
        with zipfile.ZipFile(io.BytesIO(code)) as archive:
            archive.extractall(into)
    except zipfile.BadZipFile as error:
        raise AwsError("InvalidZipFileException", "Lambda could not unzip the deployment package.", 502) from error


def check_fits(root: Path, runtime: str) -> None:
    """Refuse packages that this machine cannot run, so that locally installed ones do not silently replace them.

    Pure Python is accepted for any version. Raises AwsError (InvalidRuntimeException) with the incompatible files.
    """
    own = f"Python {sys.version_info.major}.{sys.version_info.minor} on this machine"
    if not runtime.startswith("python3."):
        raise _refusal(f"the local Lambda runs Python functions only, not {runtime or 'an image'}")
    foreign = sorted({*_foreign_wheels(root), *_foreign_modules(root)})
    if foreign:
        raise _refusal(
            f"the package was built for another machine, so the local Lambda ({own}) cannot run it: "
            f"{', '.join(foreign[:5])}; upload a package built for this machine"
        )


def _foreign_wheels(root: Path) -> list[str]:
    foreign = []
    for metadata in root.rglob("*.dist-info/WHEEL"):
        lines = metadata.read_text(encoding="utf-8", errors="replace").splitlines()
        tags = [line.partition(":")[2].strip() for line in lines if line.startswith("Tag:")]
        if tags and not any(parse_tag(tag) & _host_tags() for tag in tags):
            foreign.append(f"{metadata.parent.name.partition('-')[0]} ({tags[0]})")
    return foreign


def _foreign_modules(root: Path) -> list[str]:
    # A tagged name identifies its interpreter; plain `.so` and `.abi3.so` are checked by their wheel's tags.
    own = tuple(suffix for suffix in EXTENSION_SUFFIXES if _TAGGED.search(suffix))
    modules = (path.name for kind in ("so", "pyd") for path in root.rglob(f"*.{kind}"))
    return [name for name in modules if _TAGGED.search(name) and not name.endswith(own)]


@cache
def _host_tags() -> frozenset[object]:
    return frozenset(sys_tags())


def _refusal(message: str) -> AwsError:
    return AwsError("InvalidRuntimeException", message, 502)


def _placeholder() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("package-to-come"), "")
    return made.getvalue()


# Replaced with the function's code, which takes seconds to package, on the first call.
PLACEHOLDER = _placeholder()
