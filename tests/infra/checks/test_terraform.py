"""The checks are run, remembered and told, whatever the machine has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.support import said, write
from tools.infra import hcl, terraform
from tools.infra.__main__ import Infra, main, run
from tools.infra.fault import Fault, NotRun
from tools.infra.passed import Passed


def fine() -> Iterator[Fault]:
    """A check that finds nothing."""
    yield from ()


def lacking() -> list[Fault]:
    """A check that cannot be run."""
    raise NotRun("no tool here")


def test_each_check_is_one_line_and_faults_are_below_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ok, FAILED and not run are told apart; every fault has its file and line."""
    fault = Fault(tmp_path / "infra/a.tf", 3, "is wrong")

    assert run([("one", fine), ("two", lambda: [fault, fault]), ("three", lacking)], tmp_path) == 1

    assert capsys.readouterr().out.splitlines() == [
        "one: ok",
        "two: FAILED",
        "  infra/a.tf:3: is wrong",
        "three: not run: no tool here",
    ]


def test_a_tree_without_modules_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing to check is no success in silence."""
    assert main([str(tmp_path)]) == 0
    assert "not run: there is no module" in capsys.readouterr().out


def test_all_checks_come_together_over_one_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without Terraform, schemas or scanner the rest is still judged, and what was not is named."""
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    write(tmp_path, {"infra/gcp/main.tf": 'resource "google_shelf" "a" {\n  name = var.x\n}\n'})
    infra = Infra(tmp_path, tmp_path / "cache")

    assert run(infra.checks(), infra.root) > 0

    lines = capsys.readouterr().out.splitlines()
    assert "  infra/gcp/main.tf:2: var.x is not declared" in lines
    assert "rights: ok" in lines
    unrun = [line.partition(":")[0] for line in lines if ": not run: " in line]
    assert unrun == ["schema of google", "terraform fmt", "terraform validate gcp", "cfn-lint", "checkov"]


def test_what_passed_is_asked_again_only_after_a_change(tmp_path: Path) -> None:
    """A check that found nothing is not repeated on the same files; one that found something always is."""
    folder = write(tmp_path / "infra", {"a.tf": "1"})
    asked: list[str] = []

    def check(found: list[Fault]) -> list[Fault]:
        asked.append("x")
        return found

    def once(found: list[Fault], *, fresh: bool = False) -> int:
        return len(Passed(tmp_path / "memory.json", folder, fresh=fresh).once("scan", lambda: check(found)))

    fault = Fault(folder / "a.tf", 1, "is wrong")
    assert (once([fault]), once([fault]), len(asked)) == (1, 1, 2)
    assert (once([]), once([fault]), len(asked)) == (0, 0, 3)
    assert (once([fault], fresh=True), len(asked)) == (1, 4)
    assert (once([]), len(asked)) == (0, 5)
    write(folder, {"a.tf": "2"})
    assert (once([fault]), len(asked)) == (1, 6)
    (tmp_path / "memory.json").write_text("{", encoding="utf-8")
    assert (once([]), len(asked)) == (0, 7)


def tool(folder: Path, name: str, text: str) -> None:
    """A command of that name below `folder`."""
    path = write(folder, {name: f"#!/bin/sh\n{text}\n"}) / name
    path.chmod(0o755)


def test_files_that_would_be_formatted_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTofu serves where Terraform is not there, and neither is told as not run."""
    infra = write(tmp_path / "infra", {"aws/a.tf": "a=1\n"})
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}")
    with pytest.raises(NotRun, match="neither terraform nor tofu"):
        list(terraform.format_faults(infra))
    tool(tmp_path / "bin", "tofu", "echo aws/a.tf; exit 3")

    [fault] = terraform.format_faults(infra)

    assert (fault.path, fault.what) == (infra / "aws/a.tf", "is not formatted; run terraform fmt -recursive infra")


VALIDATE = """\
if [ "$1" = validate ]; then echo '{"diagnostics": [{"summary": "Bad", "detail": "a thing",
  "range": {"filename": "../../main.tf", "start": {"line": 7}}}]}'; fi
case "$TF_CLI_ARGS$TF_WORKSPACE" in ?*) exit 9;; esac
"""


def test_validity_is_asked_of_a_copy_and_told_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left in the tree, an operator's settings change nothing, and a module's fault is told as its own."""
    infra = write(
        tmp_path / "infra",
        {"aws/main.tf": 'resource "aws_thing" "a" {\n}\n', "aws/examples/minimal/main.tf": ""},
    )
    tool(tmp_path / "bin", "terraform", VALIDATE)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("TF_CLI_ARGS", "-no-such")
    plugins = write(tmp_path / "plugins", {"registry/hashicorp/aws/5.1.0/x": "", "registry/hashicorp/aws/5.10.0/x": ""})
    monkeypatch.setenv("TAILPIPE_EXPORTS_TF_PLUGIN_DIR", str(plugins))
    before = sorted(infra.rglob("*"))

    [fault] = terraform.validate_faults(infra, hcl.read_module(infra / "aws"), [infra / "aws/examples/minimal"])

    assert (fault.path, fault.line) == (infra / "aws/main.tf", 7)
    assert said([fault]) == ["7: terraform validate: Bad: a thing"]
    assert sorted(infra.rglob("*")) == before
    assert terraform.plugin_version("aws") == "5.10.0"


def test_a_plugin_that_is_nowhere_is_not_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a plugin the check is not run, unless the network is allowed by name."""
    monkeypatch.setattr(terraform, "plugin_folders", lambda: [tmp_path])
    with pytest.raises(NotRun, match="no folder holds a plugin of azuread and azurerm"):
        terraform.plugin_folder({"azurerm", "azuread"})
    monkeypatch.setenv("TAILPIPE_EXPORTS_TF_NETWORK", "1")

    assert terraform.plugin_folder({"azurerm"}) is None
