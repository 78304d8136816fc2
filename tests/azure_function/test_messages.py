"""Messages and the published page of the function app, from the secret in Key Vault to the webhook over HTTP."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Any, cast

import pytest
from azure.storage.blob import BlobServiceClient

from azure_function.clients import RATES, Clients, drop_clients
from azure_function.errors import translate
from azure_function.secrets import WebhookSecret
from azure_function.settings import read_settings
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import NOTIFY_SECRET, STATE_CONTAINER
from shared.errors import Permanent
from shared.monitor.overview import overview
from shared.notify.webhook import destination_of
from shared.runtime.context import RunContext
from shared.state.decoding import parse
from tests.azure_function.support import HOUR, Lines, advance, run
from tests.canaries import WEBHOOK_PATH
from tests.shared.notify.receiver import receiving
from tests.shared.notify.unusable import prove_each_is_a_warning

URI = f"https://tailpipe-vault.vault.azure.net/secrets/{NOTIFY_SECRET}"
STATE = "known_subscriptions.json"


def stored(azure: LocalAzure, name: str) -> str:
    """Return a blob of the state container."""
    with BlobServiceClient.from_connection_string(azure.connection_string(azure.host_account.name)) as client:
        data: bytes = client.get_blob_client(STATE_CONTAINER, name).download_blob().readall()
    return data.decode()


def test_policy_denial_opens_and_closes_a_message(azure: LocalAzure, keyless: dict[str, str]) -> None:
    """A denied export appears in a message, on the page and in the status. An exemption sends the closing message."""
    with receiving() as receiver:
        azure.world.secrets[NOTIFY_SECRET] = f"{receiver.url}/services/{WEBHOOK_PATH}"
        lines, settings = Lines(), cast("dict[str, Any]", {**keyless, "NOTIFY_URL": URI, "PUBLISH_PAGE": "1"})
        denied = azure.subscription_ids[1]
        azure.deny_by_policy(denied)
        first = run(azure, sink=lines, **settings)
        assert {one["scope"] for one in first.report["manual"]} == {denied}
        assert [one["type"].split(".")[3:5] for one in receiver.documents()] == [["manual", "opened"]]
        assert denied in receiver.titles()[0]
        state = parse(stored(azure, STATE).encode(), "azure", azure.clock.now())
        assert overview(state, (), azure.clock.now())["must_do"][0]["code"] == "policy-denied"
        page = stored(azure, "status.html")
        assert "policy-denied" in page
        advance(azure, HOUR)
        run(azure, sink=lines, **settings)
        assert len(receiver.got) == 1
        azure.exempt_from_policy(denied)
        advance(azure, 25 * HOUR)
        assert run(azure, sink=lines, **settings).report["manual"] == []
        assert [one["type"].split(".")[3:5] for one in receiver.documents()[1:]] == [["manual", "closed"]]
        everything = lines.text() + json.dumps(first.report) + page + stored(azure, STATE)
        assert "aVerySecretPart99" not in everything
        drop_clients()


def test_unreadable_or_missing_secret_is_a_warning(azure: LocalAzure, keyless: dict[str, str]) -> None:
    """The event has the reason, and the run is not affected."""
    azure.deny_by_policy(azure.subscription_ids[1])
    for name, code in (("another", "NOTIFY_URL"), (NOTIFY_SECRET, "not found")):
        lines, uri = Lines(), f"https://tailpipe-vault.vault.azure.net/secrets/{name}"
        run(azure, sink=lines, **cast("dict[str, Any]", {**keyless, "NOTIFY_URL": uri}))
        (failed,) = [fields for _, event, fields in lines.lines if event == "notify-failed"]
        assert code in failed["reason"]
    drop_clients()


def test_every_failure_of_secret_and_receiver_is_a_warning(azure: LocalAzure, keyless: dict[str, str]) -> None:
    """One warm instance goes through all of them and recovers without a restart."""
    environment, lines = {**azure.environment(), **keyless, "NOTIFY_URL": URI}, Lines()
    settings = read_settings(environment)
    context = RunContext("azure", settings.engine, lines, azure.clock, 900, RATES, translate, seed=1)

    def store(text: str | None) -> None:
        azure.world.secrets.pop(NOTIFY_SECRET, None)
        azure.world.secrets.update({} if text is None else {NOTIFY_SECRET: text})

    with closing(Clients(settings, environment)) as clients:
        reader = WebhookSecret(settings, clients, context)
        prove_each_is_a_warning(reader.read, store, context, lines)
        store("")
        with pytest.raises(Permanent, match="empty"):
            destination_of(reader.read(again=True))


def test_token_of_another_audience_is_refused_by_the_vault(azure: LocalAzure) -> None:
    """The event has the vault's refusal, and the run is not affected."""
    azure.world.secrets[NOTIFY_SECRET] = "https://hooks.example/x"
    lines = Lines()
    run(azure, sink=lines, NOTIFY_URL=URI, NOTIFY_DIGEST="weekly")
    (failed,) = [fields for _, event, fields in lines.lines if event == "notify-failed"]
    assert failed["code"] == "unauthorized"
    assert "AKV10022" in failed["reason"]
    drop_clients()
