"""The policy scan by checkov and cfn-lint, offline; every exception stands in the file with its reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.infra.fault import Fault, NotRun

_SECONDS = 1800  # against hanging; the slowest takes less than a tenth of it on a quiet machine
_LEFT_OUT = shutil.ignore_patterns(".terraform", "*.tfstate*", "*.tfplan", ".terraform.lock.hcl", ".git")
_SKIP = re.compile(
    r"\b(?:(?:checkov|bridgecrew):skip|(?:tfsec|trivy|kics|tflint)[:-]\s?ignore|nosec)\b.*", re.IGNORECASE
)
# In JSON, which has no comments, it is a string below `metadata.checkov` of the resource.
_GOOD_SKIP = re.compile(r"""[#"]\s*checkov:skip=(CKV2?_[A-Z]+_\d+):\s*(\S+(?:\s+\S+){3,}?)(?:",?)?$""")
_GLOBAL = (".checkov.yaml", ".checkov.yml", ".checkov.baseline", ".tfsec", ".trivyignore", ".tflint.hcl", ".cfnlintrc")


def skip_faults(infra: Path) -> Iterator[Fault]:
    """Yield exceptions without a reason of some words, and lists of exceptions outside the files they are for."""
    for name in _GLOBAL:
        for path in [*infra.rglob(name), *infra.parent.glob(name)]:
            yield Fault(path, 1, "excepts everything at once; write each exception where it applies, with its reason")
    for path, number, line in _lines(infra):
        found = _SKIP.search(line)
        if found and not _GOOD_SKIP.search(line.rstrip()):
            what = f"write the exception as #checkov:skip=CKV_X_1: why it is right here; this is {found[0].strip()}"
            yield Fault(path, number, what)


def checkov_faults(infra: Path, command: Path) -> Iterator[Fault]:
    """Yield what checkov finds, exceptions of nothing, and files it could not read; raises NotRun without it."""
    if not command.exists():
        raise NotRun("checkov is not installed; remove .venv/infra-check and run make check-infra with a network")
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch).resolve() / "infra"
        shutil.copytree(infra, copy, ignore=_LEFT_OUT)
        reports = _checkov(command, copy)
    # A module is seen once by itself and once for each example.
    seen: set[tuple[str, str, int]] = set()
    used: set[tuple[str, str]] = set()
    for report in reports:
        results = report["results"]
        for name in results.get("parsing_errors") or []:
            yield Fault(infra / Path(name).relative_to(copy), 1, "checkov cannot read it, so nothing in it was scanned")
        for skipped in results["skipped_checks"]:
            used.add((skipped["file_path"], skipped["check_id"]))
        for failed in results["failed_checks"]:
            key = (failed["file_path"], failed["check_id"], failed["file_line_range"][0])
            if key not in seen:
                seen.add(key)
                what = f"{failed['check_id']}: {failed['check_name']} ({failed['resource'].rpartition('module.')[2]})"
                yield Fault(infra / failed["file_path"].lstrip("/"), failed["file_line_range"][0], what)
    for path, number, line in _lines(infra):
        found = _GOOD_SKIP.search(line.rstrip())
        if found and ("/" + path.relative_to(infra).as_posix(), found[1]) not in used:
            yield Fault(path, number, f"the exception {found[1]} excepts nothing; take it out")


def template_faults(infra: Path, command: Path) -> Iterator[Fault]:
    """Yield what cfn-lint says of the CloudFormation templates below `infra`; raises NotRun where there is none."""
    templates = [
        path
        for path in sorted(infra.rglob("*"))
        if path.suffix in {".yaml", ".yml", ".json", ".template"}
        and ".terraform" not in path.parts
        and "AWSTemplateFormatVersion" in path.read_text(encoding="utf-8")
    ]
    if not templates:
        raise NotRun("there is no CloudFormation template")
    if not command.exists():
        raise NotRun("cfn-lint is not installed; run make venv")
    done = subprocess.run(
        [str(command), "--format", "json", *map(str, templates)],
        cwd=infra, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    for found in json.loads(done.stdout or "[]"):
        where = found["Location"]["Start"]["LineNumber"]
        yield Fault(Path(found["Filename"]), where, f"cfn-lint {found['Rule']['Id']}: {found['Message']}")


def _checkov(command: Path, copy: Path) -> list[dict[str, Any]]:
    # Neither an operator's settings nor a platform's key may decide what is scanned, and nothing is fetched.
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(copy.parent), "LOG_LEVEL": "ERROR"}
    options = ["--framework", "terraform", "cloudformation", "arm", "--skip-download", "--compact", "--output", "json"]
    done = subprocess.run(
        [str(command), "--directory", str(copy), *options],
        cwd=copy.parent, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    try:
        said = json.loads(done.stdout)
    except ValueError:
        raise NotRun(f"checkov ended with {done.returncode}: {done.stderr.strip()[-300:]}") from None
    reports = said if isinstance(said, list) else [said]
    # With nothing to scan it reports the counts alone.
    return [report for report in reports if "results" in report]


def _lines(infra: Path) -> Iterator[tuple[Path, int, str]]:
    kinds = {".tf", ".yaml", ".yml", ".json"}
    for path in sorted(path for path in infra.rglob("*") if path.suffix in kinds and path.is_file()):
        if ".terraform" not in path.parts:
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                yield path, number, line
