"""A deployment's whole life on the local AWS: deployed with Terraform, run, healed, upgraded, moved, removed."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli.packaging import Target, build
from localcloud.aws.cloud import LocalAws
from tests.e2e.aws_deployment import EXTERNAL_ID, REPOSITORY, Deployment, Done, organization, status_of, terraform_init
from tests.localcloud.aws.helpers import (
    OTHER_MANAGEMENT,
    join_another_organization,
    leave_own_organization,
    manage_another_organization,
    members,
)
from tests.localcloud.aws.iam.sessions import document

INIT = terraform_init()
pytestmark = [
    # Terraform's provider waits for S3 and SQS to settle, about a minute and half a minute.
    pytest.mark.long,
]
MEMBERS = 3


@dataclass
class Story:
    """What each step gave, by its name, and what the cloud held after it."""

    deployment: Deployment
    steps: dict[str, Done] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """Tell the story once, the long chapters only for the slow tests; the tests look at its steps."""
    items = (item for item in request.session.items if item.path == request.path)
    whole = any(item.get_closest_marker("slow") for item in items)
    folder = tmp_path_factory.mktemp("operator")
    package = build("aws", folder, Target.host()).path
    with LocalAws(bare=True) as cloud:
        organization(cloud, MEMBERS)
        told = Story(Deployment(cloud, folder, INIT))
        denied(told, package)
        if whole:
            planned(told, package)
        made(told, package)
        if whole:
            made_again(told, package)
        used(told)
        if whole:
            lived_on(told, package)
            moved(told, package)
        told.steps["onboarding"] = told.deployment.tailpipe("onboarding", "aws", "--show-secret")
        removed(told)
        yield told


def denied(told: Story, package: Path) -> None:
    """Look, and deploy, without one of the rights; look again with it."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    cloud.deny("lambda:CreateFunction")
    steps["doctor-denied"] = deployment.tailpipe("doctor", "aws")
    steps["deploy-denied"] = deployment.deploy(package, "--yes")
    told.facts["denied-buckets"] = buckets(cloud)
    cloud.allow("lambda:CreateFunction")
    steps["doctor"] = deployment.tailpipe("doctor", "aws", "--json")


def planned(told: Story, package: Path) -> None:
    """Plan twice and make nothing."""
    deployment, steps = told.deployment, told.steps
    steps["no-terminal"] = deployment.deploy(package)
    steps["dry-run"] = deployment.deploy(package, "--dry-run")


def made(told: Story, package: Path) -> None:
    """Fail halfway, and go on."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    # A fault in the middle of the apply is not seen beforehand by any look.
    cloud.fault("scheduler", "CreateSchedule", "ValidationException", times=None)
    steps["half-way"] = deployment.deploy(package, "--yes")
    cloud.clear_faults()
    steps["deploy"] = deployment.deploy(package, "--yes")


def made_again(told: Story, package: Path) -> None:
    """Deploy once more, and find nothing to do."""
    told.steps["again"] = told.deployment.deploy(package, "--yes")


def used(told: Story) -> None:
    """Let the schedule fire, damage and heal."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    told.facts["fired"] = cloud.fire_schedule(name="tailpipe-exports", group="tailpipe-exports")
    cloud.delete_export("tailpipe-dataexport")
    cloud.remove_bucket_policy_statement("TailpipeDataExports")
    cloud.join_account(name="late")
    steps["would-heal"] = deployment.tailpipe("invoke", "aws", "--dry-run", "--json")
    steps["heal"] = deployment.tailpipe("invoke", "aws", "--json")
    told.facts["exports"] = list(cloud.exports())


