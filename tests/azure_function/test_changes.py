"""The light look: what it finds, what it costs, and that nothing is lost or done twice."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType

import msgspec
import pytest

from azure_function.invocation import look_once, run_once
from localcloud.azure.cloud import LocalAzure
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.azure_function.support import HOUR, WRITE, Lines, advance, live, run

LOOK_S = 300.0
GRAPH = "Microsoft.ResourceGraph/resources/read"
LOGS = "Microsoft.OperationalInsights/workspaces/query/read"


def look(
    cloud: LocalAzure, settings: Mapping[str, str] = MappingProxyType({}), lines: Lines | None = None
) -> RunResult | None:
    """Look once with the local cloud's settings, changed by `settings`."""
    return look_once({**cloud.environment(), **settings}, lines or Lines(), cloud.clock, seed=1)


def run_with(cloud: LocalAzure, settings: Mapping[str, str]) -> RunResult:
    """Run once with the local cloud's settings, changed by `settings`."""
    return run_once(RunRequest(), {**cloud.environment(), **settings}, Lines(), cloud.clock, None, seed=1)


def events_of(lines: Lines) -> list[str]:
    """Return the names of the events that were logged."""
    return [event for _, event, _ in lines.lines]


@pytest.fixture
def logged(covered: LocalAzure) -> dict[str, str]:
    """Return the settings of a tenant at rest whose activity log can be queried at once."""
    return {"ACTIVITY_LOG_WORKSPACE": covered.send_activity_log()}


def test_without_news_a_look_makes_two_calls_and_writes_nothing(covered: LocalAzure, logged: dict[str, str]) -> None:
    """One query of Resource Graph, one of the activity log, and the state is read: no run begins."""
    with covered.blob_client(covered.host_account.name) as client:
        container = client.get_container_client("tailpipe-state")
        before = {one.name: one.last_modified for one in container.list_blobs()}
        advance(covered, LOOK_S)
        assert look(covered, logged) is None
        assert covered.calls.by_action() == {GRAPH: 1, LOGS: 1}
        assert {one.name: one.last_modified for one in container.list_blobs()} == before


def test_without_a_workspace_a_look_makes_one_call(covered: LocalAzure) -> None:
    """The activity log is only read where the customer names its workspace."""
    assert look(covered) is None
    assert covered.calls.by_action() == {GRAPH: 1}


def test_a_new_subscription_is_covered_without_a_look_at_the_others(covered: LocalAzure) -> None:
    """The run reads and writes the exports of the new subscription alone, and does not count the others as gone."""
    new = covered.join_subscription("new")
    result = look(covered)
    assert result is not None
    assert (result.report["trigger"], result.report["status"]) == ("event", "ok")
    assert {one.resource.split("/")[2] for one in covered.calls.select("Microsoft.CostManagement/*")} == {new}
    assert live(covered, new)["schedule"]["status"] == "Active"
    advance(covered, LOOK_S)
    assert look(covered) is None
    assert run(covered, dry_run=True).report["scopes"]["active"] == 7


def test_a_deleted_export_is_created_again_by_its_event(covered: LocalAzure, logged: dict[str, str]) -> None:
    """Only the damaged subscription is read; the report says how long it took, and the next look finds nothing."""
    damaged = covered.subscription_ids[4]
    assert covered.delete_export(damaged) == 1
    advance(covered, 60)
    result = look(covered, logged)
    assert result is not None
    assert result.report["events"]["count"] == 1
    assert result.report["events"]["latency_s"] == pytest.approx(60, abs=5)
    assert len(covered.exports(damaged)) == 1
    assert {one.resource.split("/")[2] for one in covered.calls.select("Microsoft.CostManagement/*")} == {damaged}
    covered.calls.clear()
    advance(covered, LOOK_S)
    assert look(covered, logged) is None
    assert covered.calls.by_action() == {GRAPH: 1, LOGS: 1}


def test_an_altered_export_is_repaired_by_its_event(covered: LocalAzure, logged: dict[str, str]) -> None:
    """A write of somebody else leads to a read, and what has drifted is put right."""
    damaged = covered.subscription_ids[3]
    covered.set_schedule_inactive(damaged)
    assert look(covered, logged) is not None
    assert live(covered, damaged)["schedule"]["status"] == "Active"


