"""Each change of state sends one message, over whole runs of the engine; a run without changes sends none."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from shared.errors import NotApplicable, Permanent
from shared.model import Enumeration, Health, Key, ManualStep, Ownership, Present, Result, Scope, ScopeState
from shared.monitor.months import Reach
from shared.notify.changes import Wording, find_expiries
from shared.notify.delivery import Secret
from shared.notify.formats import Post
from shared.notify.webhook import Reply
from shared.publish import Publishing
from shared.runtime.clock import VirtualClock
from shared.state.document import ScopeRecord, fresh
from shared.state.notices import KEPT, Notice, Notices, merge_notices, owed, week_of
from shared.state.session import PAGE
from tests.shared.builders import DAY, START, enumeration, outcome
from tests.shared.setting import Setting, document

EXPORT = Key("s00001", "export", "daily")
URL = "https://hooks.example.com/services/T0CANARY00/SECRETtoken123456"


class Sent:
    """Replace the network: record posts and respond with `status`."""

    def __init__(self) -> None:
        self.posts: list[dict[str, Any]] = []
        self.status = 204

    def __call__(self, url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        assert url == URL
        assert 0 < timeout_s <= 10
        assert not local
        if self.status < 300:
            self.posts.append(document(post.body))
        return Reply(self.status)

    def take(self) -> list[str]:
        """Return the types and titles posted since the last call."""
        found = [
            f"{one['type'].split('.')[3]}.{one['type'].split('.')[4]} {one['data']['title']}" for one in self.posts
        ]
        self.posts.clear()
        return found


def watched(scopes: int = 3, **settings: Any) -> tuple[Setting, Sent]:
    """Return an engine that sends its messages to a list."""
    sent = Sent()
    publishing = Publishing(Wording("Memory", "scope", "scopes"), Reach(), Secret(lambda _: URL), sent)
    return Setting(scopes, publishing=publishing, **settings), sent


def test_failure_sends_one_message_when_it_opens_and_one_when_it_closes() -> None:
    """The runs in between send nothing, and neither does a run without failures."""
    setting, sent = watched()
    setting.run()
    assert sent.take() == []
    setting.world.faults["write", "*"] = Permanent("storage-firewall", "the firewall refuses it", "Open it.")
    del setting.world.things[EXPORT]
    setting.run()
    assert sent.take() == ["failure.opened Memory: scope scope s00001 (s00001) is failing: storage-firewall"]
    setting.run(verify_all=True)
    setting.run(verify_all=True)
    assert sent.take() == []
    setting.world.faults.clear()
    setting.run(verify_all=True)
    assert sent.take() == ["failure.closed Memory: scope scope s00001 (s00001) has recovered: storage-firewall"]
    setting.run()
    assert sent.take() == []


def test_message_contains_reason_remedy_and_runbook_link() -> None:
    """An operator can act on it without opening a report."""
    setting, sent = watched()
    setting.run()
    setting.world.faults["write", "*"] = Permanent("storage-firewall", "the firewall refuses it", "Open it.")
    del setting.world.things[EXPORT]
    setting.run()
    data = sent.posts[0]["data"]
    assert "the firewall refuses it" in data["lines"][0]
    assert data["lines"][1] == "Open it."
    assert (data["code"], data["count"], data["link"]) == (
        "storage-firewall",
        1,
        "docs/runbook.md#:~:text=storage-firewall",
    )
    assert sent.posts[0]["source"] == "/tailpipe-exports/memory/org-1"


def test_manual_step_sends_one_message_when_it_opens_and_one_when_it_closes() -> None:
    """The opening message contains the steps and the link."""
    setting, sent = watched()
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run()
    assert sent.posts[0]["data"]["link"] == "https://console.example/sharing"
    assert sent.posts[0]["data"]["lines"][1] == "Switch it on again."
    assert sent.take() == ["manual.opened Memory: scope scope s00001 (s00001) needs you: manual"]
    setting.world.things[EXPORT].health = Health.HEALTHY
    setting.run()
    assert sent.take() == ["manual.closed Memory: scope scope s00001 (s00001) no longer needs you: manual"]


def test_stopped_and_returned_deliveries_send_one_message_each() -> None:
    """Data is late once it exceeds the export's usual interval."""
    setting, sent = watched(1)
    setting.run()
    setting.world.deliver(setting.clock.now())
    for _ in range(6):
        setting.run(verify_all=True)
    setting.clock.advance(50 * 24 * 3600)
    setting.run(verify_all=True)
    assert sent.take() == ["data.stopped Memory: scope scope s00000 (s00000) stopped delivering data: data-late"]
    setting.world.deliver(setting.clock.now())
    setting.run(verify_all=True)
    assert sent.take() == ["data.returned Memory: scope scope s00000 (s00000) delivers data again: data-late"]


