"""The exports: created with all columns, adopted if they match, repaired field by field, evaluated by health."""

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
    """Return an export as GetExport returns it."""
    client = cloud.client("bcm-data-exports")
    arn = next(one["ExportArn"] for one in client.list_exports()["Exports"] if one["ExportName"] == name)
    answer: dict[str, Any] = client.get_export(ExportArn=arn)
    return answer


def definition(cloud: LocalAws, **destination: Any) -> dict[str, Any]:
    """Return the definition of an export as a customer's script may create it: few columns, no resources, no tag."""
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
    """Make the first listing return nothing, as it may be for a moment after a creation."""
    real = cloud.world.exports.of
    times = iter([True])
    monkeypatch.setattr(cloud.world.exports, "of", lambda account: [] if next(times, False) else real(account))


def tags(cloud: LocalAws) -> dict[str, str]:
    """Return the tags of the function's export."""
    arn = read(cloud)["Export"]["ExportArn"]
    answer = cloud.client("bcm-data-exports").list_tags_for_resource(ResourceArn=arn)
    return {one["Key"]: one["Value"] for one in answer["ResourceTags"]}


def test_export_has_the_documented_definition(aws: LocalAws) -> None:
    """CUR 2.0, hourly, with resources and all columns, gzip CSV, overwriting, with bucket owner and ownership tag."""
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
    """Names are exact: cur2 has the base name, the others have a suffix."""
    run(aws, EXPORTS="cur2,focus,carbon")
    assert set(aws.exports()) == {EXPORT, f"{EXPORT}-focus", f"{EXPORT}-carbon"}
    assert set(verbs(run(aws, EXPORTS="cur2,focus,carbon"))) == {"KEEP"}


def test_export_names_are_matched_exactly(aws: LocalAws) -> None:
    """An export whose name only starts with the function's name is not counted or changed."""
    create(aws, {**definition(aws), "Name": f"{EXPORT}-2"})
    before = read(aws, f"{EXPORT}-2")
    assert outcome(run(aws), "export").action.verb is Verb.CREATE
    assert read(aws, f"{EXPORT}-2")["Export"] == before["Export"]


def test_properties_added_by_aws_are_not_drift(covered: LocalAws) -> None:
    """AWS returns BILLING_VIEW_ARN and others: they cause no repair."""
    shown = read(covered)["Export"]["DataQuery"]["TableConfigurations"][TABLE]
    assert "BILLING_VIEW_ARN" in shown
    assert set(verbs(run(covered))) == {"KEEP"}


def test_untagged_export_with_the_same_destination_is_adopted(aws: LocalAws) -> None:
    """The predecessor's export keeps its data and ARN, and gets the missing columns, properties and the tag."""
    arn = create(aws, definition(aws))
    finished = run(aws)
    adopted = outcome(finished, "export")
    assert (adopted.action.verb, adopted.result) == (Verb.ADOPT, Result.DONE)
    export = read(aws)["Export"]
    assert export["ExportArn"] == arn
    assert export["DataQuery"]["TableConfigurations"][TABLE]["INCLUDE_RESOURCES"] == "TRUE"
    assert tags(aws)["tailpipe:managed-by"] == "tailpipe-exports"
    assert set(verbs(run(aws))) == {"KEEP"}


def test_export_with_our_name_and_another_destination_is_not_changed(aws: LocalAws) -> None:
    """It belongs to another owner: it is reported with its destination, and neither overwritten nor tagged."""
    create(aws, definition(aws, S3Prefix="finance"))
    before = read(aws)["Export"]
    finished = run(aws)
    assert action(finished, "export").reason == "foreign"
    assert "/finance" in messages(finished)
    assert read(aws)["Export"] == before
    assert tags(aws) == {}


def test_changed_destination_of_a_tagged_export_is_repaired(covered: LocalAws) -> None:
    """The tag shows that the function owns it, so the change is reverted."""
    arn = read(covered)["Export"]["ExportArn"]
    changed = definition(covered, S3Prefix="elsewhere")
    covered.client("bcm-data-exports").update_export(ExportArn=arn, Export=changed)
    repaired = action(run(covered), "export")
    assert repaired.verb is Verb.REPAIR
    assert {"prefix", "columns", "properties"} <= set(repaired.changes)
    assert set(verbs(run(covered))) == {"KEEP"}


def test_contested_export_is_repaired_at_most_three_times_a_day(covered: LocalAws) -> None:
    """After three repairs a manual step is reported; a day later the function tries again."""
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


def test_repair_keeps_additional_columns_and_properties(covered: LocalAws) -> None:
    """UpdateExport replaces the whole definition, so the repair includes the customer's additions."""
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


