"""CloudFormation stacks on the local AWS: creation, changes, failures, imports, drift and deletion."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.runtime.zips import ECHO, zipped

TEMPLATE = """
Parameters:
  Name: {Type: String, AllowedPattern: "^[a-z]+$", ConstraintDescription: Set Name to lower-case letters.}
  Days: {Type: Number, Default: 7, MinValue: 1}
  Secret: {Type: String, NoEcho: true, Default: hidden-value}
  With: {Type: String, AllowedValues: ["true", "false"], Default: "false"}
Rules:
  NotBoth:
    RuleCondition: !Equals [!Ref With, "true"]
    Assertions: [{Assert: !Not [!Equals [!Ref Name, refused]], AssertDescription: Set With to false.}]
Mappings: {Sizes: {aws: {Seconds: 60}}}
Conditions: {With: !Equals [!Ref With, "true"]}
Resources:
  Bucket:
    Type: AWS::S3::Bucket
    DeletionPolicy: RetainExceptOnCreate
    Properties: {BucketName: !Sub "${Name}-${AWS::AccountId}"}
  Log:
    Type: AWS::Logs::LogGroup
    DeletionPolicy: Delete
    Properties: {LogGroupName: !Sub "/${Name}", RetentionInDays: !Ref Days}
  Queue:
    Type: AWS::SQS::Queue
    DeletionPolicy: Delete
    Properties: {QueueName: !Ref Name, VisibilityTimeout: !FindInMap [Sizes, !Ref "AWS::Partition", Seconds]}
  Policy:
    Type: AWS::SQS::QueuePolicy
    DependsOn: Log
    Properties:
      Queues: [!Ref Queue]
      PolicyDocument:
        Version: "2012-10-17"
        Statement: [{Effect: Deny, Principal: "*", Action: "sqs:*", Resource: !GetAtt Queue.Arn,
          Condition: {Bool: {"aws:SecureTransport": "false"}}}]
  Topic:
    Type: AWS::SNS::Topic
    Condition: With
    Properties: {TopicName: !Ref Name}
Outputs:
  Arn: {Value: !GetAtt Queue.Arn, Export: {Name: !Sub "${Name}-arn"}}
  Second: {Value: !Select [1, !Split [":", !GetAtt Queue.Arn]]}
"""
FUNCTION = """
Parameters:
  Name: {Type: String}
  Bucket: {Type: String, Default: codes}
  Key: {Type: String, Default: package.zip}
  Reserved: {Type: Number, Default: 1}
  Schedule: {Type: String, Default: rate(1 hour)}
  Boundary: {Type: String, Default: "arn:aws:iam::aws:policy/PowerUserAccess"}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Ref Name
      PermissionsBoundary: !Ref Boundary
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          Effect: Allow
          Principal: {Service: [lambda.amazonaws.com, scheduler.amazonaws.com]}
          Action: sts:AssumeRole
  Function:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: !Ref Name
      Role: !GetAtt Role.Arn
      Runtime: python3.13
      Handler: code_of_test.handler
      Code: {S3Bucket: !Ref Bucket, S3Key: !Ref Key}
      ReservedConcurrentExecutions: !Ref Reserved
  RunSchedule:
    Type: AWS::Scheduler::Schedule
    Properties:
      Name: !Ref Name
      ScheduleExpression: !Ref Schedule
      FlexibleTimeWindow: {Mode: "OFF"}
      Target: {Arn: !GetAtt Function.Arn, RoleArn: !GetAtt Role.Arn}
