"""The contract suites against the AWS adapter, over HTTP to the local AWS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime

import pytest

from aws_lambda.clients import RATES, warm_clients
from aws_lambda.errors import translate
from aws_lambda.provider import AwsCloud
from aws_lambda.settings import read_settings
from aws_lambda.state_store import S3Store
from localcloud.aws.cloud import LocalAws
from shared.model import Key
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.contracts.cloud_contract import CloudContract
from tests.contracts.store_contract import StoreContract

START = datetime(2026, 1, 5, tzinfo=UTC)
STATE = "state/known_accounts.json"


class AwsHarness:
    """An organization after a deployment, without an export."""

    def __init__(self, local: LocalAws) -> None:
        self.local = local
        self.clock = local.clock
        environment = local.environment()
        self.settings = read_settings(environment)
        self.clients = warm_clients(self.settings, environment)
        self.seed = 0

    def run(self) -> RunContext:
        self.seed += 1
        return RunContext("aws", self.settings.engine, lambda *_: None, self.clock, 600, RATES, translate, self.seed)

    def cloud(self, run: RunContext) -> AwsCloud:
        return AwsCloud(self.settings, self.local.account, self.clients, run)

    def store(self, run: RunContext | None = None) -> S3Store:
        return S3Store(self.settings, self.local.account, self.clients, run or self.run())

    def delete_state(self) -> None:
        bucket = self.settings.bucket_of(self.local.account)
        self.local.client("s3").delete_object(Bucket=bucket, Key=STATE)

    def delete(self, key: Key) -> None:
        self.local.delete_export(key.name)

    def export_key(self) -> Key:
        return Key(self.local.account, "export", "tailpipe-dataexport")

    def exports(self) -> list[str]:
        return [str(one["ExportName"]) for one in self.local.client("bcm-data-exports").list_exports()["Exports"]]

    @contextmanager
    def deny_actions(self, *actions: str) -> Iterator[None]:
        for action in actions:
            self.local.deny(action)
        try:
            yield
        finally:
            for action in actions:
                self.local.allow(action)

    def enumeration_denied(self) -> AbstractContextManager[None]:
        return self.deny_actions("organizations:ListAccounts")

    def reads_denied(self) -> AbstractContextManager[None]:
        return self.deny_actions("bcm-data-exports:ListExports", "bcm-data-exports:GetExport")

    def settle(self) -> None:
        self.local.advance(60)


class AwsStoreHarness(AwsHarness):
    """The same organization as a store harness."""

    def stored(self, name: str) -> bytes:
        bucket, key = name.removeprefix("s3://").split("/", 1) if "://" in name else ("", name)
        bucket = bucket or self.settings.bucket_of(self.local.account)
        return bytes(self.local.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def denied(self) -> AbstractContextManager[None]:
        return self.deny_actions("s3:GetObject", "s3:PutObject")


@pytest.fixture
def local() -> Iterator[LocalAws]:
    """Return a fresh organization of eight accounts."""
    with LocalAws(accounts=8, clock=VirtualClock(START)) as cloud:
        yield cloud


class TestAwsCloud(CloudContract):
    """Run the provider contract with the AWS adapter."""

    @pytest.fixture
    def harness(self, local: LocalAws) -> AwsHarness:
        return AwsHarness(local)


class TestAwsStore(StoreContract):
    """Run the store contract with the S3 store."""

    @pytest.fixture
    def store_harness(self, local: LocalAws) -> AwsStoreHarness:
        return AwsStoreHarness(local)
