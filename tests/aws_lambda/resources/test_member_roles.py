"""Member roles created through the StackSet, the access it depends on, and the connector role's trust policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from localcloud.aws.cloud import LocalAws
from localcloud.aws.faults import Attempt
from shared.model import Result, Verb
from tests.aws_lambda.support import (
    DAY,
    HOUR,
    Lines,
    action,
    local_aws,
    members,
    messages,
    outcome,
    run,
    verbs,
    wrote_nothing,
)

ROLE = "tailpipe-connector-role"
MEMBER = "tailpipe-child-connector"
STACKSET = "Tailpipe-CloudWatch-Child-StackSet"
TEMPLATE = Path(__file__).resolve().parents[3] / "infra" / "aws" / "child-connector.yaml"


def trust(cloud: LocalAws, principal: str = "", external_id: str | None = None) -> dict[str, Any]:
    """Return a trust policy, by default the configured one."""
    document = cloud.deployment.trust(external_id)
    if principal:
        document["Statement"][0]["Principal"] = {"AWS": principal}
    return document


def role(cloud: LocalAws) -> dict[str, Any]:
    """Return the connector role."""
    found: dict[str, Any] = cloud.client("iam").get_role(RoleName=ROLE)["Role"]
    return found


def put_trust(cloud: LocalAws, document: dict[str, Any]) -> None:
    """Replace the connector role's trust policy."""
    cloud.client("iam").update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(document))


def test_missing_roles_are_created_in_one_operation(aws: LocalAws) -> None:
    """The call has the root, exactly the accounts, INTERSECTION, and a failure tolerance of 100 percent."""
    asked: list[dict[str, Any]] = []

    def note(attempt: Attempt) -> bool:
        asked.append(attempt.params)
        return False

    aws.faults.add("cloudformation", "CreateStackInstances", "InternalFailure", when=note)
    finished = run(aws)
    assert len(asked) == 1
    targets = asked[0]["DeploymentTargets"]
    assert targets["OrganizationalUnitIds"] == [aws.client("organizations").list_roots()["Roots"][0]["Id"]]
    assert sorted(targets["Accounts"]) == members(aws)
    assert targets["AccountFilterType"] == "INTERSECTION"
    assert asked[0]["Regions"] == ["eu-west-1"]
    assert asked[0]["OperationPreferences"]["FailureTolerancePercentage"] == 100
    assert {outcome(finished, "member-role", account).result for account in members(aws)} == {Result.PENDING}


def test_the_management_account_needs_no_member_role(aws: LocalAws) -> None:
    """A service-managed StackSet never deploys to it."""
    finished = run(aws)
    assert not [one for one in finished.outcomes if one.key.kind == "member-role" and one.key.scope == aws.account]


def test_accepted_operation_is_pending_until_it_ends() -> None:
    """A slow operation is neither repeated nor counted as missing."""
    with local_aws(stackset_delay_s=1800) as cloud:
        run(cloud)
        cloud.advance(600)
        finished = run(cloud)
        assert {outcome(finished, "member-role", one).result for one in members(cloud)} == {Result.PENDING}
        assert (finished.report["scopes"]["covered"], finished.report["scopes"]["pending"]) == (1, 3)
        assert cloud.calls.count("cloudformation", "CreateStackInstances") == 1
        cloud.advance(HOUR)
        assert {outcome(run(cloud), "member-role", one).result for one in members(cloud)} == {Result.UNCHANGED}


def test_one_failed_account_does_not_stop_the_others(aws: LocalAws) -> None:
    """Each account has its own outcome; the next runs repair the failed one."""
    bad = members(aws)[0]
    aws.fail_deployments(bad, times=1)
    run(aws)
    states = aws.instances()
    assert states[bad] == "FAILED"
    assert {states[account] for account in members(aws)[1:]} == {"SUCCEEDED"}
    aws.advance(2 * HOUR)
    repaired = action(run(aws), "member-role", bad)
    assert (repaired.verb, repaired.reason) == (Verb.REPAIR, "instance-failed")
    assert aws.instances()[bad] == "SUCCEEDED"