"""
NAMED = {"Capabilities": ["CAPABILITY_NAMED_IAM"]}


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalAws]:
    """Return an empty account, in which each test has stacks of its own."""
    with LocalAws(bare=True) as cloud:
        yield cloud


class Stack:
    """One stack, and the calls that the tests make on it."""

    def __init__(self, cloud: LocalAws, name: str) -> None:
        self.cloud, self.name = cloud, name
        self.client = cloud.client("cloudformation")

    def parameters(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        given = {"Name": self.name, **values}
        return [{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()]

    def create(self, body: str = TEMPLATE, options: Mapping[str, Any] | None = None, **values: str) -> str:
        """Create the stack and return its status once it is settled."""
        given = self.parameters(values)
        made = self.client.create_stack(StackName=self.name, TemplateBody=body, Parameters=given, **(options or {}))
        return self.settled(made["StackId"])

    def update(self, body: str = TEMPLATE, options: Mapping[str, Any] | None = None, **values: str) -> str:
        given = self.parameters(values)
        self.client.update_stack(StackName=self.name, TemplateBody=body, Parameters=given, **(options or {}))
        return self.settled(self.name)

    def change(
        self, body: str = TEMPLATE, kind: str = "UPDATE", options: Any = None, **values: str
    ) -> Mapping[str, Any]:
        """Return a new change set."""
        self.client.create_change_set(
            StackName=self.name,
            ChangeSetName="change",
            ChangeSetType=kind,
            TemplateBody=body,
            Parameters=self.parameters(values),
            **(options or {}),
        )
        found: Mapping[str, Any] = self.client.describe_change_set(StackName=self.name, ChangeSetName="change")
        return found

    def execute(self) -> str:
        self.client.execute_change_set(StackName=self.name, ChangeSetName="change")
        return self.settled(self.name)

    def delete(self) -> str:
        identity = self.client.describe_stacks(StackName=self.name)["Stacks"][0]["StackId"]
        self.client.delete_stack(StackName=self.name)
        return self.settled(identity)

    def settled(self, identity: str) -> str:
        return until(lambda: self.status(identity), lambda status: not status.endswith("_IN_PROGRESS"))

    def status(self, identity: str) -> str:
        return str(self.client.describe_stacks(StackName=identity)["Stacks"][0]["StackStatus"])

    def events(self, logical: str) -> list[str]:
        """Return the statuses of a resource, or of the stack itself, oldest first."""
        listed = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        return [one["ResourceStatus"] for one in reversed(listed) if one["LogicalResourceId"] == logical]

    def reason(self, logical: str, status: str) -> str:
        listed = self.client.describe_stack_events(StackName=self.name)["StackEvents"]
        reasons = [
            one.get("ResourceStatusReason", "")
            for one in listed
            if (one["LogicalResourceId"], one["ResourceStatus"]) == (logical, status)
        ]
        return str(reasons[0])

    def drift(self) -> dict[str, tuple[str, list[str]]]:
        """Return the drifted resources, each with the paths that differ."""
        identity = self.client.detect_stack_drift(StackName=self.name)["StackDriftDetectionId"]
        until(
            lambda: str(
                self.client.describe_stack_drift_detection_status(StackDriftDetectionId=identity)["DetectionStatus"]
            ),
            lambda status: status == "DETECTION_COMPLETE",
        )
        listed = self.client.describe_stack_resource_drifts(
            StackName=self.name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"]
        )["StackResourceDrifts"]
        return {
            one["LogicalResourceId"]: (
                one["StackResourceDriftStatus"],
                [part["PropertyPath"] for part in one["PropertyDifferences"]],
            )
            for one in listed
        }


def until(read: Callable[[], str], settled: Callable[[str], bool]) -> str:
    """Return what `read` returns once it is settled. Raises TimeoutError after 30 seconds."""
    end = time.monotonic() + 30
    while not settled(found := read()):
        if time.monotonic() > end:
            raise TimeoutError(found)
        time.sleep(0.01)
    return found


def refusal(call: Callable[[], Any]) -> str:
    """Return the message of the error that a call must end with."""
    with pytest.raises(ClientError) as caught:
        call()
    return str(caught.value.response["Error"]["Message"])


def queues(cloud: LocalAws, name: str) -> list[str]:
    """Return the names of the queues that begin with `name`."""
    listed = cloud.client("sqs").list_queues(QueueNamePrefix=name).get("QueueUrls", [])
    return [url.rpartition("/")[2] for url in listed]


def test_stack_is_created_changed_and_deleted_with_documented_statuses(cloud: LocalAws) -> None:
    """The retained bucket outlives the stack; a condition adds a topic, and its removal deletes it."""
    stack = Stack(cloud, "life")
    assert stack.create() == "CREATE_COMPLETE"
    assert stack.events("life") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    assert stack.events("Queue") == ["CREATE_IN_PROGRESS", "CREATE_COMPLETE"]
    about = stack.client.describe_stacks(StackName="life")["Stacks"][0]
    assert {one["OutputKey"]: one["OutputValue"] for one in about["Outputs"]} == {
        "Arn": f"arn:aws:sqs:{cloud.region}:{cloud.account}:life",
        "Second": "aws",
    }
    assert {one["ParameterKey"]: one["ParameterValue"] for one in about["Parameters"]}["Secret"] == "****"
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix="/life")["logGroups"]
    assert groups[0]["retentionInDays"] == 7
    changed = stack.change(Days="14", With="true")
    assert [
        (one["ResourceChange"]["Action"], one["ResourceChange"]["LogicalResourceId"]) for one in changed["Changes"]
    ] == [("Modify", "Log"), ("Add", "Topic")]
    assert stack.execute() == "UPDATE_COMPLETE"
    assert stack.events("life")[2:] == ["UPDATE_IN_PROGRESS", "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"]
    assert cloud.client("sns").list_topics()["Topics"]
    assert refusal(lambda: stack.update(Days="14", With="true")) == "No updates are to be performed."
    assert stack.update(Days="14") == "UPDATE_COMPLETE"
    assert cloud.client("sns").list_topics()["Topics"] == []
    assert stack.delete() == "DELETE_COMPLETE"
    assert queues(cloud, "life") == []
    assert f"life-{cloud.account}" in [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]


def test_failed_creation_is_rolled_back_and_can_only_be_deleted(cloud: LocalAws) -> None:
    """Nothing is orphaned, not even the bucket, and the reason is that of the call that failed."""
    stack = Stack(cloud, "fails")
    cloud.deny("sqs:SetQueueAttributes")
    try:
        assert stack.create() == "ROLLBACK_COMPLETE"
    finally:
        cloud.allow("sqs:SetQueueAttributes")
    assert "not authorized to perform: sqs:SetQueueAttributes" in stack.reason("Policy", "CREATE_FAILED")
    assert stack.events("fails") == ["CREATE_IN_PROGRESS", "ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"]
    assert queues(cloud, "fails") == []
    assert f"fails-{cloud.account}" not in [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]
    assert "is in ROLLBACK_COMPLETE state and can not be updated" in refusal(stack.update)
    assert stack.delete() == "DELETE_COMPLETE"
    assert stack.create() == "CREATE_COMPLETE"


@pytest.mark.parametrize(
    ("options", "status", "left"),
    [({"DisableRollback": True}, "CREATE_FAILED", ["kept"]), ({"OnFailure": "DELETE"}, "DELETE_COMPLETE", [])],
)
def test_creation_that_fails_does_what_was_requested(
    cloud: LocalAws, options: dict[str, Any], status: str, left: list[str]
) -> None:
    """It stops where it is, or deletes the stack."""
    stack = Stack(cloud, "kept")
    cloud.deny("sqs:SetQueueAttributes")
    try:
        assert stack.create(options=options) == status
    finally:
        cloud.allow("sqs:SetQueueAttributes")
    assert queues(cloud, "kept") == left
    if left:
        assert stack.delete() == "DELETE_COMPLETE"
        cloud.client("s3").delete_bucket(Bucket=f"kept-{cloud.account}")


def test_failed_update_restores_what_was_before(cloud: LocalAws) -> None:
    """The log group has its old retention again, and the new topic is gone."""
    stack = Stack(cloud, "restores")
    stack.create()
    cloud.deny("sns:CreateTopic")
    try:
        assert stack.update(Days="30", With="true") == "UPDATE_ROLLBACK_COMPLETE"
    finally:
        cloud.allow("sns:CreateTopic")
    groups = cloud.client("logs").describe_log_groups(logGroupNamePrefix="/restores")["logGroups"]
    assert groups[0]["retentionInDays"] == 7
    assert stack.update(Days="30") == "UPDATE_COMPLETE"


REFUSED: dict[str, tuple[dict[str, str], str, str]] = {
    "missing_package": ({"Key": "missing.zip"}, "Function", "S3 Error Code: NoSuchKey"),
    "missing_bucket": ({"Bucket": "missing"}, "Function", "S3 Error Code: NoSuchBucket"),
    "other_region": ({"Bucket": "elsewhere"}, "Function", "S3 Error Code: PermanentRedirect"),
    "no_zip": ({"Key": "text.zip"}, "Function", "Could not unzip uploaded file."),
    "reservation": ({"Reserved": "901"}, "Function", "below its minimum value of [100]."),
    "schedule": ({"Schedule": "cron(0 9 * * * *)"}, "RunSchedule", "Invalid Schedule Expression cron(0 9 * * * *)."),
    "boundary": ({"Boundary": "arn:aws:iam::111122223333:policy/missing"}, "Role", "policy/missing does not exist"),
}


@pytest.fixture(scope="module")
def packages(cloud: LocalAws) -> None:
    """Put a package into buckets of this region and of another one, and a text file beside the first."""
    here, home = cloud.client("s3"), cloud.client("s3@home")
    here.create_bucket(Bucket="codes", CreateBucketConfiguration={"LocationConstraint": cloud.region})
    home.create_bucket(Bucket="elsewhere")
    for client, name in ((here, "codes"), (home, "elsewhere")):
        client.put_object(Bucket=name, Key="package.zip", Body=zipped(ECHO))
    here.put_object(Bucket="codes", Key="text.zip", Body=b"text")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("case", REFUSED)
def test_refused_value_rolls_creation_and_update_back(cloud: LocalAws, case: str) -> None:
    """Creation leaves nothing, an update what was there before; the reason is that of the service."""
    values, logical, why = REFUSED[case]
    stack = Stack(cloud, case.replace("_", "-"))
    assert stack.create(FUNCTION, NAMED, **values) == "ROLLBACK_COMPLETE"
    assert why in stack.reason(logical, "CREATE_FAILED")
    assert "Function not found" in refusal(lambda: live(cloud, stack.name))
    assert "not found" in refusal(lambda: cloud.client("iam").get_role(RoleName=stack.name))
    stack.delete()
    assert stack.create(FUNCTION, NAMED) == "CREATE_COMPLETE"
    before = live(cloud, stack.name)
    assert stack.update(FUNCTION, NAMED, **values) == "UPDATE_ROLLBACK_COMPLETE"
    assert why in stack.reason(logical, "UPDATE_FAILED")
    assert live(cloud, stack.name) == before
    assert stack.update(FUNCTION, NAMED, Schedule="cron(15 * * * ? *)") == "UPDATE_COMPLETE"


@pytest.mark.usefixtures("packages")
def test_rollback_needs_the_package_from_before(cloud: LocalAws) -> None:
    """It fails where this package was deleted, as nothing else holds the function's former code."""
    stack, s3 = Stack(cloud, "gone"), cloud.client("s3")
    s3.put_object(Bucket="codes", Key="old.zip", Body=zipped(ECHO))
    assert stack.create(FUNCTION, NAMED, Key="old.zip") == "CREATE_COMPLETE"
    s3.delete_object(Bucket="codes", Key="old.zip")
    assert stack.update(FUNCTION, NAMED, Key="package.zip", Schedule="hourly") == "UPDATE_ROLLBACK_FAILED"


