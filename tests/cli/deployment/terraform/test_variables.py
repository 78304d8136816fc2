"""What an operator gives the module: where it comes from, what wins, and every fault at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.deployment.model import OperatorError
from cli.deployment.terraform import variables as inputs
from cli.deployment.terraform.root_module import INFRA

SECRET = "a-secret-value-4711"
VARIABLES = {
    "environment": inputs.Variable("environment", text=True, required=True, sensitive=False),
    "external_id": inputs.Variable("external_id", text=True, required=True, sensitive=True),
    "memory_mb": inputs.Variable("memory_mb", text=False, required=False, sensitive=False),
    "exports": inputs.Variable("exports", text=False, required=False, sensitive=False),
    "tags": inputs.Variable("tags", text=False, required=False, sensitive=False),
}


def written(folder: Path, name: str, text: str) -> Path:
    """Write a file of variables."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_every_variable_of_a_module_is_known(cloud: str) -> None:
    """What is declared is read: which values are texts, which must be given, which are secrets."""
    found = inputs.declared(INFRA / cloud)
    text = (INFRA / cloud / "variables.tf").read_text(encoding="utf-8")
    assert len(found) == text.count('\nvariable "') + text.startswith('variable "')
    assert (found["environment"].text, found["environment"].required) == (True, True)
    assert (found["memory_mb"].text, found["memory_mb"].required) == (False, False)
    assert (found["package"].required, found["exports"].text) == (True, False)


def test_the_external_id_is_known_to_be_a_secret() -> None:
    """On AWS the External ID, and the one before it, are the module's secrets."""
    found = inputs.declared(INFRA / "aws")
    assert {one.name for one in found.values() if one.sensitive} == {"external_id", "external_id_previous"}


def test_pairs_win_over_files_and_files_over_the_environment(tmp_path: Path) -> None:
    """The environment is the weakest, then the files in order, then the pairs, the last one of a name."""
    first = written(tmp_path, "first.tfvars", 'environment = "file-1"\nexternal_id = "file-1"\nmemory_mb = 1\n')
    second = written(tmp_path, "second.tfvars", 'external_id = "file-2"\nmemory_mb = 2\n')
    environment = {
        "TF_VAR_environment": "environment",
        "TF_VAR_exports": '["from","environment"]',
        "TF_VAR_memory_mb": "0",
    }
    found = inputs.given(VARIABLES, ["memory_mb=3", "memory_mb=4"], [first, second], environment)
    assert found == {
        "environment": "file-1",
        "external_id": "file-2",
        "memory_mb": 4,
        "exports": ["from", "environment"],
    }


def test_values_are_taken_as_the_variable_is_typed(tmp_path: Path) -> None:
    """A text is what is written, also if it looks like a number; everything else is HCL: lists, maps, booleans."""
    pairs = ["environment=0815", "external_id=true = a", 'tags={ "a b" = "c", d = "1" }', "exports=[]"]
    found = inputs.given(VARIABLES, pairs, [], {})
    assert found == {
        "environment": "0815",
        "external_id": "true = a",
        "tags": {"a b": "c", "d": "1"},
        "exports": [],
    }


def test_a_file_may_be_hcl_or_json(tmp_path: Path) -> None:
    """Both forms of Terraform give the same values, escapes and nested ones included."""
    hcl = written(
        tmp_path,
        "one.tfvars",
        '# a comment\nenvironment = "say \\"hi\\""\nexports = ["a", "b"]\ntags = { x = "y", n = 1 }\n',
    )
    json_ = written(
        tmp_path, "one.tfvars.json", r'{"environment": "say \"hi\"", "exports": ["a", "b"], "tags": {"x": "y", "n": 1}}'
    )
    assert inputs.given(VARIABLES, [], [hcl], {}) == inputs.given(VARIABLES, [], [json_], {})


def test_other_variables_in_the_environment_are_left_alone() -> None:
    """An environment may hold variables of other modules; only a name that is written out must be known."""
    assert inputs.given(VARIABLES, [], [], {"TF_VAR_of_another_module": "x", "PATH": "y"}) == {}


def test_every_fault_is_reported_at_once_and_no_value(tmp_path: Path) -> None:
    """Unknown names, broken values, files and pairs are all named with a remedy, and no value is quoted."""
    broken = written(tmp_path, "broken.tfvars", f'external_id = "{SECRET}\n')
    unknown = written(tmp_path, "unknown.json", f'{{"external": "{SECRET}"}}')
    binary = tmp_path / "binary.tfvars"
    binary.write_bytes(b"\xff\xfe\x00" + SECRET.encode())
    gone = tmp_path / "gone.tfvars"
    pairs = [SECRET, f"enviroment={SECRET}", f"memory_mb=[{SECRET}", f"zzz={SECRET}"]  # codespell:ignore enviroment
    with pytest.raises(OperatorError) as caught:
        inputs.given(VARIABLES, pairs, [broken, unknown, binary, gone], {"TF_VAR_tags": f"{{ {SECRET}"})
    faults = caught.value.problems
    told = [one.what.replace(str(tmp_path), "") for one in faults]
    assert told == [
        "tags: its value is not valid",
        "/broken.tfvars: is not valid",
        "/unknown.json: no variable is called 'external'",
        "/binary.tfvars: is not text",
        "/gone.tfvars: No such file or directory",
        "a --var has no '='",
        "--var: no variable is called 'enviroment'",
        "memory_mb: its value is not valid",
        "--var: no variable is called 'zzz'",
    ]
    assert all(one.remedy for one in faults)
    assert "Did you mean environment?" in [one.remedy for one in faults]
    assert SECRET not in str(faults) + str(caught.value)
    assert SECRET not in "".join(f"{one.what}{one.remedy}" for one in faults)


def test_a_file_that_is_no_map_of_values_is_a_fault(tmp_path: Path) -> None:
    """JSON that is valid and yet names no variables is reported, not taken for an empty file."""
    path = written(tmp_path, "list.json", '["environment"]')
    with pytest.raises(OperatorError, match=r"list\.json: is not valid"):
        inputs.given(VARIABLES, [], [path], {})


def test_what_is_required_and_not_given_is_reported_with_the_way_to_give_it() -> None:
    """A secret is asked for by environment or file, everything else by --var; the command's own package never."""
    variables = VARIABLES | {"package": inputs.Variable("package", text=True, required=True, sensitive=False)}
    plain, secret = inputs.missing(variables, {})
    assert (plain.what, plain.remedy) == ("environment is required", "Add --var environment=VALUE.")
    assert secret.what == "external_id is required"
    assert "TF_VAR_external_id" in secret.remedy
    assert "--var external_id" not in secret.remedy
    assert inputs.missing(variables, {"environment": "prod", "external_id": "x"}) == []