def lived_on(told: Story, package: Path) -> None:
    """Repair from a laptop, upgrade, and lose Terraform's state."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    cloud.delete_export("tailpipe-dataexport")
    steps["laptop-plan"] = deployment.laptop("plan", "aws", "--json")
    steps["laptop-unasked"] = deployment.laptop("run", "aws")
    told.facts["exports-unasked"] = list(cloud.exports())
    steps["laptop-run"] = deployment.laptop("run", "aws", "--yes", "--json")
    told.facts["exports-of-laptop"] = list(cloud.exports())
    steps["laptop-again"] = deployment.laptop("plan", "aws")
    changed = package.with_name("changed.zip")
    changed.write_bytes(package.read_bytes())
    with zipfile.ZipFile(changed, "a") as archive:
        archive.writestr("RELEASE", "2")
    steps["upgrade"] = deployment.deploy(changed, "--yes")
    iam = cloud.client("iam")
    generous = iam.create_policy(PolicyName="generous", PolicyDocument=document({"Action": "*", "Resource": "*"}))
    iam.attach_role_policy(RoleName="tailpipe-connector-role", PolicyArn=generous["Policy"]["Arn"])
    state = f"tailpipe-terraform-{cloud.account}"
    key = f"tailpipe-exports/{cloud.region}.tfstate"
    told.facts["state"] = cloud.client("s3").head_object(Bucket=state, Key=key)["ServerSideEncryption"]
    cloud.client("s3").delete_object(Bucket=state, Key=key)
    # The same command brings the External ID's successor: the role's trust is brought to it while it is adopted.
    deployment.external_id = f"{EXTERNAL_ID}-next"
    # Somebody wrote over it, and Terraform, which adopts the role, writes it back.
    cloud.client("iam").update_role_description(RoleName="tailpipe-connector-role", Description="by hand")
    steps["lost-state"] = deployment.deploy(changed, "--yes")
    attached = iam.list_attached_role_policies(RoleName="tailpipe-connector-role")
    told.facts["attached"] = attached["AttachedPolicies"]


def moved(told: Story, package: Path) -> None:
    """Let the account join another organization, leave it, and create one of its own with other members."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    changed = package.with_name("changed.zip")
    told.facts["before-move"] = held(cloud)
    leave_own_organization(cloud)
    join_another_organization(cloud)
    steps["member-doctor"] = deployment.laptop("doctor", "aws", "--json")
    steps["member-invoke"] = deployment.tailpipe("invoke", "aws", "--json")
    steps["member-plan"] = deployment.laptop("plan", "aws", "--json")
    steps["member-deploy"] = deployment.deploy(changed, "--yes")
    told.facts["as-member"] = held(cloud)
    manage_another_organization(cloud, MEMBERS)
    steps["new-doctor"] = deployment.laptop("doctor", "aws", "--json")
    steps["new-invoke"] = deployment.tailpipe("invoke", "aws", "--json")
    steps["new-deploy"] = deployment.deploy(changed, "--yes")
    steps["new-plan"] = deployment.laptop("plan", "aws", "--json")
    told.facts["in-new"] = held(cloud)
    told.facts["new-instances"], told.facts["new-members"] = instances(cloud), members(cloud)


def held(cloud: LocalAws) -> dict[str, Any]:
    """Return the deployment's parts that must outlive a change of the organization, each by its id or date."""
    listed = cloud.client("cloudformation").list_stack_sets(Status="ACTIVE")["Summaries"]
    return {
        "exports": cloud.client("bcm-data-exports").list_exports()["Exports"],
        "bucket": {one["Name"]: one["CreationDate"] for one in cloud.client("s3").list_buckets()["Buckets"]},
        "roles": {one["RoleName"]: one["RoleId"] for one in cloud.client("iam").list_roles()["Roles"]},
        "stack sets": [one["StackSetId"] for one in listed],
    }


