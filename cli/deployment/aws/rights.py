"""The permissions that deploying and removing require on AWS, from operator.yaml, and how to grant them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from botocore.exceptions import BotoCoreError, ClientError

from cli.deployment.aws.session import Session, message_of
from cli.deployment.grants import OPERATOR_FILE, grants
from cli.deployment.model import Finding

PURPOSES = ("deploy", "destroy", "native")
POLICIES = tuple(f"infra/aws/operator-{purpose}-policy.json" for purpose in PURPOSES)
ACTIONS_A_CALL = 100  # the maximum of one simulation, by botocore's model


def rights(session: Session, *, alone: bool = False, fleet: bool = True, native: bool = False) -> list[Finding]:
    """Check each action of the operator with IAM's simulator, on the resources that it will be used on.

    `alone`: nothing is deployed to other accounts; `fleet`: tenants are served; `native`: CloudFormation deploys.
    Actions that only the other case needs are left out.
    """
    source = _principal(session)
    cases = {"members": alone, "fleet": not fleet, "native": not native}
    without = {name for name, left_out in cases.items() if left_out}
    wanted = _wanted(session, without)
    if not source:
        return [Finding(action, True, "this is the account's root user") for action in sorted(wanted)]
    allowed: set[str] = set()
    for resource, actions in _by_resource(wanted).items():
        asked = {} if resource == "*" else {"ResourceArns": [resource]}
        for start in range(0, len(actions), ACTIONS_A_CALL):
            some = actions[start : start + ACTIONS_A_CALL]
            try:
                pages = session.aws.client("iam").get_paginator("simulate_principal_policy")
                answers = [
                    one
                    for page in pages.paginate(PolicySourceArn=source, ActionNames=some, **asked)
                    for one in page["EvaluationResults"]
                ]
            except (ClientError, BotoCoreError) as error:
                why = f"the simulator could not be called: {message_of(error)}"
                remedy = "Grant iam:SimulatePrincipalPolicy to check this."
                return [Finding(action, None, why, remedy) for action in sorted(wanted)]
            allowed |= {one["EvalActionName"] for one in answers if one["EvalDecision"] == "allowed"}
    return [
        Finding(action, True)
        if action in allowed
        else Finding(action, False, f"not allowed on {wanted[action][0]}", _grant(source))
        for action in sorted(wanted)
    ]


def _wanted(session: Session, without: Collection[str]) -> dict[str, list[str]]:
    """Return each action of the operator, except under the conditions `without`, with examples of its resources."""
    found: dict[str, list[str]] = {}
    for listed in grants("aws", OPERATOR_FILE).values():
        for grant in listed:
            if grant.get("when") in without:
                continue
            for action in grant["actions"]:
                # A role is an IAM resource, for sts:AssumeRole too.
                service = action.partition(":")[0].replace("sts", "iam")
                own = [one for one in grant["resources"] if one == "*" or one.split(":")[2] == service]
                found.setdefault(action, []).extend(example(session, one) for one in own)
    return found


def example(session: Session, pattern: str) -> str:
    """Return an ARN of this account that matches a grant's pattern; the simulator accepts no patterns."""
    if pattern == "*":
        return pattern
    _, _, service, region, account, rest = pattern.split(":", 5)
    region = session.aws.region if region == "*" else region
    account = session.place.id if account == "*" else account
    rest = rest.replace("tailpipe-*", "tailpipe-exports").replace("Tailpipe-*", "Tailpipe-CloudWatch-Child-StackSet")
    return f"arn:{session.aws.partition}:{service}:{region}:{account}:{rest.replace('*', 'x')}"


def _by_resource(wanted: Mapping[str, list[str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for action, resources in wanted.items():
        for resource in dict.fromkeys(resources):
            found.setdefault(resource, []).append(action)
    return found


def _principal(session: Session) -> str:
    """Return the ARN whose policies apply: the role of a session; empty for the root user."""
    fields = session.place.caller.split(":")
    if len(fields) > 5 and fields[5] == "root":
        return ""
    if "assumed-role/" not in session.place.caller:
        return session.place.caller
    name = session.place.caller.split("/")[1]
    try:
        # A session's ARN leaves out the role's path.
        return str(session.aws.client("iam").get_role(RoleName=name)["Role"]["Arn"])
    except ClientError:
        return f"arn:{session.aws.partition}:iam::{session.place.id}:role/{name}"


def _grant(source: str) -> str:
    kind, _, name = source.split(":")[5].partition("/")
    name = name.rsplit("/", 1)[-1]
    if kind not in ("user", "role"):
        return f"Attach {' and '.join(POLICIES)} to {source}."
    account = source.split(":")[4]
    made = []
    for purpose, file in zip(PURPOSES, POLICIES, strict=True):
        policy = f"{':'.join(source.split(':')[:2])}:iam::{account}:policy/tailpipe-{purpose}"
        made.append(f"aws iam create-policy --policy-name tailpipe-{purpose} --policy-document file://{file}")
        made.append(f"aws iam attach-{kind}-policy --{kind}-name {name} --policy-arn {policy}")
    return " && ".join(made)
