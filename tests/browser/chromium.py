"""Control an installed Chromium with packages that are installed from their lock file when needed."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def look(page: str, folder: Path, script: str = "look.cjs") -> dict[str, Any]:
    """Return what a script measured on a page; page and screenshots stay in `folder`."""
    if CHROMIUM is None:
        raise FileNotFoundError("no Chromium is installed")
    if not (HERE / "node_modules").is_dir():
        subprocess.run(["npm", "ci", "--silent"], cwd=HERE, check=True, capture_output=True)
    file = folder / "page.html"
    file.write_text(page, encoding="utf-8")
    done = subprocess.run(
        ["node", script, CHROMIUM, file.as_uri(), str(folder)], cwd=HERE, check=True, capture_output=True, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
