"""The modules have the same names, types, defaults and files for the same idea."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.infra.support import said, write
from tools.infra import equal, hcl

DEFAULTS = {name: default for name, default in equal.DEFAULTS.items() if default is not None}


def cloud(folder: Path, name: str, **changes: str) -> hcl.Module:
    """A module of one cloud with all it must have; `changes` replace what is declared under a name, "" removes it."""
    variables = equal.VARIABLES | equal.OWN_VARIABLES[name]
    text = {
        key: f'variable "{key}" {{\n  type = {kind}\n'
        + (f"  default = {DEFAULTS[key]}\n" if key in DEFAULTS else "")
        + "}\n"
        for key, kind in variables.items()
    }
    outputs = {key: f'output "{key}" {{\n  value = 1\n}}\n' for key in equal.OUTPUTS}
    files = dict.fromkeys(equal.FILES, "")
    files["variables.tf"] = "".join((text | {key: new for key, new in changes.items() if key in text}).values())
    files["outputs.tf"] = "".join(changes.get(f"output_{key}", written) for key, written in outputs.items())
    files["main.tf"] = changes.get("main", "")
    if (missing := changes.get("without")) is not None:
        del files[missing]
    return hcl.read_module(write(folder / name, files))


def test_equal_modules_are_left_alone(tmp_path: Path) -> None:
    """Three modules with the common names differ where the clouds do, and nowhere else."""
    modules = {name: cloud(tmp_path, name) for name in equal.CLOUDS}

    assert said(equal.faults(modules)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"exports": ""}, "variable exports is missing; every module has it", id="variable"),
        pytest.param(
            {"exports": 'variable "exports" {\n  type = string\n}\n'},
            "variable exports is a string; in every module it is a list(string)",
            id="type",
        ),
        pytest.param(
            {"log_retention_days": 'variable "log_retention_days" {\n  type = number\n  default = 30\n}\n'},
            "variable log_retention_days has the default 30; everywhere it is 90",
            id="default",
        ),
        pytest.param(
            {"package": 'variable "package" {\n  type = string\n  default = "x"\n}\n'},
            'variable package has the default "x"; everywhere it is none',
            id="required",
        ),
        pytest.param({"output_logs": ""}, "output logs is missing; every module has it", id="output"),
        pytest.param({"without": "alarms.tf"}, "is missing; the modules have the same files", id="file"),
        pytest.param(
            {"main": 'variable "extra" {\n  type = number\n}\n'},
            "variable extra is a number, in aws it is a string",
            id="own",
        ),
    ],
)
def test_what_one_module_has_otherwise_is_told(tmp_path: Path, changes: dict[str, str], expected: str) -> None:
    """Each difference from the common names is told of the module that has it."""
    first = cloud(tmp_path, "aws", main='variable "extra" {\n  type = string\n}\n')
    found = said(equal.faults({"aws": first, "azure": cloud(tmp_path, "azure", **changes)}))

    assert [fault for fault in found if expected in fault], found
    assert len(found) == 1
