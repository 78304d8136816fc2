"""Copies of partitions: complete, current, never partial, and never written over a foreign object."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from gcp_function.clients import warm_clients
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.state import Behavior
from shared.model import Result, Verb
from tests.gcp_function.support import (
    DAY,
    HOUR,
    accounts,
    action,
    broken_manifests,
    day_of,
    differences,
    local_gcp,
    manifest,
    messages,
    outcome,
    run,
    settings_of,
    verbs,
)

pytestmark = pytest.mark.long

YESTERDAY = day_of(1)
COPY = f"standard/{YESTERDAY}"


def files(cloud: LocalGcp, account: str, day: str = YESTERDAY, kind: str = "standard") -> list[str]:
    """Return the names of a partition's Parquet files, including those that no manifest names."""
    return [name for name in cloud.copies(f"{account}/{day}/{kind}/") if name.endswith(".parquet")]


def test_partition_gets_files_and_a_manifest_with_row_counts(gcp: LocalGcp, tmp_path: Path) -> None:
    """The manifest has the full name and row count of each file, and the watermark."""
    run(gcp)
    account = accounts(gcp)[0]
    found = manifest(gcp, account, YESTERDAY, "detailed")
    assert found["rows"] == sum(one["rows"] for one in found["files"]) == 3
    assert [one["name"] for one in found["files"]] == files(gcp, account, kind="detailed")
    assert found["files"][0]["name"].startswith(f"{account}/{YESTERDAY}/detailed/{found['watermark']}/")
    assert differences(gcp, account, YESTERDAY, "detailed", tmp_path) == (0, 0)


