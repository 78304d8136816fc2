"""Settings that lose, hide or block exported data: the run detects and names each, and the account is not covered."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Any

import pytest
import requests

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from shared.model import Result, Verb
from tests.gcp_function.support import (
    DAY,
    HOUR,
    accounts,
    action,
    day_of,
    local_gcp,
    manifest,
    messages,
    outcome,
    run,
    verbs,
)
from tests.localcloud.gcp.conftest import Clients

pytestmark = pytest.mark.long

ONLY = {"EXPORTS": "standard", "COPY": "standard"}
KEY = "projects/p/locations/us/keyRings/r/cryptoKeys/k"


def scope_counts(finished: Any) -> dict[str, int]:
    """Return the report's scope counts."""
    counts: dict[str, int] = finished.report["scopes"]
    return counts


def expire(cloud: LocalGcp) -> None:
    """Expire new tables after 60 days, as the BigQuery sandbox does."""
    cloud.expire_tables(60)


def encrypt(cloud: LocalGcp) -> None:
    """Set a customer-managed key on the dataset; after that, no rows arrive."""
    cloud.encrypt_dataset(KEY)
    cloud.advance(3 * DAY)


def expire_copies(cloud: LocalGcp) -> None:
    """Add a lifecycle rule that deletes copies after five days."""
    cloud.set_lifecycle([{"action": {"type": "Delete"}, "condition": {"age": 5, "matchesSuffix": [".parquet"]}}])


@pytest.mark.parametrize(
    ("change", "kind", "code", "words", "undo"),
    [
        (expire, "expiration", "tables-expire", "bq update --default_table_expiration 0", "expire_tables"),
        (encrypt, "encryption", "customer-managed-key", "bq update --default_kms_key", "encrypt_dataset"),
        (lambda cloud: cloud.retain_objects(3), "object-policy", "retention-policy", "--clear-retention", "retain"),
        (lambda cloud: cloud.hold_objects(), "object-policy", "object-held", "--no-default-event-based-hold", "hold"),
        (expire_copies, "object-policy", "copies-are-deleted", "Remove the rule", "lifecycle"),
    ],
)
def test_setting_that_loses_or_blocks_data_is_reported_and_no_account_is_covered(
    covered: LocalGcp, change: Callable[[LocalGcp], None], kind: str, code: str, words: str, undo: str
) -> None:
    """A setting of the dataset or bucket becomes a manual step, and the accounts that depend on it are not covered."""
    change(covered)
    finished = run(covered)
    assert (action(finished, kind).verb, action(finished, kind).reason) == (Verb.MANUAL, code)
    assert words in messages(finished)
    assert scope_counts(finished)["covered"] == 0
    assert scope_counts(finished)["manual"] == scope_counts(finished)["active"] == 3
    undone: dict[str, Callable[[], object]] = {
        "expire_tables": lambda: covered.expire_tables(None),
        "encrypt_dataset": lambda: covered.encrypt_dataset(""),
        "retain": lambda: covered.retain_objects(0),
        "hold": lambda: covered.hold_objects(hold=False),
        "lifecycle": lambda: covered.world.buckets.find(covered.deployment.bucket).document.pop("lifecycle"),
    }
    undone[undo]()
    covered.stream(days=1, rows=2)
    assert action(run(covered), kind).verb is Verb.KEEP


def test_key_is_accepted_while_rows_arrive(covered: LocalGcp) -> None:
    """Recently delivered rows prove that Google can write with the dataset's key."""
    covered.encrypt_dataset(KEY)
    assert action(run(covered), "encryption").verb is Verb.KEEP


@pytest.mark.parametrize(("place", "verb"), [("europe-southwest1", Verb.MANUAL), ("europe-west1", Verb.KEEP)])
def test_region_without_billing_exports_is_reported(place: str, verb: Verb) -> None:
    """The console refuses exports to some regions; the manual step names the setting to change."""
    with local_gcp(accounts=1, done=0, history_days=0, location=place) as cloud:
        finished = run(cloud, DATASET_LOCATION=place)
        assert action(finished, "region").verb is verb
        if verb is Verb.MANUAL:
            assert action(finished, "region").reason == "unsupported-region"
            assert "Set DATASET_LOCATION to US or EU" in messages(finished)


def test_rows_hidden_by_an_access_policy_are_reported(gcp: LocalGcp) -> None:
    """If the catalog counts rows that queries do not return, the policy is reported and no copy counts as complete."""
    first, second, _ = accounts(gcp)
    gcp.protect_rows(first)
    finished = run(gcp, environment=ONLY)
    assert (action(finished, "export", first).verb, action(finished, "export", first).reason) == (
        Verb.MANUAL,
        "rows-hidden",
    )
    assert "FILTER USING (TRUE)" in messages(finished)
    copies = [one for one in finished.outcomes if one.key.kind == "copy" and one.key.scope == first]
    assert {one.result for one in copies if one.action.reason == "rows-hidden"} == {Result.SKIPPED}
    assert scope_counts(finished)["manual"] == 1
    assert gcp.copies(f"{first}/") == []
    assert gcp.copies(f"{second}/") != []
    gcp.unprotect_rows(first)
    gcp.advance(HOUR)
    assert run(gcp, environment=ONLY).report["status"] == "ok"
    assert gcp.copies(f"{first}/") != []


