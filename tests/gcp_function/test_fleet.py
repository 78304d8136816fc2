"""Rounds of tenants: named tasks, rows, continued and killed runs, refused entries, and whose credentials are used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from gcp_function.handler import run_once
from gcp_function.resources.objects import Objects
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import NOTIFY_SECRET
from shared.request import RunRequest
from tests.gcp_function.fleet import SCHEDULED, FleetFunction, Killed, fleet
from tests.gcp_function.support import Lines
from tests.shared.notify.receiver import receiving

FEW = {"history_days": 1, "rows": 1, "kinds": ("standard", "detailed", "pricing", "focus")}


@pytest.fixture
def cloud() -> Iterator[LocalGcp]:
    """Return a local cloud without billing accounts of the deployment itself."""
    with fleet() as opened:
        yield opened


@pytest.fixture
def function(cloud: LocalGcp) -> FleetFunction:
    """Return a deployment with two tenants."""
    return FleetFunction(cloud, {"acme": FEW, "bolt": FEW})


def test_a_round_runs_each_tenant_once_and_ends_with_a_report(function: FleetFunction) -> None:
    """One task for each tenant and one for the end; rows and reports are the deployment's."""
    begun = function.begin()
    assert (begun["tenants"], begun["enqueued"]) == (["acme", "bolt"], 2)
    function.drain()
    report = function.report(begun["round"])
    assert report["tenants"]["total"] == 2, report
    assert {row["tenant"]: row["run_complete"] for row in report["rows"]} == {"acme": True, "bolt": True}
    assert [status for _, status in function.sent] == [200] * len(function.sent)
    assert function.runs("acme") == function.runs("bolt") == 1
    names = function.cloud.objects(function.cloud.deployment.state_bucket)
    assert "tenants/acme/known_billing_accounts.json" in names
    assert not [one for one in function.cloud.objects("tailpipe-billing-export-acme-exports") if one.startswith("r")]
    assert {one.split("/")[0] for one in function.cloud.objects("tailpipe-billing-export-acme-exports")}


def test_credentials_of_one_tenant_never_serve_another(function: FleetFunction) -> None:
    """Each call in a tenant's project is made as its own account; the deployment's own account makes all others."""
    function.cloud.clear_calls()
    report = function.round()
    assert report["tenants"]["not_run"] == 0
    home, own = function.cloud.deployment, function.cloud.deployment.identity
    seen: set[tuple[str, str]] = set()
    for call in function.cloud.calls.select():
        for _, resource in call.rights:
            for tenant in ("acme", "bolt"):
                if f"{tenant}-exports" in resource and "serviceAccounts" not in resource:
                    seen.add((tenant, call.identity))
            if home.state_bucket in resource or home.registry_bucket in resource:
                assert call.identity == own
    assert seen == {
        (tenant, f"tailpipe-function@{tenant}-exports.iam.gserviceaccount.com") for tenant in ("acme", "bolt")
    }
    tokens = function.cloud.calls.select("iamcredentials.projects.serviceAccounts.generateAccessToken")
    assert [one.identity for one in tokens] == [own, own]


def test_a_repeated_call_of_the_schedule_begins_the_same_round(function: FleetFunction) -> None:
    """Cloud Scheduler retries with the same time; a begin that was killed half way enqueues only what is missing."""
    first = function.begin(SCHEDULED)
    tasks = function.cloud.world.tasks.queue(function.cloud.deployment.tenants_queue).tasks
    lost = next(name for name in tasks if "bolt" in name)
    function.cloud.world.tasks.remove(tasks[lost])
    del function.cloud.world.tasks.names[lost]
    again = function.begin(SCHEDULED)
    assert (again["round"], again["enqueued"]) == (first["round"], 1)
    function.drain()
    assert function.begin(SCHEDULED)["enqueued"] == 0
    assert function.runs("acme") == function.runs("bolt") == 1
    assert function.begin("2026-11-23T10:00:00Z")["round"] != first["round"]


