"""Exceptions have reasons and except something, and what the scanners find is told where it is."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.infra.support import said, write
from tools.infra import scan
from tools.infra.fault import NotRun

# Put together here, so that this file is no exception itself.
SKIP = "checkov" + ":skip"
IGNORE = "tf" + "sec:ignore:aws-s3"


@pytest.mark.parametrize(
    ("name", "text", "good"),
    [
        ("a.tf", f"#{SKIP}=CKV_AWS_18: the trail already has these events\n", True),
        ("a.tf", f"#{SKIP}=CKV_AWS_18\n", False),
        ("a.tf", f"#{SKIP}=CKV_AWS_18: not needed\n", False),
        ("a.tf", f"#{SKIP}=CKV2_AZURE_1: keys of their own are an option\n", True),
        ("a.tf", f"# {IGNORE}\n", False),
        ("a.json", f'{{"metadata": {{"checkov": [\n"{SKIP}=CKV_AZURE_1: the platform does it anyway"\n]}}}}', True),
        ("a.json", f'"{SKIP}=CKV_AZURE_1"\n', False),
        ("a.tf", "# checkov is run by make check-infra\n", True),
        (".checkov.yaml", "skip-check: [CKV_AWS_18]\n", False),
        ("aws/.checkov.baseline", "{}\n", False),
    ],
)
def test_an_exception_stands_where_it_applies_with_its_reason(tmp_path: Path, name: str, text: str, good: bool) -> None:
    """An exception without some words of reason is a fault, and so is a list of them beside the files."""
    assert (said(scan.skip_faults(write(tmp_path / "infra", {name: text}))) == []) is good


def scanner(folder: Path, report: dict[str, Any], *, parsing_errors: list[str] | None = None) -> Path:
    """A stand-in that prints a report as checkov does; a file it cannot read is named by its path in the copy."""
    path = folder / "checkov"
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, sys\n"
        f"report = {report!r}\n"
        "place = sys.argv[sys.argv.index('--directory') + 1]\n"
        "assert '--skip-download' in sys.argv\n"
        f"report['results']['parsing_errors'] = [place + name for name in {parsing_errors or []!r}]\n"
        "print(json.dumps(report))\n",
        encoding="utf-8",
    )
    path.chmod(0o755)
    return path


def result(check: str, line: int) -> dict[str, Any]:
    """One check's result as checkov writes it."""
    return {
        "check_id": check,
        "check_name": "Ensure something",
        "file_path": "/aws/a.tf",
        "file_line_range": [line, line + 5],
        "resource": "module.x.aws_thing.a",
    }


def test_what_the_scanner_finds_is_told_once(tmp_path: Path) -> None:
    """A module that two examples call is found twice and told once, at its own line."""
    infra = write(tmp_path / "infra", {"aws/a.tf": "\n"})
    report = {"results": {"failed_checks": [result("CKV_AWS_1", 3), result("CKV_AWS_1", 3)], "skipped_checks": []}}

    assert said(scan.checkov_faults(infra, scanner(tmp_path, report))) == [
        "3: CKV_AWS_1: Ensure something (x.aws_thing.a)"
    ]


def test_an_exception_of_nothing_and_an_unread_file_are_told(tmp_path: Path) -> None:
    """A scan that could not see a file is not taken for a clean one, and a stale exception does not stay."""
    reason = "the trail already has these events"
    infra = write(tmp_path / "infra", {"aws/a.tf": f"#{SKIP}=CKV_AWS_1: {reason}\n#{SKIP}=CKV_AWS_2: {reason}\n"})
    report = {"results": {"failed_checks": [], "skipped_checks": [result("CKV_AWS_1", 1)]}}

    assert said(scan.checkov_faults(infra, scanner(tmp_path, report, parsing_errors=["/aws/a.tf"]))) == [
        "1: checkov cannot read it, so nothing in it was scanned",
        "2: the exception CKV_AWS_2 excepts nothing; take it out",
    ]


def test_a_scanner_that_is_missing_or_breaks_is_no_clean_scan(tmp_path: Path) -> None:
    """Without a report there is nothing to call ok."""
    infra = write(tmp_path / "infra", {"aws/a.tf": "\n"})
    broken = tmp_path / "checkov"
    with pytest.raises(NotRun, match="not installed"):
        list(scan.checkov_faults(infra, broken))
    broken.write_text("#!/bin/sh\necho no >&2\nexit 2\n", encoding="utf-8")
    broken.chmod(0o755)
    with pytest.raises(NotRun, match="ended with 2: no"):
        list(scan.checkov_faults(infra, broken))


def test_templates_are_linted(tmp_path: Path) -> None:
    """A CloudFormation template with a property that does not exist is told at its line."""
    template = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Resources": {"Role": {"Type": "AWS::IAM::Role", "Properties": {"Nonsense": 1}}},
    }
    infra = write(tmp_path / "infra", {"aws/a.yaml": "x: 1\n", "aws/t.json": json.dumps(template, indent=1)})
    found = said(scan.template_faults(infra, Path(sys.executable).parent / "cfn-lint"))

    assert any("Nonsense" in fault for fault in found), found
    with pytest.raises(NotRun, match="no CloudFormation template"):
        list(scan.template_faults(write(tmp_path / "other", {"a.tf": ""}), Path("cfn-lint")))
