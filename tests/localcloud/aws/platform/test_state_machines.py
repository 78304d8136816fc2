"""State machines are executed as Step Functions do: Map Runs, retries, failures, redrive and the machine's role."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import Invocation
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import START
from tests.localcloud.aws.iam.sessions import make_role

STATES = {"Service": "states.amazonaws.com"}
FUNCTION = "arn:aws:lambda:eu-west-1:111122223333:function:work"
MACHINE = "arn:aws:states:eu-west-1:111122223333:stateMachine:machine"
BUCKET = "results-of-the-test"
GRANTS = (
    {"Action": "lambda:InvokeFunction", "Resource": FUNCTION},
    {"Action": ["states:StartExecution", "states:ListExecutions"], "Resource": MACHINE},
    {"Action": "states:RedriveExecution", "Resource": MACHINE.replace(":stateMachine:", ":execution:") + "/Work:*"},
    {"Action": "s3:PutObject", "Resource": f"arn:aws:s3:::{BUCKET}/results/*"},
)
LISTING: dict[str, Any] = {
    "Type": "Task",
    "Resource": "arn:aws:states:::aws-sdk:sfn:listExecutions",
    "Parameters": {"StateMachineArn.$": "$$.StateMachine.Id", "StatusFilter": "RUNNING", "MaxResults": 2},
}
Work = Callable[[Any], Any]


class Failed(Exception):
    """The function raises; `args[0]` is the name of its error."""


@pytest.fixture(scope="module")
def shared_cloud() -> Iterator[LocalAws]:
    """Share one local AWS: each test has its own state machine."""
    with LocalAws(bare=True, clock=VirtualClock(START)) as opened:
        opened.client("s3").create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": opened.region}
        )
        yield opened


@pytest.fixture
def cloud(shared_cloud: LocalAws) -> Iterator[LocalAws]:
    """Return the shared cloud, without what another test left."""
    yield shared_cloud
    shared_cloud.clear_faults()
    iam = shared_cloud.client("iam")
    iam.delete_role_policy(RoleName="machine", PolicyName="own")
    iam.delete_role(RoleName="machine")
    shared_cloud.client("stepfunctions").delete_state_machine(stateMachineArn=MACHINE)


def task(**more: Any) -> dict[str, Any]:
    """Return a task that passes its input to the function, and its payload on."""
    return {
        "Type": "Task",
        "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": FUNCTION, "Payload": {"input.$": "$"}},
        "ResultSelector": {"payload.$": "$.Payload"},
        **({"End": True} if "Next" not in more else {}),
        **more,
    }


def over_items(**more: Any) -> dict[str, Any]:
    """Return a Distributed Map that calls the function for each item."""
    processor = {
        "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
        "StartAt": "One",
        "States": {"One": task(**more.pop("one", {}))},
    }
    return {"Type": "Map", "Label": "Work", "ItemsPath": "$.items", "ItemProcessor": processor, "End": True, **more}


def writer() -> dict[str, Any]:
    """Return a ResultWriter."""
    return {
        "Resource": "arn:aws:states:::s3:putObject",
        "Parameters": {"Bucket": BUCKET, "Prefix": "results"},
    }


def deploy(cloud: LocalAws, work: Work, states: Mapping[str, Any], *grants: Any, **top: Any) -> None:
    """Create the state machine and its role; `work` takes the payload of a call of the function."""
    role = make_role(cloud, "machine", *(grants or GRANTS), trusts=STATES)
    definition = json.dumps({"StartAt": next(iter(states)), "States": states, **top})
    cloud.client("stepfunctions").create_state_machine(name="machine", definition=definition, roleArn=role)

    def invoke(_where: Any, _name: str, event: Any, request_id: str) -> Invocation:
        payload, error = None, None
        try:
            payload = work(event)
        except Failed as failed:
            error = {"errorType": failed.args[0], "errorMessage": "on purpose"}
        return Invocation(request_id, payload, error, (), 0.0, "", None)

    setattr(cloud.world.functions, "invoke", invoke)  # noqa: B010 - in place of processes, which are slow


def run(cloud: LocalAws, given: Any = None) -> dict[str, Any]:
    """Run an execution to its end and return its description."""
    client = cloud.client("stepfunctions")
    arn = client.start_execution(stateMachineArn=MACHINE, input=json.dumps(given or {}))["executionArn"]
    return ended(cloud, arn)


def ended(cloud: LocalAws, arn: str) -> dict[str, Any]:
    """Wait for an execution, and return its description."""
    cloud.await_executions()
    return dict(cloud.client("stepfunctions").describe_execution(executionArn=arn))


def read(cloud: LocalAws, key: str) -> Any:
    """Return a result file."""
    with cloud.client("s3").get_object(Bucket=BUCKET, Key=key)["Body"] as body:
        return json.loads(body.read())


def map_run(cloud: LocalAws, execution: Mapping[str, Any]) -> dict[str, Any]:
    """Return the description of the execution's one Map Run."""
    client = cloud.client("stepfunctions")
    (one,) = client.list_map_runs(executionArn=execution["executionArn"])["mapRuns"]
    return dict(client.describe_map_run(mapRunArn=one["mapRunArn"]))


