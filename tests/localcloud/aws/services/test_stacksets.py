"""Service-managed StackSets as AWS runs them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from shared.runtime.clock import VirtualClock
from tests.localcloud.aws.helpers import (
    ROLE,
    STACK_SET,
    START,
    create_instances,
    members,
    operation,
    root,
    statuses,
    targets,
)

DONE = ("CURRENT", "SUCCEEDED")


def results(cloud: LocalAws, identity: str) -> dict[str, str]:
    """Return the status of each account's result."""
    listed = cloud.client("cloudformation").list_stack_set_operation_results(
        StackSetName=STACK_SET, OperationId=identity
    )
    return {one["Account"]: one["Status"] for one in listed["Summaries"]}


def update(cloud: LocalAws, **more: Any) -> str:
    """Call UpdateStackSet, by default with the previous template; return the operation's id."""
    if "TemplateBody" not in more:
        more["UsePreviousTemplate"] = True
    answer = cloud.client("cloudformation").update_stack_set(
        StackSetName=STACK_SET, Capabilities=["CAPABILITY_NAMED_IAM"], **more
    )
    return str(answer["OperationId"])


def test_deployed_stack_set_has_no_instances(cloud: LocalAws) -> None:
    """The deployment creates only the StackSet with its settings."""
    found = cloud.client("cloudformation").describe_stack_set(StackSetName=STACK_SET)["StackSet"]
    assert found["AutoDeployment"] == {"Enabled": True, "RetainStacksOnAccountRemoval": False}
    assert found["ManagedExecution"] == {"Active": True}
    assert found["Parameters"] == [{"ParameterKey": "ExternalId", "ParameterValue": "****"}]
    assert statuses(cloud) == {}


def test_management_account_gets_no_instance(cloud: LocalAws) -> None:
    """Targeting the root reaches every member."""
    create_instances(cloud)
    assert statuses(cloud) == dict.fromkeys(members(cloud), DONE)
    assert cloud.account not in statuses(cloud)


def test_instance_creates_the_templates_role_in_its_account(cloud: LocalAws) -> None:
    """The member's IAM has the role with the template's trust and policy."""
    one, other = members(cloud)[:2]
    create_instances(cloud, [one])
    role = cloud.client("iam", one).get_role(RoleName=ROLE)["Role"]
    assert role["AssumeRolePolicyDocument"] == cloud.deployment.trust()
    policy = cloud.client("iam", one).get_role_policy(RoleName=ROLE, PolicyName="tailpipe-metrics")
    assert policy["PolicyDocument"]["Statement"][0]["Action"] == "cloudwatch:GetMetricStatistics"
    with pytest.raises(ClientError, match="NoSuchEntity"):
        cloud.client("iam", other).get_role(RoleName=ROLE)


def test_suspended_account_is_skipped(cloud: LocalAws) -> None:
    """Its instance is SKIPPED_SUSPENDED_ACCOUNT, and the operation succeeds."""
    gone = members(cloud)[0]
    cloud.suspend_account(gone)
    identity = create_instances(cloud)
    assert statuses(cloud)[gone] == ("OUTDATED", "SKIPPED_SUSPENDED_ACCOUNT")
    assert operation(cloud, identity)["Status"] == "SUCCEEDED"


@pytest.mark.parametrize(
    ("how", "expected"), [("INTERSECTION", {0, 1}), ("DIFFERENCE", {2, 3, 4}), ("UNION", {0, 1, 2, 3, 4})]
)
def test_account_filter_selects_the_targets(cloud: LocalAws, how: str, expected: set[int]) -> None:
    """INTERSECTION, DIFFERENCE and UNION combine units and accounts as documented."""
    ids = members(cloud)
    create_instances(cloud, DeploymentTargets=targets(cloud, ids[:2], how))
    assert set(statuses(cloud)) == {ids[number] for number in expected}


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"Accounts": ["210000000000"]}, "OrganizationalUnitIds are required"),
        ({"OrganizationalUnitIds": ["ROOT"], "Accounts": ["210000000000"]}, "AccountFilterType should be specified"),
        ({"OrganizationalUnitIds": ["ROOT"], "AccountFilterType": "INTERSECTION"}, "Accounts must be specified"),
        ({"OrganizationalUnitIds": ["ou-ab12-99999999"]}, "does not exist"),
        ({"OrganizationalUnitIds": ["ROOT"] * 51}, "At most 50"),
    ],
)
def test_invalid_deployment_targets_are_refused(cloud: LocalAws, chosen: dict[str, Any], message: str) -> None:
    """Missing filters, missing units, unknown units and too many units are ValidationErrors."""
    units = [root(cloud) if unit == "ROOT" else unit for unit in chosen.get("OrganizationalUnitIds", [])]
    with pytest.raises(ClientError, match=message) as caught:
        create_instances(cloud, DeploymentTargets=chosen | ({"OrganizationalUnitIds": units} if units else {}))
    assert caught.value.response["Error"]["Code"] == "ValidationError"


