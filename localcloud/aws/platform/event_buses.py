"""EventBridge: moto stores buses, rules and targets; this module delivers matching events to the targets of rules.

Targets are functions, queues, and buses of the same account in any region. An event that cannot be delivered goes to
the target's dead-letter queue, or is dropped if that fails; see `deliveries`. Source: "Event bus targets", "Using
resource-based policies", "Sending events between regions" and "Amazon EventBridge input transformation" in the
EventBridge User Guide.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from moto.events.models import events_backends
from moto.sqs.models import sqs_backends

from localcloud.aws.arns import Where
from localcloud.aws.calls import Call, CallLog
from localcloud.aws.errors import AwsError, denied
from localcloud.aws.iam.caller import Caller, Handler, Identity
from localcloud.aws.iam.enforcement import Enforcement
from localcloud.aws.iam.policy import Access, allows
from localcloud.aws.iam.required_actions import RequiredAction
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.runtime.functions import Functions
from shared.runtime.clock import Clock

PRINCIPAL = "events.amazonaws.com"
_MAX_ENTRIES = 10
# Limits rules that forward events to each other in a circle.
_MAX_HOPS = 5


@dataclass(frozen=True)
class Delivery:
    """One event sent to one target of a rule; `error` is empty if it was delivered."""

    rule: str
    target: str
    event_id: str
    error: str
    dead_lettered: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class EventBuses:
    """Routes events. It may run under the local cloud's lock, because it sends no HTTP requests."""

    def __init__(
        self, clock: Clock, sessions: Sessions, functions: Functions, enforcement: Enforcement, calls: CallLog
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._functions = functions
        self._enforcement = enforcement
        self._calls = calls
        self.deliveries: list[Delivery] = []
        self.on_message: list[Callable[[str], None]] = []  # called with the ARN of a queue that received an event
        self.operations: dict[str, Handler] = {"PutEvents": self._put_events}

    def event(self, where: Where, source: str, kind: str, detail: Any, resources: list[str] | None = None) -> Any:
        """Return an event in EventBridge's envelope."""
        return {
            "version": "0",
            "id": str(uuid.uuid4()),
            "detail-type": kind,
            "source": source,
            "account": where.account,
            "time": f"{self._clock.now():%Y-%m-%dT%H:%M:%SZ}",
            "region": where.region,
            "resources": resources or [],
            "detail": detail,
        }

    def route(self, where: Where, event: dict[str, Any], bus: str = "default", hops: int = 0) -> None:
        """Deliver an event to the targets of every enabled rule of a bus that it matches."""
        if not dict.__contains__(events_backends, where.account) or hops > _MAX_HOPS:
            return
        event_bus = events_backends[where.account][where.region].event_buses.get(bus)
        for rule in list(event_bus.rules.values()) if event_bus else []:
            matching = rule.event_pattern.get_pattern() and rule.event_pattern.matches_event(event)
            if rule.state.startswith("ENABLED") and matching:
                for target in list(rule.targets):
                    self.deliveries.append(self._deliver(rule, target, event, where, hops))

    def _deliver(self, rule: Any, target: dict[str, Any], event: dict[str, Any], where: Where, hops: int) -> Delivery:
        try:
            self._send(rule, target, event, where, hops)
        except AwsError as error:
            dead_lettered = self._dead_letter(rule, target, event)
            reason = f"{error.code}: {error.message}"
            return Delivery(rule.arn, str(target["Arn"]), event["id"], reason, dead_lettered)
        return Delivery(rule.arn, str(target["Arn"]), event["id"], "")

    def _send(self, rule: Any, target: dict[str, Any], event: dict[str, Any], where: Where, hops: int) -> None:
        arn = str(target["Arn"])
        fields = arn.split(":", 5)
        destination, name = Where(fields[4], fields[3]), fields[5]
        if fields[2] == "lambda" and name.startswith("function:"):
            self._send_to_function(rule, arn, destination, input_of(target, event))
        elif fields[2] == "events" and name.startswith("event-bus/"):
            self._send_to_bus(rule, target, destination, event, where, hops)
        elif fields[2] == "sqs":
            self._send_to_queue(rule, arn, json.dumps(input_of(target, event)))
        else:
            raise AwsError("InvalidTarget", f"the local cloud does not deliver events to {arn}")

    def _send_to_function(self, rule: Any, arn: str, destination: Where, event: Any) -> None:
        function = self._functions.find(destination, arn)
        need = RequiredAction("lambda:InvokeFunction", (str(function.function_arn),))
        policy = json.dumps({"Statement": function.policy.statements})
        # EventBridge passes no account to Lambda: "Troubleshooting Amazon EventBridge" has SourceAccount removed.
        access = self._access(rule, need, {})
        self._authorize(allows(policy, access), destination, PRINCIPAL, ("lambda", "Invoke"), need)
        self._functions.submit(destination, function.function_name, event)

    def _send_to_bus(
        self, rule: Any, target: dict[str, Any], destination: Where, event: dict[str, Any], where: Where, hops: int
    ) -> None:
        arn = str(target["Arn"])
        if destination.account != where.account:
            raise AwsError("InvalidTarget", "the local cloud sends events to buses of the same account only")
        role = target.get("RoleArn")
        if not role:
            raise denied("events", PRINCIPAL, "events:PutEvents", arn, "because the target has no role")
        context = {"aws:sourceaccount": where.account, "aws:sourcearn": str(rule.arn)}
        session = self._sessions.assume(PRINCIPAL, str(role), "events", where, context)
        identity = Identity(where.account, str(role), session)
        need = RequiredAction("events:PutEvents", (arn,))
        allowed = self._enforcement.allows(identity, need.action, arn, {"aws:principalarn": str(role)})
        self._authorize(allowed, destination, str(role), ("events", "PutEvents"), need)
        # A forwarded event keeps its original account, region and id.
        self.route(destination, event, arn.rpartition("/")[2], hops + 1)

    def _send_to_queue(self, rule: Any, arn: str, body: str) -> None:
        fields = arn.split(":")
        queues = sqs_backends[fields[4]][fields[3]]
        queue = queues.queues.get(fields[5])
        need = RequiredAction("sqs:SendMessage", (arn,))
        account = {"aws:sourceaccount": str(rule.account_id)}
        allowed = queue is not None and allows(queue.policy, self._access(rule, need, account))
        self._authorize(allowed, Where(fields[4], fields[3]), PRINCIPAL, ("sqs", "SendMessage"), need)
        queues.send_message(fields[5], body)
        for listener in self.on_message:
            listener(arn)

    def _dead_letter(self, rule: Any, target: dict[str, Any], event: dict[str, Any]) -> bool:
        arn = str((target.get("DeadLetterConfig") or {}).get("Arn") or "")
        # "The queue must be in the same Region as the rule": Using dead-letter queues, EventBridge User Guide.
        if not arn or arn.split(":")[3] != str(rule.arn).split(":")[3]:
            return False
        try:
            self._send_to_queue(rule, arn, json.dumps(event))
        except AwsError:
            return False
        return True

    def _access(self, rule: Any, need: RequiredAction, account: dict[str, str]) -> Access:
        context = {"aws:sourcearn": str(rule.arn), "aws:securetransport": "true"} | account
        return Access(PRINCIPAL, "Service", need.action, need.resources[0], context)

    def _authorize(
        self, allowed: bool, where: Where, principal: str, called: tuple[str, str], need: RequiredAction
    ) -> None:
        """Log the call. Raises AwsError if it is not allowed."""
        status, code = (200, None) if allowed else (403, "AccessDeniedException")
        self._calls.add(Call(self._clock.now(), where.account, principal, *called, (need,), status, code))
        if not allowed:
            because = "because no policy allows it"
            raise denied(called[0], principal, need.action, need.resources[0], because)

    def _put_events(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        entries = params.get("Entries") or []
        if not 1 <= len(entries) <= _MAX_ENTRIES:
            raise AwsError("ValidationException", f"PutEvents takes 1 to {_MAX_ENTRIES} entries", 400)
        results = [self._put_event(Where(caller.account, caller.region), entry) for entry in entries]
        return {"Entries": results, "FailedEntryCount": sum("ErrorCode" in result for result in results)}

    def _put_event(self, where: Where, entry: dict[str, Any]) -> dict[str, Any]:
        for name in ("Source", "DetailType", "Detail"):
            if not entry.get(name):
                message = f"Parameter {name} is not valid. Reason: {name} is a required argument."
                return {"ErrorCode": "InvalidArgument", "ErrorMessage": message}
        if str(entry["Source"]).startswith("aws."):
            return {"ErrorCode": "NotAuthorizedForSourceException", "ErrorMessage": "Not authorized for the source."}
        try:
            detail = json.loads(entry["Detail"])
        except ValueError:
            return {"ErrorCode": "MalformedDetail", "ErrorMessage": "Detail is malformed."}
        event = self.event(where, entry["Source"], entry["DetailType"], detail, entry.get("Resources"))
        bus = str(entry.get("EventBusName") or "default")
        owner = Where(bus.split(":")[4], bus.split(":")[3]) if bus.startswith("arn:") else where
        self.route(owner, event, bus.rpartition("/")[2])
        return {"EventId": event["id"]}


def input_of(target: Mapping[str, Any], event: Mapping[str, Any]) -> Any:
    """Return the input of the target: the event, a part of it, a constant, or the output of a template.

    Raises AwsError if the template and the event's fields do not result in JSON: EventBridge fails to deliver it.
    """
    if target.get("Input"):
        return json.loads(target["Input"])
    if target.get("InputPath"):
        return _value_at(str(target["InputPath"]), event)
    transformer = target.get("InputTransformer")
    if not transformer:
        return event
    text = str(transformer["InputTemplate"])
    for name, path in (transformer.get("InputPathsMap") or {}).items():
        value = _value_at(str(path), event)
        # Within quotes a text stays as it is, unescaped, and other values lose theirs; a missing value leaves nothing.
        plain = "" if value is None else json.dumps(value)
        text = text.replace(f'"<{name}>"', f'"{value if isinstance(value, str) else plain.replace(chr(34), "")}"')
        text = text.replace(f"<{name}>", plain)
    try:
        return json.loads(text)
    except ValueError as error:
        raise AwsError("InvalidInput", f"the input transformer's output is not JSON: {text[:200]}") from error


def _value_at(path: str, event: Mapping[str, Any]) -> Any:
    """Return the value at a path in dot notation, None where it leads nowhere."""
    value: Any = event
    for name in filter(None, path.removeprefix("$").split(".")):
        value = value.get(name) if isinstance(value, dict) else None
    return value
