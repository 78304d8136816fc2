"""Tenants of Google Cloud that are wrong, hostile, or change during a round."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gcp_function.clients import TIMEOUT_S
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.control.tenants import REGISTRY
from localcloud.gcp.errors import GoogleError
from tests.gcp_function.fleet import FleetFunction, fleet

FEW = {"history_days": 1, "rows": 1, "accounts": 1, "kinds": ("standard", "detailed", "pricing", "focus")}
SECONDS = 300  # of an invocation, unless set
TOKEN = "iamcredentials.projects.serviceAccounts.generateAccessToken"


@pytest.fixture
def cloud() -> Iterator[LocalGcp]:
    """Return a local cloud without billing accounts of the deployment itself."""
    with fleet() as opened:
        yield opened


def extracts(cloud: LocalGcp, tenant: str) -> int:
    """Return how many extract jobs ran in a tenant's project."""
    return len([one for one in cloud.world.jobs.of(f"{tenant}-exports") if one.kind == "extract"])


def writes(cloud: LocalGcp, tenant: str) -> list[str]:
    """Return the calls that wrote something in a tenant's project."""
    verbs = (".insert", ".patch", ".update", ".delete", ".compose", ".rewrite")
    return [
        call.method
        for call in cloud.calls.select()
        if call.method.endswith(verbs) and call.status < 400 and f"{tenant}-exports" in call.path
    ]


def test_entry_revoked_in_the_middle_of_a_run_ends_with_the_round_after(cloud: LocalGcp) -> None:
    """Google's token outlives the grant: the run in progress ends well, and the next one touches nothing."""
    function = FleetFunction(cloud, {"acme": FEW, "bolt": FEW})
    revoked: list[int] = []
    cloud.faults.before("bigquery.jobs.insert", lambda: revoked.append(cloud.refuse_entry("acme")), path="*/acme-*")
    first = function.round()
    assert revoked == [1]
    assert {row["tenant"]: row["run_complete"] for row in first["rows"]} == {"acme": True, "bolt": True}
    assert extracts(cloud, "acme") == extracts(cloud, "bolt") > 0
    cloud.advance(3600)
    cloud.clear_calls()
    second = function.round()
    assert function.statuses()["acme"] == "unreachable"
    assert second["tenants"]["unreachable"] == 1
    assert {one.method for one in cloud.calls.select() if "acme-exports" in one.path} == {TOKEN}


def test_account_of_one_tenant_at_another_one_writes_nothing(cloud: LocalGcp) -> None:
    """An entry names the service account of A and the project of B: B's own policies refuse it."""
    function = FleetFunction(cloud, {"acme": FEW, "bolt": FEW})
    mixed = {**function.entries.pop("bolt"), "entry": dict(function.entries.pop("acme")["entry"])}
    function.entries["bolt"] = mixed
    function.register()
    cloud.clear_calls()
    (row,) = function.round()["rows"]
    assert row["status"] == "failed"
    assert row["failures"]
    assert all(one["remedy"] for one in row["failures"])
    assert writes(cloud, "bolt") == writes(cloud, "acme") == []
    assert (extracts(cloud, "bolt"), extracts(cloud, "acme")) == (0, 0)


def test_another_service_account_of_the_same_tenant_continues_its_state(cloud: LocalGcp) -> None:
    """No token of the earlier one is used any more, though it is valid for most of an hour; no copy is repeated."""
    function = FleetFunction(cloud, {"acme": FEW})
    function.round()
    copied = extracts(cloud, "acme")
    new = function.entries["acme"]["entry"]["service_account"] = cloud.replace_account("acme", "second")
    function.register()
    cloud.advance(600)
    cloud.clear_calls()
    (row,) = function.round()["rows"]
    assert (row["status"], row["run_complete"]) == ("ok", True)
    assert extracts(cloud, "acme") == copied > 0
    assert {one.identity for one in cloud.calls.select()} == {new, cloud.deployment.identity}


def test_dataset_of_a_tenant_in_another_location_is_used_and_reported(cloud: LocalGcp) -> None:
    """Its copies are made where the dataset is; the row of the others does not change."""
    function = FleetFunction(cloud, {"acme": FEW, "bolt": FEW})
    function.entries["acme"]["destination"]["location"] = "EU"
    function.register()
    function.round()
    report = function.newest_report("acme")
    (step,) = [one for one in report["manual"] if "location" in one["what"].lower()]
    assert step["steps"]
    assert extracts(cloud, "acme") == extracts(cloud, "bolt") > 0
    assert function.statuses()["bolt"] == "ok"


def test_registry_of_50_mb_begins_no_round(cloud: LocalGcp) -> None:
    """It is refused by its size, without being read whole, and nothing is enqueued or run."""
    function = FleetFunction(cloud, {"acme": FEW})
    cloud.put_object(REGISTRY, " " * 50_000_000, cloud.deployment.registry_bucket)
    for payload in ({"round": {"step": "begin"}}, {"tenant": "acme"}):
        status, document = function.call(payload)
        assert status == 500
        assert "the registry has 50000000 bytes, more than 8388608" in str(document)
    assert not cloud.world.tasks.queue(cloud.deployment.tenants_queue).tasks
    assert cloud.calls.count(TOKEN) == 0


def test_hostile_tenants_are_rows_and_change_no_other(cloud: LocalGcp) -> None:
    """One answers 429 to everything, one never answers in time: the queue is never slowed down by them.

    Their targets are deferred, and overdue after some rounds.
    """
    tenants = ("acme", "bolt", "coal")
    function = FleetFunction(cloud, dict.fromkeys(tenants, FEW))
    cloud.faults.latency_all(0.25)
    function.round()
    cloud.advance(3600)
    usual = {row["tenant"]: row["duration_s"] for row in function.round()["rows"]}
    cloud.advance(3600)

    def hang() -> None:
        cloud.clock.wait_until(cloud.clock.monotonic() + TIMEOUT_S)
        raise GoogleError(503, "backendError", "no answer in time")

    for service in ("bigquery.*", "storage.*", "cloudresourcemanager.*"):
        cloud.faults.add(service, 429, "rateLimitExceeded", times=None, path="*bolt-exports*", retry_after=3600)
        cloud.faults.before(service, hang, times=None, path="*coal-exports*")
    function.sent.clear()
    rows: dict[str, Any] = {}
    for _ in range(8):
        report = function.round()
        rows = {row["tenant"]: row for row in report["rows"]}
        assert rows["acme"]["status"] == "ok"
        assert 0 < rows["acme"]["duration_s"] <= usual["acme"] + 1  # times are whole seconds
        for one in ("bolt", "coal"):
            assert rows[one]["scopes"]["covered"] == 0
            assert rows[one]["duration_s"] <= rows[one]["invocations"] * SECONDS
        assert report["tenants"]["not_run"] == 0
        if "ok" not in {rows[one]["status"] for one in ("bolt", "coal")}:
            break
        cloud.advance(3600)
    assert [rows[one]["status"] for one in ("bolt", "coal")] == ["degraded", "degraded"]
    assert all(failure["remedy"] for one in ("bolt", "coal") for failure in rows[one]["failures"])
    assert all(rows[one]["failures"] for one in ("bolt", "coal"))
    assert {status for _, status in function.sent} == {200}  # 429 or 503 would make Cloud Tasks slow down
