"""The FinOps Foundation's rules for FOCUS data: which columns, types and values a version requires.

`focus.json` has the rules of https://github.com/finopsfoundation/focus_validator that concern one column. Version 1.2:
`focus_validator/rules/model-1.2.json` of v2.0.1. Version 1.0: `rules/version_sets/1.0` of v1.0.0, with the four names
that the final specification changed (InvoiceIssuerName, ProviderName, PublisherName, ResourceId). A column is required
if the rules require it of every provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from localcloud.common.oracles import oracle

COLUMNS, VALUES = (f"FinOps Foundation's rules for FOCUS, {what}" for what in ("columns", "values"))
RULES: dict[str, dict[str, dict[str, Any]]] = json.loads(Path(__file__).with_name("focus.json").read_bytes())
_CURRENCY = re.compile(r"[A-Z]{3}")


@oracle(COLUMNS)
def check_columns(version: str, names: Iterable[str]) -> None:
    """Raise ValueError for a missing required column, and for one that is neither in the version nor custom."""
    found = set(names)
    missing = [name for name, rule in RULES[version].items() if rule.get("required") and name not in found]
    unknown = [name for name in found if name not in RULES[version] and not name.startswith("x_")]
    if missing or unknown:
        raise ValueError(f"FOCUS {version}: missing {sorted(missing)}, unknown {sorted(unknown)}")


@oracle(VALUES)
def check_row(version: str, row: Mapping[str, str]) -> None:
    """Raise ValueError for the values of a row that break a rule; an empty value is null."""
    broken = [name for name, rule in RULES[version].items() if name in row and not _holds(rule, row[name])]
    if broken:
        raise ValueError(f"FOCUS {version}: {[(name, row[name]) for name in broken]}")


def _holds(rule: Mapping[str, Any], value: str) -> bool:
    if not value:
        return bool(rule.get("nullable", True))
    return _TYPES[rule["type"]](value) and value in rule.get("values", [value])


def _decimal(value: str) -> bool:
    try:
        return Decimal(value).is_finite()
    except InvalidOperation:
        return False


def _moment(value: str) -> bool:
    # https://focus.finops.org/focus-specification/v1-2/#datetimeformat
    try:
        return bool(datetime.strptime(value, "%Y-%m-%dT%H:%M:%S%z")) and value.endswith("Z")
    except ValueError:
        return False


def _object(value: str) -> bool:
    try:
        return isinstance(json.loads(value), dict)
    except ValueError:
        return False


_TYPES: Mapping[str, Callable[[str], bool]] = {
    "string": lambda value: value == value.strip(),
    "decimal": _decimal,
    "datetime": _moment,
    "currency": lambda value: _CURRENCY.fullmatch(value) is not None,
    "json": _object,
}
