"""Rounds over tenants on the local Step Functions, with the real handler and the real roles of both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from localcloud.aws.iam import grants
from tests.aws_lambda.rounds import Rounds
from tests.aws_lambda.support import local_aws
from tests.localcloud.aws.iam.sessions import Session

EXPORT = "tailpipe-dataexport"


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rounds]:
    """Return a deployment that serves tenants, without any."""
    with local_aws(accounts=2, fleet=True) as cloud:
        yield Rounds(cloud, monkeypatch)


def created(rounds: Rounds) -> dict[str, int]:
    """Return how many exports were created in each payer."""
    found: dict[str, int] = {}
    for call in rounds.cloud.calls.select("bcm-data-exports", "CreateExport"):
        if call.status < 300:
            found[call.account] = found.get(call.account, 0) + 1
    return found


def test_round_serves_each_tenant_whatever_becomes_of_the_others(rounds: Rounds) -> None:
    """A dead tenant, a throttled one and one that is revoked half way are rows; the others are served as ever."""
    payers = {name: rounds.add(name, shared=True) for name in ("acme", "bolt", "core", "dead", "gone", "slow")}
    rounds.cloud.delete_stack(account=payers["dead"])
    rounds.cloud.fault("bcm-data-exports", "*", "ThrottlingException", times=None, account=payers["slow"], status=429)

    def revoke(event: Any) -> None:
        if event.get("tenant") == "core":
            rounds.cloud.delete_stack(account=payers["gone"])

    rounds.before = revoke
    done = rounds.round()
    assert rounds.statuses(done) == {
        "acme": "ok",
        "bolt": "ok",
        "core": "ok",
        "dead": "unreachable",
        "gone": "unreachable",
        # What AWS throttled is deferred, which is no failure yet.
        "slow": "ok",
    }
    assert created(rounds) == {payers[name]: 1 for name in ("acme", "bolt", "core")}
    execution = rounds.cloud.world.state_machines.executions[done["executionArn"]]
    (map_run,) = execution.map_runs.values()
    assert [child.transitions for child in map_run.children] == [2] * 6
    assert rounds.report(done)["tenants"]["total"] == 6
    # Nothing is written a second time, and those who waited longest come first.
    rounds.cloud.clear_faults()
    rounds.cloud.advance(3600)
    rounds.before = lambda _event: None
    assert rounds.statuses(rounds.round())["slow"] == "ok"
    assert created(rounds) == {payers[name]: 1 for name in ("acme", "bolt", "core", "slow")}


@pytest.mark.parametrize("at", ["begin", "bolt", "end"])
def test_round_that_is_killed_is_continued_without_a_second_write(rounds: Rounds, at: str) -> None:
    """A redrive runs what was not served; what the killed call had done is found, and not done again."""
    payers = [rounds.add(name, shared=True) for name in ("acme", "bolt", "core")]
    client, killed = rounds.cloud.client("stepfunctions"), list[str]()

    def kill(event: Any) -> None:
        if not killed and at in json.dumps(event):
            (running,) = client.list_executions(stateMachineArn=rounds.machine, statusFilter="RUNNING")["executions"]
            killed.append(running["executionArn"])
            client.stop_execution(executionArn=killed[0])

    rounds.before = kill
    assert rounds.round()["status"] == "ABORTED"
    rounds.cloud.world.state_machines.join()
    client.redrive_execution(executionArn=killed[0])
    done = rounds.execution(killed[0])
    assert rounds.statuses(done) == dict.fromkeys(("acme", "bolt", "core"), "ok")
    assert created(rounds) == dict.fromkeys(payers, 1)


def test_next_round_serves_what_a_dead_round_left(rounds: Rounds) -> None:
    """Without a redrive, too: those who were not served come first."""
    for name in ("acme", "bolt", "core"):
        rounds.add(name, shared=True)
    client = rounds.cloud.client("stepfunctions")

    def kill(event: Any) -> None:
        if event.get("tenant") == "bolt":
            (running,) = client.list_executions(stateMachineArn=rounds.machine, statusFilter="RUNNING")["executions"]
            client.stop_execution(executionArn=running["executionArn"])

    rounds.before = kill
    rounds.round()
    rounds.cloud.world.state_machines.join()
    rounds.cloud.advance(3600)
    rounds.before, rounds.events = lambda _event: None, []
    done = rounds.round()
    served = [event["tenant"] for event in rounds.events if "tenant" in event]
    assert served == ["core", "acme", "bolt"]
    assert set(rounds.statuses(done).values()) == {"ok"}
    assert set(created(rounds).values()) == {1}


@pytest.mark.parametrize("kind", ["twice", "late", "never"])
def test_disturbed_delivery_does_no_harm(rounds: Rounds, kind: str) -> None:
    """A call that arrives twice, or when the engine has given it up, writes nothing twice."""
    payers = [rounds.add(name, shared=True) for name in ("acme", "bolt")]
    rounds.cloud.disturb_tasks(kind, containing='"tenant": "acme"')
    assert rounds.round()["status"] == "SUCCEEDED"
    # A late call may still be running when the round has ended; its row is then in the next report.
    rounds.cloud.world.state_machines.join()
    assert {name: rounds.row(name)["status"] for name in ("acme", "bolt")} == {"acme": "ok", "bolt": "ok"}
    assert created(rounds) == dict.fromkeys(payers, 1)


def test_tenant_that_never_answers_is_a_row(rounds: Rounds) -> None:
    """After the retry its call has failed, which is tolerated; it counts as not run."""
    for name in ("acme", "bolt"):
        rounds.add(name, shared=True)
    rounds.cloud.disturb_tasks("never", containing='"tenant": "acme"', times=2)
    assert rounds.statuses(rounds.round()) == {"acme": "not_run", "bolt": "ok"}


def test_broken_function_stops_the_round(rounds: Rounds) -> None:
    """More failed calls than tolerated: the other tenants are not called, until a redrive after the cure."""
    names = [f"tenant-{number}" for number in range(6)]
    for name in names:
        rounds.add(name, shared=True)

    def crash(event: Any) -> None:
        if "tenant" in event:
            raise RuntimeError("the function is broken")

    original, rounds.before = rounds.before, crash
    broken = rounds.round()
    assert (broken["status"], broken["error"]) == ("FAILED", "States.ExceedToleratedFailureThreshold")
    called = {event["tenant"] for event in rounds.events if "tenant" in event}
    assert called == set(names[:4])
    rounds.before = original
    rounds.cloud.client("stepfunctions").redrive_execution(executionArn=broken["executionArn"])
    assert set(rounds.statuses(rounds.execution(broken["executionArn"])).values()) == {"ok"}


def test_unfinished_tenants_are_continued_in_further_passes(rounds: Rounds) -> None:
    """Up to four calls in a round; then the next round goes on."""
    rounds.add("acme", shared=True)
    asked = ["acme"]
    end = '"step": "end"'

    def note(event: Any) -> None:
        if end in json.dumps(event):
            row = rounds.row("acme")
            row["again"] = bool(asked) and row["invocations"] < 4
            rounds.cloud.client("s3").put_object(Bucket=rounds.bucket, Key="state/rows/acme.json", Body=json.dumps(row))

    rounds.before = note
    done = rounds.round()
    assert done["status"] == "SUCCEEDED", done
    assert len([event for event in rounds.events if "tenant" in event]) == 4
    assert rounds.report(done)["rows"][0]["invocations"] == 4


def test_round_is_left_to_the_one_in_progress(rounds: Rounds) -> None:
    """A second start ends at once, and calls nothing."""
    rounds.add("acme", shared=True)
    client, second = rounds.cloud.client("stepfunctions"), list[str]()

    def start(event: Any) -> None:
        if "tenant" in event and not second:
            rounds.cloud.advance(1)
            second.append(client.start_execution(stateMachineArn=rounds.machine)["executionArn"])
            rounds.cloud.world.state_machines.wait(second[0])

    rounds.before = start
    done = rounds.round()
    assert rounds.statuses(done) == {"acme": "ok"}
    assert client.describe_execution(executionArn=second[0])["status"] == "SUCCEEDED"
    assert len(rounds.events) == 3


def test_roles_of_a_round_are_granted_exactly_what_they_use(rounds: Rounds) -> None:
    """No right of the coordinator is unused, except those that AWS names for child workflows and uploads in parts."""
    rounds.add("acme", shared=True)
    rounds.cloud.calls.clear()
    client = rounds.cloud.client("stepfunctions")

    def fail(event: Any) -> None:
        if len([one for one in rounds.events if "tenant" in one]) <= 2 and "tenant" in event:
            raise RuntimeError("once")

    rounds.before = fail
    broken = rounds.round()
    client.redrive_execution(executionArn=broken["executionArn"])
    assert rounds.execution(broken["executionArn"])["status"] == "SUCCEEDED"
    used = {action for principal, action, _ in rounds.cloud.calls.accesses() if principal == rounds.rounds_role}
    listed = yaml.safe_load(grants.RIGHTS.read_text(encoding="utf-8"))["rounds"]
    granted = {action for grant in listed if grant.get("when") != "kms" for action in grant["actions"]}
    parts = {"s3:AbortMultipartUpload", "s3:GetObject", "s3:ListMultipartUploadParts"}
    assert granted - used == {"states:DescribeExecution", "states:StopExecution", *parts}
    assert used <= granted
    refused = [call for call in rounds.cloud.calls.select() if "AccessDenied" in (call.error or "")]
    assert refused == []


@pytest.mark.parametrize(
    "action",
    ["lambda:InvokeFunction", "s3:PutObject", "states:ListExecutions", "states:StartExecution"],
)
def test_round_fails_without_a_right(rounds: Rounds, action: str) -> None:
    """Each right of the coordinator is needed."""
    rounds.add("acme", shared=True)
    iam = rounds.cloud.client("iam")
    policy = json.loads(grants.policy("rounds", rounds.cloud.deployment.names(), ()))
    policy["Statement"] = [one for one in policy["Statement"] if action not in one["Action"]]
    iam.put_role_policy(RoleName="tailpipe-exports-rounds", PolicyName="rounds", PolicyDocument=json.dumps(policy))
    assert rounds.round()["status"] == "FAILED"


def test_coordinator_can_do_nothing_else(rounds: Rounds) -> None:
    """It calls no other function, reads no registry, state or export, and enters no tenant."""
    rounds.add("acme", shared=True)
    rounds.round()
    iam = rounds.cloud.client("iam")
    account = {"AWS": f"arn:aws:iam::{rounds.cloud.account}:root"}
    trust = {"Effect": "Allow", "Principal": account, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(
        RoleName="tailpipe-exports-rounds", PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    with Session(rounds.cloud, rounds.rounds_role) as session:
        s3, entry = session.client("s3"), rounds.entries[0]["entry"]
        others = ("registry/tenants.json", "state/rows/acme.json", *rounds.stored("runs/rounds/"))
        assert len(others) == 3
        reads = [partial(s3.get_object, Bucket=rounds.bucket, Key=key) for key in others]
        writes = [partial(s3.put_object, Bucket=rounds.bucket, Key=key, Body=b"") for key in (*others, "dataexport/x")]
        enters = partial(session.client("sts").assume_role, RoleArn=entry["role_arn"], RoleSessionName="own")
        asks = partial(session.client("secretsmanager").get_secret_value, SecretId=entry["external_id"])
        calls = partial(session.client("lambda").invoke, FunctionName="another")
        for attempt in (*reads, *writes, enters, asks, calls):
            with pytest.raises(ClientError, match="AccessDenied"):
                attempt()


def test_function_cannot_write_the_registry(rounds: Rounds) -> None:
    """It reads it in every round."""
    rounds.add("acme", shared=True)
    rounds.round()
    role = f"arn:aws:iam::{rounds.cloud.account}:role/tailpipe-exports"
    used = {(action, resource) for principal, action, resource in rounds.cloud.calls.accesses() if principal == role}
    registry = f"arn:aws:s3:::{rounds.bucket}/registry/tenants.json"
    assert ("s3:GetObject", registry) in used
    assert ("s3:PutObject", registry) not in used
    for action in ("s3:PutObject", "s3:DeleteObject"):
        statements = json.loads(grants.policy("function", rounds.cloud.deployment.names(), ("fleet",)))["Statement"]
        allowing = [
            one["Sid"]
            for one in statements
            if action in one["Action"]
            and any(
                resource.endswith(("/registry/*", "/registry/tenants.json", f"{rounds.bucket}/*"))
                for resource in one["Resource"]
            )
        ]
        assert allowing == []
