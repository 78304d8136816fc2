"""Checks before a deployment to AWS: what would fail is refused before anything is created, with the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.aws.operator import AwsOperator
from cli.deployment.model import AGAIN, OperatorError
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import GIVEN, account, assume, at, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import terraform
from tests.cli.support.terraform_double import TerraformDouble
from tests.localcloud.aws.helpers import create_export
from tests.localcloud.aws.iam.sessions import client_in, document, make_role

pytestmark = pytest.mark.long

OTHER = "999988887777"
__all__ = ["terraform"]  # a fixture, which pytest finds by name


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return an organization without a deployment, signed in to its management account."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        sign_in(cloud, monkeypatch)
        yield cloud


def refused(cloud: LocalAws, terraform: TerraformDouble, *more: str) -> Result:
    """Deploy, and verify that the cloud is unchanged and that Terraform was at most called for its version."""
    cloud.clear_calls()
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, *more)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert writes(cloud) == []
    assert {one.argv[0] for one in terraform.calls()} <= {"version"}
    assert EXTERNAL_ID not in result.output
    return result


def details(cloud: LocalAws, **given: Any) -> dict[str, tuple[bool | None, str]]:
    """Return the findings of the preflight by subject."""
    operator = at(**given)
    return {one.what: (one.ok, one.detail) for one in operator.preflight(given)}


@pytest.mark.parametrize("kind", ["member", "delegated"])
def test_member_account_is_refused_with_both_remedies(
    kind: Any, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its export would have only its own costs, also for a delegated administrator."""
    with account(accounts=3, kind=kind) as cloud:
        sign_in(cloud, monkeypatch)
        management = cloud.organization.management if cloud.organization else ""
        for asked in ((), ("--var", "account_kind=management")):
            result = refused(cloud, terraform, *asked)
            assert f"{cloud.account} is a member of organization" in stderr_of(result)
            assert f"management account {management}" in stderr_of(result)
            assert "--var account_kind=standalone" in stderr_of(result)
            assert "elegate" not in stderr_of(result)


