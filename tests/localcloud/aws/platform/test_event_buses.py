"""Account events reach the function through the deployed rules, across regions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import root
from tests.localcloud.aws.iam.sessions import client_in, document, make_role
from tests.localcloud.aws.runtime.zips import ECHO, create_function

EVENTS = {"Service": "events.amazonaws.com"}
NAMES = ["CreateAccountResult", "AccountJoinedOrganization", "MoveAccount", "AccountDepartedOrganization"]
ACCOUNTS = {
    "source": ["aws.organizations"],
    "detail": {"eventName": NAMES},
}


@pytest.fixture
def closing() -> Iterator[LocalAws]:
    """Return a local AWS in which closing an account takes a minute."""
    with LocalAws(accounts=2, clock=VirtualClock(), close_delay_s=60) as cloud:
        yield cloud


def put_rule(
    cloud: LocalAws, region: str, target: dict[str, Any], pattern: dict[str, Any] = ACCOUNTS, **more: Any
) -> str:
    """Create a rule with one target on a region's default bus; return its ARN."""
    events = client_in(cloud, "events", region)
    arn: str = events.put_rule(Name="accounts", EventPattern=json.dumps(pattern), **more)["RuleArn"]
    events.put_targets(Rule="accounts", Targets=[{"Id": "t", **target}])
    events.close()
    return arn


def bus(cloud: LocalAws, region: str) -> str:
    """Return the ARN of a region's default bus."""
    return f"arn:aws:events:{region}:{cloud.account}:event-bus/default"


def let_in(cloud: LocalAws, rule: str, **more: str) -> str:
    """Allow a rule to invoke the function; return the function's ARN."""
    cloud.client("lambda").add_permission(
        FunctionName="function",
        StatementId="rule",
        Action="lambda:InvokeFunction",
        Principal="events.amazonaws.com",
        SourceArn=rule,
        **more,
    )
    return f"arn:aws:lambda:{cloud.region}:{cloud.account}:function:function"


def deploy(cloud: LocalAws, *grants: dict[str, Any]) -> None:
    """Create the function, its rule, and the home region's forwarding rule, whose role has `grants`."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:{cloud.region}:{cloud.account}:rule/accounts"
    assert put_rule(cloud, cloud.region, {"Arn": let_in(cloud, rule)}) == rule
    role = make_role(cloud, "forward", *grants, trusts=EVENTS)
    put_rule(cloud, "us-east-1", {"Arn": bus(cloud, cloud.region), "RoleArn": role})


def forward(cloud: LocalAws) -> dict[str, Any]:
    """Return the permission that the forwarding role needs."""
    return {"Action": "events:PutEvents", "Resource": bus(cloud, cloud.region)}


def test_account_creation_reaches_the_function_in_another_region(cloud: LocalAws) -> None:
    """The home region's bus forwards the event as CloudTrail wrote it."""
    deploy(cloud, forward(cloud))
    account = cloud.join_account("newcomer")
    (run,) = cloud.await_functions()
    event = run["payload"]
    assert (run["outcome"], event["region"], event["detail"]["eventName"]) == (
        "succeeded",
        "us-east-1",
        "CreateAccountResult",
    )
    status = event["detail"]["serviceEventDetails"]["createAccountStatus"]
    assert (status["state"], status["accountId"]) == ("SUCCEEDED", account)
    assert [one["error"] for one in cloud.event_deliveries()] == ["", ""]
    role = f"arn:aws:iam::{cloud.account}:role/forward"
    assert cloud.calls.accesses(role) == [(role, "events:PutEvents", bus(cloud, cloud.region))]
    assert "lambda:InvokeFunction" in {action for _, action, _ in cloud.calls.accesses("events.amazonaws.com")}


