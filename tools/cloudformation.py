"""Make the CloudFormation templates of `infra/aws` from the facts of the Terraform module.

The shapes of the resources are in `aws_template.yaml` and `aws_home_template.yaml` beside this module. A line
`# made: NAME` there is replaced by what the module says: parameters by its variables and their validations, rights by
`rights.yaml`, rules by `events.json`, settings and alarms by the locals. An expression of the module that is not listed
here raises KeyError, so that a change of the module cannot be left out of the templates silently. The
module is over 350 lines because each kind of fact has its own translation, and they are read side by side.
"""

from __future__ import annotations

import json
import math
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from tools import modules

SKELETONS = {"template.yaml": "aws_template.yaml", "home-events.yaml": "aws_home_template.yaml"}
# Variables without a parameter; docs/aws.md says what takes their place.
LEFT_OUT = frozenset(
    {
        *("package", "tags", "organizations_access", "delete_data_on_destroy", "extra_bucket_policy", "settings"),
        *("fleet", "fleet_schedule", "fleet_concurrency", "fleet_tolerated_percent"),
        *("tenant_connectors", "tenant_role_name", "registry_writers"),
    }
)
# Minutes between two runs: a template cannot compute with numbers, so each has an entry of a mapping.
PERIODS = (15, 20, 30, 45, 60, 90, 120, 180, 240, 360, 480, 720, 1440)
EMAILS = 5
HOME_PARAMETERS = ("AccountKind", "ConnectorRoleName", "FunctionName", "PermissionsBoundaryArn", "TailpipePrincipalArn")
SHORT = 80  # characters that a list of arguments may have on one line
_MADE = re.compile(r"^( *)# made: ([\w ]+)\n", re.MULTILINE)
_PLACEHOLDER = re.compile(r"\$\{(\w+)\}")
_REGEX = re.compile(r'regex\("((?:[^"\\]|\\.)*)"')
_CHOICE = re.compile(r"contains\((\[[^\]]*\]), var\.\w+\)")
_ITEM = r"[^@\s,]+@[^@\s,]+"

# What the placeholders of rights.yaml and events.json are in a template.
NAMES = {
    "partition": "${AWS::Partition}",
    "account": "${AWS::AccountId}",
    "region": "${AWS::Region}",
    "home": "${Home}",
    "bucket": "${ExportBucket}",
    "prefix": "${ExportPrefix}",
    "function_name": "${FunctionName}",
    "stackset_name": "${StacksetName}",
    "connector_role": "${ConnectorRoleName}",
    "kms_key": "${KmsKeyArn}",
    "dns_suffix": "${AWS::URLSuffix}",
    "failed_queue": "${FunctionName}-failed",
    "events_queue": "${FunctionName}-events",
    "deliveries": "${FunctionName}-deliveries",
    "notify_secret": "${NotifySecret}",
}
# The conditions of rights.yaml and events.json in a template; None: never, since that part is Terraform's only.
CONDITIONS: dict[str, str | None] = {
    "management": "Management",
    "members": "Members",
    "connector": "Connector",
    "units": "Units",
    "carbon": "Carbon",
    "kms": "Kms",
    "notify": "Notify",
    "events": "Events",
    "deliveries": "Deliveries",
    "deliveries_kms": "DeliveriesKms",
    "deliveries_notify": "DeliveriesNotify",
    "connector_events": "ConnectorEvents",
    "fleet": None,
}


@dataclass(frozen=True)
class Tagged:
    """An intrinsic function in its short form: `!Ref X`."""

    tag: str
    value: Any


class _Text(str):
    """A text that is written as a literal block."""

    __slots__ = ()


class _Flow(list[Any]):
    """A list that is written on one line."""


