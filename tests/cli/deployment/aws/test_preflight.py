"""A deployment to AWS that would fail is refused before anything is created, with the remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.aws.operator import AwsOperator
from cli.deployment.model import OperatorError
from localcloud.aws.cloud import LocalAws
from tests.cli.support.aws import EXTERNAL_ID, GIVEN, account, assume, at, sign_in, stderr_of, tailpipe, writes
from tests.cli.support.operating import terraform
from tests.cli.support.terraform_double import TerraformDouble
from tests.localcloud.aws.helpers import create_export
from tests.localcloud.aws.iam.sessions import client_in, document, make_role

OTHER = "999988887777"
__all__ = ["terraform"]  # a fixture, found by its name


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return an organization in which nothing is deployed, signed in to its management account."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        sign_in(cloud, monkeypatch)
        yield cloud


def refused(cloud: LocalAws, terraform: TerraformDouble, *more: str) -> Result:
    """Deploy, and hold that the cloud is as it was and that Terraform was asked for its version at most."""
    cloud.clear_calls()
    result = tailpipe("deploy", "aws", "--yes", *GIVEN, *more)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    assert writes(cloud) == []
    assert {one.argv[0] for one in terraform.calls()} <= {"version"}
    assert EXTERNAL_ID not in result.output
    return result


def details(cloud: LocalAws, **given: Any) -> dict[str, tuple[bool | None, str]]:
    """Return the preflight's findings by what was looked at."""
    operator = at(**given)
    return {one.what: (one.ok, one.detail) for one in operator.preflight(given)}