def test_plain_accounts_are_refused_for_service_managed_stack_sets(cloud: LocalAws) -> None:
    """`Accounts` outside DeploymentTargets is for self-managed StackSets."""
    with pytest.raises(ClientError, match="can only have OrganizationalUnit as target"):
        cloud.client("cloudformation").create_stack_instances(
            StackSetName=STACK_SET, Accounts=members(cloud), Regions=[cloud.region]
        )


def test_operation_runs_until_its_delay_has_passed() -> None:
    """It and its instances are RUNNING, and a second one with the same targets is QUEUED."""
    with LocalAws(accounts=3, clock=VirtualClock(START), stackset_delay_s=60) as cloud:
        first = create_instances(cloud)
        second = update(cloud, Tags=[{"Key": "changed", "Value": "1"}])
        assert operation(cloud, first)["Status"] == "RUNNING"
        assert operation(cloud, second)["Status"] == "QUEUED"
        assert {status for status, _ in statuses(cloud).values()} == {"OUTDATED"}
        cloud.advance(61)
        assert operation(cloud, first)["Status"] == "SUCCEEDED"
        assert operation(cloud, second)["Status"] == "RUNNING"
        cloud.advance(61)
        assert operation(cloud, second)["Status"] == "SUCCEEDED"
        assert statuses(cloud) == dict.fromkeys(members(cloud), DONE)


def test_managed_execution_runs_operations_on_different_accounts_together() -> None:
    """It queues only conflicting operations."""
    with LocalAws(accounts=3, clock=VirtualClock(START), stackset_delay_s=60) as cloud:
        one, other = members(cloud)
        pair = [create_instances(cloud, [one]), create_instances(cloud, [other])]
        assert [operation(cloud, identity)["Status"] for identity in pair] == ["RUNNING", "RUNNING"]


def test_second_operation_is_refused_without_managed_execution() -> None:
    """OperationInProgressException is raised while one runs."""
    with LocalAws(accounts=3, clock=VirtualClock(START), stackset_delay_s=60) as cloud:
        one, other = members(cloud)
        update(cloud, ManagedExecution={"Active": False})
        cloud.advance(61)
        create_instances(cloud, [one])
        with pytest.raises(cloud.client("cloudformation").exceptions.OperationInProgressException):
            create_instances(cloud, [other])
        cloud.advance(61)
        create_instances(cloud, [other])


def test_stopped_operation_cancels_its_remaining_instances() -> None:
    """It is STOPPED with CANCELLED results."""
    with LocalAws(accounts=3, clock=VirtualClock(START), stackset_delay_s=60) as cloud:
        identity = create_instances(cloud)
        cloud.client("cloudformation").stop_stack_set_operation(StackSetName=STACK_SET, OperationId=identity)
        assert operation(cloud, identity)["Status"] == "STOPPED"
        assert set(results(cloud, identity).values()) == {"CANCELLED"}
        assert {detailed for _, detailed in statuses(cloud).values()} == {"CANCELLED"}