def test_different_failure_of_the_same_scope_is_not_a_recovery() -> None:
    """A new code for the same scope sends only the message about the new failure."""
    setting, sent = watched()
    setting.run()
    del setting.world.things[EXPORT]
    for code in ("first", "second"):
        setting.world.faults["write", "*"] = Permanent(code, "refused", "Look.")
        setting.run(verify_all=True)
    assert [one.rpartition(" ")[2] for one in sent.take()] == ["first", "second"]


@pytest.mark.slow
def test_ten_thousand_changes_are_one_message_with_counts_and_examples() -> None:
    """The size of the message and of the state does not depend on the number of changes."""
    setting, sent = watched(10_000)
    setting.world.faults["write", "*"] = Permanent("storage-firewall", "refused", "Open it.")
    setting.run()
    (post,) = sent.posts
    assert post["data"]["title"] == "Memory: 20,001 changes"
    assert post["data"]["lines"][0].startswith("10,001 scopes are failing: ")
    assert post["data"]["lines"][0].endswith(" and 9,996 more)")
    assert len(str(post)) < 4000
    state = setting.memory()
    assert state.notices is not None
    assert len(state.notices.box) <= KEPT


def test_many_kinds_of_changes_in_one_run_are_one_message() -> None:
    """Each kind is one line with its count and some of its scopes."""
    setting, sent = watched(6)
    setting.run()
    things = [setting.world.things[Key(f"s0000{number}", "export", "daily")] for number in range(3)]
    things[0].health, things[1].health, things[2].ownership = Health.MANUAL, Health.INACTIVE, Ownership.FOREIGN
    del setting.world.things[Key("s00003", "export", "daily")]
    setting.world.faults["write", "*"] = Permanent("storage-firewall", "refused", "Open it.")
    setting.run()
    (post,) = sent.posts
    assert post["type"] == "io.tailpipe.exports.changes.v1"
    assert post["data"]["lines"] == [
        "scope scope s00001 (s00001) is excluded: inactive",
        "scope scope s00003 (s00003) is failing: storage-firewall",
        "scope scope s00002 (s00002) needs you: foreign",
        "scope scope s00000 (s00000) needs you: manual",
    ]


def test_failed_delivery_is_retried_with_the_same_id_and_never_fails_the_run() -> None:
    """The run's status does not change. The message is counted as unsent, and the next run delivers it."""
    setting, sent = watched()
    setting.run()
    sent.status = 500
    setting.world.things[EXPORT].health = Health.MANUAL
    first = setting.run()
    assert first.report["status"] == "ok"
    assert {one.name: one.value for one in first.metrics}["messages_unsent"] == 1
    assert [line[2]["code"] for line in setting.events("notify-failed")] == ["notify-refused"]
    waiting = owed(setting.memory().notices)
    assert len(waiting) == 1
    setting.run()
    sent.status = 204
    setting.run()
    assert [one["id"] for one in sent.posts] == [waiting[0].id]
    assert owed(setting.memory().notices) == []


def test_dry_run_sends_and_stores_nothing() -> None:
    """The next real run sends the message."""
    setting, sent = watched()
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run(dry_run=True)
    assert sent.posts == []
    setting.run()
    assert len(sent.posts) == 1


def test_run_for_one_scope_does_not_close_what_is_open_in_others() -> None:
    """A run limited to one scope did not check the others."""
    setting, sent = watched()
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run()
    sent.take()
    setting.run(scopes=["s00002"])
    assert sent.take() == []
    setting.run(scopes=["nowhere", "s00002"])
    assert sent.take() == []


def test_removed_scope_closes_what_was_open() -> None:
    """Once an account no longer exists, its manual step is closed."""
    setting, sent = watched()
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run()
    sent.take()
    setting.world.remove("s00001")
    for _ in range(4):
        setting.run()
    assert [one.split()[0] for one in sent.take()] == ["manual.closed"]
    state = setting.memory()
    assert state.notices is not None
    assert state.notices.open == {}


