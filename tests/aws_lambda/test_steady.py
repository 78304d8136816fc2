"""A run in steady state: what it does and how many calls it makes."""

from __future__ import annotations

from localcloud.aws.cloud import LocalAws
from localcloud.aws.faults import Attempt
from shared.model import Result, Verb
from tests.aws_lambda.support import EXPORT, HOUR, action, local_aws, members, outcome, run, verbs

PAGES = {"organizations:ListAccounts", "cloudformation:ListStackInstances"}


def test_first_run_covers_everything_and_the_second_writes_nothing(aws: LocalAws) -> None:
    """One run covers a deployed organization; the next one finds no difference."""
    first = run(aws)
    assert first.report["status"] == "ok"
    assert (first.report["scopes"]["covered"], first.report["scopes"]["pending"]) == (1, 3)
    assert verbs(first)["CREATE"] == 4
    aws.advance(HOUR)
    second = run(aws)
    assert set(verbs(second)) == {"KEEP"}
    assert second.report["scopes"]["covered"] == second.report["scopes"]["awaiting_first_data"] == 4
    assert set(aws.instances().values()) == {"SUCCEEDED"}


def test_steady_state_makes_twelve_calls_beyond_the_pages(covered: LocalAws) -> None:
    """With more accounts, only the pages of the two listings grow."""
    run(covered)
    calls = covered.calls.by_operation()
    beyond = sum(number for operation, number in calls.items() if operation not in PAGES)
    assert beyond == 12, calls


def test_every_s3_call_has_the_expected_owner() -> None:
    """Bucket names can be guessed: only CreateBucket, which has no such argument, is called without it."""
    seen: list[str] = []
    bare: list[str] = []

    def note(attempt: Attempt) -> bool:
        owner = attempt.headers.get("x-amz-expected-bucket-owner")
        (seen if owner == cloud.account else bare).append(attempt.operation)
        return False

    with local_aws(accounts=2, kind="standalone") as cloud:
        cloud.client("s3").delete_bucket(Bucket=cloud.deployment.bucket)
        cloud.faults.add("s3", "*", "InternalError", times=None, when=note)
        finished = run(cloud)
    assert finished.report["status"] == "ok"
    assert bare == ["CreateBucket"]
    assert {"GetBucketPolicy", "PutBucketPolicy", "PutObject", "ListObjectsV2", "PutBucketEncryption"} <= set(seen)


def test_dry_run_plans_the_same_and_writes_nothing(aws: LocalAws) -> None:
    """A dry run has the real run's plan and hash, and changes nothing, not even the state."""
    aws.calls.clear()
    planned = run(aws, dry_run=True)
    assert all(call.operation.startswith(("Get", "List", "Describe")) for call in aws.calls.select())
    assert planned.report["plan_hash"] == run(aws).report["plan_hash"]


def test_lost_state_costs_only_calls(covered: LocalAws) -> None:
    """Without state the function reads everything again and finds nothing to do."""
    covered.client("s3").delete_object(Bucket=covered.deployment.bucket, Key="state/known_accounts.json")
    finished = run(covered)
    assert finished.report["status"] == "ok"
    assert set(verbs(finished)) == {"KEEP"}


def test_deleted_export_and_instances_are_recreated_despite_the_state(covered: LocalAws) -> None:
    """The cloud counts, not the state: a deleted export and a removed instance are created again."""
    member = members(covered)[0]
    covered.delete_export(EXPORT)
    covered.remove_instance(member)
    covered.remove_bucket_policy_statement("TailpipeDataExports")
    covered.fail_instance(members(covered)[1])
    covered.advance(2 * HOUR)
    finished = run(covered)
    assert outcome(finished, "export").result is Result.DONE
    assert outcome(finished, "member-role", member).action.verb is Verb.CREATE
    assert outcome(finished, "member-role", members(covered)[1]).action.verb is Verb.REPAIR
    assert action(finished, "bucket").changes == ("export-statement",)
    assert EXPORT in covered.exports().values() or EXPORT in covered.exports()
    covered.advance(HOUR)
    assert set(verbs(run(covered))) == {"KEEP"}


def test_new_accounts_are_covered_and_suspended_ones_skipped(covered: LocalAws) -> None:
    """A new account gets its role in the next run; a suspended one is skipped with the reason."""
    joined = covered.join_account("new")
    suspended = members(covered)[0]
    covered.suspend_account(suspended)
    covered.advance(HOUR)
    finished = run(covered)
    skipped = action(finished, "member-role", suspended)
    assert (skipped.verb, skipped.detail) == (Verb.SKIP, "SUSPENDED")
    assert covered.instances()[joined] == "SUCCEEDED"
    assert finished.report["status"] == "ok"


def test_work_that_cannot_finish_is_left_to_the_next_run(aws: LocalAws) -> None:
    """Work beyond the deadline is not started; the report says so, and the next run does it."""
    aws.faults.latency(20, "bcm-data-exports")
    aws.faults.latency(10, "cloudformation")
    first = run(aws, seconds=60)
    assert first.report["run_complete"] is False
    assert first.report["status"] != "failed"
    aws.clear_faults()
    aws.advance(HOUR)
    second = run(aws)
    assert second.report["status"] == "ok"
    assert len(aws.instances()) == 3
    assert EXPORT in aws.exports()


def test_credentials_that_expire_midway_stop_the_run_and_save_the_results(aws: LocalAws) -> None:
    """No further call is made; the next run continues with new credentials."""
    aws.faults.add("cloudformation", "CreateStackInstances", "ExpiredToken", times=None)
    finished = run(aws)
    assert finished.report["status"] == "failed"
    assert finished.report["failures"][0]["code"] == "credentials"
    aws.clear_faults()
    aws.advance(HOUR)
    assert run(aws).report["status"] == "ok"


def test_many_missing_instances_are_not_recreated_without_force() -> None:
    """More than a third missing at once more likely indicates wrong credentials or scope than real deletions."""
    with local_aws(accounts=21) as cloud:
        run(cloud)
        cloud.advance(2 * HOUR)
        run(cloud)
        for account in members(cloud)[:12]:
            cloud.remove_instance(account)
        refused = run(cloud)
        assert refused.report["status"] == "failed"
        assert len(cloud.instances()) == 8
        assert run(cloud, force=True).report["status"] == "ok"
        assert len(cloud.instances()) == 20


def test_throttled_listings_slow_down_and_finish(aws: LocalAws) -> None:
    """Each service has its own throttling code; all are retried after a wait."""
    aws.faults.add("organizations", "ListAccounts", "TooManyRequestsException", times=2)
    aws.faults.add("cloudformation", "ListStackInstances", "Throttling", times=1)
    aws.faults.add("s3", "GetBucketPolicy", "SlowDown", times=1, status=503)
    aws.faults.add("iam", "GetRole", "RequestLimitExceeded", times=1, status=503)
    assert run(aws).report["status"] == "ok"
