"""Check one tenant on AWS: its role lets the deployment in, refuses others, and has the rights of a run."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.handler import run_once
from aws_lambda.resources.bucket_policy import many
from aws_lambda.resources.connector_role import role_document
from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.tenant_clients import external_id_of, tenant_clients
from aws_lambda.tenants import RULES
from cli.deployment.model import Finding
from shared.errors import CloudError, Denied, ReportedError, SettingsError
from shared.model import Result
from shared.request import RunRequest
from shared.runtime.context import RunContext
from shared.tenants.registry import Tenant, environment_of

MOST_OTHERS = 10  # other tenants whose External IDs are tried
PLAN_SECONDS = 300.0
WRONG = (Result.FAILED, Result.MANUAL, Result.DEFERRED)
RELAUNCH = "Send the tenant the invitation again (tenants invite), and let it update its stack with this template."
REQUIRE = (
    "The role's trust policy must allow sts:AssumeRole only with the condition StringEquals sts:ExternalId and the "
    f"External ID of this tenant. {RELAUNCH}"
)


def check(
    tenant: Tenant, others: Sequence[Tenant], environment: Mapping[str, str], own: Clients, run: RunContext, home: str
) -> list[Finding]:
    """Return the findings about a tenant; `own` are the operator's clients in `home`, the deployment's account.

    Nothing is written, neither here nor in the tenant's account. Raises CloudError.
    """
    within = environment_of(tenant, environment, RULES)
    try:
        settings = read_settings(within)
    except SettingsError as error:
        return [Finding("the entry is valid", ok=False, detail=one, remedy="Correct it.") for one in error.problems]
    findings = list(_entry(settings, others, environment, own, run)) if settings.entry_role else []
    if any(one.ok is False for one in findings):
        return findings
    if settings.entry_role:
        findings.append(_trust(settings, within, own, run, home))
    return [*findings, *_plan(tenant, within, run, home)]


def _entry(
    settings: AwsSettings, others: Sequence[Tenant], environment: Mapping[str, str], own: Clients, run: RunContext
) -> Iterator[Finding]:
    """Yield whether the role accepts the tenant's External ID, and nothing else."""
    role = settings.entry_role
    try:
        external_id = external_id_of(settings, own, run)
    except ReportedError as error:
        yield Finding("its External ID can be read", ok=False, detail=error.message, remedy=error.remedy)
        return
    refused = _refusal(own, run, role, external_id)
    what = f"role {role} can be assumed with the tenant's External ID"
    yield Finding(what, ok=not refused, detail=refused, remedy=RELAUNCH if refused else "")
    if refused:
        return
    for what, other in (("without an External ID", None), ("with an invented one", secrets.token_hex(16))):
        yield _deputy(own, run, role, other, what)
    entered = [one for one in others if one.entry.get("external_id")]
    found = {one.id: _known(one, environment, own, run) for one in entered}
    same = sorted(name for name, theirs in found.items() if theirs == external_id)
    remedy = f"Store another External ID in the secret of each of them. {RELAUNCH}" if same else ""
    unread = sum(isinstance(theirs, Exception) for theirs in found.values())
    detail = f"that of {', '.join(same[:MOST_OTHERS])} is the same" if same else ""
    detail = detail or (f"those of {unread} of {len(found)} others could not be read" if unread else "")
    ok = False if same else None if unread else True
    yield Finding("no other tenant has the same External ID", ok=ok, detail=detail, remedy=remedy)
    for one in entered[:MOST_OTHERS]:
        what, theirs = f"with that of tenant {one.id}", found[one.id]
        if isinstance(theirs, Exception):
            yield Finding(f"the role refuses to be assumed {what}", ok=None, detail=str(theirs))
        else:
            yield _deputy(own, run, role, theirs, what)


def _known(other: Tenant, environment: Mapping[str, str], own: Clients, run: RunContext) -> str | Exception:
    """Return the External ID of another tenant, read once for all checks of a command, or why it cannot be read."""
    secret = other.entry["external_id"]
    if secret not in own.read_secrets:
        try:
            settings = read_settings(environment_of(other, environment, RULES))
            own.read_secrets[secret] = external_id_of(settings, own, run)
        except (ReportedError, SettingsError) as error:
            return error
    return own.read_secrets[secret]


def _deputy(own: Clients, run: RunContext, role: str, external_id: str | None, what: str) -> Finding:
    refused = _refusal(own, run, role, external_id)
    detail = (
        "" if refused else "it was assumed: any caller who knows the role's ARN could let this deployment act there"
    )
    remedy = "" if refused else REQUIRE
    return Finding(f"the role refuses to be assumed {what}", ok=bool(refused), detail=detail, remedy=remedy)


def _refusal(own: Clients, run: RunContext, role: str, external_id: str | None) -> str:
    """Return why a role refuses to be assumed, "" if it does not. Raises CloudError other than a refusal."""
    given: dict[str, Any] = {"ExternalId": external_id} if external_id else {}
    try:
        run.calls("sts", own.sts.assume_role, RoleArn=role, RoleSessionName="tailpipe-exports-check", **given)
    except Denied as error:
        return error.message
    return ""


def _trust(settings: AwsSettings, within: Mapping[str, str], own: Clients, run: RunContext, home: str) -> Finding:
    """Return whether the role trusts only the deployment's account."""
    what = f"the role trusts account {home} only"
    clients = tenant_clients(settings, within, own)
    name = settings.entry_role.rpartition("/")[2]
    try:
        clients.enter(run)
        role = run.calls("iam", clients.iam.get_role, RoleName=name)["Role"]
    except CloudError as error:
        return Finding(what, ok=None, detail=f"its trust policy could not be read: {error.message}")
    wide = sorted({one for one in _trusted(role_document(role)) if home not in one.split(":") and one != home})
    detail = f"it also trusts {', '.join(wide)}" if wide else ""
    return Finding(what, ok=not wide, detail=detail, remedy=REQUIRE if wide else "")


def _trusted(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the principals that a trust policy allows something."""
    for statement in many(document.get("Statement", [])):
        principal = statement.get("Principal", "*") if statement.get("Effect") == "Allow" else {}
        named = principal if isinstance(principal, dict) else {"AWS": principal}
        yield from (str(one) for kind in named.values() for one in many(kind))


def _plan(tenant: Tenant, within: Mapping[str, str], run: RunContext, home: str) -> Iterator[Finding]:
    """Yield what a run would not be able to do, by planning one; a plan writes nothing."""
    request = RunRequest(dry_run=True, tenant=tenant.id)
    try:
        result = run_once(request, within, lambda *_: None, run.clock, PLAN_SECONDS, account=home)
    except (ReportedError, SettingsError) as error:
        yield Finding("a run can be planned", ok=False, detail=str(error), remedy=getattr(error, "remedy", ""))
        return
    wrong = [one for one in result.outcomes if one.result in WRONG]
    for one in wrong:
        steps = " ".join(one.manual_step.steps) if one.manual_step else ""
        said = one.message or (one.manual_step.what if one.manual_step else "") or one.code
        yield Finding(f"{one.key.kind} {one.key.name}", ok=False, detail=said, remedy=one.remedy or steps)
    for failure in result.report["failures"] if not result.outcomes else ():
        yield Finding("a run can be planned", ok=False, detail=failure["message"], remedy=failure["remedy"])
    if not wrong and result.outcomes:
        writes = sum(one.result is Result.PLANNED for one in result.outcomes)
        yield Finding("a run can be planned", ok=True, detail=f"{writes} writes to do")
