"""Deliveries on AWS: Data Exports overwrites a billing period's files, and then its manifest, which lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

from aws_lambda.clients import Clients
from aws_lambda.delivery_topic import DeliveryTopic
from aws_lambda.resources.delivery_manifest import MANIFEST_LIMIT, manifest_name, parse_manifest
from aws_lambda.resources.listing import Listing
from aws_lambda.settings import AwsSettings
from aws_lambda.state_store import S3Documents
from aws_lambda.targets import datasets_of
from shared.deliveries.announce import Announcer
from shared.deliveries.chain import Topic
from shared.deliveries.document import File, FileSet, Series
from shared.errors import NotFound
from shared.notify.delivery import Secret
from shared.notify.topic import WebhookTopic
from shared.periods import is_period
from shared.runtime.context import RunContext

QUOTA = "s3"
MONTH = len("2026-01")


class ExportDeliveries:
    """A DeliverySource: the scope of a series is the function's account, its dataset an export, its period a month."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._account = account
        self._bucket, self._owner = settings.bucket_of(account), settings.owner_of_bucket(account)
        self._prefix = settings.prefix
        self._exports = frozenset(datasets_of(settings))
        self._clients = clients
        self._run = run
        self._listing = Listing(self._bucket, self._owner, clients, run)
        self._documents = delivery_documents(settings, account, clients, run)

    def announces(self, series: Series) -> bool:
        """Return whether such a series is a month of one of the account's exports."""
        month = len(series.period) == MONTH and is_period(series.period)
        return month and series.scope == self._account and series.dataset in self._exports

    def documents(self, series: Series) -> S3Documents:  # noqa: ARG002 - all lie in the bucket of the exports
        """Return the store of the documents: the prefix of the exports, which the connector may read."""
        return self._documents

    def files(self, series: Series) -> FileSet | None:
        """Return the files that the period's newest manifest lists, with the ETags of the listing.

        Returns None if a listed file is missing, empty, or newer than the manifest, or if the manifest was replaced
        while the files were listed. Raises CloudError.
        """
        root = f"{self._prefix}/{series.dataset}"
        folder = f"BILLING_PERIOD={series.period}/"
        ending = f"/{manifest_name(series.dataset)}"
        location = f"s3://{self._bucket}/"
        newest = _newest(self._listing.below(f"{root}/metadata/{folder}"), ending)
        if newest is None:
            left = self._listing.below(f"{root}/data/{folder}")
            return None if left else FileSet(location, (), self._run.clock.now())
        try:
            text, tag, delivered_at = self._run.calls(QUOTA, self._read, str(newest["Key"]))
        except NotFound:  # it was deleted since it was listed
            return None
        listed = {str(one["Key"]): one for one in self._listing.below(f"{root}/data/{folder}")}
        manifest = parse_manifest(text, str(newest["Key"]), self._bucket)
        if any(_time_of(one) > delivered_at for one in listed.values()):
            return None
        found: list[File] = []
        for name in manifest.files:
            stored = listed.get(name)
            if stored is None or not stored.get("Size"):
                return None
            tag_of_file = str(stored["ETag"]).strip('"')
            found.append(File(name, int(stored["Size"]), f"etag:{tag_of_file}"))
        again = _newest(self._listing.below(f"{root}/metadata/{folder}"), ending)
        if again is None or (again["Key"], again["ETag"]) != (newest["Key"], tag):
            return None
        return FileSet(location, tuple(found), delivered_at, schema=manifest.schema)

    def _read(self, key: str) -> tuple[bytes, str, datetime]:
        """Return a manifest's text, ETag and time."""
        answer = self._clients.s3.get_object(Bucket=self._bucket, Key=key, ExpectedBucketOwner=self._owner)
        with closing(answer["Body"]) as body:
            return bytes(body.read(MANIFEST_LIMIT)), str(answer["ETag"]), answer["LastModified"].astimezone(UTC)


def delivery_documents(settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> S3Documents:
    """Return the documents of all deliveries: below the prefix of the exports, which the connector may read."""
    bucket, owner = settings.bucket_of(account), settings.owner_of_bucket(account)
    return S3Documents(bucket, owner, f"{settings.prefix}/", "the deliveries", clients, run)


def announcer_of(
    settings: AwsSettings, account: str, clients: Clients, run: RunContext, secret: Secret | None, own: Clients
) -> Announcer | None:
    """Return what announces the deliveries; None if the settings say that they are not announced.

    `clients` are those of the bucket, `own` those of the deployment, which owns the topic.
    """
    if not settings.deltas:
        return None
    topics: dict[str, Topic] = {}
    if settings.delivery_topic:
        topics["topic"] = DeliveryTopic(settings.delivery_topic, own, run)
    if secret is not None:
        topics["webhook"] = WebhookTopic(secret, run)
    return Announcer(ExportDeliveries(settings, account, clients, run), topics, run)


def _newest(items: Iterable[Mapping[str, Any]], ending: str) -> Mapping[str, Any] | None:
    """Return the newest of the listed manifests, None without any."""
    found = [one for one in items if str(one["Key"]).endswith(ending)]
    return max(found, key=lambda one: (one["LastModified"], one["Key"]), default=None)


def _time_of(item: Mapping[str, Any]) -> datetime:
    found: datetime = item["LastModified"]
    return found.astimezone(UTC)
