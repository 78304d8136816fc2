"""The exports: created whole, adopted only when they are of our shape, repaired field by field, judged by health."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.session import get_session

from aws_lambda.resources.export_definition import parse_query
from localcloud.aws.cloud import LocalAws
from shared.model import Result, Verb
from shared.reconcile import RunResult
from tests.aws_lambda.support import DAY, EXPORT, HOUR, action, local_aws, messages, outcome, run, verbs

pytestmark = pytest.mark.long

TABLE = "COST_AND_USAGE_REPORT"


def read(cloud: LocalAws, name: str = EXPORT) -> dict[str, Any]:
    """Return an export as the service shows it."""
    client = cloud.client("bcm-data-exports")
    arn = next(one["ExportArn"] for one in client.list_exports()["Exports"] if one["ExportName"] == name)
    answer: dict[str, Any] = client.get_export(ExportArn=arn)
    return answer


def definition(cloud: LocalAws, **destination: Any) -> dict[str, Any]:
    """Return an export as a customer's script might have made it: few columns, no resources, no mark."""
    output = {"OutputType": "CUSTOM", "Format": "TEXT_OR_CSV", "Compression": "GZIP", "Overwrite": "OVERWRITE_REPORT"}
    return {
        "Name": EXPORT,
        "DataQuery": {
            "QueryStatement": "SELECT bill_bill_type, line_item_usage_type FROM COST_AND_USAGE_REPORT",
            "TableConfigurations": {TABLE: {"TIME_GRANULARITY": "HOURLY"}},
        },
        "DestinationConfigurations": {
            "S3Destination": {
                "S3Bucket": cloud.deployment.bucket,
                "S3Prefix": "dataexport",
                "S3Region": "eu-west-1",
                "S3OutputConfigurations": output,
                **destination,
            }
        },
        "RefreshCadence": {"Frequency": "SYNCHRONOUS"},
    }


def create(cloud: LocalAws, export: dict[str, Any]) -> str:
    """Create an export outside the function."""
    arn: str = cloud.client("bcm-data-exports").create_export(Export=export)["ExportArn"]
    return arn