def test_our_own_writes_do_not_wake_us(covered: LocalAzure, logged: dict[str, str]) -> None:
    """The exports that a run has just written are in the log as well, with the function as their caller."""
    covered.delete_export(covered.subscription_ids[1])
    advance(covered, 60)
    run(covered)
    written = [one for one in covered.world.activity.entries if one.caller == covered.principal]
    assert [one.operation for one in written][-1:] == [WRITE]
    lines = Lines()
    assert look(covered, logged, lines) is None
    assert events_of(lines) == []


def test_a_deleted_container_is_created_again_by_its_event(covered: LocalAzure, logged: dict[str, str]) -> None:
    """All exports rest on it, so everything is looked at, once."""
    covered.delete_container()
    advance(covered, 60)
    result = look(covered, logged)
    assert result is not None
    assert result.report["enumeration_complete"]
    advance(covered, LOOK_S)
    assert look(covered, logged) is None
    with covered.blob_client() as client:
        assert client.get_container_client("dataexport").exists()


def test_what_is_not_ours_does_not_wake_us(covered: LocalAzure, logged: dict[str, str]) -> None:
    """Exports of other names, other accounts, subscriptions that we do not know, failures: nothing is looked at."""
    log, now = covered.world.activity, covered.clock.now()
    own, account = covered.subscription_ids[0], covered.host_account.id
    exports = "providers/Microsoft.CostManagement/exports"
    name = f"TailpipeDataExport-{own[-6:]}"
    other = "00000000-0000-0000-0000-0000000000ff"
    for operation, resource, status in (
        ("Microsoft.CostManagement/exports/delete", f"/subscriptions/{own}/{exports}/finance", "Success"),
        ("Microsoft.CostManagement/exports/delete", f"/subscriptions/{other}/{exports}/{name}", "Success"),
        ("Microsoft.CostManagement/exports/delete", f"/subscriptions/{own}/{exports}/{name}", "Failure"),
        ("Microsoft.CostManagement/exports/run/action", f"/subscriptions/{own}/{exports}/{name}", "Success"),
        ("Microsoft.Storage/storageAccounts/delete", account, "Success"),
    ):
        log.add(now, operation, resource, "somebody@example.com", status)
    lines = Lines()
    assert look(covered, logged, lines) is None
    assert events_of(lines) == []


def test_a_refused_run_loses_no_event(covered: LocalAzure, logged: dict[str, str]) -> None:
    """Within a minute of the last such run, a look ends quietly; the next one heals."""
    damaged = covered.subscription_ids[2]
    covered.delete_export(covered.subscription_ids[1])
    assert look(covered, logged) is not None
    covered.delete_export(damaged)
    advance(covered, 20)
    lines = Lines()
    assert look(covered, logged, lines) is None
    assert "events-wait" in events_of(lines)
    assert covered.exports(damaged) == []
    advance(covered, LOOK_S)
    assert look(covered, logged) is not None
    assert len(covered.exports(damaged)) == 1


def test_a_source_that_cannot_be_read_does_not_stop_the_other(covered: LocalAzure, logged: dict[str, str]) -> None:
    """The log says which source is missing and why; what the other one says is acted on."""
    covered.fault(LOGS, "InsufficientAccessError", "no access", status=403, times=None)
    new, lines = covered.join_subscription("new"), Lines()
    assert look(covered, logged, lines) is not None
    assert len(covered.exports(new)) == 1
    (unread,) = [fields for _, event, fields in lines.lines if event == "events-unread"]
    assert "no access" in unread["reason"]
    covered.clear_faults()
    covered.fault(GRAPH, "InternalServerError", "broken", status=500, times=None)
    covered.delete_export(new)
    advance(covered, LOOK_S)
    assert look(covered, logged) is not None
    assert len(covered.exports(new)) == 1


@pytest.mark.parametrize("answer", [b"[]", b'{"data": 3}', b'{"data": [{"found": ["x"], "total": 2}]}', b"<html>"])
def test_an_answer_of_resource_graph_that_is_not_understood_says_nothing(covered: LocalAzure, answer: bytes) -> None:
    """No subscription is new, none is gone, and the log says why."""
    covered.faults.corrupt("POST *ResourceGraph*", answer, times=None)
    lines = Lines()
    assert look(covered, lines=lines) is None
    assert events_of(lines)[-1] == "events-unread"