def test_filter_added_to_the_query_is_drift(covered: LocalAws) -> None:
    """It would silently leave costs out."""
    client = covered.client("bcm-data-exports")
    export = read(covered)["Export"]
    arn = export.pop("ExportArn")
    export["DataQuery"]["QueryStatement"] += " WHERE line_item_line_item_type = 'Usage'"
    client.update_export(ExportArn=arn, Export=export)
    assert action(run(covered), "export").changes == ("filter",)


def test_new_columns_are_exported_within_a_day(covered: LocalAws) -> None:
    """The table is read again when the remembered columns are a day old, and not before."""
    assert covered.calls.count("bcm-data-exports", "GetTable") == 0
    run(covered)
    assert covered.calls.count("bcm-data-exports", "GetTable") == 0
    covered.advance(DAY)
    covered.deliver()
    run(covered)
    assert covered.calls.count("bcm-data-exports", "GetTable") == 1


def test_matching_export_found_at_creation_is_adopted(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was created between listing and creation: the rejected creation is not a failure."""
    arn = create(aws, definition(aws))
    hide_first_listing(aws, monkeypatch)
    finished = run(aws)
    taken = outcome(finished, "export")
    assert (taken.action.verb, taken.result) == (Verb.CREATE, Result.DONE)
    assert read(aws)["Export"]["ExportArn"] == arn
    assert tags(aws)["tailpipe:managed-by"] == "tailpipe-exports"
    assert set(verbs(run(aws))) == {"KEEP"}


def test_other_owners_export_found_at_creation_is_reported(aws: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """It delivers elsewhere, so nothing is overwritten."""
    create(aws, definition(aws, S3Prefix="finance"))
    hide_first_listing(aws, monkeypatch)
    taken = outcome(run(aws), "export")
    assert (taken.result, taken.code) == (Result.MANUAL, "export-foreign")
    assert tags(aws) == {}


def test_columns_that_change_before_the_creation_are_read_again(aws: LocalAws) -> None:
    """AWS may change a table at any time: the query is built again."""
    refusal = "The columns in the query provided are not a subset of the table COST_AND_USAGE_REPORT's columns."
    aws.faults.add("bcm-data-exports", "CreateExport", "ValidationException", message=refusal)
    assert outcome(run(aws), "export").result is Result.DONE
    assert aws.calls.count("bcm-data-exports", "GetTable") == 2


def test_remembered_arn_of_another_export_is_not_used(covered: LocalAws) -> None:
    """An export is identified by its exact name, and the remembered ARN is checked against the response."""
    other = create(covered, {**definition(covered), "Name": f"{EXPORT}-2"})
    s3, bucket, key = covered.client("s3"), covered.deployment.bucket, "state/known_accounts.json"
    state = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    state["scopes"][covered.account]["targets"][f"export/{EXPORT}"]["facts"] |= {"arn": other, "marked": other}
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(state).encode())
    assert set(verbs(run(covered))) == {"KEEP"}
    assert covered.calls.count("bcm-data-exports", "UpdateExport") == 0


def test_reached_quota_names_the_existing_exports(aws: LocalAws) -> None:
    """An account can have few exports of a table: the message lists them."""
    for number in range(5):
        create(aws, {**definition(aws), "Name": f"theirs-{number}"})
    finished = run(aws)
    full = outcome(finished, "export")
    assert (full.result, full.code) == (Result.MANUAL, "export-quota")
    assert "theirs-0" in messages(finished)


def test_creation_is_retried_until_a_new_policy_is_effective() -> None:
    """Data Exports sees a new bucket policy late: the creation is retried within the run."""
    with local_aws(accounts=2, policy_delay_s=5) as cloud:
        cloud.remove_bucket_policy()
        cloud.advance(60)
        finished = run(cloud)
        assert outcome(finished, "export").result is Result.DONE
        assert cloud.calls.count("bcm-data-exports", "CreateExport") > 1


@pytest.mark.parametrize("refusal", ["S3 bucket permission validation failed: raw words of AWS", ""])
def test_persistent_bucket_validation_failure_is_repaired_once_then_reported(aws: LocalAws, refusal: str) -> None:
    """Deferred first; then the statement is written again; then AWS's message, even an empty one, is reported."""
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


def test_insufficient_permission_restores_the_bucket_statement(covered: LocalAws) -> None:
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


def test_persistent_insufficient_permission_becomes_manual(covered: LocalAws) -> None:
    """Repaired once, deferred until the next refresh is due, then reported with AWS's message."""
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
def test_export_that_must_be_replaced_is_reported(covered: LocalAws, reason: str) -> None:
    """The function neither deletes nor recreates it; after the manual step the next run creates it again."""
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
# Reasons that AWS added later, from its change log.
NEWER = ("SCHEMA_CHANGED", "ACCESS_DENIED", "SIZE_LIMIT_EXCEEDED", "KMS_KEY_DISABLED", "SOMETHING_NEW")


@pytest.mark.parametrize("reason", sorted({*REASONS.enum, *NEWER}))
def test_each_unhealthy_reason_ends_with_a_manual_step(covered: LocalAws, reason: str) -> None:
    """Old, new and unknown reasons have their own codes; what the function cannot repair becomes a manual step."""
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


def test_query_that_no_longer_matches_the_table_is_rewritten(covered: LocalAws) -> None:
    """After a change of the schema, the query selects the present columns."""
    covered.set_export_health(EXPORT, "SCHEMA_CHANGED")
    assert action(run(covered), "export").verb is Verb.REPAIR
    covered.set_export_health(EXPORT, None)
    covered.deliver()
    assert set(verbs(run(covered))) == {"KEEP"}


def test_rejected_update_becomes_a_manual_step(aws: LocalAws) -> None:
    """AWS may not accept other table configurations; following the step replaces the export."""
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


def test_taken_name_that_is_never_listed_becomes_a_manual_step(aws: LocalAws) -> None:
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


def test_unavailable_table_excludes_the_account(aws: LocalAws) -> None:
    """It cannot be repaired: no alarm, no manual step, and the account does not count as covered."""
    aws.withdraw_table("FOCUS_1_2_AWS")
    finished = run(aws, EXPORTS="cur2,focus")
    refused = outcome(finished, "export", name=f"{EXPORT}-focus")
    assert (refused.result, refused.code) == (Result.EXCLUDED, "no-such-table")
    assert finished.report["scopes"]["excluded"] == 4
    assert {one["reason"] for one in finished.report["excluded"]} == {"no-such-table"}
    assert finished.report["manual"] == []


def test_export_without_deliveries_is_reported_and_covers_no_account(covered: LocalAws) -> None:
    """AWS reports HEALTHY but delivers nothing for days: no account of the organization is covered."""
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


def test_internal_failures_are_tolerated_for_three_runs(covered: LocalAws) -> None:
    """AWS usually recovers; after three runs a manual step is reported with the last execution's result."""
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


def test_first_delivery_is_awaited_without_alarm(aws: LocalAws) -> None:
    """No delivery on the first day is normal: pending, and covered."""
    run(aws)
    aws.advance(20 * HOUR)
    finished = run(aws)
    assert outcome(finished, "export").result is Result.PENDING
    assert finished.report["scopes"]["covered"] == 4


def test_two_days_without_delivery_are_reported_with_the_last_execution(aws: LocalAws) -> None:
    """The bucket counts more than the status HEALTHY."""
    run(aws)
    aws.advance(49 * HOUR)
    finished = run(aws)
    assert action(finished, "export").reason == "nothing-delivered"
    assert "execut" in messages(finished)


def test_stopped_data_is_detected_and_its_return_resolves_it(covered: LocalAws) -> None:
    """Only the manifest counts, which a delivery writes last."""
    covered.advance(47 * HOUR)
    assert action(run(covered), "export").verb is Verb.KEEP
    covered.advance(2 * HOUR)
    assert action(run(covered), "export").verb is Verb.MANUAL
    key = f"dataexport/{EXPORT}/metadata/BILLING_PERIOD=2026-11/other.json"
    covered.client("s3").put_object(Bucket=covered.deployment.bucket, Key=key, Body=b"{}")
    assert action(run(covered), "export").verb is Verb.MANUAL
    covered.deliver()
    assert action(run(covered), "export").verb is Verb.KEEP


def test_unreadable_export_is_unknown_and_not_recreated(covered: LocalAws) -> None:
    """A denied or failed read proves nothing."""
    for error in ("AccessDeniedException", "InternalServerException"):
        covered.clear_faults()
        covered.faults.add("bcm-data-exports", "GetExport", error, times=None)
        assert action(run(covered), "export").verb is Verb.DEFER
    assert covered.calls.count("bcm-data-exports", "CreateExport") == 0


def test_throttled_calls_are_retried_within_the_run(aws: LocalAws) -> None:
    """Two throttled calls cost two waits, and the export is still observed."""
    aws.faults.add("bcm-data-exports", "CreateExport", "ThrottlingException", times=2, status=429)
    assert outcome(run(aws), "export").result is Result.DONE
    assert aws.calls.count("bcm-data-exports", "CreateExport") == 3
