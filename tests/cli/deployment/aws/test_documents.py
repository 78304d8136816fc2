"""`tailpipe-exports doctor aws` and `tailpipe-exports onboarding aws`: their text and their JSON documents."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import Result

from localcloud.aws.cloud import LocalAws
from tests.aws_lambda.support import run
from tests.cli.support.aws import FUNCTION, account, at, sign_in, stderr_of, tailpipe
from tests.localcloud.aws.helpers import (
    OTHER_MANAGEMENT,
    join_another_organization,
    leave_own_organization,
    manage_another_organization,
)

CONNECTOR = "tailpipe-connector-role"
ACCESS = "StackSets' access to the organization"
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
    """Return a deployment in an organization of three accounts, signed in, after one run of the function."""
    with account(accounts=3) as cloud:
        sign_in(cloud, monkeypatch)
        assert run(cloud).report["status"] == "ok"
        yield cloud


def test_doctor_lists_every_permission_and_the_missing_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """With --json, standard output has only the document; a missing permission has a remedy."""
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
        assert "1 missing" in stderr_of(result)
        cloud.allow("sqs:CreateQueue")
        assert tailpipe("doctor", "aws").exit_code == 0


def looked_at(result: Result) -> dict[str, tuple[bool | None, str]]:
    """Return what doctor checked besides the permissions: the result and the message of each check."""
    found = json.loads(result.stdout)["surroundings"]
    return {one["what"]: (one["ok"], f"{one['detail']} {one['remedy']}") for one in found}


def test_doctor_detects_changes_of_the_accounts_organization(aws: LocalAws) -> None:
    """It reports a function that no longer fits its account, with both remedies, and disabled access."""
    function, access = f"function {FUNCTION} is deployed for a management account", ACCESS
    fits = looked_at(tailpipe("doctor", "aws", "--json"))
    assert {what: ok for what, (ok, _) in fits.items()} == {function: True, access: True}
    leave_own_organization(aws)
    ok, said = looked_at(tailpipe("doctor", "aws", "--json"))[function]
    assert (ok, "in no organization now" in said) == (True, True)
    join_another_organization(aws)
    result = tailpipe("doctor", "aws", "--json")
    ok, said = looked_at(result)[function]
    assert (result.exit_code, ok) == (1, False)
    assert "--var account_kind=standalone" in said
    assert f"management account {OTHER_MANAGEMENT}" in said
    manage_another_organization(aws, members=1)
    found = looked_at(tailpipe("doctor", "aws", "--json"))
    assert (found[function][0], found[access][0]) == (True, False)
    assert "tailpipe-exports deploy aws" in found[access][1]


def test_doctor_reports_what_a_standalone_function_does_not_cover(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the account creates an organization, doctor says how members get their role."""
    with account(kind="standalone") as cloud:
        sign_in(cloud, monkeypatch)
        function = f"function {FUNCTION} is deployed for a standalone account"
        assert looked_at(tailpipe("doctor", "aws", "--json"))[function] == (True, " ")
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        result = tailpipe("doctor", "aws", "--json")
        ok, said = looked_at(result)[function]
    assert (result.exit_code, ok) == (0, True)
    assert "members get no role" in said


def test_permissions_that_cannot_be_read_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the policy simulator, each permission has the reason, and the exit code is 0."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        cloud.deny("iam:SimulatePrincipalPolicy")
        result = tailpipe("doctor", "aws", "--json")
    rights = json.loads(result.stdout)["rights"]
    assert (result.exit_code, {one["present"] for one in rights}) == (0, {None})
    assert "the simulator could not be called" in rights[0]["detail"]
    assert rights[0]["remedy"] == "Grant iam:SimulatePrincipalPolicy to check this."
    assert f"{len(rights)} could not be checked" in stderr_of(result)


def test_onboarding_document_has_the_keys_of_the_old_scripts(aws: LocalAws) -> None:
    """The values are live: the export's ARN, the accounts, and the required External ID."""
    result = tailpipe("onboarding", "aws", "--show-secret")
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


def test_onboarding_lists_the_selected_accounts(aws: LocalAws) -> None:
    """Only accounts with the role are listed."""
    member = min(set(aws.accounts()) - {aws.account})
    aws.client("lambda").update_function_configuration(
        FunctionName=FUNCTION,
        Environment={"Variables": aws.deployment.settings() | {"INCLUDE_ACCOUNTS": f"{aws.account},{member}"}},
    )
    other = max(set(aws.accounts()) - {aws.account})
    aws.remove_instance(other)
    found = json.loads(tailpipe("onboarding", "aws").stdout)["childAccounts"]
    assert (found["allAccounts"], found["count"], found["selectedAccounts"]) == (False, 1, [member])


def test_onboarding_of_a_standalone_account_has_no_members(monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys are the same; before the first run, there is no export."""
    with account(kind="standalone") as cloud:
        sign_in(cloud, monkeypatch)
        found = json.loads(tailpipe("onboarding", "aws").stdout)
    assert {name: set(value) if isinstance(value, dict) else None for name, value in found.items()} == KEYS
    assert (found["isManagementAccount"], found["organizationRootId"]) == (False, None)
    assert found["costExport"]["exportArn"] is None
    assert (found["childAccounts"]["configured"], found["childAccounts"]["count"]) == (False, 0)


def test_onboarding_reports_a_deleted_role(aws: LocalAws) -> None:
    """The document has no ARN; deploying again recreates the role."""
    iam = aws.client("iam")
    for name in iam.list_role_policies(RoleName=CONNECTOR)["PolicyNames"]:
        iam.delete_role_policy(RoleName=CONNECTOR, PolicyName=name)
    iam.delete_role(RoleName=CONNECTOR)
    operator = at()
    (found,) = (one for one in operator.verify() if one.ok is not True)
    assert (found.what, found.ok, found.remedy) == (f"role {CONNECTOR}", False, "Deploy again.")
    shown = json.loads(tailpipe("onboarding", "aws").stdout)
    assert (shown["iamRole"]["arn"], shown["tailpipe"]["externalId"]) == (None, None)
