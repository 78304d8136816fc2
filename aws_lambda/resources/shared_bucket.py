"""The deployment's own bucket as the destination of a tenant's exports; the steps of a round write its policy."""

from __future__ import annotations

import json

from aws_lambda import manual_steps
from aws_lambda.resources.bucket import Bucket
from aws_lambda.resources.bucket_policy import (
    label_of,
    many,
    may_block_delivery,
    normal_statement,
    parsed,
    sid_of,
    statements_of,
)
from aws_lambda.targets import EXPORTS_SID, SHARED_BUCKET, TENANTS_SID, tenant_statement
from shared.errors import CloudError, NotFound, NotUnderstood
from shared.model import Health, Observation, Present, Target


class SharedBucket(Bucket):
    """Observes what the exports of one tenant need of the bucket, and writes nothing to it."""

    kinds = (SHARED_BUCKET,)

    def observe(self, target: Target) -> Observation:
        """Read the policy and the lifecycle rules: the bucket's own run keeps everything else."""
        try:
            return self._granted(self._policy())
        except NotFound as error:
            return self._absent(error, target)
        except CloudError as error:
            return self._unreadable(error)

    def write_statements(self, exporting: bool = True) -> None:
        """Write nothing: the first step of each round grants the bucket to the payers in the registry."""

    def _granted(self, text: str) -> Present:
        try:
            statements = statements_of(parsed(text))
        except json.JSONDecodeError as error:
            raise NotUnderstood("s3 GetBucketPolicy", "its JSON is truncated or damaged") from error
        except ValueError:
            manual_step = manual_steps.policy_unreadable(self.name)
            return Present(health=Health.MANUAL, code="policy-unreadable", manual_step=manual_step)
        self._lifecycle()
        hits = [one for one in statements if may_block_delivery(one, self._probe())]
        self.suspects = [label_of(one) for one in hits]
        granted = any(self._grants(normal_statement(one)) for one in statements)
        self.statement_missing = not granted
        return Present({"grant": self._account if granted else "missing"})

    def _grants(self, statement: dict[str, object]) -> bool:
        """Return whether a statement is one of the function's that lets this account deliver."""
        if self._account == self._owner and sid_of(statement) == EXPORTS_SID:
            return statement.get("Effect") == "Allow"
        if sid_of(statement) != TENANTS_SID:
            return False
        condition = statement.get("Condition")
        equal = condition.get("StringEquals", {}) if isinstance(condition, dict) else {}
        accounts = [str(one) for one in many(equal.get("aws:SourceAccount", []))]
        whole = tenant_statement(self.name, accounts, self._settings.at_home())
        return self._account in accounts and statement == normal_statement(whole)

    def _probe(self) -> str:
        return f"arn:{self._settings.partition}:s3:::{self.name}/{self._settings.prefix}/probe"
