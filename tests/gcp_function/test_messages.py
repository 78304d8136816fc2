"""Messages and the published page: from the webhook in Secret Manager to the delivery over HTTP."""

from __future__ import annotations

import base64
import json
from contextlib import closing
from typing import Any, cast

import pytest

from gcp_function.clients import RATES, Clients
from gcp_function.errors import translate
from gcp_function.secrets import WebhookSecret, _text_of
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import NOTIFY_SECRET
from shared.errors import Permanent
from shared.monitor.overview import overview
from shared.runtime.context import RunContext
from shared.state.decoding import parse
from tests.canaries import WEBHOOK_PATH
from tests.gcp_function.support import Lines, local_gcp, run, settings_of
from tests.shared.notify.receiver import receiving
from tests.shared.notify.unusable import prove_each_is_a_warning

STATE = "known_billing_accounts.json"


def secret_name(gcp: LocalGcp) -> str:
    """Return the secret's resource name."""
    return f"projects/{gcp.project}/secrets/{NOTIFY_SECRET}"


def stored(gcp: LocalGcp, name: str) -> str:
    """Return an object of the state bucket."""
    return str(gcp.read_object(name, gcp.deployment.state_bucket))


def test_manual_step_is_sent_and_published_and_closed_when_done() -> None:
    """An account without an export opens a message and appears on the page; enabling the export closes it."""
    with local_gcp(done=2) as gcp, receiving() as receiver:
        gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
        gcp.world.secrets[NOTIFY_SECRET] = [f"{receiver.url}/services/{WEBHOOK_PATH}"]
        lines, settings = Lines(), cast("dict[str, Any]", {"NOTIFY_URL": secret_name(gcp), "PUBLISH_PAGE": "1"})
        first = run(gcp, sink=lines, **settings)
        (account,) = {one["scope"] for one in first.report["manual"]}
        kinds = [one["type"].split(".")[3:5] for one in receiver.documents()]
        assert ["manual", "opened"] in kinds
        # It is the 23rd: the data that enabling the export today would still backfill is lost in a week.
        assert ["expiry", "opened"] in kinds
        assert account in json.dumps(receiver.documents())
        state = parse(stored(gcp, STATE).encode(), "gcp", gcp.clock.now())
        assert overview(state, (), gcp.clock.now())["must_do"]
        page = stored(gcp, "status.html")
        assert account in page
        sent = len(receiver.got)
        gcp.advance(3600)
        run(gcp, sink=lines, **settings)
        assert len(receiver.got) == sent
        gcp.console_step(account)
        gcp.advance(3600)
        assert run(gcp, sink=lines, verify_all=True, **settings).report["manual"] == []
        assert {tuple(one["type"].split(".")[3:5]) for one in receiver.documents()[sent:]} >= {("manual", "closed")}
        everything = lines.text() + json.dumps(first.report) + page + stored(gcp, STATE)
        assert "aVerySecretPart99" not in everything


def test_rotated_webhook_is_read_again_and_dry_run_sends_nothing(gcp: LocalGcp) -> None:
    """After the old webhook answers 404, the run reads the newest version of the secret."""
    with receiving() as former, receiving() as receiver:
        gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
        gcp.world.secrets[NOTIFY_SECRET] = [former.url]
        settings: dict[str, Any] = {"NOTIFY_URL": secret_name(gcp), "NOTIFY_DIGEST": "weekly"}
        run(gcp, dry_run=True, **settings)
        assert former.got == []
        run(gcp, **settings)
        assert [one["data"]["title"] for one in former.documents()] == ["GCP: week 2026-W48"]
        former.status = 404
        gcp.world.secrets[NOTIFY_SECRET].append(receiver.url)
        gcp.advance(7 * 24 * 3600)
        run(gcp, **settings)
        assert "GCP: week 2026-W49" in [one["data"]["title"] for one in receiver.documents()]


def test_denied_read_of_the_secret_is_a_warning() -> None:
    """The run continues, and the warning names the setting and the missing role."""
    with local_gcp(done=2) as gcp:
        gcp.world.secrets[NOTIFY_SECRET] = ["https://example.com/x"]
        lines = Lines()
        run(gcp, sink=lines, NOTIFY_URL=secret_name(gcp))
        (failed,) = [fields for _, event, fields in lines.lines if event == "notify-failed"]
        assert "NOTIFY_URL" in failed["reason"]


def test_invalid_response_of_secret_manager_is_a_warning(gcp: LocalGcp) -> None:
    """The run succeeds, sends no message and does not log the content."""
    gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
    with receiving() as receiver:
        gcp.world.secrets[NOTIFY_SECRET] = [receiver.url]
        for content in (b"", b"[1]", b"{}", b'{"name": "n", "payload": {"data": 1}}', b'{"data": "canary'):
            gcp.delete_objects(gcp.deployment.state_bucket)
            gcp.world.faults.restore()
            corruption = gcp.world.faults.corrupt("secretmanager.projects.secrets.versions.access", content)
            lines = Lines()
            finished = run(gcp, sink=lines, COPY="off", NOTIFY_URL=secret_name(gcp), NOTIFY_DIGEST="weekly")
            assert finished.report["status"] == "ok"
            assert "notify-failed" in [event for _, event, _ in lines.lines], content
            assert corruption.hits > 0, content
            assert "canary" not in json.dumps(finished.report) + lines.text()
        assert receiver.got == []


def test_every_failure_of_secret_and_receiver_is_a_warning(gcp: LocalGcp) -> None:
    """One warm instance goes through all of them and recovers without a restart."""
    gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
    settings, lines = settings_of(gcp, NOTIFY_URL=secret_name(gcp)), Lines()
    context = RunContext("gcp", settings.engine, lines, gcp.clock, 900, RATES, translate, seed=1)

    def store(text: str | None) -> None:
        gcp.world.secrets.setdefault(NOTIFY_SECRET, []).append(text)

    with closing(Clients(settings)) as clients:
        reader = WebhookSecret(settings, clients, context)
        prove_each_is_a_warning(reader.read, store, context, lines)
        for versions in ((None,), ()):
            gcp.world.secrets[NOTIFY_SECRET] = list(versions)
            with pytest.raises(Permanent, match="cannot be read"):
                reader.read(again=True)


def test_binary_secret_is_refused() -> None:
    """A file in UTF-16, for example."""
    with pytest.raises(Permanent, match="binary"):
        _text_of(base64.b64encode(b"\xff\xfeh\x00").decode())
