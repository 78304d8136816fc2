"""The copies: complete, current, never half, and never written over somebody else's object."""

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
    """Return the names of a partition's files, whether a manifest names them or not."""
    return [name for name in cloud.copies(f"{account}/{day}/{kind}/") if name.endswith(".parquet")]


def test_every_partition_gets_files_and_a_manifest_that_counts_them(gcp: LocalGcp, tmp_path: Path) -> None:
    """The manifest names the files by their full names, their rows by their footers, and the watermark."""
    run(gcp)
    account = accounts(gcp)[0]
    found = manifest(gcp, account, YESTERDAY, "detailed")
    assert found["rows"] == sum(one["rows"] for one in found["files"]) == 3
    assert [one["name"] for one in found["files"]] == files(gcp, account, kind="detailed")
    assert found["files"][0]["name"].startswith(f"{account}/{YESTERDAY}/detailed/{found['watermark']}/")
    assert differences(gcp, account, YESTERDAY, "detailed", tmp_path) == (0, 0)


def test_a_partition_of_several_files_is_copied_whole(tmp_path: Path) -> None:
    """Where BigQuery writes several shards the manifest names them all."""
    behavior = Behavior(extract_shard_rows=2)
    with local_gcp(accounts=1, done=1, rows=7, behavior=behavior) as cloud:
        run(cloud)
        (account,) = accounts(cloud)
        assert len(manifest(cloud, account, YESTERDAY)["files"]) == 4
        assert differences(cloud, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_late_rows_move_the_watermark_and_the_set_before_stays_one_change_long(
    covered: LocalGcp, tmp_path: Path
) -> None:
    """A reader of the manifest before still finds its files; after one more change they are gone."""
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


def test_rows_that_arrive_with_an_older_export_time_are_copied_too(covered: LocalGcp, tmp_path: Path) -> None:
    """Rows that come out of the buffer late leave the newest export_time where it was: their number tells."""
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


def test_rows_in_the_streaming_buffer_never_count(tmp_path: Path) -> None:
    """A partition whose rows are all in the buffer is no partition yet; once they are flushed it is copied."""
    with local_gcp(accounts=1, done=1, history_days=0) as cloud:
        (account,) = accounts(cloud)
        cloud.stream(days=1, rows=4, buffered=True)
        waiting = run(cloud)
        assert action(waiting, "copy", account, f"standard/{day_of()}").verb is Verb.SKIP
        assert cloud.copies() == []
        cloud.flush_buffer()
        assert outcome(run(cloud), "copy", account, f"standard/{day_of()}").result is Result.DONE
        assert differences(cloud, account, day_of(), "standard", tmp_path) == (0, 0)


def test_rows_that_arrive_during_the_job_are_copied_in_the_same_run(gcp: LocalGcp, tmp_path: Path) -> None:
    """The watermark is asked for again after the job: where it moved the partition is copied again, never half."""
    account = accounts(gcp)[0]
    gcp.faults.before("bigquery.jobs.insert", lambda: gcp.late_data(account, YESTERDAY), path="*")
    run(gcp)
    assert differences(gcp, account, YESTERDAY, "standard", tmp_path) == (0, 0)
    assert broken_manifests(gcp) == []


def test_a_partition_that_never_stops_moving_is_left_to_the_next_run(gcp: LocalGcp, tmp_path: Path) -> None:
    """After three copies that were overtaken the run goes on with the others and comes back later."""
    account = accounts(gcp)[0]
    gcp.faults.before("storage.objects.list", lambda: gcp.late_data(account, YESTERDAY), path="*", times=None)
    finished = run(gcp)
    moving = outcome(finished, "copy", account, COPY)
    assert (moving.result, moving.code) == (Result.DEFERRED, "partition-moves")
    gcp.clear_faults()
    gcp.advance(HOUR)
    assert run(gcp).report["status"] == "ok"
    assert differences(gcp, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_a_partition_written_without_change_is_not_copied_again(covered: LocalGcp) -> None:
    """A partition that was touched without a change is asked once for its watermark, then settled."""
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


@pytest.mark.parametrize("manifest_too", [True, False], ids=["all of it", "the files only"])
def test_a_deleted_copy_comes_back(covered: LocalGcp, tmp_path: Path, *, manifest_too: bool) -> None:
    """A copy that somebody deleted, or whose files are gone under its manifest, is made again."""
    account = accounts(covered)[0]
    covered.delete_copy(account, YESTERDAY, manifest=manifest_too)
    covered.clear_calls()
    finished = run(covered)
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert verbs(finished).get("CREATE", 0) + verbs(finished).get("REPAIR", 0) == 1
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)
    assert covered.calls.count("bigquery.jobs.insert") == 2  # the id of the first job is used up


def test_a_copy_that_is_deleted_again_and_again_comes_back_each_time(covered: LocalGcp, tmp_path: Path) -> None:
    """Each deletion uses a job's id up; however many are, the next free one is found within one run."""
    account = accounts(covered)[0]
    for _ in range(6):
        covered.delete_copy(account, YESTERDAY, manifest=True)
        covered.advance(7200)
        assert outcome(run(covered), "copy", account, COPY).result is Result.DONE
        assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_used_up_job_ids_are_no_dead_end(covered: LocalGcp, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Beyond the ids that are tried one by one each hour has its own: at worst a copy waits for the next hour."""
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
    assert set(verbs(run(covered))) <= {"KEEP", "SKIP"}  # what was published under such a number is found again


@pytest.mark.parametrize("hidden", ["another identity's", "in another location"])
def test_a_job_id_that_is_taken_out_of_sight_is_no_dead_end(covered: LocalGcp, tmp_path: Path, hidden: str) -> None:
    """A run from a laptop, or in the dataset's former place, uses an id up too: the next one is taken at once."""
    account = accounts(covered)[0]
    covered.delete_copy(account, YESTERDAY, manifest=True)
    if hidden == "another identity's":
        for job in covered.world.jobs._jobs.values():
            job.identity = "operator@example.com"
    else:
        covered.fail("bigquery.jobs.get", 404, "notFound", times=1)
    finished = run(covered)
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert finished.report["status"] == "ok"
    assert differences(covered, account, YESTERDAY, "standard", tmp_path) == (0, 0)


def test_a_foreign_object_under_our_manifests_name_is_never_overwritten(gcp: LocalGcp) -> None:
    """Something else under the manifest's name is left alone, shown to a person, and blocks that day only."""
    account = accounts(gcp)[0]
    name = f"{account}/{YESTERDAY}/standard/manifest.json"
    gcp.put_object(name, '{"format": "somebody else\'s"}')
    finished = run(gcp)
    assert action(finished, "copy", account, COPY).reason == "foreign"
    assert "rename it" in messages(finished)
    assert gcp.read_object(name) == '{"format": "somebody else\'s"}'
    assert outcome(finished, "copy", account, f"standard/{day_of(2)}").result is Result.DONE
    gcp.clear_calls()
    assert action(run(gcp), "copy", account, COPY).reason == "foreign"
    assert gcp.calls.count("storage.objects.get") == 1  # the state: who it is of is remembered by generation
    gcp.delete_objects(prefix=name)
    assert outcome(run(gcp), "copy", account, COPY).result is Result.DONE


def test_a_foreign_object_that_appears_at_the_last_moment_is_not_overwritten_either() -> None:
    """Between look and write somebody puts an object there: the precondition refuses, and it stays."""
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


def test_files_that_do_not_hold_the_partitions_rows_are_never_published(covered: LocalGcp, tmp_path: Path) -> None:
    """Rows are counted in the files themselves: one that was replaced is not taken."""
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


def test_a_manifest_that_lost_its_mark_is_adopted(covered: LocalGcp) -> None:
    """A manifest of our form without our mark, as after a restore, is taken over without a new job's files."""
    account = accounts(covered)[0]
    name = f"{account}/{YESTERDAY}/standard/manifest.json"
    covered.put_object(name, covered.read_object(name))
    finished = run(covered)
    assert action(finished, "copy", account, COPY).verb is Verb.ADOPT
    assert outcome(finished, "copy", account, COPY).result is Result.DONE
    assert action(run(covered), "copy", account, COPY).verb is Verb.KEEP


@pytest.mark.parametrize("reason", ["rateLimitExceeded", "backendError", "internalError"])
def test_a_job_that_failed_in_passing_is_tried_under_the_next_id(gcp: LocalGcp, reason: str) -> None:
    """Failures that pass are tried again at once, under an id of their own."""
    gcp.fail_jobs("extract", reason, times=2)
    assert run(gcp).report["status"] == "ok"
    assert gcp.calls.count("bigquery.jobs.insert") == 18 + 2


def test_a_job_that_keeps_failing_is_left_to_the_next_run(gcp: LocalGcp) -> None:
    """After three failures a partition is deferred with the reason; later runs step over the used ids."""
    gcp.fail_jobs("extract", "backendError", times=None)
    finished = run(gcp)
    stuck = outcome(finished, "copy", accounts(gcp)[0], COPY)
    assert stuck.result is Result.DEFERRED
    assert "3 extract jobs failed" in stuck.message
    gcp.clear_faults()
    gcp.advance(HOUR)
    assert run(gcp).report["status"] == "ok"


def test_a_spent_quota_waits_for_the_next_day(tmp_path: Path) -> None:
    """When the day's extract jobs are used up no more are begun; the rest is copied on the next day."""
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


def test_a_lost_answer_of_a_job_starts_no_second_one(gcp: LocalGcp) -> None:
    """A job that was accepted although its answer was lost is found again by its id."""
    gcp.lose_answer("bigquery.jobs.insert", times=3)
    gcp.lose_answer("storage.objects.insert", times=2, path="*tailpipe-billing-export*")
    assert run(gcp).report["status"] == "ok"
    jobs = [one for one in gcp.world.jobs.of(gcp.project) if one.kind == "extract"]
    assert len(jobs) == 18
    assert broken_manifests(gcp) == []


def test_a_job_that_outlives_the_run_is_picked_up_by_the_next(tmp_path: Path) -> None:
    """When time is up the jobs go on by themselves; the next run finds them done and writes the manifests."""
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


def test_older_partitions_are_copied_once_and_then_verified_in_turn(tmp_path: Path) -> None:
    """What lies before the window gets its copies in the first run; later a lost one is found when its turn comes."""
    with local_gcp(accounts=2, done=2, history_days=50, rows=1) as cloud:
        first, second = accounts(cloud)
        old = day_of(45)
        assert run(cloud).report["status"] == "ok"
        for account in (first, second):
            assert differences(cloud, account, old, "standard", tmp_path) == (0, 0)
        cloud.advance(HOUR)
        cloud.delete_copy(second, old)
        cloud.late_data(first, old)
        for _ in range(5):
            assert run(cloud).report["status"] == "ok"
            cloud.advance(HOUR)
        for account in (first, second):
            assert differences(cloud, account, old, "standard", tmp_path) == (0, 0)


def test_older_partitions_are_not_forgotten_where_the_bucket_is_made_first(tmp_path: Path) -> None:
    """A first run that has to make the bucket copies the older partitions too, and does not take none for all."""
    with local_gcp(accounts=1, done=1, history_days=38, rows=1) as cloud:
        cloud.delete_bucket()
        assert run(cloud).report["status"] == "ok"
        assert differences(cloud, accounts(cloud)[0], day_of(37), "standard", tmp_path) == (0, 0)


def test_a_run_that_is_to_verify_all_verifies_every_history(tmp_path: Path) -> None:
    """With verify_all every older partition is compared in one run, whatever the call budget."""
    with local_gcp(accounts=2, done=2, history_days=40, rows=1) as cloud:
        run(cloud)
        for account in accounts(cloud):
            cloud.late_data(account, day_of(38), "detailed")
        run(cloud, verify_all=True)
        for account in accounts(cloud):
            assert differences(cloud, account, day_of(38), "detailed", tmp_path) == (0, 0)


def test_memory_does_not_grow_with_the_days() -> None:
    """What left the window long ago is forgotten: after three months memory holds a window's worth of copies."""
    with local_gcp(accounts=1, done=1, history_days=0) as cloud:
        for _ in range(12):
            cloud.stream(days=2, rows=1)
            run(cloud, COPY_DAYS="5")
            cloud.advance(3 * DAY)
        state = json.loads(cloud.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport"))
        names = [name for name in state["scopes"][accounts(cloud)[0]]["targets"] if name.startswith("copy/standard/")]
        assert 5 <= len(names) <= 5 + 8


def test_copies_a_rule_deleted_for_their_age_are_not_made_again() -> None:
    """Where somebody's rule deletes old copies, they are not copied again and again."""
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


def test_a_listing_that_contradicts_the_bucket_makes_no_copy_absent(covered: LocalGcp) -> None:
    """Where the bucket is there and its objects are "not found", nothing is called vanished, and no job is begun."""
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