def removed(told: Story) -> None:
    """Remove everything, after a wrong id was typed."""
    deployment, cloud, steps = told.deployment, told.deployment.cloud, told.steps
    steps["wrong-id"] = deployment.tailpipe("destroy", "aws", "--confirm", "999999999999")
    told.facts["after-wrong-id"] = schedule_state(cloud)
    told.facts["operator"] = deployment.accesses()
    told.facts["function"] = cloud.accesses(f"arn:aws:iam::{cloud.account}:role/tailpipe-exports")
    everything = ("--delete-exports", "--delete-data", "--confirm", cloud.account)
    steps["destroy"] = deployment.tailpipe("destroy", "aws", *everything)
    told.facts["operator"] |= deployment.accesses()
    told.facts["left"] = left_over(cloud)


def buckets(cloud: LocalAws) -> list[str]:
    """Return the names of all buckets."""
    return [one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]]


def schedule_state(cloud: LocalAws) -> str:
    """Return whether the schedule is enabled."""
    found = cloud.client("scheduler").get_schedule(Name="tailpipe-exports", GroupName="tailpipe-exports")
    return str(found["State"])


def left_over(cloud: LocalAws) -> dict[str, list[str]]:
    """Return what is there of a deployment."""
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
    """Return the accounts that still have a stack instance; a StackSet that is gone has none."""
    try:
        return sorted(cloud.instances())
    except KeyError:
        return []


def test_a_missing_right_is_told_before_anything_is_made(story: Story) -> None:
    """Doctor and deploy name the right that is missing and the command that grants it; not even a bucket is made."""
    for step in ("doctor-denied", "deploy-denied"):
        done = story.steps[step]
        assert done.code == 1, done
        assert "✗ lambda:CreateFunction" in done.err, done
        assert "aws iam attach-role-policy --role-name deployment-operator" in done.err, done
    assert story.facts["denied-buckets"] == []


def test_the_operators_rights_are_all_seen(story: Story) -> None:
    """With the two shipped policies every right is there, none missing and none unknown."""
    done = story.steps["doctor"]
    assert done.code == 0, done
    rights = json.loads(done.out)["rights"]
    assert {one["present"] for one in rights} == {True}
    assert len(rights) > 80


@pytest.mark.slow
def test_without_a_terminal_nothing_is_made_unasked(story: Story) -> None:
    """Where nobody can be asked, the plan is shown and the command ends with 1 and says to add --yes."""
    done = story.steps["no-terminal"]
    assert (done.code, done.out) == (1, ""), done
    assert "Add --yes" in done.err


@pytest.mark.slow
def test_a_dry_run_plans_and_makes_nothing(story: Story) -> None:
    """A dry run shows what would be made and granted, and leaves the account as it was."""
    done = story.steps["dry-run"]
    assert (done.code, done.out) == (0, ""), done
    assert '2 aws_lambda_function: collector["events"]' in done.err
    assert "The function may:" in done.err
    assert "nothing was made" in done.err


def test_a_deployment_that_ends_half_way_is_continued(story: Story) -> None:
    """What was made is said, and the same command again makes only the rest."""
    failed, done = story.steps["half-way"], story.steps["deploy"]
    assert failed.code == 1, failed
    assert "ended halfway" in failed.err
    assert "it continues" in failed.err
    assert done.code == 0, done
    assert "aws_scheduler_schedule: this" in done.err
    assert "aws_s3_bucket: exports" not in done.err


def test_a_deployment_is_proven_and_ends_with_the_onboarding_document(story: Story) -> None:
    """The function ran once, everything was verified, and standard output is the document that Tailpipe needs."""
    done = story.steps["deploy"]
    document = json.loads(done.out)
    assert document["tailpipe"]["externalId"] == "hidden; --show-secret shows it"
    assert document["childAccounts"]["count"] == MEMBERS
    assert document["costExport"]["exportArn"].startswith("arn:aws:bcm-data-exports:us-east-1:")
    assert "the schedule starts the function · rate(1 hour)" in done.err
    assert "✓ the role is refused without the External ID" in done.err
    assert "✗" not in done.err