def live(cloud: LocalAws, name: str) -> tuple[str, Any, str]:
    """Return the code, the reservation and the boundary of a function's stack as they are."""
    found = cloud.client("lambda").get_function(FunctionName=name)
    role = cloud.client("iam").get_role(RoleName=name)["Role"]
    return (
        found["Configuration"]["CodeSha256"],
        found["Concurrency"]["ReservedConcurrentExecutions"],
        role["PermissionsBoundary"]["PermissionsBoundaryArn"],
    )


def test_resource_that_exists_already_fails_the_stack(cloud: LocalAws) -> None:
    """It is neither adopted nor deleted by the rollback."""
    cloud.client("sqs").create_queue(QueueName="taken")
    stack = Stack(cloud, "taken")
    assert stack.create() == "ROLLBACK_COMPLETE"
    assert "'taken' already exists" in stack.reason("Queue", "CREATE_FAILED")
    assert queues(cloud, "taken") == ["taken"]


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        ({"Type": "AWS::EC2::VPC"}, "does not carry out resources of type AWS::EC2::VPC"),
        ({"Type": "AWS::SQS::Queue", "Properties": {"Paint": "red"}}, "unsupported property Paint"),
        (
            {
                "Type": "AWS::Scheduler::Schedule",
                "Properties": {
                    "Name": "one",
                    "ScheduleExpression": "rate(1 hour)",
                    "FlexibleTimeWindow": {"Mode": "OFF"},
                    "Target": {"Arn": "arn:aws:sqs:eu-west-1:111122223333:q", "RoleArn": "r", "Paint": "red"},
                },
            },
            "unsupported property Target.Paint",
        ),
    ],
)
def test_what_is_not_supported_is_a_failure(cloud: LocalAws, resource: dict[str, Any], why: str) -> None:
    """An unknown type, property or part of a property is never ignored."""
    stack = Stack(cloud, "unsupported")
    body = json.dumps({"Parameters": {"Name": {"Type": "String"}}, "Resources": {"One": resource}})
    assert stack.create(body) == "ROLLBACK_COMPLETE"
    assert why in stack.reason("One", "CREATE_FAILED")
    assert stack.delete() == "DELETE_COMPLETE"


