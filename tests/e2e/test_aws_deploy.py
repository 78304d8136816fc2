"""The lifecycle of a deployment on the local AWS: deploy with Terraform, run, repair, upgrade, move, destroy."""

from __future__ import annotations

import itertools
import json
import re
import zipfile
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from aws_lambda.resources.bucket_policy import normal_statement
from cli.deployment.aws import tenant_role
from cli.packaging import Target, build
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.e2e.aws_deployment import (
    CONNECTORS,
    REPOSITORY,
    CommandResult,
    Deployment,
    organization,
    status_of,
    terraform_init,
)
from tests.e2e.test_aws_reader import other_role
from tests.localcloud.aws.helpers import (
    OTHER_MANAGEMENT,
    join_another_organization,
    leave_own_organization,
    manage_another_organization,
    members,
)
from tests.localcloud.aws.iam.sessions import document
from tests.readers.aws import TAILPIPE_ACCOUNT, TAILPIPE_ROLE, assumed, client

INIT = terraform_init()
pytestmark = [
    # Terraform's provider waits about 60 s for S3 and 30 s for SQS to become consistent.
    pytest.mark.long,
    pytest.mark.slow,  # with rounds deployed, it takes a tenth of the time of all other tests
]
MEMBERS = 3
TENANT = "222233334444"


@dataclass
class Scenario:
    """The result of each step by name, and what the cloud contained afterwards."""

    deployment: Deployment
    steps: dict[str, CommandResult] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scenario(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scenario]:
    """Run the scenario once, with the long steps only for slow tests; the tests check its steps."""
    items = (item for item in request.session.items if item.path == request.path)
    whole = any(item.get_closest_marker("slow") for item in items)
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        organization(cloud, MEMBERS)
        scenario = Scenario(Deployment(cloud, folder, INIT))
        deploy_without_permission(scenario, package)
        if whole:
            plan_only(scenario, package)
        deploy_after_failure(scenario, package)
        if whole:
            deploy_again(scenario, package)
        run_and_repair(scenario)
        if whole:
            operate(scenario, package)
            change_organization(scenario, package)
        scenario.steps["onboarding"] = scenario.deployment.tailpipe("onboarding", "aws", "--show-secret")
        destroy(scenario)
        yield scenario


def deploy_without_permission(scenario: Scenario, package: Path) -> None:
    """Run doctor and deploy without one permission; run doctor again with it."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    cloud.deny("lambda:CreateFunction")
    steps["doctor-denied"] = deployment.tailpipe("doctor", "aws")
    steps["deploy-denied"] = deployment.deploy(package, "--yes")
    scenario.facts["denied-buckets"] = buckets(cloud)
    cloud.allow("lambda:CreateFunction")
    steps["doctor"] = deployment.tailpipe("doctor", "aws", "--json")


def plan_only(scenario: Scenario, package: Path) -> None:
    """Plan twice and create nothing."""
    deployment, steps = scenario.deployment, scenario.steps
    steps["no-terminal"] = deployment.deploy(package)
    steps["dry-run"] = deployment.deploy(package, "--dry-run")


def deploy_after_failure(scenario: Scenario, package: Path) -> None:
    """Fail during the apply, then continue."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    # No preflight check can predict this failure.
    cloud.fault("scheduler", "CreateSchedule", "ValidationException", times=None)
    steps["interrupted"] = deployment.deploy(package, "--yes")
    cloud.clear_faults()
    steps["deploy"] = deployment.deploy(package, "--yes")