def test_the_external_id_is_shown_only_where_it_is_asked_for(story: Story) -> None:
    """No step says the External ID, but for the one that was told to."""
    for name, done in story.steps.items():
        assert EXTERNAL_ID not in done.err, name
        if name != "onboarding":
            assert EXTERNAL_ID not in done.out, name


@pytest.mark.slow
def test_a_deployment_says_what_it_grants_and_whom_alarms_notify(story: Story) -> None:
    """By Terraform's own plan: its alarms with the address given, and no permission of an option that is off."""
    shown = story.steps["dry-run"].err
    assert "9 alarms notify platform@example.com" in shown
    assert "cloudformation:CreateStackInstances" in shown
    for absent in ("sustainability:", "kms:Decrypt", "ListAccountsForParent", "only with"):
        assert absent not in shown


@pytest.mark.slow
def test_a_second_deployment_finds_nothing_to_change(story: Story) -> None:
    """Deployed again, Terraform plans nothing: neither the function nor AWS changed what Terraform owns."""
    done = story.steps["again"]
    assert done.code == 0, done
    assert "nothing to change" in done.err


def test_the_schedule_starts_the_function(story: Story) -> None:
    """Scheduler, with its own role, starts the uploaded package under the real runtime client: all is covered."""
    fired = story.facts["fired"]
    assert status_of(fired["run"]["payload"]) == ("ok", MEMBERS + 1), fired


def test_damage_is_healed_on_demand(story: Story) -> None:
    """Invoked, the function brings back the deleted export and the bucket's statement, and covers a new account."""
    would, done = story.steps["would-heal"], story.steps["heal"]
    assert (would.code, done.code) == (0, 0), (would, done)
    assert json.loads(would.out)["dry_run"] is True
    assert status_of(json.loads(done.out)) == ("ok", MEMBERS + 2)
    assert story.facts["exports"] == ["tailpipe-dataexport"]


@pytest.mark.slow
def test_a_laptop_reconciles_with_the_deployed_functions_settings(story: Story) -> None:
    """Without a setting in its shell a laptop plans exactly the one repair that is due, and makes it once it may."""
    planned, unasked, ran = (story.steps[f"laptop-{name}"] for name in ("plan", "unasked", "run"))
    assert planned.code == 2, planned
    written = [one for one in json.loads(planned.out)["actions"] if one["result"] == "planned"]
    assert [(one["kind"], one["name"], one["verb"]) for one in written] == [("export", "tailpipe-dataexport", "CREATE")]
    assert "management account" in planned.err
    assert "function:tailpipe-exports, code sha256 " in planned.err
    assert (unasked.code, story.facts["exports-unasked"]) == (1, [])
    assert "--yes" in unasked.err
    assert ran.code == 0, ran
    assert status_of(json.loads(ran.out)) == ("ok", MEMBERS + 2)
    assert story.facts["exports-of-laptop"] == ["tailpipe-dataexport"]
    assert story.steps["laptop-again"].code == 0, story.steps["laptop-again"]


@pytest.mark.slow
def test_a_changed_package_is_the_only_change(story: Story) -> None:
    """A new package updates the code of function and collector and nothing else, and the new code runs."""
    done = story.steps["upgrade"]
    assert done.code == 0, done
    assert '2 aws_lambda_function: collector["events"]' in done.err
    assert "2 to change" in done.err


@pytest.mark.slow
def test_a_lost_state_is_made_again_by_adoption(story: Story) -> None:
    """With Terraform's state gone, what is there is imported, nothing is made twice, and nothing is replaced."""
    assert story.facts["state"] == "AES256"
    done = story.steps["lost-state"]
    assert done.code == 0, done
    summary = next(line for line in done.err.splitlines() if " to adopt" in line)
    assert "remove" not in summary
    assert "replace" not in summary
    made = [line for line in done.err.splitlines() if line.startswith("create ")]
    # Who is subscribed already gets no second subscription: SNS answers with the first.
    assert all("terraform_data" in line or "aws_sns_topic_subscription" in line for line in made), made
    assert json.loads(story.steps["onboarding"].out)["tailpipe"]["externalId"] == f"{EXTERNAL_ID}-next"


