"""The part of the Amazon States Language that the local Step Functions execute. Any other part is refused.

A definition is checked when a state machine is created, so that nothing in it is ignored silently. Sources: the Amazon
States Language specification, and "Processing input and output", "Choice", "Map", "Handling errors" and "Intrinsic
functions" in the AWS Step Functions Developer Guide. Paths are reference paths of JSONPath.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# "Quotas related to task executions" in the AWS Step Functions Developer Guide.
DATA_BYTES = 262_144
# Errors that States.ALL does not match: "Error names" in the AWS Step Functions Developer Guide.
_TERMINAL = ("States.DataLimitExceeded", "States.Runtime")
_PATH = re.compile(r"\$\$?(?:\.[A-Za-z_][\w-]*|\[\d+\])*")
_STEP = re.compile(r"\.([A-Za-z_][\w-]*)|\[(\d+)\]")
_ADD = re.compile(r"States\.MathAdd\((.+), (.+)\)")
_NUMBER = re.compile(r"-?\d+")
_COMMON = {"Type", "Comment"}
_FIELDS = {
    "Task": {"Resource", "Parameters", "ResultSelector", "ResultPath", "TimeoutSeconds", "Retry", "Next", "End"},
    "Map": {"ItemsPath", "ItemSelector", "ItemProcessor", "MaxConcurrency", "ToleratedFailurePercentage"}
    | {"ResultWriter", "ResultPath", "Label", "Next", "End"},
    "Choice": {"Choices", "Default"},
    "Pass": {"Parameters", "Next", "End"},
    "Succeed": set(),
    "Fail": {"Error", "Cause"},
}
_RETRIER = {"ErrorEquals", "IntervalSeconds", "MaxAttempts", "BackoffRate", "MaxDelaySeconds", "JitterStrategy"}
_COMPARISONS = {"IsPresent", "StringEqualsPath", "NumericLessThan"}
RESOURCES = ("lambda:invoke", "aws-sdk:sfn:listExecutions")
_WRITER = "s3:putObject"


class StateError(Exception):
    """An error of a state: a name such as ``States.Timeout``, and its cause."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error, self.cause = error, cause


def problems(text: str) -> list[str]:
    """Return what a definition contains that Step Functions refuse, or that the local ones do not offer."""
    try:
        definition = json.loads(text)
    except ValueError as error:
        return [f"INVALID_JSON_DESCRIPTION: {error}"]
    if not isinstance(definition, dict):
        return ["INVALID_JSON_DESCRIPTION: the definition is not an object"]
    return list(_machine(definition, "", {"Comment", "StartAt", "States", "TimeoutSeconds"}))


def _machine(definition: Mapping[str, Any], at: str, fields: set[str]) -> Iterator[str]:
    yield from (f"{at}/{name}: not offered" for name in sorted(definition.keys() - fields))
    states = definition.get("States")
    if not isinstance(states, dict) or not states:
        yield f"{at}/States: a definition has at least one state"
        return
    targets = {definition.get("StartAt")}
    for name, state in states.items():
        targets |= _targets(state)
        yield from _state(state, f"{at}/States/{name}")
    yield from (f"MISSING_TRANSITION_TARGET: {at}: {name!r} is not a state" for name in targets - states.keys())
    yield from (f"MISSING_TRANSITION_TARGET: {at}: no state leads to {name!r}" for name in states.keys() - targets)


def _targets(state: Mapping[str, Any]) -> set[Any]:
    choices = [rule.get("Next") for rule in state.get("Choices", [])]
    return {*choices, *(state[name] for name in ("Next", "Default") if name in state)}


