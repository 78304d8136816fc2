"""The files beside the code that a wheel carries."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path


def test_a_wheel_carries_every_kind_of_file_that_infra_has(repository: Path) -> None:
    """Terraform and the local clouds read them where no checkout is; a new kind of file has to be allowed by name."""
    allowed = set(
        re.findall(r'"(\.\w+)"', (repository / "setup.py").read_text(encoding="utf-8").partition("SECRET")[0])
    )
    listed = subprocess.run(["git", "ls-files", "infra"], cwd=repository, capture_output=True, text=True, check=True)
    files = [
        Path(line) for line in listed.stdout.splitlines() if not any(one.startswith(".") for one in Path(line).parts)
    ]
    assert files
    assert {path.suffix for path in files} <= allowed
