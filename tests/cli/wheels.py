"""A small checkout with wheels of its own, so that packaging can be proved without a package index."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZipFile, ZipInfo

HANDLER = "from shared import used\n\n\ndef handler():\n    from shared.later import value\n\n    return used, value\n"
SOURCES = {
    "aws_lambda/__init__.py": "",
    "aws_lambda/handler.py": HANDLER,
    "aws_lambda/forgotten.py": "",
    "shared/__init__.py": "",
    "shared/used.py": "import json\n",
    "shared/later.py": "value = 1\n",
    "shared/forgotten.py": "",
    "LICENSE": "as you like\n",
}


@dataclass
class Checkout:
    """A checkout whose AWS function has whatever requirements it is given."""

    root: Path
    hashes: dict[str, str] = field(default_factory=dict)

    @property
    def wheels(self) -> Path:
        return self.root / "wheels"

    def write(self, name: str, text: str) -> None:
        """Write one file below the root."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def wheel(
        self,
        name: str,
        files: Mapping[str, str] | None = None,
        requires: Sequence[str] = (),
        tag: str = "py3-none-any",
        version: str = "1.0",
    ) -> None:
        """Make a wheel of one distribution; unless given, it holds one module of its name."""
        self.wheels.mkdir(exist_ok=True)
        path = self.wheels / f"{name}-{version}-{tag}.whl"
        info = f"{name}-{version}.dist-info"
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
        lines += [f"Requires-Dist: {one}" for one in requires]
        contents = {
            **({f"{name}.py": f"name = {name!r}\n"} if files is None else files),
            f"{info}/METADATA": "\n".join(lines) + "\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
            f"{info}/licenses/LICENSE": "as you like\n",
        }
        contents[f"{info}/RECORD"] = "".join(f"{file},,\n" for file in (*contents, f"{info}/RECORD"))
        with ZipFile(path, "w") as archive:
            for file, text in contents.items():
                archive.writestr(ZipInfo(file), text)  # a wheel made later has the same hash
        self.hashes[f"{name}=={version}"] = hashlib.sha256(path.read_bytes()).hexdigest()

    def lock(self, pinned: Sequence[str], hashes: Mapping[str, str] | None = None) -> None:
        """Write the function's lock: the pins, each perhaps with a marker, and their hashes."""
        known = {**self.hashes, **(hashes or {})}
        blocks = [f"{one} \\\n    --hash=sha256:{known[one.split()[0]]}\n    # via somebody\n" for one in pinned]
        self.write("requirements/aws_lambda.txt", "# locked\n" + "".join(blocks))


def checkout(root: Path) -> Checkout:
    """Return a checkout without any requirement but one, `alpha`, that has a wheel for every platform."""
    made = Checkout(root)
    for name, text in SOURCES.items():
        made.write(name, text)
    made.wheel("alpha")
    made.lock(["alpha==1.0"])
    return made