def test_partition_with_several_shards_is_copied_completely(tmp_path: Path) -> None:
    """The manifest names every shard that BigQuery writes."""
    behavior = Behavior(extract_shard_rows=2)
    with local_gcp(accounts=1, done=1, rows=7, behavior=behavior) as cloud:
        run(cloud)
        (account,) = accounts(cloud)
        assert len(manifest(cloud, account, YESTERDAY)["files"]) == 4
        assert differences(cloud, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_late_rows_replace_the_copy_and_keep_the_previous_files_once(covered: LocalGcp, tmp_path: Path) -> None:
    """A reader of the previous manifest still finds its files; the next change deletes them."""
    account = accounts(covered)[0]
    first = files(covered, account)
    covered.late_data(account, YESTERDAY)
    finished = run(covered)
    assert (action(finished, "copy", account, COPY).verb, verbs(finished)["REPAIR"]) == (Verb.REPAIR, 1)
    found = manifest(covered, account, YESTERDAY)
    assert found["previous"] == first
    second = [one["name"] for one in found["files"]]
    assert sorted(files(covered, account)) == sorted([*first, *second])
    covered.advance(HOUR)
    covered.late_data(account, YESTERDAY)
    run(covered)
    assert not set(first) & set(files(covered, account))
    assert set(second) < set(files(covered, account))
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_rows_with_an_older_export_time_are_copied(covered: LocalGcp, tmp_path: Path) -> None:
    """Rows leaving the streaming buffer late do not change the newest export_time; the row count shows them."""
    account = accounts(covered)[0]
    covered.stream(days=1, rows=2, accounts=[account], kinds=["standard"], buffered=True)
    covered.late_data(account, day_of(), rows=1)
    run(covered)
    newest = manifest(covered, account, day_of())["newest_export_time"]
    covered.flush_buffer(account)
    finished = run(covered)
    assert outcome(finished, "copy", account, f"standard/{day_of()}").result is Result.DONE
    assert manifest(covered, account, day_of())["newest_export_time"] == newest
    assert differences(covered, account, day_of(), "standard", tmp_path) == (0, 0)


def test_rows_in_the_streaming_buffer_are_not_copied(tmp_path: Path) -> None:
    """A partition with only buffered rows is skipped, and copied after they are flushed."""
    with local_gcp(accounts=1, done=1, history_days=0) as cloud:
        (account,) = accounts(cloud)
        cloud.stream(days=1, rows=4, buffered=True)
        waiting = run(cloud)
        assert action(waiting, "copy", account, f"standard/{day_of()}").verb is Verb.SKIP
        assert cloud.copies() == []
        cloud.flush_buffer()
        assert outcome(run(cloud), "copy", account, f"standard/{day_of()}").result is Result.DONE
        assert differences(cloud, account, day_of(), "standard", tmp_path) == (0, 0)


def test_rows_arriving_during_the_job_are_copied_in_the_same_run(gcp: LocalGcp, tmp_path: Path) -> None:
    """The run reads the watermark again after the job, and repeats the copy if it has changed."""
    account = accounts(gcp)[0]
    gcp.faults.before("bigquery.jobs.insert", lambda: gcp.late_data(account, YESTERDAY), path="*")
    run(gcp)
    assert differences(gcp, account, YESTERDAY, "standard", tmp_path) == (0, 0)
    assert broken_manifests(gcp) == []


def test_partition_that_keeps_changing_is_deferred_to_the_next_run(gcp: LocalGcp, tmp_path: Path) -> None:
    """After three outdated copies of one partition, the run continues with the others."""
    account = accounts(gcp)[0]
    gcp.faults.before("storage.objects.list", lambda: gcp.late_data(account, YESTERDAY), path="*", times=None)
    finished = run(gcp)
    moving = outcome(finished, "copy", account, COPY)
    assert (moving.result, moving.code) == (Result.DEFERRED, "partition-moves")
    gcp.clear_faults()
    gcp.advance(HOUR)
    assert run(gcp).report["status"] == "ok"
    assert differences(gcp, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_modified_partition_with_the_same_rows_is_not_copied_again(covered: LocalGcp) -> None:
    """One watermark query shows that the rows are unchanged; the next run does not repeat it."""
    account = accounts(covered)[0]
    moment = covered.clock.now().replace(tzinfo=None)
    with covered.world.warehouse._transaction() as database:
        table = covered.world.catalog.dataset(covered.project, "billing_export").tables[
            f"gcp_billing_export_v1_{account.replace('-', '_')}"
        ]
        database.execute("UPDATE partitions SET modified = ? WHERE _table = ?", [moment, table.uid])
    queries = [covered.calls.count("bigquery.jobs.query")]
    for _ in range(2):
        assert set(verbs(run(covered))) == {"KEEP", "SKIP"}
        queries.append(covered.calls.count("bigquery.jobs.query"))
    assert queries == [0, 2, 3]
    assert covered.calls.count("bigquery.jobs.insert") == 0


@pytest.mark.parametrize("manifest_too", [True, False], ids=["files and manifest", "files only"])
def test_deleted_copy_is_made_again(covered: LocalGcp, tmp_path: Path, *, manifest_too: bool) -> None:
    """The copy is restored whether its manifest was deleted with the files or not."""
    account = accounts(covered)[0]
    covered.delete_copy(account, YESTERDAY, manifest=manifest_too)
    covered.clear_calls()
    finished = run(covered)
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert verbs(finished).get("CREATE", 0) + verbs(finished).get("REPAIR", 0) == 1
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)
    assert covered.calls.count("bigquery.jobs.insert") == 2  # the id of the first job cannot be used again


def test_copy_deleted_repeatedly_is_made_again_each_time(covered: LocalGcp, tmp_path: Path) -> None:
    """Each copy uses up one job id; a run finds the next free one."""
    account = accounts(covered)[0]
    for _ in range(6):
        covered.delete_copy(account, YESTERDAY, manifest=True)
        covered.advance(7200)
        assert outcome(run(covered), "copy", account, COPY).result is Result.DONE
        assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_copy_continues_after_all_job_ids_are_used_up(
    covered: LocalGcp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """When the numbered ids are used up, each hour has one more id: the copy waits at most for the next hour."""
    monkeypatch.setattr("gcp_function.resources.copy_jobs.MOST_ATTEMPTS", 2)
    account = accounts(covered)[0]
    for _ in range(3):
        covered.delete_copy(account, YESTERDAY, manifest=True)
        covered.advance(60)
        assert outcome(run(covered), "copy", account, COPY).result is Result.DONE
    covered.delete_copy(account, YESTERDAY, manifest=True)
    covered.advance(60)
    used_up = outcome(run(covered), "copy", account, COPY)
    assert (used_up.result, used_up.code) == (Result.DEFERRED, "attempts-used-up")
    assert used_up.remedy
    covered.advance(2 * HOUR)
    assert outcome(run(covered), "copy", account, COPY).result is Result.DONE
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)
    covered.advance(2 * HOUR)
    assert set(verbs(run(covered))) <= {"KEEP", "SKIP"}  # the copies published under these job ids are found


@pytest.mark.parametrize("cause", ["owned by another identity", "in another location"])
def test_invisible_job_with_the_same_id_does_not_block_the_copy(covered: LocalGcp, tmp_path: Path, cause: str) -> None:
    """A job by another identity or in another location also uses up an id; the run takes the next one."""
    account = accounts(covered)[0]
    covered.delete_copy(account, YESTERDAY, manifest=True)
    if cause == "owned by another identity":
        for job in covered.world.jobs._jobs.values():
            job.identity = "operator@example.com"
    else:
        covered.fail("bigquery.jobs.get", 404, "notFound", times=1)
    finished = run(covered)
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert finished.report["status"] == "ok"
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_foreign_object_with_the_manifests_name_is_not_overwritten(gcp: LocalGcp) -> None:
    """The run reports it and blocks only the copy of that day."""
    account = accounts(gcp)[0]
    name = f"{account}/{YESTERDAY}/standard/manifest.json"
    gcp.put_object(name, '{"format": "foreign"}')
    finished = run(gcp)
    assert action(finished, "copy", account, COPY).reason == "foreign"
    assert "rename it" in messages(finished)
    assert gcp.read_object(name) == '{"format": "foreign"}'
    assert outcome(finished, "copy", account, f"standard/{day_of(2)}").result is Result.DONE
    gcp.clear_calls()
    assert action(run(gcp), "copy", account, COPY).reason == "foreign"
    assert (
        gcp.calls.count("storage.objects.get") == 1
    )  # only the state: the object's generation identifies it as foreign
    gcp.delete_objects(prefix=name)
    assert outcome(run(gcp), "copy", account, COPY).result is Result.DONE


def test_foreign_object_created_during_the_run_is_not_overwritten() -> None:
    """The precondition refuses the write of an object that appeared after the listing."""
    with local_gcp(accounts=1, done=1, history_days=1) as cloud:
        (account,) = accounts(cloud)
        name = f"{account}/{day_of()}/standard/manifest.json"
        cloud.faults.before(
            "storage.objects.insert", lambda: cloud.put_object(name, "mine"), path="*tailpipe-billing-export*"
        )
        finished = run(cloud, COPY="standard")
        assert cloud.read_object(name) == "mine"
        assert outcome(finished, "copy", account, f"standard/{day_of()}").result is Result.MANUAL
        assert "rename it" in messages(finished)


def test_files_with_wrong_row_counts_are_not_published(covered: LocalGcp, tmp_path: Path) -> None:
    """The run counts the rows in the files and discards a replaced file."""
    account = accounts(covered)[0]
    covered.late_data(account, day_of(2), rows=4)
    run(covered)
    (name,) = files(covered, account)
    bucket = warm_clients(settings_of(covered)).storage.bucket(f"tailpipe-billing-export-{covered.project}")
    larger = manifest(covered, account, day_of(2))["files"][0]["name"]
    bucket.blob(name).upload_from_string(bucket.blob(larger).download_as_bytes())
    covered.delete_objects(prefix=f"{account}/{YESTERDAY}/standard/manifest.json")
    assert outcome(run(covered), "copy", account, COPY).result is Result.DONE
    assert [one["rows"] for one in manifest(covered, account, YESTERDAY)["files"]] == [3]
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_manifest_without_our_mark_is_adopted(covered: LocalGcp) -> None:
    """A restored manifest has our format but not our mark; it is adopted without a new job."""
    account = accounts(covered)[0]
    name = f"{account}/{YESTERDAY}/standard/manifest.json"
    covered.put_object(name, covered.read_object(name))
    finished = run(covered)
    assert action(finished, "copy", account, COPY).verb is Verb.ADOPT
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert action(run(covered), "copy", account, COPY).verb is Verb.KEEP


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "backendError", "internalError"])
def test_transient_job_failure_is_retried_with_the_next_id(gcp: LocalGcp, reason: str) -> None:
    """The retry happens in the same run."""
    gcp.fail_jobs("extract", reason, times=2)
    assert run(gcp).report["status"] == "ok"
    assert gcp.calls.count("bigquery.jobs.insert") == 18 + 2


