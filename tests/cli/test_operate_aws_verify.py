"""doctor, onboarding and verify on AWS: what is looked at, and what is said when something is broken."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cli.operate.model import Finding
from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import run
from tests.cli.aws_operator import FUNCTION, account, at, sign_in, tailpipe, told
from tests.localcloud.aws.sessions import document

CONNECTOR = "tailpipe-connector-role"
KEYS = {
    "awsAccountNumber": None,
    "region": None,
    "isManagementAccount": None,
    "organizationRootId": None,
    "tailpipe": {"externalId", "connectorRoleArn"},
    "costExport": {"name", "s3Bucket", "s3Prefix", "exportArn", "bcmRegion"},
    "iamRole": {"name", "arn"},
    "childAccounts": {
        "configured",
        "count",
        "allAccounts",
        "selectedAccounts",
        "childRoleName",
        "stackSetName",
    },
}


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return a deployment in an organisation of three accounts, signed in to, whose function ran once."""
    with account(accounts=3) as cloud:
        sign_in(cloud, monkeypatch)
        assert run(cloud).report["status"] == "ok"
        yield cloud


def broken() -> list[Finding]:
    """Return what verify finds that is not well."""
    operator, place = at()
    return [one for one in operator.verify(place) if one.ok is not True]


def test_doctor_shows_each_right_and_the_one_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json the document is alone on standard output; each right is present, or missing with a remedy."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        cloud.deny("sqs:CreateQueue")
        result = tailpipe("doctor", "aws", "--json")
        assert result.exit_code == 1
        shown = json.loads(result.stdout)
        assert (shown["cloud"], shown["place"]) == ("aws", cloud.account)
        missing = [one for one in shown["rights"] if not one["present"]]
        assert [one["right"] for one in missing] == ["sqs:CreateQueue"]
        assert "infra/aws/operator-deploy-policy.json" in missing[0]["remedy"]
        assert "1 missing" in told(result)
        cloud.allow("sqs:CreateQueue")
        assert tailpipe("doctor", "aws").exit_code == 0


def test_rights_that_cannot_be_read_are_unknown_and_stop_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the simulator nothing is known to be missing: each right says why, and the exit code is 0."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        cloud.deny("iam:SimulatePrincipalPolicy")
        result = tailpipe("doctor", "aws", "--json")
    rights = json.loads(result.stdout)["rights"]
    assert (result.exit_code, {one["present"] for one in rights}) == (0, {None})
    assert "the simulator could not be asked" in rights[0]["detail"]
    assert rights[0]["remedy"] == "Grant iam:SimulatePrincipalPolicy to see."
    assert f"{len(rights)} could not be looked at" in told(result)


def test_the_onboarding_document_has_the_keys_of_the_earlier_scripts(aws: LocalAws) -> None:
    """Exactly these keys, with what is live: the export's ARN, the accounts, the External ID that is asked for."""
    result = tailpipe("onboarding", "aws")
    found = json.loads(result.stdout)
    assert {name: set(value) if isinstance(value, dict) else None for name, value in found.items()} == KEYS
    assert list(found) == list(KEYS)
    assert (found["awsAccountNumber"], found["isManagementAccount"]) == (aws.account, True)
    assert found["tailpipe"] == {
        "externalId": aws.deployment.external_id,
        "connectorRoleArn": aws.deployment.principal,
    }
    assert found["costExport"]["exportArn"] == aws.client("bcm-data-exports").list_exports()["Exports"][0]["ExportArn"]
    assert found["costExport"]["s3Bucket"] == aws.deployment.bucket
    assert found["iamRole"] == {"name": CONNECTOR, "arn": f"arn:aws:iam::{aws.account}:role/{CONNECTOR}"}
    assert found["childAccounts"] == {
        "configured": True,
        "count": 2,
        "allAccounts": True,
        "selectedAccounts": [],
        "childRoleName": "tailpipe-child-connector",
        "stackSetName": "Tailpipe-CloudWatch-Child-StackSet",
    }
    assert aws.deployment.external_id not in result.stderr


