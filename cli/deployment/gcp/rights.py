"""The permissions that deploying and removing require on Google Cloud, from operator.yaml, and how to grant them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from cli.deployment.gcp.rest import Google, remedy_of
from cli.deployment.gcp.session import Session
from cli.deployment.grants import OPERATOR_FILE, grants
from cli.deployment.model import Finding, OperatorError, Problem
from cli.deployment.terraform.root_module import INFRA
from shared.errors import Permanent, ReportedError

FOLDER = INFRA / "gcp"
ROLE = "tailpipeOperator"
# By scope: the file of the custom role.
NATIVE_FILE, NATIVE_ROLE_FILE, NATIVE_ROLE = (
    "operator-native.yaml",
    "operator-native-role.yaml",
    "tailpipeNativeOperator",
)
ROLE_FILES = {"project": "operator-role.yaml", "organization": "operator-organization-role.yaml"}
AT_ONCE = 100  # permissions in one request ("Testing permissions", IAM documentation)


def actions(scope: str) -> list[str]:
    """Return every permission needed on a scope, once."""
    every = [one for phase in grants("gcp", OPERATOR_FILE).values() for one in phase]
    return sorted({action for one in every if one["scope"] == scope for action in one["actions"]})


def role(scope: str) -> dict[str, Any]:
    """Return the custom role of a scope as ``gcloud iam roles create --file`` takes it."""
    return {
        "title": f"Tailpipe Exports: operator ({scope})",
        "description": f"Deploys and removes Tailpipe Exports; made of operator.yaml, for the {scope}.",
        "stage": "GA",
        "includedPermissions": actions(scope),
    }


def native_actions() -> list[str]:
    """Return the permissions on the project that Infrastructure Manager needs besides those of operator.yaml."""
    return sorted({action for one in grants("gcp", NATIVE_FILE)["native"] for action in one["actions"]})


def native_role() -> dict[str, Any]:
    """Return their custom role as ``gcloud iam roles create --file`` takes it."""
    return {
        "title": "Tailpipe Exports: operator (Infrastructure Manager)",
        "description": "Deploys and removes Tailpipe Exports; made of operator-native.yaml, for the project.",
        "stage": "GA",
        "includedPermissions": native_actions(),
    }


def require_native(session: Session) -> None:
    """Raise OperatorError for missing permissions of `native_actions`. Raises ReportedError if they cannot be read."""
    missing = [name for name, held in _native_held(session) if not held]
    if missing:
        raise OperatorError(
            Problem(
                f"permissions for Infrastructure Manager are missing on {session.parent}: {', '.join(missing)}",
                f"Run: {_native_command(session)}",
            )
        )


def native_rights(session: Session) -> Iterator[Finding]:
    """Yield each permission of `native_actions` as held or missing. Does not raise if they cannot be read."""
    where = f"project {session.project}"
    try:
        answers = list(_native_held(session))
    except ReportedError as error:
        yield Finding(f"rights for Infrastructure Manager on {where}", None, error.message, remedy_of(error))
        return
    for name, held in answers:
        yield Finding(f"{name} on {where}", held, "" if held else "missing", _native_command(session))


def _native_held(session: Session) -> Iterator[tuple[str, bool | None]]:
    path = f"v3/{session.parent}:testIamPermissions"
    return _asked(session.google, "cloudresourcemanager", path, native_actions())


def _native_command(session: Session) -> str:
    """Return the command that grants the caller the permissions of `native_actions`."""
    file = FOLDER.relative_to(INFRA.parent) / NATIVE_ROLE_FILE
    return (
        f"gcloud iam roles create {NATIVE_ROLE} --project={session.project} --file={file} && "
        f"gcloud projects add-iam-policy-binding {session.project} --member={session.member} "
        f"--role=projects/{session.project}/roles/{NATIVE_ROLE} --condition=None"
    )


def rights(session: Session) -> Iterator[Finding]:
    """Yield each permission as held or missing. Does not raise for one that cannot be checked."""
    yield from _held(session, "project", session.parent, f"project {session.project}")
    accounts = _accounts(session)
    if accounts:
        for account in accounts:
            where = f"billing account {account}"
            yield from _held(session, "billing_account", f"billingAccounts/{account}", where)
    elif session.organization:
        name = f"organizations/{session.organization}"
        yield from _held(session, "organization", name, f"organization {session.organization}")
    else:
        yield Finding(
            "rights on the billing accounts",
            None,
            "the project has no organization that you can see, and no billing_accounts are named",
            "Name them: --var 'billing_accounts=[\"012345-6789AB-CDEF01\"]'.",
        )


def _accounts(session: Session) -> Sequence[str]:
    given = session.given.get("billing_accounts") or ()
    return [str(one) for one in given] if isinstance(given, list | tuple) else []


def _held(session: Session, scope: str, resource: str, where: str) -> Iterator[Finding]:
    service, version = ("cloudbilling", "v1") if scope == "billing_account" else ("cloudresourcemanager", "v3")
    remedy = command(session, scope, resource)
    try:
        answers = dict(_asked(session.google, service, f"{version}/{resource}:testIamPermissions", actions(scope)))
    except ReportedError as error:
        yield Finding(f"rights on {where}", None, error.message, remedy_of(error))
        return
    words = {True: "", False: "missing", None: "Google does not evaluate it here"}
    for name in actions(scope):
        yield Finding(f"{name} on {where}", answers[name], words[answers[name]], remedy)


def _asked(google: Google, service: str, path: str, names: Sequence[str]) -> Iterator[tuple[str, bool | None]]:
    """Yield each permission, whether it is held, and None for one that Google does not evaluate on the resource.

    Google refuses a whole request for one invalid permission; the request is then split in halves.
    """
    if len(names) > AT_ONCE:
        yield from _asked(google, service, path, names[:AT_ONCE])
        yield from _asked(google, service, path, names[AT_ONCE:])
        return
    try:
        held = google.post(service, path, {"permissions": list(names)}).get("permissions", ())
    except Permanent:
        if len(names) == 1:
            yield names[0], None
            return
        middle = len(names) // 2
        yield from _asked(google, service, path, names[:middle])
        yield from _asked(google, service, path, names[middle:])
        return
    for name in names:
        yield name, name in held


def command(session: Session, scope: str, resource: str) -> str:
    """Return the command that grants the caller what a scope needs."""
    if scope == "billing_account":
        account = resource.partition("/")[2]
        words = "gcloud billing accounts add-iam-policy-binding"
        return f"{words} {account} --member={session.member} --role=roles/billing.admin"
    kind = {"project": "projects", "organization": "organizations"}[scope]
    identifier = resource.partition("/")[2]
    file = FOLDER.relative_to(INFRA.parent) / ROLE_FILES[scope]
    return (
        f"gcloud iam roles create {ROLE} --{scope}={identifier} --file={file} && "
        f"gcloud {kind} add-iam-policy-binding {identifier} --member={session.member} "
        f"--role={kind}/{identifier}/roles/{ROLE} --condition=None"
    )


def written(document: Mapping[str, Any], file: str = OPERATOR_FILE) -> str:
    """Return a role's file."""
    head = f"# Made of {file}; a test holds them equal.\n"
    return head + yaml.safe_dump(dict(document), sort_keys=False, width=120)
