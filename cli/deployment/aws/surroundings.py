"""Checks whether a deployed function still matches its account's role in the organization."""

from __future__ import annotations

from collections.abc import Iterator

from botocore.exceptions import ClientError

from cli.deployment.aws.account_kind import (
    FEATURES,
    MANAGED_BY,
    MANAGEMENT,
    MEMBER,
    ORGANIZATION,
    STANDALONE,
    VARIABLE,
)
from cli.deployment.aws.functions import environment_of
from cli.deployment.aws.session import Session, message_of
from cli.deployment.model import Finding, OperatorError


def surroundings(session: Session) -> Iterator[Finding]:
    """Yield whether the function matches its account, and whether StackSets has access; nothing without a function."""
    try:
        environment = environment_of(session)
    except OperatorError as error:
        yield from (Finding(f"function {session.function}", None, one.what, one.remedy) for one in error.problems)
        return
    if environment is None:
        return
    kind, place = environment.get(VARIABLE) or "management", session.place
    yield _fitness(session, kind)
    if kind == "management" and place.kind == MANAGEMENT and FEATURES not in place.details:
        yield _organizations_access(session)


def _fitness(session: Session, kind: str) -> Finding:
    place, what = session.place, f"function {session.function} is deployed for a {kind} account"
    if kind == "management" and place.kind == MEMBER:
        manager = place.details[MANAGED_BY]
        return Finding(
            what,
            False,
            f"{place.id} is now a member of organization {place.details[ORGANIZATION]}, which {manager} manages: "
            "every run fails and writes nothing",
            "To export this account's own costs: tailpipe-exports deploy aws --var account_kind=standalone. To export "
            f"the costs of all accounts: tailpipe-exports destroy aws, then deploy in management account {manager}.",
        )
    if kind == "management" and place.kind == STANDALONE:
        detail = f"{place.id} is in no organization now: its own costs are exported, and there are no members"
        return Finding(what, True, detail)
    if kind == "standalone" and place.kind == MANAGEMENT:
        return Finding(
            what,
            True,
            f"{place.id} manages organization {place.details[ORGANIZATION]}: the export holds the costs of all its "
            "accounts, and members get no role; tailpipe-exports deploy aws without account_kind gives them one",
        )
    return Finding(what, True)


def _organizations_access(session: Session) -> Finding:
    what = "StackSets' access to the organization"
    try:
        status = str(session.aws.client("cloudformation").describe_organizations_access().get("Status", ""))
    except ClientError as error:
        return Finding(what, None, message_of(error), "Grant cloudformation:DescribeOrganizationsAccess to see.")
    if status == "ENABLED":
        return Finding(what, True, "on")
    return Finding(
        what,
        False,
        f"{status}: no member account gets the role that Tailpipe reads metrics with",
        "Deploy again, which switches it on: tailpipe-exports deploy aws.",
    )
