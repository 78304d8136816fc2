"""Messages and the page of the AWS function: from the secret in Secrets Manager to the webhook, over HTTP."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, cast

import boto3
import pytest

from aws_lambda.clients import RATES, Clients
from aws_lambda.errors import translate
from aws_lambda.secrets import WebhookSecret
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from shared.errors import Permanent
from shared.monitor.overview import overview
from shared.runtime.context import RunContext
from shared.state.decoding import parse
from tests.aws_lambda.support import Lines, run
from tests.canaries import SIGNING_KEY, WEBHOOK_PATH
from tests.shared.notify.receiver import receiving
from tests.shared.notify.unusable import prove_each_is_a_warning


def client(aws: LocalAws, service: str) -> Any:
    """Return a client with the local cloud's own credentials."""
    found = aws.environment()
    return boto3.client(
        cast("Any", service),
        region_name=found["AWS_REGION"],
        endpoint_url=aws.endpoint,
        aws_access_key_id=found["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=found["AWS_SECRET_ACCESS_KEY"],
    )


def stored(aws: LocalAws, key: str) -> bytes:
    """Return an object of the bucket."""
    s3 = client(aws, "s3")
    with s3.get_object(Bucket=aws.deployment.bucket, Key=key)["Body"] as body:
        return bytes(body.read())


def secret(aws: LocalAws, text: str) -> str:
    """Store a secret and return its ARN."""
    secrets = client(aws, "secretsmanager")
    return str(secrets.create_secret(Name="tailpipe-webhook", SecretString=text)["ARN"])


def test_failure_is_sent_and_published_and_closed_when_fixed(aws: LocalAws) -> None:
    """The failure appears in a message, on the page and in the status. The webhook's URL appears in none of them."""
    with receiving() as receiver:
        arn = secret(aws, json.dumps({"url": f"{receiver.url}/services/{WEBHOOK_PATH}", "key": SIGNING_KEY}))
        lines, settings = Lines(), cast("dict[str, Any]", {"NOTIFY_URL": arn, "PUBLISH_PAGE": "1"})
        aws.deny("bcm-data-exports:CreateExport")
        first = run(aws, sink=lines, **settings)
        assert receiver.titles()
        assert receiver.got[0][0] == f"/services/{WEBHOOK_PATH}"
        assert receiver.got[0][1]["webhook-signature"].startswith("v1,")
        codes = {one["data"]["code"] for one in receiver.documents()}
        assert codes & {one["code"] for one in (*first.report["failures"], *first.report["manual"])}
        state = parse(stored(aws, "state/known_accounts.json"), "aws", aws.clock.now())
        assert overview(state, (), aws.clock.now())["tone"] != "ok"
        page = stored(aws, "state/status.html").decode()
        assert overview(state, (), aws.clock.now())["sentence"].partition(";")[0] in page
        said = len(receiver.got)
        aws.advance(3600)
        run(aws, sink=lines, **settings)
        assert len(receiver.got) == said
        aws.allow("bcm-data-exports:CreateExport")
        aws.advance(48 * 3600)
        last = run(aws, sink=lines, **settings)
        assert last.report["failures"] == last.report["manual"] == []
        assert {one["type"].rpartition(".v1")[0].rpartition(".")[2] for one in receiver.documents()[said:]} == {
            "closed"
        }
        everything = lines.text() + json.dumps(first.report) + page + stored(aws, "state/known_accounts.json").decode()
        assert "aVerySecretPart99" not in everything
        assert "whsec" not in everything
        # Read once, however many runs this instance had.
        assert aws.calls.count("secretsmanager", "GetSecretValue") == 1


def test_unreadable_secret_is_a_warning(aws: LocalAws) -> None:
    """The run is not affected, and the message stays owed."""
    with receiving() as receiver:
        arn = secret(aws, receiver.url)
        aws.deny("secretsmanager:GetSecretValue")
        aws.deny("bcm-data-exports:CreateExport")
        lines = Lines()
        run(aws, sink=lines, NOTIFY_URL=arn)
        (failed,) = [fields for _, event, fields in lines.lines if event == "notify-failed"]
        assert "NOTIFY_URL" in failed["reason"]
        aws.allow("secretsmanager:GetSecretValue")
        run(aws, sink=lines, NOTIFY_URL=arn)
        assert len(receiver.got) >= 1


def test_every_failure_of_secret_and_receiver_is_a_warning(aws: LocalAws) -> None:
    """One warm instance goes through all of them and recovers without a restart."""
    arn, lines, secrets = secret(aws, "-"), Lines(), client(aws, "secretsmanager")
    environment = {**aws.environment(), "NOTIFY_URL": arn}
    settings = read_settings(environment)
    context = RunContext("aws", settings.engine, lines, aws.clock, 900, RATES, translate, seed=1)

    def store(text: str | None) -> None:
        if text is None:
            secrets.delete_secret(SecretId=arn)
        else:
            secrets.restore_secret(SecretId=arn)
            secrets.put_secret_value(SecretId=arn, SecretString=text)

    with closing(Clients(settings, environment)) as clients:
        reader = WebhookSecret(settings, clients, context)
        prove_each_is_a_warning(reader.read, store, context, lines)
        secrets.put_secret_value(SecretId=arn, SecretBinary=b"\xff\xfe")
        with pytest.raises(Permanent, match="binary"):
            reader.read(again=True)
        secrets.delete_secret(SecretId=arn, ForceDeleteWithoutRecovery=True)
        with pytest.raises(Permanent, match="cannot be read"):
            reader.read(again=True)
