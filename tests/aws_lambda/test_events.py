"""Events become hints, or are refused by name."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import Any, cast

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moto.events.models import EventPattern

from aws_lambda.events import BUCKET_EVENTS, MOST_BYTES, READERS, hint_of, own_of, read_event
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_events import rules, shaping
from localcloud.aws.platform.event_buses import input_of
from shared.hints import EventRefused, Hint
from tests.aws_lambda.cloudtrail import (
    ACCOUNT,
    AT,
    EXPORT_ARN,
    FUNCTION_ROLE,
    MEMBER,
    OWN,
    STACK_SET,
    UUID,
    called,
    deleted_export,
    instance_changed,
    of_bucket,
    of_organization,
)
from tests.limits import examples

WHEN = datetime(2026, 11, 2, 8, 59, 30, tzinfo=UTC)
EVERYTHING = Hint("", "", WHEN)
EXPORT, BUCKET, CONNECTOR, ROLE = (
    Hint(ACCOUNT, "export", WHEN),
    Hint(ACCOUNT, "bucket", WHEN),
    Hint(ACCOUNT, "connector-role", WHEN),
    Hint(MEMBER, "member-role", WHEN),
)
INSTANCES = {"stackSetName": STACK_SET, "regions": ["eu-west-1"]}
ROLE_NAME = {"roleName": OWN.connector_role}
OF_OWN = LocalAws().deployment.names()


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        (deleted_export(), EXPORT),
        (called("aws.bcm-data-exports", "UpdateExport", {"exportArn": EXPORT_ARN, "export": {}}), EXPORT),
        (called("aws.bcm-data-exports", "DeleteExport", {"ExportArn": EXPORT_ARN}), EXPORT),
        (called("aws.bcm-data-exports", "DeleteExport"), EXPORT),
        *((of_bucket(name), BUCKET) for name in BUCKET_EVENTS),
        (called("aws.iam", "UpdateAssumeRolePolicy", ROLE_NAME), CONNECTOR),
        (called("aws.iam", "DeleteRole", ROLE_NAME), CONNECTOR),
        (called("aws.cloudformation", "UpdateStackSet", {"stackSetName": STACK_SET}), EVERYTHING),
        (called("aws.cloudformation", "DeleteStackSet", {"stackSetName": f"{STACK_SET}:3f3a3fbe"}), EVERYTHING),
        (called("aws.cloudformation", "DeleteStackInstances", INSTANCES | {"accounts": [MEMBER]}), ROLE),
        (
            called(
                "aws.cloudformation", "DeleteStackInstances", INSTANCES | {"deploymentTargets": {"accounts": [MEMBER]}}
            ),
            ROLE,
        ),
        (
            called("aws.cloudformation", "DeleteStackInstances", INSTANCES | {"accounts": [MEMBER, ACCOUNT]}),
            EVERYTHING,
        ),
        (instance_changed("DELETE"), ROLE),
        (
            of_organization(
                "CreateAccountResult", {"createAccountStatus": {"state": "SUCCEEDED", "accountId": MEMBER}}
            ),
            Hint(MEMBER, "", WHEN),
        ),
        (of_organization("CreateAccountResult", {"createAccountStatus": {"state": "FAILED"}}), EVERYTHING),
        (of_organization("AccountJoinedOrganization", {"accountId": MEMBER}), Hint(MEMBER, "", WHEN)),
        (of_organization("MoveAccount", parameters={"accountId": MEMBER}), Hint(MEMBER, "", WHEN)),
        (of_organization("AccountDepartedOrganization", {"accountId": MEMBER}), EVERYTHING),
        (of_organization("CloseAccountResult", {"closeAccountStatus": {"accountId": MEMBER}}), EVERYTHING),
        (of_organization("ResponsibilityTransferAccepted"), EVERYTHING),
        (of_organization("ResponsibilityTransferTerminated"), EVERYTHING),
    ],
)
def test_an_event_becomes_a_hint(event: dict[str, Any], hint: Hint) -> None:
    """The hint names the account, the kind of target and the time; an event about more than one account names none."""
    assert hint_of(event, OWN) == hint
    assert read_event(json.dumps(event), OWN) == hint


@pytest.mark.parametrize(
    "event",
    [
        of_bucket("PutBucketPolicy", role=FUNCTION_ROLE),
        called("aws.bcm-data-exports", "UpdateExport", {"exportArn": EXPORT_ARN}, role=FUNCTION_ROLE),
        deleted_export(errorCode="AccessDenied"),
        instance_changed("CREATE"),
        instance_changed("UPDATE"),
    ],
)
def test_own_writes_and_failed_calls_are_no_hint(event: dict[str, Any]) -> None:
    """What the function did itself, and what changed nothing, asks for no run."""
    assert hint_of(event, OWN) is None


def test_a_write_of_another_role_is_a_hint() -> None:
    """Only the function's own role is left out; without knowing it, none is."""
    assert hint_of(of_bucket("PutBucketPolicy", role=f"{FUNCTION_ROLE}-2"), OWN) == BUCKET
    settings = read_settings({"AWS_REGION": "eu-west-1"})
    assert hint_of(of_bucket("PutBucketPolicy", role=FUNCTION_ROLE), own_of(settings, ACCOUNT)) == BUCKET


