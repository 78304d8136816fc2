"""Rules of this project that no linter knows; every violation is named at once.

Run as `python -m tools.check_rules [ROOT]`: it ends with 0 where all is well, else
with 1 and one line a violation on stderr.
"""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

CLOUD_FOLDERS = ("aws_lambda", "azure_function", "gcp_function")
# The same port in all three, so the same file name.
CORE_MODULES = (
    "handler",
    "settings",
    "clients",
    "errors",
    "scopes",
    "targets",
    "provider",
    "state_store",
    "manual_steps",
)

# Written as expressions that do not match themselves, since this file is checked like any other.
TEXT_RULES: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "names a package index; pins and hashes are enough",
        re.compile(
            r"pypi\.org|files\.pythonhosted\.org|registry\.npmjs\.org"
            r"|--(?:extra-)?index-url|--find-links[ =]|--trusted[-]host|\"resolved\":\s*\"http"
        ),
    ),
    (
        "names an absolute path of somebody's machine",
        re.compile(r"(?<![\w.})*-])/(?:root|work|home)/"),
    ),
    ("refers to a folder outside the repository", re.compile(r"\.\./shared(?:/|\b)")),
)

# What git keeps for good and every clone pays for.
MAX_BYTES = 500_000

DIRECTIVE = re.compile(
    r"#\s*(?:type:\s*ignore(?:\[[\w\-, ]*\])?"
    r"|noqa(?::\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?"
    r"|pragma:\s*no cover|nosec)"
)
# A number of seconds, from one on: a shorter one is meant to run out.
HASTE = re.compile(r"\btimeout=[1-9][\d_.]*|\.(?:wait|join)\([1-9][\d_.]*\)")
REASON = re.compile(r"(?:[A-Za-z]\W*){8}")


def violations(root: Path) -> list[str]:
    """Return `path:line: what` for everything below `root` that breaks a rule, in the order of the paths.

    Raises FileNotFoundError if `root` does not exist.
    """
    found: list[str] = []
    names = sorted(_files(root))
    for name in names:
        path = root / name
        if path.stat().st_size > MAX_BYTES:
            found.append(f"{name}:1: has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are allowed")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            found.append(f"{name}:{text.count(chr(10)) or 1}: does not end with exactly one newline")
        found += [f"{name}:{line}: {what}" for line, what in _text_faults(text)]
        if path.suffix == ".py":
            found += [f"{name}:{line}: {what}" for line, what in _unreasoned_ignores(text)]
            if name.startswith("tests/"):
                found += [f"{name}:{line}: {what}" for line, what in (*_silent_tests(text), *_hasty_waits(text))]
    return found + _missing_core(names) + _missing_contracts(root, names)


def _files(root: Path) -> Iterator[str]:
    """Yield what is tracked or could be: in a checkout by git, elsewhere everything but hidden folders."""
    if (root / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
        ).stdout.decode()
        # A file that was deleted and not yet committed is still listed.
        yield from (name for name in listed.split("\0") if name and (root / name).is_file())
        return
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        yield from ((Path(folder) / name).relative_to(root).as_posix() for name in files)


def _text_faults(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in TEXT_RULES:
            match = pattern.search(line)
            if match:
                yield number, f"{what}: {match[0]}"


def _unreasoned_ignores(text: str) -> Iterator[tuple[int, str]]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        # The linter says what is wrong with the file.
        return
    for token in tokens:
        if token.type != tokenize.COMMENT or not DIRECTIVE.search(token.string):
            continue
        if not REASON.search(DIRECTIVE.sub("", token.string)):
            yield token.start[0], f"gives no reason: {token.string}"


def _silent_tests(text: str) -> Iterator[tuple[int, str]]:
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and not ast.get_docstring(node)
        ):
            yield node.lineno, f"{node.name} does not say which behavior it proves; give it a docstring"


def _hasty_waits(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = HASTE.search(line)
        if match:
            yield number, f"waits with a limit of its own: {match[0]}; on a busy machine that fails, so use HANG_S"


def _missing_core(names: Iterable[str]) -> list[str]:
    """Name the modules of the fixed core that a cloud folder lacks; all others are named after what they hold."""
    present = set(names)
    folders = sorted({name.partition("/")[0] for name in present if name.endswith(".py")} & set(CLOUD_FOLDERS))
    return [
        f"{folder}/{module}.py:1: is missing; every cloud folder has it"
        for folder in folders
        for module in CORE_MODULES
        if f"{folder}/{module}.py" not in present
    ]


def _missing_contracts(root: Path, names: Iterable[str]) -> list[str]:
    """Name the cloud folders that no import contract holds back."""
    present = {name.partition("/")[0] for name in names if name.endswith(".py")} & set(CLOUD_FOLDERS)
    project = root / "pyproject.toml"
    if not present or not project.exists():
        return []
    settings = tomllib.loads(project.read_text(encoding="utf-8")).get("tool", {}).get("importlinter", {})
    held = {source for contract in settings.get("contracts", []) for source in contract.get("source_modules", [])}
    return [f"pyproject.toml:1: {folder} has no import contract" for folder in sorted(present - held)]


def main(arguments: list[str]) -> int:
    """Check one tree and say what is wrong with it; returns the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = violations(root)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