@pytest.mark.parametrize("kind", ["member", "delegated"])
def test_a_member_account_is_refused_with_both_ways_out(
    kind: Any, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member's export holds its own costs only, a delegated administrator's too: only who wants that gets it."""
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
def test_a_member_account_is_deployed_to_alone_if_asked_for(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the organization is looked at or needed, neither for the deployment nor by the operator."""
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


def test_an_organization_for_billing_alone_is_deployed_to_without_members(
    terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """StackSets need all features: that, or no member roles, is for the operator to choose."""
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


def test_an_account_without_organization_manages_none(
    terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the account cannot be is refused, and so is a kind that there is not."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        result = refused(cloud, terraform, "--var", "account_kind=management")
        assert f"{cloud.account} is in no organization" in stderr_of(result)
        monkeypatch.setenv("ACCOUNT_KIND", "alone")
        assert "account_kind is 'alone'" in stderr_of(refused(cloud, terraform))


def test_doctor_says_what_a_member_account_can_be_deployed_as(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's rights are looked at all the same, those over other accounts left out."""
    with LocalAws(accounts=2, kind="member") as cloud:
        sign_in(cloud, monkeypatch)
        result = tailpipe("doctor", "aws")
    assert result.exit_code == 0, result.output
    assert "member account" in stderr_of(result)
    assert "deploys: with account_kind=standalone" in stderr_of(result)
    assert "CreateStackSet" not in stderr_of(result)


def test_without_credentials_that_aws_knows_nothing_is_looked_at(bare: LocalAws, terraform: TerraformDouble) -> None:
    """An expired login is reported with the way to log in."""
    bare.fault("sts", "GetCallerIdentity", "ExpiredToken", "The security token included in the request is expired")
    result = refused(bare, terraform)
    assert "AWS did not accept these credentials" in stderr_of(result)
    assert "aws sso login" in stderr_of(result)


@pytest.mark.parametrize("name", ["AWS_PROFILE", "AWS_ENDPOINT_URL"])
def test_a_profile_or_an_address_that_is_none_is_reported_in_one_line(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """What the SDK refuses before any call is reported as a sign-in problem, without a traceback."""
    monkeypatch.setenv(name, "nonsense")
    assert "nonsense" in stderr_of(refused(bare, terraform))


def test_without_a_region_or_with_one_that_aws_has_not_the_variable_is_named(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operator chooses the function's region."""
    monkeypatch.setenv("AWS_REGION", "nowhere-1")
    assert "'nowhere-1' is in no AWS partition" in stderr_of(refused(bare, terraform))
    monkeypatch.delenv("AWS_REGION")
    monkeypatch.delenv("AWS_DEFAULT_REGION")
    assert "no region is set Set AWS_REGION" in stderr_of(refused(bare, terraform))


def test_an_organization_that_may_not_be_read_is_not_taken_for_none(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Which kind of account it is decides what is made: unknown, it is asked for, and a value that is given counts."""
    bare.deny("organizations:DescribeOrganization")
    result = refused(bare, terraform)
    assert "--var account_kind=management" in stderr_of(result)
    operator = at()
    assert operator.detected({"account_kind": "management"}) == {"account_kind": "management"}


def test_a_missing_right_is_reported_with_the_commands_that_grant_it(
    bare: LocalAws, terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each action is named, and for a role the commands make the two shipped policies and attach them to it."""
    role = make_role(bare, "some-admin", {"Action": ["organizations:*", "iam:Simulate*", "iam:Get*"], "Resource": "*"})
    assume(bare, role, monkeypatch)
    result = refused(bare, terraform)
    assert "✗ lambda:CreateFunction" in stderr_of(result)
    assert "✗ iam:GetRole " not in stderr_of(result)
    for purpose in ("deploy", "destroy"):
        assert f"--policy-document file://infra/aws/operator-{purpose}-policy.json" in stderr_of(result)
        attach = f"aws iam attach-role-policy --role-name some-admin --policy-arn arn:aws:iam::{bare.account}:policy"
        assert f"{attach}/tailpipe-{purpose}" in stderr_of(result)
    assert "rights are missing; nothing was made" in stderr_of(result)


def test_every_value_that_is_missing_is_reported_at_once(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Neither environment nor External ID: both are named, the secret with a way that is not the command line."""
    result = tailpipe("deploy", "aws", "--yes")
    assert "environment is required" in stderr_of(result)
    assert "external_id is required" not in stderr_of(result)
    assert (result.exit_code, terraform.calls(), writes(bare)[1:]) == (1, [], [])


def test_a_bucket_of_another_account_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Names of buckets are the world's: one that is taken is reported with the variable that chooses another."""
    taken = f"tailpipe-dataexport-{bare.account}"
    bare.client("s3", OTHER).create_bucket(Bucket=taken, CreateBucketConfiguration={"LocationConstraint": bare.region})
    result = refused(bare, terraform)
    assert f"bucket {taken}: belongs to another account" in stderr_of(result)
    assert "--var bucket_name=NAME" in stderr_of(result)
    assert details(bare, bucket_name="tailpipe-of-my-own")["bucket tailpipe-of-my-own"] == (True, "the name is free")


def test_a_bucket_of_ours_in_another_region_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """The earlier scripts' bucket may lie elsewhere: Terraform could not adopt it from here; the region is named."""
    bucket = f"tailpipe-dataexport-{bare.account}"
    elsewhere = client_in(bare, "s3", "eu-north-1")
    elsewhere.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": "eu-north-1"})
    elsewhere.close()
    result = refused(bare, terraform)
    assert f"bucket {bucket}: is in eu-north-1, and Terraform works in {bare.region}" in stderr_of(result)
    assert "AWS_REGION=eu-north-1" in stderr_of(result)


def test_a_state_bucket_of_another_account_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Somebody else's bucket never gets the state, which holds the External ID."""
    bare.client("s3", OTHER).create_bucket(
        Bucket=f"tailpipe-terraform-{bare.account}", CreateBucketConfiguration={"LocationConstraint": bare.region}
    )
    result = refused(bare, terraform, "--var", "package=README.md")
    assert f"bucket tailpipe-terraform-{bare.account} belongs to another account" in stderr_of(result)
    assert "--local-state DIR" in stderr_of(result)


def test_the_states_bucket_is_used_where_it_is(bare: LocalAws) -> None:
    """Made by a deployment to another region, it holds this region's state under a key of its own."""
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


def test_a_connector_role_that_is_another_owners_is_never_adopted(bare: LocalAws, terraform: TerraformDouble) -> None:
    """A role of that name without our mark, which does not trust Tailpipe, stops the deployment."""
    make_role(bare, "tailpipe-connector-role")
    result = refused(bare, terraform)
    assert "role tailpipe-connector-role: exists, does not trust Tailpipe and does not carry our mark" in stderr_of(
        result
    )


@pytest.mark.parametrize(
    "mark",
    [{"Key": "managed-by", "Value": "tailpipe-exports"}, {"Key": "tailpipe:managed-by", "Value": "tailpipe-exports"}],
    ids=["terraform", "function"],
)
def test_a_connector_role_of_ours_is_adopted_by_its_mark(bare: LocalAws, mark: dict[str, str]) -> None:
    """Our mark is enough, whomever the role trusts at the moment."""
    make_role(bare, "tailpipe-connector-role", Tags=[mark])
    assert details(bare)["role tailpipe-connector-role"] == (True, "exists, carries our mark, and is adopted")


def test_the_earlier_scripts_role_is_adopted_by_whom_it_trusts(bare: LocalAws) -> None:
    """The scripts marked nothing; their role trusts Tailpipe's, the one that is given where one is."""
    trust = {"AWS": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"}
    make_role(bare, "tailpipe-connector-role", trusts=trust)
    adopted = (True, "exists, trusts Tailpipe, and is adopted")
    assert details(bare)["role tailpipe-connector-role"] == adopted
    other = "arn:aws:iam::336268260260:role/Another"
    assert details(bare, tailpipe_principal_arn=other)["role tailpipe-connector-role"][0] is False


@pytest.mark.parametrize("suffix", ["", "-schedule", "-forward"])
def test_a_role_with_a_name_that_the_function_needs_is_never_taken_over(
    bare: LocalAws, terraform: TerraformDouble, suffix: str
) -> None:
    """Adopted, its trust would be replaced: a role that is not ours stops the deployment, and another name helps."""
    make_role(bare, f"tailpipe-exports{suffix}")
    result = refused(bare, terraform)
    assert f"role tailpipe-exports{suffix}: exists and does not carry our mark" in stderr_of(result)
    assert "--var function_name=NAME" in stderr_of(result)
    assert all(ok is not False for ok, _ in details(bare, function_name="tailpipe-two").values())


def test_a_function_that_is_not_ours_is_never_taken_over(bare: LocalAws, terraform: TerraformDouble) -> None:
    """A function of that name without our mark would get our code: it stops the deployment."""
    _function(bare, {})
    result = refused(bare, terraform)
    assert "function tailpipe-exports: exists and does not carry our mark" in stderr_of(result)
    assert "--var function_name=NAME" in stderr_of(result)


def test_a_function_of_ours_is_brought_up_to_date(bare: LocalAws) -> None:
    """With our mark it is an earlier deployment's, whether Terraform's state still knows it or not."""
    _function(bare, {"managed-by": "tailpipe-exports"})
    found = details(bare)
    assert found["function tailpipe-exports"] == (True, "is deployed already and is brought up to date")
    assert found["room for one reserved execution"] == (True, "the function is there already")
    bare.deny("lambda:ListTags")
    assert details(bare)["function tailpipe-exports"][0] is None


def _stackset_of(cloud: LocalAws, resources: dict[str, Any]) -> None:
    """Make a service-managed StackSet of our name with this template."""
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


def test_the_earlier_scripts_stackset_is_adopted(bare: LocalAws) -> None:
    """Its one role has the logical id of our template."""
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
def test_a_template_of_another_version_is_not_taken_over(
    bare: LocalAws, terraform: TerraformDouble, resources: list[str], why: str
) -> None:
    """Another logical id breaks the role in every account, and extra resources would be deleted: both are reported."""
    _stackset_of(bare, {name: _member_role() for name in resources})
    result = refused(bare, terraform)
    assert why in stderr_of(result)
    assert "--var stackset_name=Tailpipe-NAME --var member_role_name=NAME" in stderr_of(result)


def test_a_takeover_with_another_external_id_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Tailpipe would be shut out of every account; neither id is shown, and the right one passes."""
    theirs = "what-the-scripts-were-given"
    _connector(bare, theirs)
    what = "the External ID that role tailpipe-connector-role asks for"
    result = refused(bare, terraform)
    assert f"{what}: is another one than the one that was given" in stderr_of(result)
    assert "TF_VAR_external_id_previous" in stderr_of(result)
    assert theirs not in result.output
    assert details(bare, external_id=theirs)[what][0] is True
    assert details(bare, external_id="a-new-one", external_id_previous=theirs)[what][0] is True


def test_a_changed_external_id_of_ours_is_reported_and_stops_nothing(bare: LocalAws) -> None:
    """One that has become known to others has to be replaced at once, without the one before."""
    _connector(bare, "known-to-others", Tags=[{"Key": "managed-by", "Value": "tailpipe-exports"}])
    found = details(bare, external_id="a-new-one")["the External ID that role tailpipe-connector-role asks for"]
    assert found[0] is None
    assert "Tailpipe, which still uses it, is shut out" in found[1]


def test_a_second_deployment_in_one_account_is_refused(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Both would change the one export again and again: the bucket to which it delivers now is named."""
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
    """Make the role that Tailpipe assumes, as the earlier scripts did."""
    trust = {
        "Principal": {"AWS": "arn:aws:iam::336268260260:role/TailpipeConnector-Prod"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": external_id}},
    }
    cloud.client("iam").create_role(
        RoleName="tailpipe-connector-role", AssumeRolePolicyDocument=document(trust), **more
    )


def test_a_stackset_with_permissions_of_its_own_is_reported(bare: LocalAws, terraform: TerraformDouble) -> None:
    """Self-managed cannot become service-managed: what has to go first is said."""
    bare.client("cloudformation").create_stack_set(
        StackSetName="Tailpipe-CloudWatch-Child-StackSet",
        TemplateBody=json.dumps({"Resources": {"T": {"Type": "AWS::SNS::Topic"}}}),
        PermissionModel="SELF_MANAGED",
    )
    result = refused(bare, terraform)
    assert "exists with self-managed permissions, which cannot be changed" in stderr_of(result)
    assert "Delete its instances and the StackSet" in stderr_of(result)


def test_access_that_is_off_is_reported_where_it_must_be_on_already(bare: LocalAws, terraform: TerraformDouble) -> None:
    """With organizations_access=require the command that enables it is reported; by default the deployment does it."""
    what = "StackSets' access to the organization"
    assert details(bare)[what] == (True, "off; this deployment turns it on, and nothing turns it off again")
    result = refused(bare, terraform, "--var", "organizations_access=require")
    assert f"aws cloudformation activate-organizations-access --region {bare.region}" in stderr_of(result)
    bare.client("cloudformation").activate_organizations_access()
    assert details(bare, organizations_access="require")[what] == (True, "on")


@pytest.mark.parametrize(("limit", "enough"), [(10, False), (100, False), (101, True)])
def test_an_account_without_room_for_a_reserved_execution_is_reported(
    bare: LocalAws, terraform: TerraformDouble, limit: int, enough: bool
) -> None:
    """AWS keeps a hundred executions unreserved: a new account has less, and reserving one would fail halfway."""
    bare.world.lambda_api.concurrent_executions = limit
    assert details(bare)["room for one reserved execution"][0] is enough
    if not enough:
        result = refused(bare, terraform)
        assert f"only {limit} executions are unreserved" in stderr_of(result)
        assert "--var reserved_concurrency=-1" in stderr_of(result)


def test_without_a_reservation_no_room_for_one_is_needed(bare: LocalAws) -> None:
    """The way out that the remedy names works."""
    bare.world.lambda_api.concurrent_executions = 10
    found = details(bare, reserved_concurrency=-1)["room for one reserved execution"]
    assert found == (True, "none is reserved")


def test_five_exports_are_reported_and_do_not_stop_it(bare: LocalAws) -> None:
    """The quota counts one table's exports only, so it may be well: said as unknown, and ours among them is well."""
    what = "room for the export"
    assert details(bare)[what] == (True, "0 exports are there")
    bare.deployment.make_bucket(bare.client)
    for number in range(5):
        create_export(bare, f"finance-{number}")
    assert details(bare)[what][0] is None
    assert "5 exports are there" in details(bare)[what][1]


def test_the_export_that_is_ours_needs_no_room(bare: LocalAws) -> None:
    """Five exports of which one is ours are not too many."""
    bare.deployment.make_bucket(bare.client)
    for name in ("tailpipe-dataexport", *(f"finance-{number}" for number in range(4))):
        create_export(bare, name)
    assert details(bare)["room for the export"] == (True, "5 exports are there")


def test_a_look_that_is_refused_is_unknown_and_never_well(bare: LocalAws) -> None:
    """What cannot be read is neither free nor taken, and says why."""
    for action in (
        "iam:GetRole",
        "lambda:GetFunctionConfiguration",
        "bcm-data-exports:ListExports",
        "cloudformation:DescribeOrganizationsAccess",
        "cloudformation:DescribeStackSet",
    ):
        bare.deny(action)
    found = details(bare)
    assert {ok for what, (ok, _) in found.items() if not what.startswith("bucket ")} == {None}
    assert all(detail for _, detail in found.values())


def test_a_standalone_account_is_not_looked_at_for_an_organization(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an organization neither its access nor a StackSet is checked, and the module gets the kind."""
    with account(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        operator = at()
        assert operator.detected({}) == {"account_kind": "standalone"}
        assert not [what for what in details(cloud) if "StackSet" in what]


def test_the_name_in_the_environment_is_the_one_that_is_deployed(
    bare: LocalAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What invoke and destroy look for and what deploy makes have one name, a variable that is given before it."""
    monkeypatch.setenv("TAILPIPE_EXPORTS_FUNCTION_NAME", "tailpipe-two")
    assert AwsOperator.open({}).detected({})["function_name"] == "tailpipe-two"
    given = {"function_name": "tailpipe-exports"}
    assert "function_name" not in AwsOperator.open(given).detected(given)


def test_what_the_operator_is_not_shown_is_raised_and_not_guessed(bare: LocalAws) -> None:
    """A fault of the service in the middle of looking ends the command with what AWS said."""
    bare.fault("organizations", "DescribeOrganization", "ServiceException", "try later", times=None)
    with pytest.raises(OperatorError, match="the organization could not be read"):
        at()


def test_the_shipped_policies_are_enough_to_look(
    bare: LocalAws, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has exactly the two shipped policies sees every right and every precondition."""
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
    assert found["function tailpipe-exports"] == (True, "is deployed already and is brought up to date")


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


def test_a_second_deployment_in_the_region_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under another name it would share exports, bucket and roles with the one that is there."""
    with account(accounts=2) as cloud:
        sign_in(cloud, monkeypatch)
        what = "no other deployment in this region"
        assert what not in details(cloud)
        found = details(cloud, function_name="tailpipe-another")[what]
        assert found == (False, "function tailpipe-exports keeps the same exports, bucket and roles")
        cloud.deny("lambda:ListFunctions")
        assert details(cloud)[what][0] is None