def test_account_changes_through_the_api_send_events(cloud: LocalAws) -> None:
    """Creating, joining, moving and leaving send an event with the account id on the management account's bus."""
    deploy(cloud, forward(cloud))
    organizations = cloud.client("organizations")
    organizations.create_account(AccountName="made", Email="made@example.com")
    invited = cloud.invite_account("guest")
    unit = organizations.list_organizational_units_for_parent(ParentId=root(cloud))["OrganizationalUnits"][0]["Id"]
    organizations.move_account(AccountId=invited, SourceParentId=root(cloud), DestinationParentId=unit)
    organizations.remove_account_from_organization(AccountId=invited)
    details = [run["payload"]["detail"] for run in cloud.await_functions()]
    assert [one["eventName"] for one in details] == NAMES
    assert details[1]["serviceEventDetails"] == {"accountId": invited, "joinedMethod": "INVITED"}
    assert details[2]["requestParameters"]["accountId"] == invited
    assert details[3]["serviceEventDetails"] == {"accountId": invited, "departureMethod": "REMOVED"}


def test_closure_sends_the_call_and_later_its_result(closing: LocalAws) -> None:
    """CloseAccount is recorded as a call; CloseAccountResult follows when the account is closed, with its status."""
    create_function(closing, ECHO)
    rule = f"arn:aws:events:us-east-1:{closing.account}:rule/accounts"
    pattern = {"source": ["aws.organizations"], "detail": {"eventName": ["CloseAccount", "CloseAccountResult"]}}
    put_rule(closing, "us-east-1", {"Arn": let_in(closing, rule)}, pattern)
    member = next(one for one in closing.accounts() if one != closing.account)
    closing.client("organizations").close_account(AccountId=member)
    (call,) = (run["payload"] for run in closing.await_functions())
    assert (call["detail-type"], call["detail"]["eventName"]) == ("AWS API Call via CloudTrail", "CloseAccount")
    assert call["detail"]["requestParameters"] == {"accountId": member}
    closing.advance(60)
    assert closing.accounts()[member] == "CLOSED"
    result = closing.await_functions()[-1]["payload"]
    assert (result["detail-type"], result["detail"]["eventName"]) == (
        "AWS Service Event via CloudTrail",
        "CloseAccountResult",
    )
    status = result["detail"]["serviceEventDetails"]["closeAccountStatus"]
    assert (status["accountId"], status["state"]) == (member, "SUCCEEDED")
    assert len(closing.await_functions()) == 2


def test_forwarding_role_without_permission_delivers_nothing(cloud: LocalAws) -> None:
    """The denial is reported, and no function runs."""
    deploy(cloud)
    cloud.join_account("newcomer")
    (delivery,) = cloud.event_deliveries()
    assert "not authorized to perform: events:PutEvents" in delivery["error"]
    assert cloud.await_functions() == []


