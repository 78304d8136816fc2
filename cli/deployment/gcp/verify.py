"""Checks of a deployment on Google Cloud: schedule, function, destination, and how Tailpipe signs in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from string import Template
from typing import Any

from cli.deployment.gcp.adopt import lives
from cli.deployment.gcp.functions import missing
from cli.deployment.gcp.invoke import memory
from cli.deployment.gcp.rest import remedy_of
from cli.deployment.gcp.session import Session
from cli.deployment.grants import grants
from cli.deployment.model import Finding
from gcp_function.manual_steps import console_step
from gcp_function.resources.bucket import closed, normal_bucket
from gcp_function.resources.dataset import writers
from gcp_function.targets import EXPORTS
from shared.errors import ReportedError

AGAIN = "Deploy again: tailpipe-exports deploy gcp"
INVOKER = "roles/run.invoker"
FEDERATED = "roles/iam.workloadIdentityUser"
EVERYBODY = ("allUsers", "allAuthenticatedUsers")
PROVIDER = "tailpipe-provider"
POOL = re.compile(r"/workloadIdentityPools/([a-z0-9-]+)/attribute\.tenant/")
Look = Callable[[Session], Iterator[Finding]]


def verify(session: Session) -> Iterator[Finding]:
    """Yield the checks; one that may not be read has `ok` None."""
    if session.live is None:
        fault = missing(session)
        yield Finding(f"function {session.function}", False, fault.what, fault.remedy)
        return
    looks: tuple[tuple[str, Look], ...] = (
        ("the function", _function),
        ("the schedule", _schedule),
        ("the rounds of tenants", _rounds),
        ("who may call the function", _invokers),
        ("the function's last run", _answered),
        ("the dataset", _dataset),
        ("the export bucket", _bucket),
        ("Tailpipe's identity pool", _pool),
        ("who may act as the connector", _federation),
        ("the connector's keys", _keys),
        ("the connector's permissions", _connector),
    )
    for what, look in looks:
        try:
            yield from look(session)
        except ReportedError as error:
            yield Finding(what, None, error.message, remedy_of(error))


def _function(session: Session) -> Iterator[Finding]:
    live = session.live or {}
    state = str(live.get("state", ""))
    account = str(live.get("serviceConfig", {}).get("serviceAccountEmail", ""))
    right = state == "ACTIVE" and account == session.account("function")
    detail = f"{state} in {session.region}, runs as {account}"
    yield Finding(f"function {session.function}", right, detail, AGAIN)


def _schedule(session: Session) -> Iterator[Finding]:
    job = session.google.find("cloudscheduler", f"v1/{session.location}/jobs/{session.function}")
    what = f"schedule {session.function}"
    if job is None:
        yield Finding(what, False, "it does not exist: nothing starts the function", AGAIN)
        return
    state = str(job.get("state", ""))
    remedy = (
        f"Run: gcloud scheduler jobs resume {session.function} --location={session.region} --project={session.project}"
    )
    yield Finding(f"{what} is enabled", state == "ENABLED", f"{state}, {job.get('schedule')}", remedy)
    target = job.get("httpTarget", {})
    token = target.get("oidcToken", {})
    linked = target.get("uri", "").rstrip("/") == session.uri.rstrip("/")
    identified = token.get("serviceAccountEmail") == session.account("scheduler")
    detail = f"calls {target.get('uri', 'nothing')} as {token.get('serviceAccountEmail', 'no account')}"
    yield Finding(f"{what} calls the function", linked and identified, detail, AGAIN)
    code = job.get("status", {}).get("code")
    if job.get("lastAttemptTime") and code:
        yield Finding(
            f"{what}'s last call", None, f"ended with code {code} at {job['lastAttemptTime']}", "See the run."
        )


def _rounds(session: Session) -> Iterator[Finding]:
    """Yield whether rounds begin and their tasks are dispatched; nothing without tenants."""
    name = session.settings.get("TENANTS_QUEUE", "")
    if not name:
        return
    where = f"--location={session.region} --project={session.project}"
    queue, job_name = session.google.find("cloudtasks", f"v2/{name}"), name.rpartition("/")[2]
    job = session.google.find("cloudscheduler", f"v1/{session.location}/jobs/{job_name}")
    state = str((queue or {}).get("state", "it does not exist"))
    remedy = f"Run: gcloud tasks queues resume {job_name} {where}" if queue else AGAIN
    yield Finding(f"queue {job_name} dispatches the tasks of rounds", state == "RUNNING", state, remedy)
    state = str((job or {}).get("state", "it does not exist"))
    remedy = f"Run: gcloud scheduler jobs resume {job_name} {where}" if job else AGAIN
    yield Finding(f"schedule {job_name} begins rounds", state == "ENABLED", state, remedy)


def _invokers(session: Session) -> Iterator[Finding]:
    path = f"v2/{session.location}/services/{session.function}:getIamPolicy"
    members = _members(session.google.get("run", path), INVOKER)
    ours = f"serviceAccount:{session.account('scheduler')}"
    open_to = sorted(set(EVERYBODY) & members)
    yield Finding("the schedule may call the function", ours in members, remedy=AGAIN)
    yield Finding(
        "only known accounts may call the function",
        not open_to,
        f"{', '.join(open_to)} may" if open_to else "",
        f"Run: gcloud run services remove-iam-policy-binding {session.function} --region={session.region} "
        f"--project={session.project} --role={INVOKER} --member={(open_to or [''])[0]}",
    )


def _answered(session: Session) -> Iterator[Finding]:
    notes = memory(session).get("runs", ())
    if notes:
        last = notes[-1]
        status = str(last.get("status"))
        detail = f"run {last.get('run_id')} at {last.get('at')}: {status}"
        yield Finding("the function answered", status != "failed", detail, "Its report has the remedy of each failure.")
    else:
        yield Finding(
            "the function answered", False, "no run has been remembered yet", "Run: tailpipe-exports invoke gcp"
        )


def _dataset(session: Session) -> Iterator[Finding]:
    found = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{session.dataset}")
    what = f"dataset {session.dataset}"
    if found is None:
        yield Finding(
            what, False, "does not exist", "Run: tailpipe-exports invoke gcp - the function creates it again."
        )
        return
    yield Finding(what, True, f"in {found.get('location')}")
    writable = EXPORTS["standard"].principal in (writers(found) or ())
    account = next(iter(accounts(session)), "ACCOUNT-ID")
    standard = EXPORTS["standard"]
    guide = console_step(account, standard.title, standard.roles, session.project, session.dataset)
    yield Finding(
        "Google's billing export may write to it",
        True if writable else None,
        "" if writable else "no account's export has been switched on in the console yet, which only a person can do",
        f"{guide.url} - {' '.join(guide.steps)}",
    )


def _bucket(session: Session) -> Iterator[Finding]:
    found = session.google.find("storage", f"storage/v1/b/{session.bucket}")
    what = f"bucket {session.bucket} is private"
    if found is None:
        yield Finding(
            what, False, "it does not exist", "Run: tailpipe-exports invoke gcp - the function creates it again."
        )
        return
    ours = str(found.get("projectNumber")) == session.number
    private = normal_bucket(found)["uniform-access"] and closed(found)
    detail = "" if ours else "it belongs to another project"
    remedy = "Run: tailpipe-exports invoke gcp - the function repairs it." if closed(found) else AGAIN
    yield Finding(what, bool(private and ours), detail, remedy)


def _pool(session: Session) -> Iterator[Finding]:
    pool = session.google.find("iam", f"v1/{session.pool}")
    provider = session.google.find("iam", f"v1/{session.pool}/providers/{PROVIDER}")
    yield Finding("Tailpipe's identity pool and provider exist", lives(pool) and lives(provider), remedy=AGAIN)
    if provider is None:
        return
    condition = str(provider.get("attributeCondition", ""))
    yield Finding(
        "the provider admits one tenant only",
        condition.startswith("assertion.tenant_id == "),
        "" if condition else "it has no condition: every customer's token of the issuer is admitted",
        AGAIN,
    )


def _federation(session: Session) -> Iterator[Finding]:
    account = session.account("connector")
    path = f"v1/{session.parent}/serviceAccounts/{account}:getIamPolicy"
    policy = session.google.post("iam", path)
    prefix = f"principalSet://iam.googleapis.com/{session.pool_name}/attribute.tenant/"
    held = {(str(one["role"]), str(member)) for one in policy.get("bindings", ()) for member in one["members"]}
    right = {one for one in held if one[0] == FEDERATED and one[1].startswith(prefix) and not one[1].endswith("/*")}
    others = sorted(held - right)
    more = [f"{member} has {role}" for role, member in others]
    yield Finding("Tailpipe may act as the connector", len(right) == 1, f"{len(right)} tenants", AGAIN)
    remove = "; ".join(
        f"gcloud iam service-accounts remove-iam-policy-binding {account} --project={session.project} --role={role} "
        f"--member='{member}'"
        for role, member in others
    )
    yield Finding("only Tailpipe may act as the connector", not more, "; ".join(more), f"Run: {remove}")


def _keys(session: Session) -> Iterator[Finding]:
    account = session.account("connector")
    path = f"v1/{session.parent}/serviceAccounts/{account}/keys"
    keys = [
        str(one["name"]).rpartition("/")[2]
        for one in session.google.get("iam", path, keyTypes="USER_MANAGED").get("keys", ())
    ]
    # An earlier setup created one; Tailpipe may use it until it knows the pool. So it is reported, but is not a
    # failure.
    yield Finding(
        "the connector has no key",
        None if keys else True,
        f"it has {len(keys)}, of an earlier setup or by hand" if keys else "",
        f"Once Tailpipe signs in by the pool: gcloud iam service-accounts keys delete {(keys or [''])[0]} "
        f"--iam-account={account}",
    )


def pool_of(session: Session) -> str:
    """Return the id of the pool that may act as the connector, empty if it cannot be read."""
    path = f"v1/{session.parent}/serviceAccounts/{session.account('connector')}:getIamPolicy"
    try:
        members = _members(session.google.post("iam", path), FEDERATED)
    except ReportedError:
        return ""
    found = (POOL.search(member) for member in sorted(members))
    return next((one[1] for one in found if one), "")


def connector_roles(session: Session) -> list[tuple[str, str, str]]:
    """Return the connector's grants in rights.yaml: role, condition's expression, scope."""
    names = {"export_bucket": session.bucket, "state_bucket": session.state_bucket}
    found: list[tuple[str, str, str]] = []
    for one in grants("gcp")["connector"]:
        expression = Template(str(one.get("condition", {}).get("expression", ""))).safe_substitute(names)
        found.append((str(one["role"]), " ".join(expression.split()), str(one["scope"])))
    return found


def held_on_project(session: Session, member: str) -> set[tuple[str, str]]:
    """Return a member's roles in the project's policy, each with its condition's expression."""
    # Only version 3 of a policy contains conditions.
    body = {"options": {"requestedPolicyVersion": 3}}
    policy = session.google.post("cloudresourcemanager", f"v3/{session.parent}:getIamPolicy", body)
    return {
        (str(one["role"]), " ".join(str(one.get("condition", {}).get("expression", "")).split()))
        for one in policy.get("bindings", ())
        if member in one.get("members", ())
    }