def test_inoperable_instance_is_reported_with_commands(covered: LocalAws) -> None:
    """It can only be removed manually, with its stack retained."""
    bad = members(covered)[0]
    covered.break_instance(bad)
    finished = run(covered)
    assert action(finished, "member-role", bad).verb is Verb.MANUAL
    assert "--retain-stacks" in messages(finished)
    assert wrote_nothing(covered, "cloudformation")


def test_existing_role_of_another_owner_is_reported(covered: LocalAws) -> None:
    """Updating the instance again and again would not help, since another role has the name."""
    bad = members(covered)[0]
    covered.fail_instance(bad, "Role with name tailpipe-child-connector already exists (AlreadyExists)")
    finished = run(covered)
    found = action(finished, "member-role", bad)
    assert (found.verb, found.reason) == (Verb.MANUAL, "member-role-foreign")
    assert wrote_nothing(covered, "cloudformation")


def test_operation_in_progress_is_deferred_to_the_next_run(aws: LocalAws) -> None:
    """The run does not wait for it."""
    aws.faults.add("cloudformation", "CreateStackInstances", "OperationInProgressException")
    finished = run(aws)
    assert {outcome(finished, "member-role", one).result for one in members(aws)} == {Result.DEFERRED}
    assert aws.calls.count("cloudformation", "CreateStackInstances") == 1
    aws.advance(HOUR)
    run(aws)
    assert len(aws.instances()) == 3


def test_instances_deleted_before_the_update_are_created(covered: LocalAws) -> None:
    """StackInstanceNotFound does not name them: they are listed again, and the missing ones created."""
    gone, outdated = members(covered)[:2]
    covered.fail_instance(gone)
    covered.fail_instance(outdated)

    def vanish(_attempt: Attempt) -> bool:
        if gone in covered.instances():
            covered.remove_instance(gone)
            return True
        return False

    covered.faults.add("cloudformation", "UpdateStackInstances", "StackInstanceNotFoundException", when=vanish)
    run(covered)
    covered.advance(2 * HOUR)
    run(covered)
    assert {covered.instances()[one] for one in (gone, outdated)} == {"SUCCEEDED"}


def test_every_page_of_instances_is_read() -> None:
    """Instances on later pages do not count as missing."""
    with local_aws(accounts=30, page_size=7) as cloud:
        run(cloud)
        cloud.advance(2 * HOUR)
        finished = run(cloud)
        assert verbs(finished) == {"KEEP": 30 - 1 + 5}


def test_incomplete_listing_creates_nothing() -> None:
    """Instances that were not listed are unknown, not absent."""
    with local_aws(accounts=12, page_size=5) as cloud:
        run(cloud)
        cloud.advance(2 * HOUR)
        cloud.faults.add(
            "cloudformation",
            "ListStackInstances",
            "AccessDenied",
            times=None,
            when=lambda one: bool(one.params.get("NextToken")),
        )
        cloud.calls.clear()
        finished = run(cloud)
        assert wrote_nothing(cloud, "cloudformation")
        seen = {action(finished, "member-role", one).verb for one in members(cloud)}
        assert seen == {Verb.KEEP, Verb.DEFER}


def test_missing_stackset_is_reported_and_not_created(aws: LocalAws) -> None:
    """The deployment owns it; the members' roles are blocked until it exists."""
    finished = run(aws, STACKSET_NAME="Not-Deployed")
    assert action(finished, "stackset").verb is Verb.MANUAL
    assert {outcome(finished, "member-role", one).result for one in members(aws)} == {Result.BLOCKED}
    assert aws.calls.count("cloudformation", "CreateStackSet") == 0