def test_hidden_rows_are_detected_without_copies(gcp: LocalGcp) -> None:
    """With copies off, the query for the newest rows detects the policy."""
    first = accounts(gcp)[0]
    gcp.protect_rows(first)
    assert action(run(gcp, EXPORTS="standard", COPY="off"), "export", first).reason == "rows-hidden"


def test_partly_hidden_rows_are_deferred_for_a_day_then_reported(gcp: LocalGcp) -> None:
    """The catalog may be ahead of the query: copies continue, and the manual step appears after one day."""
    first = accounts(gcp)[0]
    table = gcp.world.catalog.dataset(gcp.project, "billing_export").tables[
        f"gcp_billing_export_v1_{first.replace('-', '_')}"
    ]
    with gcp.world.warehouse._transaction() as database:
        database.execute("UPDATE partitions SET total_rows = total_rows + 1 WHERE _table = ?", [table.uid])
    finished = run(gcp, environment=ONLY)
    assert (action(finished, "export", first).verb, action(finished, "export", first).reason) == (
        Verb.DEFER,
        "rows-hidden",
    )
    assert outcome(finished, "copy", first, f"standard/{day_of(1)}").result is Result.DONE
    gcp.advance(DAY)
    assert action(run(gcp, environment=ONLY), "export", first).verb is Verb.MANUAL


@pytest.mark.parametrize("keep", [1, 0])
def test_partition_that_lost_rows_is_copied_again(covered: LocalGcp, keep: int) -> None:
    """The row count in the catalog shows the loss although the newest export_time is unchanged."""
    account, day = accounts(covered)[0], day_of(1)
    assert manifest(covered, account, day)["rows"] == 3
    covered.delete_rows(account, day, keep=keep)
    finished = run(covered)
    copy = action(finished, "copy", account, f"standard/{day}")
    if keep:
        assert (copy.verb, copy.reason) == (Verb.REPAIR, "partition-lost-rows")
        assert manifest(covered, account, day)["rows"] == keep
    else:
        # A partition without rows has nothing to copy: the last copy stays.
        assert copy.verb is Verb.KEEP
        assert manifest(covered, account, day)["rows"] == 3
    assert covered.calls.count("bigquery.jobs.insert") == (1 if keep else 0)


def test_older_partition_that_lost_rows_is_copied_again_when_verified() -> None:
    """Partitions before the window are compared when they are verified."""
    with local_gcp(accounts=1, done=1, history_days=40, rows=4, kinds=("standard",)) as cloud:
        account, old = accounts(cloud)[0], day_of(38)
        run(cloud, environment=ONLY)
        cloud.delete_rows(account, old, keep=1)
        cloud.advance(HOUR)
        run(cloud, environment=ONLY, verify_all=True)
        assert manifest(cloud, account, old)["rows"] == 1


def test_retained_copy_starts_no_job_and_reports_when_it_can_be_replaced(covered: LocalGcp) -> None:
    """A copy under a retention policy is replaced as soon as its retention ends."""
    account, day = accounts(covered)[0], day_of(1)
    covered.retain_objects(2)
    covered.late_data(account, day)
    finished = run(covered)
    refused = outcome(finished, "copy", account, f"standard/{day}")
    assert (refused.result, refused.code) == (Result.MANUAL, "retention-policy")
    assert "can be replaced from 2026-11-25" in messages(finished)
    assert covered.calls.count("bigquery.jobs.insert") == 0
    assert manifest(covered, account, day)["rows"] == 3
    covered.advance(2 * DAY)
    covered.stream(days=1, rows=2)
    run(covered)
    assert manifest(covered, account, day)["rows"] == 8


@pytest.mark.parametrize(
    ("protect", "code", "words"),
    [
        (lambda cloud, bucket: cloud.retain_objects(30, bucket), "retention-policy", "--clear-retention-period"),
        (lambda cloud, bucket: cloud.hold_objects(True, bucket), "object-held", "--no-event-based-hold"),
    ],
)
def test_protected_state_object_fails_the_run_with_a_manual_step(
    covered: LocalGcp, protect: Callable[[LocalGcp, str], None], code: str, words: str
) -> None:
    """The step names the retention policy or hold and the bucket instead of a missing role."""
    bucket = covered.deployment.state_bucket
    protect(covered, bucket)
    covered.put_object(
        "known_billing_accounts.json", covered.read_object("known_billing_accounts.json", bucket), bucket
    )
    document = covered.world.buckets.find(bucket)
    if code == "object-held":
        found = document.objects.get(bucket, "known_billing_accounts.json")
        document.objects.patch(found, {"eventBasedHold": True}, covered.clock.now())
    finished = run(covered)
    assert finished.report["status"] == "failed"
    assert code in {one["code"] for one in finished.report["failures"]}
    assert words in messages(finished)
    assert f"gs://{bucket}" in messages(finished)