def test_map_runs_the_function_for_each_item(cloud: LocalAws) -> None:
    """The outputs are in the order of the items, and each child workflow has its own input."""
    deploy(cloud, lambda event: event["input"] * 2, {"Work": over_items(MaxConcurrency=2)})
    done = run(cloud, {"items": [1, 2, 3]})
    assert done["status"] == "SUCCEEDED", done
    assert json.loads(done["output"]) == [{"payload": 2}, {"payload": 4}, {"payload": 6}]
    counts = map_run(cloud, done)["itemCounts"]
    assert (counts["total"], counts["succeeded"], counts["failed"]) == (3, 3, 0)


def test_results_are_written_as_documented(cloud: LocalAws) -> None:
    """A manifest names the file of the successful and that of the failed children; the state's output names it."""

    def work(event: Any) -> Any:
        if event["input"] == 2:
            raise Failed("Broken")
        return event["input"]

    deploy(cloud, work, {"Work": over_items(ResultWriter=writer(), ToleratedFailurePercentage=50)})
    done = run(cloud, {"items": [1, 2]})
    where = json.loads(done["output"])["ResultWriterDetails"]
    manifest = read(cloud, where["Key"])
    assert where["Key"] == f"results/{manifest['MapRunArn'].rpartition(':')[2]}/manifest.json"
    files = {kind: read(cloud, files[0]["Key"]) for kind, files in manifest["ResultFiles"].items() if files}
    assert {kind: len(found) for kind, found in files.items()} == {"FAILED": 1, "SUCCEEDED": 1}
    assert json.loads(files["SUCCEEDED"][0]["Output"]) == {"payload": 1}
    assert (files["FAILED"][0]["Error"], files["FAILED"][0]["Input"]) == ("Broken", "2")


@pytest.mark.parametrize(("tolerated", "status"), [(50, "SUCCEEDED"), (49, "FAILED")])
def test_failures_are_tolerated_up_to_the_percentage(cloud: LocalAws, tolerated: int, status: str) -> None:
    """Beyond it the Map Run fails at once: no further child is started."""
    called = []

    def work(event: Any) -> Any:
        called.append(event["input"])
        if event["input"] <= 2:
            raise Failed("Broken")

    deploy(cloud, work, {"Work": over_items(ToleratedFailurePercentage=tolerated, MaxConcurrency=1)})
    done = run(cloud, {"items": [1, 2, 3, 4]})
    assert done["status"] == status
    if status == "FAILED":
        assert done["error"] == "States.ExceedToleratedFailureThreshold"
        assert called == [1, 2]
        assert map_run(cloud, done)["itemCounts"]["pending"] == 2