def test_stackset_of_another_owner_is_not_changed(aws: LocalAws) -> None:
    """A StackSet that does not create the member role would deploy something else to every account."""
    template = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    aws.client("cloudformation").create_stack_set(
        StackSetName="Theirs",
        TemplateBody=json.dumps(template),
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": False},
    )
    finished = run(aws, STACKSET_NAME="Theirs")
    assert action(finished, "stackset").reason == "foreign"
    assert {outcome(finished, "member-role", one).result for one in members(aws)} == {Result.BLOCKED}
    assert aws.calls.count("cloudformation", "CreateStackInstances") == 0


def test_organization_access_is_reported_and_not_changed(aws: LocalAws) -> None:
    """It affects the whole organization."""
    aws.client("cloudformation").deactivate_organizations_access()
    aws.calls.clear()
    finished = run(aws)
    assert action(finished, "organizations-access").verb is Verb.MANUAL
    assert "activate-organizations-access" in messages(finished)
    run(aws)
    assert aws.calls.count("cloudformation", "ActivateOrganizationsAccess") == 0
    assert aws.calls.count("cloudformation", "DeactivateOrganizationsAccess") == 0


def test_access_disabled_before_the_creation_is_a_manual_step(aws: LocalAws) -> None:
    """AWS's error about the disabled access becomes the step that enables it."""
    sentence = "You must enable organizations access to operate a service managed stack set"
    aws.faults.add("cloudformation", "CreateStackInstances", "ValidationError", message=sentence, times=None)
    finished = run(aws)
    assert {outcome(finished, "member-role", one).result for one in members(aws)} == {Result.MANUAL}
    assert "activate-organizations-access" in messages(finished)


def test_matching_trust_policy_is_kept(aws: LocalAws) -> None:
    """Principal and External ID are the configured ones."""
    assert action(run(aws), "connector-role").verb is Verb.KEEP


def test_changed_external_id_is_detected_and_never_shown(aws: LocalAws) -> None:
    """The trust policy is read in each run; neither External ID appears in log, report or state."""
    put_trust(aws, trust(aws, external_id="another-external-id"))
    lines = Lines()
    finished = run(aws, sink=lines)
    assert action(finished, "connector-role").verb is Verb.MANUAL
    state = aws.client("s3").get_object(Bucket=aws.deployment.bucket, Key="state/known_accounts.json")["Body"].read()
    for text in (lines.text(), json.dumps(finished.report), state.decode(), repr(finished)):
        assert "another-external-id" not in text
        assert aws.deployment.external_id not in text
    assert trust(aws, external_id="another-external-id") == role(aws)["AssumeRolePolicyDocument"]


def test_missing_external_id_condition_is_detected(aws: LocalAws) -> None:
    """Without it, another customer of Tailpipe could use the role (confused deputy)."""
    document = trust(aws)
    del document["Statement"][0]["Condition"]
    put_trust(aws, document)
    assert action(run(aws), "connector-role").verb is Verb.MANUAL


def test_additional_principal_is_detected(aws: LocalAws) -> None:
    """A role that also trusts others does not match."""
    document = trust(aws)
    document["Statement"].append({**document["Statement"][0], "Principal": {"AWS": "210000000000"}})
    put_trust(aws, document)
    finished = run(aws)
    assert action(finished, "connector-role").verb is Verb.MANUAL
    assert "210000000000" in messages(finished)


def test_role_of_another_owner_is_described_by_path_and_tags(aws: LocalAws) -> None:
    """It trusts another principal and is not tagged: the message identifies it, and nothing is written."""
    aws.client("iam").create_role(
        RoleName="theirs",
        Path="/finance/",
        AssumeRolePolicyDocument=json.dumps(trust(aws, principal="arn:aws:iam::999999999999:root")),
        Tags=[{"Key": "owner", "Value": "finance-team"}],
    )
    finished = run(aws, CONNECTOR_ROLE_NAME="theirs")
    assert action(finished, "connector-role").reason == "foreign"
    assert "/finance/" in messages(finished)
    assert "owner=finance-team" in messages(finished)


def test_missing_connector_role_is_reported_with_a_step(aws: LocalAws) -> None:
    """Only the deployment writes identities."""
    finished = run(aws, CONNECTOR_ROLE_NAME="not-there")
    assert action(finished, "connector-role").verb is Verb.MANUAL
    assert "not-there" in messages(finished)