def deploy_again(scenario: Scenario, package: Path) -> None:
    """Let a round grant a tenant's deliveries, then deploy again without changes."""
    cloud = scenario.deployment.cloud
    secret = f"arn:aws:secretsmanager:{cloud.region}:{cloud.account}:secret:tailpipe-exports/tenants/acme-AbCdEf"
    entry = {"role_arn": f"arn:aws:iam::{TENANT}:role/tailpipe-exports-tenant", "external_id": secret}
    tenant = {"id": "acme", "cloud": "aws", "entry": entry, "destination": {"bucket_owner": cloud.account}}
    bucket, registry = f"tailpipe-dataexport-{cloud.account}", {"version": 1, "tenants": [tenant]}
    cloud.client("s3").put_object(Bucket=bucket, Key="registry/tenants.json", Body=json.dumps(registry))
    begin = json.dumps({"round": {"step": "begin"}})
    cloud.client("lambda").invoke(FunctionName="tailpipe-exports", Payload=begin)["Payload"].read()
    scenario.facts["policy"] = cloud.bucket_policy()
    scenario.steps["again"] = scenario.deployment.deploy(package, "--yes")
    scenario.facts["policy-again"] = cloud.bucket_policy()
    with cloud.client("s3").get_object(Bucket=bucket, Key="registry/tenant-role.yaml")["Body"] as body:
        scenario.facts["template"] = body.read().decode()
    scenario.facts["read"] = read_by_connectors(cloud, bucket)


def read_by_connectors(cloud: LocalAws, bucket: str) -> dict[str, list[str]]:
    """Return whose files Tailpipe reads by the role of each tenant, with the External ID of each tenant."""
    keys = {name: f"dataexport/{one['payer']}/{name}/file" for name, one in CONNECTORS.items()}
    for key in keys.values():
        cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=b"costs")
    tailpipe, found = other_role(cloud, TAILPIPE_ACCOUNT, TAILPIPE_ROLE), dict[str, list[str]]()
    for name, of in itertools.product(CONNECTORS, CONNECTORS):
        role = f"arn:aws:iam::{cloud.account}:role/tailpipe-connector-role-{name}"
        try:
            session = assumed(cloud.endpoint, cloud.region, tailpipe, role, CONNECTORS[of]["external_id"])
        except ClientError:
            continue
        with closing(client(cloud.endpoint, cloud.region, "s3", session)) as s3:
            for other, key in keys.items():
                with suppress(ClientError):
                    s3.get_object(Bucket=bucket, Key=key)["Body"].read()
                    found.setdefault(f"{name} with the id of {of}", []).append(other)
    return found


def run_and_repair(scenario: Scenario) -> None:
    """Fire the schedule, then delete things and let the function repair them."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    scenario.facts["fired"] = cloud.fire_schedule(name="tailpipe-exports", group="tailpipe-exports")
    cloud.delete_export("tailpipe-dataexport")
    cloud.remove_bucket_policy_statement("TailpipeDataExports")
    cloud.join_account(name="late")
    steps["repair-dry-run"] = deployment.tailpipe("invoke", "aws", "--dry-run", "--json")
    steps["repair"] = deployment.tailpipe("invoke", "aws", "--json")
    scenario.facts["exports"] = list(cloud.exports())


def operate(scenario: Scenario, package: Path) -> None:
    """Repair from a laptop, upgrade, and lose Terraform's state."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    cloud.delete_export("tailpipe-dataexport")
    steps["laptop-plan"] = deployment.laptop("plan", "aws", "--json")
    steps["laptop-unconfirmed"] = deployment.laptop("run", "aws")
    scenario.facts["exports-unconfirmed"] = list(cloud.exports())
    steps["laptop-run"] = deployment.laptop("run", "aws", "--yes", "--json")
    scenario.facts["exports-of-laptop"] = list(cloud.exports())
    steps["laptop-again"] = deployment.laptop("plan", "aws")
    changed = package.with_name("changed.zip")
    changed.write_bytes(package.read_bytes())
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("RELEASE", "2")
    deployment.at_once += 1
    steps["upgrade"] = deployment.deploy(changed, "--yes")
    iam = cloud.client("iam")
    generous = iam.create_policy(PolicyName="generous", PolicyDocument=document({"Action": "*", "Resource": "*"}))
    iam.attach_role_policy(RoleName="tailpipe-connector-role", PolicyArn=generous["Policy"]["Arn"])
    state = f"tailpipe-terraform-{cloud.account}"
    key = f"tailpipe-exports/{cloud.region}.tfstate"
    scenario.facts["state"] = cloud.client("s3").head_object(Bucket=state, Key=key)["ServerSideEncryption"]
    cloud.client("s3").delete_object(Bucket=state, Key=key)
    # The same command rotates the External ID: the trust policy is updated while the role is imported.
    deployment.external_id = f"{EXTERNAL_ID}-next"
    # Terraform overwrites a description that was edited by hand.
    cloud.client("iam").update_role_description(RoleName="tailpipe-connector-role", Description="by hand")
    steps["lost-state"] = deployment.deploy(changed, "--yes")
    attached = iam.list_attached_role_policies(RoleName="tailpipe-connector-role")
    scenario.facts["policy-at-last"] = cloud.bucket_policy()
    scenario.facts["attached"] = attached["AttachedPolicies"]