def test_unsaved_state_sends_nothing() -> None:
    """Otherwise every run would send the same message again."""
    setting, sent = watched()
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL

    def fail() -> None:
        setting.store.before_save = full

    def full() -> None:
        setting.store.faults["save"] = Permanent("disk", "the disk is full")

    setting.store.before_save = fail  # the lock is taken, and nothing is saved afterwards
    assert "state-unsaved" in {one["code"] for one in setting.run().report["failures"]}
    assert sent.posts == []


def test_digest_is_sent_once_a_week() -> None:
    """The first run of each ISO week sends it, in addition to other messages."""
    setting, sent = watched(2, notify_digest=True)
    for _ in range(15):
        setting.world.deliver(setting.clock.now())
        setting.run()
        setting.clock.advance(23 * 3600)
    digests = [one for one in sent.posts if one["type"] == "io.tailpipe.exports.digest.v1"]
    assert [one["data"]["title"] for one in digests] == [
        "Memory: week 2026-W02",
        "Memory: week 2026-W03",
        "Memory: week 2026-W04",
    ]
    assert digests[1]["data"]["lines"][0] == "3 of 3 covered."
    assert digests[1]["data"]["lines"][-1] == "Last 7 runs: 7 ok."


def test_exclusion_sends_one_message_with_the_code_of_the_refusal() -> None:
    """The first run learns the code from the refusal, later runs from the state; both are the same exclusion."""
    setting, sent = watched()
    setting.run()
    setting.world.faults["write", "*"] = NotApplicable("no-such-table", "The table does not exist.")
    del setting.world.things[EXPORT]
    setting.run()
    assert sent.posts[0]["data"]["link"].endswith("no-such-table")
    assert sent.take() == ["exclusion.opened Memory: scope scope s00001 (s00001) is excluded: no-such-table"]
    setting.run()
    setting.run()
    assert sent.take() == []
    setting.world.faults.clear()
    setting.run(verify_all=True)
    assert sent.take() == ["exclusion.closed Memory: scope scope s00001 (s00001) is no longer excluded: no-such-table"]


def digests(sent: Sent) -> list[str]:
    """Return the titles of the digests sent since the last call."""
    return [one.partition(" Memory: ")[2] for one in sent.take() if " Memory: week " in one]


def test_week_without_a_run_gets_no_digest() -> None:
    """After a pause, one digest of the current week is sent. The very first run also sends one."""
    setting, sent = watched(2, notify_digest=True)
    setting.run()
    assert digests(sent) == ["week 2026-W02"]
    setting.clock.advance(22 * 24 * 3600)
    setting.run()
    setting.run()
    assert digests(sent) == ["week 2026-W05"]


def test_wrong_clock_repeats_and_suppresses_no_digest() -> None:
    """A clock that is weeks behind adds one digest. A clock that is years ahead does not suppress later digests."""
    setting, sent = watched(2, notify_digest=True)
    found: dict[str, list[str]] = {}
    for moment in ("2026-03-25", "2026-03-09", "2026-03-26", "2031-01-01", "2026-03-27", "2026-03-30", "2026-04-06"):
        setting.clock = VirtualClock(datetime.fromisoformat(f"{moment}T05:00:00+00:00"))
        assert setting.run().report["status"] == "ok", moment
        found[moment] = digests(sent)
    assert found == {
        "2026-03-25": ["week 2026-W13"],
        "2026-03-09": ["week 2026-W11"],
        "2026-03-26": [],
        "2031-01-01": ["week 2031-W01"],
        "2026-03-27": [],
        "2026-03-30": ["week 2026-W14"],
        "2026-04-06": ["week 2026-W15"],
    }


@pytest.mark.parametrize(
    ("moment", "week"),
    [
        ("2026-03-29T23:59:59+00:00", "2026-W13"),
        ("2026-03-30T00:00:00+00:00", "2026-W14"),
        ("2026-03-30T01:30:00+02:00", "2026-W13"),  # summer time began in Europe the day before
        ("2026-10-25T23:30:00-04:00", "2026-W44"),
        ("2026-12-31T23:59:59+00:00", "2026-W53"),
        ("2027-01-03T12:00:00+00:00", "2026-W53"),
        ("2027-01-04T00:00:00+00:00", "2027-W01"),
    ],
)
def test_week_begins_on_monday_in_utc(moment: str, week: str) -> None:
    """Neither the time zone nor daylight saving time matters."""
    assert week_of(datetime.fromisoformat(moment)) == week


