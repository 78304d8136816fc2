"""The workflows run targets of the Makefile, have time limits, and keep their measurements.

`make check` runs zizmor, which detects insecure workflows: permissions, unpinned actions, credentials, injection.
"""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import tomllib
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.limits import HANG_S

PINNED = re.compile(r"uses: (?P<action>[\w./-]+)@(?P<commit>[0-9a-f]{40}) # (?P<release>v\d+\.\d+\.\d+)$", re.MULTILINE)
LONGEST_MINUTES = 120


@pytest.fixture(scope="module")
def workflows(repository: Path) -> dict[str, Any]:
    """Return every workflow by its file name."""
    folder = repository / ".github" / "workflows"
    return {path.name: yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.yml"))}


def jobs(workflows: dict[str, Any]) -> dict[str, Any]:
    """Return every job with steps, by workflow and name."""
    return {
        f"{file} {name}": job
        for file, workflow in workflows.items()
        for name, job in workflow["jobs"].items()
        if "steps" in job
    }


def test_every_job_has_a_time_limit(workflows: dict[str, Any]) -> None:
    """GitHub's default is six hours."""
    found = jobs(workflows)
    assert {"ci.yml check", "ci.yml test", "release.yml build"} <= set(found)
    minutes = {name: job.get("timeout-minutes", 0) for name, job in found.items()}
    assert {name: limit for name, limit in minutes.items() if not 1 <= limit <= LONGEST_MINUTES} == {}


def test_every_make_target_in_a_workflow_exists(repository: Path, workflows: dict[str, Any]) -> None:
    """A `make` in a workflow names a target of the Makefile."""
    targets = set(re.findall(r"^([a-z-]+):.*## ", (repository / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    steps = [step.get("run", "") for job in jobs(workflows).values() for step in job["steps"]]
    run = {target for step in steps for target in re.findall(r"\bmake ([a-z-]+)", step)}
    proofs = {"coverage", "crash", "hostile", "mutants", "simulate", "soak", "test", "test-all"}
    assert run == proofs | {"bench", "check", "dist"}
    assert run - targets == set()


def test_matrix_starts_with_the_oldest_supported_python(repository: Path, workflows: dict[str, Any]) -> None:
    """The tests run on the version that pyproject.toml requires and on every later one."""
    matrix = workflows["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert f'requires-python = ">={matrix[0]}"' in (repository / "pyproject.toml").read_text(encoding="utf-8")
    minors = [int(version.partition(".")[2]) for version in matrix]
    assert minors == list(range(minors[0], minors[-1] + 1))


def test_action_is_pinned_to_one_release_everywhere(repository: Path, workflows: dict[str, Any]) -> None:
    """Every action is pinned by commit, with its release in a comment."""
    text = "".join((repository / ".github" / "workflows" / name).read_text(encoding="utf-8") for name in workflows)
    pinned: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for one in PINNED.finditer(text):
        pinned[one["action"]].add((one["commit"], one["release"]))
    assert len(PINNED.findall(text)) == len(re.findall(r"uses: (?!\$/)", text))
    assert {action: found for action, found in pinned.items() if len(found) > 1} == {}


def test_job_with_write_permission_runs_no_code_of_the_repository(workflows: dict[str, Any]) -> None:
    """A job that may write neither checks out the repository nor runs a target."""
    writing = {name: job for name, job in jobs(workflows).items() if "write" in job["permissions"].values()}
    assert set(writing) == {"ci.yml bench-history", "release.yml publish"}
    for job in writing.values():
        assert not any("checkout" in step.get("uses", "") or "make " in step.get("run", "") for step in job["steps"])


def test_measurements_are_appended_to_the_history(workflows: dict[str, Any], tmp_path: Path) -> None:
    """The first run creates the branch and later ones append; each line has its commit and time."""
    script = workflows["ci.yml"]["jobs"]["bench-history"]["steps"][-1]["run"]
    remote = tmp_path / "owner" / "repository"
    subprocess.run(["git", "init", "-q", "--bare", str(remote)], check=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gh").write_text("#!/bin/sh\n[ \"$*\" = 'auth setup-git' ]\n", encoding="utf-8")
    (tmp_path / "bin" / "gh").chmod(0o755)
    environment = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "GITHUB_SERVER_URL": str(tmp_path),
        "GITHUB_REPOSITORY": "owner/repository",
    }
    commits = ["a" * 40, "b" * 40]
    for commit, value in zip(commits, (1.5, 2.5), strict=True):
        runner = tmp_path / commit[0]
        runner.mkdir()
        (runner / "bench.jsonl").write_text(json.dumps({"measure": "m", "value": value}) + "\n", encoding="utf-8")
        command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
        done = subprocess.run(
            command,
            cwd=runner,
            env=environment | {"GITHUB_SHA": commit},
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    show = ["git", "-C", str(remote), "show", "bench-history:history.jsonl"]
    lines = subprocess.run(show, capture_output=True, text=True, check=True).stdout.splitlines()
    kept = [json.loads(line) for line in lines]
    assert [(one["commit"], one["measure"], one["value"]) for one in kept] == [
        (commits[0], "m", 1.5),
        (commits[1], "m", 2.5),
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", one["at"]) for one in kept)


def test_editor_and_formatter_have_the_same_line_length(repository: Path) -> None:
    """.editorconfig and ruff agree for Python."""
    editor = configparser.ConfigParser()
    editor.read_string("[top]\n" + (repository / ".editorconfig").read_text(encoding="utf-8"))
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))
    assert editor.getint("*.py", "max_line_length") == project["tool"]["ruff"]["line-length"]
