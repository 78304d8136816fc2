"""The part of the Amazon States Language that is executed: everything else is refused, nothing is ignored."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from localcloud.aws.services import states_language as language
from localcloud.aws.services.states_language import StateError

RETRY = [{"ErrorEquals": ["States.ALL"], "IntervalSeconds": 2, "MaxAttempts": 3, "MaxDelaySeconds": 7}]
CONTEXT = {"Execution": {"Id": "arn:of:this"}}


def machine(**states: Any) -> str:
    """Return a definition that starts at its first state."""
    return json.dumps({"StartAt": next(iter(states)), "States": states})


@pytest.mark.parametrize(
    ("state", "reported"),
    [
        pytest.param({"Type": "Wait", "Seconds": 1, "End": True}, "states of type 'Wait' are not offered", id="type"),
        pytest.param({"Type": "Pass", "End": True, "InputPath": "$.a"}, "/InputPath: not offered", id="field"),
        pytest.param({"Type": "Pass"}, "has either Next or End", id="dead-end"),
        pytest.param({"Type": "Pass", "Next": "B"}, "'B' is not a state", id="target"),
        pytest.param({"Type": "Map", "ItemsPath": "$..a", "End": True}, "is not a reference path", id="path"),
        pytest.param(
            {"Type": "Pass", "End": True, "Parameters": {"a.$": "States.UUID()"}}, "States.MathAdd", id="intrinsic"
        ),
        pytest.param(
            {"Type": "Task", "Resource": "arn:aws:states:::sqs:sendMessage", "End": True}, "offered", id="service"
        ),
        pytest.param(
            {"Type": "Task", "Resource": "arn:aws:states:::lambda:invoke", "End": True, "Catch": []},
            "/Catch: not offered",
            id="catch",
        ),
        pytest.param(
            {"Type": "Choice", "Choices": [{"Variable": "$.a", "StringMatches": "x*", "Next": "A"}]},
            "only And and, with a Variable",
            id="comparison",
        ),
        pytest.param(
            {"Type": "Map", "End": True, "ItemProcessor": {"StartAt": "B", "States": {"B": {"Type": "Succeed"}}}},
            "only DISTRIBUTED with STANDARD",
            id="inline-map",
        ),
    ],
)
def test_what_is_not_executed_is_refused(state: dict[str, Any], reported: str) -> None:
    """A definition is refused for each field, state, path, function or service that would else be ignored."""
    found = "; ".join(language.problems(machine(A=state)))
    assert reported in found


def test_unreachable_states_and_invalid_json_are_refused() -> None:
    """Step Functions refuse both."""
    assert "no state leads to 'B'" in language.problems(machine(A={"Type": "Succeed"}, B={"Type": "Succeed"}))[0]
    assert language.problems("{")[0].startswith("INVALID_JSON_DESCRIPTION")
    assert language.problems("[]")[0].startswith("INVALID_JSON_DESCRIPTION")


def test_templates_take_values_of_the_input_and_the_context() -> None:
    """Paths, the context object and the addition of numbers are replaced, at any depth."""
    template = {"a.$": "$.list[1].name", "b": [{"c.$": "$$.Execution.Id"}], "n.$": "States.MathAdd($.n, 1)", "d": "$.n"}
    data = {"list": [{}, {"name": "x"}], "n": 2}
    assert language.filled(template, data, CONTEXT) == {"a": "x", "b": [{"c": "arn:of:this"}], "n": 3, "d": "$.n"}


@pytest.mark.parametrize(
    ("template", "error"),
    [
        pytest.param({"a.$": "$.missing"}, "States.ParameterPathFailure", id="missing"),
        pytest.param({"a.$": "$.list[5]"}, "States.ParameterPathFailure", id="index"),
        pytest.param({"a.$": "States.MathAdd($.text, 1)"}, "States.IntrinsicFailure", id="text"),
    ],
)
def test_templates_without_their_values_fail(template: dict[str, Any], error: str) -> None:
    """The error's name is that of the documentation."""
    with pytest.raises(StateError) as raised:
        language.filled(template, {"list": [], "text": "x"}, CONTEXT)
    assert raised.value.error == error


def test_choices_take_the_first_rule_that_holds() -> None:
    """Else they take the default; a comparison whose variable is missing fails, unless a rule before it asks for it."""
    present = {"Variable": "$.list[0]", "IsPresent": True}
    own = {"Variable": "$.list[0]", "StringEqualsPath": "$$.Execution.Id"}
    state = {
        "Choices": [
            {"And": [present, own], "Next": "own"},
            {"Variable": "$.n", "NumericLessThan": 3, "Next": "few"},
        ],
        "Default": "other",
    }
    assert language.chosen(state, {"list": ["arn:of:this"], "n": 5}, CONTEXT) == "own"
    assert language.chosen(state, {"list": ["another"], "n": 2}, CONTEXT) == "few"
    assert language.chosen(state, {"list": [], "n": 3}, CONTEXT) == "other"
    with pytest.raises(StateError, match=r"States\.Runtime"):
        language.chosen(state, {"list": []}, CONTEXT)
    with pytest.raises(StateError, match=r"States\.NoChoiceMatched"):
        language.chosen({"Choices": state["Choices"]}, {"list": [], "n": 3}, CONTEXT)


def test_results_replace_the_input_or_join_it() -> None:
    """The result's path decides."""
    assert language.merged("$", {"a": 1}, {"b": 2}) == {"b": 2}
    assert language.merged(None, {"a": 1}, {"b": 2}) == {"a": 1}
    assert language.merged("$.c.d", {"a": 1}, {"b": 2}) == {"a": 1, "c": {"d": {"b": 2}}}


def test_data_over_the_quota_is_refused() -> None:
    """256 KiB of JSON may be passed on, not more."""
    text = "x" * (language.DATA_BYTES - 2)
    assert language.limited(text) == text
    with pytest.raises(StateError, match=r"States\.DataLimitExceeded"):
        language.limited(text + "x")


def test_retries_back_off_up_to_their_most() -> None:
    """The delay doubles up to the largest one; after all attempts there is none."""
    used, rng = [0], random.Random(1)
    assert [language.retry_delay(RETRY, "Lambda.Unknown", used, rng) for _ in range(4)] == [2, 4, 7, None]


def test_full_jitter_takes_any_delay_up_to_the_computed_one() -> None:
    """JitterStrategy FULL spreads attempts from now to the delay that they would have without it."""
    rng = random.Random(1)
    delays = [language.retry_delay([{**RETRY[0], "JitterStrategy": "FULL"}], "any", [1], rng) for _ in range(200)]
    assert all(delay is not None and 0 <= delay <= 4 for delay in delays)
    assert min(filter(None, delays)) < 0.5
    assert max(filter(None, delays)) > 3.5


@pytest.mark.parametrize(
    ("names", "error", "retried"),
    [
        (["States.ALL"], "States.Timeout", True),
        (["States.ALL"], "States.DataLimitExceeded", False),
        (["States.ALL"], "States.Runtime", False),
        (["States.TaskFailed"], "RunFailed", True),
        (["States.TaskFailed"], "States.Timeout", False),
        (["Lambda.TooManyRequestsException"], "Lambda.ServiceException", False),
    ],
)
def test_retriers_match_the_documented_errors(names: list[str], error: str, retried: bool) -> None:
    """States.TaskFailed stands for all errors except a timeout, States.ALL for all that may be retried."""
    delay = language.retry_delay([{"ErrorEquals": names}], error, [0], random.Random(1))
    assert (delay is not None) is retried