def change_organization(scenario: Scenario, package: Path) -> None:
    """Move the account to another organization, then let it create its own with other members."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    changed = package.with_name("changed.zip")
    scenario.facts["before-move"] = lasting_resources(cloud)
    leave_own_organization(cloud)
    join_another_organization(cloud)
    steps["member-doctor"] = deployment.laptop("doctor", "aws", "--json")
    steps["member-invoke"] = deployment.tailpipe("invoke", "aws", "--json")
    steps["member-plan"] = deployment.laptop("plan", "aws", "--json")
    steps["member-deploy"] = deployment.deploy(changed, "--yes")
    scenario.facts["as-member"] = lasting_resources(cloud)
    manage_another_organization(cloud, MEMBERS)
    steps["new-doctor"] = deployment.laptop("doctor", "aws", "--json")
    steps["new-invoke"] = deployment.tailpipe("invoke", "aws", "--json")
    steps["new-deploy"] = deployment.deploy(changed, "--yes")
    steps["new-plan"] = deployment.laptop("plan", "aws", "--json")
    scenario.facts["in-new"] = lasting_resources(cloud)
    scenario.facts["new-instances"], scenario.facts["new-members"] = instances(cloud), members(cloud)


def lasting_resources(cloud: LocalAws) -> dict[str, Any]:
    """Return the ids or dates of the resources that must survive a change of the organization."""
    listed = cloud.client("cloudformation").list_stack_sets(Status="ACTIVE")["Summaries"]
    return {
        "exports": cloud.client("bcm-data-exports").list_exports()["Exports"],
        "bucket": {one["Name"]: one["CreationDate"] for one in cloud.client("s3").list_buckets()["Buckets"]},
        "roles": {one["RoleName"]: one["RoleId"] for one in cloud.client("iam").list_roles()["Roles"]},
        "stack sets": [one["StackSetId"] for one in listed],
    }


def destroy(scenario: Scenario) -> None:
    """Destroy everything, after a first attempt with a wrong account id."""
    deployment, cloud, steps = scenario.deployment, scenario.deployment.cloud, scenario.steps
    steps["wrong-id"] = deployment.tailpipe("destroy", "aws", "--confirm", "999999999999")
    scenario.facts["after-wrong-id"] = schedule_state(cloud)
    scenario.facts["operator"] = deployment.accesses()
    scenario.facts["function"] = cloud.accesses(f"arn:aws:iam::{cloud.account}:role/tailpipe-exports")
    everything = ("--delete-exports", "--delete-data", "--confirm", cloud.account)
    steps["destroy"] = deployment.tailpipe("destroy", "aws", *everything)
    scenario.facts["operator"] |= deployment.accesses()
    scenario.facts["left"] = remaining_resources(cloud)


def grants_of(policy: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the statement of a bucket policy that lets tenants deliver, if there is one."""
    return [one for one in policy["Statement"] if one["Sid"] == "TailpipeTenantExports"]


def buckets(cloud: LocalAws) -> list[str]:
    """Return the names of all buckets."""
    return [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]


def schedule_state(cloud: LocalAws) -> str:
    """Return whether the schedule is enabled."""
    found = cloud.client("scheduler").get_schedule(Name="tailpipe-exports", GroupName="tailpipe-exports")
    return str(found["State"])


def remaining_resources(cloud: LocalAws) -> dict[str, list[str]]:
    """Return the deployment's remaining resources."""
    roles = cloud.client("iam").list_roles()["Roles"]
    return {
        "buckets": buckets(cloud),
        "roles": [one["RoleName"] for one in roles if one["RoleName"].startswith("tailpipe-")],
        "functions": [one["FunctionName"] for one in cloud.client("lambda").list_functions()["Functions"]],
        "exports": list(cloud.exports()),
        "instances": instances(cloud),
        "dashboards": dashboards(cloud),
    }


