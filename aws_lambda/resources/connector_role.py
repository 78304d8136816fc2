"""The connector role that Tailpipe assumes to read exports: its trusted principal and required External ID."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

import msgspec

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import observed
from aws_lambda.resources.bucket_policy import many
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import CONNECTOR_ROLE, DEPLOY, MANAGED_BY, MANAGER
from shared.errors import CloudError, NotFound
from shared.model import Absent, Key, ManualStep, Observation, Ownership, Present, Target
from shared.resources import ReadOnly
from shared.runtime.context import RunContext

OWN_PATH = "/tailpipe/"


class ConnectorRole(ReadOnly):
    """Observes the connector role, which the function never writes."""

    kinds = (CONNECTOR_ROLE,)

    def __init__(self, settings: AwsSettings, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the role."""
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the role and its trust policy; the External ID itself never appears in the observation."""
        try:
            role = self._run.calls("iam", self._clients.iam.get_role, RoleName=self._settings.connector_role)["Role"]
        except NotFound:
            manual_step = ManualStep(
                f"the role {self._settings.connector_role} does not exist", (DEPLOY,), manual_steps.ROLES_URL
            )
            return Absent(("get",), manual_step.what, manual_step)
        except CloudError as error:
            return observed(error, f"role {self._settings.connector_role}")
        actual = self._trust(role_document(role))
        tags = {str(tag["Key"]): str(tag["Value"]) for tag in role.get("Tags", [])}
        path = str(role.get("Path", "/"))
        marked = MANAGER in (tags.get(MANAGED_BY), tags.get("managed-by")) or path.startswith(OWN_PATH)
        if self._settings.principal not in actual["principal"] and not marked:
            manual_step = manual_steps.role_foreign(self._settings.connector_role, path, tags)
            return Present(
                actual,
                ownership=Ownership.FOREIGN,
                code="role-foreign",
                detail=manual_step.what,
                manual_step=manual_step,
            )
        if actual == target.desired or target.manual_step is None:
            return Present(actual)
        what = f"{target.manual_step.what}: {_differences(target.desired, actual)}"
        return Present(actual, manual_step=msgspec.structs.replace(target.manual_step, what=what))

    def _trust(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return the trusted principals and whether the policy requires the External ID, without revealing it."""
        principals: set[str] = set()
        required: list[bool] = []
        for statement in many(document.get("Statement", [])):
            actions = {str(action).lower() for action in many(statement.get("Action", []))}
            if statement.get("Effect") != "Allow" or not actions & {"sts:assumerole", "sts:*", "*"}:
                continue
            principal = statement.get("Principal", {})
            named = principal if isinstance(principal, dict) else {"AWS": principal}
            principals |= {str(one) for kind in named.values() for one in many(kind)}
            required.append(self._requires_external_id(statement.get("Condition", {})))
        if not required:
            external = "no statement allows sts:AssumeRole"
        elif not all(required):
            external = "missing or different"
        else:
            external = "as agreed" if self._settings.external_id_hash else "required"
        return {"principal": sorted(principals), "external-id": external}

    def _requires_external_id(self, condition: Mapping[str, Any]) -> bool:
        values = [
            str(value)
            for operator, keys in condition.items()
            if operator == "StringEquals"
            for key, wanted in keys.items()
            if key.lower() == "sts:externalid"
            for value in many(wanted)
        ]
        if not self._settings.external_id_hash:
            return bool(values)
        return bool(values) and all(self._settings.external_id_matches(value) for value in values)


def role_document(role: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a role's trust policy as an object; some botocore versions return it as URL-encoded JSON."""
    value = role.get("AssumeRolePolicyDocument")
    if isinstance(value, str):
        try:
            value = json.loads(unquote(value))
        except ValueError:
            return {}
    return value if isinstance(value, Mapping) else {}


def _differences(desired: Mapping[str, Any], actual: Mapping[str, Any]) -> str:
    return "; ".join(f"{name}: {actual[name]}" for name in desired if actual[name] != desired[name])
