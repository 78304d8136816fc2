"""The parameters of the CloudFormation template for the values of the module's variables."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any

from cli.deployment.model import OperatorError, Problem

# Variables that the template has no parameter for, and what does it instead.
ELSEWHERE = {
    **dict.fromkeys(
        (
            *("fleet", "fleet_schedule", "fleet_concurrency", "fleet_tolerated_percent"),
            *("tenant_connectors", "tenant_role_name", "registry_writers"),
        ),
        "Tenants are served by a deployment with Terraform: use --with terraform.",
    ),
    "extra_bucket_policy": "Use --with terraform, or add the statements to ExportBucketPolicy in your copy of the "
    "template.",
    "delete_data_on_destroy": "The template retains the bucket; tailpipe-exports destroy aws --delete-data deletes it.",
}
# Variables that become something else than a parameter: the package's address, the stack's tags, one command.
OTHERWISE = frozenset({"package", "tags", "organizations_access", "settings"})
MINUTES = {"minute": 1, "hour": 60, "day": 1440}


def parameter_of(variable: str) -> str:
    """Return the name of a variable's parameter: ExternalId for external_id."""
    return "".join(part.capitalize() for part in variable.lower().split("_"))


def parameters(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the parameters for values of variables; null is left to the parameter's default.

    Raises OperatorError for each variable that has no parameter, unless its value is the default.
    """
    problems = [
        Problem(f"{name}: the CloudFormation template has no such parameter", ELSEWHERE[name])
        for name, value in values.items()
        if name in ELSEWHERE and value not in (None, False, [], {}, "")
    ]
    if problems:
        raise OperatorError(*problems)
    made = {
        parameter_of(name): _text(value)
        for name, value in values.items()
        if value is not None and name not in OTHERWISE and name not in ELSEWHERE
    }
    made |= {parameter_of(name): str(value) for name, value in (values.get("settings") or {}).items()}
    rate = re.fullmatch(r"rate\((\d+) (minute|hour|day)s?\)", made.get("Schedule", ""))
    if rate and "SchedulePeriodMinutes" not in made:
        made["SchedulePeriodMinutes"] = str(int(rate[1]) * MINUTES[rate[2]])
    return made


def salted_hash(external_ids: Iterable[str], salt: bytes | None = None) -> str:
    """Return the value of ExternalIdHash: ``salt:sha256(salt + External ID)`` of each, in hexadecimal."""
    salt = salt or secrets.token_bytes(16)
    return ",".join(f"{salt.hex()}:{sha256(salt + one.encode()).hexdigest()}" for one in external_ids)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)