def test_redrive_runs_only_what_did_not_succeed(cloud: LocalAws) -> None:
    """Children that succeeded keep their outputs, and the execution goes on behind the Map state."""
    called, broken = [], [True]

    def work(event: Any) -> Any:
        called.append(event["input"])
        if event["input"] == 2 and broken[0]:
            raise Failed("Broken")
        return event["input"]

    deploy(cloud, work, {"Work": over_items(MaxConcurrency=1)})
    failed = run(cloud, {"items": [1, 2, 3]})
    assert (failed["status"], failed["redriveStatus"]) == ("FAILED", "REDRIVABLE")
    broken[0] = False
    client = cloud.client("stepfunctions")
    client.redrive_execution(executionArn=failed["executionArn"])
    done = ended(cloud, failed["executionArn"])
    assert (done["status"], done["redriveCount"]) == ("SUCCEEDED", 1)
    assert json.loads(done["output"]) == [{"payload": 1}, {"payload": 2}, {"payload": 3}]
    assert called == [1, 2, 2, 3]
    with pytest.raises(client.exceptions.ExecutionNotRedrivable):
        client.redrive_execution(executionArn=done["executionArn"])


def test_stopped_execution_can_be_redriven(cloud: LocalAws) -> None:
    """What its function already did is discarded, and done again after the redrive."""
    client, calls = cloud.client("stepfunctions"), []

    def work(event: Any) -> Any:
        calls.append(event["input"])
        if len(calls) == 1:
            (running,) = client.list_executions(stateMachineArn=MACHINE, statusFilter="RUNNING")["executions"]
            client.stop_execution(executionArn=running["executionArn"], cause="on purpose")
        return len(calls)

    deploy(cloud, work, {"Work": over_items()})
    stopped = run(cloud, {"items": ["a"]})
    assert (stopped["status"], map_run(cloud, stopped)["status"]) == ("ABORTED", "ABORTED")
    client.redrive_execution(executionArn=stopped["executionArn"])
    assert json.loads(ended(cloud, stopped["executionArn"])["output"]) == [{"payload": 2}]
    assert calls == ["a", "a"]


def test_retries_wait_on_the_injected_clock(cloud: LocalAws) -> None:
    """A throttled function is called again after the interval, and each retry counts as a transition."""
    retry = {"ErrorEquals": ["Lambda.TooManyRequestsException"], "IntervalSeconds": 600, "MaxAttempts": 2}
    deploy(cloud, lambda _event: "done", {"A": task(Retry=[retry])})
    cloud.fault("lambda", "Invoke", "TooManyRequestsException", times=2, status=429)
    before = cloud.clock.monotonic()
    done = run(cloud)
    assert done["status"] == "SUCCEEDED", done
    assert 1800 <= cloud.clock.monotonic() - before < 1810
    assert cloud.world.state_machines.executions[done["executionArn"]].transitions == 3


def test_error_of_the_function_is_named_after_its_exception(cloud: LocalAws) -> None:
    """The cause is the function's error document."""

    def work(_event: Any) -> Any:
        raise Failed("RunFailed")

    deploy(cloud, work, {"A": task()})
    done = run(cloud)
    assert (done["status"], done["error"]) == ("FAILED", "RunFailed")
    assert json.loads(done["cause"])["errorMessage"] == "on purpose"


@pytest.mark.parametrize(("kind", "calls"), [("twice", 2), ("late", 2), ("never", 1)])
def test_disturbed_deliveries(cloud: LocalAws, kind: str, calls: int) -> None:
    """A call is delivered twice; or when the engine has given it up and called again; or never, and called again."""
    called: list[Any] = []
    retry = {"ErrorEquals": ["States.Timeout"], "IntervalSeconds": 1, "MaxAttempts": 1}
    deploy(cloud, called.append, {"A": task(Retry=[retry], TimeoutSeconds=900)})
    cloud.disturb_tasks(kind, containing="x")
    assert run(cloud, {"a": "x"})["status"] == "SUCCEEDED"
    cloud.world.state_machines.join()
    assert called == [{"input": {"a": "x"}}] * calls
    with pytest.raises(ValueError, match="kind 'often' is not one of"):
        cloud.disturb_tasks("often")


