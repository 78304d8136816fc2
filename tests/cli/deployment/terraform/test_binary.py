"""Terraform as a child process: what it says becomes faults, and what it plans becomes changes."""

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
│ Error: No valid credential sources found
│
│ Please see the documentation.
╵
"""


@pytest.fixture
def double(tmp_path: Path) -> TerraformDouble:
    """Return a double."""
    return TerraformDouble(tmp_path / "bin")


def terraform(double: TerraformDouble, tmp_path: Path, environment: dict[str, str] | None = None) -> Terraform:
    """Return Terraform with the double as its binary, in a folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir(exist_ok=True)
    return Terraform(str(double.folder / "terraform"), folder, environment or {})


def test_terraform_comes_before_tofu_and_either_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where both are there it is Terraform; OpenTofu alone is enough."""
    for name in ("tofu", "terraform"):
        (tmp_path / name).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        assert find() == str(tmp_path / name)


def test_without_either_binary_the_way_to_get_one_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither on the PATH: the fault names both, and where they come from."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OperatorError, match="neither terraform nor tofu") as caught:
        find()
    assert "opentofu.org" in caught.value.problems[0].remedy
    assert "1.5" in caught.value.problems[0].remedy


@pytest.mark.parametrize("told", ['{"terraform_version": "1.4.7"}', '{"terraform_version": "0.15.0"}', "{}"])
def test_a_version_that_is_too_old_is_refused(double: TerraformDouble, tmp_path: Path, told: str) -> None:
    """Older than the modules need, or without a version: refused with the one to install."""
    double.answer("version", told)
    with pytest.raises(OperatorError, match=r"is version (1\.4\.7|0\.15\.0|unknown)") as caught:
        terraform(double, tmp_path).version()
    assert "1.5" in caught.value.problems[0].remedy


@pytest.mark.parametrize(
    ("told", "version"), [("1.5.0", (1, 5)), ("1.11.4", (1, 11)), ("1.10.0-beta1", (1, 10)), ("2.0.1", (2, 0))]
)
def test_the_version_is_read(double: TerraformDouble, tmp_path: Path, told: str, version: tuple[int, int]) -> None:
    """Major and minor are enough, and compare as numbers."""
    double.answer("version", json.dumps({"terraform_version": told}))
    assert terraform(double, tmp_path).version() == version


def test_each_complaint_is_one_fault_and_warnings_are_none(double: TerraformDouble, tmp_path: Path) -> None:
    """The frames are taken off, each error is one sentence, and what belongs to a warning goes with it."""
    double.answer("plan", err=BOXES, code=1)
    with pytest.raises(OperatorError) as caught:
        terraform(double, tmp_path).plan()
    first, second = caught.value.problems
    assert first.what == 'Invalid value for variable environment is "prod" or "uat".'
    assert second.what == "No valid credential sources found Please see the documentation."


def test_a_failure_without_a_frame_says_the_verb_and_its_last_lines(double: TerraformDouble, tmp_path: Path) -> None:
    """Output without a diagnostic, such as a crash, is shown as it is, cut to its end."""
    double.answer("init", err="\n".join(f"line {number}" for number in range(100)), code=2)
    with pytest.raises(OperatorError) as caught:
        terraform(double, tmp_path).init()
    crash, hint = caught.value.problems
    assert crash.what.startswith("terraform init: line 60 ")
    assert crash.what.endswith("line 99")
    assert "mirror" in hint.remedy


def test_a_plan_is_read_back_with_its_changes(double: TerraformDouble, tmp_path: Path) -> None:
    """The saved plan lies in the working folder and is shown as JSON."""
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


def test_variables_are_handed_over_in_the_environment_alone(double: TerraformDouble, tmp_path: Path) -> None:
    """A value is in no argument, and Terraform never prompts."""
    ready = terraform(double, tmp_path, {"TF_VAR_external_id": '"secret"'})
    ready.init()
    ready.apply(ready.plan(), lambda _line: None)
    ready.forget(["module.tailpipe.a.b"])
    for one in double.calls():
        assert "secret" not in " ".join(one.argv)
        assert one.variables == {"TF_VAR_external_id": '"secret"'}


def test_an_apply_shows_each_resource_and_raises_the_faults_in_it(double: TerraformDouble, tmp_path: Path) -> None:
    """Progress is shown as it happens; the error has the address, and lines that are not JSON are ignored."""
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


def test_an_apply_that_ends_without_a_word_is_a_fault_too(double: TerraformDouble, tmp_path: Path) -> None:
    """Killed in the middle, it says nothing; its exit code is reported."""
    double.answer("apply", code=3)
    with pytest.raises(OperatorError, match="terraform apply ended with 3"):
        terraform(double, tmp_path).apply(Plan(tmp_path / "plan.bin", ()), lambda _line: None)


# Interrupts are taken in turn, so that none comes too early, and a second one would be seen.
LONG = """#!{python}
import pathlib, signal

signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
signal.alarm(60)
print('{{"type": "apply_complete", "@message": "one"}}', flush=True)
signal.sigwait([signal.SIGINT])
print("x" * 1_000_000, flush=True)  # more than a pipe holds
(pathlib.Path({home!r}) / "saved").write_text(str(len(signal.sigpending())))
raise SystemExit(1)
"""


@pytest.mark.parametrize("what", [KeyboardInterrupt, SystemExit])
def test_an_interruption_waits_until_the_state_is_saved(tmp_path: Path, what: type[BaseException]) -> None:
    """The binary gets one interrupt, is heard to its end, and nothing of it runs on when the folder is removed."""
    binary = tmp_path / "terraform"
    binary.write_text(LONG.format(python=sys.executable, home=str(tmp_path)))
    binary.chmod(0o755)

    def tell(_line: str) -> None:
        raise what

    with pytest.raises(what):
        Terraform(str(binary), tmp_path, {}).apply(Plan(tmp_path / "plan.bin", ()), tell)
    assert (tmp_path / "saved").read_text() == "0"


def test_what_terraform_writes_is_the_operators_alone(double: TerraformDouble, tmp_path: Path) -> None:
    """A plan, and a state in a folder of one's own, hold secrets: no other user may read them, whatever the umask."""
    plan = terraform(double, tmp_path).plan()
    assert plan.file.stat().st_mode & 0o777 == 0o600


def test_no_state_yet_is_an_empty_state_and_another_failure_is_not(double: TerraformDouble, tmp_path: Path) -> None:
    """Before the first apply nothing is held; a state that cannot be read is never taken for that."""
    assert terraform(double, tmp_path).addresses() == []
    double.answer("state", err="Error: state is locked", code=1)
    with pytest.raises(OperatorError, match="state is locked"):
        terraform(double, tmp_path).addresses()


def test_nothing_to_forget_is_no_call(double: TerraformDouble, tmp_path: Path) -> None:
    """`state rm` without an address is an error of Terraform's."""
    terraform(double, tmp_path).forget([])
    assert double.calls() == []


def test_the_outputs_are_read_by_name(double: TerraformDouble, tmp_path: Path) -> None:
    """The value of each output, secret or not."""
    double.answer("output", json.dumps({"deployment": {"sensitive": True, "value": {"a": [1]}}}))
    assert terraform(double, tmp_path).outputs() == {"deployment": {"a": [1]}}


def test_data_and_what_stays_as_it_is_are_no_changes() -> None:
    """Reads and no-ops are left out, but an import that changes nothing is one."""
    quiet = change("a.b", actions=("no-op",))
    read = {**change("c.d", actions=("read",)), "mode": "data"}
    adopted = change("e.f", actions=("no-op",))
    adopted["change"]["importing"] = {"id": "x"}
    (only,) = changes_of({"resource_changes": [quiet, read, adopted]})
    assert (only.address, only.importing, only.creates) == ("module.tailpipe.e.f", True, False)


def test_sensitive_values_are_left_out_of_a_change() -> None:
    """An attribute that is sensitive, in whole or in part, is not kept; nor is any where the whole resource is."""
    part = change("a.b", name="one", secret="x", block=[{"inner": "y"}])
    part["change"]["after_sensitive"] = {"secret": True, "block": [{"inner": True}], "name": False}
    whole = change("c.d", name="one")
    whole["change"]["after_sensitive"] = True
    gone = change("e.f", actions=("delete",))
    gone["change"] |= {"after": None, "after_sensitive": None}
    assert [one.after for one in changes_of({"resource_changes": [part, whole, gone]})] == [{"name": "one"}, {}, {}]