@pytest.mark.parametrize("operation", ["ListStackInstances", "DescribeOrganizationsAccess"])
def test_wrong_account_is_reported_with_the_management_account(aws: LocalAws, operation: str) -> None:
    """AWS's error about the management account is completed with that account's id."""
    sentence = "You must be the management account or delegated admin account of an organization"
    aws.faults.add("cloudformation", operation, "ValidationError", message=sentence, times=None)
    finished = run(aws)
    assert "management account is 111122223333" in messages(finished)
    assert aws.calls.count("cloudformation", "CreateStackInstances") == 0


def test_instance_missing_after_its_operation_ended_is_created_at_once(aws: LocalAws) -> None:
    """Listing and ended operation are two proofs, so the grace period does not apply; one call creates all."""
    run(aws)
    for account in members(aws):
        aws.remove_instance(account)
    aws.advance(300)
    aws.calls.clear()
    finished = run(aws, MAX_VANISHED_PERCENT="100")
    assert {action(finished, "member-role", one).verb for one in members(aws)} == {Verb.CREATE}
    assert aws.calls.count("cloudformation", "DescribeStackSetOperation") == 1


def test_new_instances_go_to_the_region_of_the_existing_ones() -> None:
    """A second region would try to create the same global role."""
    with local_aws() as cloud:
        root = cloud.client("organizations").list_roots()["Roots"][0]["Id"]
        first, *_, last = members(cloud)
        cloud.client("cloudformation").create_stack_instances(
            StackSetName=STACKSET,
            Regions=["us-east-1"],
            DeploymentTargets={
                "OrganizationalUnitIds": [root],
                "Accounts": [first],
                "AccountFilterType": "INTERSECTION",
            },
        )
        run(cloud, [last])
        run(cloud)
        found = cloud.client("cloudformation").list_stack_instances(StackSetName=STACKSET)["Summaries"]
        assert {one["Region"] for one in found} == {"us-east-1"}


def test_one_rejected_account_does_not_block_its_batch() -> None:
    """StackSets rejects the whole request and may not name the account: it is split until only that account fails."""
    with local_aws(accounts=41) as cloud:
        bad = members(cloud)[17]
        cloud.reject_account(bad)
        finished = run(cloud)
        assert set(cloud.instances()) == set(members(cloud)) - {bad}
        rejected = outcome(finished, "member-role", bad)
        assert (rejected.result, rejected.code) == (Result.MANUAL, "account-rejected")
        assert bad in messages(finished)
        assert cloud.calls.count("cloudformation", "CreateStackInstances") <= 2 * 6 + 1
        cloud.reject_account(bad, rejected=False)
        run(cloud, [bad])
        assert cloud.instances()[bad] == "SUCCEEDED"


def test_one_rejected_account_does_not_block_updates(covered: LocalAws) -> None:
    """Batches of updates are split like those of creations."""
    bad, *others = members(covered)
    for account in (bad, *others):
        covered.fail_instance(account)
    covered.reject_account(bad)
    covered.advance(2 * HOUR)
    finished = run(covered)
    assert {covered.instances()[one] for one in others} == {"SUCCEEDED"}
    assert outcome(finished, "member-role", bad).code == "account-rejected"


def test_rejection_that_names_accounts_is_split_by_them() -> None:
    """Two requests are enough if AWS names the accounts; a cause that all accounts share ends the splitting."""
    with local_aws(accounts=61) as cloud:
        bad = members(cloud)[40]
        says = f"Account {bad} is not in the organizational units"
        cloud.faults.add(
            "cloudformation",
            "CreateStackInstances",
            "ValidationError",
            message=says,
            times=None,
            when=lambda one: bad in one.params["DeploymentTargets"]["Accounts"],
        )
        run(cloud)
        assert cloud.calls.count("cloudformation", "CreateStackInstances") == 3
        assert set(cloud.instances()) == set(members(cloud)) - {bad}
    with local_aws(accounts=61) as cloud:
        cloud.faults.add("cloudformation", "CreateStackInstances", "ValidationError", message="no", times=None)
        finished = run(cloud)
        assert cloud.calls.count("cloudformation", "CreateStackInstances") <= 60
        assert finished.report["scopes"]["covered"] <= 1