def _state(state: Mapping[str, Any], at: str) -> Iterator[str]:
    kind = str(state.get("Type"))
    if kind not in _FIELDS:
        yield f"{at}: states of type {kind!r} are not offered"
        return
    yield from (f"{at}/{name}: not offered" for name in sorted(state.keys() - _FIELDS[kind] - _COMMON))
    if "Next" in _FIELDS[kind] and ("Next" in state) == bool(state.get("End")):
        yield f"{at}: a state of type {kind} has either Next or End"
    for name in ("ItemsPath", "ResultPath"):
        if name in state and not _PATH.fullmatch(str(state[name])):
            yield f"{at}/{name}: {state[name]!r} is not a reference path"
    for name in ("Parameters", "ResultSelector", "ItemSelector"):
        yield from _template_problems(state.get(name), f"{at}/{name}")
    for index, retrier in enumerate(state.get("Retry", [])):
        yield from (f"{at}/Retry/{index}/{name}: not offered" for name in sorted(retrier.keys() - _RETRIER))
        if retrier.get("JitterStrategy", "NONE") not in ("FULL", "NONE"):
            yield f"{at}/Retry/{index}/JitterStrategy: neither FULL nor NONE"
    if kind == "Task" and not str(state.get("Resource")).endswith(tuple(f":states:::{one}" for one in RESOURCES)):
        yield f"{at}/Resource: {state.get('Resource')!r} is not offered; {', '.join(RESOURCES)} are"
    if kind == "Choice":
        yield from (
            p for i, rule in enumerate(state.get("Choices", [])) for p in _rule(rule, f"{at}/Choices/{i}", True)
        )
    if kind == "Map":
        yield from _map(state, at)


def _map(state: Mapping[str, Any], at: str) -> Iterator[str]:
    processor = state.get("ItemProcessor") or {}
    if processor.get("ProcessorConfig") != {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}:
        yield f"{at}/ItemProcessor/ProcessorConfig: only DISTRIBUTED with STANDARD executions is offered"
    yield from _machine(processor, f"{at}/ItemProcessor", {"ProcessorConfig", "StartAt", "States"})
    writer = state.get("ResultWriter")
    if writer is not None:
        yield from (
            f"{at}/ResultWriter/{name}: not offered" for name in sorted(writer.keys() - {"Resource", "Parameters"})
        )
        if not str(writer.get("Resource")).endswith(f":states:::{_WRITER}"):
            yield f"{at}/ResultWriter/Resource: only {_WRITER} is offered"
        yield from _template_problems(writer.get("Parameters"), f"{at}/ResultWriter/Parameters")


def _rule(rule: Mapping[str, Any], at: str, top: bool) -> Iterator[str]:
    own = rule.keys() - {"Comment"} - ({"Next"} if top else set())
    if own == {"And"}:
        yield from (p for index, one in enumerate(rule["And"]) for p in _rule(one, f"{at}/And/{index}", False))
    elif "Variable" not in own or len(own) != 2 or not own - {"Variable"} <= _COMPARISONS:
        yield f"{at}: only And and, with a Variable, one of {', '.join(sorted(_COMPARISONS))} are offered"
    elif not _PATH.fullmatch(str(rule["Variable"])):
        yield f"{at}/Variable: {rule['Variable']!r} is not a reference path"


