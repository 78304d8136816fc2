"""checkov and cfn-lint report nothing for `infra/`, and each exception has a reason next to the code."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.limits import HANG_S

BIN = Path(sys.executable).parent
CHECKOV = Path(sys.prefix) / "infra-check" / "bin" / "checkov"
IGNORED = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfplan", ".terraform.lock.hcl")
# Concatenated, so that this file contains no exception.
SKIP = "checkov" + ":skip"
EXCEPTION = re.compile(
    r"(?:checkov|bridgecrew)[:]skip|(?:tfsec|trivy|kics|tflint)[:-]\s?ignore|\bnosec\b", re.IGNORECASE
)
# JSON has no comments; there, an exception is a string in `metadata.checkov` of the resource.
REASONED = re.compile(rf'[#"]\s*{SKIP}=(?P<check>CKV2?_[A-Z]+_\d+):\s*\S+(?:\s+\S+){{3,}}')
EXCEPT_EVERYTHING = (".checkov.yaml", ".checkov.yml", ".checkov.baseline", ".tfsec", ".trivyignore", ".cfnlintrc")


def exceptions(infra: Path) -> Iterator[tuple[str, str]]:
    """Yield file and check of each exception; the check is "" if the exception has no reason."""
    made = {".terraform", "__pycache__"}
    for path in sorted(path for path in infra.rglob("*") if path.is_file() and not made & set(path.parts)):
        if path.name in EXCEPT_EVERYTHING:
            yield path.name, ""
        for line in path.read_text(encoding="utf-8").splitlines():
            if EXCEPTION.search(line):
                found = REASONED.search(line)
                yield f"/{path.relative_to(infra).as_posix()}", found["check"] if found else ""


def scan(command: Path, infra: Path, scratch: Path) -> list[dict[str, Any]]:
    """Return the results of checkov's frameworks; raise ValueError if it prints no report.

    The scan uses no configuration or API key of the user, and downloads nothing.
    """
    copy = shutil.copytree(infra, scratch.resolve() / "infra", ignore=IGNORED)
    options = ["--framework", "terraform", "cloudformation", "arm", "--skip-download", "--compact", "--output", "json"]
    done = subprocess.run(
        [str(command), "--directory", str(copy), *options],
        cwd=scratch, env={"PATH": os.environ["PATH"], "HOME": str(scratch), "LOG_LEVEL": "ERROR"},
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    reports = json.loads(done.stdout)
    return [report["results"] for report in (reports if isinstance(reports, list) else [reports])]


@pytest.mark.slow
def test_checkov_reports_no_violations(repository: Path, tmp_path: Path) -> None:
    """Every check passes, every file is parsed, and every exception is still needed."""
    if not CHECKOV.exists():
        pytest.skip("checkov is not installed; tools/setup.sh check installs it")
    reports = scan(CHECKOV, repository / "infra", tmp_path)

    failed = {(one["file_path"], one["check_id"], one["resource"]) for each in reports for one in each["failed_checks"]}
    assert failed == set()
    assert [name for each in reports for name in each.get("parsing_errors") or []] == []
    used = {(one["file_path"], one["check_id"]) for each in reports for one in each["skipped_checks"]}
    assert set(exceptions(repository / "infra")) - used == set()


def test_scan_without_a_report_fails(tmp_path: Path) -> None:
    """A failed scanner does not count as a passed check."""
    broken = tmp_path / "checkov"
    broken.write_text("#!/bin/sh\necho no >&2\nexit 2\n", encoding="utf-8")
    broken.chmod(0o755)
    (tmp_path / "modules").mkdir()
    with pytest.raises(ValueError, match="Expecting value"):
        scan(broken, tmp_path / "modules", tmp_path)


def test_every_exception_has_a_reason(repository: Path) -> None:
    """Each names one check and has a reason; none applies to whole files or all resources."""
    found = list(exceptions(repository / "infra"))
    assert len(found) > 10
    assert [file for file, check in found if not check] == []


@pytest.mark.parametrize(
    ("name", "text", "check"),
    [
        ("a.tf", f"#{SKIP}=CKV_AWS_18: the trail already has these events\n", "CKV_AWS_18"),
        ("a.json", f'"{SKIP}=CKV_AZURE_1: the platform does it anyway"\n', "CKV_AZURE_1"),
        ("a.tf", f"#{SKIP}=CKV_AWS_18\n", ""),
        ("a.tf", f"#{SKIP}=CKV_AWS_18: not needed\n", ""),
        ("a.tf", "# tf" + "sec:ignore:aws-s3\n", ""),
        (".checkov.yaml", "skip-check: [CKV_AWS_18]\n", ""),
    ],
)
def test_invalid_exception_is_reported(tmp_path: Path, name: str, text: str, check: str) -> None:
    """An exception without a reason, for another scanner, or in a global configuration is reported."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert [found for _, found in exceptions(tmp_path)] == [check]


@pytest.mark.slow
def test_templates_are_valid(repository: Path, tmp_path: Path) -> None:
    """cfn-lint accepts each CloudFormation template, and reports a property that does not exist."""
    templates = [
        path for path in (repository / "infra" / "aws").glob("*.yaml") if "AWSTemplateFormatVersion" in path.read_text()
    ]
    names = ["child-connector.yaml", "home-events.yaml", "template.yaml", "tenant-role.yaml"]
    assert sorted(path.name for path in templates) == names
    wrong = tmp_path / "wrong.yaml"
    child = repository / "infra" / "aws" / "child-connector.yaml"
    wrong.write_text(child.read_text().replace("Properties:\n", "Properties:\n      Nonsense: 1\n", 1))
    command = BIN / "cfn-lint"
    if not command.exists():
        pytest.skip("cfn-lint is not installed; tools/setup.sh check installs it")
    done = subprocess.run(
        [str(command), "--format", "json", *map(str, templates), str(wrong)],
        capture_output=True, text=True, timeout=HANG_S, check=False,
    )  # fmt: skip
    found = {(Path(one["Filename"]).name, "Nonsense" in one["Message"]) for one in json.loads(done.stdout)}
    assert found == {("wrong.yaml", True)}