def test_failure_beyond_the_tolerance_cancels_the_rest(cloud: LocalAws) -> None:
    """With the default tolerance of zero, later accounts are CANCELLED with AWS's reason."""
    ids = members(cloud)
    cloud.fail_deployments(ids[1], "no")
    identity = create_instances(cloud)
    assert operation(cloud, identity)["Status"] == "FAILED"
    assert list(results(cloud, identity).values()) == ["SUCCEEDED", "FAILED", "CANCELLED", "CANCELLED", "CANCELLED"]
    instance = cloud.client("cloudformation").describe_stack_instance(
        StackSetName=STACK_SET, StackInstanceAccount=ids[2], StackInstanceRegion=cloud.region
    )["StackInstance"]
    assert instance["StatusReason"] == "Cancelled since failure tolerance has exceeded"


@pytest.mark.parametrize("preference", [{"FailureToleranceCount": 1}, {"FailureTolerancePercentage": 100}])
def test_tolerated_failure_does_not_affect_other_accounts(cloud: LocalAws, preference: dict[str, int]) -> None:
    """An update repairs the failed instance."""
    ids = members(cloud)
    cloud.fail_deployments(ids[1], "no")
    identity = create_instances(cloud, OperationPreferences=preference)
    assert operation(cloud, identity)["Status"] == "SUCCEEDED"
    assert statuses(cloud)[ids[1]] == ("OUTDATED", "FAILED")
    cloud.client("cloudformation").update_stack_instances(
        StackSetName=STACK_SET, DeploymentTargets=targets(cloud, [ids[1]]), Regions=[cloud.region]
    )
    assert statuses(cloud) == dict.fromkeys(ids, DONE)


def test_instance_fails_if_the_role_exists_already(cloud: LocalAws) -> None:
    """The existing role is unchanged, and the instance has the reason."""
    one = members(cloud)[0]
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    cloud.client("iam", one).create_role(RoleName=ROLE, AssumeRolePolicyDocument=trust)
    create_instances(cloud, OperationPreferences={"FailureTolerancePercentage": 100})
    assert statuses(cloud)[one] == ("OUTDATED", "FAILED")
    assert cloud.client("iam", one).get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"]["Statement"] == []


def test_update_of_a_missing_instance_is_refused(cloud: LocalAws) -> None:
    """StackInstanceNotFoundException names the missing instance."""
    client = cloud.client("cloudformation")
    with pytest.raises(client.exceptions.StackInstanceNotFoundException):
        client.update_stack_instances(
            StackSetName=STACK_SET, DeploymentTargets=targets(cloud, members(cloud)[:1]), Regions=[cloud.region]
        )


def test_update_accepts_accounts_without_units(cloud: LocalAws) -> None:
    """Creation refuses them."""
    one = members(cloud)[0]
    create_instances(cloud, [one])
    cloud.fail_instance(one)
    cloud.client("cloudformation").update_stack_instances(
        StackSetName=STACK_SET, DeploymentTargets={"Accounts": [one]}, Regions=[cloud.region]
    )
    assert statuses(cloud) == {one: DONE}


def test_unknown_stack_set_is_not_found(cloud: LocalAws) -> None:
    """StackSets are looked up by region and account."""
    client = cloud.client("cloudformation")
    with pytest.raises(client.exceptions.StackSetNotFoundException):
        client.describe_stack_set(StackSetName="no-such")
    member = cloud.client("cloudformation", members(cloud)[0])
    with pytest.raises(member.exceptions.StackSetNotFoundException):
        member.list_stack_instances(StackSetName=STACK_SET)


def test_auto_deployment_follows_joining_and_leaving_accounts(cloud: LocalAws) -> None:
    """It applies to the targeted units."""
    create_instances(cloud)
    new = cloud.join_account("new")
    assert statuses(cloud)[new] == DONE
    assert cloud.client("iam", new).get_role(RoleName=ROLE)["Role"]["RoleName"] == ROLE
    cloud.remove_account(new)
    assert new not in statuses(cloud)
    with pytest.raises(ClientError, match="NoSuchEntity"):
        cloud.client("iam", new).get_role(RoleName=ROLE)


def test_account_outside_the_targeted_units_gets_no_instance(cloud: LocalAws) -> None:
    """Moving into a targeted unit deploys, and moving out removes."""
    assert cloud.organization is not None
    unit = next(one.id for one in cloud.organization.units.values() if one.name == "Sandbox")
    create_instances(cloud, DeploymentTargets={"OrganizationalUnitIds": [unit]})
    new = cloud.join_account("new")
    assert new not in statuses(cloud)
    cloud.move_account(new, unit)
    assert statuses(cloud)[new] == DONE
    cloud.move_account(new, root(cloud))
    assert new not in statuses(cloud)


