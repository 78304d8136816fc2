"""The environment of the AWS scenario: a local organization, and the function in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda.clients import warm_clients
from aws_lambda.collector import announce, collect
from aws_lambda.events import own_of
from aws_lambda.settings import read_settings
from cli.demo.environment import Environment, Lines
from cli.demo.runner import Runner, Step
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployed_deliveries import DELIVERIES, make_rule
from localcloud.aws.platform.deployed_deliveries import WINDOW_S as DELIVERIES_WINDOW_S
from localcloud.aws.platform.deployed_events import COLLECTOR, WINDOW_S, make_queue, make_rules
from localcloud.aws.platform.deployment import FUNCTION
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from shared.hints import as_document

EXPORT = "tailpipe-dataexport"
READER = "reader.fifo"  # a queue that a reader of the exports has subscribed
HOUR_S = 3600  # between two runs
CONDITIONS = frozenset({"connector", "connector_events", "management", "members"})  # of the rules
STATEMENT = "TailpipeDataExports"
WRITING = ("Create", "Update", "Put", "Delete", "Tag", "Untag")


class AwsEnvironment(Environment):
    """The organization and the function in it."""

    title = "AWS"
    state = "state/known_accounts.json"

    def __init__(self, runner: Runner, aws: LocalAws, function: LambdaRuntime, lines: Lines) -> None:
        super().__init__(runner, lines)
        self.aws = aws
        self._function = function

    def invoke(self, step: Step, request: Mapping[str, Any]) -> Mapping[str, Any]:
        self.aws.advance(HOUR_S)
        return self._run(step, request)

    def _run(self, step: Step, request: Mapping[str, Any]) -> Mapping[str, Any]:
        with self.watched():
            invocation = self._function.invoke(request)
        error = invocation.error
        detail = f"{error.get('errorType')}: {error.get('errorMessage')}" if error else ""
        if not isinstance(invocation.payload, Mapping):
            self.no_report(step, detail or repr(invocation.payload))
        self.runner.ran(step, invocation.payload, invocation.duration_s)
        return invocation.payload

    def open_events(self) -> None:
        """Let EventBridge's rules send what happens from now on to the queue of events."""
        queue = make_queue(self.aws.deployment, self.aws.client)
        make_rules(self.aws.deployment, self.aws.client, CONDITIONS, queue)

    def deliver_events(self, step: Step) -> Mapping[str, Any]:
        """Do what Lambda and the collector do with the queue after a minute; return the report of the run for it."""
        self.aws.advance(WINDOW_S)
        self.aws.settle_events()
        records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in self._received(COLLECTOR)]
        own = own_of(read_settings(self.aws.environment()), self.aws.account)
        hints, _ = collect({"Records": records}, own, lambda *_: None, self.aws.clock)
        if hints is None:
            self.no_report(step, f"{len(records)} messages are in the queue, and none is about this deployment")
        return self._run(step, {"hints": as_document(hints)})

    def open_deliveries(self) -> None:
        """Let S3 report manifests from now on, and subscribe a queue to the topic of deliveries."""
        sqs, deployment = self.aws.client("sqs"), self.aws.deployment
        sqs.create_queue(QueueName=f"{FUNCTION}-failed")
        make_rule(deployment, self.aws.client, 360)
        sqs.create_queue(QueueName=READER, Attributes={"FifoQueue": "true"})
        self.aws.client("sns").subscribe(
            TopicArn=deployment.delivery_topic,
            Protocol="sqs",
            Endpoint=f"arn:aws:sqs:{self.aws.region}:{self.aws.account}:{READER}",
            Attributes={"RawMessageDelivery": "true"},
        )

    def announce_deliveries(self) -> list[Any]:
        """Do what Lambda and the collector do with the queue of manifests; return what the reader's queue received."""
        self.aws.advance(DELIVERIES_WINDOW_S)
        self.aws.settle_events()
        records = [{"messageId": one["MessageId"], "body": one["Body"]} for one in self._received(DELIVERIES)]
        environment = self.aws.environment()
        settings = read_settings(environment)
        clients = warm_clients(settings, environment)
        announce({"Records": records}, settings, self.aws.account, clients, lambda *_: None, self.aws.clock, 60)
        return [json.loads(one["Body"]) for one in self._received(READER)]

    def _received(self, queue: str) -> list[Any]:
        sqs = self.aws.client("sqs")
        url = sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        return list(sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []))

    def calls(self) -> Sequence[Any]:
        return self.aws.calls.select()

    def clear_calls(self) -> None:
        self.aws.clear_calls()

    def operation(self, call: Any) -> str:
        return f"{call.service}:{call.operation}"

    def is_write(self, call: Any) -> bool:
        return bool(call.operation.startswith(WRITING)) and call.operation != "PutObject"

    def active(self) -> list[str]:
        """Return the active accounts, the management account first."""
        return [account for account, state in self.aws.accounts().items() if state == "ACTIVE"]

    def now(self) -> datetime:
        return self.aws.clock.now()

    def stored(self, name: str) -> bytes | None:
        try:
            answer = self.aws.client("s3").get_object(Bucket=self.aws.deployment.bucket, Key=name)
        except ClientError:
            return None
        return bytes(answer["Body"].read())

    def stored_names(self, prefix: str) -> Sequence[str]:
        pages = self.aws.client("s3").get_paginator("list_objects_v2")
        listed = pages.paginate(Bucket=self.aws.deployment.bucket, Prefix=prefix)
        return [one["Key"] for page in listed for one in page.get("Contents", ())]

    def check_covered(self, step: Step, report: Mapping[str, Any]) -> None:
        """Check that the run was ok and that every active account is covered."""
        scopes, active = report["scopes"], len(self.active())
        self.check_ok(step, report)
        good = scopes["covered"] + scopes["pending"]
        detail = f"{scopes['covered']} of {active}" + (f", {scopes['pending']} pending" if scopes["pending"] else "")
        step.check("every active account is covered or pending", good == scopes["active"] == active, detail)

    def check_export(self, step: Step, what: str) -> None:
        """Check that the export exists, is healthy, and delivers to the bucket."""
        bucket, exports = self.aws.deployment.bucket, self.aws.client("bcm-data-exports")
        listed = {one["ExportName"]: one for one in exports.list_exports()["Exports"]}
        if EXPORT not in listed:
            step.check(what, ok=False, detail=f"the exports are: {', '.join(listed) or 'none'}")
            return
        found = exports.get_export(ExportArn=listed[EXPORT]["ExportArn"])
        status = found["ExportStatus"]["StatusCode"]
        target = found["Export"]["DestinationConfigurations"]["S3Destination"]["S3Bucket"]
        step.check(
            what,
            status == "HEALTHY" and target == bucket,
            f"{EXPORT} is {status}" + (f", but delivers to {target}" if target != bucket else ""),
        )

    def check_statement(self, step: Step, what: str) -> None:
        """Check that the function's own statement is in the bucket policy."""
        sids = [one.get("Sid", "") for one in (self.aws.bucket_policy() or {}).get("Statement", [])]
        detail = f"Sid {STATEMENT}" if STATEMENT in sids else f"only {', '.join(sids) or 'an empty policy'}"
        step.check(what, STATEMENT in sids, detail)

    def check_roles(self, step: Step, what: str, accounts: list[str]) -> None:
        """Check that each account's stack instance is current and that its role can be read in the account."""
        pages = self.aws.client("cloudformation").get_paginator("list_stack_instances")
        listed = pages.paginate(StackSetName=self.aws.deployment.settings()["STACKSET_NAME"])
        status = {one["Account"]: one["Status"] for page in listed for one in page["Summaries"]}
        current = sum(status.get(account) == "CURRENT" for account in accounts)
        role, missing = self.aws.deployment.settings()["MEMBER_ROLE_NAME"], 0
        for account in accounts[:3]:
            try:
                self.aws.client("iam", account).get_role(RoleName=role)
            except ClientError:
                missing += 1
        detail = f"{current} of {len(accounts)} stack instances CURRENT" + (
            f", {missing} roles missing" if missing else ""
        )
        step.check(what, current == len(accounts) and not missing, detail)