def test_selected_accounts_are_named(aws: LocalAws) -> None:
    """Where accounts were chosen, those that have the role are listed."""
    member = min(set(aws.accounts()) - {aws.account})
    configure(aws, INCLUDE_ACCOUNTS=",".join([aws.account, member]))
    other = max(set(aws.accounts()) - {aws.account})
    aws.remove_instance(other)
    found = json.loads(tailpipe("onboarding", "aws").stdout)["childAccounts"]
    assert (found["allAccounts"], found["count"], found["selectedAccounts"]) == (False, 1, [member])


def test_an_account_without_organisation_has_no_children(monkeypatch: pytest.MonkeyPatch) -> None:
    """Same keys, no root, no accounts; before the first run there is no export to name."""
    with account(kind="standalone") as cloud:
        sign_in(cloud, monkeypatch)
        found = json.loads(tailpipe("onboarding", "aws").stdout)
    assert {name: set(value) if isinstance(value, dict) else None for name, value in found.items()} == KEYS
    assert (found["isManagementAccount"], found["organizationRootId"]) == (False, None)
    assert found["costExport"]["exportArn"] is None
    assert (found["childAccounts"]["configured"], found["childAccounts"]["count"]) == (False, 0)


def test_a_sound_deployment_has_nothing_to_complain_of(aws: LocalAws) -> None:
    """Schedule, destination, export and connector are all looked at and well."""
    operator, place = at()
    found = operator.verify(place)
    assert [one.ok for one in found] == [True] * 6
    assert aws.deployment.external_id not in str(found)


def configure(aws: LocalAws, **settings: str) -> None:
    """Give the function further settings."""
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION, Environment={"Variables": aws.deployment.settings() | settings}
    )


def schedule(aws: LocalAws, **changed: Any) -> None:
    """Change the schedule."""
    client = aws.client("scheduler")
    kept = client.get_schedule(Name=FUNCTION, GroupName=FUNCTION)
    names = ("Name", "GroupName", "ScheduleExpression", "FlexibleTimeWindow", "Target", "State")
    client.update_schedule(**{name: kept[name] for name in names} | changed)


def trust(aws: LocalAws, *statements: dict[str, Any]) -> None:
    """Change whom the connector role trusts."""
    text = document(*({"Action": "sts:AssumeRole", **one} for one in statements))
    aws.client("iam").update_assume_role_policy(RoleName=CONNECTOR, PolicyDocument=text)


def asking(aws: LocalAws, external_id: str = "") -> dict[str, Any]:
    """Return the condition for an External ID, the right one unless another is given."""
    return {"StringEquals": {"sts:ExternalId": external_id or aws.deployment.external_id}}


def _disable(aws: LocalAws) -> None:
    schedule(aws, State="DISABLED")


def _other_target(aws: LocalAws) -> None:
    kept = aws.client("scheduler").get_schedule(Name=FUNCTION, GroupName=FUNCTION)["Target"]
    schedule(aws, Target={**kept, "Arn": kept["Arn"].replace(FUNCTION, "somebody-elses")})


def _no_schedule(aws: LocalAws) -> None:
    aws.client("scheduler").delete_schedule(Name=FUNCTION, GroupName=FUNCTION)


def _no_statement(aws: LocalAws) -> None:
    aws.remove_bucket_policy_statement("TailpipeDataExports")


def _no_policy(aws: LocalAws) -> None:
    aws.remove_bucket_policy()


def _no_export(aws: LocalAws) -> None:
    aws.delete_export("tailpipe-dataexport")


def _sick_export(aws: LocalAws) -> None:
    aws.set_export_health("tailpipe-dataexport", "INSUFFICIENT_PERMISSION")


def _other_external_id(aws: LocalAws) -> None:
    trust(aws, {"Principal": {"AWS": aws.deployment.principal}, "Condition": asking(aws, "another-external-id")})


