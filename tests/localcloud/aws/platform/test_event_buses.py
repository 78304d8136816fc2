"""Events of accounts reach the function by the rules that are deployed, across regions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.helpers import root
from tests.localcloud.aws.iam.sessions import client_in, document, make_role
from tests.localcloud.aws.runtime.zips import ECHO, create_function

EVENTS = {"Service": "events.amazonaws.com"}
NAMES = ["CreateAccountResult", "AccountJoinedOrganization", "MoveAccount", "AccountDepartedOrganization"]
ACCOUNTS = {
    "source": ["aws.organizations"],
    "detail": {"eventName": NAMES},
}


def put_rule(
    cloud: LocalAws, region: str, target: dict[str, Any], pattern: dict[str, Any] = ACCOUNTS, **more: Any
) -> str:
    """A rule on a region's default bus with one target; returns its ARN."""
    events = client_in(cloud, "events", region)
    arn: str = events.put_rule(Name="accounts", EventPattern=json.dumps(pattern), **more)["RuleArn"]
    events.put_targets(Rule="accounts", Targets=[{"Id": "t", **target}])
    events.close()
    return arn


def bus(cloud: LocalAws, region: str) -> str:
    """The ARN of a region's default bus."""
    return f"arn:aws:events:{region}:{cloud.account}:event-bus/default"


def let_in(cloud: LocalAws, rule: str, **more: str) -> str:
    """Let a rule invoke the function; returns the function's ARN."""
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
    """The function, its rule, and the rule in the home region that forwards to it with a role that has `grants`."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:{cloud.region}:{cloud.account}:rule/accounts"
    assert put_rule(cloud, cloud.region, {"Arn": let_in(cloud, rule)}) == rule
    role = make_role(cloud, "forward", *grants, trusts=EVENTS)
    put_rule(cloud, "us-east-1", {"Arn": bus(cloud, cloud.region), "RoleArn": role})


def forward(cloud: LocalAws) -> dict[str, Any]:
    """The right that the forwarding role needs."""
    return {"Action": "events:PutEvents", "Resource": bus(cloud, cloud.region)}


def test_a_created_account_reaches_the_function_in_another_region(cloud: LocalAws) -> None:
    """The event goes from the home region's bus to the function's, as CloudTrail wrote it."""
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


def test_an_account_that_is_created_through_the_api_tells_so_too(cloud: LocalAws) -> None:
    """An account that is created, joins, moves or departs has an event with its id on the management account's bus."""
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


def test_a_forwarding_role_without_the_right_delivers_nothing(cloud: LocalAws) -> None:
    """The refusal is reported; no function runs."""
    deploy(cloud)
    cloud.join_account("newcomer")
    (delivery,) = cloud.event_deliveries()
    assert "not authorized to perform: events:PutEvents" in delivery["error"]
    assert cloud.await_functions() == []


def test_a_function_that_does_not_admit_the_rule_is_not_run(cloud: LocalAws) -> None:
    """Its resource policy decides; a dead-letter queue gets what could not be delivered."""
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
def test_what_is_not_forwarded_goes_to_a_queue_of_the_rules_own_region(
    cloud: LocalAws, region: str, kept: bool
) -> None:
    """The rule that passes events on has its dead letters where it is; a queue elsewhere gets none, as on AWS."""
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


def test_a_permission_that_asks_for_an_account_keeps_the_rule_out(cloud: LocalAws) -> None:
    """EventBridge names its rule to Lambda and no account: with SourceAccount it cannot invoke the function."""
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
def test_a_rule_that_is_off_or_means_others_stays_quiet(
    cloud: LocalAws, pattern: dict[str, Any], more: dict[str, Any]
) -> None:
    """Neither is a delivery that failed."""
    create_function(cloud, ECHO)
    rule = f"arn:aws:events:us-east-1:{cloud.account}:rule/accounts"
    put_rule(cloud, "us-east-1", {"Arn": let_in(cloud, rule)}, pattern, **more)
    cloud.join_account("newcomer")
    assert cloud.event_deliveries() == []


def test_own_events_take_the_same_way_and_aws_sources_cannot_be_forged(cloud: LocalAws) -> None:
    """PutEvents delivers to rules, with the target's own input where it has one, and refuses a source of AWS's."""
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


def test_environments_that_begin_at_once_share_a_log_group(cloud: LocalAws) -> None:
    """Many first runs at the same time each find the group, whichever of them made it, and none is lost."""
    deploy(cloud, forward(cloud))
    for number in range(6):
        cloud.join_account(name=f"at-once-{number}")
    assert [run["outcome"] for run in cloud.await_functions()] == ["succeeded"] * 6