@pytest.mark.parametrize(
    ("body", "values", "why"),
    [
        (TEMPLATE, {"Name": "UPPER"}, "Parameter Name failed to satisfy constraint: Set Name to lower-case letters."),
        (TEMPLATE, {"Days": "0"}, "Parameter 'Days' must be a number not less than 1"),
        (TEMPLATE, {"Other": "x"}, "Parameters: [Other] do not exist in the template"),
        (TEMPLATE, {"Name": "refused", "With": "true"}, "Set With to false."),
        (TEMPLATE.replace("!Ref Queue]", "!Ref Missing]"), {}, "Unresolved resource dependencies [Missing]"),
        (
            TEMPLATE.replace("DependsOn: Log", "DependsOn: Policy"),
            {},
            "Circular dependency between resources: [Policy]",
        ),
        ("Transform: AWS::Serverless-2016-10-31\n" + TEMPLATE, {}, "carries out no transforms"),
        (TEMPLATE.replace("{Type: Number,", "{Type: 'AWS::SSM::Parameter::Value<String>',"), {}, "reads no parameters"),
        ("Resources: {}", {}, "At least one Resources member must be defined"),
    ],
)
def test_invalid_request_creates_no_stack(cloud: LocalAws, body: str, values: dict[str, str], why: str) -> None:
    """The refusal says which parameter, rule or reference is wrong."""
    stack = Stack(cloud, "invalid")
    assert why in refusal(lambda: stack.create(body, None, **values))
    assert "does not exist" in refusal(lambda: stack.client.describe_stacks(StackName="invalid"))


