"""The module's variables: `--var`, `--var-file` and `TF_VAR_…`, checked against what the module declares."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from cli.deployment.model import OperatorError, Problem

ENVIRONMENT = "TF_VAR_"
# Filled in by the command unless given.
OWN = frozenset({"package"})


@dataclass(frozen=True)
class Variable:
    """A variable of a module. `text`: Terraform types it as string, so that a value is taken literally."""

    name: str
    text: bool
    required: bool
    sensitive: bool


def declared(module: Path) -> dict[str, Variable]:
    """Return a module's variables by name."""
    return {one.name: one for one in _declared((module / "variables.tf").read_text(encoding="utf-8"))}


@cache
def _declared(text: str) -> tuple[Variable, ...]:
    # The parser takes about 60 ms for a module.
    return tuple(
        Variable(
            name,
            text=str(body.get("type", "")).strip("${}") == "string",
            required="default" not in body,
            sensitive=body.get("sensitive") is True,
        )
        for block in parsed(text).get("variable", ())
        for name, body in block.items()
    )


def parsed(text: str) -> dict[str, Any]:
    """Return HCL as Python values. Raises ValueError."""
    # Only commands that run Terraform need it; the demonstration is installed without it.
    import hcl2

    try:
        document: dict[str, Any] = plain(hcl2.loads(text))
    except Exception as error:  # the parser's own exceptions have no common class
        raise ValueError(str(error).splitlines()[0] if str(error) else type(error).__name__) from error
    return document


def plain(value: Any) -> Any:
    """Return the parser's result without the parser's own keys, and names and texts without quotes."""
    if isinstance(value, dict):
        return {_unquoted(key): plain(one) for key, one in value.items() if not str(key).startswith("__")}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return _unquoted(value) if isinstance(value, str) else value


def _unquoted(text: str) -> str:
    if len(text) < 2 or not text[0] == text[-1] == '"':
        return text
    try:
        # HCL's escapes equal JSON's except for those of templates, which our values do not use.
        return str(json.loads(text))
    except ValueError:
        return text[1:-1]


def given(
    variables: Mapping[str, Variable],
    pairs: Sequence[str],
    files: Sequence[Path],
    environment: Mapping[str, str],
) -> dict[str, Any]:
    """Return the values by name, with Terraform's precedence: environment, then files in order, then pairs.

    Raises OperatorError with every problem: unknown names, unreadable files, pairs without ``=``. A value is never
    quoted.
    """
    problems: list[Problem] = []
    values: dict[str, Any] = {}
    for name in sorted(environment):
        if name.startswith(ENVIRONMENT) and name.removeprefix(ENVIRONMENT) in variables:
            _set(values, variables, name.removeprefix(ENVIRONMENT), environment[name], problems)
    for file in files:
        read = _read(file, problems)
        values |= {name: value for name, value in read.items() if _known(name, variables, problems, str(file))}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator:
            problems.append(Problem("a --var has no '='", "Write --var NAME=VALUE."))
        elif _known(name.strip(), variables, problems, "--var"):
            _set(values, variables, name.strip(), value, problems)
    if problems:
        raise OperatorError(*problems)
    return values


def missing(variables: Mapping[str, Variable], values: Mapping[str, Any]) -> list[Problem]:
    """Return a problem for each required variable without a value."""
    return [
        Problem(
            f"{one.name} is required",
            f"Set TF_VAR_{one.name} (it is a secret; a command line can be read by others) or put it in a --var-file."
            if one.sensitive
            else f"Add --var {one.name}=VALUE.",
        )
        for one in variables.values()
        if one.required and one.name not in values and one.name not in OWN
    ]


def _known(name: str, variables: Mapping[str, Variable], problems: list[Problem], where: str) -> bool:
    if name in variables:
        return True
    near = difflib.get_close_matches(name, variables, 1)
    remedy = f"Did you mean {near[0]}?" if near else f"The module knows: {', '.join(sorted(variables))}."
    problems.append(Problem(f"{where}: no variable is called {name!r}", remedy))
    return False


def _set(
    values: dict[str, Any], variables: Mapping[str, Variable], name: str, written: str, problems: list[Problem]
) -> None:
    if variables[name].text:
        values[name] = written
        return
    try:
        values[name] = parsed(f"value = {written}\n")["value"]
    except (ValueError, KeyError):
        problems.append(Problem(f"{name}: its value is not valid", 'Write it as in HCL: true, 3, or ["a","b"].'))


def _read(file: Path, problems: list[Problem]) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        document = json.loads(text) if file.suffix == ".json" else parsed(text)
    except (OSError, UnicodeDecodeError) as error:
        problems.append(Problem(f"{file}: {getattr(error, 'strerror', None) or 'is not text'}", "Check --var-file."))
        return {}
    except ValueError:
        # The parser quotes what it failed on, which may be a secret.
        problems.append(
            Problem(f"{file}: is not valid", "Write NAME = VALUE lines, or JSON in a file that ends in .json.")
        )
        return {}
    if not isinstance(document, dict):
        problems.append(Problem(f"{file}: is not valid", "Write one JSON object of names and values."))
        return {}
    return document
