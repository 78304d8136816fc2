"""Four payers that a deployment on the local AWS serves, in rounds of its state machine.

Its schedule starts each round. The local Step Functions execute the definition that Terraform deploys, and each of its
tasks invokes the real handler in its own process, under Lambda's runtime client and with the function's role.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from cli.demo.fleet import TENANTS
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam.sessions import credentials
from localcloud.aws.platform.deployment import FUNCTION, ROUNDS
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from shared.runtime.clock import SystemClock, VirtualClock
from shared.tenants.registry import encode_registry
from shared.tenants.rows import REGISTRY
from tailpipe_exports import CODE

HANDLER = "cli.demo.aws_app.handler"
HOUR_S = 3600.0
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
        secret = secrets.create_secret(Name=f"{FUNCTION}/tenants/{tenant}", SecretString=external_id)["ARN"]
        role = next(arn for arn in roles.values() if ":role/" in arn)
        return {"id": tenant, "cloud": "aws", "entry": {"role_arn": role, "external_id": secret}}

    def round(self) -> Mapping[str, Any]:
        """Fire the schedule of rounds, and let the state machine run to its end."""
        self._aws.advance(HOUR_S)
        self._aws.deliver()
        arn = self._aws.fire_schedule(ROUNDS, ROUNDS)["run"]["execution"]
        done = self._aws.client("stepfunctions").describe_execution(executionArn=arn)
        if done["status"] != "SUCCEEDED":
            raise RuntimeError(f"the round ended as {done['status']}: {done.get('error')} {done.get('cause')}")
        key = f"runs/rounds/{json.loads(done['output'])['round']}.json"
        with self._aws.client("s3").get_object(Bucket=self._aws.deployment.bucket, Key=key)["Body"] as body:
            report: Mapping[str, Any] = json.loads(body.read())
        return report

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
    """Open the local AWS with a deployment that serves tenants. Raises Unavailable."""
    with LocalAws(accounts=1, clock=VirtualClock(SystemClock().now()), fleet=True) as aws:
        role, where = f"arn:aws:iam::{aws.account}:role/{FUNCTION}", Where(aws.account, aws.region)
        session = aws.world.sessions.assume("lambda.amazonaws.com", role, FUNCTION, where)
        own = {**aws.environment(), **credentials(session)}
        with LambdaRuntime(HANDLER, own, aws.account, aws.region, task_root=CODE) as function:
            # One environment serves all tenants, one after the other: they share the virtual clock.
            aws.world.functions.stand_in = function.invoke
            yield AwsGround(aws)
