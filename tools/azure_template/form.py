"""The forms in which the portal asks for the parameters of the templates."""

from __future__ import annotations

from typing import Any

from tools.azure_template import subscription
from tools.azure_template.expressions import Json
from tools.azure_template.facts import Facts, Parameter

_VIEW = "https://schema.management.azure.com/schemas/0.1.2-preview/CreateUIDefinition.MultiVm.json#"
# The steps after the basics, and the variables that each asks for, in order.
STEPS: dict[str, tuple[str, tuple[str, ...]]] = {
    "exports": (
        "Exports",
        (
            "exports", "focus_version", "export_format", "export_identity", "storage_account_name",
            "destination_count", "container_name", "replication", "cool_after_days", "archive_after_days",
        ),
    ),
    "function": (
        "Function",
        ("schedule", "schedule_minutes", "events", "call_budget", "memory_mb", "monitoring_access", "policy"),
    ),
    "watching": ("Alarms and logs", ("notification_emails", "log_retention_days", "dashboard", "delivery_events")),
}  # fmt: skip
_BASICS = ("environment", "connector_object_id", "include_subscriptions", "resource_group_name", "function_name")
# Lists, which the form takes as one text.
_LISTS = {"exports", "include_subscriptions", "notification_emails"}


def form(facts: Facts, group: bool) -> Json:
    """Return the form of the template of a subscription, or of a management group."""
    absent = {"include_subscriptions"} if group else {"policy"}
    outputs: Json = {"location": "[location()]"}

    def asked(names: tuple[str, ...], where: str) -> list[Json]:
        elements = []
        for name in names:
            if name not in absent:
                parameter = facts.parameters[name]
                elements.append(_element(parameter))
                outputs[parameter.name] = _output(parameter, where)
        return elements

    basics = asked(_BASICS, "basics('{}')")
    if group:
        basics.insert(0, _subscription())
        outputs["subscriptionId"] = "[basics('subscriptionId')]"
    basics.append(_package())
    outputs["packageUri"] = "[basics('packageUri')]"
    steps = [
        {"name": step, "label": label, "elements": asked(names, f"steps('{step}').{{}}")}
        for step, (label, names) in STEPS.items()
    ]
    return {
        "$schema": _VIEW,
        "handler": "Microsoft.Azure.CreateUIDef",
        "version": "0.1.2-preview",
        "parameters": {"basics": basics, "steps": steps, "outputs": outputs},
    }


def _element(parameter: Parameter) -> Json:
    definition = parameter.definition
    label = _label(parameter.name)
    tip = str(definition["metadata"]["description"])
    made: Json = {"name": parameter.name, "label": label, "toolTip": tip}
    if "allowedValues" in definition:
        values = [{"label": str(one) or "as the template chooses", "value": one} for one in definition["allowedValues"]]
        default = next((one["label"] for one in values if one["value"] == definition.get("defaultValue")), None)
        return {
            **made,
            "type": "Microsoft.Common.DropDown",
            **({"defaultValue": default} if default else {}),
            "constraints": {"allowedValues": values, "required": True},
        }
    if definition["type"] == "bool":
        return {
            **made,
            "type": "Microsoft.Common.CheckBox",
            "defaultValue": definition["defaultValue"],
        }
    return {
        **made,
        "type": "Microsoft.Common.TextBox",
        "defaultValue": _shown(definition.get("defaultValue", "")),
        "constraints": _constraints(parameter),
    }


def _shown(value: Any) -> str:
    return ",".join(value) if isinstance(value, list) else str(value)


def _constraints(parameter: Parameter) -> Json:
    definition = parameter.definition
    pattern = parameter.pattern
    if definition["type"] == "int":
        pattern = r"^\d{1,9}$"
    required = "defaultValue" not in definition or definition["defaultValue"] not in ("", [])
    if definition["type"] == "array":
        one = pattern.removeprefix("^").removesuffix("$") or "[^,]+"
        pattern = f"^({one})(,({one}))*$"
    if not required and pattern:
        pattern = f"^$|{pattern}"
    rules = [{"regex": pattern, "message": parameter.message}] if pattern else []
    bounds = (("minValue", "greaterOrEquals"), ("maxValue", "lessOrEquals"))
    for key, compares in bounds if definition["type"] == "int" else ():
        number = f"int(steps('{_step(parameter.variable)}').{parameter.name})"
        rules.append({"isValid": f"[{compares}({number}, {definition[key]})]", "message": parameter.message})
    return {"required": required, "validations": rules}


def _step(variable: str) -> str:
    return next(step for step, (_, names) in STEPS.items() if variable in names)


def _output(parameter: Parameter, where: str) -> str:
    value = where.format(parameter.name)
    kind = parameter.definition["type"]
    if kind == "int" and "allowedValues" not in parameter.definition:
        return f"[int({value})]"
    if kind == "array":
        return f"[if(empty({value}), parse('[]'), split({value}, ','))]"
    return f"[{value}]"


def _label(name: str) -> str:
    words = "".join(f" {one.lower()}" if one.isupper() else one for one in name)
    return words[0].upper() + words[1:]


def _subscription() -> Json:
    return {
        "name": "subscriptionId",
        "type": "Microsoft.Common.TextBox",
        "label": "Subscription",
        "toolTip": "Id of the subscription that holds the function and the delivered data.",
        "constraints": {
            "required": True,
            "validations": [
                {
                    "regex": "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$",
                    "message": "Write the subscription's id in small letters, without /subscriptions/.",
                }
            ],
        },
    }


def _package() -> Json:
    own = subscription.OWN["packageUri"]
    return {
        "name": "packageUri",
        "type": "Microsoft.Common.TextBox",
        "label": "Package",
        "toolTip": own["metadata"]["description"],
        "constraints": {
            "required": True,
            "validations": [
                {
                    "regex": r"^https://\S+$",
                    "message": "Write the HTTPS address of tailpipe-exports-azure.zip, which Azure can read without "
                    "signing in.",
                }
            ],
        },
    }
