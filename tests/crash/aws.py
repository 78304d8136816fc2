"""The function on the local AWS: an organization with two members, one of which announces deliveries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any, ClassVar

import pytest
from botocore.config import Config
from moto.s3.models import s3_backends
from moto.sqs.models import sqs_backends

import aws_lambda.clients
from aws_lambda import collector, handler
from localcloud.aws import wire
from localcloud.aws.cloud import LocalAws
from localcloud.aws.errors import AwsError, denied, render, throttled, unknown_key
from localcloud.aws.platform.deployed_deliveries import DELIVERIES, make_rule
from localcloud.aws.platform.deployment import EXPORTS_SID, FUNCTION
from localcloud.common.http_server import Request, Response
from shared.runtime.clock import VirtualClock
from tests.aws_lambda.subscriber import Subscriber
from tests.aws_lambda.support import EXPORT, START
from tests.crash.entries import Payload
from tests.crash.stage import BETWEEN_REPAIRS, HOUR, Stage, Story, World

READING = ("Get", "List", "Describe", "Head", "Invoke", "Publish")
PREFIX = "dataexport/"
STATE = "state/known_accounts.json"


class AwsStage(Stage):
    """The management account of an organization with two members."""

    name = "aws"
    module: ClassVar[ModuleType] = handler
    # An export that exists although its creation was not confirmed is adopted.
    follow_ups = frozenset({"bcm-data-exports:TagResource"})
    cloud: LocalAws

    def open(self) -> LocalAws:
        return LocalAws(accounts=3, clock=VirtualClock(START), deliveries=True)

    def settings(self) -> dict[str, str]:
        return {**self.cloud.environment(), "CALLS_AT_ONCE": "1"}

    def begin(self) -> None:
        self.cloud.client("sqs").create_queue(QueueName=f"{FUNCTION}-failed")
        make_rule(self.cloud.deployment, self.cloud.client, 360)
        self._subscriber = Subscriber(self.cloud)
        for _ in range(2):
            assert not self.recover().raised
            self.deliver()

    def deliver(self) -> None:
        """Let an hour pass, and deliver this month's data."""
        self.advance(HOUR)
        self.cloud.deliver()
        self.cloud.settle_events()

    def drop_clients(self) -> None:
        aws_lambda.clients._warm.drop()

    def payload(self, entry: str) -> Payload:
        arn = f"arn:aws:lambda:{self.cloud.region}:{self.cloud.account}:function:{FUNCTION}"
        if entry in ("run", "verify"):
            return {"module": "aws_lambda.handler", "event": {"verify_all": entry == "verify"}, "arn": arn}
        queue = self._queue()
        records = [{"body": message.body, "eventSourceARN": queue.queue_arn} for message in queue.messages]
        return {"module": "aws_lambda.collector", "event": {"Records": records}, "arn": arn}

    def conclude(self, entry: str, *, succeeded: bool) -> None:
        if entry == "delivery" and succeeded:
            self._queue()._messages.clear()

    def _queue(self) -> Any:
        return sqs_backends[self.cloud.account][self.cloud.region].queues[DELIVERIES]

    def log_to(self, patch: pytest.MonkeyPatch, sink: Callable[..., None]) -> None:
        patch.setattr(handler, "powertools_sink", sink)
        patch.setattr(collector, "powertools_sink", sink)

    def form(self, request: Request, status: int) -> Response:
        parsed = wire.read(request)
        service = parsed.service
        error = {
            401: unknown_key(service),
            403: denied(service, "arn:aws:iam::1:role/x", f"{service}:{parsed.operation}", "*"),
            429: throttled(service),
        }.get(status) or AwsError("InternalFailure" if status == 500 else "ServiceUnavailable", "Try again.", status)
        return Response(*render(error, parsed.protocol, service, "11111111-2222-3333-4444-555555555555"))

    def call_name(self, request: Request) -> str:
        parsed = wire.read(request)
        return f"{parsed.service}:{parsed.operation}"

    def written(self) -> list[str]:
        return sorted(
            f"{one.service}:{one.operation}"
            for one in self.cloud.calls.select()
            if not one.operation.startswith(READING)
            and one.status < 300
            and one.service not in ("sns", "sqs")
            and (one.service, one.operation) not in (("s3", "PutObject"), ("s3", "CopyObject"))
        )

    def resources(self) -> World:
        cloud, s3 = self.cloud, self.cloud.client("s3")
        bucket = cloud.deployment.bucket
        with cloud.world.lock:
            exports = {
                one.name: [one.definition, sorted(one.tags.items()), one.status()["StatusCode"]]
                for one in cloud.world.exports.of(cloud.account)
            }
        found: World = json.loads(  # a copy that later changes do not reach
            json.dumps(
                {
                    "exports": exports,
                    "policy": cloud.bucket_policy(),
                    "lifecycle": s3.get_bucket_lifecycle_configuration(Bucket=bucket).get("Rules"),
                    "encryption": s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"],
                    "public": s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"],
                    "instances": cloud.instances(),
                },
                default=str,
            )
        )
        return found

    def names(self, prefix: str) -> Iterable[str]:
        return [one.removeprefix(PREFIX) for one in self._keys() if one.startswith(PREFIX + prefix)]

    def read(self, name: str) -> bytes:
        return self._content(PREFIX + name)

    def published(self) -> Iterable[Mapping[str, Any]]:
        return self._subscriber.received()

    def state(self) -> bytes:
        return self._content(STATE)

    def forget(self) -> None:
        self.cloud.client("s3").delete_object(Bucket=self.cloud.deployment.bucket, Key=STATE)

    def _bucket(self) -> Any:
        return s3_backends[self.cloud.account][self.cloud.partition.name].buckets[self.cloud.deployment.bucket]

    def _keys(self) -> list[str]:
        return sorted(self._bucket().keys)

    def _content(self, name: str) -> bytes:
        found = self._bucket().keys.get(name)
        return bytes(found.value) if found else b""

    def shorten_timeouts(self, patch: pytest.MonkeyPatch, seconds: float) -> None:
        def short(**options: Any) -> Config:
            return Config(**{**options, "read_timeout": seconds})

        patch.setattr(aws_lambda.clients, "Config", short)


def _members(stage: AwsStage) -> Iterator[str]:
    yield from (one for one in stage.cloud.accounts() if one != stage.cloud.account)


def _onboard(stage: AwsStage) -> None:
    """Everything is as after a deployment: no export, no member role, no state."""
    stage.deliver()
    stage.cloud.delete_export(EXPORT)
    stage.cloud.remove_bucket_policy_statement(EXPORTS_SID)
    for account in _members(stage):
        stage.cloud.remove_instance(account)
    stage.forget()


def _heal(stage: AwsStage) -> None:
    """The export delivers to another folder, a role and a statement are gone, and data has arrived."""
    stage.advance(BETWEEN_REPAIRS)
    stage.deliver()
    export = stage.cloud.world.exports.named(stage.cloud.account, EXPORT)
    export.definition["DestinationConfigurations"]["S3Destination"]["S3Prefix"] = "elsewhere"
    stage.cloud.remove_bucket_policy_statement(EXPORTS_SID)
    stage.cloud.remove_instance(next(_members(stage)))


AwsStage.stories = {
    "onboard": Story(_onboard),
    "heal": Story(_heal),
    "steady": Story(lambda stage: stage.deliver(), "verify", steady=True),
    "delivery": Story(lambda stage: stage.deliver(), "delivery", steady=True),
}
