"""The functions of ARM templates that the local Azure implements, and the evaluation of a parsed expression.

Source: "ARM template functions", Microsoft Learn. Names are compared without regard to case, as Azure does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid5

from localcloud.azure.errors import ArmError
from localcloud.azure.templates.expressions import (
    Call,
    Literal,
    Node,
    Scope,
    Unknown,
    holds_unknown,
    invalid,
    is_expression,
    parse,
)

# The name space of guid(), a version 5 UUID of its arguments, joined by dashes.
_GUIDS = UUID("11fb06fb-712d-4ddd-98c7-e71bbd588830")
Function = Callable[[Scope, Sequence[Any]], Any]


def evaluate(value: Any, scope: Scope) -> Any:
    """Return a value of a template with every expression in it evaluated. Raises ArmError 400 InvalidTemplate.

    An expression that asks for something unknown is Unknown, and so is what depends on it.
    """
    if isinstance(value, str):
        if is_expression(value):
            return run(parse(value[1:-1]), scope)
        return value[1:] if value.startswith("[[") else value
    if isinstance(value, list):
        return [evaluate(one, scope) for one in value]
    if isinstance(value, dict):
        return {str(evaluate(name, scope)): evaluate(one, scope) for name, one in value.items()}
    return value


def run(node: Node, scope: Scope) -> Any:
    """Return the value of a parsed expression. Raises ArmError 400 InvalidTemplate."""
    if isinstance(node, Literal):
        return node.value
    if isinstance(node, Call):
        return _call(node, scope)
    return _member(run(node.of, scope), run(node.key, scope))


def _member(of: Any, key: Any) -> Any:
    if isinstance(of, Unknown) or isinstance(key, Unknown):
        return Unknown(f"{getattr(of, 'text', of)}.{getattr(key, 'text', key)}")
    if isinstance(of, list) and isinstance(key, int):
        if not 0 <= key < len(of):
            raise invalid(f"the array index '{key}' is out of bounds; the array has {len(of)} items")
        return of[key]
    if isinstance(of, dict) and isinstance(key, str):
        for name, value in of.items():
            if name.lower() == key.lower():
                return value
        raise invalid(
            f"the language expression property '{key}' doesn't exist, available properties are '{', '.join(of)}'"
        )
    raise invalid(f"the language expression property '{key}' can't be evaluated on a {type(of).__name__}")


def _call(node: Call, scope: Scope) -> Any:
    name = node.name.lower()
    if name in _LAZY:
        return _LAZY[name](node, scope)
    function = FUNCTIONS.get(name)
    if function is None:
        raise ArmError(
            501, "NotImplemented", f"The local Azure does not implement the template function '{node.name}'."
        )
    arguments = [run(one, scope) for one in node.arguments]
    if name not in _TOLERANT and any(isinstance(one, Unknown) for one in arguments):
        return Unknown(node.text)
    if name in _WHOLE and any(holds_unknown(one) for one in arguments):
        return Unknown(node.text)
    try:
        return function(scope, arguments)
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise invalid(f"the template function '{node.name}' is not valid in '{node.text[:200]}': {error}") from error


def _if(node: Call, scope: Scope) -> Any:
    condition, yes, no = node.arguments
    chosen = run(condition, scope)
    if isinstance(chosen, Unknown):
        return Unknown(node.text)
    if not isinstance(chosen, bool):
        raise invalid(f"the template function 'if' expects a boolean as its first argument in '{node.text[:200]}'")
    return run(yes if chosen else no, scope)


def _each(node: Call, scope: Scope) -> Any:
    """Run map, filter and toObject, whose later arguments are lambdas."""
    items = run(node.arguments[0], scope)
    if isinstance(items, Unknown):
        return items
    if not isinstance(items, list):
        raise invalid(f"the template function '{node.name}' expects an array in '{node.text[:200]}'")
    results = [[_applied(one, item, scope) for one in node.arguments[1:]] for item in items]
    name = node.name.lower()
    if name == "map":
        return [one[0] for one in results]
    if name == "filter":
        return [item for item, one in zip(items, results, strict=True) if one[0] is True]
    return {str(one[0]): one[1] if len(one) > 1 else item for item, one in zip(items, results, strict=True)}


def _applied(node: Node, item: Any, scope: Scope) -> Any:
    if not isinstance(node, Call) or node.name.lower() != "lambda" or len(node.arguments) != 2:
        raise invalid("expected a lambda function of one variable")
    variable = run(node.arguments[0], scope)
    return run(node.arguments[1], replace(scope, arguments={**scope.arguments, str(variable).lower(): item}))


_LAZY: Mapping[str, Callable[[Call, Scope], Any]] = {"if": _if, "map": _each, "filter": _each, "toobject": _each}
# These pass unknown values on as parts of a larger value.
_TOLERANT = frozenset({"createarray", "createobject", "union", "concat"})
# These need every part of their arguments.
_WHOLE = frozenset({"guid", "string", "join", "contains", "intersection"})


def _concat(_: Scope, arguments: Sequence[Any]) -> Any:
    unknown = next((one for one in arguments if isinstance(one, Unknown)), None)
    if unknown:
        return unknown
    if arguments and isinstance(arguments[0], list):
        return [item for one in arguments for item in one]
    return "".join(_text(one) for one in arguments)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "True" if value else "False"
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def _union(_: Scope, arguments: Sequence[Any]) -> Any:
    unknown = next((one for one in arguments if isinstance(one, Unknown)), None)
    if unknown:
        return unknown
    if isinstance(arguments[0], list):
        found: list[Any] = []
        for item in (item for one in arguments for item in one):
            if item not in found:
                found.append(item)
        return found
    return _merged(list(arguments))


def _merged(objects: list[dict[str, Any]]) -> dict[str, Any]:
    """Return objects as one; objects in them are merged too, and later values win."""
    made: dict[str, Any] = {}
    for one in objects:
        for name, value in one.items():
            both = isinstance(made.get(name), dict) and isinstance(value, dict)
            made[name] = _merged([made[name], value]) if both else value
    return made


def _intersection(_: Scope, arguments: Sequence[Any]) -> list[Any]:
    first, *rest = arguments
    return [one for one in first if all(one in other for other in rest)]


def _contains(_: Scope, arguments: Sequence[Any]) -> bool:
    container, item = arguments
    if isinstance(container, dict):
        return str(item).lower() in {name.lower() for name in container}
    return item in container


def _create_object(_: Scope, arguments: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(arguments[::2], arguments[1::2], strict=True))


def _parameter(scope: Scope, arguments: Sequence[Any]) -> Any:
    for name, value in scope.parameters.items():
        if name.lower() == str(arguments[0]).lower():
            return value
    raise invalid(f"the template parameter '{arguments[0]}' is not found")


def _variable(scope: Scope, arguments: Sequence[Any]) -> Any:
    if str(arguments[0]) not in scope.variables:
        raise invalid(f"the template variable '{arguments[0]}' is not found")
    return scope.variables[str(arguments[0])]


def _copy_index(scope: Scope, arguments: Sequence[Any]) -> int:
    named = [one for one in arguments if isinstance(one, str)]
    offset = next((one for one in arguments if isinstance(one, int)), 0)
    if not scope.copies:
        raise invalid("the template function 'copyIndex' is not expected at this location")
    return scope.copies[named[0].lower() if named else list(scope.copies)[-1]] + offset


def _place(name: str) -> Function:
    def found(scope: Scope, _: Sequence[Any]) -> Any:
        if name not in scope.place:
            raise invalid(
                f"the template function '{name}' is not expected at this location: the deployment's scope has none"
            )
        return scope.place[name]

    return found


def _typed(kind: str, names: Sequence[str]) -> str:
    """Return the part of an id that names a resource: provider, then types and names in turn."""
    provider, *types = kind.split("/")
    if len(types) != len(names):
        raise ValueError(f"'{kind}' takes {len(types)} names, and {len(names)} are given")
    return f"/providers/{provider}" + "".join(f"/{one}/{name}" for one, name in zip(types, names, strict=True))


def _resource_id(scope: Scope, arguments: Sequence[Any]) -> str:
    at = next(index for index, one in enumerate(arguments) if "/" in str(one) and "." in str(one).partition("/")[0])
    before, kind, names = list(arguments[:at]), arguments[at], arguments[at + 1 :]
    if not before and "resourceGroup" not in scope.place:
        raise ValueError("it needs a resource group")
    group = before[-1] if before else scope.place["resourceGroup"]["name"]
    owner = before[0] if len(before) == 2 else scope.place["subscription"]["subscriptionId"]
    return f"/subscriptions/{owner}/resourceGroups/{group}{_typed(kind, names)}"


def _subscription_id(scope: Scope, arguments: Sequence[Any]) -> str:
    own = "/" not in arguments[0]
    owner = arguments[0] if own else scope.place["subscription"]["subscriptionId"]
    kind, *names = arguments[1:] if own else arguments
    if kind == "Microsoft.Resources/resourceGroups":
        return f"/subscriptions/{owner}/resourceGroups/{names[0]}"
    return f"/subscriptions/{owner}{_typed(kind, names)}"


def _reference(scope: Scope, arguments: Sequence[Any]) -> Any:
    version = str(arguments[1]) if len(arguments) > 1 else ""
    full = len(arguments) > 2 and str(arguments[2]).lower() == "full"
    return scope.reference(str(arguments[0]), version, full)


def _fail(_: Scope, arguments: Sequence[Any]) -> Any:
    raise ArmError(400, "InvalidTemplate", f"Deployment template validation failed: '{arguments[0]}'.")


def _lambda_variable(scope: Scope, arguments: Sequence[Any]) -> Any:
    name = str(arguments[0]).lower()
    if name not in scope.arguments:
        raise invalid(f"the lambda variable '{arguments[0]}' is not found")
    return scope.arguments[name]


def _plain(function: Callable[..., Any]) -> Function:
    return lambda _, arguments: function(*arguments)


def _divided(one: int, by: int) -> int:
    return int(one / by)


FUNCTIONS: Mapping[str, Function] = {
    "add": _plain(lambda one, other: one + other),
    "and": _plain(lambda *all_: all(all_)),
    "concat": _concat,
    "contains": _contains,
    "copyindex": _copy_index,
    "createarray": lambda _, arguments: list(arguments),
    "createobject": _create_object,
    "div": _plain(_divided),
    "empty": _plain(lambda value: value is None or len(value) == 0),
    "equals": _plain(lambda one, other: type(one) is type(other) and one == other),
    "extensionresourceid": _plain(lambda base, kind, *names: f"{base}{_typed(kind, names)}"),
    "fail": _fail,
    "false": _plain(lambda: False),
    "first": _plain(lambda value: value[0] if value else None),
    "greater": _plain(lambda one, other: one > other),
    "greaterorequals": _plain(lambda one, other: one >= other),
    "guid": _plain(lambda *parts: str(uuid5(_GUIDS, "-".join(parts)))),
    "int": _plain(int),
    "intersection": _intersection,
    "items": _plain(lambda value: [{"key": name, "value": value[name]} for name in sorted(value, key=str.lower)]),
    "join": _plain(lambda items, by: by.join(_text(one) for one in items)),
    "lambdavariables": _lambda_variable,
    "last": _plain(lambda value: value[-1] if value else None),
    "length": _plain(len),
    "less": _plain(lambda one, other: one < other),
    "lessorequals": _plain(lambda one, other: one <= other),
    "managementgroup": _place("managementGroup"),
    "mod": _plain(lambda one, by: one % by),
    "mul": _plain(lambda one, other: one * other),
    "not": _plain(lambda value: not value),
    "null": _plain(lambda: None),
    "or": _plain(lambda *any_: any(any_)),
    "padleft": _plain(lambda value, width, by=" ": str(value).rjust(width, by)),
    "parameters": _parameter,
    "range": _plain(lambda start, count: list(range(start, start + count))),
    "reference": _reference,
    "resourcegroup": _place("resourceGroup"),
    "resourceid": _resource_id,
    "split": _plain(lambda text, by: text.split(by)),
    "startswith": _plain(lambda text, start: text.lower().startswith(start.lower())),
    "string": _plain(_text),
    "sub": _plain(lambda one, other: one - other),
    "subscription": _place("subscription"),
    "subscriptionresourceid": _subscription_id,
    "substring": _plain(lambda text, start, length: text[start : start + length]),
    "take": _plain(lambda value, count: value[:count]),
    "tenant": _place("tenant"),
    "tenantresourceid": _plain(lambda kind, *names: _typed(kind, names)),
    "tolower": _plain(str.lower),
    "true": _plain(lambda: True),
    "union": _union,
    "variables": _variable,
}
