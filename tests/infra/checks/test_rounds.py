"""The definition of the state machine for rounds is valid, and says what the function and the role expect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cfnlint import api  # type: ignore[import-untyped]  # it has no types

from localcloud.aws.partitions import PARTITIONS
from localcloud.aws.platform.deployed_rounds import CONCURRENCY, TOLERATED_PERCENT, definition
from localcloud.aws.platform.deployment import Deployment
from localcloud.aws.services.states_language import problems
from shared.state.session import LEASE
from tools import modules

DEPLOYMENT = Deployment.fresh("111122223333", PARTITIONS["aws"], "eu-west-1", fleet=True)


def lint(states: dict[str, Any]) -> list[str]:
    """Return what cfn-lint, with its schema of the Amazon States Language, reports on a definition."""
    machine = {"Definition": states, "RoleArn": "arn:aws:iam::111122223333:role/r"}
    template = {"Resources": {"Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": machine}}}
    found = api.lint(json.dumps(template), regions=["us-east-1"])
    return [str(one) for one in found if one.rule.id == "E3601"]


def test_definition_is_valid() -> None:
    """Both a linter and the local Step Functions, which refuse what they do not execute, accept it."""
    text = definition(DEPLOYMENT)
    assert lint(json.loads(text)) == []
    assert problems(text) == []


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"Type": "Tusk"}, id="type"),
        pytest.param({"Retry": [{"ErrorEquals": ["States.ALL"], "JitterStrategy": "SOME"}]}, id="jitter"),
        pytest.param({"Next": "Nowhere"}, id="target"),
    ],
)
def test_faults_of_a_definition_are_reported(change: dict[str, Any]) -> None:
    """One of the two sees a wrong type, a wrong value and a missing target."""
    states = json.loads(definition(DEPLOYMENT))
    states["States"]["Begin"].update(change)
    assert lint(states) + problems(json.dumps(states))


def test_defaults_are_those_of_the_module(repository: Path) -> None:
    """The local cloud's deployment has the values that the Terraform module has by default."""
    variables = modules.read(repository / "infra" / "aws").variables
    wanted = {"fleet_concurrency": CONCURRENCY, "fleet_tolerated_percent": TOLERATED_PERCENT}
    assert {name: variables[name]["default"] for name in wanted} == wanted


def test_tenants_cost_two_transitions_each() -> None:
    """Its start and one call: a state more for each tenant would raise the cost of all rounds by half."""
    tenants = json.loads(definition(DEPLOYMENT))["States"]["Tenants"]["ItemProcessor"]
    assert list(tenants["States"]) == ["Run"]


def test_call_that_died_is_repeated_when_its_lock_has_expired() -> None:
    """Before that, the function would find the tenant busy, and the round would end without it."""
    (run,) = json.loads(definition(DEPLOYMENT))["States"]["Tenants"]["ItemProcessor"]["States"].values()
    delays = {error: one["IntervalSeconds"] for one in run["Retry"] for error in one["ErrorEquals"]}
    died = ("Lambda.Unknown", "Runtime.ExitError", "Runtime.OutOfMemory", "Sandbox.Timedout", "States.Timeout")
    assert min(delays[error] for error in died) > LEASE.total_seconds()
