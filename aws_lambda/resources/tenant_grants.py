"""The bucket policy statement that lets the exports of tenants deliver into the deployment's own bucket.

It lists exactly the payers in the registry that deliver here: a round's first step adds new ones and removes those that
are no longer in it. S3 has no conditional write of a policy, so it is read back and written again if another writer was
faster.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from aws_lambda.clients import Clients
from aws_lambda.resources.bucket_policy import (
    POLICY_LIMIT,
    many,
    merged,
    normal_statement,
    parsed,
    sid_of,
    statements_of,
)
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import TENANTS_SID, TLS_SID, own_statements, tenant_statement
from shared.errors import NotFound, NotUnderstood, Permanent
from shared.runtime.context import RunContext

QUOTA = "s3"
TRIES = 3


class GrantChange(msgspec.Struct, frozen=True):
    """The accounts that the statement gained and lost; both empty if it was right."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


class TenantGrants:
    """Keeps the statement in the policy of the deployment's bucket; `settings` are those of the deployment."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._bucket = settings.home_of(account)
        self._account = account
        self._clients = clients
        self._run = run

    def reconcile(self, accounts: Iterable[str], *, keep: bool = False) -> GrantChange:
        """Make the statement list exactly these accounts; with `keep`, also those that it lists already.

        Every other statement stays as it is. Raises CloudError: Permanent if the policy cannot be parsed, if it would
        be too large, or if others keep changing it.
        """
        change, before = GrantChange(), None
        for attempt in range(TRIES + 1):
            document = self._document()
            if document == before:  # S3 may still return the policy from before the write
                return change
            mine = [normal_statement(one) for one in statements_of(document) if sid_of(one) == TENANTS_SID]
            listed = {account for one in mine for account in _accounts_of(one)}
            wanted = set(accounts) | (listed if keep else set())
            own = {TENANTS_SID: tenant_statement(self._bucket, wanted, self._settings)} if wanted else {}
            if mine == [normal_statement(one) for one in own.values()]:
                return change
            if attempt == 0:
                change = GrantChange(tuple(sorted(wanted - listed)), tuple(sorted(listed - wanted)))
            if attempt < TRIES:
                self._write(document, own, len(wanted))
                before = document
        raise Permanent(
            "tenant-grants-contended",
            f"the policy of bucket {self._bucket} was changed by others after each of {TRIES} writes",
            "Find in CloudTrail what else writes the policy (PutBucketPolicy), and let it keep the statement "
            f"{TENANTS_SID}; the next round tries again.",
        )

    def _write(self, document: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]], number: int) -> None:
        kept = [one for one in statements_of(document) if sid_of(one) != TENANTS_SID]
        if not kept and not own:  # S3 accepts no policy without a statement
            own = {TLS_SID: own_statements(self._account, self._settings)[TLS_SID]}
        policy = merged({**document, "Statement": kept}, own)
        text = json.dumps(policy, separators=(",", ":"))
        if len(text.encode()) > POLICY_LIMIT:
            raise Permanent(
                "policy-too-large",
                f"with the grants of {number} tenants, the policy of bucket {self._bucket} would have "
                f"{len(text.encode())} bytes, and S3 accepts {POLICY_LIMIT}; it was not changed",
                "Let some tenants deliver into their own buckets (leave out destination.bucket_owner), deploy a second "
                "time for the rest, or remove other statements from the policy.",
            )
        put = self._clients.s3.put_bucket_policy
        self._run.calls(QUOTA, put, Bucket=self._bucket, ExpectedBucketOwner=self._account, Policy=text)

    def _document(self) -> dict[str, Any]:
        get = self._clients.s3.get_bucket_policy
        try:
            text = str(self._run.calls(QUOTA, get, Bucket=self._bucket, ExpectedBucketOwner=self._account)["Policy"])
        except NotFound as error:
            if error.code != "NoSuchBucketPolicy":
                raise
            return {"Statement": []}
        try:
            document = parsed(text)
        except ValueError as error:
            raise NotUnderstood("s3 GetBucketPolicy", "it is not a policy") from error
        return {**document, "Statement": statements_of(document)}


def _accounts_of(statement: Mapping[str, Any]) -> set[str]:
    condition = statement.get("Condition")
    equal = condition.get("StringEquals") if isinstance(condition, dict) else None
    return {str(one) for one in many(equal.get("aws:SourceAccount", []))} if isinstance(equal, dict) else set()
