"""Several payers in a local AWS, entered by the deployment as tenants."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aws_lambda.handler import handler, run_once
from aws_lambda.rounds import Fleet
from cli.deployment.aws import tenant_role
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployment import STACK_SET
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.aws_lambda.support import Lines


class Provider:
    """A deployment that serves tenants: it adds payers, writes the registry and runs the function."""

    def __init__(self, cloud: LocalAws) -> None:
        self.cloud = cloud
        self.entries: list[dict[str, Any]] = []
        self.lines = Lines()

    @property
    def bucket(self) -> str:
        return str(self.cloud.deployment.bucket)

    def secret(self, tenant: str, external_id: str) -> str:
        """Store an External ID; return the secret's ARN."""
        client = self.cloud.client("secretsmanager")
        return str(client.create_secret(Name=f"tailpipe-exports/tenants/{tenant}", SecretString=external_id)["ARN"])

    def add(
        self,
        tenant: str,
        *,
        shared: bool = False,
        members: bool = False,
        carbon: bool = False,
        accounts: int = 2,
        of: str = "",
        **entry: Any,
    ) -> str:
        """Add a payer with a role of its own, and its entry; return the payer's account id.

        With `of`, the entry is for a billing view of the costs of that payer, whose bills the new one receives.
        """
        payer = str(self.cloud.add_payer(name=tenant, accounts=accounts))
        external_id = f"external-id-of-{tenant}"
        view = str(self.cloud.transfer_billing(payer=of, receiver=payer)) if of else ""
        role = self.let_in(payer, external_id, shared=shared, members=members, carbon=carbon, view=view)
        made = {
            "id": tenant,
            "cloud": "aws",
            "entry": {"role_arn": role, "external_id": self.secret(tenant, external_id)},
            "destination": ({"bucket_owner": self.cloud.account} if shared else {})
            | ({"billing_view": view} if view else {}),
            "settings": {
                **(self.with_members(payer) if members else {}),
                **({"EXPORTS": "cur2,carbon"} if carbon else {}),
            },
            **entry,
        }
        self.entries.append(made)
        self.write()
        return payer

    def payer(self, tenant: str) -> str:
        """Return the account of a tenant that was added with a role."""
        entry = next(one["entry"] for one in self.entries if one["id"] == tenant)
        return str(entry["role_arn"].split(":")[4])

    def with_members(self, payer: str) -> dict[str, str]:
        """Create the StackSet of the member roles in a payer; return the settings of its entry."""
        deployment = self.cloud.deployment
        deployment.make_stack_set(self.cloud.client, payer)
        return {"TAILPIPE_PRINCIPAL_ARN": deployment.principal, "EXTERNAL_ID_HASH": deployment.external_id_hash}

    def let_in(
        self,
        payer: str,
        external_id: str,
        *,
        shared: bool = False,
        members: bool = False,
        carbon: bool = False,
        view: str = "",
    ) -> str:
        """Launch the stack of the invitation in a payer; return the role's ARN."""
        given = {
            "ProviderAccount": self.cloud.account,
            "ExternalId": external_id,
            "BucketName": "" if shared else f"tailpipe-dataexport-{payer}",
            "StackSetName": STACK_SET if members else "",
            "BillingViewArn": view,
            "ExportCarbon": "true" if carbon else "false",
            "AnnounceDeliveries": "true" if self.cloud.deployment.deliveries else "false",
        }
        made = self.cloud.launch_stack(account=payer, template=tenant_role.published(), parameters=given)
        return str(made["TailpipeExportsTenantRole"])

    def write(self, *entries: Mapping[str, Any]) -> None:
        """Write the registry: the given entries, or those that were added."""
        body = json.dumps({"version": 1, "tenants": list(entries or self.entries)})
        self.cloud.client("s3").put_object(Bucket=self.bucket, Key="registry/tenants.json", Body=body)

    def fleet(self) -> Fleet:
        """Return the tenants of the deployment."""
        return Fleet(self.cloud.environment(), self.lines, self.cloud.clock, 900, self.cloud.account)

    def run(self, tenant: str, **request: Any) -> RunResult:
        """Run the function for one tenant."""
        asked = RunRequest(tenant=tenant, **request)
        cloud = self.cloud
        return run_once(asked, cloud.environment(), self.lines, cloud.clock, 900, account=cloud.account, seed=1)

    def stored(self, prefix: str = "") -> list[str]:
        """Return the keys in the deployment's bucket."""
        return list(self.cloud.world.buckets.keys(self.bucket, prefix))

    def statement(self) -> dict[str, Any] | None:
        """Return the statement of the bucket policy for tenants."""
        policy = self.cloud.bucket_policy()
        return next((one for one in policy["Statement"] if one["Sid"] == "TailpipeTenantExports"), None)


def invoke(cloud: LocalAws, event: Any, seconds: float = 300) -> Any:
    """Invoke the handler in this process, as Lambda does; the settings are in the environment of the process."""

    class Context:
        invoked_function_arn = f"arn:aws:lambda:eu-west-1:{cloud.account}:function:tailpipe-exports"

        def get_remaining_time_in_millis(self) -> int:
            return int(seconds * 1000)

    context: Any = Context()
    return handler(event, context, clock=cloud.clock)
