"""Messages and the page of the GCP function: from the secret in Secret Manager to the webhook, over HTTP."""

from __future__ import annotations

import json
from typing import Any, cast

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import NOTIFY_SECRET
from shared.monitor.overview import overview
from shared.state.decoding import parse
from tests.gcp_function.support import Lines, local_gcp, run
from tests.shared.notify.receiver import receiving

CANARY = "T0CANARY00/aVerySecretPart99"
STATE = "known_billing_accounts.json"


def named(gcp: LocalGcp) -> str:
    """Return the secret's resource name."""
    return f"projects/{gcp.project}/secrets/{NOTIFY_SECRET}"


def stored(gcp: LocalGcp, name: str) -> str:
    """Return an object of the state's bucket."""
    return str(gcp.read_object(name, gcp.deployment.state_bucket))


def test_what_a_person_must_do_is_said_shown_and_closed_again() -> None:
    """An account without its console step: message, page, status; after the step the message that it is over."""
    with local_gcp(done=2) as gcp, receiving() as receiver:
        gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
        gcp.world.secrets[NOTIFY_SECRET] = [f"{receiver.url}/services/{CANARY}"]
        lines, settings = Lines(), cast("dict[str, Any]", {"NOTIFY_URL": named(gcp), "PUBLISH_PAGE": "1"})
        first = run(gcp, sink=lines, **settings)
        (account,) = {one["scope"] for one in first.report["manual"]}
        kinds = [one["type"].split(".")[3:5] for one in receiver.documents()]
        assert ["manual", "opened"] in kinds
        # It is the 23rd of the month: what the first enabling still brings is lost in a week.
        assert ["expiry", "opened"] in kinds
        assert account in json.dumps(receiver.documents())
        state = parse(stored(gcp, STATE).encode(), "gcp", gcp.clock.now())
        assert overview(state, (), gcp.clock.now())["must_do"]
        page = stored(gcp, "status.html")
        assert account in page
        said = len(receiver.got)
        gcp.advance(3600)
        run(gcp, sink=lines, **settings)
        assert len(receiver.got) == said
        gcp.console_step(account)
        gcp.advance(3600)
        assert run(gcp, sink=lines, verify_all=True, **settings).report["manual"] == []
        assert {tuple(one["type"].split(".")[3:5]) for one in receiver.documents()[said:]} >= {("manual", "closed")}
        everything = lines.text() + json.dumps(first.report) + page + stored(gcp, STATE)
        assert "aVerySecretPart99" not in everything


def test_a_rotated_secret_is_read_again_and_no_dry_run_sends(gcp: LocalGcp) -> None:
    """The webhook was replaced: its former address answers 404, the newest version of the secret has the new one."""
    with receiving() as former, receiving() as receiver:
        gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
        gcp.world.secrets[NOTIFY_SECRET] = [former.url]
        settings: dict[str, Any] = {"NOTIFY_URL": named(gcp), "NOTIFY_DIGEST": "weekly"}
        run(gcp, dry_run=True, **settings)
        assert former.got == []
        run(gcp, **settings)
        assert [one["data"]["title"] for one in former.documents()] == ["GCP: week 2026-W48"]
        former.status = 404
        gcp.world.secrets[NOTIFY_SECRET].append(receiver.url)
        gcp.advance(7 * 24 * 3600)
        run(gcp, **settings)
        assert "GCP: week 2026-W49" in [one["data"]["title"] for one in receiver.documents()]


def test_a_secret_that_may_not_be_read_is_a_warning() -> None:
    """Without the grant the run goes on; the reason says what to apply."""
    with local_gcp(done=2) as gcp:
        gcp.world.secrets[NOTIFY_SECRET] = ["https://example.com/x"]
        lines = Lines()
        run(gcp, sink=lines, NOTIFY_URL=named(gcp))
        (failed,) = [fields for _, event, fields in lines.lines if event == "notify-failed"]
        assert "NOTIFY_URL" in failed["reason"]


def test_an_invalid_response_of_secret_manager_is_a_warning(gcp: LocalGcp) -> None:
    """Whatever answers in its place, the run succeeds and no message is sent."""
    gcp.iam.grant(gcp.deployment.identity, "secretmanager.versions.access", f"projects/{gcp.project}", at_once=True)
    with receiving() as receiver:
        gcp.world.secrets[NOTIFY_SECRET] = [receiver.url]
        for content in (b"", b"[1]", b"{}", b'{"name": "n", "payload": {"data": 1}}', b'{"data": "canary'):
            gcp.delete_objects(gcp.deployment.state_bucket)
            gcp.world.faults.restore()
            corruption = gcp.world.faults.spoil("secretmanager.projects.secrets.versions.access", content)
            lines = Lines()
            finished = run(gcp, sink=lines, COPY="off", NOTIFY_URL=named(gcp), NOTIFY_DIGEST="weekly")
            assert finished.report["status"] == "ok"
            assert "notify-failed" in [event for _, event, _ in lines.lines], content
            assert corruption.hits > 0, content
            assert "canary" not in json.dumps(finished.report) + lines.text()
        assert receiver.got == []