def _template_problems(value: Any, at: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name.endswith(".$"):
                if not _expression(inner):
                    yield f"{at}/{name}: {inner!r} is neither a reference path nor States.MathAdd"
            else:
                yield from _template_problems(inner, f"{at}/{name}")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _template_problems(inner, f"{at}/{index}")


def _expression(text: Any) -> bool:
    added = _ADD.fullmatch(str(text))
    if added:
        return all(_NUMBER.fullmatch(one) or _PATH.fullmatch(one) for one in added.groups())
    return bool(_PATH.fullmatch(str(text)))


def get(path: str, data: Any, context: Mapping[str, Any]) -> Any:
    """Return the value at a reference path of the data, or of the context object (``$$``). Raises LookupError."""
    value: Any = context if path.startswith("$$") else data
    for name, index in _STEP.findall(path):
        if index and isinstance(value, list):
            value = value[int(index)]
        elif name and isinstance(value, Mapping):
            value = value[name]
        else:
            raise LookupError(path)
    return value


def filled(template: Any, data: Any, context: Mapping[str, Any]) -> Any:
    """Return a payload template with its paths and intrinsic functions replaced. Raises StateError."""
    if isinstance(template, Mapping):
        return {
            (name.removesuffix(".$")): _evaluated(inner, data, context)
            if name.endswith(".$")
            else filled(inner, data, context)
            for name, inner in template.items()
        }
    if isinstance(template, list):
        return [filled(inner, data, context) for inner in template]
    return template


def _evaluated(expression: str, data: Any, context: Mapping[str, Any]) -> Any:
    added = _ADD.fullmatch(expression)
    try:
        if not added:
            return get(expression, data, context)
        numbers = [int(one) if _NUMBER.fullmatch(one) else get(one, data, context) for one in added.groups()]
    except LookupError as error:
        cause = f"The JSONPath {expression!r} specified for a field could not be found in the input"
        raise StateError("States.ParameterPathFailure", cause) from error
    if not all(isinstance(one, int) for one in numbers):
        raise StateError("States.IntrinsicFailure", f"{expression}: the arguments are not integers")
    return sum(numbers)


def chosen(state: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> str:
    """Return the name of the state that a Choice state leads to. Raises StateError."""
    for rule in state["Choices"]:
        if _holds(rule, data, context):
            return str(rule["Next"])
    if "Default" in state:
        return str(state["Default"])
    raise StateError("States.NoChoiceMatched", "no rule matches, and there is no default")


def _holds(rule: Mapping[str, Any], data: Any, context: Mapping[str, Any]) -> bool:
    if "And" in rule:
        return all(_holds(one, data, context) for one in rule["And"])
    try:
        value = get(rule["Variable"], data, context)
    except LookupError:
        if "IsPresent" in rule:
            return not rule["IsPresent"]
        raise StateError("States.Runtime", f"Invalid path {rule['Variable']!r}: the choice state's variable") from None
    if "IsPresent" in rule:
        return bool(rule["IsPresent"])
    if "NumericLessThan" in rule:
        return isinstance(value, int | float) and not isinstance(value, bool) and value < rule["NumericLessThan"]
    return isinstance(value, str) and value == get(rule["StringEqualsPath"], data, context)


def merged(path: str | None, data: Any, result: Any) -> Any:
    """Return a state's output: the result, the input (`path` None), or the input with the result at `path`."""
    if path is None:
        return data
    names = [name for name, _ in _STEP.findall(path)]
    if not names:
        return result
    if not isinstance(data, dict):
        raise StateError("States.ResultPathMatchFailure", f"{path} does not fit the state's input")
    return {**data, names[0]: merged("$" + "".join(f".{name}" for name in names[1:]), data.get(names[0], {}), result)}


def limited(data: Any) -> Any:
    """Return data that a state may pass on. Raises StateError if it is too large."""
    size = len(json.dumps(data, separators=(",", ":")).encode())
    if size > DATA_BYTES:
        cause = f"The state/task returned a result with a size exceeding the maximum number of bytes: {size}"
        raise StateError("States.DataLimitExceeded", cause)
    return data


def retry_delay(retriers: Sequence[Mapping[str, Any]], error: str, used: list[int], rng: random.Random) -> float | None:
    """Return the seconds until the next attempt, None if there is none; count it in `used`, by retrier."""
    for index, retrier in enumerate(retriers):
        if not _matches(retrier["ErrorEquals"], error):
            continue
        if used[index] >= int(retrier.get("MaxAttempts", 3)):
            return None
        seconds = float(retrier.get("IntervalSeconds", 1)) * float(retrier.get("BackoffRate", 2)) ** used[index]
        seconds = min(seconds, float(retrier.get("MaxDelaySeconds", seconds)))
        used[index] += 1
        return rng.uniform(0, seconds) if retrier.get("JitterStrategy") == "FULL" else seconds
    return None


def _matches(names: Sequence[str], error: str) -> bool:
    if error in names:
        return True
    if error in _TERMINAL:
        return False
    return "States.ALL" in names or ("States.TaskFailed" in names and error != "States.Timeout")