def test_execution_times_out(cloud: LocalAws) -> None:
    """TimeoutSeconds of the machine ends it before the next state."""
    deploy(
        cloud,
        lambda _event: cloud.clock.wait_until(cloud.clock.monotonic() + 100),
        {"A": task(Next="B"), "B": task()},
        TimeoutSeconds=60,
    )
    assert run(cloud)["status"] == "TIMED_OUT"


def test_executions_see_each_other_newest_first(cloud: LocalAws) -> None:
    """A task may list the executions of its own state machine."""
    deploy(cloud, lambda _event: None, {"A": {**LISTING, "End": True}})
    done = run(cloud)
    (listed,) = json.loads(done["output"])["Executions"]
    assert (listed["ExecutionArn"], listed["Status"]) == (done["executionArn"], "RUNNING")


@pytest.mark.parametrize(
    ("state", "missing", "error"),
    [
        (task(), "lambda:InvokeFunction", "Lambda.AWSLambdaException"),
        (over_items(), "states:StartExecution", "States.Runtime"),
        (over_items(ResultWriter=writer()), "s3:PutObject", "States.ResultWriterFailed"),
        ({**LISTING, "End": True}, "states:ListExecutions", "Sfn.AccessDeniedException"),
    ],
)
def test_role_needs_each_right(cloud: LocalAws, state: dict[str, Any], missing: str, error: str) -> None:
    """Without one of them, the state fails and nothing else is tried."""
    left = [
        {**grant, "Action": [one for one in _many(grant["Action"]) if one != missing]}
        for grant in GRANTS
        if _many(grant["Action"]) != [missing]
    ]
    deploy(cloud, lambda _event: None, {"A": state}, *left)
    done = run(cloud, {"items": [1]})
    assert (done["status"], done["error"]) == ("FAILED", error), done


def _many(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def test_start_is_idempotent_by_name(cloud: LocalAws) -> None:
    """The same name with other input, or of an execution that has ended, is refused."""
    client = cloud.client("stepfunctions")
    again: list[str] = []

    def work(_event: Any) -> Any:
        again.append(client.start_execution(stateMachineArn=MACHINE, name="one", input="{}")["executionArn"])
        with pytest.raises(client.exceptions.ExecutionAlreadyExists):
            client.start_execution(stateMachineArn=MACHINE, name="one", input='{"a": 1}')

    deploy(cloud, work, {"A": task()})
    arn = client.start_execution(stateMachineArn=MACHINE, name="one", input="{}")["executionArn"]
    assert ended(cloud, arn)["status"] == "SUCCEEDED"
    assert again == [arn]
    with pytest.raises(client.exceptions.ExecutionAlreadyExists):
        client.start_execution(stateMachineArn=MACHINE, name="one", input="{}")


def test_definition_and_role_are_checked_when_created(cloud: LocalAws) -> None:
    """A definition that would not be executed is refused, and a role that does not trust Step Functions."""
    client = cloud.client("stepfunctions")
    role = make_role(cloud, "machine", *GRANTS, trusts={"Service": "lambda.amazonaws.com"})
    definition = json.dumps({"StartAt": "A", "States": {"A": task()}})
    with pytest.raises(ClientError, match="does not trust the service"):
        client.create_state_machine(name="machine", definition=definition, roleArn=role)
    parallel = json.dumps({"StartAt": "A", "States": {"A": {"Type": "Parallel", "Branches": [], "End": True}}})
    with pytest.raises(client.exceptions.InvalidDefinition, match="'Parallel' are not offered"):
        client.create_state_machine(name="machine", definition=parallel, roleArn=role)
    assert client.validate_state_machine_definition(definition=parallel)["result"] == "FAIL"
    with pytest.raises(ClientError) as refused:
        client.get_execution_history(executionArn=f"{MACHINE}:x")
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501