@pytest.mark.parametrize(
    "option", [{"DeploymentMode": "REVERT_DRIFT"}, {"ImportExistingResources": True}, {"IncludeNestedStacks": True}]
)
def test_option_that_is_not_offered_is_refused(cloud: LocalAws, option: dict[str, Any]) -> None:
    """It is never ignored, since the change set would do something else."""
    stack = Stack(cloud, "options")
    assert f"does not offer {next(iter(option))} of CreateChangeSet" in refusal(
        lambda: stack.change(kind="CREATE", options=option)
    )
    assert "does not exist" in refusal(lambda: stack.status("options"))


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("with_underscore", "regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"),
        ("1st", "regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"),
        ("a" * 129, "length less than or equal to 128"),
    ],
)
def test_name_that_no_stack_can_have_is_refused(cloud: LocalAws, name: str, why: str) -> None:
    """Creation refuses it in AWS's words, and so does a read of it, which would also take a stack's id."""
    stack = Stack(cloud, name)
    expected = f"1 validation error detected: Value '{name}' at 'stackName' failed to satisfy constraint: Member must"
    assert refusal(stack.create).startswith(expected)
    assert refusal(stack.create).endswith(why)
    assert refusal(lambda: stack.status(name)).startswith(expected)


def test_change_set_shows_replacement_and_removal(cloud: LocalAws) -> None:
    """A new name replaces the queue and what refers to it; the removed log group would be deleted."""
    stack = Stack(cloud, "shows")
    stack.create()
    document = TEMPLATE.replace("QueueName: !Ref Name", 'QueueName: !Sub "${Name}-two"')
    start, end = document.index("  Log:"), document.index("  Queue:")
    changed = stack.change(document[:start] + document[end:].replace("    DependsOn: Log\n", ""))
    found = {one["ResourceChange"]["LogicalResourceId"]: one["ResourceChange"] for one in changed["Changes"]}
    assert {name: (one["Action"], one.get("Replacement")) for name, one in found.items()} == {
        "Queue": ("Modify", "True"),
        "Policy": ("Modify", "True"),
        "Log": ("Remove", None),
    }
    assert found["Log"]["PolicyAction"] == "Delete"
    assert stack.execute() == "UPDATE_COMPLETE"
    assert queues(cloud, "shows") == ["shows-two"]
    assert cloud.client("logs").describe_log_groups(logGroupNamePrefix="/shows")["logGroups"] == []