def test_job_that_fails_three_times_is_deferred_to_the_next_run(gcp: LocalGcp) -> None:
    """Later runs skip the job ids that are used up."""
    gcp.fail_jobs("extract", "backendError", times=None)
    finished = run(gcp)
    stuck = outcome(finished, "copy", accounts(gcp)[0], COPY)
    assert stuck.result is Result.DEFERRED
    assert "3 extract jobs failed" in stuck.message
    gcp.clear_faults()
    gcp.advance(HOUR)
    assert run(gcp).report["status"] == "ok"


def test_exhausted_daily_quota_defers_copies_to_the_next_day(tmp_path: Path) -> None:
    """No job starts until the quota is renewed; then the remaining partitions are copied."""
    behavior = Behavior(extract_jobs_per_day=5)
    with local_gcp(accounts=1, done=1, behavior=behavior) as cloud:
        (account,) = accounts(cloud)
        finished = run(cloud, CALLS_AT_ONCE="1")
        assert sum(one.result is Result.DONE for one in finished.outcomes if one.key.kind == "copy") == 5
        waiting = [one for one in finished.outcomes if one.code == "quota-exceeded"]
        assert {one.retry_after for one in waiting} == {waiting[0].retry_after}
        assert timedelta(hours=14) < (waiting[0].retry_after or timedelta()) <= timedelta(hours=15)
        tried = cloud.calls.count("bigquery.jobs.insert")
        cloud.advance(HOUR)
        run(cloud)
        assert cloud.calls.count("bigquery.jobs.insert") == tried
        cloud.advance(15 * HOUR)
        assert run(cloud).report["status"] == "ok"
        assert differences(cloud, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_lost_response_of_a_job_starts_no_second_job(gcp: LocalGcp) -> None:
    """The run finds the accepted job by its id."""
    gcp.lose_answer("bigquery.jobs.insert", times=3)
    gcp.lose_answer("storage.objects.insert", times=2, path="*tailpipe-billing-export*")
    assert run(gcp).report["status"] == "ok"
    jobs = [one for one in gcp.world.jobs.of(gcp.project) if one.kind == "extract"]
    assert len(jobs) == 18
    assert broken_manifests(gcp) == []


def test_job_that_outlasts_the_run_is_completed_by_the_next_run(tmp_path: Path) -> None:
    """The next run finds the jobs done and writes the manifests."""
    behavior = Behavior(extract_s=400)
    with local_gcp(accounts=1, done=1, behavior=behavior) as cloud:
        (account,) = accounts(cloud)
        first = run(cloud, seconds=120)
        assert first.report["outcomes"]["CREATE"] == {"deferred": 6}
        assert not first.report["run_complete"]
        cloud.advance(HOUR)
        assert run(cloud).report["status"] == "ok"
        jobs = [one for one in cloud.world.jobs.of(cloud.project) if one.kind == "extract"]
        assert len(jobs) == 6
        assert differences(cloud, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_older_partitions_are_copied_once_and_verified_in_turn(tmp_path: Path) -> None:
    """The first run copies partitions before the window; later runs verify one account's history at a time."""
    with local_gcp(accounts=2, done=2, history_days=8, rows=1) as cloud:
        first, second = accounts(cloud)
        old = day_of(6)
        assert run(cloud, COPY_DAYS="3").report["status"] == "ok"
        for account in (first, second):
            assert differences(cloud, account, old, "standard", tmp_path) == (0, 0)
        cloud.advance(HOUR)
        cloud.delete_copy(second, old)
        cloud.late_data(first, old)
        for _ in range(5):
            assert run(cloud, COPY_DAYS="3").report["status"] == "ok"
            cloud.advance(HOUR)
        for account in (first, second):
            assert differences(cloud, account, old, "standard", tmp_path) == (0, 0)


def test_first_run_that_creates_the_bucket_copies_older_partitions(tmp_path: Path) -> None:
    """A run without a bucket does not record the older partitions as copied."""
    with local_gcp(accounts=1, done=1, history_days=6, rows=1) as cloud:
        cloud.delete_bucket()
        assert run(cloud, COPY_DAYS="3").report["status"] == "ok"
        assert differences(cloud, accounts(cloud)[0], day_of(5), "standard", tmp_path) == (0, 0)


def test_verify_all_compares_all_older_partitions(tmp_path: Path) -> None:
    """One run with verify_all compares every account's history, whatever the call budget."""
    with local_gcp(accounts=2, done=2, history_days=7, rows=1) as cloud:
        run(cloud, COPY_DAYS="3")
        for account in accounts(cloud):
            cloud.late_data(account, day_of(5), "detailed")
        run(cloud, verify_all=True, COPY_DAYS="3")
        for account in accounts(cloud):
            assert differences(cloud, account, day_of(5), "detailed", tmp_path) == (0, 0)


def test_state_does_not_grow_with_time() -> None:
    """After a month of runs, the state holds only the copies of the window and a few days more."""
    with local_gcp(accounts=1, done=1, history_days=0) as cloud:
        for _ in range(12):
            cloud.stream(days=2, rows=1)
            run(cloud, COPY_DAYS="5")
            cloud.advance(3 * DAY)
        state = json.loads(cloud.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport"))
        names = [name for name in state["scopes"][accounts(cloud)[0]]["targets"] if name.startswith("copy/standard/")]
        assert 5 <= len(names) <= 5 + 8


def test_copies_deleted_by_a_lifecycle_rule_are_not_made_again() -> None:
    """Copies older than the rule's age stay deleted; a younger one is restored."""
    with local_gcp(accounts=1, done=1, history_days=50, rows=1) as cloud:
        (account,) = accounts(cloud)
        run(cloud)
        bucket = cloud.world.buckets.find("tailpipe-billing-export-tailpipe-dataexport")
        rules = bucket.document["lifecycle"]["rule"]
        bucket.document["lifecycle"] = {"rule": [*rules, {"action": {"type": "Delete"}, "condition": {"age": 40}}]}
        cloud.delete_copy(account, day_of(45))
        cloud.delete_copy(account, day_of(38))
        cloud.clear_calls()
        run(cloud, verify_all=True)
        assert files(cloud, account, day_of(45)) == []
        assert files(cloud, account, day_of(38)) != []


def test_copies_are_deferred_if_the_listing_contradicts_the_bucket(covered: LocalGcp) -> None:
    """The bucket exists but its listing is "not found": no copy counts as vanished, and no job starts."""
    covered.fail("storage.objects.list", 404, "notFound", times=None)
    finished = run(covered)
    copy = action(finished, "copy", accounts(covered)[0], "standard/2026-11-22")
    assert (copy.verb, copy.reason) == (Verb.DEFER, "listing-contradicted")
    assert "who deletes and creates the bucket" in (copy.remedy or "")
    assert "vanished" not in messages(finished)
    assert covered.calls.count("bigquery.jobs.insert") == 0
    covered.clear_faults()
    covered.advance(3600)
    assert run(covered).report["status"] == "ok"
