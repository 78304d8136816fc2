"""State documents that released versions stored, read by this one.

`released/` holds what each version's own engine stored after three runs over five scopes: everything is created, then
three exports are deleted, and a person's step, a refusal and a missing permission keep them from being created again.
`running/` holds what it stored when its second run had begun: the lock of a function that was replaced while it ran.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import AnotherRun
from shared.model import Key
from shared.monitor.overview import overview
from shared.monitor.stored import read_reports
from shared.request import parse_request
from shared.state.decoding import parse
from shared.state.document import VERSION, dump
from shared.state.session import LEASE
from shared.state.store import STATE
from tests.shared.setting import Setting, actions

RELEASED = Path(__file__).with_name("released")
REPORTS = Path(__file__).with_name("reports")
RUNNING = Path(__file__).with_name("running")
VERSIONS = sorted(one.stem for one in RELEASED.glob("*.json"))
MISSING = ("s00001", "s00002", "s00003")


def stored(version: str) -> bytes:
    """Return the document of a released version."""
    return (RELEASED / f"{version}.json").read_bytes()


def upgraded(data: bytes, hours: float = 4) -> Setting:
    """Return a setting where everything exists, and where the former version's last run was two hours ago."""
    setting = Setting(5)
    setting.run()
    setting.store.documents.clear()
    setting.store.save(data, None)
    setting.clock.advance((hours - 1) * 3600)
    return setting


def test_every_released_version_has_its_document(repository: Path) -> None:
    """A release that stores other documents brings one; the headings of the changelog are the released versions."""
    lines = (repository / "CHANGELOG.md").read_text(encoding="utf-8").splitlines()
    headings = [line.split("]")[0].removeprefix("## [") for line in lines if line.startswith("## [")]
    assert sorted(set(headings) - {"Unreleased"}) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_document_of_a_released_version_is_read_completely(version: str) -> None:
    """Nothing counts as damaged, and nothing that it knows of a target is lost."""
    damages: list[str] = []
    setting = upgraded(stored(version))
    document = parse(stored(version), "memory", setting.clock.now(), {}, damages.append)
    assert damages == []
    before: dict[str, Any] = json.loads(stored(version))
    after: dict[str, Any] = json.loads(dump(document, setting.clock.now()))
    assert after["version"] == before["version"] == VERSION
    assert [one["run_id"] for one in after["runs"]] == [one["run_id"] for one in before["runs"]]
    for scope, record in before["scopes"].items():
        for name, entry in record["targets"].items():
            assert after["scopes"][scope]["targets"][name] == entry, (scope, name)


@pytest.mark.parametrize("version", VERSIONS)
def test_first_run_after_an_upgrade_writes_nothing_that_exists(version: str) -> None:
    """Also from a version before the last one: the cloud shows that all is there, whatever the document says."""
    setting = upgraded(stored(version))
    written = list(setting.world.written)
    done = setting.run()
    assert done.report["status"] == "ok"
    assert done.report["scopes"]["covered"] == done.report["scopes"]["active"] == 6
    assert setting.world.written == written
    assert [one.run_id for one in setting.memory().runs][:3] == [
        one["run_id"] for one in json.loads(stored(version))["runs"]
    ]


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_former_version_waited_for_still_waits(version: str) -> None:
    """An upgrade neither forgets a person's step or a refusal, nor tries at once what was refused an hour ago."""
    setting = upgraded(stored(version), hours=2.05)
    for scope in MISSING:
        del setting.world.things[Key(scope, "export", "daily")]
    before = {one: json.loads(stored(version))["scopes"][one]["targets"]["export/daily"] for one in MISSING}
    now = f"{setting.clock.now():%Y-%m-%dT%H:%M:%SZ}"
    done = setting.run(dry_run=True)
    assert done.plan is not None
    reasons = {one.key.scope: one.reason for one in done.plan.actions if one.key.name == "daily"}
    expected = {
        scope: entry["error"]["code"] if entry["not_before"] > now else "absent" for scope, entry in before.items()
    }
    assert {scope: reasons[scope] for scope in MISSING} == expected
    assert set(expected.values()) == {"console", "offer", "denied"}


@pytest.mark.parametrize("version", VERSIONS)
def test_deleted_export_is_created_after_an_upgrade(version: str) -> None:
    """One that the former version had seen is missing: it is created, and nothing else."""
    setting = upgraded(stored(version))
    lost = Key("s00004", "export", "daily")
    del setting.world.things[lost]
    done = setting.run()
    assert [one.key for one in actions(done, "CREATE")] == [lost]
    assert setting.covered()


@pytest.mark.parametrize("version", VERSIONS)
def test_function_that_is_replaced_in_a_run_is_waited_for_and_then_taken_over(version: str) -> None:
    """The lock of the former code counts until it expires. What its run had still created is kept."""
    setting = Setting(5)
    setting.run()
    setting.store.documents.clear()
    setting.store.save((RUNNING / f"{version}.json").read_bytes(), None)
    setting.clock.advance(60)
    written = list(setting.world.written)
    with pytest.raises(AnotherRun, match="20260105T010000Z-f4bea973"):
        setting.run_now(parse_request({}))
    setting.clock.advance(LEASE.total_seconds())
    late = setting.run_now(parse_request({}))
    assert late.report["status"] == "ok"
    assert late.report["scopes"]["covered"] == 6
    assert setting.world.written == written
    assert setting.memory().running is None


@pytest.mark.parametrize("version", VERSIONS)
def test_what_a_run_that_was_replaced_had_not_done_is_done(version: str) -> None:
    """Its plan is lost with it; the next run makes its own."""
    setting = Setting(5)
    setting.run()
    setting.store.documents.clear()
    setting.store.save((RUNNING / f"{version}.json").read_bytes(), None)
    lost = Key("s00002", "export", "daily")
    del setting.world.things[lost]
    setting.clock.advance(LEASE.total_seconds() + 60)
    assert [one.key for one in actions(setting.run(), "CREATE")] == [lost]
    assert setting.covered()


@pytest.mark.parametrize("version", VERSIONS)
def test_reports_of_a_released_version_are_shown(version: str) -> None:
    """Also those of 0.1.0, which do not list their actions."""
    setting = upgraded(stored(version))
    data = (REPORTS / f"{version}.json").read_bytes()
    run_id = json.loads(data)["run_id"]
    setting.store.put_report(run_id, data)
    setting.run()
    unreadable: list[str] = []
    ids = [one.run_id for one in setting.memory().runs]
    reports = read_reports(setting.store, [run_id, ids[-1]], lambda one, why: unreadable.append(f"{one}: {why}"))
    assert ([one.run_id for one in reports], unreadable) == ([run_id, ids[-1]], [])
    shown = overview(setting.memory(), reports, setting.clock.now())
    assert shown["runs"][0]["status"] == "ok"


def test_downgrade_to_an_older_format_is_refused() -> None:
    """The run says so and changes nothing, so that the newer function can be deployed again."""
    newer = json.dumps(json.loads(stored(VERSIONS[-1])) | {"version": VERSION + 1}).encode()
    setting = upgraded(newer)
    written = list(setting.world.written)
    done = setting.run()
    assert [one["code"] for one in done.report["failures"]] == ["state-newer"]
    assert setting.world.written == written
    assert setting.store.documents[STATE] == newer