def test_retained_stack_stays_when_its_account_leaves(cloud: LocalAws) -> None:
    """With RetainStacksOnAccountRemoval the role outlives its instance."""
    create_instances(cloud)
    update(cloud, AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": True})
    one = members(cloud)[0]
    cloud.remove_account(one)
    assert one not in statuses(cloud)
    assert cloud.client("iam", one).get_role(RoleName=ROLE)


def test_joining_account_gets_no_instance_without_auto_deployment(cloud: LocalAws) -> None:
    """An operation must create it."""
    create_instances(cloud)
    update(cloud, AutoDeployment={"Enabled": False})
    assert cloud.join_account("new") not in statuses(cloud)


def test_leaving_accounts_are_a_setting_of_auto_deployment(cloud: LocalAws) -> None:
    """Without automatic deployment, AWS refuses even the default of it."""
    with pytest.raises(ClientError, match="only if automatic deployment is enabled"):
        update(cloud, AutoDeployment={"Enabled": False, "RetainStacksOnAccountRemoval": False})
    update(cloud, AutoDeployment={"Enabled": False})
    found = cloud.client("cloudformation").describe_stack_set(StackSetName=STACK_SET)["StackSet"]
    assert found["AutoDeployment"] == {"Enabled": False}


def test_changed_template_outdates_all_and_updates_the_targeted_instances(cloud: LocalAws) -> None:
    """Instances outside the update's targets stay OUTDATED."""
    create_instances(cloud)
    ids = members(cloud)
    template = cloud.deployment.member_template()
    template["Resources"]["TailpipeCloudWatchRole"]["Properties"]["Description"] = "changed"
    update(
        cloud,
        TemplateBody=json.dumps(template),
        Parameters=[{"ParameterKey": "ExternalId", "UsePreviousValue": True}],
        DeploymentTargets=targets(cloud, ids[:1]),
        Regions=[cloud.region],
    )
    assert statuses(cloud)[ids[0]] == DONE
    assert {statuses(cloud)[one][0] for one in ids[1:]} == {"OUTDATED"}
    assert cloud.client("iam", ids[0]).get_role(RoleName=ROLE)["Role"]["Description"] == "changed"


def test_deleting_instances_removes_their_roles(cloud: LocalAws) -> None:
    """The StackSet can be deleted only without instances."""
    create_instances(cloud)
    client = cloud.client("cloudformation")
    with pytest.raises(client.exceptions.StackSetNotEmptyException):
        client.delete_stack_set(StackSetName=STACK_SET)
    client.delete_stack_instances(
        StackSetName=STACK_SET, DeploymentTargets=targets(cloud), Regions=[cloud.region], RetainStacks=False
    )
    assert statuses(cloud) == {}
    with pytest.raises(ClientError, match="NoSuchEntity"):
        cloud.client("iam", members(cloud)[0]).get_role(RoleName=ROLE)
    client.delete_stack_set(StackSetName=STACK_SET)


def test_inoperable_instance_can_only_be_removed_with_retain_stacks(cloud: LocalAws) -> None:
    """An update does not repair it."""
    create_instances(cloud)
    one = members(cloud)[0]
    cloud.break_instance(one)
    client = cloud.client("cloudformation")
    where = {"DeploymentTargets": targets(cloud, [one]), "Regions": [cloud.region]}
    client.update_stack_instances(StackSetName=STACK_SET, **where)
    assert statuses(cloud)[one] == ("INOPERABLE", "INOPERABLE")
    client.delete_stack_instances(StackSetName=STACK_SET, RetainStacks=True, **where)
    assert one not in statuses(cloud)


def test_instances_are_filtered_and_paged(cloud: LocalAws) -> None:
    """The filters are DETAILED_STATUS, LAST_OPERATION_ID and the account; MaxResults limits a page."""
    create_instances(cloud)
    ids = members(cloud)
    cloud.fail_instance(ids[2])
    client = cloud.client("cloudformation")

    def listed(**more: Any) -> list[str]:
        return [one["Account"] for one in client.list_stack_instances(StackSetName=STACK_SET, **more)["Summaries"]]

    assert listed(Filters=[{"Name": "DETAILED_STATUS", "Values": "FAILED"}]) == [ids[2]]
    assert listed(Filters=[{"Name": "LAST_OPERATION_ID", "Values": "no-such"}]) == []
    assert listed(StackInstanceAccount=ids[1]) == [ids[1]]
    assert listed(MaxResults=2) == ids[:2]


def test_operations_need_organizations_access(cloud: LocalAws) -> None:
    """Without it they are refused with AWS's message, and DescribeOrganizationsAccess reports it."""
    client = cloud.client("cloudformation")
    assert client.describe_organizations_access()["Status"] == "ENABLED"
    client.deactivate_organizations_access()
    assert client.describe_organizations_access()["Status"] == "DISABLED"
    message = "You must enable organizations access to operate a service managed stack set"
    with pytest.raises(ClientError, match=message):
        create_instances(cloud)
    client.activate_organizations_access()
    create_instances(cloud)


def test_delegated_administrator_needs_call_as() -> None:
    """DELEGATED_ADMIN works for the registered account, SELF finds nothing there, and other accounts are refused."""
    with LocalAws(accounts=4, kind="delegated", clock=VirtualClock(START)) as cloud:
        client = cloud.client("cloudformation")
        create_instances(cloud, CallAs="DELEGATED_ADMIN")
        shown = client.list_stack_instances(StackSetName=STACK_SET, CallAs="DELEGATED_ADMIN")["Summaries"]
        assert {one["Account"] for one in shown} == set(members(cloud))
        with pytest.raises(client.exceptions.StackSetNotFoundException):
            client.list_stack_instances(StackSetName=STACK_SET)
        other = cloud.client("cloudformation", members(cloud)[1])
        with pytest.raises(ClientError, match="You must be the management account or delegated admin account"):
            other.list_stack_instances(StackSetName=STACK_SET, CallAs="DELEGATED_ADMIN")


def test_organizations_access_makes_stack_sets_a_trusted_service(cloud: LocalAws) -> None:
    """Deactivating it removes the trusted service."""
    organizations, stacks = cloud.client("organizations"), cloud.client("cloudformation")

    def trusted() -> list[str]:
        listed = organizations.list_aws_service_access_for_organization()["EnabledServicePrincipals"]
        return [one["ServicePrincipal"] for one in listed]

    assert trusted() == ["member.org.stacksets.cloudformation.amazonaws.com"]
    stacks.deactivate_organizations_access()
    assert trusted() == []


def test_self_managed_stack_set_can_be_read_but_not_deployed(cloud: LocalAws) -> None:
    """It has its permissions and no auto-deployment."""
    client = cloud.client("cloudformation")
    body = json.dumps({"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}})
    client.create_stack_set(StackSetName="own", TemplateBody=body, PermissionModel="SELF_MANAGED")
    found = client.describe_stack_set(StackSetName="own")["StackSet"]
    assert (found["PermissionModel"], "AutoDeployment" in found) == ("SELF_MANAGED", False)
    with pytest.raises(ClientError, match="runs only operations of SERVICE_MANAGED StackSets"):
        client.create_stack_instances(
            StackSetName="own",
            DeploymentTargets={"OrganizationalUnitIds": [root(cloud)]},
            Regions=[cloud.region],
        )


def template(logical: str) -> str:
    """Return a template whose only role has the fixed name under this logical id."""
    trust = {"Version": "2012-10-17", "Statement": []}
    role = {"Type": "AWS::IAM::Role", "Properties": {"RoleName": ROLE, "AssumeRolePolicyDocument": trust}}
    return json.dumps({"Resources": {logical: role}})


def test_role_with_the_same_name_under_another_logical_id_fails(cloud: LocalAws) -> None:
    """CloudFormation creates before it deletes, so the stack's old role still has the name."""
    client = cloud.client("cloudformation")
    named = {"StackSetName": "own", "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    client.delete_stack_set(StackSetName=STACK_SET)
    client.create_stack_set(
        **named, TemplateBody=template("Old"), PermissionModel="SERVICE_MANAGED", AutoDeployment={"Enabled": False}
    )
    client.create_stack_instances(StackSetName="own", DeploymentTargets=targets(cloud), Regions=[cloud.region])
    everywhere = {"FailureTolerancePercentage": 100}
    client.update_stack_set(**named, TemplateBody=template("New"), OperationPreferences=everywhere)
    shown = client.list_stack_instances(StackSetName="own")["Summaries"]
    assert {one["StackInstanceStatus"]["DetailedStatus"] for one in shown} == {"FAILED"}
    assert all(f"Role with name {ROLE} already exists" in one["StatusReason"] for one in shown)
    client.update_stack_set(**named, TemplateBody=template("Old"), OperationPreferences=everywhere)
    shown = client.list_stack_instances(StackSetName="own")["Summaries"]
    assert {one["Status"] for one in shown} == {"CURRENT"}


def test_selective_update_leaves_other_instances_outdated(cloud: LocalAws) -> None:
    """They are OUTDATED and PENDING, although no operation is going to update them."""
    create_instances(cloud)
    chosen, *others = members(cloud)
    operation_id = cloud.client("cloudformation").update_stack_set(
        StackSetName=STACK_SET,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "ExternalId", "ParameterValue": "another"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
        DeploymentTargets=targets(cloud, [chosen]),
        Regions=[cloud.region],
    )["OperationId"]
    assert operation(cloud, operation_id)["Status"] == "SUCCEEDED"
    assert statuses(cloud) == {chosen: ("CURRENT", "SUCCEEDED")} | dict.fromkeys(others, ("OUTDATED", "PENDING"))


def test_deleted_role_is_found_only_by_drift_detection(cloud: LocalAws) -> None:
    """The instance stays CURRENT, and updating it creates no role; recreating the instance does."""
    create_instances(cloud)
    account = members(cloud)[0]
    client, iam = cloud.client("cloudformation"), cloud.client("iam", account)
    cloud.remove_member_role(account)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=ROLE)
    assert statuses(cloud)[account] == ("CURRENT", "SUCCEEDED")

    def drift() -> str:
        (shown,) = client.list_stack_instances(StackSetName=STACK_SET, StackInstanceAccount=account)["Summaries"]
        return str(shown["DriftStatus"])

    assert drift() == "NOT_CHECKED"
    client.detect_stack_set_drift(StackSetName=STACK_SET)
    assert drift() == "DRIFTED"
    where = {"StackSetName": STACK_SET, "DeploymentTargets": targets(cloud, [account]), "Regions": [cloud.region]}
    client.update_stack_instances(**where)
    with pytest.raises(iam.exceptions.NoSuchEntityException):
        iam.get_role(RoleName=ROLE)
    client.delete_stack_instances(**where, RetainStacks=False)
    client.create_stack_instances(**where)
    assert iam.get_role(RoleName=ROLE)["Role"]["RoleName"] == ROLE


def test_consolidated_billing_allows_no_trusted_access() -> None:
    """Without all features, neither Organizations nor CloudFormation enables StackSets."""
    with LocalAws(bare=True, clock=VirtualClock(START)) as cloud:
        organizations = cloud.client("organizations")
        organizations.create_organization(FeatureSet="CONSOLIDATED_BILLING")
        with pytest.raises(organizations.exceptions.ConstraintViolationException) as caught:
            organizations.enable_aws_service_access(
                ServicePrincipal="member.org.stacksets.cloudformation.amazonaws.com"
            )
        assert caught.value.response["Reason"] == "ORGANIZATION_NOT_IN_ALL_FEATURES_MODE"
        client = cloud.client("cloudformation")
        with pytest.raises(ClientError, match="all features"):
            client.activate_organizations_access()
        assert client.describe_organizations_access()["Status"] == "DISABLED"


def test_rejected_account_makes_the_request_invalid(cloud: LocalAws) -> None:
    """The error does not name the account; requests without it succeed."""
    bad, *others = members(cloud)
    cloud.reject_account(bad)
    with pytest.raises(ClientError, match="ValidationError"):
        create_instances(cloud, members(cloud))
    create_instances(cloud, others)
    assert set(statuses(cloud)) == set(others)