def test_a_tenant_that_is_not_done_is_continued_until_its_share_is_used(
    function: FleetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each continuation is a task of its own, never an error response; the round's share ends it."""
    real = run_once

    def cut_short(asked: RunRequest, *given: Any, **more: Any) -> Any:
        done = real(asked, *given, **more)
        if asked.tenant == "acme":
            done.summary["run_complete"] = False
        return done

    monkeypatch.setattr("gcp_function.handler.run_once", cut_short)
    report = function.round()
    rows = {row["tenant"]: row for row in report["rows"]}
    assert (rows["acme"]["invocations"], rows["acme"]["again"]) == (4, False)
    assert rows["bolt"]["invocations"] == 1
    assert {status for _, status in function.sent} == {200}


def test_a_killed_run_is_resumed_without_a_second_write(
    function: FleetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue repeats a task without an answer; as long as the dead run's lock lasts, the answer is 409."""
    real, kills = Objects.write, ["the first manifest"]

    def write(objects: Objects, name: str, *given: Any, **more: Any) -> int:
        if name.endswith("manifest.json") and kills:
            kills.clear()
            raise Killed
        return real(objects, name, *given, **more)

    monkeypatch.setattr(Objects, "write", write)
    report = function.round()
    assert report["tenants"]["not_run"] == 0
    statuses = [status for payload, status in function.sent if "tenant" in payload]
    assert (statuses.count(None), statuses.count(200)) == (1, 2)
    assert set(statuses) <= {None, 409, 200}
    for tenant in ("acme", "bolt"):
        jobs = [one for one in function.cloud.world.jobs.of(f"{tenant}-exports") if one.kind == "extract"]
        copies = function.cloud.objects(f"tailpipe-billing-export-{tenant}-exports")
        assert len(jobs) == sum(one.endswith("manifest.json") for one in copies) > 0


def test_a_refused_entry_is_an_unreachable_row_and_touches_nothing(function: FleetFunction) -> None:
    """The tenant has taken the grant away: the others are unaffected, and the row says what to do."""
    assert function.cloud.refuse_entry("acme") == 1
    function.cloud.clear_calls()
    report = function.round()
    (acme,) = [row for row in report["rows"] if row["tenant"] == "acme"]
    assert acme["status"] == "unreachable"
    assert acme["failures"][0]["code"] == "tenant-unreachable"
    assert "serviceAccountTokenCreator" in acme["failures"][0]["remedy"]
    assert report["tenants"]["unreachable"] == 1
    assert {status for _, status in function.sent} == {200}  # a dead tenant never slows the queue
    touched = [one for one in function.cloud.calls.select() if any("acme-exports" in where for _, where in one.rights)]
    assert {one.method for one in touched} == {"iamcredentials.projects.serviceAccounts.generateAccessToken"}


def test_tasks_delivered_twice_late_or_never_do_no_harm(function: FleetFunction) -> None:
    """A second delivery runs nothing, one after the round's end neither, and a lost one is `not_run` in its report."""
    function.cloud.task_faults(copies=2)
    report = function.round()
    assert report["tenants"]["not_run"] == 0
    assert function.runs("acme") == function.runs("bolt") == 1
    function.cloud.advance(3600)
    begun = function.begin(f"{function.cloud.clock.now():%Y-%m-%dT%H:%M:%SZ}", late=4000)
    assert begun["enqueued"] == 2
    function.drain(9000)
    assert function.runs("acme") == 1
    assert {"tenant": "acme", "round": begun["round"], "skipped": "the round is over"} in function.answers
    assert function.report(begun["round"])["tenants"]["not_run"] == 2
    function.cloud.task_faults()
    assert function.round()["tenants"]["not_run"] == 0


def test_requests_without_a_queue_or_a_registry_are_refused(cloud: LocalGcp) -> None:
    """The answer names what is missing; the function's own runs need neither."""
    function = FleetFunction(cloud, {})
    del (
        function.environment["TENANTS_QUEUE"],
        function.environment["TENANTS_CALLER"],
        function.environment["TENANTS_URL"],
    )
    status, document = function.call({"round": {"step": "begin"}})
    assert status == 400
    assert "fleet" in document["faults"][0]
    assert function.call({"tenant": "nobody"})[0] == 400
    cloud.delete_objects(cloud.deployment.registry_bucket)
    assert "no tenant registry" in function.call({"tenant": "acme"})[1]["faults"][0]


def test_a_tenant_may_not_be_the_deployment_itself(cloud: LocalGcp) -> None:
    """Its project is kept by the runs without a tenant."""
    function = FleetFunction(cloud, {"acme": FEW})
    function.entries["acme"]["destination"]["project"] = cloud.project
    function.register()
    report = function.round()
    assert [row["status"] for row in report["rows"]] == ["refused"]
    lines = Lines()
    with pytest.raises(Exception, match="problem"):
        run_once(RunRequest(tenant="acme"), function.environment, lines, cloud.clock)


def test_a_tenant_under_another_id_adopts_what_exists(function: FleetFunction) -> None:
    """Its copies are found by their manifests, and none is made a second time."""
    function.round()
    jobs = len([one for one in function.cloud.world.jobs.of("acme-exports") if one.kind == "extract"])
    function.cloud.advance(3600)
    function.entries["nova"] = {**function.entries.pop("acme"), "id": "nova"}
    function.register()
    report = function.round()
    assert {row["tenant"]: row["run_complete"] for row in report["rows"]} == {"bolt": True, "nova": True}
    assert len([one for one in function.cloud.world.jobs.of("acme-exports") if one.kind == "extract"]) == jobs > 0


def test_a_billing_account_of_two_entries_is_served_for_the_closer_one(cloud: LocalGcp) -> None:
    """An entry that names the account wins over one of its organization, and that over one that names nothing."""
    function = FleetFunction(cloud, {"acme": {**FEW, "accounts": 3}, "bolt": FEW, "coal": FEW})
    entries = function.entries
    first, second, third = cloud.accounts_of("acme")
    cloud.grant("roles/billing.viewer", f"billingAccounts/{second}", entries["coal"]["entry"]["service_account"])
    cloud.grant("roles/billing.viewer", f"billingAccounts/{first}", entries["bolt"]["entry"]["service_account"])
    for one in ("bolt", "coal"):
        del entries[one]["entry"]["organization"]
    entries["bolt"]["entry"]["billing_accounts"] = first
    function.register()
    function.round()
    served = {tenant: function.served(tenant) for tenant in entries}
    assert served["acme"] == {second, third}
    assert served["bolt"] == {first}
    assert served["coal"] == set(cloud.accounts_of("coal"))
    for tenant, account, other in (("acme", first, "bolt"), ("coal", second, "acme")):
        report = function.newest_report(tenant)
        (excluded,) = [one for one in report["excluded"] if one["reason"] == "other-tenant"]
        assert excluded["examples"] == [account]
        (action,) = [one for one in report["actions"] if one["scope"] == account]
        assert f"belongs to tenant {other}" in action["message"]
        assert "EXCLUDE_ACCOUNTS" in action["message"]
    entries["acme"]["settings"] = {"EXCLUDE_ACCOUNTS": first}
    function.register()
    cloud.advance(3600)
    function.round()
    assert not [one for one in function.newest_report("acme")["excluded"] if one["reason"] == "other-tenant"]


def test_the_state_of_another_organization_is_left_alone(function: FleetFunction) -> None:
    """An id that another organization had before: the run fails and writes nothing there."""
    function.round()
    function.cloud.advance(3600)
    name, bucket = "tenants/acme/known_billing_accounts.json", function.cloud.deployment.state_bucket
    before = function.cloud.read_object(name, bucket)
    function.entries = {"acme": {**function.entries["bolt"], "id": "acme"}}
    function.register()
    (row,) = function.round()["rows"]
    assert (row["status"], row["failures"][0]["code"]) == ("failed", "state-foreign")
    assert function.cloud.read_object(name, bucket) == before


def test_round_sends_one_message_about_the_tenants_that_changed(cloud: LocalGcp) -> None:
    """A tenant's run sends none, and a round without a change neither."""
    with receiving() as receiver:
        project = f"projects/{cloud.project}"
        cloud.iam.grant(cloud.deployment.identity, "secretmanager.versions.access", project, at_once=True)
        cloud.world.secrets[NOTIFY_SECRET] = [f"{receiver.url}/services/secret-part"]
        function = FleetFunction(cloud, {"acme": FEW, "gone": FEW})
        function.environment["NOTIFY_URL"] = f"{project}/secrets/{NOTIFY_SECRET}"
        cloud.refuse_entry("gone")
        for _ in range(2):
            function.round()
            cloud.advance(3600)
        assert receiver.titles() == ["GCP: 1 tenant changed: 1 unreachable"]