@pytest.mark.slow
def test_what_was_attached_to_tailpipes_role_goes(story: Story) -> None:
    """A policy that somebody attached to the role that Tailpipe assumes is taken off by the next deployment."""
    assert story.facts["attached"] == []


@pytest.mark.slow
def test_a_deployment_whose_account_joined_another_organization_stops_with_both_ways_out(story: Story) -> None:
    """Function, plan, doctor and a further deployment name the management account and the setting; nothing changes."""
    doctor, invoked, planned, deployed = (
        story.steps[f"member-{name}"] for name in ("doctor", "invoke", "plan", "deploy")
    )
    assert (doctor.code, invoked.code, planned.code, deployed.code) == (1, 1, 1, 1)
    (failure,) = json.loads(planned.out)["failures"]
    assert failure["code"] == "member-account"
    (unfit,) = [one for one in json.loads(doctor.out)["surroundings"] if one["ok"] is False]
    remedies = (failure["remedy"], unfit["remedy"], " ".join(invoked.err.split()), " ".join(deployed.err.split()))
    for said in remedies:
        assert re.search(r'account_kind ?= ?"?standalone', said), said
        assert f"management account {OTHER_MANAGEMENT}" in said
    assert story.facts["as-member"] == story.facts["before-move"]


@pytest.mark.slow
def test_a_deployment_follows_its_account_into_an_organization_of_its_own(story: Story) -> None:
    """There StackSets' access is off, which run and doctor say; the next deployment turns it on and covers everyone."""
    doctor, invoked, deployed, planned = (story.steps[f"new-{name}"] for name in ("doctor", "invoke", "deploy", "plan"))
    (unfit,) = [one for one in json.loads(doctor.out)["surroundings"] if one["ok"] is False]
    assert (doctor.code, unfit["what"]) == (1, "StackSets' access to the organization")
    manual = json.loads(invoked.out)["manual"]
    assert {one["code"] for one in manual} == {"organizations-access"}, invoked
    assert deployed.code == 0, deployed
    assert "terraform_data: organizations_access" in deployed.err
    assert len(story.facts["new-members"]) == MEMBERS
    assert story.facts["new-instances"] == sorted(story.facts["new-members"])
    assert story.facts["in-new"] == story.facts["before-move"]
    assert planned.code == 0, planned
    assert status_of(json.loads(planned.out)) == ("ok", MEMBERS + 1)


def test_the_wrong_id_removes_nothing(story: Story) -> None:
    """With another id typed, the removal is refused and the schedule goes on."""
    assert story.steps["wrong-id"].code == 1
    assert story.facts["after-wrong-id"] == "ENABLED"


def test_a_removal_with_everything_leaves_only_terraforms_state(story: Story) -> None:
    """With exports and data asked for, nothing of the deployment is left in the management account or any member."""
    done = story.steps["destroy"]
    assert done.code == 0, done
    state = [f"tailpipe-terraform-{story.deployment.cloud.account}"]
    nothing: dict[str, list[str]] = {name: [] for name in ("roles", "functions", "exports", "instances", "dashboards")}
    assert story.facts["left"] == {"buckets": state, **nothing}
    assert done.err.index("is disabled") < done.err.index("deleting")


@pytest.mark.slow
def test_the_operators_rights_are_the_ones_used(story: Story) -> None:
    """Deploying and removing used every action of operator.yaml, and nothing was refused for lack of another."""
    source = yaml.safe_load((REPOSITORY / "infra" / "aws" / "operator.yaml").read_text())
    granted = {action for grants in source.values() for one in grants for action in one["actions"]}
    # The role that Tailpipe assumes refuses the operator, which is what trying it is for.
    assert granted - {action for action, _ in story.facts["operator"]} == {"sts:AssumeRole"}
