"""Rounds whose calls of the function run in processes of Lambda's own runtime client, one of which is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.aws.arns import Where
from localcloud.aws.iam.sessions import credentials
from localcloud.aws.platform.deployment import FUNCTION
from localcloud.aws.runtime.lambda_runtime import Invocation, LambdaRuntime
from tests.aws_lambda.rounds import Rounds
from tests.aws_lambda.support import local_aws

pytestmark = pytest.mark.slow  # starts processes of the function
# The deployed handler on the local cloud's clock, so that waiting for the lock of a killed run takes no time.
HANDLER = "cli.demo.aws_app.handler"
NAMES = ("acme", "bolt", "core")


class Processes(Rounds):
    """A deployment whose state machine invokes the function in processes of their own."""

    def __init__(self, cloud: Any, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
        super().__init__(cloud, monkeypatch)
        role, where = f"arn:aws:iam::{cloud.account}:role/{FUNCTION}", Where(cloud.account, cloud.region)
        session = cloud.world.sessions.assume("lambda.amazonaws.com", role, FUNCTION, where)
        own = {**cloud.environment(), **credentials(session)}
        self.function = LambdaRuntime(HANDLER, own, cloud.account, cloud.region, task_root=repository)
        self.invocations: list[Invocation] = []
        cloud.world.functions.stand_in = self._in_process

    def _in_process(self, event: Any, request_id: str) -> Invocation:
        self.events.append(event)
        done = self.function.invoke(event, request_id)
        self.invocations.append(done)
        return done

    @property
    def pid(self) -> int:
        """Return the id of the process that serves calls now."""
        sandbox = self.function._sandbox
        assert sandbox is not None
        return sandbox._child.process.pid


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch, repository: Path) -> Iterator[Processes]:
    """Return a deployment that serves three tenants."""
    with local_aws(accounts=1, fleet=True) as cloud:
        deployed = Processes(cloud, monkeypatch, repository)
        with deployed.function:
            for name in NAMES:
                deployed.add(name, shared=True)
            yield deployed


def created(rounds: Rounds) -> dict[str, int]:
    """Return how many exports exist in each payer, which equals the writes: none is ever deleted."""
    payers = {name: rounds.payer(name) for name in NAMES}
    return {name: len(rounds.cloud.exports(account=payer)) for name, payer in payers.items()}


def test_round_in_the_runtime_of_lambda(rounds: Processes) -> None:
    """Each call has an answer, one process serves all, and the second round writes nothing."""
    assert rounds.statuses(rounds.round()) == dict.fromkeys(NAMES, "ok")
    pid = rounds.pid
    rounds.cloud.advance(3600)
    rounds.cloud.calls.clear()
    assert rounds.statuses(rounds.round()) == dict.fromkeys(NAMES, "ok")
    assert rounds.pid == pid
    assert [one.error for one in rounds.invocations] == [None] * 10
    assert rounds.cloud.calls.count("bcm-data-exports", "CreateExport") == 0
    assert {one.log_stream for one in rounds.invocations} == {rounds.invocations[0].log_stream}


@pytest.mark.parametrize("answered", [False, True], ids=["before the write", "after the write, unanswered"])
def test_killed_function_is_called_again_without_a_second_write(
    rounds: Processes, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL during the write of one tenant: the same round serves it, once the lock of the dead run has expired."""
    exports = rounds.cloud.world.exports
    create, killed, attempts = exports.create, list[int](), list[str]()

    def create_and_die(account: str, *given: Any) -> Any:
        attempts.append(account)
        die = not killed and len(attempts) == 2
        made = create(account, *given) if answered or not die else None
        if die:
            killed.append(rounds.pid)
            os.kill(rounds.pid, signal.SIGKILL)
        return made or create(account, *given)

    monkeypatch.setattr(exports, "create", create_and_die)
    done = rounds.round()
    assert rounds.statuses(done) == dict.fromkeys(NAMES, "ok")
    assert killed
    assert rounds.pid != killed[0]
    (lost,) = [one for one in rounds.invocations if one.error is not None]
    assert lost.error is not None
    assert lost.error["errorType"] == "Runtime.ExitError"
    assert "SIGKILL" in str(lost.error["errorMessage"])
    assert created(rounds) == dict.fromkeys(NAMES, 1)
    served = [event["tenant"] for event in rounds.events if "tenant" in event]
    assert served == ["acme", "bolt", "bolt", "core"]
    assert {name: rounds.row(name)["invocations"] for name in NAMES} == dict.fromkeys(NAMES, 1)