@pytest.mark.parametrize("way", ["variable", "environment"])
def test_member_account_can_be_deployed_standalone(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the deployment nor the operator needs the organization."""
    with account(accounts=3, kind="member") as cloud:
        sign_in(cloud, monkeypatch)
        given: dict[str, Any] = {"account_kind": "standalone"} if way == "variable" else {}
        if way == "environment":
            monkeypatch.setenv("ACCOUNT_KIND", "standalone")
        operator = at(**given)
        values = {**given, **operator.detected(given)}
        assert values == {"account_kind": "standalone"}
        cloud.clear_calls()
        found = operator.preflight(values)
        assert [one for one in found if one.ok is not True] == []
        assert cloud.calls.count("organizations") == cloud.calls.count("cloudformation") == 0
        rights = {one.what for one in operator.rights()}
        assert "lambda:CreateFunction" in rights
        assert not [one for one in rights if "StackSet" in one or one == "organizations:ListAccounts"]


def test_organization_without_all_features_is_deployed_without_member_roles(
    terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """StackSets need all features; the operator chooses."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="CONSOLIDATED_BILLING")
        sign_in(cloud, monkeypatch)
        result = refused(cloud, terraform)
        assert "has consolidated billing only" in stderr_of(result)
        assert "aws organizations enable-all-features" in stderr_of(result)
        assert "--var account_kind=standalone" in stderr_of(result)
        operator = at()
        assert operator.detected({"account_kind": "standalone"}) == {"account_kind": "standalone"}
        assert not [what for what in details(cloud, account_kind="standalone") if "StackSet" in what]


def test_account_kind_must_match_the_account(terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch) -> None:
    """An impossible or unknown kind is refused."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        result = refused(cloud, terraform, "--var", "account_kind=management")
        assert f"{cloud.account} is in no organization" in stderr_of(result)
        monkeypatch.setenv("ACCOUNT_KIND", "alone")
        assert "account_kind is 'alone'" in stderr_of(refused(cloud, terraform))


def test_doctor_reports_the_possible_kinds_of_a_member_account(monkeypatch: pytest.MonkeyPatch) -> None:
    """It checks the account's permissions, except those over other accounts."""
    with LocalAws(accounts=2, kind="member") as cloud:
        sign_in(cloud, monkeypatch)
        result = tailpipe("doctor", "aws")
    assert result.exit_code == 0, result.output
    assert "member account" in stderr_of(result)
    assert "deploys: with account_kind=standalone" in stderr_of(result)
    assert "CreateStackSet" not in stderr_of(result)


def test_invalid_credentials_are_reported_without_other_checks(bare: LocalAws, terraform: TerraformDouble) -> None:
    """An expired login has the command to sign in."""
    bare.fault("sts", "GetCallerIdentity", "ExpiredToken", "The security token included in the request is expired")
    result = refused(bare, terraform)
    assert "AWS did not accept these credentials" in stderr_of(result)
    assert "aws sso login" in stderr_of(result)


def test_missing_network_is_not_called_a_refused_sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The credentials were not looked at, so that another login would not help."""
    for name, value in (("ACCESS_KEY_ID", "AKIAEXAMPLE"), ("SECRET_ACCESS_KEY", "none"), ("REGION", "eu-west-1")):
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    result = tailpipe("doctor", "aws")
    assert result.exit_code == 1
    assert "AWS could not be reached" in stderr_of(result)
    assert AGAIN in stderr_of(result)


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_ENDPOINT_URL"])
def test_invalid_profile_or_endpoint_is_reported_in_one_line(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """The SDK refuses it before any call; no traceback is shown."""
    monkeypatch.setenv(name, "nonsense")
    assert "nonsense" in stderr_of(refused(bare, terraform))


def test_missing_or_unknown_region_names_the_variable(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator chooses the function's region."""
    monkeypatch.setenv("AWS_REGION", "nowhere-1")
    assert "'nowhere-1' is in no AWS partition" in stderr_of(refused(bare, terraform))
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "no region is set Set AWS_REGION" in stderr_of(refused(bare, terraform))


def test_organization_that_cannot_be_read_is_unknown(bare: LocalAws, terraform: TerraformDouble) -> None:
    """The kind of the account is then requested, and a given value applies."""
    bare.deny("organizations:DescribeOrganization")
    result = refused(bare, terraform)
    assert "--var account_kind=management" in stderr_of(result)
    operator = at()
    assert operator.detected({"account_kind": "management"}) == {"account_kind": "management"}


def test_missing_permission_has_the_commands_that_grant_it(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each action is named; for a role, the commands create and attach the two shipped policies."""
    role = make_role(bare, "some-admin", {"Action": ["organizations:*", "iam:Simulate*", "iam:Get*"], "Resource": "*"})
    assume(bare, role, monkeypatch)
    result = refused(bare, terraform)
    assert "✗ lambda:CreateFunction" in stderr_of(result)
    assert "✗ iam:GetRole " not in stderr_of(result)
    for purpose in ("deploy", "destroy"):
        assert f"--policy-document file://infra/aws/operator-{purpose}-policy.json" in stderr_of(result)
        attach = f"aws iam attach-role-policy --role-name some-admin --policy-arn arn:aws:iam::{bare.account}:policy"
        assert f"{attach}/tailpipe-{purpose}" in stderr_of(result)
    assert "permissions are missing; nothing was created" in stderr_of(result)


def test_all_missing_values_are_reported_together(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Environment and External ID are named, the secret without the command line as a way to pass it."""
    result = tailpipe("deploy", "aws", "--yes")
    assert "environment is required" in stderr_of(result)
    assert "external_id is required" not in stderr_of(result)
    assert (result.exit_code, terraform.calls(), writes(bare)[1:]) == (1, [], [])


def test_bucket_of_another_account_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Bucket names are global; the variable that chooses another name is shown."""
    taken = f"tailpipe-dataexport-{bare.account}"
    bare.client("s3", OTHER).create_bucket(Bucket=taken, CreateBucketConfiguration={"LocationConstraint": bare.region})
    result = refused(bare, terraform)
    assert f"bucket {taken}: belongs to another account" in stderr_of(result)
    assert "--var bucket_name=NAME" in stderr_of(result)
    assert details(bare, bucket_name="tailpipe-of-my-own")["bucket tailpipe-of-my-own"] == (True, "the name is free")


def test_own_bucket_in_another_region_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Terraform cannot adopt the old scripts' bucket from this region."""
    bucket = f"tailpipe-dataexport-{bare.account}"
    elsewhere = client_in(bare, "s3", "eu-north-1")
    elsewhere.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    elsewhere.close()
    result = refused(bare, terraform)
    assert f"bucket {bucket}: is in eu-north-1, and this deployment is for {bare.region}" in stderr_of(result)
    assert "AWS_REGION=eu-north-1" in stderr_of(result)


def test_state_bucket_of_another_account_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """The state contains the External ID."""
    bare.client("s3", OTHER).create_bucket(
        Bucket=f"tailpipe-terraform-{bare.account}", CreateBucketConfiguration={"LocationConstraint": bare.region}
    )
    result = refused(bare, terraform, "--var", "package=README.md")
    assert f"bucket tailpipe-terraform-{bare.account} belongs to another account" in stderr_of(result)
    assert "--local-state DIR" in stderr_of(result)


def test_state_bucket_in_another_region_is_used(bare: LocalAws) -> None:
    """It has this region's state under its own key."""
    operator = at()
    assert operator.backend().configuration["region"] == bare.region
    elsewhere = client_in(bare, "s3", "eu-north-1")
    elsewhere.create_bucket(
        Bucket=f"tailpipe-terraform-{bare.account}",
        CreateBucketConfiguration={"LocationConstraint": "eu-north-1"},
    )
    elsewhere.close()
    configuration = operator.backend().configuration
    assert (configuration["region"], configuration["key"]) == ("eu-north-1", f"tailpipe-exports/{bare.region}.tfstate")


def test_foreign_connector_role_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """A role of that name without our mark or Tailpipe's trust ends the deployment."""
    make_role(bare, "tailpipe-connector-role")
    result = refused(bare, terraform)
    assert "role tailpipe-connector-role: exists, does not trust Tailpipe and is not marked as ours" in stderr_of(
        result
    )


@pytest.mark.parametrize(
    "mark",
    [{"Key": "managed-by", "Value": "tailpipe-exports"}, {"Key": "tailpipe:managed-by", "Value": "tailpipe-exports"}],
    ids=["terraform", "function"],
)
def test_connector_role_with_our_mark_is_adopted(bare: LocalAws, mark: dict[str, str]) -> None:
    """Its trust policy does not matter."""
    make_role(bare, "tailpipe-connector-role", Tags=[mark])
    assert details(bare)["role tailpipe-connector-role"] == (True, "exists, is marked as ours, and is adopted")


def test_role_of_the_old_scripts_is_adopted_by_its_trust(bare: LocalAws) -> None:
    """It has no mark, but trusts Tailpipe's principal or the given one."""
    trust = {"AWS": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"}
    make_role(bare, "tailpipe-connector-role", trusts=trust)
    adopted = (True, "exists, trusts Tailpipe, and is adopted")
    assert details(bare)["role tailpipe-connector-role"] == adopted
    other = "arn:aws:iam::336268260260:role/Another"
    assert details(bare, tailpipe_principal_arn=other)["role tailpipe-connector-role"][0] is False


def test_foreign_role_with_the_name_of_a_tenants_connector_is_found(bare: LocalAws) -> None:
    """It is checked like the connector's own, for each tenant that gets one."""
    make_role(bare, "tailpipe-connector-role-acme")
    name = "role tailpipe-connector-role-acme"
    assert name not in details(bare)
    given = {"acme": {"payer": "111122223333", "external_id": "of-acme"}}
    assert details(bare, tenant_connectors=given)[name][0] is False


@pytest.mark.parametrize("suffix", ["", "-schedule", "-forward"])
def test_foreign_role_with_the_functions_name_is_refused(
    bare: LocalAws, terraform: TerraformDouble, suffix: str
) -> None:
    """Adopting it would replace its trust policy; another name resolves this."""
    make_role(bare, f"tailpipe-exports{suffix}")
    result = refused(bare, terraform)
    assert f"role tailpipe-exports{suffix}: exists and is not marked as ours" in stderr_of(result)
    assert "--var function_name=NAME" in stderr_of(result)
    assert all(ok is not False for ok, _ in details(bare, function_name="tailpipe-two").values())


def test_foreign_function_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """A function of that name without our mark would get our code."""
    _function(bare, {})
    result = refused(bare, terraform)
    assert "function tailpipe-exports: exists and is not marked as ours" in stderr_of(result)
    assert "--var function_name=NAME" in stderr_of(result)


def test_own_function_is_updated(bare: LocalAws) -> None:
    """With our mark it belongs to an earlier deployment, even if Terraform's state does not have it."""
    _function(bare, {"managed-by": "tailpipe-exports"})
    found = details(bare)
    assert found["function tailpipe-exports"] == (True, "is already deployed and will be updated")
    assert found["room for one reserved execution"] == (True, "the function already exists")
    bare.deny("lambda:ListTags")
    assert details(bare)["function tailpipe-exports"][0] is None


def _stackset_of(cloud: LocalAws, resources: dict[str, Any]) -> None:
    """Create a service-managed StackSet with our name and this template."""
    client = cloud.client("cloudformation")
    client.activate_organizations_access()
    client.create_stack_set(
        StackSetName="Tailpipe-CloudWatch-Child-StackSet",
        TemplateBody=json.dumps({"Resources": resources}, indent="\t"),
        Capabilities=["CAPABILITY_NAMED_IAM"],
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": False},
    )


def _member_role() -> dict[str, Any]:
    trust = document({"Principal": {"AWS": f"arn:aws:iam::{OTHER}:root"}, "Action": "sts:AssumeRole"})
    properties = {"RoleName": "tailpipe-child-connector", "AssumeRolePolicyDocument": json.loads(trust)}
    return {"Type": "AWS::IAM::Role", "Properties": properties}


def test_stack_set_of_the_old_scripts_is_adopted(bare: LocalAws) -> None:
    """Its only role has the logical id of our template."""
    _stackset_of(bare, {"TailpipeCloudWatchRole": _member_role()})
    adopted = (True, "exists and is adopted with its instances")
    assert details(bare)["StackSet Tailpipe-CloudWatch-Child-StackSet"] == adopted


@pytest.mark.parametrize(
    ("resources", "why"),
    [
        (["TailpipeRoleV2"], "its role is not called TailpipeCloudWatchRole"),
        (["TailpipeCloudWatchRole", "Budget"], "it also has Budget, which would be deleted in every account"),
    ],
)
def test_stack_set_with_another_template_is_refused(
    bare: LocalAws, terraform: TerraformDouble, resources: list[str], why: str
) -> None:
    """Another logical id breaks the role in every account, and additional resources would be deleted."""
    _stackset_of(bare, {name: _member_role() for name in resources})
    result = refused(bare, terraform)
    assert why in stderr_of(result)
    assert "--var stackset_name=Tailpipe-NAME --var member_role_name=NAME" in stderr_of(result)


def test_adoption_with_another_external_id_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Tailpipe would lose access to every account; neither id is shown."""
    theirs = "what-the-scripts-were-given"
    _connector(bare, theirs)
    what = "the External ID that role tailpipe-connector-role requires"
    result = refused(bare, terraform)
    assert f"{what}: differs from the given one" in stderr_of(result)
    assert "TF_VAR_external_id_previous" in stderr_of(result)
    assert theirs not in result.output
    assert details(bare, external_id=theirs)[what][0] is True
    assert details(bare, external_id="a-new-one", external_id_previous=theirs)[what][0] is True


def test_changed_external_id_is_reported_and_allowed(bare: LocalAws) -> None:
    """A disclosed id must be replaceable immediately, without the previous one."""
    _connector(bare, "known-to-others", Tags=[{"Key": "managed-by", "Value": "tailpipe-exports"}])
    found = details(bare, external_id="a-new-one")["the External ID that role tailpipe-connector-role requires"]
    assert found[0] is None
    assert "Tailpipe, which still uses it, is locked out" in found[1]


def test_second_deployment_in_an_account_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Both would keep changing the same export; the message has its current bucket."""
    bare.deployment.make_bucket(bare.client)
    create_export(bare, "tailpipe-dataexport")
    bucket = bare.deployment.bucket
    assert details(bare)["export tailpipe-dataexport"] == (True, f"exists and delivers to {bucket}")
    result = refused(bare, terraform, "--var", "bucket_name=tailpipe-of-my-own")
    assert f"export tailpipe-dataexport: exists and delivers to bucket {bucket}" in stderr_of(result)
    assert "tailpipe-exports destroy aws" in stderr_of(result)
    bare.deny("bcm-data-exports:GetExport")
    assert details(bare)["export tailpipe-dataexport"][0] is None


def _connector(cloud: LocalAws, external_id: str, **more: Any) -> None:
    """Create the role that Tailpipe assumes, as the old scripts did."""
    trust = {
        "Principal": {"AWS": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    cloud.client("iam").create_role(
        RoleName="tailpipe-connector-role", AssumeRolePolicyDocument=document(trust), **more
    )


def test_self_managed_stack_set_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """It cannot become service-managed, so it must be deleted first."""
    bare.client("cloudformation").create_stack_set(
        StackSetName="Tailpipe-CloudWatch-Child-StackSet",
        TemplateBody=json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}),
        PermissionModel="SELF_MANAGED",
    )
    result = refused(bare, terraform)
    assert "exists with self-managed permissions, which cannot be changed" in stderr_of(result)
    assert "Delete its instances and the StackSet" in stderr_of(result)


def test_disabled_access_is_reported_if_required(bare: LocalAws, terraform: TerraformDouble) -> None:
    """With organizations_access=require, the command to enable it is shown; by default the deployment enables it."""
    what = "StackSets' access to the organization"
    assert details(bare)[what] == (True, "off; this deployment turns it on, and nothing turns it off again")
    result = refused(bare, terraform, "--var", "organizations_access=require")
    assert f"aws cloudformation activate-organizations-access --region {bare.region}" in stderr_of(result)
    bare.client("cloudformation").activate_organizations_access()
    assert details(bare, organizations_access="require")[what] == (True, "on")


@pytest.mark.parametrize(("limit", "enough"), [(10, False), (100, False), (101, True)])
def test_insufficient_concurrency_for_a_reservation_is_reported(
    bare: LocalAws, terraform: TerraformDouble, limit: int, enough: bool
) -> None:
    """AWS keeps 100 executions unreserved, and a new account may have fewer."""
    bare.world.lambda_api.concurrent_executions = limit
    assert details(bare)["room for one reserved execution"][0] is enough
    if not enough:
        result = refused(bare, terraform)
        assert f"only {limit} executions are unreserved" in stderr_of(result)
        assert "--var reserved_concurrency=-1" in stderr_of(result)


def test_deployment_without_a_reservation_needs_no_concurrency(bare: LocalAws) -> None:
    """This is the remedy that the finding names."""
    bare.world.lambda_api.concurrent_executions = 10
    found = details(bare, reserved_concurrency=-1)["room for one reserved execution"]
    assert found == (True, "none is reserved")


def test_five_other_exports_are_unknown_and_do_not_stop_the_deployment(bare: LocalAws) -> None:
    """The quota applies per table."""
    what = "room for the export"
    assert details(bare)[what] == (True, "0 exports exist")
    bare.deployment.make_bucket(bare.client)
    for number in range(5):
        create_export(bare, f"finance-{number}")
    assert details(bare)[what][0] is None
    assert "5 exports exist" in details(bare)[what][1]


def test_five_exports_including_ours_are_accepted(bare: LocalAws) -> None:
    """Our export needs no further quota."""
    bare.deployment.make_bucket(bare.client)
    for name in ("tailpipe-dataexport", *(f"finance-{number}" for number in range(4))):
        create_export(bare, name)
    assert details(bare)["room for the export"] == (True, "5 exports exist")


def test_denied_check_is_unknown(bare: LocalAws) -> None:
    """The finding has the reason."""
    for action in (
        "iam:GetRole",
        "lambda:GetFunction",
        "lambda:GetFunctionConfiguration",
        "bcm-data-exports:ListExports",
        "cloudformation:DescribeOrganizationsAccess",
        "cloudformation:DescribeStackSet",
    ):
        bare.deny(action)
    found = details(bare)
    assert {ok for what, (ok, _) in found.items() if not what.startswith("bucket ")} == {None}
    assert all(detail for _, detail in found.values())


def test_standalone_account_is_not_checked_for_an_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither access nor a StackSet is checked, and the module gets the kind."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        operator = at()
        assert operator.detected({}) == {"account_kind": "standalone"}
        assert not [what for what in details(cloud) if "StackSet" in what]


def test_function_name_from_the_environment_is_deployed(bare: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """Invoke, destroy and deploy use the same name; a given variable takes precedence."""
    monkeypatch.setenv("TAILPIPE_EXPORTS_FUNCTION_NAME", "tailpipe-two")
    assert AwsOperator.open({}).detected({})["function_name"] == "tailpipe-two"
    given = {"function_name": "tailpipe-exports"}
    assert "function_name" not in AwsOperator.open(given).detected(given)


def test_service_error_during_the_checks_ends_the_command(bare: LocalAws) -> None:
    """The message is AWS's."""
    bare.fault("organizations", "DescribeOrganization", "ServiceException", "try later", times=None)
    with pytest.raises(OperatorError, match="the organization could not be read"):
        at()


def test_shipped_policies_are_sufficient_for_the_checks(
    bare: LocalAws, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With exactly these two policies, every permission and precondition is known."""
    iam = bare.client("iam")
    role = make_role(bare, "deployer")
    for purpose in ("deploy", "destroy"):
        text = (repository / "infra" / "aws" / f"operator-{purpose}-policy.json").read_text(encoding="utf-8")
        arn = iam.create_policy(PolicyName=purpose, PolicyDocument=text)["Policy"]["Arn"]
        iam.attach_role_policy(RoleName="deployer", PolicyArn=arn)
    _function(bare, {"managed-by": "tailpipe-exports"})
    assume(bare, role, monkeypatch)
    operator = at()
    assert {one.ok for one in operator.rights()} == {True}
    found = details(bare)
    assert {ok for ok, _ in found.values()} == {True}, found
    assert found["function tailpipe-exports"] == (True, "is already deployed and will be updated")


def _function(cloud: LocalAws, tags: dict[str, str]) -> None:
    trust = document({"Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"})
    role = cloud.client("iam").create_role(RoleName="theirs", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    cloud.client("lambda").create_function(
        FunctionName="tailpipe-exports",
        Runtime="python3.13",
        Role=role,
        Handler="a.b",
        Code={"ZipFile": b"PK\x05\x06" + bytes(18)},
        Tags=tags,
    )


def test_second_deployment_in_a_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even with another name, it would share exports, bucket and roles with the first."""
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        what = "no other deployment in this region"
        assert what not in details(cloud)
        found = details(cloud, function_name="tailpipe-another")[what]
        assert found == (False, "function tailpipe-exports keeps the same exports, bucket and roles")
        cloud.deny("lambda:ListFunctions")
        assert details(cloud)[what][0] is None
