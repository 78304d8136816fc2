"""Checks of a deployment on Azure: schedule, function, destination, connector."""

from __future__ import annotations

from collections.abc import Callable

from azure_function.resources.container import closed_to_exports
from cli.deployment.azure.app import RESOURCES_API, SITES_API, FunctionApp
from cli.deployment.azure.connector import BLOB_READER, MONITORING_READER, Connector, connector, containers
from cli.deployment.azure.functions import require
from cli.deployment.azure.invoke import FunctionCaller
from cli.deployment.azure.preflight import STORAGE_API
from cli.deployment.azure.rest import Rest
from cli.deployment.azure.rights import APP_IDS
from cli.deployment.azure.session import Session
from cli.deployment.model import Finding, OperatorError
from cli.deployment.output import some
from shared.errors import NotFound

TIMER = "reconcile_timer"
EXPORTS_PROVIDER = "Microsoft.CostManagementExports"
AGAIN = "`tailpipe-exports deploy azure` repairs it."


def verify(session: Session) -> list[Finding]:
    """Return the checks; one that could not be made has `ok` None."""
    app = require(session)
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("the schedule", lambda: [_schedule(session.rest, app)]),
        ("the function", lambda: [_function(session.rest, app)]),
        ("the destination", lambda: _destination(session.rest, app)),
        ("Tailpipe's access", lambda: _access(session, app)),
    ]
    found: list[Finding] = []
    for what, look in looks:
        try:
            found += look()
        except NotFound as error:
            found.append(Finding(what, None, error.message))
        except OperatorError as error:
            found.append(Finding(what, None, str(error), error.problems[0].remedy))
    return found


def _schedule(rest: Rest, deployed: FunctionApp) -> Finding:
    """Check whether a timer is linked to the schedule and enabled."""
    what = "the schedule is linked and enabled"
    state = (deployed.site.get("properties") or {}).get("state")
    if state not in (None, "Running"):
        return Finding(what, False, f"the function app is {state}", f"az functionapp start --ids {deployed.id}")
    functions = {
        one["properties"]["name"]: one["properties"] for one in rest.pages(f"{deployed.id}/functions", SITES_API)
    }
    timer = functions.get(TIMER)
    if timer is None:
        detail = (
            f"the app has no function {TIMER}" if functions else "the app has no function: no package was published"
        )
        return Finding(what, False, detail, AGAIN)
    bindings = [one for one in (timer.get("config") or {}).get("bindings", ()) if one.get("type") == "timerTrigger"]
    schedule = str(bindings[0].get("schedule", "")) if bindings else ""
    setting = schedule.strip("%")
    expression = deployed.settings.get(setting, "") if schedule.startswith("%") else schedule
    if not expression:
        return Finding(what, False, f"its timer asks for the setting {setting or '?'}, which is empty", AGAIN)
    if timer.get("isDisabled"):
        return Finding(what, False, f"{TIMER} is disabled by a setting", AGAIN)
    return Finding(what, True, f"{expression} (seconds first, UTC)")


def _function(rest: Rest, deployed: FunctionApp) -> Finding:
    what = "the function answers, and its last run was good"
    known = FunctionCaller(rest, deployed).status()
    last = known.get("last_run")
    if not last:
        return Finding(what, False, "it has not run yet", "Call it: `tailpipe-exports invoke azure`.")
    covered, active = known["scopes"]["covered"], known["scopes"]["active"]
    detail = f"{last['status']} at {last['at']}, {covered} of {active} scopes covered"
    if last["status"] == "failed":
        return Finding(what, False, detail, "`tailpipe-exports invoke azure` runs it again and shows why.")
    return Finding(what, True, detail)


def _destination(rest: Rest, deployed: FunctionApp) -> list[Finding]:
    """Check each account for the exports service: registered, network open, keys enabled if exports need them."""
    found = []
    for one in deployed.destinations:
        what = f"exports can be delivered to {one.name}"
        account = rest.get(one.id, STORAGE_API)
        container = rest.get(f"{one.id}/blobServices/default/containers/{deployed.container}", STORAGE_API)
        provider = rest.get(f"/subscriptions/{one.subscription}/providers/{EXPORTS_PROVIDER}", RESOURCES_API) or {}
        if account is None or container is None:
            lacking = "the account" if account is None else f"container {deployed.container}"
            found.append(Finding(what, False, f"{lacking} is not there", AGAIN))
            continue
        properties = account.get("properties") or {}
        closed = closed_to_exports(properties, identity=deployed.identity_exports)
        keys = properties.get("allowSharedKeyAccess") is not False
        if provider.get("registrationState") != "Registered":
            step = f"az provider register --namespace {EXPORTS_PROVIDER} --subscription {one.subscription}"
            found.append(Finding(what, False, f"{EXPORTS_PROVIDER} is not registered", step))
        elif closed:
            found.append(Finding(what, False, closed, f"{AGAIN} Exports into a closed account: docs/azure.md."))
        elif not deployed.identity_exports and not keys:
            detail = "its keys are off, and these exports have no identity"
            found.append(Finding(what, False, detail, f"{AGAIN} Or write --var export_identity=true."))
        else:
            found.append(Finding(what, True, "by their own identities" if deployed.identity_exports else "by key"))
    return found


def _access(session: Session, deployed: FunctionApp) -> list[Finding]:
    """Check that Tailpipe reads the delivered data and metrics, and nothing else as far as visible."""
    seen = connector(session, deployed)
    if not seen.principal:
        what = "Tailpipe's application is in the tenant"
        remedy = "Have an administrator show it: " + " or ".join(
            f"az ad sp show --id {one}" for one in APP_IDS.values()
        )
        return [Finding(what, None, "it does not exist, or you may not see it", f"{remedy}.")]
    wanted = {one.lower(): one for one in containers(deployed)}
    readable = {one.scope.lower() for one in seen.held if one.role == BLOB_READER}
    lacking = [one.split("/")[8] for low, one in wanted.items() if not any(low.startswith(at) for at in readable)]
    found = [
        Finding("Tailpipe reads the delivered data", False, f"not in {', '.join(lacking)}", AGAIN)
        if lacking
        else Finding("Tailpipe reads the delivered data", True, f"{len(wanted)} containers, and nothing else in them")
    ]
    monitored = seen.monitored()
    nowhere = "nowhere, which is correct only with monitoring_access = none"
    found.append(Finding("Tailpipe reads metrics", bool(monitored) or None, some(monitored) or nowhere))
    return [*found, _nothing_more(seen, wanted)]


def _nothing_more(seen: Connector, wanted: dict[str, str]) -> Finding:
    what = "Tailpipe has no other permission"
    more = [
        one
        for one in seen.held
        if not (one.role == BLOB_READER and one.scope.lower() in wanted) and one.role != MONITORING_READER
    ]
    if not more:
        return Finding(what, True, "in these subscriptions and the groups above them")
    remedy = f"az role assignment delete --ids {' '.join(one.id for one in more[:5])}"
    wider = all(one.role == BLOB_READER and any(low.startswith(one.scope.lower()) for low in wanted) for one in more)
    if wider:
        # The older scripts granted the whole account: more than it needs, but no write permission.
        return Finding(what, None, "it may read whole storage accounts, as the older scripts granted it", remedy)
    return Finding(what, False, f"{len(more)} role assignments that this deployment did not make", remedy)