def dashboards(cloud: LocalAws) -> list[str]:
    """Return the names of all dashboards."""
    return [one["DashboardName"] for one in cloud.client("cloudwatch").list_dashboards()["DashboardEntries"]]


def instances(cloud: LocalAws) -> list[str]:
    """Return the accounts with a stack instance; a deleted StackSet has none."""
    try:
        return sorted(cloud.instances())
    except KeyError:
        return []


def test_missing_permission_is_reported_before_anything_is_created(scenario: Scenario) -> None:
    """Doctor and deploy name the missing permission and the command that grants it. Not even a bucket is created."""
    for step in ("doctor-denied", "deploy-denied"):
        done = scenario.steps[step]
        assert done.code == 1, done
        assert "✗ lambda:CreateFunction" in done.err, done
        assert "aws iam attach-role-policy --role-name deployment-operator" in done.err, done
    assert scenario.facts["denied-buckets"] == []


def test_doctor_finds_all_permissions_of_the_operator(scenario: Scenario) -> None:
    """With the two shipped policies, no permission is missing or unknown."""
    done = scenario.steps["doctor"]
    assert done.code == 0, done
    rights = json.loads(done.out)["rights"]
    assert {one["present"] for one in rights} == {True}
    assert len(rights) > 80


def test_deploy_without_a_terminal_requires_yes(scenario: Scenario) -> None:
    """Without a prompt, the command shows the plan, exits with 1 and asks for --yes."""
    done = scenario.steps["no-terminal"]
    assert (done.code, done.out) == (1, ""), done
    assert "Add --yes" in done.err


def test_dry_run_only_shows_the_plan(scenario: Scenario) -> None:
    """It lists the resources to create and the permissions to grant, and changes nothing."""
    done = scenario.steps["dry-run"]
    assert (done.code, done.out) == (0, ""), done
    assert '2 aws_lambda_function: collector["events"]' in done.err
    assert "The function may:" in done.err
    assert "nothing was created" in done.err


def test_interrupted_deployment_is_continued(scenario: Scenario) -> None:
    """The error explains how to continue, and the same command creates only what is missing."""
    failed, done = scenario.steps["interrupted"], scenario.steps["deploy"]
    assert failed.code == 1, failed
    assert "was interrupted" in failed.err
    assert "it continues" in failed.err
    assert done.code == 0, done
    assert '2 aws_scheduler_schedule: rounds["rounds"], this' in done.err
    assert "aws_s3_bucket: exports" not in done.err


def test_deployment_is_verified_and_prints_the_onboarding_document(scenario: Scenario) -> None:
    """The function runs once, all checks pass, and standard output is the document that Tailpipe needs."""
    done = scenario.steps["deploy"]
    document = json.loads(done.out)
    assert document["tailpipe"]["externalId"] == "hidden; --show-secret shows it"
    assert document["childAccounts"]["count"] == MEMBERS
    assert document["costExport"]["exportArn"].startswith("arn:aws:bcm-data-exports:us-east-1:")
    assert "the schedule starts the function · rate(1 hour)" in done.err
    assert "✓ the role is refused without the External ID" in done.err
    assert "✗" not in done.err


def test_external_id_is_shown_only_on_request(scenario: Scenario) -> None:
    """Only the step with --show-secret prints it."""
    for name, done in scenario.steps.items():
        assert EXTERNAL_ID not in done.err, name
        if name != "onboarding":
            assert EXTERNAL_ID not in done.out, name


def test_plan_shows_permissions_and_alarm_recipients(scenario: Scenario) -> None:
    """Both come from Terraform's plan. Permissions of disabled options are not listed."""
    shown = scenario.steps["dry-run"].err
    assert "13 alarms notify platform@example.com" in shown
    assert "cloudformation:CreateStackInstances" in shown
    for absent in ("sustainability:", "kms:Decrypt", "ListAccountsForParent", "only with"):
        assert absent not in shown


