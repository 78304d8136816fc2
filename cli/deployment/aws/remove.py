"""The steps of a removal outside Terraform: stop the schedule, delete instances, exports and data."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda.settings import AwsSettings
from aws_lambda.state_store import KEY
from aws_lambda.targets import BY_NAME
from cli.deployment.aws.account_kind import MANAGEMENT
from cli.deployment.aws.functions import settings_of
from cli.deployment.aws.session import MARK, OURS, Session, gone, message_of
from cli.deployment.model import Clearing, Kept, OperatorError, Problem, Removal
from cli.deployment.operator import Tell
from cli.deployment.output import number_of, some
from shared.parsing import mapping, parse_time
from shared.state.session import LONGEST_LEASE
from tailpipe_exports import FILES

KEYS_A_CALL = 1000  # the maximum of DeleteObjects
POLL_S = 5.0
# A StackSet operation over thousands of accounts takes hours; after this long the operator has to check it.
LONGEST_OPERATION_S = 6 * 3600.0
RUNNING = frozenset({"RUNNING", "QUEUED", "STOPPING"})
IDENTITY = (
    "aws_iam_role.connector",
    "aws_iam_role_policy.connector",
    "aws_iam_role_policies_exclusive.connector",
    "aws_iam_role_policy_attachments_exclusive.connector",
    "aws_cloudformation_stack_set",
)
Sleep = Callable[[float], None]
EVENTS = FILES / "infra" / "aws" / "events.json"


# UpdateSchedule resets what it is not given.
KEPT_OF_SCHEDULE = (
    "Name",
    "GroupName",
    "ScheduleExpression",
    "ScheduleExpressionTimezone",
    "FlexibleTimeWindow",
    "Target",
)


def stop_schedule(session: Session, tell: Tell) -> None:
    """Disable the schedules and the rules for events, and prevent any other start of the function."""
    function = session.function
    scheduler = session.aws.client("scheduler")
    for name in (function, f"{function}-rounds"):
        schedule = _found(partial(scheduler.get_schedule, Name=name, GroupName=name))
        if schedule is not None:
            kept = {field: schedule[field] for field in KEPT_OF_SCHEDULE if field in schedule}
            scheduler.update_schedule(**kept, State="DISABLED")
            tell(f"schedule {name} is disabled")
    rules = [f"{function}-{name}" for name in (*json.loads(EVENTS.read_text(encoding="utf-8")), "deliveries")]
    for region in dict.fromkeys((session.aws.home, session.aws.region)):
        events = session.aws.client("events", region)
        for rule in rules:
            if _found(partial(events.describe_rule, Name=rule)) is not None:
                events.disable_rule(Name=rule)
                tell(f"rule {rule} in {region} is disabled")
    client = session.aws.client("lambda")
    if _found(lambda: client.get_function_configuration(FunctionName=function)) is not None:
        client.put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        tell(f"function {function} is no longer started")


def wait_for_run(session: Session, settings: AwsSettings, tell: Tell, sleep: Sleep) -> None:
    """Wait while an earlier run still holds its lock: until it ends or the lock expires."""
    shown = False
    while True:
        until, now = _held_until(session, settings), datetime.now(UTC)
        # A lock that lasts longer than any run is invalid; the function ignores it too.
        if until is None or not now < until <= now + LONGEST_LEASE:
            return
        if not shown:
            tell(f"a run is in progress; its lock expires at {until:%H:%M:%S} UTC at the latest")
            shown = True
        sleep(POLL_S)


def _held_until(session: Session, settings: AwsSettings) -> datetime | None:
    bucket = settings.bucket_of(session.place.id)
    client = session.aws.client("s3", settings.bucket_region)
    answer = _found(lambda: client.get_object(**session.owned(bucket), Key=KEY))
    if answer is None:
        return None
    try:
        running = mapping(json.loads(answer["Body"].read())).get("running")
    except ValueError:
        return None
    return parse_time(mapping(running).get("until"))


def delete_instances(session: Session, name: str, tell: Tell, sleep: Sleep) -> None:
    """Delete all instances of the StackSet, and with them the members' roles; continue an interrupted call."""
    client = session.aws.client("cloudformation")
    found = _found(lambda: client.describe_stack_set(StackSetName=name))
    if found is None:
        return
    if not _is_marked(found["StackSet"].get("Tags", ())):
        tell(f"StackSet {name} is not marked as ours and is kept with its instances")
        return
    if found["StackSet"].get("AutoDeployment", {}).get("Enabled"):
        # While it is enabled, an account that joins would get an instance again.
        _wait_operations(client, name, tell, sleep)
        _update_without_auto_deployment(client, name, found["StackSet"])
    while True:
        _wait_operations(client, name, tell, sleep)
        instances = list(_instances(client, name))
        if not instances:
            tell(f"StackSet {name} has no instances")
            return
        regions = sorted({one["Region"] for one in instances})
        accounts = sorted({one["Account"] for one in instances})
        tell(f"deleting {len(instances)} instances of {name} in {len(accounts)} accounts")
        before = len(instances)
        client.delete_stack_instances(
            StackSetName=name,
            DeploymentTargets={
                "OrganizationalUnitIds": [_root(session)],
                "Accounts": accounts,
                "AccountFilterType": "INTERSECTION",
            },
            Regions=regions,
            RetainStacks=False,
            OperationPreferences={
                "FailureTolerancePercentage": 100,
                "MaxConcurrentPercentage": 100,
                "ConcurrencyMode": "SOFT_FAILURE_TOLERANCE",
            },
        )
        _wait_operations(client, name, tell, sleep)
        left = list(_instances(client, name))
        if len(left) >= before:
            raise OperatorError(*_stuck(name, left))