def hide_first_listing(cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the service list nothing once, as it does for a moment after a creation."""
    real = cloud.world.exports.of
    times = iter([True])
    monkeypatch.setattr(cloud.world.exports, "of", lambda account: [] if next(times, False) else real(account))


def tags(cloud: LocalAws) -> dict[str, str]:
    """Return the tags of our export."""
    arn = read(cloud)["Export"]["ExportArn"]
    answer = cloud.client("bcm-data-exports").list_tags_for_resource(ResourceArn=arn)
    return {one["Key"]: one["Value"] for one in answer["ResourceTags"]}


def test_the_export_has_the_promised_shape(aws: LocalAws) -> None:
    """CUR 2.0, hourly, with resources, every column, gzip CSV, overwriting, owner named, marked as ours."""
    run(aws)
    export = read(aws)["Export"]
    query = parse_query(export["DataQuery"]["QueryStatement"])
    properties = {"TIME_GRANULARITY": "HOURLY", "INCLUDE_RESOURCES": "TRUE"}
    table = aws.client("bcm-data-exports").get_table(TableName=TABLE, TableProperties=properties)
    assert query.columns == tuple(column["Name"] for column in table["Schema"])
    assert "line_item_resource_id" in query.columns
    destination = export["DestinationConfigurations"]["S3Destination"]
    assert destination["S3BucketOwner"] == aws.account
    assert destination["S3OutputConfigurations"] == {
        "OutputType": "CUSTOM",
        "Format": "TEXT_OR_CSV",
        "Compression": "GZIP",
        "Overwrite": "OVERWRITE_REPORT",
    }
    assert export["RefreshCadence"] == {"Frequency": "SYNCHRONOUS"}
    assert tags(aws)["tailpipe:managed-by"] == "tailpipe-exports"


def test_each_dataset_has_its_own_export(aws: LocalAws) -> None:
    """Names are exact: cur2 has the bare one, the others a suffix."""
    run(aws, EXPORTS="cur2,focus,carbon")
    assert set(aws.exports()) == {EXPORT, f"{EXPORT}-focus", f"{EXPORT}-carbon"}
    assert set(verbs(run(aws, EXPORTS="cur2,focus,carbon"))) == {"KEEP"}


def test_names_are_matched_exactly_and_not_by_prefix(aws: LocalAws) -> None:
    """An export whose name only begins like ours neither counts as ours nor is touched."""
    create(aws, {**definition(aws), "Name": f"{EXPORT}-2"})
    before = read(aws, f"{EXPORT}-2")
    assert outcome(run(aws), "export").action.verb is Verb.CREATE
    assert read(aws, f"{EXPORT}-2")["Export"] == before["Export"]


def test_keys_that_the_service_adds_are_no_drift(covered: LocalAws) -> None:
    """BILLING_VIEW_ARN and others appear on read: nothing is repaired for them."""
    shown = read(covered)["Export"]["DataQuery"]["TableConfigurations"][TABLE]
    assert "BILLING_VIEW_ARN" in shown
    assert set(verbs(run(covered))) == {"KEEP"}


def test_an_unmarked_export_of_our_shape_is_adopted_and_completed(aws: LocalAws) -> None:
    """The predecessor's export keeps its data and ARN, gets the missing columns and properties, and our mark."""
    arn = create(aws, definition(aws))
    finished = run(aws)
    adopted = outcome(finished, "export")
    assert (adopted.action.verb, adopted.result) == (Verb.ADOPT, Result.DONE)
    export = read(aws)["Export"]
    assert export["ExportArn"] == arn
    assert export["DataQuery"]["TableConfigurations"][TABLE]["INCLUDE_RESOURCES"] == "TRUE"
    assert tags(aws)["tailpipe:managed-by"] == "tailpipe-exports"
    assert set(verbs(run(aws))) == {"KEEP"}


def test_an_export_of_our_name_with_another_destination_is_left_alone(aws: LocalAws) -> None:
    """It is somebody else's: reported with where it delivers to, nothing overwritten, nothing tagged."""
    create(aws, definition(aws, S3Prefix="finance"))
    before = read(aws)["Export"]
    finished = run(aws)
    assert action(finished, "export").reason == "foreign"
    assert "/finance" in messages(finished)
    assert read(aws)["Export"] == before
    assert tags(aws) == {}


def test_an_own_export_whose_destination_was_changed_is_repaired(covered: LocalAws) -> None:
    """The mark says that it is ours, so what somebody changed is put back."""
    arn = read(covered)["Export"]["ExportArn"]
    changed = definition(covered, S3Prefix="elsewhere")
    covered.client("bcm-data-exports").update_export(ExportArn=arn, Export=changed)
    repaired = action(run(covered), "export")
    assert repaired.verb is Verb.REPAIR
    assert {"prefix", "columns", "properties"} <= set(repaired.changes)
    assert set(verbs(run(covered))) == {"KEEP"}


def test_an_export_that_two_deployments_want_is_fought_over_for_a_day_at_most(covered: LocalAws) -> None:
    """Whoever changes it back each time means it: after three repairs a person is asked; a day later it is tried."""
    client = covered.client("bcm-data-exports")
    arn = read(covered)["Export"]["ExportArn"]

    def change() -> None:
        export = {name: one for name, one in read(covered)["Export"].items() if name != "ExportArn"}
        export["DestinationConfigurations"]["S3Destination"]["S3Prefix"] = "theirs"
        client.update_export(ExportArn=arn, Export=export)

    def repaired() -> RunResult:
        change()
        covered.advance(HOUR)
        return run(covered)

    assert [action(repaired(), "export").verb for _ in range(4)] == [Verb.REPAIR] * 3 + [Verb.MANUAL]
    finished = repaired()
    assert outcome(finished, "export").code == "export-contested"
    assert "UpdateExport" in messages(finished)
    assert "prefix" in messages(finished)
    covered.advance(DAY)
    assert action(run(covered), "export").verb is Verb.REPAIR
    assert action(run(covered), "export").verb is Verb.KEEP


def test_more_columns_and_properties_than_asked_survive_a_repair(covered: LocalAws) -> None:
    """UpdateExport replaces everything, so the repair sends what the customer added along with it."""
    client = covered.client("bcm-data-exports")
    export = read(covered)["Export"]
    arn = export.pop("ExportArn")
    export["DataQuery"]["TableConfigurations"][TABLE] |= {"INCLUDE_SPLIT_COST_ALLOCATION_DATA": "TRUE"}
    export["DestinationConfigurations"]["S3Destination"]["S3Prefix"] = "elsewhere"
    client.update_export(ExportArn=arn, Export=export)
    run(covered)
    repaired = read(covered)["Export"]["DataQuery"]
    assert repaired["TableConfigurations"][TABLE]["INCLUDE_SPLIT_COST_ALLOCATION_DATA"] == "TRUE"
    assert "split_line_item_split_cost" in repaired["QueryStatement"]
    assert set(verbs(run(covered))) == {"KEEP"}


def test_a_filter_that_was_added_to_the_query_is_drift(covered: LocalAws) -> None:
    """It would leave costs out without anybody noticing."""
    client = covered.client("bcm-data-exports")
    export = read(covered)["Export"]
    arn = export.pop("ExportArn")
    export["DataQuery"]["QueryStatement"] += " WHERE line_item_line_item_type = 'Usage'"
    client.update_export(ExportArn=arn, Export=export)
    assert action(run(covered), "export").changes == ("filter",)


def test_columns_that_aws_adds_are_asked_for_within_a_day(covered: LocalAws) -> None:
    """The table is asked again once what is remembered is a day old; until then no call is made for it."""
    assert covered.calls.count("bcm-data-exports", "GetTable") == 0
    run(covered)
    assert covered.calls.count("bcm-data-exports", "GetTable") == 0
    covered.advance(DAY)
    covered.deliver()
    run(covered)
    assert covered.calls.count("bcm-data-exports", "GetTable") == 1


def test_a_name_that_is_taken_at_creation_is_looked_at_and_adopted(
    aws: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody created it between the listing and our call: the refusal is not a failure."""
    arn = create(aws, definition(aws))
    hide_first_listing(aws, monkeypatch)
    finished = run(aws)
    taken = outcome(finished, "export")
    assert (taken.action.verb, taken.result) == (Verb.CREATE, Result.DONE)
    assert read(aws)["Export"]["ExportArn"] == arn
    assert tags(aws)["tailpipe:managed-by"] == "tailpipe-exports"
    assert set(verbs(run(aws))) == {"KEEP"}


def test_a_taken_name_of_somebody_elses_export_is_reported(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked at after the refusal, it turns out to deliver elsewhere: nothing is overwritten."""
    create(aws, definition(aws, S3Prefix="finance"))
    hide_first_listing(aws, monkeypatch)
    taken = outcome(run(aws), "export")
    assert (taken.result, taken.code) == (Result.MANUAL, "export-foreign")
    assert tags(aws) == {}


def test_columns_that_change_between_question_and_creation_are_asked_again(aws: LocalAws) -> None:
    """The table's columns are AWS's to change at any time: the query is built anew."""
    refusal = "The columns in the query provided are not a subset of the table COST_AND_USAGE_REPORT's columns."
    aws.faults.add("bcm-data-exports", "CreateExport", "ValidationException", message=refusal)
    assert outcome(run(aws), "export").result is Result.DONE
    assert aws.calls.count("bcm-data-exports", "GetTable") == 2


def test_a_remembered_arn_that_leads_to_another_export_is_not_followed(covered: LocalAws) -> None:
    """An export is known by its exact name; what memory says of it is checked against the answer."""
    other = create(covered, {**definition(covered), "Name": f"{EXPORT}-2"})
    s3, bucket, key = covered.client("s3"), covered.deployment.bucket, "state/known_accounts.json"
    state = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    state["scopes"][covered.account]["targets"][f"export/{EXPORT}"]["facts"] |= {"arn": other, "marked": other}
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(state).encode())
    assert set(verbs(run(covered))) == {"KEEP"}
    assert covered.calls.count("bcm-data-exports", "UpdateExport") == 0


def test_a_full_quota_names_the_compatible_exports(aws: LocalAws) -> None:
    """A table takes few exports an account: the message lists those that exist."""
    for number in range(5):
        create(aws, {**definition(aws), "Name": f"theirs-{number}"})
    finished = run(aws)
    full = outcome(finished, "export")
    assert (full.result, full.code) == (Result.MANUAL, "export-quota")
    assert "theirs-0" in messages(finished)


def test_a_policy_that_was_just_put_is_waited_for() -> None:
    """Data Exports sees a new policy late: the creation is tried again within the run."""
    with local_aws(accounts=2, policy_delay_s=5) as cloud:
        cloud.remove_bucket_policy()
        cloud.advance(60)
        finished = run(cloud)
        assert outcome(finished, "export").result is Result.DONE
        assert cloud.calls.count("bcm-data-exports", "CreateExport") > 1


@pytest.mark.parametrize("refusal", ["S3 bucket permission validation failed: raw words of AWS", ""])
def test_a_validation_that_keeps_failing_is_repaired_once_and_then_reported(aws: LocalAws, refusal: str) -> None:
    """Deferred first; later the own statement is put once more; then a person reads the raw answer, empty or not."""
    aws.faults.add("bcm-data-exports", "CreateExport", "ValidationException", message=refusal, times=None)
    assert outcome(run(aws), "export").result is Result.DEFERRED
    aws.advance(HOUR)
    aws.calls.clear()
    finished = run(aws)
    assert outcome(finished, "export").result is Result.MANUAL
    assert aws.calls.count("s3", "PutBucketPolicy") == 1
    assert f"CreateExport answered ValidationException: {refusal}".strip() in messages(finished)
    aws.clear_faults()
    aws.advance(DAY)
    assert outcome(run(aws), "export").result is Result.DONE


def test_insufficient_permission_restores_the_own_statement(covered: LocalAws) -> None:
    """The statement is restored and the export written again; AWS's next refresh shows that it works."""
    covered.remove_bucket_policy_statement("TailpipeDataExports")
    covered.deliver()
    assert read(covered)["ExportStatus"]["StatusReason"] == "INSUFFICIENT_PERMISSION"
    finished = run(covered)
    assert outcome(finished, "bucket").action.verb is Verb.REPAIR
    repaired = outcome(finished, "export")
    assert (repaired.action.verb, repaired.action.reason) == (Verb.REPAIR, "unhealthy-insufficient-permission")
    covered.deliver()
    assert read(covered)["ExportStatus"]["StatusCode"] == "HEALTHY"
    assert set(verbs(run(covered))) == {"KEEP"}


def test_permission_trouble_that_stays_becomes_manual(covered: LocalAws) -> None:
    """Repaired once at first sight, waited for until the next refresh is due, then reported with AWS's words."""
    covered.set_export_health(EXPORT, "INSUFFICIENT_PERMISSION")
    assert action(run(covered), "export").verb is Verb.REPAIR
    covered.set_export_health(EXPORT, "INSUFFICIENT_PERMISSION")
    covered.advance(HOUR)
    assert action(run(covered), "export").verb is Verb.DEFER
    covered.advance(DAY + 2 * HOUR)
    finished = run(covered)
    assert action(finished, "export").verb is Verb.MANUAL
    assert "INSUFFICIENT_PERMISSION" in messages(finished)


@pytest.mark.parametrize("reason", ["BILL_OWNER_CHANGED", "DEPRECATED"])
def test_what_only_a_person_can_repair_is_reported(covered: LocalAws, reason: str) -> None:
    """The function neither deletes nor recreates the export; the step does, and the next run creates it again."""
    covered.set_export_health(EXPORT, reason)
    finished = run(covered)
    assert action(finished, "export").verb is Verb.MANUAL
    assert reason in messages(finished)
    arn = read(covered)["Export"]["ExportArn"]
    (step,) = finished.report["manual"]
    assert f"delete-export --export-arn {arn} --region us-east-1" in step["steps"][0]
    assert covered.calls.count("bcm-data-exports", "UpdateExport") == 0
    covered.client("bcm-data-exports").delete_export(ExportArn=arn)
    assert outcome(run(covered), "export").result is Result.DONE
    assert covered.exports() == {EXPORT: "HEALTHY"}


REASONS: Any = get_session().get_service_model("bcm-data-exports").shape_for("ExecutionStatusReason")
# What AWS has added at other times, by the words of its change log.
NEWER = ("SCHEMA_CHANGED", "ACCESS_DENIED", "SIZE_LIMIT_EXCEEDED", "KMS_KEY_DISABLED", "SOMETHING_NEW")


@pytest.mark.parametrize("reason", sorted({*REASONS.enum, *NEWER}))
def test_each_reason_of_an_unhealthy_export_ends_with_a_step(covered: LocalAws, reason: str) -> None:
    """Old, new and unknown reasons have a code of their own; what the function cannot cure ends with a person."""
    covered.set_export_health(EXPORT, reason)
    for _ in range(4):
        run(covered)
        covered.advance(DAY + 3 * HOUR)
    finished = run(covered)
    assert finished.report["scopes"]["covered"] == 0
    found = outcome(finished, "export")
    assert (found.result, found.code) == (Result.MANUAL, f"unhealthy-{reason.lower().replace('_', '-')}")
    (step,) = (one for one in finished.report["manual"] if one["scope"] == covered.account)
    assert reason in step["what"]
    assert all(step["steps"])


def test_a_query_that_the_table_no_longer_takes_is_written_anew(covered: LocalAws) -> None:
    """A changed schema is cured by asking for the columns as they are today."""
    covered.set_export_health(EXPORT, "SCHEMA_CHANGED")
    assert action(run(covered), "export").verb is Verb.REPAIR
    covered.set_export_health(EXPORT, None)
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_a_refused_update_becomes_a_step_that_works(aws: LocalAws) -> None:
    """Whether AWS takes other table configurations is not certain: a refusal ends with how to replace the export."""
    arn = create(aws, definition(aws))
    refusal = "Table configurations cannot be updated"
    aws.faults.add("bcm-data-exports", "UpdateExport", "ValidationException", message=refusal, times=None)
    finished = run(aws)
    refused = outcome(finished, "export")
    assert (refused.result, refused.code) == (Result.MANUAL, "export-update-refused")
    assert refusal in messages(finished)
    assert arn in messages(finished)
    assert finished.report["scopes"]["covered"] == 0
    aws.client("bcm-data-exports").delete_export(ExportArn=arn)
    aws.advance(DAY)
    assert outcome(run(aws), "export").result is Result.DONE


def test_a_taken_name_that_is_never_listed_becomes_a_persons_business(aws: LocalAws) -> None:
    """A listing may lag for minutes, not for days."""
    taken = "Cannot create duplicate export name"
    aws.faults.add("bcm-data-exports", "CreateExport", "ValidationException", message=taken, times=None)
    assert outcome(run(aws), "export").result is Result.DEFERRED
    for _ in range(4):
        aws.advance(6 * HOUR)
        run(aws)
    aws.advance(6 * HOUR)
    finished = run(aws)
    found = outcome(finished, "export")
    assert (found.result, found.code) == (Result.MANUAL, "name-taken-unseen")
    assert "legacy" in messages(finished)


def test_a_table_that_aws_does_not_offer_excludes_the_account(aws: LocalAws) -> None:
    """Nobody can cure it: no alarm, no step, and no claim that the account is covered."""
    aws.withdraw_table("FOCUS_1_2_AWS")
    finished = run(aws, EXPORTS="cur2,focus")
    refused = outcome(finished, "export", name=f"{EXPORT}-focus")
    assert (refused.result, refused.code) == (Result.EXCLUDED, "no-such-table")
    assert finished.report["scopes"]["excluded"] == 4
    assert {one["reason"] for one in finished.report["excluded"]} == {"no-such-table"}
    assert finished.report["manual"] == []


def test_a_silent_export_is_reported_and_uncovers_the_organization(covered: LocalAws) -> None:
    """HEALTHY and nothing delivered for days: no account of the organization is covered by it."""
    covered.silence_export(EXPORT, days=0)
    covered.advance(4 * DAY)
    assert covered.deliver() == {}
    finished = run(covered)
    assert outcome(finished, "export").code == "nothing-delivered"
    assert finished.report["scopes"]["covered"] == 0
    assert finished.report["scopes"]["delivering"] == 0
    covered.resume_export(EXPORT)
    covered.deliver()
    assert run(covered).report["scopes"]["covered"] == 4


def test_internal_failures_are_borne_for_three_runs(covered: LocalAws) -> None:
    """AWS usually mends them; after three runs a person is told, with what the last execution said."""
    covered.fail_execution(EXPORT, "QUERY_FAILURE", "INTERNAL_FAILURE")
    covered.deliver()
    seen = []
    for _ in range(5):
        seen.append(action(run(covered), "export").verb)
        covered.advance(HOUR)
    assert seen[0] is Verb.DEFER
    assert seen[-1] is Verb.MANUAL
    assert 2 <= seen.index(Verb.MANUAL) <= 3
    assert "QUERY_FAILURE" in messages(run(covered))


def test_the_first_delivery_is_waited_for_without_alarm(aws: LocalAws) -> None:
    """Nothing delivered on the first day is normal: pending, and covered."""
    run(aws)
    aws.advance(20 * HOUR)
    finished = run(aws)
    assert outcome(finished, "export").result is Result.PENDING
    assert finished.report["scopes"]["covered"] == 4


def test_nothing_delivered_for_two_days_is_reported_with_the_last_execution(aws: LocalAws) -> None:
    """HEALTHY is not believed against the bucket."""
    run(aws)
    aws.advance(49 * HOUR)
    finished = run(aws)
    assert action(finished, "export").reason == "nothing-delivered"
    assert "execut" in messages(finished)


def test_data_that_stops_is_noticed_and_resumes_quietly(covered: LocalAws) -> None:
    """Only the manifest counts, the last thing that a delivery writes."""
    covered.advance(47 * HOUR)
    assert action(run(covered), "export").verb is Verb.KEEP
    covered.advance(2 * HOUR)
    assert action(run(covered), "export").verb is Verb.MANUAL
    key = f"dataexport/{EXPORT}/metadata/BILLING_PERIOD=2026-11/other.json"
    covered.client("s3").put_object(Bucket=covered.deployment.bucket, Key=key, Body=b"{}")
    assert action(run(covered), "export").verb is Verb.MANUAL
    covered.deliver()
    assert action(run(covered), "export").verb is Verb.KEEP


def test_an_unreadable_export_is_unknown_and_never_created_again(covered: LocalAws) -> None:
    """A refused or failing read proves nothing."""
    for error in ("AccessDeniedException", "InternalServerException"):
        covered.clear_faults()
        covered.faults.add("bcm-data-exports", "GetExport", error, times=None)
        assert action(run(covered), "export").verb is Verb.DEFER
    assert covered.calls.count("bcm-data-exports", "CreateExport") == 0


def test_throttling_is_waited_out_within_the_run(aws: LocalAws) -> None:
    """Two refusals cost two waits, not the export."""
    aws.faults.add("bcm-data-exports", "CreateExport", "ThrottlingException", times=2, status=429)
    assert outcome(run(aws), "export").result is Result.DONE
    assert aws.calls.count("bcm-data-exports", "CreateExport") == 3