class _Dumper(yaml.SafeDumper):
    """Writes intrinsic functions in their short form, and no aliases, which CloudFormation does not read."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002 - PyYAML's signature
        """Indent lists below their key, as the skeletons do."""
        super().increase_indent(flow, False)


def _tagged(dumper: _Dumper, data: Tagged) -> yaml.Node:
    node: yaml.Node
    if isinstance(data.value, str):
        node = dumper.represent_str(data.value)
    elif isinstance(data.value, Mapping):
        node = dumper.represent_dict(data.value)
    else:
        node = dumper.represent_sequence("!", data.value, flow_style=_length(data.value) < SHORT)
    node.tag = f"!{data.tag}"
    return node


def _length(value: Any) -> int:
    """Return about how many characters a value takes on one line; one with a mapping is never short."""
    if isinstance(value, Tagged):
        return len(value.tag) + 2 + _length(value.value)
    if isinstance(value, Mapping):
        return SHORT
    return sum(_length(one) + 2 for one in value) if isinstance(value, list) else len(str(value))


_Dumper.add_representer(Tagged, _tagged)
_Dumper.add_representer(_Text, lambda dumper, data: dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|"))
_Dumper.add_representer(
    _Flow, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def ref(name: str) -> Tagged:
    """Return a reference to a parameter, a pseudo parameter or a resource."""
    return Tagged("Ref", name)


NOTHING = ref("AWS::NoValue")


def when(condition: str, value: Any, otherwise: Any = NOTHING) -> Tagged:
    """Return a value under a condition."""
    return Tagged("If", [condition, value, otherwise])


def home() -> Tagged:
    """Return the partition's home region."""
    return Tagged("FindInMap", ["Partitions", ref("AWS::Partition"), "Home"])


def filled(value: Any) -> Any:
    """Return a value of rights.yaml or events.json with its placeholders as intrinsic functions."""
    if isinstance(value, Mapping):
        return {key: filled(one) for key, one in value.items()}
    if isinstance(value, list):
        return [filled(one) for one in value]
    if not isinstance(value, str) or not _PLACEHOLDER.search(value):
        return value
    text = _PLACEHOLDER.sub(lambda found: NAMES[found[1]], value)
    alone = re.fullmatch(r"\$\{([\w:]+)\}", text)
    if "${Home}" in text:
        return Tagged("Sub", [text, {"Home": home()}])
    return ref(alone[1]) if alone else Tagged("Sub", text)


def pascal(name: str) -> str:
    """Return the parameter's name of a variable: `external_id` is ExternalId."""
    return "".join(part.capitalize() for part in re.split(r"[_-]", name.lower()))