def test_change_set_without_changes_cannot_be_executed(cloud: LocalAws) -> None:
    """It fails with the documented reason."""
    stack = Stack(cloud, "same")
    stack.create()
    changed = stack.change()
    assert (changed["Status"], changed["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert changed["StatusReason"].startswith("The submitted information didn't contain changes.")
    assert "cannot be executed" in refusal(stack.execute)


def test_new_stack_of_a_change_set_waits_for_its_execution(cloud: LocalAws) -> None:
    """Until then nothing exists but the stack under review, and it can be deleted."""
    stack = Stack(cloud, "review")
    changed = stack.change(kind="CREATE")
    assert stack.status("review") == "REVIEW_IN_PROGRESS"
    assert {one["ResourceChange"]["Action"] for one in changed["Changes"]} == {"Add"}
    assert queues(cloud, "review") == []
    assert stack.execute() == "CREATE_COMPLETE"
    assert queues(cloud, "review") == ["review"]


def test_drift_is_detected_property_by_property(cloud: LocalAws) -> None:
    """An untouched stack is in sync; a changed log group and a deleted queue are not."""
    stack = Stack(cloud, "drifts")
    stack.create()
    assert stack.drift() == {}
    cloud.client("logs").put_retention_policy(logGroupName="/drifts", retentionInDays=1)
    url = cloud.client("sqs").get_queue_url(QueueName="drifts")["QueueUrl"]
    cloud.client("sqs").delete_queue(QueueUrl=url)
    assert stack.drift() == {
        "Log": ("MODIFIED", ["/RetentionInDays"]),
        "Queue": ("DELETED", []),
        "Policy": ("DELETED", []),
    }


def test_existing_resources_are_imported_without_a_change(cloud: LocalAws) -> None:
    """The import needs a deletion policy, existing resources, and no change of outputs."""
    cloud.client("sqs").create_queue(QueueName="imported", Attributes={"VisibilityTimeout": "60"})
    cloud.client("logs").create_log_group(logGroupName="/imported")
    body = json.dumps(
        {
            "Parameters": {"Name": {"Type": "String"}},
            "Resources": {
                "Log": {
                    "Type": "AWS::Logs::LogGroup",
                    "DeletionPolicy": "Retain",
                    "Properties": {"LogGroupName": {"Fn::Sub": "/${Name}"}},
                }
            },
        }
    )
    wanted = {"ResourceType": "AWS::Logs::LogGroup", "LogicalResourceId": "Log"}
    stack = Stack(cloud, "imported")

    def importing(name: str) -> dict[str, Any]:
        return {"ResourcesToImport": [{**wanted, "ResourceIdentifier": {"LogGroupName": name}}]}

    bare = body.replace('"DeletionPolicy": "Retain", ', "")
    assert "DeletionPolicy" in refusal(lambda: stack.change(bare, "IMPORT", importing("/imported")))
    changed = stack.change(body, "IMPORT", importing("/imported"))
    assert [one["ResourceChange"]["Action"] for one in changed["Changes"]] == ["Import"]
    cloud.clear_calls()
    assert stack.execute() == "IMPORT_COMPLETE"
    assert not [
        one for one in cloud.calls if one.service == "logs" and not one.operation.startswith(("Describe", "List"))
    ]
    other = Stack(cloud, "importedtwo")
    assert "already exists in stack imported" in refusal(lambda: other.change(body, "IMPORT", importing("/imported")))
    missing = Stack(cloud, "missing")
    missing.change(body, "IMPORT", importing("/missing"))
    assert missing.execute() == "IMPORT_ROLLBACK_COMPLETE"
    assert stack.delete() == "DELETE_COMPLETE"
    assert cloud.client("logs").describe_log_groups(logGroupNamePrefix="/imported")["logGroups"]


def test_bucket_with_data_makes_the_deletion_fail(cloud: LocalAws) -> None:
    """The stack keeps the bucket until it is retained by a second deletion; protection refuses before."""
    stack = Stack(cloud, "full")
    stack.create(TEMPLATE.replace("RetainExceptOnCreate", "Delete"), {"EnableTerminationProtection": True})
    bucket = f"full-{cloud.account}"
    cloud.client("s3").put_object(Bucket=bucket, Key="one", Body=b"1")
    assert "TerminationProtection is enabled" in refusal(stack.delete)
    stack.client.update_termination_protection(StackName="full", EnableTerminationProtection=False)
    assert stack.delete() == "DELETE_FAILED"
    assert "not empty" in stack.reason("Bucket", "DELETE_FAILED")
    identity = stack.client.describe_stacks(StackName="full")["Stacks"][0]["StackId"]
    stack.client.delete_stack(StackName="full", RetainResources=["Bucket"])
    assert stack.settled(identity) == "DELETE_COMPLETE"
    assert cloud.client("s3").get_object(Bucket=bucket, Key="one")["Body"].read() == b"1"


def test_calls_are_those_of_the_stacks_role(cloud: LocalAws) -> None:
    """Its policies apply: a right that the role lacks fails the stack, although the caller has it."""
    iam = cloud.client("iam")
    trust = {"Effect": "Allow", "Principal": {"Service": "cloudformation.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(
        RoleName="deployer", AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )["Role"]["Arn"]
    allowed = {"Effect": "Allow", "Action": ["s3:*", "logs:*", "sqs:GetQueueUrl"], "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_role_policy(RoleName="deployer", PolicyName="some", PolicyDocument=document)
    stack = Stack(cloud, "roles")
    assert stack.create(options={"RoleARN": role}) == "ROLLBACK_COMPLETE"
    assert "not authorized to perform: sqs:CreateQueue" in stack.reason("Queue", "CREATE_FAILED")
    assert {one.principal for one in cloud.calls.select("sqs", "CreateQueue") if one.error} == {role}


def test_capabilities_are_required_for_named_roles(cloud: LocalAws) -> None:
    """The code and the message name the capability."""
    stack = Stack(cloud, "named")
    role = {"Type": "AWS::IAM::Role", "Properties": {"RoleName": "named", "AssumeRolePolicyDocument": {}}}
    body = json.dumps({"Parameters": {"Name": {"Type": "String"}}, "Resources": {"Role": role}})
    assert "Requires capabilities : [CAPABILITY_NAMED_IAM]" in refusal(lambda: stack.create(body))
    summary = stack.client.get_template_summary(TemplateBody=body)
    assert (summary["Capabilities"], summary["ResourceTypes"]) == (["CAPABILITY_NAMED_IAM"], ["AWS::IAM::Role"])
    assert stack.client.validate_template(TemplateBody=body)["Parameters"][0]["ParameterKey"] == "Name"


def test_stacks_are_listed_and_their_templates_returned(cloud: LocalAws) -> None:
    """An operation that the local cloud does not offer answers 501, never moto's own CloudFormation."""
    stack = Stack(cloud, "listed")
    stack.create()
    assert stack.client.get_template(StackName="listed")["TemplateBody"] == TEMPLATE
    pages = stack.client.get_paginator("list_stacks").paginate(StackStatusFilter=["CREATE_COMPLETE"])
    assert "listed" in [one["StackName"] for page in pages for one in page["StackSummaries"]]
    resources = stack.client.describe_stack_resources(StackName="listed")["StackResources"]
    assert {one["LogicalResourceId"] for one in resources} == {"Bucket", "Log", "Queue", "Policy"}
    assert "listed-arn" in [one["Name"] for one in stack.client.list_exports()["Exports"]]
    assert "does not offer" in refusal(lambda: stack.client.cancel_update_stack(StackName="listed"))