FOREIGN = deleted_export() | {"account": MEMBER}


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (None, "event-malformed"),
        ([], "event-malformed"),
        ({"source": "aws.s3"}, "event-malformed"),
        ({"source": "aws.s3", "detail": "x"}, "event-malformed"),
        ({"source": ["aws.s3"], "detail": {}}, "event-malformed"),
        (called("aws.s3", "GetObject"), "event-unknown"),
        (called("aws.ec2", "DeleteExport"), "event-unknown"),
        (called("com.example", "DeleteExport"), "event-unknown"),
        (of_organization("CloseAccount"), "event-unknown"),
        (called("aws.s3", "DeleteBucket") | {"detail": {"eventName": ["DeleteBucket"]}}, "event-unknown"),
        (FOREIGN, "event-of-another-account"),
        ({**deleted_export(), "account": None}, "event-of-another-account"),
        (deleted_export(recipientAccountId=MEMBER), "event-of-another-account"),
        (deleted_export(EXPORT_ARN.replace("tailpipe-dataexport-", "finance-")), "event-of-another-resource"),
        (deleted_export(EXPORT_ARN.replace("dataexport-", "dataexport-focus-")), "event-of-another-resource"),
        (of_bucket("DeleteBucketPolicy", "another"), "event-of-another-resource"),
        (called("aws.s3", "DeleteBucketPolicy"), "event-of-another-resource"),
        (called("aws.iam", "DeleteRole", {"roleName": "tailpipe-exports"}), "event-of-another-resource"),
        (called("aws.cloudformation", "UpdateStackSet", {"stackSetName": "other"}), "event-of-another-resource"),
        (instance_changed("DELETE", stackset="other"), "event-of-another-resource"),
    ],
)
def test_an_event_that_is_not_for_the_function_is_refused_by_name(event: Any, code: str) -> None:
    """Forged, foreign and unknown events have separate codes, so that an operator can find the sender."""
    with pytest.raises(EventRefused) as caught:
        hint_of(event, OWN)
    assert caught.value.code == code
    assert caught.value.reason


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("", "event-malformed"),
        ("{", "event-malformed"),
        (b"\xff", "event-malformed"),
        ("[" * 100_000, "event-malformed"),
        (json.dumps(deleted_export(note="x" * MOST_BYTES)), "event-too-large"),
    ],
)
def test_a_body_that_cannot_be_an_event_is_refused(body: str | bytes, code: str) -> None:
    """Broken, deeply nested and huge texts are refused before anything is made of them."""
    with pytest.raises(EventRefused) as caught:
        read_event(body, OWN)
    assert caught.value.code == code