def reads_dataset(session: Session, account: str) -> bool:
    """Return whether a service account is a reader of the dataset, by the dataset's own entries."""
    found = session.google.find("bigquery", f"bigquery/v2/{session.parent}/datasets/{session.dataset}") or {}
    readers = ("READER", "roles/bigquery.dataViewer")
    return any(one.get("userByEmail") == account and one.get("role") in readers for one in found.get("access", ()))


def _connector(session: Session) -> Iterator[Finding]:
    account = session.account("connector")
    on_project = ("project", "export_bucket")
    expected = {(role, only) for role, only, scope in connector_roles(session) if scope in on_project}
    held = held_on_project(session, f"serviceAccount:{account}")
    lacking = sorted(role for role, _ in expected - held)
    others = sorted(held - expected)
    more = [f"{role}{' without its condition' if not condition else ''}" for role, condition in others]
    # For a role that the deployment grants with a condition, only the unconditional binding is removed.
    granted = {role for role, _ in expected}
    remove = "; ".join(
        f"gcloud projects remove-iam-policy-binding {session.project} --member=serviceAccount:{account} --role={role} "
        + ("--condition=None" if role in granted and not condition else "--all")
        for role, condition in others
    )
    yield Finding("the connector has its permissions on the project", not lacking, ", ".join(lacking), AGAIN)
    yield Finding(
        "the connector has no other permission on the project",
        not more,
        ", ".join(more),
        f"Run: {remove}",
    )
    yield Finding("the connector reads the dataset", reads_dataset(session, account), remedy=AGAIN)
    organization = session.settings.get("ORGANIZATION", "")
    if organization:
        policy = session.google.post("cloudresourcemanager", f"v3/{organization}:getIamPolicy")
        viewer = f"serviceAccount:{account}" in _members(policy, "roles/billing.viewer")
        yield Finding(f"the connector sees the billing accounts of {organization}", viewer, remedy=AGAIN)


def _members(policy: Mapping[str, Any], role: str) -> set[str]:
    return {str(member) for one in policy.get("bindings", ()) if one["role"] == role for member in one["members"]}


def accounts(session: Session) -> list[str]:
    """Return the open billing accounts that the deployment covers and the caller may see."""
    organization = session.settings.get("ORGANIZATION", "")
    included = [one for one in session.settings.get("INCLUDE_ACCOUNTS", "").split(",") if one]
    excluded = session.settings.get("EXCLUDE_ACCOUNTS", "").split(",")
    every = list(session.google.pages("cloudbilling", "v1/billingAccounts", "billingAccounts"))
    below = {str(one["name"]) for one in every if not organization or one.get("parent") == organization}
    found = [
        str(one["name"]).removeprefix("billingAccounts/")
        for one in every
        if one.get("open") and (one["name"] in below or one.get("masterBillingAccount") in below)
    ]
    return [one for one in found if one not in excluded and (not included or one in included)]
