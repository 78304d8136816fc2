"""Check the rules of this project that no linter knows.

Run as `python -m tools.check_rules [ROOT]`: it exits with 0, or with 1 and one line a violation on standard error.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

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
        "names an absolute path of one machine",
        re.compile(r"(?<![\w.})*-])/(?:root|work|home)/"),
    ),
    ("refers to a folder outside the repository", re.compile(r"\.\./shared(?:/|\b)")),
)

# git keeps every file that was ever committed, and each clone downloads it.
MAX_BYTES = 500_000

DIRECTIVE = re.compile(
    r"#\s*(?:type:\s*ignore(?:\[[\w\-, ]*\])?"
    r"|noqa(?::\s*[A-Z]+\d+(?:\s*,\s*[A-Z]+\d+)*)?"
    r"|pragma:\s*no cover|nosec)"
)
# A time limit of a second or more; a shorter one is meant to expire.
HASTE = re.compile(r"\btimeout=[1-9][\d_.]*|\.(?:wait|join)\([1-9][\d_.]*\)")
REASON = re.compile(r"(?:[A-Za-z]\W*){8}")


def violations(root: Path) -> list[str]:
    """Return `path:line: what` for everything below `root` that breaks a rule, in the order of the paths.

    Raises FileNotFoundError if `root` does not exist.
    """
    found: list[str] = []
    for name in sorted(_files(root)):
        path = root / name
        if path.stat().st_size > MAX_BYTES:
            found.append(f"{name}:1: has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,} are allowed")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if text and (not text.endswith("\n") or text.endswith("\n\n")):
            found.append(f"{name}:{text.count(chr(10)) or 1}: does not end with exactly one newline")
        found += [f"{name}:{line}: {what}" for line, what in _unwanted_texts(text)]
        if path.suffix == ".py":
            found += [f"{name}:{line}: {what}" for line, what in _unreasoned_ignores(text)]
            if name.startswith("tests/"):
                found += [f"{name}:{line}: {what}" for line, what in _hasty_waits(text)]
    return found


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


def _unwanted_texts(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        for what, pattern in TEXT_RULES:
            match = pattern.search(line)
            if match:
                yield number, f"{what}: {match[0]}"


def _unreasoned_ignores(text: str) -> Iterator[tuple[int, str]]:
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (tokenize.TokenError, SyntaxError):
        # The linter reports what is wrong with the file.
        return
    for token in tokens:
        if token.type != tokenize.COMMENT or not DIRECTIVE.search(token.string):
            continue
        if not REASON.search(DIRECTIVE.sub("", token.string)):
            yield token.start[0], f"gives no reason: {token.string}"


def _hasty_waits(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.splitlines(), start=1):
        match = HASTE.search(line)
        if match:
            yield number, f"waits with a limit of its own: {match[0]}; on a busy machine that fails, so use HANG_S"


def main(arguments: list[str]) -> int:
    """Check one tree and print its violations; returns the exit code."""
    root = Path(arguments[0]) if arguments else Path(__file__).resolve().parent.parent
    found = violations(root)
    for line in found:
        print(line, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