def test_pending_instance_without_operation_is_updated(covered: LocalAws) -> None:
    """A selective update of the StackSet leaves instances PENDING without a running operation."""
    stranded = members(covered)[0]
    covered.strand_instance(stranded)
    repaired = outcome(run(covered), "member-role", stranded)
    assert (repaired.action.verb, repaired.action.reason) == (Verb.REPAIR, "instance-stranded")
    assert covered.instances()[stranded] == "SUCCEEDED"


def test_reopened_account_is_repaired(covered: LocalAws) -> None:
    """An instance that was skipped while its account was suspended is updated after the account is active again."""
    account = members(covered)[0]
    covered.suspend_account(account)
    client = covered.client("cloudformation")
    client.update_stack_set(
        StackSetName=STACKSET,
        UsePreviousTemplate=True,
        Parameters=[{"ParameterKey": "ExternalId", "ParameterValue": "another-id"}],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    covered.advance(DAY)
    covered.deliver()
    assert action(run(covered), "member-role", account).reason == "scope-inactive"
    assert covered.instances()[account] == "SKIPPED_SUSPENDED_ACCOUNT"
    covered.reopen_account(account)
    covered.advance(HOUR)
    assert action(run(covered), "member-role", account).verb is Verb.REPAIR
    assert covered.instances()[account] == "SUCCEEDED"


SCP = (
    "User: arn:aws:sts::210000000000:assumed-role/stacksets-exec/x is not authorized to perform: iam:CreateRole on "
    "resource: arn with an explicit deny in a service control policy"
)


def test_role_denied_by_a_policy_is_reported_at_once_and_retried_daily(covered: LocalAws) -> None:
    """Hourly operations would not help; after the policy is changed, the next day's try succeeds."""
    account = members(covered)[0]
    covered.fail_deployments(account, SCP, times=None)
    covered.fail_instance(account, SCP)
    finished = run(covered)
    refused = action(finished, "member-role", account)
    assert (refused.verb, refused.reason) == (Verb.MANUAL, "denied-by-scp")
    assert "SERVICE_CONTROL_POLICY" in messages(finished)
    covered.fail_deployments(account, SCP, times=0)
    covered.advance(HOUR)
    assert action(run(covered), "member-role", account).verb is Verb.MANUAL
    covered.advance(DAY)
    covered.deliver()
    assert action(run(covered), "member-role", account).verb is Verb.REPAIR
    assert covered.instances()[account] == "SUCCEEDED"


def test_repeatedly_failing_role_becomes_a_manual_step(covered: LocalAws) -> None:
    """Failed operations are retried three times; an account that is requested by id is retried at once."""
    account = members(covered)[0]
    covered.fail_deployments(account, "Internal error", times=None)
    covered.fail_instance(account, "Internal error")
    seen = []
    for _ in range(5):
        seen.append(action(run(covered), "member-role", account).verb)
        covered.advance(HOUR)
    assert seen == [Verb.REPAIR, Verb.REPAIR, Verb.MANUAL, Verb.MANUAL, Verb.MANUAL]
    assert "--scope" in messages(run(covered))
    covered.fail_deployments(account, "", times=0)
    assert action(run(covered, [account]), "member-role", account).verb is Verb.REPAIR
    assert action(run(covered), "member-role", account).verb is Verb.KEEP


def test_role_deleted_outside_cloudformation_is_reported_after_drift_detection(covered: LocalAws) -> None:
    """Updating the instance would not restore it: the steps remove the instance, and the next run creates it."""
    account = members(covered)[0]
    covered.remove_member_role(account)
    client = covered.client("cloudformation")
    client.detect_stack_set_drift(StackSetName=STACKSET)
    finished = run(covered)
    drifted = action(finished, "member-role", account)
    assert (drifted.verb, drifted.reason) == (Verb.MANUAL, "instance-drifted")
    assert "--no-retain-stacks" in messages(finished)
    targets = {"OrganizationalUnitIds": [client_root(covered)], "Accounts": [account]}
    client.delete_stack_instances(
        StackSetName=STACKSET,
        Regions=["eu-west-1"],
        RetainStacks=False,
        DeploymentTargets={**targets, "AccountFilterType": "INTERSECTION"},
    )
    run(covered, [account])
    assert covered.client("iam", account).get_role(RoleName=MEMBER)["Role"]["RoleName"] == MEMBER


def test_permanently_disabled_access_needs_a_support_case(covered: LocalAws) -> None:
    """Activation would be rejected: the step is a support case in place of the command."""
    assert covered.organization
    covered.organization.stacksets_access = "DISABLED_PERMANENTLY"
    finished = run(covered)
    disabled = action(finished, "organizations-access")
    assert (disabled.verb, disabled.reason) == (Verb.MANUAL, "organizations-access-permanently-disabled")
    steps = finished.report["manual"][0]["steps"]
    assert "Support case" in steps[0]
    assert not any(step.startswith("In the management account run:") for step in steps)


def test_consolidated_billing_is_named_as_the_cause() -> None:
    """The access of StackSets requires all features: the step enables them first."""
    with local_aws(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="CONSOLIDATED_BILLING")
        finished = run(cloud)
        assert action(finished, "organizations-access").reason == "all-features-needed"
        assert "enable-all-features" in messages(finished)


def test_members_of_the_earlier_scripts_keep_their_role(aws: LocalAws) -> None:
    """The deployment's template has the scripts' logical id: another id would fail in every account, since the role's
    name is taken until the old resource is deleted.
    """
    client = aws.client("cloudformation")
    root = client_root(aws)
    scripts = {"Type": "AWS::IAM::Role", "Properties": {"RoleName": MEMBER, "AssumeRolePolicyDocument": trust(aws)}}
    client.delete_stack_set(StackSetName=STACKSET)
    named: dict[str, Any] = {"StackSetName": STACKSET, "Capabilities": ["CAPABILITY_NAMED_IAM"]}
    client.create_stack_set(
        **named,
        TemplateBody=json.dumps({"Resources": {"TailpipeCloudWatchRole": scripts}}),
        PermissionModel="SERVICE_MANAGED",
        AutoDeployment={"Enabled": True, "RetainStacksOnAccountRemoval": False},
    )
    client.create_stack_instances(
        StackSetName=STACKSET, DeploymentTargets={"OrganizationalUnitIds": [root]}, Regions=["eu-west-1"]
    )
    ids = {account: role_of(aws, account)["RoleId"] for account in members(aws)}
    given = {"ExternalId": aws.deployment.external_id, "PrincipalArn": aws.deployment.principal}
    client.update_stack_set(
        **named,
        TemplateBody=TEMPLATE.read_text(encoding="utf-8"),
        Parameters=[{"ParameterKey": name, "ParameterValue": value} for name, value in given.items()],
        OperationPreferences={"FailureTolerancePercentage": 100},
    )
    assert aws.instances() == dict.fromkeys(members(aws), "SUCCEEDED")
    assert run(aws).report["status"] == "ok"
    for account in members(aws):
        found = role_of(aws, account)
        assert {"Key": "managed-by", "Value": "tailpipe-exports"} in found["Tags"]
        assert found["RoleId"] == ids[account], "the role was kept, not created again"


def role_of(cloud: LocalAws, account: str) -> dict[str, Any]:
    """Return the member role as IAM returns it in its account."""
    found: dict[str, Any] = cloud.client("iam", account).get_role(RoleName=MEMBER)["Role"]
    return found


def client_root(cloud: LocalAws) -> str:
    """Return the id of the organization's root."""
    return str(cloud.client("organizations").list_roots()["Roots"][0]["Id"])