def test_second_deployment_changes_nothing(scenario: Scenario) -> None:
    """Neither the function nor AWS changes what Terraform manages."""
    done = scenario.steps["again"]
    assert done.code == 0, done
    assert "nothing to change" in done.err


def test_deployment_keeps_the_grants_of_tenants(scenario: Scenario) -> None:
    """Not even an upgrade, or one that lost Terraform's state, touches the statement that the function keeps."""
    (granted,) = grants_of(scenario.facts["policy"])
    assert granted["Condition"]["StringEquals"]["aws:SourceAccount"] in (TENANT, [TENANT])
    assert scenario.facts["policy-again"] == scenario.facts["policy"]
    (at_last,) = grants_of(scenario.facts["policy-at-last"])
    assert normal_statement(at_last) == normal_statement(granted)


def test_deployment_publishes_the_template_of_a_tenants_role(scenario: Scenario) -> None:
    """Where the link of an invitation finds it."""
    assert scenario.facts["template"] == tenant_role.published()


def test_schedule_invokes_the_function(scenario: Scenario) -> None:
    """EventBridge Scheduler, with its own role, invokes the uploaded package, which covers every account."""
    fired = scenario.facts["fired"]
    assert status_of(fired["run"]["payload"]) == ("ok", MEMBERS + 1), fired


def test_invoke_repairs_deleted_resources(scenario: Scenario) -> None:
    """The function restores the export and the bucket policy's statement, and covers a new account."""
    dry_run, done = scenario.steps["repair-dry-run"], scenario.steps["repair"]
    assert (dry_run.code, done.code) == (0, 0), (dry_run, done)
    assert json.loads(dry_run.out)["dry_run"] is True
    assert status_of(json.loads(done.out)) == ("ok", MEMBERS + 2)
    assert scenario.facts["exports"] == ["tailpipe-dataexport"]


def test_local_run_uses_the_deployed_settings(scenario: Scenario) -> None:
    """Without any settings in its shell, a laptop plans exactly the pending repair and applies it with --yes."""
    planned, unconfirmed, ran = (scenario.steps[f"laptop-{name}"] for name in ("plan", "unconfirmed", "run"))
    assert planned.code == 2, planned
    written = [one for one in json.loads(planned.out)["actions"] if one["result"] == "planned"]
    assert [(one["kind"], one["name"], one["verb"]) for one in written] == [("export", "tailpipe-dataexport", "CREATE")]
    assert "management account" in planned.err
    assert "function:tailpipe-exports, code sha256 " in planned.err
    assert (unconfirmed.code, scenario.facts["exports-unconfirmed"]) == (1, [])
    assert "--yes" in unconfirmed.err
    assert ran.code == 0, ran
    assert status_of(json.loads(ran.out)) == ("ok", MEMBERS + 2)
    assert scenario.facts["exports-of-laptop"] == ["tailpipe-dataexport"]
    assert scenario.steps["laptop-again"].code == 0, scenario.steps["laptop-again"]


def test_upgrade_changes_only_the_code(scenario: Scenario) -> None:
    """A new package updates the code of function and collector, and more tenants at once the state machine."""
    done = scenario.steps["upgrade"]
    assert done.code == 0, done
    assert '2 aws_lambda_function: collector["events"]' in done.err
    assert 'aws_sfn_state_machine: rounds["rounds"]' in done.err
    assert "3 to change" in done.err


def test_lost_terraform_state_is_rebuilt_by_import(scenario: Scenario) -> None:
    """Existing resources are imported. None is created twice or replaced."""
    assert scenario.facts["state"] == "AES256"
    done = scenario.steps["lost-state"]
    assert done.code == 0, done
    summary = next(line for line in done.err.splitlines() if " to adopt" in line)
    assert "remove" not in summary
    assert "replace" not in summary
    created = [line for line in done.err.splitlines() if line.startswith("create ")]
    # SNS does not duplicate an existing subscription: it returns the first one.
    assert all("terraform_data" in line or "aws_sns_topic_subscription" in line for line in created), created
    assert json.loads(scenario.steps["onboarding"].out)["tailpipe"]["externalId"] == f"{EXTERNAL_ID}-next"


