"""What a build adds to the declarations in pyproject.toml: the files beside the code, and the commit."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))  # a build front end does not

from tailpipe_exports import BAKED, CARRIED, commit  # noqa: E402 - the path has to be set before

PACKAGE = "tailpipe_exports"
# An allowlist: what Terraform leaves in a folder, its state above all, may hold secrets.
PATTERNS = (
    "LICENSE",
    "docs/runbook.md",
    "requirements/aws_lambda.txt",
    "requirements/*_function.txt",
    *(f"infra/**/*{suffix}" for suffix in (".tf", ".yaml", ".json", ".filter", ".py", ".sh", ".md")),
)
SECRET = (".tfvars", ".tfstate")


def carried() -> Iterator[Path]:
    """Yield the files beside the code that are needed without a checkout, relative to the root."""
    for pattern in PATTERNS:
        for path in sorted(HERE.glob(pattern)):
            name = path.relative_to(HERE)
            hidden = any(part.startswith(".") for part in name.parts)
            if path.is_file() and not hidden and not any(one in path.name for one in SECRET):
                yield name


def bake_commit(folder: Path) -> None:
    """Write the commit into a package that is built."""
    (folder / BAKED).write_text(f"{commit()}\n", encoding="utf-8")


class BuildPackages(build_py):  # type: ignore[misc] # types-setuptools is not among what the checks install
    """Copies the files beside the code into the wheel; an editable installation finds them in the checkout."""

    def run(self) -> None:
        """Build from nothing: a module that was deleted since the last build would be packed again."""
        if self.editable_mode:
            super().run()
            return
        shutil.rmtree(self.build_lib, ignore_errors=True)
        super().run()
        package = Path(self.build_lib, PACKAGE)
        for name in carried():
            target = package / CARRIED / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(HERE / name, target)
            target.chmod(0o755 if name.suffix == ".sh" else 0o644)
        bake_commit(package)


class SourceDistribution(sdist):  # type: ignore[misc] # the same as above: setuptools has no types here
    """Holds what the wheel is built from, and the commit, which an archive has no repository to ask for."""

    def make_release_tree(self, base_dir: str, files: list[str]) -> None:
        """Add the files; of the tests setuptools would take a few that do not run without the others."""
        kept = {name for name in files if not name.startswith("tests/")}
        super().make_release_tree(base_dir, sorted(kept | {name.as_posix() for name in carried()}))
        bake_commit(Path(base_dir, PACKAGE))


setup(cmdclass={"build_py": BuildPackages, "sdist": SourceDistribution})
