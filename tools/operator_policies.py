"""The operator's policy documents for AWS, made from infra/aws/operator.yaml.

Run as `python -m tools.operator_policies` it writes them; with `--check` it only says which are out of date.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).resolve().parent.parent / "infra" / "aws"
SOURCE = "operator.yaml"


def documents(folder: Path = FOLDER) -> dict[str, str]:
    """Return each document's text by its file name."""
    source = yaml.safe_load((folder / SOURCE).read_text(encoding="utf-8"))
    return {f"operator-{purpose}-policy.json": _document(grants) for purpose, grants in source.items()}


def _document(grants: list[dict[str, Any]]) -> str:
    statements = [
        {"Sid": one["id"], "Effect": "Allow", "Action": one["actions"], "Resource": one["resources"]} for one in grants
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statements}, indent=2) + "\n"


def stale(folder: Path = FOLDER) -> list[str]:
    """Return the names of the documents that are not what the source says."""
    return [name for name, text in documents(folder).items() if _read(folder / name) != text]


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def main(arguments: list[str]) -> int:
    """Write or check the documents; returns the exit code."""
    if "--check" in arguments:
        for name in stale():
            print(f"infra/aws/{name} is out of date; run python -m tools.operator_policies")
        return 1 if stale() else 0
    for name, text in documents().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
