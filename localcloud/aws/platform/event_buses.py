"""EventBridge: moto keeps buses, rules and targets; what matches a rule is delivered to its targets here.

Targets are functions, queues, and buses of the same account in any region. A target that may not be reached loses the
event to its dead-letter queue, or are dropped; see `deliveries`. Source: "Event bus targets", "Using resource-based
policies" and "Sending events between regions" in the EventBridge User Guide.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from moto.events.models import events_backends
from moto.events.utils import EventTemplateParser
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
_MOST_ENTRIES = 10
# An event that goes round in a circle of rules ends somewhere.
_MOST_HOPS = 5


@dataclass(frozen=True)
class Delivery:
    """One event at one target of one rule; `error` is empty where it arrived."""

    rule: str
    target: str
    event_id: str
    error: str
    dead_lettered: bool = False

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


class EventBuses:
    """Routes events; safe under the local cloud's lock, because it sends no HTTP request."""

    def __init__(
        self, clock: Clock, sessions: Sessions, functions: Functions, enforcement: Enforcement, calls: CallLog
    ) -> None:
        self._clock = clock
        self._sessions = sessions
        self._functions = functions
        self._enforcement = enforcement
        self._calls = calls
        self.deliveries: list[Delivery] = []
        self.on_message: list[Callable[[str], None]] = []  # called with the ARN of a queue that got an event
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
        if not dict.__contains__(events_backends, where.account) or hops > _MOST_HOPS:
            return
        found = events_backends[where.account][where.region].event_buses.get(bus)
        for rule in list(found.rules.values()) if found else []:
            matching = rule.event_pattern.get_pattern() and rule.event_pattern.matches_event(event)
            if rule.state.startswith("ENABLED") and matching:
                for target in list(rule.targets):
                    self.deliveries.append(self._deliver(rule, target, event, where, hops))

    def _deliver(self, rule: Any, target: dict[str, Any], event: dict[str, Any], where: Where, hops: int) -> Delivery:
        try:
            self._reach(rule, target, event, where, hops)
        except AwsError as error:
            buried = self._bury(rule, target, event)
            return Delivery(rule.arn, str(target["Arn"]), event["id"], f"{error.code}: {error.message}", buried)
        return Delivery(rule.arn, str(target["Arn"]), event["id"], "")

    def _reach(self, rule: Any, target: dict[str, Any], event: dict[str, Any], where: Where, hops: int) -> None:
        arn = str(target["Arn"])
        fields = arn.split(":", 5)
        there, name = Where(fields[4], fields[3]), fields[5]
        if fields[2] == "lambda" and name.startswith("function:"):
            self._to_function(rule, arn, there, _shaped(target, event))
        elif fields[2] == "events" and name.startswith("event-bus/"):
            self._to_bus(rule, target, there, event, where, hops)
        elif fields[2] == "sqs":
            self._to_queue(rule, arn, json.dumps(_shaped(target, event)))
        else:
            raise AwsError("InvalidTarget", f"the local cloud does not deliver events to {arn}")

    def _to_function(self, rule: Any, arn: str, there: Where, event: Any) -> None:
        function = self._functions.find(there, arn)
        need = RequiredAction("lambda:InvokeFunction", (str(function.function_arn),))
        policy = json.dumps({"Statement": function.policy.statements})
        # EventBridge passes no account to Lambda: "Troubleshooting Amazon EventBridge" has SourceAccount removed.
        access = self._access(rule, need, {})
        self._admit(allows(policy, access), there, PRINCIPAL, ("lambda", "Invoke"), need)
        self._functions.submit(there, function.function_name, event)

    def _to_bus(
        self, rule: Any, target: dict[str, Any], there: Where, event: dict[str, Any], where: Where, hops: int
    ) -> None:
        arn = str(target["Arn"])
        if there.account != where.account:
            raise AwsError("InvalidTarget", "the local cloud sends events to buses of the same account only")
        role = target.get("RoleArn")
        if not role:
            raise denied("events", PRINCIPAL, "events:PutEvents", arn, "because the target has no role")
        context = {"aws:sourceaccount": where.account, "aws:sourcearn": str(rule.arn)}
        session = self._sessions.assume(PRINCIPAL, str(role), "events", where, context)
        identity = Identity(where.account, str(role), session)
        need = RequiredAction("events:PutEvents", (arn,))
        allowed = self._enforcement.allows(identity, need.action, arn, {"aws:principalarn": str(role)})
        self._admit(allowed, there, str(role), ("events", "PutEvents"), need)
        # A forwarded event stays as it was: with the account, the region and the id it had at first.
        self.route(there, event, arn.rpartition("/")[2], hops + 1)

    def _to_queue(self, rule: Any, arn: str, body: str) -> None:
        fields = arn.split(":")
        queues = sqs_backends[fields[4]][fields[3]]
        queue = queues.queues.get(fields[5])
        need = RequiredAction("sqs:SendMessage", (arn,))
        account = {"aws:sourceaccount": str(rule.account_id)}
        allowed = queue is not None and allows(queue.policy, self._access(rule, need, account))
        self._admit(allowed, Where(fields[4], fields[3]), PRINCIPAL, ("sqs", "SendMessage"), need)
        queues.send_message(fields[5], body)
        for follow in self.on_message:
            follow(arn)

    def _bury(self, rule: Any, target: dict[str, Any], event: dict[str, Any]) -> bool:
        arn = str((target.get("DeadLetterConfig") or {}).get("Arn") or "")
        # "The queue must be in the same Region as the rule": Using dead-letter queues, EventBridge User Guide.
        if not arn or arn.split(":")[3] != str(rule.arn).split(":")[3]:
            return False
        try:
            self._to_queue(rule, arn, json.dumps(event))
        except AwsError:
            return False
        return True

    def _access(self, rule: Any, need: RequiredAction, account: dict[str, str]) -> Access:
        context = {"aws:sourcearn": str(rule.arn), "aws:securetransport": "true"} | account
        return Access(PRINCIPAL, "Service", need.action, need.resources[0], context)

    def _admit(
        self, allowed: bool, where: Where, principal: str, called: tuple[str, str], need: RequiredAction
    ) -> None:
        """Log the call, and refuse it where it is not allowed. Raises AwsError."""
        status, code = (200, None) if allowed else (403, "AccessDeniedException")
        self._calls.add(Call(self._clock.now(), where.account, principal, *called, (need,), status, code))
        if not allowed:
            because = "because no policy allows it"
            raise denied(called[0], principal, need.action, need.resources[0], because)

    def _put_events(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        entries = params.get("Entries") or []
        if not 1 <= len(entries) <= _MOST_ENTRIES:
            raise AwsError("ValidationException", f"PutEvents takes 1 to {_MOST_ENTRIES} entries", 400)
        answers = [self._put(Where(caller.account, caller.region), entry) for entry in entries]
        return {"Entries": answers, "FailedEntryCount": sum("ErrorCode" in one for one in answers)}

    def _put(self, where: Where, entry: dict[str, Any]) -> dict[str, Any]:
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
        place = Where(bus.split(":")[4], bus.split(":")[3]) if bus.startswith("arn:") else where
        self.route(place, event, bus.rpartition("/")[2])
        return {"EventId": event["id"]}


def _shaped(target: dict[str, Any], event: dict[str, Any]) -> Any:
    """Return what the target gets of an event: all of it, a part, a constant, or what a template makes of it."""
    if target.get("Input"):
        return json.loads(target["Input"])
    if target.get("InputPath"):
        value: Any = event
        for name in filter(None, str(target["InputPath"]).removeprefix("$").split(".")):
            value = value.get(name) if isinstance(value, dict) else None
        return value
    transformer = target.get("InputTransformer")
    if not transformer:
        return event
    return EventTemplateParser.parse(
        input_template=transformer.get("InputTemplate"),
        input_paths_map=transformer.get("InputPathsMap", {}),
        event=event,
    )