def written(value: Any) -> str:
    """Return YAML."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)
    # PyYAML quotes every scalar with a tag.
    return re.sub(r"(!(?:Ref|GetAtt|Condition)) '([\w:.]+)'", r"\1 \2", text)


class Templates:
    """The templates of one module."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._module = modules.read(folder)
        self._rights = yaml.load((folder / "rights.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
        self._events = json.loads((folder / "events.json").read_text(encoding="utf-8"))
        self._made: dict[str, Callable[[], str]] = {
            "interface": lambda: written(self._interface()),
            "parameters": lambda: written(self._parameters()),
            "period rules": lambda: written(dict(self._period_rules())),
            "partitions": lambda: written({key: {"Home": one} for key, one in self._local("home_regions").items()}),
            "principals": lambda: written({key: {"Arn": one} for key, one in self._local("principals").items()}),
            "periods": lambda: written({str(one): _Period(one).values() for one in PERIODS}),
            "carbon": lambda: written(
                [Tagged("Equals", [ref("Exports"), one]) for one in self._datasets() if "carbon" in one.split(",")]
            ),
            "event conditions": self._event_conditions,
            "settings conditions": lambda: written(
                {f"Has{pascal(one)}": Tagged("Not", [Tagged("Equals", [ref(pascal(one)), ""])]) for one in self._more()}
            ),
            "email conditions": lambda: written(
                {f"Email{one + 1}": Tagged("Not", [Tagged("Equals", [_email(one), ""])]) for one in range(EMAILS)}
            ),
            **{
                f"rights {holder}": partial(self._statements, holder)
                for holder in ("function", "connector", "collector")
            },
            "settings": lambda: written(self._settings()),
            "announcing settings": self._announcing,
            "rule arns": lambda: written(list(self._rule_arns(self._events))),
            # Where there are events at all.
            "queued rule arns": lambda: written(list(self._rule_arns(self._events, given=True))),
            "event rules": lambda: "\n".join(self._event_rules(home=False)),
            "home rules": lambda: "\n".join(self._event_rules(home=True)),
            "home rule arns": lambda: written(list(self._rule_arns(self._home_events(), given=True))),
            "delivery pattern": lambda: written(
                filled(json.loads((folder / "deliveries.json").read_text(encoding="utf-8")))
            ),
            "child": lambda: (folder / "child-connector.yaml").read_text(encoding="utf-8"),
            "alarms": lambda: "\n".join(self._alarms()),
            "emails": lambda: "\n".join(_subscription(one) for one in range(EMAILS)),
            "dashboard": lambda: written(self._dashboard()),
            "outputs": lambda: written(self._outputs()),
            "home parameters": lambda: written(
                {name: body for name, body in self._parameters().items() if name in HOME_PARAMETERS}
            ),
        }

    def documents(self) -> Iterator[tuple[Path, str]]:
        """Yield each template's path and text."""
        for name, skeleton in SKELETONS.items():
            text = (Path(__file__).parent / skeleton).read_text(encoding="utf-8")
            yield self._folder / name, _MADE.sub(lambda found: textwrap.indent(self._made[found[2]](), found[1]), text)

    def _local(self, name: str) -> Any:
        return self._module.locals[name]

    # Parameters

    def _variables(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        unknown = LEFT_OUT - self._module.variables.keys()
        if unknown:
            raise KeyError(f"no variables of infra/aws: {sorted(unknown)}")
        yield from ((name, body) for name, body in self._module.variables.items() if name not in LEFT_OUT)

    def _parameters(self) -> dict[str, Any]:
        made = {pascal(name): self._parameter(name, body) for name, body in self._variables()}
        return made | self._further()

    def _further(self) -> dict[str, Any]:
        """Return the parameters for the settings that Terraform takes as one map."""
        return {
            pascal(name): {
                "Type": "String",
                "Default": "",
                "Description": f"The function's setting {name}, see docs/settings.md. Empty: its default.",
                "AllowedPattern": r"^(\d+(\.\d+)?)?$",
                "ConstraintDescription": f"Set {pascal(name)} to a number, or leave it empty.",
            }
            for name in self._more()
        }

    def _more(self) -> list[str]:
        """Return the names that the variable `settings` allows."""
        [rule] = self._module.variables["settings"]["validation"]
        names: list[str] = json.loads(re.search(r"\[[^\]]*\]", rule["condition"])[0])  # type: ignore[index] # validated
        return names

    def _datasets(self) -> list[str]:
        """Return every selection of datasets."""
        [rule] = self._module.variables["exports"]["validation"]
        names = json.loads(re.search(r"\[[^\]]*\]", rule["condition"])[0])  # type: ignore[index] # validated
        some = [[one for place, one in enumerate(names) if number >> place & 1] for number in range(1, 2 ** len(names))]
        return [",".join(one) for one in sorted(some, key=lambda one: (names.index(one[0]), len(one)))]

    def _parameter(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        kind, default = modules.type_of(body), body.get("default", ...)
        optional = default is None
        made: dict[str, Any] = {"Type": "String", "Description": self._said(body["description"])}
        if default is not ...:
            made["Default"] = _default(default)
        if body.get("sensitive"):
            made["NoEcho"] = True
        rules = body.get("validation", ())
        made |= self._special(name) or _constraints(kind, [rule["condition"] for rule in rules], optional=optional)
        if rules and "ConstraintDescription" not in made:
            made["ConstraintDescription"] = " ".join(self._said(rule["error_message"]) for rule in rules)
        if rules and not made.keys() & {"AllowedValues", "AllowedPattern", "MinValue"}:
            raise KeyError(f"{name}: its validation has no counterpart among the constraints of a parameter")
        return made

    def _special(self, name: str) -> dict[str, Any]:
        """Return the constraints of a variable whose validation is no pattern, list or range."""
        if name == "exports":
            said = "Set Exports to cur2, focus and carbon, or to some of them, in this order and separated by commas."
            return {"AllowedValues": self._datasets(), "ConstraintDescription": said}
        if name == "schedule":
            rates = "|".join(
                re.escape(one).replace(r"\ ", " ") for period in PERIODS for one in _Period(period).rates()
            )
            minutes = ", ".join(map(str, PERIODS[:-1]))
            said = (
                f'Set Schedule to a rate of {minutes} or {PERIODS[-1]} minutes, such as "rate(1 hour)", or to six cron'
            )
            said += ' fields, such as "cron(15 * * * ? *)".'
            return {"AllowedPattern": rf"^({rates}|cron\(\S+( \S+){{5}}\))$", "ConstraintDescription": said}
        if name == "schedule_period_minutes":
            said = "Minutes from one run to the next, for the alarm on missed runs; they are not read from Schedule."
            return {"Type": "Number", "Default": 60, "AllowedValues": list(PERIODS), "Description": said}
        if name == "notification_emails":
            return {"AllowedPattern": rf"^$|^{_ITEM}(,{_ITEM}){{0,{EMAILS - 1}}}$"}
        if name == "export_prefix":
            return {"AllowedPattern": r"^(?!(state|runs)(/|$))[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)*$", "MaxLength": 256}
        return {}

    def _said(self, text: str) -> str:
        """Return a description or a message in the words of a template: its parameters, empty instead of null."""
        names = "|".join(sorted(self._module.variables, key=len, reverse=True))
        text = re.sub(
            rf"\b({names})\b(?=[ ;.,=])", lambda found: pascal(found[1]) if "_" in found[1] else found[1], text
        )
        text = re.sub(rf"^Set ({names})\b", lambda found: f"Set {pascal(found[1])}", text)
        for old, new in _WORDS:
            text = text.replace(old, new)
        return text

    def _period_rules(self) -> Iterator[tuple[str, Any]]:
        for period in PERIODS:
            rates = list(_Period(period).rates())
            yield (
                f"Every{period}Minutes",
                {
                    "RuleCondition": Tagged("Contains", [_Flow(rates), ref("Schedule")]),
                    "Assertions": [
                        {
                            "Assert": Tagged("Equals", [ref("SchedulePeriodMinutes"), str(period)]),
                            "AssertDescription": f"Set SchedulePeriodMinutes to {period}, the minutes of {rates[0]}.",
                        }
                    ],
                },
            )

    def _interface(self) -> dict[str, Any]:
        groups = {
            "Tailpipe": ("Environment", "ExternalId", "ExternalIdPrevious", "ExternalIdHash", "TailpipePrincipalArn"),
            "Package": ("PackageBucket", "PackageKey", "PackageVersion"),
            "Accounts": ("AccountKind", "IncludeAccounts", "ExcludeAccounts", "IncludeOus", "AutoDeployment"),
            "Exports": (
                *("Exports", "BucketName", "ExportPrefix", "KeepOverwrittenDays", "KmsKeyArn"),
                *("DeliveryEvents", "DeltaRetentionDays"),
            ),
            "Runs": (
                *("Schedule", "SchedulePeriodMinutes", "Events", "MemoryMb", "TimeoutSeconds", "ReservedConcurrency"),
                *("CallBudget", *map(pascal, self._more())),
            ),
            "Messages": (
                *("NotificationEmails", "NotifySecret", "NotifyDigest", "PublishPage", "Dashboard"),
                *("LogLevel", "LogRetentionDays"),
            ),
            "Names and limits": (
                *("FunctionName", "StacksetName", "ConnectorRoleName", "MemberRoleName", "PermissionsBoundaryArn"),
            ),
        }
        # Those that stand for what Terraform computes, or reads from the operator's disk.
        own = {"ExternalIdHash", *groups["Package"]}
        missing = (self._parameters().keys() | own) ^ {one for names in groups.values() for one in names}
        if missing:
            raise KeyError(f"parameters without a group, or the reverse: {sorted(missing)}")
        listed = [{"Label": {"default": label}, "Parameters": list(names)} for label, names in groups.items()]
        return {"ParameterGroups": listed}

    # Rights

    def _statements(self, holder: str) -> str:
        """Return the statements of a role, each below the reason for it."""
        made = ""
        for grant in self._rights[holder]:
            condition = CONDITIONS[grant["when"]] if "when" in grant else ""
            if condition is None:
                continue
            statement = {"Sid": grant["id"], "Effect": "Allow"}
            statement |= {"Action": _Flow(grant["actions"]), "Resource": filled(grant["resources"])}
            if "condition" in grant:
                statement["Condition"] = filled(grant["condition"])
            made += "".join(f"# {line}\n" for line in textwrap.wrap(" ".join(grant["why"].split()), 100))
            made += written([when(condition, statement) if condition else statement])
        return made

    # Settings

    def _settings(self) -> dict[str, Any]:
        further = {name: when(f"Has{pascal(name)}", ref(pascal(name))) for name in self._more()}
        return further | {name: self._setting(value) for name, value in self._local("own_settings").items()}

    def _announcing(self) -> str:
        names = [name for name in self._local("own_settings") if name in self._local("announcing")]
        made = {name: self._setting(self._local("own_settings")[name]) for name in names}
        for name, value in made.items():
            # Under the condition, its own question is answered.
            asks = isinstance(value, Tagged) and value.tag == "If" and value.value[0] == "Deliveries"
            made[name] = when("Deliveries", value.value[1] if asks else value)
        return written(made)

    def _setting(self, expression: str) -> Any:
        for pattern, made in _EXPRESSIONS:
            found = re.fullmatch(pattern, expression.removeprefix("${").removesuffix("}"))
            if found:
                return made(found)
        raise KeyError(f"tools/cloudformation.py does not know the expression {expression}")

    # Events

    def _home_events(self) -> dict[str, Any]:
        return {name: rule for name, rule in self._events.items() if rule["home"]}

    def _event_conditions(self) -> str:
        used = sorted({rule["when"] for rule in self._events.values() if rule["when"]})
        made = {
            f"{pascal(one)}Rule": Tagged(
                "And", [Tagged("Condition", "Events"), Tagged("Condition", str(CONDITIONS[one]))]
            )
            for one in used
        }
        return written(made)

    def _rule_arns(self, events: Iterable[str], *, given: bool = False) -> Iterator[Any]:
        for name in events:
            arn = Tagged(
                "Sub",
                f"arn:${{AWS::Partition}}:events:${{AWS::Region}}:${{AWS::AccountId}}:rule/${{FunctionName}}-{name}",
            )
            condition = self._rule_condition(name, given=given)
            yield when(condition, arn) if condition else arn

    def _rule_condition(self, name: str, *, given: bool) -> str:
        """Return the condition of a rule; `given`: where the parameter `Events` is true anyway, maybe none."""
        rule = self._events[name]
        return f"{pascal(rule['when'])}Rule" if rule["when"] else "" if given else "Events"

    def _event_rules(self, *, home: bool) -> Iterator[str]:
        for name, rule in (self._home_events() if home else self._events).items():
            target: dict[str, Any] = {"Id": "queue", "Arn": Tagged("GetAtt", "EventsQueue.Arn")}
            dead_letters = "FailedQueue.Arn"
            if home:
                bus = "arn:${AWS::Partition}:events:${FunctionRegion}:${AWS::AccountId}:event-bus/default"
                target = {"Id": "forward", "Arn": Tagged("Sub", bus), "RoleArn": Tagged("GetAtt", "ForwardRole.Arn")}
            elif rule["only"]:
                only = rule["only"]
                target["InputTransformer"] = {"InputPathsMap": only["paths"], "InputTemplate": only["template"]}
            if not rule["only"]:
                # AWS does not document whether a dead letter is the whole event, so others have none.
                target["DeadLetterConfig"] = {"Arn": Tagged("GetAtt", dead_letters)}
            described = f"{rule['why']} Passed on to ${{FunctionRegion}}." if home else rule["why"]
            condition = self._rule_condition(name, given=home)
            body: dict[str, Any] = {"Type": "AWS::Events::Rule", **({"Condition": condition} if condition else {})}
            body["DependsOn"] = _Flow(["FailedQueuePolicy"] if home else ["EventsQueuePolicy", "FailedQueuePolicy"])
            body["Properties"] = {
                "Name": Tagged("Sub", f"${{FunctionName}}-{name}"),
                "Description": Tagged("Sub", described) if home else described,
                "State": "ENABLED",
                "EventPattern": filled(rule["pattern"]),
                "Targets": [target],
                "Tags": _tags(),
            }
            yield written({f"{pascal(name)}EventRule": body})

    # Alarms

    def _alarms(self) -> Iterator[str]:
        every = {None: self._local("alarms"), "Deliveries": self._local("delivery_alarms")}
        for condition, alarms in every.items():
            for name, alarm in alarms.items():
                body: dict[str, Any] = {"Type": "AWS::CloudWatch::Alarm"}
                body |= {"Condition": condition} if condition else {}
                body["Properties"] = self._alarm(name, alarm)
                yield written({f"{pascal(name)}Alarm": body})

    def _alarm(self, name: str, alarm: Mapping[str, Any]) -> dict[str, Any]:
        described = f"{alarm['description']} Runbook: docs/runbook.md#{self._local('runbook')[name]}"
        described = described.replace("${var.function_name}", "${FunctionName}")
        return {
            "AlarmName": Tagged("Sub", f"${{FunctionName}}-{name}"),
            "AlarmDescription": Tagged("Sub", described) if "${" in described else described,
            "Namespace": self._number(alarm["namespace"]),
            "MetricName": alarm["metric"],
            "Dimensions": [
                {"Name": key, "Value": self._number(value)}
                for key, value in self._dimensions(alarm["dimensions"]).items()
            ],
            "Statistic": alarm["statistic"],
            "ComparisonOperator": alarm["operator"],
            "Threshold": alarm["threshold"],
            "Period": self._number(alarm["period"]),
            "EvaluationPeriods": self._number(alarm["periods"]),
            "TreatMissingData": alarm["missing"],
            "AlarmActions": [ref("AlarmsTopic")],
            "OKActions": [ref("AlarmsTopic")],
            "Tags": _tags(),
        }

    def _dimensions(self, given: Any) -> Mapping[str, Any]:
        own = {"${local.own}": "own", "${local.service}": "service"}
        return self._local(own[given]) if isinstance(given, str) else given  # type: ignore[no-any-return]  # HCL has no types

    def _number(self, value: Any) -> Any:
        """Return a value of an alarm that may be an expression."""
        known = {
            "${local.namespace}": self._local("namespace"),
            "${local.period}": _period("Period"),
            "${local.run_seconds}": _period("Run"),
            "${local.two_days}": _period("TwoDays"),
            "${local.six_hours}": _period("SixHours"),
            "${var.function_name}": ref("FunctionName"),
            "${aws_scheduler_schedule_group.this.name}": ref("ScheduleGroup"),
            "${aws_sqs_queue.failed.name}": Tagged("GetAtt", "FailedQueue.QueueName"),
        }
        return known[value] if isinstance(value, str) and "${" in value else value

    def _dashboard(self) -> list[Any]:
        """Return text and values of the `Fn::Sub` that makes the dashboard's body."""

        def own(name: str) -> list[Any]:
            service = self._local("service")["service"]
            return [self._local("namespace"), name, "service", service, {"stat": "Maximum"}]

        def runs(name: str) -> list[Any]:
            return ["AWS/Lambda", name, "FunctionName", "${FunctionName}", {"stat": "Sum"}]

        charts = [
            ("Accounts", [own(name) for name in ("Covered", "Missing", "Excluded")]),
            ("Freshness lag in hours", [own("FreshnessLagHours")]),
            ("Manual steps", [own("Manual")]),
            ("Runs, failed and degraded ones", [runs("Invocations"), runs("Errors"), own("Degraded")]),
        ]
        common = {
            "region": "${AWS::Region}",
            "view": "timeSeries",
            "period": "${Period}",
            "yAxis": {"left": {"min": 0}},
        }
        widgets: list[dict[str, Any]] = [
            {
                "type": "metric", "x": place % 2 * 12, "y": place // 2 * 6, "width": 12, "height": 6,
                "properties": {"title": title, "metrics": metrics, **common},
            }
            for place, (title, metrics) in enumerate(charts)
        ]  # fmt: skip
        sums = ", ".join(f"sum(`calls_by_quota.{one}`) as `{one}`" for one in self._local("quotas"))
        query = f"SOURCE '${{FunctionLog}}' | filter ispresent(_aws.Timestamp) | stats {sums} by bin(${{Bin}}m)"
        calls = {"title": "Calls by quota", "region": "${AWS::Region}", "view": "bar", "query": query}
        widgets.append({"type": "log", "x": 0, "y": 12, "width": 24, "height": 6, "properties": calls})
        # A number, without the quotes that stand around a text.
        text = json.dumps({"widgets": widgets}, indent=1).replace('"${Period}"', "${Period}")
        return [_Text(text), {"Period": _period("Period"), "Bin": _period("Bin")}]

    # Outputs

    def _outputs(self) -> dict[str, Any]:
        values: dict[str, Any] = {
            "function_name": ref("Function"),
            "function_id": Tagged("GetAtt", "Function.Arn"),
            "function_identity": Tagged("GetAtt", "FunctionRole.Arn"),
            "destination": ref("ExportBucket"),
            "schedule": ref("RunSchedule"),
            "connector": Tagged("GetAtt", "ConnectorRole.Arn"),
            "logs": ref("FunctionLog"),
            "failed_events": ref("FailedQueue"),
            "notifications": ref("AlarmsTopic"),
            "delivery_topic": ref("DeliveriesTopic"),
        }
        conditions = {"connector": "Connector", "delivery_topic": "Deliveries"}
        words = {
            "destination": "The bucket that exports are delivered to.",
            "schedule": "The name of the schedule that starts the function.",
            "connector": "The ARN of the role that Tailpipe assumes in this account.",
            "delivery_topic": "The ARN of the FIFO topic on which deliveries are published.",
        }
        return {
            pascal(name): {
                **({"Condition": conditions[name]} if name in conditions else {}),
                "Description": words.get(name) or self._module.outputs[name]["description"],
                "Value": value,
            }
            for name, value in values.items()
        }


_WORDS = (
    (", or to null", ", or leave it empty"),
    (" Null:", " Empty:"),
    ("until you set this to null again", "until you empty this again"),
    ("account_kind", "AccountKind"),
    ('["platform@example.com"]', "platform@example.com,finops@example.com; at most five, separated by commas"),
    (" of this module", " of this stack"),
    ("needs the statements of output kms_key_policy", "needs the statements in docs/aws.md"),
)
_EXPRESSIONS: tuple[tuple[str, Callable[[re.Match[str]], Any]], ...] = (
    (r"var\.exports|var\.(\w+)", lambda found: ref(pascal(found[1]))),
    (r'join\(",", var\.exports\)', lambda _: ref("Exports")),
    (r'join\(",", var\.(\w+)\)', lambda found: Tagged("Join", [",", ref(pascal(found[1]))])),
    (r"tostring\(var\.(\w+)\)", lambda found: ref(pascal(found[1]))),
    (r'var\.(\w+) == null \? "" : var\.\1', lambda found: ref(pascal(found[1]))),
    (r'var\.notify_digest \? "(\w+)" : "(\w+)"', lambda found: when("Digest", found[1], found[2])),
    (r'var\.publish_page \? "(\w)" : "(\w)"', lambda found: when("Page", found[1], found[2])),
    (r'var\.delivery_events \? "(\w)" : "(\w)"', lambda found: when("Deliveries", found[1], found[2])),
    (
        r'var\.delivery_events \? aws_sns_topic\.deliveries\["deliveries"\]\.arn : ""',
        lambda _: when("Deliveries", ref("DeliveriesTopic"), ""),
    ),
    (r"local\.bucket", lambda _: ref("ExportBucket")),
    (r"local\.region", lambda _: ref("AWS::Region")),
    (
        r"local\.principal",
        lambda _: when("OwnPrincipal", ref("TailpipePrincipalArn"), when("Connector", _own_principal(), "")),
    ),
    (r'join\(",", \[for id in local\.external_ids : .*\]\)', lambda _: ref("ExternalIdHash")),
)


def _own_principal() -> Tagged:
    return Tagged("FindInMap", ["Principals", ref("Environment"), "Arn"])


def _default(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(value) if isinstance(value, list) else value


def _constraints(kind: str, conditions: Iterable[str], *, optional: bool) -> dict[str, Any]:
    """Return the type and the constraints of a parameter by the conditions of a variable's validations."""
    if kind == "bool":
        return {"AllowedValues": ["", "true", "false"] if optional else ["true", "false"]}
    made: dict[str, Any] = {"Type": "Number"} if kind == "number" else {}
    if kind == "list(string)":
        made["Type"] = "CommaDelimitedList"
    for condition in conditions:
        choice, pattern = _CHOICE.search(condition), _REGEX.search(condition)
        if choice and not condition.removeprefix("${").startswith("!"):
            made["AllowedValues"] = json.loads(choice[1])
        if pattern:
            text = json.loads(f'"{pattern[1]}"')
            made["AllowedPattern"] = f"^$|{text}" if optional or kind == "list(string)" else text
        if longest := re.search(r"length\(var\.\w+\) <= (\d+)", condition):
            made["MaxLength"] = int(longest[1])
        if least := re.search(r"var\.\w+ >= (\d+)", condition):
            made["MinValue"] = int(least[1])
        if most := re.search(r"(?<!\()\bvar\.\w+ <= (\d+)", condition):
            made["MaxValue"] = int(most[1])
    return made


@dataclass(frozen=True)
class _Period:
    """Minutes from one run to the next."""

    minutes: int

    def rates(self) -> Iterator[str]:
        """Yield each way in which EventBridge Scheduler writes it as a rate."""
        for unit, many in (("day", 1440), ("hour", 60), ("minute", 1)):
            number, rest = divmod(self.minutes, many)
            if number and not rest:
                yield f"rate({number} {unit}{'' if number == 1 else 's'})"

    def values(self) -> dict[str, int]:
        """Return what alarms.tf computes, in seconds and periods, and the dashboard in minutes."""
        run = self.minutes * 60
        period = max(3600, run)
        counts = {"TwoDays": math.ceil(172800 / period), "SixHours": math.ceil(21600 / period)}
        return {"Run": run, "Period": period, **counts, "Bin": max(60, self.minutes)}


def _period(name: str) -> Tagged:
    return Tagged("FindInMap", ["Periods", ref("SchedulePeriodMinutes"), name])


def _email(place: int) -> Tagged:
    padded = Tagged("Sub", f"${{NotificationEmails}}{',' * (EMAILS - 1)}")
    return Tagged("Select", [place, Tagged("Split", [",", padded])])


def _subscription(place: int) -> str:
    properties = {"TopicArn": ref("AlarmsTopic"), "Protocol": "email", "Endpoint": _email(place)}
    body = {"Type": "AWS::SNS::Subscription", "Condition": f"Email{place + 1}", "Properties": properties}
    return written({f"Email{place + 1}": body})


def _tags() -> list[dict[str, str]]:
    return [{"Key": "managed-by", "Value": "tailpipe-exports"}]