@pytest.mark.parametrize("ends", [SystemExit(137), MemoryError(), None])
def test_run_that_dies_after_sending_repeats_its_messages_with_the_same_ids(ends: BaseException | None) -> None:
    """Delivery is at least once. With None, the run survives and its second save fails."""
    setting, sent = watched(2, notify_digest=True)
    setting.run()
    sent.posts.clear()
    setting.clock.advance(7 * 24 * 3600)
    setting.world.deliver(setting.clock.now())
    setting.world.things[EXPORT].health = Health.MANUAL

    def dies(url: str, post: Post, timeout_s: float, *, local: bool) -> Reply:
        reply = sent(url, post, timeout_s, local=local)
        if ends is not None:
            raise ends
        setting.store.faults["save"] = Permanent("disk", "the disk is full")
        return reply

    assert setting.publishing is not None
    whole, setting.publishing = setting.publishing, msgspec.structs.replace(setting.publishing, sender=dies)
    with suppress(SystemExit):
        setting.run()
    setting.store.faults.clear()
    first = [one["id"] for one in sent.posts]
    assert first
    setting.publishing = whole
    setting.run()
    everything = [one["id"] for one in sent.posts]
    assert everything[len(first) :][: len(first)] == first
    assert len(set(everything)) == 2
    setting.run()
    assert len(sent.posts) == len(everything)


def test_long_digest_counts_the_lines_it_omits() -> None:
    """It has the first lines, the number of omitted ones and the command that shows them, and the week's runs."""
    setting, sent = watched(20, notify_digest=True)
    setting.run()
    sent.posts.clear()
    for number in range(15):
        code = Permanent(f"code-{number:02d}", "refused", "Look.")
        setting.world.faults["write", f"s{number:05d}"] = code
        del setting.world.things[Key(f"s{number:05d}", "export", "daily")]
    setting.clock.advance(7 * 24 * 3600)
    setting.run(verify_all=True, force=True)
    (digest,) = [one for one in sent.posts if one["type"].endswith(".digest.v1")]
    lines = digest["data"]["lines"]
    assert len(lines) == 12
    assert lines[-2] == "6 more: see `tailpipe-exports status memory`."
    assert lines[-1].startswith("Last 1 runs: ")