def _stuck(name: str, left: list[Mapping[str, Any]]) -> Iterator[Problem]:
    reasons = Counter(str(one.get("StatusReason") or one.get("Status")) for one in left)
    for reason, number in reasons.most_common(5):
        some = ", ".join(
            sorted(one["Account"] for one in left if reason in (one.get("StatusReason"), one["Status"]))[:5]
        )
        yield Problem(
            f"{number} instances of {name} could not be deleted ({some}): {reason}",
            "Fix the reason and call again; or delete them with RetainStacks and remove the role in those accounts.",
        )


def _update_without_auto_deployment(client: Any, name: str, stack_set: Mapping[str, Any]) -> None:
    client.update_stack_set(
        StackSetName=name,
        UsePreviousTemplate=True,
        Parameters=[
            {"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in stack_set.get("Parameters", ())
        ],
        Capabilities=stack_set.get("Capabilities", []),
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": False},
    )


def _wait_operations(client: Any, name: str, tell: Tell, sleep: Sleep) -> None:
    waited = 0.0
    last = ""
    while True:
        listed = client.list_stack_set_operations(StackSetName=name, MaxResults=20)["Summaries"]
        if not any(one["Status"] in RUNNING for one in listed):
            return
        if waited >= LONGEST_OPERATION_S:
            raise OperatorError(
                Problem(f"an operation on {name} still runs", "Look at it in CloudFormation; call again.")
            )
        states = Counter(str(one["Status"]) for one in _instances(client, name))
        line = ", ".join(f"{number} {state.lower()}" for state, number in sorted(states.items()))
        if line != last:
            tell(f"an operation runs: {line}")
            last = line
        sleep(POLL_S)
        waited += POLL_S


def _instances(client: Any, name: str) -> Iterator[Mapping[str, Any]]:
    for page in client.get_paginator("list_stack_instances").paginate(StackSetName=name):
        yield from page["Summaries"]


def _root(session: Session) -> str:
    return str(session.aws.client("organizations").list_roots()["Roots"][0]["Id"])


def clear(session: Session, removal: Removal, tell: Tell, sleep: Sleep) -> None:
    """Wait for a run in progress, then delete the requested instances, exports and data."""
    settings = settings_of(session, or_defaults=True)
    wait_for_run(session, settings, tell, sleep)
    if not removal.keep_identity and session.place.kind == MANAGEMENT and settings.account_kind == "management":
        delete_instances(session, settings.stackset, tell, sleep)
    if removal.delete_exports:
        delete_exports(session, tell)
    if removal.delete_data:
        delete_data(session, settings, tell)


def kept(session: Session, removal: Removal) -> list[Kept]:
    """Return what is removed from Terraform's state before the rest is destroyed."""
    kept: list[Kept] = []
    bucket = settings_of(session, or_defaults=True).bucket_of(session.place.id)
    if not removal.delete_data:
        exports = "" if removal.delete_exports else ", to which exports continue to be delivered"
        kept.append(Kept(f"bucket {bucket} with its data{exports}", ("aws_s3_bucket",)))
    if removal.keep_identity:
        kept.append(Kept("the connector role, and the StackSet with its instances", IDENTITY))
    return kept


def clearing(session: Session, removal: Removal) -> Clearing:
    """Return what the removal would delete outside Terraform, and which exports would be kept. Only reads."""
    settings = settings_of(session, or_defaults=True)
    deletes, keeps = [], []
    if not removal.keep_identity and session.place.kind == MANAGEMENT:
        client = session.aws.client("cloudformation")
        stackset = _found(lambda: client.describe_stack_set(StackSetName=settings.stackset))
        marked = stackset is not None and _is_marked(stackset["StackSet"].get("Tags", ()))
        accounts = sorted({one["Account"] for one in _instances(client, settings.stackset)}) if marked else []
        if accounts:
            deletes.append(f"the member role in {number_of(accounts, 'account')}: {some(accounts)}")
    exports = list(_own_exports(session))
    ours = [name for name, _, is_marked in exports if is_marked]
    if ours and removal.delete_exports:
        deletes.append(f"{number_of(ours, 'export')}: {some(ours)}")
    elif ours:
        keeps.append(f"{number_of(ours, 'export')}, left delivering: {some(ours)}")
    keeps += [f"export {name}, which is not marked as ours" for name, _, is_marked in exports if not is_marked]
    if removal.delete_data:
        bucket = settings.bucket_of(session.place.id)
        client = session.aws.client("s3", settings.bucket_region)
        if _found(lambda: client.head_bucket(**session.owned(bucket))) is not None:
            deletes.append(f"all data in bucket {bucket}, with every version, permanently")
    return Clearing(deletes, keeps)


def _is_marked(tags: Iterable[Mapping[str, Any]]) -> bool:
    return any(one["Key"] == MARK and one["Value"] == OURS for one in tags)


def _own_exports(session: Session) -> Iterator[tuple[str, str, bool]]:
    """Yield the exports with our names: name, ARN, and whether they are marked as ours."""
    client = session.aws.client("bcm-data-exports")
    for page in client.get_paginator("list_exports").paginate():
        for one in page["Exports"]:
            name, arn = str(one["ExportName"]), str(one["ExportArn"])
            if name in BY_NAME:
                tags = client.list_tags_for_resource(ResourceArn=arn).get("ResourceTags", [])
                yield name, arn, any(tag["Value"] == OURS for tag in tags)


def delete_exports(session: Session, tell: Tell) -> None:
    """Delete the exports that have one of our names and are marked as ours; report and keep the others."""
    client = session.aws.client("bcm-data-exports")
    for name, arn, marked in list(_own_exports(session)):
        if not marked:
            tell(f"export {name} is not marked as ours and is kept; delete it manually if it is yours")
            continue
        client.delete_export(ExportArn=arn)
        tell(f"export {name} is deleted")


def delete_data(session: Session, settings: AwsSettings, tell: Tell) -> None:
    """Delete every object and every version in the bucket; an interrupted call continues the next time."""
    bucket = settings.bucket_of(session.place.id)
    client = session.aws.client("s3", settings.bucket_region)
    if _found(lambda: client.head_bucket(**session.owned(bucket))) is None:
        return
    deleted = 0
    for page in client.get_paginator("list_object_versions").paginate(**session.owned(bucket)):
        found = [
            {"Key": one["Key"], "VersionId": one["VersionId"]}
            for kind in ("Versions", "DeleteMarkers")
            for one in page.get(kind, [])
        ]
        for start in range(0, len(found), KEYS_A_CALL):
            answer = client.delete_objects(
                **session.owned(bucket),
                Delete={"Objects": found[start : start + KEYS_A_CALL], "Quiet": True},
            )
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise OperatorError(
                    Problem(
                        f"{len(answer['Errors'])} objects of {bucket} could not be deleted: {first.get('Message', '')}",
                        "Look for a bucket policy or an object lock that forbids it, and call again.",
                    )
                )
            deleted += len(found[start : start + KEYS_A_CALL])
            tell(f"{deleted:,} objects of {bucket} are deleted")


def _found(read: Callable[[], Any]) -> Any:
    """Return the response of a read, None if the resource does not exist. Raises OperatorError for other errors."""
    try:
        return read()
    except ClientError as error:
        if gone(error):
            return None
        raise OperatorError(Problem(message_of(error), "See tailpipe-exports doctor aws.")) from error
