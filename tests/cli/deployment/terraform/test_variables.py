"""The module's variables: their sources, their precedence, and all problems together."""

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
def test_variables_of_a_module_are_read(cloud: str) -> None:
    """This includes which are strings, required or secret."""
    found = inputs.declared(INFRA / cloud)
    text = (INFRA / cloud / "variables.tf").read_text(encoding="utf-8")
    assert len(found) == text.count('\nvariable "') + text.startswith('variable "')
    assert (found["environment"].text, found["environment"].required) == (True, True)
    assert (found["memory_mb"].text, found["memory_mb"].required) == (False, False)
    assert (found["package"].required, found["exports"].text) == (True, False)


def test_external_ids_are_the_secrets_of_the_aws_module() -> None:
    """The current and the previous id are secret, and those of tenants."""
    found = inputs.declared(INFRA / "aws")
    assert {one.name for one in found.values() if one.sensitive} == {
        "external_id",
        "external_id_previous",
        "tenant_connectors",
    }


def test_pairs_take_precedence_over_files_and_the_environment(tmp_path: Path) -> None:
    """Later files and later pairs of a name take precedence."""
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


def test_values_are_parsed_by_the_type_of_the_variable(tmp_path: Path) -> None:
    """A string is taken literally; lists, maps and booleans are HCL."""
    pairs = ["environment=0815", "external_id=true = a", 'tags={ "a b" = "c", d = "1" }', "exports=[]"]
    found = inputs.given(VARIABLES, pairs, [], {})
    assert found == {
        "environment": "0815",
        "external_id": "true = a",
        "tags": {"a b": "c", "d": "1"},
        "exports": [],
    }


def test_hcl_and_json_files_give_the_same_values(tmp_path: Path) -> None:
    """This includes escapes and nested values."""
    hcl = written(
        tmp_path,
        "one.tfvars",
        '# a comment\nenvironment = "say \\"hi\\""\nexports = ["a", "b"]\ntags = { x = "y", n = 1 }\n',
    )
    json_ = written(
        tmp_path, "one.tfvars.json", r'{"environment": "say \"hi\"", "exports": ["a", "b"], "tags": {"x": "y", "n": 1}}'
    )
    assert inputs.given(VARIABLES, [], [hcl], {}) == inputs.given(VARIABLES, [], [json_], {})


def test_unknown_variables_in_the_environment_are_ignored() -> None:
    """A name that is given explicitly must be known."""
    assert inputs.given(VARIABLES, [], [], {"TF_VAR_of_another_module": "x", "PATH": "y"}) == {}


def test_all_problems_are_reported_without_values(tmp_path: Path) -> None:
    """Unknown names, invalid values, files and pairs have a remedy."""
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


def test_json_file_without_variables_is_reported(tmp_path: Path) -> None:
    """It is not treated as empty."""
    path = written(tmp_path, "list.json", '["environment"]')
    with pytest.raises(OperatorError, match=r"list\.json: is not valid"):
        inputs.given(VARIABLES, [], [path], {})


def test_missing_required_variables_are_reported_with_how_to_set_them() -> None:
    """A secret is set by environment or file, others by --var; the command sets the package."""
    variables = VARIABLES | {"package": inputs.Variable("package", text=True, required=True, sensitive=False)}
    plain, secret = inputs.missing(variables, {})
    assert (plain.what, plain.remedy) == ("environment is required", "Add --var environment=VALUE.")
    assert secret.what == "external_id is required"
    assert "TF_VAR_external_id" in secret.remedy
    assert "--var external_id" not in secret.remedy
    assert inputs.missing(variables, {"environment": "prod", "external_id": "x"}) == []