@pytest.mark.parametrize("time", ["soon", "", None, 5, "9999-12-31T23:59:59+00:01", "2026-13-01T00:00:00Z"])
def test_an_event_without_a_time_is_a_hint_all_the_same(time: Any) -> None:
    """The time only measures latency."""
    assert hint_of(deleted_export(eventTime=time), OWN) == Hint(
        ACCOUNT, "export", datetime(9999, 12, 31, 23, 58, 59, tzinfo=UTC) if str(time).startswith("9999") else None
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from([ACCOUNT, AT]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "source",
                    "detail",
                    "account",
                    "eventName",
                    "requestParameters",
                    "bucketName",
                    "userIdentity",
                    "stack-id",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
KNOWN = st.sampled_from(
    [deleted_export(), of_bucket("DeleteBucket"), instance_changed("DELETE"), of_organization("AcceptHandshake")]
)


@st.composite
def corrupted_event(draw: st.DrawFn) -> Any:
    """Return a known event with one of its values, at any depth, replaced by anything."""
    event = json.loads(json.dumps(draw(KNOWN)))
    found = event
    while True:
        name = draw(st.sampled_from(sorted(found)))
        if not isinstance(found[name], dict) or not found[name] or draw(st.booleans()):
            found[name] = draw(JSON)
            return event
        found = found[name]


@given(JSON | corrupted_event())
@hypothesis.settings(max_examples=examples(300))
def test_any_event_yields_a_hint_or_is_refused(event: Any) -> None:
    """A sender may put any event into the queue; none fails the batch that it is in."""
    try:
        hint = hint_of(event, OWN)
    except EventRefused:
        return
    assert hint is None or hint.scope in ("", ACCOUNT, MEMBER)


CONDITIONS = {"members", "connector_events"}
CANARY = "external-id-canary"
TRUST = json.dumps({"Statement": [{"Condition": {"StringEquals": {"sts:ExternalId": CANARY}}}]})


@pytest.mark.parametrize(
    ("rule", "event"),
    [
        ("connector", called("aws.iam", "UpdateAssumeRolePolicy", ROLE_NAME | {"policyDocument": TRUST})),
        ("connector", called("aws.iam", "DeleteRole", ROLE_NAME)),
        ("stackset", called("aws.cloudformation", "UpdateStackSet", INSTANCES | {"parameters": [{"value": CANARY}]})),
        ("stackset", called("aws.cloudformation", "DeleteStackSet", {"stackSetName": f"{STACK_SET}:{UUID}"})),
    ],
)
def test_events_that_may_hold_the_external_id_are_queued_without_it(rule: str, event: dict[str, Any]) -> None:
    """The queue gets the fields that the hint is made of, which is the same as that of the whole event."""
    deployed = rules(OF_OWN, CONDITIONS)[rule]
    assert EventPattern(None, deployed["pattern"]).matches_event(cast("Any", event))
    queued = input_of(shaping(deployed), event)
    assert CANARY not in json.dumps(queued)
    assert hint_of(queued, OWN) == hint_of(event, OWN) is not None


def test_every_field_that_is_queued_is_there_in_each_event_that_matches() -> None:
    """What EventBridge makes of a missing field is not documented well: the patterns require what the paths name."""
    sure = {"$.account", "$.source", "$.detail-type", "$.detail.eventName", "$.detail.eventTime"}
    for rule in rules(OF_OWN, CONDITIONS).values():
        if rule["only"]:
            required = {f"$.detail.requestParameters.{name}" for name in rule["pattern"]["detail"]["requestParameters"]}
            assert set(rule["only"]["paths"].values()) == sure | required
            assert {f"<{name}>" for name in rule["only"]["paths"]} == set(re.findall("<.*?>", rule["only"]["template"]))


def test_the_deployed_rules_and_the_parser_know_the_same_events() -> None:
    """A rule for an event that is refused, or an event that no rule passes on, would do nothing."""
    listed = {
        (source, name)
        for rule in rules(OF_OWN, CONDITIONS).values()
        for source in rule["pattern"]["source"]
        for name in rule["pattern"]["detail"].get("eventName", rule["pattern"]["detail-type"])
    }
    assert listed == set(READERS)