def test_perimeter_is_reported_with_its_identifier_and_without_a_grant(covered: LocalGcp) -> None:
    """A refusal by VPC Service Controls is reported in the first run."""
    covered.close_perimeter(["bigquery.googleapis.com"])
    finished = run(covered)
    assert action(finished, "dataset").reason == "vpc-service-controls"
    assert "vpcServiceControlsUniqueIdentifier AbCdEf0123-local-perimeter" in messages(finished)
    assert "Grant" not in messages(finished)
    covered.close_perimeter([])
    assert run(covered).report["manual"] == []


def test_run_survives_transient_failures_of_the_metadata_server(gcp: LocalGcp) -> None:
    """Two consecutive failures are retried within the run."""
    gcp.fail_metadata(503, times=2)
    assert run(gcp).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", b"{}", b"<html></html>", b"[]"])
def test_invalid_billing_response_does_not_mean_an_unlinked_project(
    gcp: LocalGcp, monkeypatch: pytest.MonkeyPatch, body: bytes
) -> None:
    """An invalid response proves nothing: the billing and pricing targets are deferred."""
    original = requests.Session.send

    def send(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        response = original(session, request, **options)
        if str(request.url).endswith("/billingInfo"):
            response._content = body
        return response

    monkeypatch.setattr(requests.Session, "send", send)
    finished = run(gcp)
    assert "project-without-billing" not in messages(finished)
    assert action(finished, "billing").verb is Verb.DEFER
    assert action(finished, "export", accounts(gcp)[0], "pricing").verb is Verb.DEFER


def test_monthly_billed_account_is_not_stale_between_its_deliveries() -> None:
    """Rows on the first of each month are the account's normal interval."""
    with local_gcp(accounts=2, done=2, history_days=1, kinds=("standard",)) as cloud:
        monthly, daily = accounts(cloud)
        reported = 0
        for _ in range(50):
            cloud.stream(days=1, rows=1, accounts=[daily])
            if cloud.clock.now().day == 1:
                cloud.stream(days=1, rows=1, accounts=[monthly])
            finished = run(cloud, EXPORTS="standard", COPY="off")
            reported += action(finished, "export", monthly).verb is Verb.MANUAL
            cloud.advance(DAY)
        assert reported == 0
        # The account with daily rows is still reported two days after its last row.
        cloud.advance(2 * DAY)
        assert action(run(cloud, EXPORTS="standard", COPY="off"), "export", daily).reason == "stale"


def test_export_to_another_dataset_is_detected() -> None:
    """The step names that dataset and warns that redirecting the export causes no backfill."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud:
        account = accounts(cloud)[0]
        cloud.make_dataset("finops")
        cloud.console_step(account, ["detailed"], "finops")
        cloud.stream(days=10, rows=2)
        finished = run(cloud, EXPORTS="standard,detailed", COPY="off")
        assert action(finished, "export", account, "detailed").reason == "exports-elsewhere"
        assert action(finished, "export", account, "standard").reason == "console-step"
        steps = json.dumps([one for one in finished.report["manual"] if one["code"] == "exports-elsewhere"])
        assert "set BILLING_DATASET to finops" in steps
        assert "is not backfilled" in steps
        assert run(cloud, EXPORTS="detailed", COPY="off", BILLING_DATASET="finops").report["manual"] == []


def test_export_that_a_person_made_to_another_dataset_stays_as_it_is() -> None:
    """Plan and runs name it, add nothing to its dataset, and create no second one for its rows."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud, ExitStack() as stack:
        account = accounts(cloud)[0]
        cloud.make_dataset("finops")
        cloud.console_step(account, ["detailed"], "finops")
        cloud.stream(days=10, rows=2)
        client = stack.enter_context(closing(Clients(cloud, OPERATOR))).bigquery
        table = f"finops.gcp_billing_export_resource_v1_{account.replace('-', '_')}"
        before = client.get_table(table).to_api_repr(), client.get_dataset("finops").to_api_repr()
        datasets = sorted(one.dataset_id for one in client.list_datasets())
        only: dict[str, Any] = {"EXPORTS": "detailed", "COPY": "off"}
        for finished in (run(cloud, dry_run=True, **only), run(cloud, **only), run(cloud, **only)):
            assert "goes to dataset finops" in messages(finished)
            assert {one.key.kind for one in finished.outcomes if one.action.verb is Verb.CREATE} == set()
        assert (client.get_table(table).to_api_repr(), client.get_dataset("finops").to_api_repr()) == before
        assert sorted(one.dataset_id for one in client.list_datasets()) == datasets


def test_export_that_a_person_made_to_the_functions_dataset_is_used() -> None:
    """It needs no step, and neither its access entry nor its table is changed; a second run writes nothing."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud, ExitStack() as stack:
        account = accounts(cloud)[0]
        cloud.console_step(account, ["detailed"])
        cloud.stream(days=10, rows=2)
        client = stack.enter_context(closing(Clients(cloud, OPERATOR))).bigquery
        entries = client.get_dataset("billing_export").access_entries
        first = run(cloud, EXPORTS="detailed", COPY="off")
        assert action(first, "export", account, "detailed").verb is Verb.KEEP
        assert first.report["manual"] == []
        assert set(verbs(run(cloud, EXPORTS="detailed", COPY="off"))) <= {"KEEP", "SKIP"}
        assert client.get_dataset("billing_export").access_entries == entries


def test_export_is_found_among_many_datasets() -> None:
    """Datasets whose names suggest billing are searched first."""
    with local_gcp(accounts=1, done=0, history_days=0) as cloud:
        account = accounts(cloud)[0]
        for number in range(15):
            cloud.make_dataset(f"analytics_{number:02}")
        cloud.make_dataset("team_costs", "europe-west1")
        cloud.console_step(account, ["standard"], "team_costs")
        cloud.stream(days=2, rows=2)
        finished = run(cloud, EXPORTS="standard", COPY="off")
        assert action(finished, "export", account).reason == "exports-elsewhere"
        assert "set BILLING_DATASET to team_costs" in messages(finished)


def test_reseller_sub_accounts_are_covered_by_the_master_export(gcp: LocalGcp) -> None:
    """Their costs are in the master account's export, so no manual step is reported for them."""
    master = accounts(gcp)[0]
    below = [gcp.add_account(f"customer {number}", master=master) for number in range(3)]
    finished = run(gcp, environment=ONLY)
    assert {action(finished, "export", one).reason for one in below} == {"in-masters-export"}
    assert finished.report["manual"] == []
    assert scope_counts(finished)["covered"] == scope_counts(finished)["active"] == 6
    gcp.advance(5 * DAY)
    stale = run(gcp, environment=ONLY)
    assert scope_counts(stale)["covered"] == 0
    assert {one["scope"] for one in stale.report["manual"]} == set(accounts(gcp)[:3])


def test_sub_account_with_its_own_export_is_observed_and_copied(gcp: LocalGcp) -> None:
    """Its own table is handled like any other account's."""
    below = gcp.add_account("customer", master=accounts(gcp)[0])
    gcp.console_step(below, ["standard"])
    gcp.stream(days=1, rows=2, accounts=[below])
    finished = run(gcp, environment=ONLY)
    assert action(finished, "export", below).verb is Verb.KEEP
    assert gcp.copies(f"{below}/") != []


def test_account_with_a_single_delivery_is_reported_after_ten_days() -> None:
    """One day of rows shows no interval: the step names both possible causes, and the next rows close it."""
    with local_gcp(accounts=1, done=1, history_days=1, kinds=("standard",)) as cloud:
        settings = {"EXPORTS": "standard", "COPY": "off"}
        reasons = []
        cloud.advance(HOUR)
        for _ in range(12):
            reasons.append(action(run(cloud, environment=settings), "export").reason)
            cloud.advance(DAY)
        assert reasons.index("single-delivery") == 10
        finished = run(cloud, environment=settings)
        assert scope_counts(finished)["manual"] == 1
        assert "billed monthly" in messages(finished)
        assert "Billing Account Costs Manager (or Administrator) on the account and BigQuery User" in messages(finished)
        assert "Google backfills data only when an export is first enabled" in messages(finished)
        cloud.stream(days=1, rows=1)
        assert action(run(cloud, environment=settings), "export").verb is Verb.KEEP


def test_export_steps_name_the_required_roles_and_the_backfill() -> None:
    """Each step names the roles on account and project, and says that only the first enabling backfills data."""
    with local_gcp(accounts=2, done=1, history_days=12, kinds=("standard", "detailed", "pricing")) as cloud:
        cloud.advance(5 * DAY)
        finished = run(cloud, COPY="off")
        steps = [one for one in finished.report["manual"] if "/export/bigquery" in one["url"]]
        assert {one["code"] for one in steps} >= {"console-step", "stale"}
        for one in steps:
            text = " ".join(one["steps"])
            assert "on the account" in text
            assert "on the project" in text
            assert "first" in text
            assert "backfills data" in text