def _no_external_id(aws: LocalAws) -> None:
    trust(aws, {"Principal": {"AWS": aws.deployment.principal}})


def _somebody_else(aws: LocalAws) -> None:
    arn = "arn:aws:iam::999988887777:root"
    own = {"Principal": {"AWS": aws.deployment.principal}, "Condition": asking(aws)}
    trust(aws, own, {"Principal": {"AWS": arn}, "Condition": asking(aws)})


def _a_service_too(aws: LocalAws) -> None:
    both = {"AWS": aws.deployment.principal, "Service": "ec2.amazonaws.com"}
    trust(aws, {"Principal": both, "Condition": asking(aws)})


@pytest.mark.parametrize(
    ("harm", "what"),
    [
        (_disable, "the schedule starts the function"),
        (_other_target, "the schedule starts the function"),
        (_no_schedule, "the schedule starts the function"),
        (_no_statement, "the export service may write to"),
        (_no_policy, "the export service may write to"),
        (_no_export, "the export"),
        (_sick_export, "export tailpipe-dataexport"),
        (_other_external_id, f"role {CONNECTOR} asks for the External ID that was given"),
        (_no_external_id, f"role {CONNECTOR} asks for the External ID that was given"),
        (_somebody_else, f"role {CONNECTOR} trusts Tailpipe alone"),
        (_a_service_too, f"role {CONNECTOR} trusts Tailpipe alone"),
    ],
)
def test_what_is_broken_is_the_only_thing_that_is_told(
    aws: LocalAws, harm: Callable[[LocalAws], None], what: str
) -> None:
    """One harm, one finding, with what to do; no External ID is quoted."""
    harm(aws)
    (found,) = broken()
    assert (found.ok, found.what.startswith(what)) == (False, True), found
    assert found.remedy
    for secret in (aws.deployment.external_id, "another-external-id"):
        assert secret not in str(found)


def test_a_role_that_anybody_may_assume_is_found_by_trying(aws: LocalAws) -> None:
    """The operator, whom the role must refuse, can assume it: told beside whom it trusts and what it asks for."""
    trust(aws, {"Principal": {"AWS": "*"}})
    assert [one.what for one in broken()] == [
        f"role {CONNECTOR} trusts Tailpipe alone",
        f"role {CONNECTOR} asks for the External ID that was given",
        "the role is refused without the External ID",
    ]
    assert broken()[-1].ok is False


def test_a_role_that_is_gone_is_told(aws: LocalAws) -> None:
    """Deleted by somebody: deploying again brings it back, and the document has no ARN."""
    iam = aws.client("iam")
    for name in iam.list_role_policies(RoleName=CONNECTOR)["PolicyNames"]:
        iam.delete_role_policy(RoleName=CONNECTOR, PolicyName=name)
    iam.delete_role(RoleName=CONNECTOR)
    (found,) = broken()
    assert (found.what, found.ok, found.remedy) == (f"role {CONNECTOR}", False, "Deploy again.")
    shown = json.loads(tailpipe("onboarding", "aws").stdout)
    assert (shown["iamRole"]["arn"], shown["tailpipe"]["externalId"]) == (None, None)


def test_what_may_not_be_looked_at_is_unknown(aws: LocalAws) -> None:
    """A refused read is neither well nor broken."""
    for action in ("scheduler:GetSchedule", "s3:GetBucketPolicy", "iam:GetRole", "bcm-data-exports:ListExports"):
        aws.deny(action)
    found = broken()
    assert [one.ok for one in found] == [None] * 4, found


def test_settings_that_the_function_would_refuse_are_told(aws: LocalAws) -> None:
    """Changed by hand, they fail the next run; nothing that rests on them is guessed."""
    configure(aws, CALL_BUDGET="many")
    (found,) = broken()
    assert (found.what, found.ok) == ("the function's settings", False)
    assert "CALL_BUDGET" in found.detail
