"""Terraform as a child process: its diagnostics become problems, and its plans become changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.model import OperatorError
from cli.deployment.terraform.binary import Plan, Terraform, changes_of, find
from tests.cli.support.terraform_double import TerraformDouble, change

BOXES = """
╷
│ Warning: Value for undeclared variable
│
│ The root module does not declare a variable named "x".
╵
╷
│ Error: Invalid value for variable
│
│   on main.tf.json line 12, in module.tailpipe:
│   12:       "environment": "${var.environment}"
│
│ environment is "prod" or "uat".
╵
╷
│ Error: Invalid value for input variable
│
│   on main.tf.json line 13, in module.tailpipe:
│   13:       "accounts": "${var.accounts}",
│
│ The given value is not suitable for module.tailpipe.var.accounts
│ declared at rules/variables.tf:88,1-28: list of string required.
╵
╷
│ Error: Invalid value for input variable
│
│   on main.tf.json line 14, in module.tailpipe:
│   14:       "memory_mb": "${var.memory_mb}",
│
│ The given value is not suitable for module.tailpipe.var.memory_mb
│ declared at rules/variables.tf:99,1-28: a number is required.
╵
╷
│ Error: No valid credential sources found
│
│ Please see the documentation.
╵
"""


@pytest.fixture
def double(tmp_path: Path) -> TerraformDouble:
    """Return a Terraform double."""
    return TerraformDouble(tmp_path / "bin")


def terraform(double: TerraformDouble, tmp_path: Path, environment: dict[str, str] | None = None) -> Terraform:
    """Return Terraform with the double as its binary, in its own folder."""
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return Terraform(str(double.folder / "terraform"), folder, environment or {})


def test_terraform_is_preferred_to_opentofu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTofu alone is sufficient."""
    for name in ("tofu", "terraform"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find() == str(tmp_path / name)


def test_missing_binary_is_reported_with_where_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names both."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match="neither terraform nor tofu") as caught:
        find()
    assert "opentofu.org" in caught.value.problems[0].remedy
    assert "1.5" in caught.value.problems[0].remedy


@pytest.mark.parametrize("told", ['{"terraform_version": "1.4.7"}', '{"terraform_version": "0.15.0"}', "{}"])
def test_unsupported_version_is_refused(double: TerraformDouble, tmp_path: Path, told: str) -> None:
    """The message has the version to install; output without a version is refused too."""
    double.answer("version", told)
    with pytest.raises(OperatorError, match=r"is version (1\.4\.7|0\.15\.0|unknown)") as caught:
        terraform(double, tmp_path).version()
    assert "1.5" in caught.value.problems[0].remedy


@pytest.mark.parametrize(
    ("told", "version"), [("1.5.0", (1, 5)), ("1.11.4", (1, 11)), ("1.10.0-beta1", (1, 10)), ("2.0.1", (2, 0))]
)
def test_versions_are_compared_as_numbers(
    double: TerraformDouble, tmp_path: Path, told: str, version: tuple[int, int]
) -> None:
    """Major and minor are sufficient."""
    double.answer("version", json.dumps({"terraform_version": told}))
    assert terraform(double, tmp_path).version() == version


def test_each_error_diagnostic_is_one_problem(double: TerraformDouble, tmp_path: Path) -> None:
    """Frames are removed, warnings with their details are ignored, and a refused value is named with what to write."""
    double.answer("plan", err=BOXES, code=1)
    with pytest.raises(OperatorError) as caught:
        terraform(double, tmp_path).plan()
    assert [(one.what, one.remedy) for one in caught.value.problems] == [
        ("environment is refused", 'environment is "prod" or "uat".'),
        ("accounts is refused", "Write it as a list of string."),
        ("memory_mb is refused", "Write it as a number."),
        ("No valid credential sources found. Please see the documentation.", ""),
    ]


def test_failure_without_a_diagnostic_shows_the_last_lines(double: TerraformDouble, tmp_path: Path) -> None:
    """This is the case for a crash."""
    double.answer("init", err="\n".join(f"line {number}" for number in range(100)), code=2)
    with pytest.raises(OperatorError) as caught:
        terraform(double, tmp_path).init()
    crash, hint = caught.value.problems
    assert crash.what.startswith("terraform init: line 60 ")
    assert crash.what.endswith("line 99")
    assert "mirror" in hint.remedy


def test_saved_plan_is_read_with_its_changes(double: TerraformDouble, tmp_path: Path) -> None:
    """The plan is in the working folder and is shown as JSON."""
    double.plan([change("aws_s3_bucket.exports", bucket="one")])
    ready = terraform(double, tmp_path)
    (tmp_path / "work" / "main.tf.json").write_text('{"module": {"tailpipe": {}}}', encoding="utf-8")
    plan = ready.plan()
    assert (plan.file, plan.empty) == (tmp_path / "work" / "plan.bin", False)
    (only,) = plan.changes
    assert (only.address, only.type, only.after) == (
        "module.tailpipe.aws_s3_bucket.exports",
        "aws_s3_bucket",
        {"bucket": "one"},
    )
    assert (only.creates, only.deletes, only.importing) == (True, False, False)


def test_variables_are_passed_only_in_the_environment(double: TerraformDouble, tmp_path: Path) -> None:
    """No value is in an argument, and Terraform never prompts."""
    ready = terraform(double, tmp_path, {"TF_VAR_external_id": '"secret"'})
    ready.init()
    ready.apply(ready.plan(), lambda _line: None)
    ready.forget(["module.tailpipe.a.b"])
    for one in double.calls():
        assert "secret" not in " ".join(one.argv)
        assert one.variables == {"TF_VAR_external_id": '"secret"'}


def test_apply_shows_progress_and_raises_its_errors(double: TerraformDouble, tmp_path: Path) -> None:
    """An error has the address; lines that are not JSON are ignored."""
    lines: list[dict[str, Any]] = [
        {"type": "version", "@message": "Terraform 1.11.4"},
        {"type": "apply_complete", "@message": "a.b: Creation complete"},
        {"type": "diagnostic", "diagnostic": {"severity": "warning", "summary": "old"}},
        {"type": "diagnostic", "diagnostic": {"severity": "error", "summary": "No", "detail": "why", "address": "c.d"}},
    ]
    double.answer("apply", "not json\n" + "".join(json.dumps(one) + "\n" for one in lines), code=1)
    told: list[str] = []
    with pytest.raises(OperatorError) as caught:
        terraform(double, tmp_path).apply(Plan(tmp_path / "plan.bin", ()), told.append)
    assert told == ["a.b: Creation complete"]
    assert [one.what for one in caught.value.problems] == ["c.d: No. why"]


def test_killed_apply_is_reported_with_its_exit_code(double: TerraformDouble, tmp_path: Path) -> None:
    """It wrote no diagnostic."""
    double.answer("apply", code=3)
    with pytest.raises(OperatorError, match="terraform apply ended with 3"):
        terraform(double, tmp_path).apply(Plan(tmp_path / "plan.bin", ()), lambda _line: None)


# The interrupts are handled one by one, so that none is early and a second one would be detected.
LONG = """#!{python}
import pathlib, signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
signal.alarm(60)
print('{{"type": "apply_complete", "@message": "one"}}', flush=True)
signal.sigwait([signal.SIGINT])
print("x" * 1_000_000, flush=True)  # more than the capacity of a pipe
(pathlib.Path({home!r}) / "saved").write_text(str(len(signal.sigpending())))
raise SystemExit(1)
"""


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
def test_interrupt_waits_until_terraform_has_saved_the_state(tmp_path: Path, what: type[BaseException]) -> None:
    """The binary gets one interrupt, and is awaited before the folder is removed."""
    binary = tmp_path / "terraform"
    binary.write_text(LONG.format(python=sys.executable, home=str(tmp_path)))
    binary.chmod(0o755)

    def tell(_line: str) -> None:
        raise what

    with pytest.raises(what):
        Terraform(str(binary), tmp_path, {}).apply(Plan(tmp_path / "plan.bin", ()), tell)
    assert (tmp_path / "saved").read_text() == "0"


def test_files_of_terraform_are_private(double: TerraformDouble, tmp_path: Path) -> None:
    """A plan and a local state contain secrets, whatever the umask."""
    plan = terraform(double, tmp_path).plan()
    assert plan.file.stat().st_mode & 0o777 == 0o600


def test_missing_state_is_empty_and_an_unreadable_one_is_an_error(double: TerraformDouble, tmp_path: Path) -> None:
    """Before the first apply there is no state."""
    assert terraform(double, tmp_path).addresses() == []
    double.answer("state", err="Error: state is locked", code=1)
    with pytest.raises(OperatorError, match="state is locked"):
        terraform(double, tmp_path).addresses()


def test_forgetting_nothing_makes_no_call(double: TerraformDouble, tmp_path: Path) -> None:
    """`state rm` without an address is an error."""
    terraform(double, tmp_path).forget([])
    assert double.calls() == []


def test_outputs_are_read_by_name(double: TerraformDouble, tmp_path: Path) -> None:
    """Values are returned whether they are secret or not."""
    double.answer("output", json.dumps({"deployment": {"sensitive": True, "value": {"a": [1]}}}))
    assert terraform(double, tmp_path).outputs() == {"deployment": {"a": [1]}}


def test_reads_and_no_ops_are_not_changes() -> None:
    """An import that changes nothing is a change."""
    quiet = change("a.b", actions=("no-op",))
    read = {**change("c.d", actions=("read",)), "mode": "data"}
    adopted = change("e.f", actions=("no-op",))
    adopted["change"]["importing"] = {"id": "x"}
    (only,) = changes_of({"resource_changes": [quiet, read, adopted]})
    assert (only.address, only.importing, only.creates) == ("module.tailpipe.e.f", True, False)


def test_sensitive_values_are_left_out_of_a_change() -> None:
    """An attribute that is fully or partly sensitive is dropped, and all of them if the resource is."""
    part = change("a.b", name="one", secret="x", block=[{"inner": "y"}])
    part["change"]["after_sensitive"] = {"secret": True, "block": [{"inner": True}], "name": False}
    whole = change("c.d", name="one")
    whole["change"]["after_sensitive"] = True
    gone = change("e.f", actions=("delete",))
    gone["change"] |= {"after": None, "after_sensitive": None}
    assert [one.after for one in changes_of({"resource_changes": [part, whole, gone]})] == [{"name": "one"}, {}, {}]