@pytest.mark.parametrize(
    "rows",
    [
        [["x", "y", "z", "2026-11-02T09:00:00Z"]],
        [["microsoft.costmanagement/exports/delete", "SUBSCRIPTION", "/subscriptions/x", "soon"]],
        [["microsoft.costmanagement/exports/delete", "SUBSCRIPTION", "/subscriptions/x", "2036-11-02T09:00:00Z"]],
        [[None, None, None, None]],
    ],
)
def test_an_entry_that_is_not_understood_is_refused(
    covered: LocalAzure, logged: dict[str, str], rows: list[list[str]]
) -> None:
    """A malformed, an unknown and a future entry are dropped with a line in the log, and nothing is run."""
    subscription = covered.subscription_ids[0]
    filled = [[one.replace("SUBSCRIPTION", subscription) if one else one for one in row] for row in rows]
    columns = [{"name": one, "type": "string"} for one in ("operation", "subscription", "resource", "at")]
    body = msgspec.json.encode({"tables": [{"name": "PrimaryResult", "columns": columns, "rows": filled}]})
    covered.faults.corrupt("POST *OperationalInsights*", body, times=None)
    lines = Lines()
    assert look(covered, logged, lines) is None
    assert events_of(lines) == ["event-refused"]


def test_without_a_state_nothing_is_compared(azure: LocalAzure) -> None:
    """Before the first run every subscription would be new: that run is the schedule's or the operator's."""
    assert look(azure) is None
    assert azure.calls.count() == 0


def test_resource_graph_is_only_believed_where_resource_manager_agrees(covered: LocalAzure) -> None:
    """A subscription that Resource Graph shows as enabled hours after it was disabled leads to no run at any look."""
    covered.delay_resource_graph(10 * HOUR)
    covered.suspend_subscription(covered.subscription_ids[5])
    run(covered)
    for _ in range(2):
        covered.calls.clear()
        assert look(covered) is None
        assert covered.calls.by_action() == {GRAPH: 1, "Microsoft.Resources/subscriptions/read": 1}
        advance(covered, LOOK_S)


def test_a_suspended_subscription_is_noticed_and_comes_back(covered: LocalAzure) -> None:
    """A change of state is recorded for that subscription, once for each change."""
    changed = covered.subscription_ids[5]
    covered.suspend_subscription(changed)
    assert look(covered) is not None
    advance(covered, LOOK_S)
    assert look(covered) is None
    covered.resume_subscription(changed)
    result = look(covered)
    assert result is not None
    assert result.report["scopes"]["covered"] == 1


def test_a_vanished_subscription_is_left_to_the_complete_enumerations(covered: LocalAzure) -> None:
    """What is not listed may also not be readable: no look concludes anything, and only full runs count it."""
    covered.remove_subscription(covered.subscription_ids[5])
    assert look(covered) is None
    assert run(covered).report["status"] in ("ok", "degraded")


@pytest.mark.parametrize(
    "settings",
    [{"MANAGEMENT_GROUP": "sandbox"}, {"EXCLUDE_SUBSCRIPTIONS": "NEW"}, {"INCLUDE_SUBSCRIPTIONS": "OTHER"}],
)
def test_only_selected_subscriptions_are_news(azure: LocalAzure, settings: Mapping[str, str]) -> None:
    """A new subscription outside of the group or of the lists leads to no run."""
    new = azure.join_subscription("new", group="production")
    own = {name: value.replace("NEW", new) for name, value in settings.items()}
    own = {name: value.replace("OTHER", azure.subscription_ids[0]) for name, value in own.items()}
    azure.remove_subscription(new)
    run_with(azure, own)
    azure.join_subscription("new", group="production")
    assert look(azure, own) is None


@pytest.mark.parametrize("seed", range(3))
def test_events_lost_repeated_or_late_lead_to_the_same_world(azure: LocalAzure, seed: int) -> None:
    """After the schedule's runs every export is there as wanted, whatever became of the events."""
    rng = random.Random(seed)
    run(azure)
    azure.deliver()
    own = {"ACTIVITY_LOG_WORKSPACE": azure.send_activity_log()}
    azure.event_faults(spread_s=rng.uniform(0, 1200), loss=rng.choice((0, 0.5, 1)), copies=rng.randint(1, 3))
    for _ in range(3):
        for subscription in azure.subscription_ids:
            rng.choice((azure.delete_export, azure.set_schedule_inactive, str))(subscription)
        if rng.random() < 0.5:
            azure.join_subscription(f"new-{rng.random()}")
        for _ in range(3):
            advance(azure, LOOK_S)
            look(azure, own)
        run_with(azure, own)
    shapes = [live(azure, one)["schedule"]["status"] for one in azure.subscription_ids]
    assert set(shapes) == {"Active"}
    assert run(azure, dry_run=True).report["outcomes"].keys() == {"KEEP"}