@pytest.mark.parametrize("part", ["note", "page"])
def test_defect_while_publishing_fails_neither_the_save_nor_the_run(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The warning names the place of the defect and quotes nothing."""
    setting, _ = watched(publish_page=True)
    names = {
        "note": ("shared.publish.record_changes", "notify-failed"),
        "page": ("shared.monitor.page.render", "page-lost"),
    }
    name, event = names[part]

    def fail(*_: object, **__: object) -> None:
        raise KeyError(URL)

    monkeypatch.setattr(name, fail)
    assert setting.run().report["status"] == "ok"
    assert [line[2]["code"] for line in setting.events(event)] == ["internal-error"]
    assert len(setting.memory().runs) == 1
    assert "SECRETtoken" not in str(setting.lines)


def test_page_is_written_beside_the_state_after_each_run() -> None:
    """It includes the run that wrote it. A dry run writes no page; a failed write is a warning."""
    setting, _ = watched(3, publish_page=True)
    setting.run(dry_run=True)
    assert PAGE not in setting.store.documents
    setting.run()
    page = setting.store.documents[PAGE].decode()
    assert page.startswith("<!doctype html>")
    assert "4 of 4 covered." in page
    assert "s00002" in page
    setting.store.faults["put"] = Permanent("disk", "the disk is full")
    assert setting.run().report["status"] == "ok"
    assert [line[2]["code"] for line in setting.events("page-lost")] == ["disk"]


def test_published_page_shows_the_months_recorded_by_the_run() -> None:
    """The heat map comes from the ledger that the run saved."""
    setting, _ = watched(3, publish_page=True)
    setting.run()
    assert '"months":[]' in setting.store.documents[PAGE].decode()
    setting.world.deliver(setting.clock.now())
    setting.run()
    page = setting.store.documents[PAGE].decode()
    assert f'"{setting.clock.now():%Y-%m}"]' in page
    assert '------------1"]' in page


def test_page_is_not_written_by_default() -> None:
    """PUBLISH_PAGE is off by default."""
    setting, _ = watched()
    setting.run()
    assert PAGE not in setting.store.documents


def test_scope_name_is_sanitized() -> None:
    """Control characters, direction marks and line breaks are removed from a scope's name."""
    setting, sent = watched()
    setting.world.scopes["s00001"] = msgspec.structs.replace(
        setting.world.scopes["s00001"], name="<!channel>\n\u202eevil\x1b[31m"
    )
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run()
    title = sent.posts[0]["data"]["title"]
    assert title.isprintable()
    assert "<!channel> evil" in title


def test_expiry_within_two_weeks_is_reported_unless_repaired() -> None:
    """A target's end, a step's deadline and the last day to restore a closed scope are reported."""
    near, far = START + 10 * DAY, START + 30 * DAY
    ends = outcome(Result.FAILED, "s1", observation=Present(ends=near))
    repaired = outcome(Result.DONE, "s5", observation=Present(ends=near))
    later = outcome(Result.UNCHANGED, "s2", observation=Present(ends=far))
    unread = outcome(Result.UNCHANGED, "s3", observation=Present(verified=False))
    state = fresh("memory")
    state.scopes["s4"] = ScopeRecord(at=START, inactive_since=START - 80 * DAY)
    scopes = (Scope("s4", state=ScopeState.INACTIVE, reason="SUSPENDED", restorable=90 * DAY),)
    found, undecided = find_expiries(Enumeration("org", scopes), [ends, repaired, later, unread], state, START)
    assert {key: one.text for key, one in found.items()} == {
        ("expiry", "s1", "export-ends"): "export daily ends on 2026-01-15",
        ("expiry", "s4", "restorable"): "it is SUSPENDED and can be restored until 2026-01-15 only",
    }
    assert undecided == {("expiry", "s3", "export-ends")}


def test_expiry_message_contains_the_details_of_the_observation() -> None:
    """The details follow the date."""
    seen = Present(ends=START + DAY, detail="2019-11 can be requested before 2026-12-01 only")
    waits = outcome(Result.UNCHANGED, "s1", observation=seen)
    (found,) = find_expiries(enumeration("s1"), [waits], fresh("memory"), START)[0].values()
    assert found.text == "export daily ends on 2026-01-06: 2019-11 can be requested before 2026-12-01 only"


def test_manual_step_with_a_deadline_is_reported_before_it() -> None:
    """The message contains the deadline, the steps and the link."""
    step = ManualStep("it is off", ("Switch it on.",), "https://console.example", START + 3 * DAY)
    waiting = outcome(Result.MANUAL, code="console-step", manual_step=step)
    (found,) = find_expiries(enumeration("s1"), [waiting], fresh("memory"), START)[0].items()
    assert found[0] == ("expiry", "s1", "console-step")
    assert found[1].text == "it is off; do it before 2026-01-08, or data is lost permanently"
    assert (found[1].remedy, found[1].link) == ("Switch it on.", "https://console.example")
    assert find_expiries(enumeration("s1"), [waiting], fresh("memory"), START - 30 * DAY)[0] == {}


@pytest.mark.parametrize("sent_first", [True, False])
def test_merge_keeps_each_message_once_and_its_sent_time(sent_first: bool) -> None:
    """The result does not depend on the order or number of merges."""
    note = Notice("a", START, "failure.opened", "A")
    done = msgspec.structs.replace(note, sent_at=START + timedelta(minutes=1))
    one, other = Notices(START, {"failure x": ["s1"]}, [note]), Notices(START + DAY, {}, [done])
    pair = (one, other) if sent_first else (other, one)
    merged = merge_notices(*pair)
    assert merged == Notices(START + DAY, {}, [done])
    assert merge_notices(merged, one) == merged
    assert merge_notices(None, one) == one


def test_merge_keeps_the_later_week_of_a_digest() -> None:
    """Otherwise a week would get a second digest."""
    weeks = [Notices(START, digest="2026-W02"), Notices(START, digest="2026-W01")]
    for pair in (weeks, weeks[::-1]):
        merged = merge_notices(*pair)
        assert merged is not None
        assert merged.digest == "2026-W02"


def test_number_of_kept_messages_is_limited() -> None:
    """If a webhook never answers, the oldest messages are dropped and the state does not grow."""
    many = [Notice(f"{number:03d}", START + number * DAY, "x", "t") for number in range(60)]
    merged = merge_notices(Notices(START, {}, many[:40]), Notices(START, {}, many[30:]))
    assert merged is not None
    assert merged.box == many[-KEPT:]


def test_first_run_with_messages_enabled_reports_what_is_open() -> None:
    """Later runs report changes only."""
    setting, sent = watched()
    publishing, setting.publishing = setting.publishing, None
    setting.run()
    setting.world.things[EXPORT].health = Health.MANUAL
    setting.run()
    assert setting.memory().notices is None
    setting.publishing = publishing
    setting.run()
    assert [one.split()[0] for one in sent.take()] == ["manual.opened"]
    setting.run()
    assert sent.take() == []