def test_connector_of_a_tenant_reads_only_its_exports(scenario: Scenario) -> None:
    """Each role that Terraform made opens with its own External ID, and reads the files of its own tenant."""
    assert scenario.facts["read"] == {"acme with the id of acme": ["acme"], "bolt with the id of bolt": ["bolt"]}


def test_deployment_detaches_foreign_policies_from_the_connector_role(scenario: Scenario) -> None:
    """A policy that someone attached to the role is removed by the next deployment."""
    assert scenario.facts["attached"] == []


def test_deployment_stops_after_the_account_joins_another_organization(scenario: Scenario) -> None:
    """Run, plan, doctor and deploy name the management account and the setting to change. Nothing changes."""
    doctor, invoked, planned, deployed = (
        scenario.steps[f"member-{name}"] for name in ("doctor", "invoke", "plan", "deploy")
    )
    assert (doctor.code, invoked.code, planned.code, deployed.code) == (1, 1, 1, 1)
    (failure,) = json.loads(planned.out)["failures"]
    assert failure["code"] == "member-account"
    (failed_check,) = [one for one in json.loads(doctor.out)["surroundings"] if one["ok"] is False]
    remedies = (
        failure["remedy"],
        failed_check["remedy"],
        " ".join(invoked.err.split()),
        " ".join(deployed.err.split()),
    )
    for message in remedies:
        assert re.search(r'account_kind ?= ?"?standalone', message), message
        assert f"management account {OTHER_MANAGEMENT}" in message
    assert scenario.facts["as-member"] == scenario.facts["before-move"]


def test_deployment_covers_the_accounts_new_organization(scenario: Scenario) -> None:
    """Run and doctor report that StackSets have no access to the organization. The next deployment enables it."""
    doctor, invoked, deployed, planned = (
        scenario.steps[f"new-{name}"] for name in ("doctor", "invoke", "deploy", "plan")
    )
    (failed_check,) = [one for one in json.loads(doctor.out)["surroundings"] if one["ok"] is False]
    assert (doctor.code, failed_check["what"]) == (1, "StackSets' access to the organization")
    manual = json.loads(invoked.out)["manual"]
    assert {one["code"] for one in manual} == {"organizations-access"}, invoked
    assert deployed.code == 0, deployed
    assert "terraform_data: organizations_access" in deployed.err
    assert len(scenario.facts["new-members"]) == MEMBERS
    assert scenario.facts["new-instances"] == sorted(scenario.facts["new-members"])
    assert scenario.facts["in-new"] == scenario.facts["before-move"]
    assert planned.code == 0, planned
    assert status_of(json.loads(planned.out)) == ("ok", MEMBERS + 1)


def test_destroy_with_a_wrong_account_id_is_refused(scenario: Scenario) -> None:
    """The schedule stays enabled."""
    assert scenario.steps["wrong-id"].code == 1
    assert scenario.facts["after-wrong-id"] == "ENABLED"


def test_destroy_with_data_keeps_only_the_terraform_state(scenario: Scenario) -> None:
    """Nothing else remains in the management account or in any member account."""
    done = scenario.steps["destroy"]
    assert done.code == 0, done
    state = [f"tailpipe-terraform-{scenario.deployment.cloud.account}"]
    nothing: dict[str, list[str]] = {name: [] for name in ("roles", "functions", "exports", "instances", "dashboards")}
    assert scenario.facts["left"] == {"buckets": state, **nothing}
    assert done.err.index("is disabled") < done.err.index("deleting")


def test_operator_is_granted_exactly_the_permissions_it_uses(scenario: Scenario) -> None:
    """Deploy and destroy use every action of operator.yaml, and no other action is refused."""
    source = yaml.safe_load((REPOSITORY / "infra" / "aws" / "operator.yaml").read_text())
    grants = [one for part in ("deploy", "destroy") for one in source[part]]
    granted = {action for one in grants for action in one["actions"]}
    # The operator only checks that Tailpipe's role refuses it.
    assert granted - {action for action, _ in scenario.facts["operator"]} == {"sts:AssumeRole"}