def test_function_is_not_run_without_permission_for_the_rule(cloud: LocalAws) -> None:
    """Its resource policy decides; the dead-letter queue gets the event."""
    create_function(cloud, ECHO)
    arn = f"arn:aws:sqs:us-east-1:{cloud.account}:dead"
    rule = f"arn:aws:events:us-east-1:{cloud.account}:rule/accounts"
    allow = {"Principal": EVENTS, "Action": "sqs:SendMessage", "Resource": arn}
    condition = {"Condition": {"ArnEquals": {"aws:SourceArn": rule}}}
    sqs = client_in(cloud, "sqs", "us-east-1")
    url = sqs.create_queue(QueueName="dead", Attributes={"Policy": document(allow | condition)})["QueueUrl"]
    function = let_in(cloud, f"arn:aws:events:us-east-1:{cloud.account}:rule/another")
    put_rule(cloud, "us-east-1", {"Arn": function, "DeadLetterConfig": {"Arn": arn}})
    cloud.join_account("newcomer")
    (delivery,) = cloud.event_deliveries()
    assert "not authorized to perform: lambda:InvokeFunction" in delivery["error"]
    assert delivery["dead_lettered"] is True
    (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
    sqs.close()
    assert json.loads(message["Body"])["detail"]["eventName"] == "CreateAccountResult"
    assert cloud.await_functions() == []


@pytest.mark.parametrize(("region", "kept"), [("us-east-1", True), ("eu-west-1", False)])
def test_event_that_cannot_be_forwarded_goes_to_a_queue_in_the_rules_region(
    cloud: LocalAws, region: str, kept: bool
) -> None:
    """A queue in another region gets nothing, as on AWS."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:us-east-1:{cloud.account}:rule/accounts"
    dead = f"arn:aws:sqs:{region}:{cloud.account}:dead"
    allow = {"Principal": EVENTS, "Action": "sqs:SendMessage", "Resource": dead}
    sqs = client_in(cloud, "sqs", region)
    url = sqs.create_queue(QueueName="dead", Attributes={"Policy": document(allow)})["QueueUrl"]
    role = make_role(cloud, "forward", trusts=EVENTS)
    target = {"Arn": bus(cloud, cloud.region), "RoleArn": role, "DeadLetterConfig": {"Arn": dead}}
    assert put_rule(cloud, "us-east-1", target) == rule
    cloud.join_account("newcomer")
    (delivery,) = cloud.event_deliveries()
    assert delivery["dead_lettered"] is kept
    assert len(sqs.receive_message(QueueUrl=url).get("Messages", [])) == kept
    sqs.close()


def test_permission_with_a_source_account_refuses_the_rule(cloud: LocalAws) -> None:
    """EventBridge sends only the rule's ARN to Lambda, no account, so SourceAccount never matches."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:us-east-1:{cloud.account}:rule/accounts"
    put_rule(cloud, "us-east-1", {"Arn": let_in(cloud, rule, SourceAccount=cloud.account)})
    cloud.join_account("newcomer")
    (delivery,) = cloud.event_deliveries()
    assert "not authorized to perform: lambda:InvokeFunction" in delivery["error"]


@pytest.mark.parametrize(
    ("pattern", "more"),
    [
        (ACCOUNTS, {"State": "DISABLED"}),
        ({"source": ["aws.organizations"], "detail": {"eventName": ["CloseAccountResult"]}}, {}),
    ],
)
def test_disabled_or_unmatched_rule_does_nothing(
    cloud: LocalAws, pattern: dict[str, Any], more: dict[str, Any]
) -> None:
    """Neither counts as a failed delivery."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:us-east-1:{cloud.account}:rule/accounts"
    put_rule(cloud, "us-east-1", {"Arn": let_in(cloud, rule)}, pattern, **more)
    cloud.join_account("newcomer")
    assert cloud.event_deliveries() == []


def test_put_events_delivers_to_rules_and_refuses_aws_sources(cloud: LocalAws) -> None:
    """The target's own input is used if it has one."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:{cloud.region}:{cloud.account}:rule/accounts"
    target = {"Arn": let_in(cloud, rule), "InputPath": "$.detail.inner"}
    put_rule(cloud, cloud.region, target, {"source": ["own"]})
    entry = {"DetailType": "t", "Detail": '{"inner": {"a": 1}}'}
    answer = cloud.client("events").put_events(
        Entries=[entry | {"Source": "own"}, entry | {"Source": "aws.organizations"}, {"Source": "own"}]
    )
    assert answer["FailedEntryCount"] == 2
    assert [one.get("ErrorCode") for one in answer["Entries"]] == [
        None,
        "NotAuthorizedForSourceException",
        "InvalidArgument",
    ]
    assert [one["payload"] for one in cloud.await_functions()] == [{"a": 1}]


def test_concurrent_first_runs_share_a_log_group(cloud: LocalAws) -> None:
    """Each run finds the group, whichever created it, and no log is lost."""
    deploy(cloud, forward(cloud))
    for number in range(6):
        cloud.join_account(name=f"at-once-{number}")
    assert [run["outcome"] for run in cloud.await_functions()] == ["succeeded"] * 6
