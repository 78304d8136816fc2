"""Four payers that a deployment on the local AWS serves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aws_lambda.handler import run_once
from aws_lambda.rounds import Fleet
from cli.demo.fleet import TENANTS
from localcloud.aws.cloud import LocalAws
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import SystemClock, VirtualClock
from shared.tenants.registry import MAX_BYTES, encode_registry
from shared.tenants.rows import REGISTRY, ROUNDS
from tailpipe_exports import CODE

HOUR_S = 3600.0
SECONDS = 900.0  # of one invocation
WRITING = ("Create", "Update", "Put", "Delete", "Tag", "Untag")
TEMPLATE = CODE / "infra" / "aws" / "tenant-role.yaml"


class AwsGround:
    """The provider's organization with the deployment, and the organizations of its customers."""

    title, scopes = "AWS", "accounts"

    def __init__(self, aws: LocalAws) -> None:
        self._aws = aws
        self._payers: dict[str, str] = {}
        entries = [self._invited(f"payer-{number:03d}") for number in range(TENANTS)]
        bucket, body = aws.deployment.bucket, encode_registry(entries)
        aws.client("s3").put_object(Bucket=bucket, Key=f"registry/{REGISTRY}", Body=body)
        self.tenants: Sequence[str] = list(self._payers)

    def _invited(self, tenant: str) -> dict[str, Any]:
        """Create an organization whose administrator has launched the stack of the invitation; return its entry."""
        aws, external_id = self._aws, f"external-id-of-{tenant}"
        payer = self._payers[tenant] = str(aws.add_payer(name=tenant, accounts=3))
        given = {
            "ProviderAccount": aws.account,
            "ExternalId": external_id,
            "BucketName": f"tailpipe-dataexport-{payer}",
            "StackSetName": "",
            "AnnounceDeliveries": "false",
        }
        roles = aws.launch_stack(account=payer, template=TEMPLATE.read_text(encoding="utf-8"), parameters=given)
        secrets = aws.client("secretsmanager")
        secret = secrets.create_secret(Name=f"tenants/{tenant}", SecretString=external_id)["ARN"]
        role = next(arn for arn in roles.values() if ":role/" in arn)
        return {"id": tenant, "cloud": "aws", "entry": {"role_arn": role, "external_id": secret}}

    def round(self) -> Mapping[str, Any]:
        """Make the steps of the state machine, one tenant after the other: they share the virtual clock."""
        self._aws.advance(HOUR_S)
        self._aws.deliver()
        begun = self._fleet().begin()
        for tenant in begun["tenants"]:
            while self._fleet().run_in_round(RunRequest(tenant=tenant, round=begun["round"]), self._run)["again"]:
                pass
        fleet = self._fleet()
        fleet.end(begun["round"])
        report: Mapping[str, Any] = json.loads(fleet.documents.load(MAX_BYTES, f"{ROUNDS}{begun['round']}.json").data)
        return report

    def _run(self, request: RunRequest) -> RunResult:
        aws = self._aws
        return run_once(request, aws.environment(), _discard, aws.clock, SECONDS, account=aws.account)

    def _fleet(self) -> Fleet:
        return Fleet(self._aws.environment(), _discard, self._aws.clock, SECONDS, self._aws.account)

    def withdraw(self, tenant: str) -> None:
        self._aws.delete_stack(account=self._payers[tenant])

    def exports(self, tenant: str) -> int:
        return len(self._aws.exports(account=self._payers[tenant]))

    def writes(self, tenant: str) -> int:
        return sum(one.operation.startswith(WRITING) for one in self._calls(tenant))

    def forget_calls(self) -> None:
        self._aws.clear_calls()

    def strangers(self, tenant: str) -> int:
        role = f"arn:aws:iam::{self._payers[tenant]}:role/"
        return sum(not one.principal.startswith(role) for one in self._calls(tenant))

    def _calls(self, tenant: str) -> list[Any]:
        """Return the calls in the payer or about its bucket; entering it is the deployment's own call."""
        payer = self._payers[tenant]
        return [
            one
            for one in self._aws.calls.select()
            if one.account == payer or (one.service == "s3" and f"-{payer}" in str(one.needs))
        ]


@contextmanager
def aws_ground() -> Iterator[AwsGround]:
    """Open the local AWS."""
    with LocalAws(accounts=1, clock=VirtualClock(SystemClock().now())) as aws:
        yield AwsGround(aws)


def _discard(_level: str, _event: str, _fields: Mapping[str, object]) -> None:
    """Drop a log line: the rows say what became of each tenant."""
