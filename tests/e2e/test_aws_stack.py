"""A deployment with CloudFormation on the local AWS: create, run, damage, heal, update, delete, and bad input."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from click.testing import Result

from cli.deployment.aws import stack, template
from cli.deployment.aws.rights import PURPOSES
from cli.packaging import Package
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import assume, built, sign_in, stderr_of, tailpipe
from tests.e2e.aws_deployment import OPERATOR, REPOSITORY, organization, signed_in_organization
from tests.e2e.earlier_scripts import earlier_scripts, resources
from tests.e2e.live_aws import live
from tests.localcloud.aws.iam.sessions import document

MEMBERS = 3
NAME = "tailpipe-exports"
STACK_SET = "Tailpipe-CloudWatch-Child-StackSet"
CONNECTOR = "tailpipe-connector-role"
NATIVE = ("deploy", "aws", "--with", "native", "--var", "environment=prod")


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask for a stack's status more often than on AWS."""
    monkeypatch.setattr(stack, "POLL_S", 0.05)


def operator(cloud: LocalAws) -> str:
    """Create a role with the shipped policies of the operator and nothing else; return its ARN."""
    iam = cloud.client("iam")
    trust = document({"Principal": {"AWS": f"arn:aws:iam::{cloud.account}:root"}, "Action": "sts:AssumeRole"})
    role = str(iam.create_role(RoleName=OPERATOR, AssumeRolePolicyDocument=trust)["Role"]["Arn"])
    for purpose in PURPOSES:
        text = (REPOSITORY / "infra" / "aws" / f"operator-{purpose}-policy.json").read_text(encoding="utf-8")
        policy = iam.create_policy(PolicyName=f"tailpipe-{purpose}", PolicyDocument=text)["Policy"]["Arn"]
        iam.attach_role_policy(RoleName=OPERATOR, PolicyArn=policy)
    return role


def roles(cloud: LocalAws) -> list[str]:
    """Return the names of the account's roles, without the operator's own."""
    return sorted(one["RoleName"] for one in cloud.client("iam").list_roles()["Roles"] if one["RoleName"] != OPERATOR)


def buckets(cloud: LocalAws) -> set[str]:
    """Return the names of the account's buckets."""
    return {one["Name"] for one in cloud.client("s3").list_buckets()["Buckets"]}


def stack_status(cloud: LocalAws, name: str = NAME) -> str:
    """Return a stack's status, "" without one."""
    listed = cloud.client("cloudformation").list_stacks()["StackSummaries"]
    return next((one["StackStatus"] for one in listed if one["StackName"] == name and "DeletionTime" not in one), "")


def settled(cloud: LocalAws, identity: str) -> Mapping[str, Any]:
    """Return a stack once no operation is in progress. Raises TimeoutError after a minute."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found: Mapping[str, Any] = cloud.client("cloudformation").describe_stacks(StackName=identity)["Stacks"][0]
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            return found
        time.sleep(0.02)
    raise TimeoutError(identity)


def drifted(cloud: LocalAws, name: str = NAME) -> dict[str, str]:
    """Return the resources of a stack that differ from its template, each with its status."""
    client = cloud.client("cloudformation")
    identity = client.detect_stack_drift(StackName=name)["StackDriftDetectionId"]
    while True:
        found = client.describe_stack_drift_detection_status(StackDriftDetectionId=identity)["DetectionStatus"]
        if found != "DETECTION_IN_PROGRESS":
            break
        time.sleep(0.02)
    assert found == "DETECTION_COMPLETE"
    answer = client.describe_stack_resource_drifts(
        StackName=name, StackResourceDriftStatusFilters=["MODIFIED", "DELETED"], MaxResults=100
    )
    return {one["LogicalResourceId"]: one["StackResourceDriftStatus"] for one in answer["StackResourceDrifts"]}


def link_in(result: Result) -> dict[str, str]:
    """Return the query of the first link that `package --upload` printed."""
    assert result.exit_code == 0, result.stderr
    query = parse_qs(urlsplit(result.stdout.splitlines()[0]).fragment.partition("?")[2], keep_blank_values=True)
    return {name: one for name, [one] in query.items()}


def open_link(cloud: LocalAws, query: Mapping[str, str]) -> Mapping[str, Any]:
    """Create the stack of a link, as its page in the console does, and return it once it is settled."""
    given = {name.removeprefix("param_"): one for name, one in query.items() if name.startswith("param_")}
    made = cloud.client("cloudformation").create_stack(
        StackName=query["stackName"],
        TemplateURL=query["templateURL"],
        Parameters=[
            {"ParameterKey": key, "ParameterValue": value}
            for key, value in {**given, "ExternalId": EXTERNAL_ID}.items()
        ],
        Capabilities=["CAPABILITY_NAMED_IAM"],
    )
    return settled(cloud, made["StackId"])


@pytest.mark.slow
@pytest.mark.usefixtures("fast")
def test_bucket_of_a_deleted_link_is_imported_by_a_deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second stack from the link stops at it; the command that the upload names imports it with its data."""
    package = tmp_path / "package.zip"
    package.write_bytes(built())
    monkeypatch.setattr("cli.package.build", lambda *_arguments: Package(package, "", ()))
    remedy = "create it with tailpipe-exports deploy aws --with native, which imports the bucket"
    with signed_in_organization(tmp_path, 1) as (cloud, _patch):
        stacks, s3 = cloud.client("cloudformation"), cloud.client("s3")
        stacks.activate_organizations_access()
        s3.create_bucket(Bucket="packages", CreateBucketConfiguration={"LocationConstraint": cloud.region})
        upload = ("package", "aws", "--upload", "s3://packages/", "--var", "environment=prod", "--var", "events=false")
        first = tailpipe(*upload)
        assert remedy not in stderr_of(first)
        assert open_link(cloud, link_in(first))["StackStatus"] == "CREATE_COMPLETE"
        assert remedy not in stderr_of(tailpipe(*upload))
        bucket = f"tailpipe-dataexport-{cloud.account}"
        s3.put_object(Bucket=bucket, Key="dataexport/kept", Body=b"cost data")
        identity = stacks.describe_stacks(StackName=NAME)["Stacks"][0]["StackId"]
        stacks.delete_stack(StackName=NAME)
        assert settled(cloud, identity)["StackStatus"] == "DELETE_COMPLETE"
        second = tailpipe(*upload)
        assert f"bucket {bucket} exists and belongs to no stack" in stderr_of(second)
        assert remedy in stderr_of(second)
        assert open_link(cloud, link_in(second))["StackStatus"] == "ROLLBACK_COMPLETE"
        taken = tailpipe(*NATIVE, "--var", f"package={package}", "--var", "events=false", "--yes")
        assert taken.exit_code == 0, taken.stderr
        assert "ExportBucket: import complete" in stderr_of(taken)
        assert stack_status(cloud) == "UPDATE_COMPLETE"
        assert drifted(cloud) == {}
        assert s3.get_object(Bucket=bucket, Key="dataexport/kept")["Body"].read() == b"cost data"


def test_template_is_created_in_sync_and_deleted_with_its_data_retained() -> None:
    """The shipped template, with the longest of its conditions, makes every resource and leaves only the bucket."""
    package = io.BytesIO()
    with zipfile.ZipFile(package, "w") as archive:
        archive.writestr("aws_lambda/handler.py", "def handler(event, context): return {}")
    given = {
        "Environment": "prod",
        "ExternalId": EXTERNAL_ID,
        "DeliveryEvents": "true",
        "Dashboard": "true",
        "PackageBucket": "artifacts",
        "PackageKey": "package.zip",
    }
    with LocalAws(bare=True) as cloud:
        organization(cloud, 1)
        client, s3 = cloud.client("cloudformation"), cloud.client("s3")
        client.activate_organizations_access()
        s3.create_bucket(Bucket="artifacts", CreateBucketConfiguration={"LocationConstraint": cloud.region})
        s3.put_object(Bucket="artifacts", Key="package.zip", Body=package.getvalue())
        s3.put_object(Bucket="artifacts", Key="template.yaml", Body=template.text().encode())
        made = client.create_stack(
            StackName=NAME,
            TemplateURL=f"{cloud.endpoint}/artifacts/template.yaml",
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )["StackId"]
        assert settled(cloud, made)["StackStatus"] == "CREATE_COMPLETE"
        listed = client.describe_stack_resources(StackName=NAME)["StackResources"]
        pseudo = {"AWS::Partition": "aws", "AWS::AccountId": cloud.account, "AWS::Region": cloud.region}
        assert {one["LogicalResourceId"]: one["ResourceType"] for one in listed} == template.resources(given, pseudo)
        assert drifted(cloud) == {}
        client.delete_stack(StackName=NAME)
        assert settled(cloud, made)["StackStatus"] == "DELETE_COMPLETE"
        assert buckets(cloud) == {"artifacts", f"tailpipe-dataexport-{cloud.account}"}
        assert cloud.client("lambda").list_functions()["Functions"] == []
        assert cloud.client("iam").list_roles()["Roles"] == []


@dataclass
class Scenario:
    """The result of each step by name, and what the cloud contained afterwards."""

    steps: dict[str, Result] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scenario(tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Play the life of a deployment once, without Terraform on the PATH; the tests check its steps."""
    folder = tmp_path_factory.mktemp("stack")
    package = folder / "package.zip"
    package.write_bytes(built())
    deploy = (*NATIVE, "--var", f"package={package}", "--yes")
    with signed_in_organization(folder, MEMBERS) as (cloud, patch):
        assume(cloud, operator(cloud), patch)
        patch.setenv("PATH", str(folder))
        made = Scenario()
        steps, facts = made.steps, made.facts
        steps["preview"] = tailpipe(*deploy[:-1], "--dry-run")
        facts["after preview"] = (buckets(cloud), stack_status(cloud))
        cloud.deny("scheduler:CreateSchedule")
        steps["without a right"] = tailpipe(*deploy)
        cloud.allow("scheduler:CreateSchedule")
        facts["without a right"] = (buckets(cloud), stack_status(cloud))
        _refuse_the_last(made, cloud, deploy)
        steps["deploy"] = tailpipe(*deploy)
        facts["drift after deploy"] = drifted(cloud)
        steps["again"] = tailpipe(*deploy)
        (export,) = cloud.client("bcm-data-exports").list_exports()["Exports"]
        cloud.client("bcm-data-exports").delete_export(ExportArn=export["ExportArn"])
        cloud.client("s3").delete_bucket_policy(Bucket=f"tailpipe-dataexport-{cloud.account}")
        facts["drift after damage"] = drifted(cloud)
        steps["heal"] = tailpipe("invoke", "aws", "--json")
        facts["exports after healing"] = len(cloud.client("bcm-data-exports").list_exports()["Exports"])
        facts["drift after healing"] = drifted(cloud)
        with zipfile.ZipFile(package, "a") as archive:
            archive.writestr("VERSION", "next")
        before = cloud.client("lambda").get_function_configuration(FunctionName=NAME)["CodeSha256"]
        steps["update"] = tailpipe(*deploy)
        after = cloud.client("lambda").get_function_configuration(FunctionName=NAME)["CodeSha256"]
        facts["code changed"] = before != after
        (export,) = cloud.client("bcm-data-exports").list_exports()["Exports"]
        cloud.client("bcm-data-exports").delete_export(ExportArn=export["ExportArn"])
        steps["rename"] = tailpipe(*deploy, "--var", "bucket_name=tailpipe-another")
        steps["with terraform"] = _with_terraform(folder, patch, deploy)
        steps["doctor"] = tailpipe("doctor", "aws", "--json")
        cloud.deny("cloudformation:GetTemplate")
        steps["doctor without a right"] = tailpipe("doctor", "aws")
        cloud.allow("cloudformation:GetTemplate")
        steps["onboarding"] = tailpipe("onboarding", "aws", "--show-secret")
        bucket = f"tailpipe-dataexport-{cloud.account}"
        cloud.client("s3").put_object(Bucket=bucket, Key="dataexport/kept", Body=b"cost data")
        steps["preview of removal"] = tailpipe("destroy", "aws", "--dry-run")
        steps["destroy"] = tailpipe("destroy", "aws", "--confirm", cloud.account, "--keep-identity")
        facts["after removal"] = (
            stack_status(cloud),
            cloud.client("s3").get_object(Bucket=bucket, Key="dataexport/kept")["Body"].read(),
            roles(cloud),
        )
        _adopt(made, cloud, deploy, patch)
    return made


def _adopt(made: Scenario, cloud: LocalAws, deploy: tuple[str, ...], patch: pytest.MonkeyPatch) -> None:
    """Deploy over the kept identity with a new External ID, first with a failure, and read what became of it."""
    facts, stacks = made.facts, cloud.client("cloudformation")
    facts["kept"] = _identity(cloud)
    patch.setenv("TF_VAR_external_id", f"{EXTERNAL_ID}-next")
    cloud.faults.add("lambda", "CreateEventSourceMapping", "ServiceException", message="no more event sources")
    made.steps["adopt refused"] = tailpipe(*deploy)
    facts["kept after refusal"] = _identity(cloud)
    facts["template of the import"] = json.dumps(stacks.get_template(StackName=NAME)["TemplateBody"], default=str)
    made.steps["adopt"] = tailpipe(*deploy)
    facts["adopted"] = _identity(cloud)
    facts["drift after adoption"] = drifted(cloud)


def _identity(cloud: LocalAws) -> dict[str, Any]:
    """Return the ids of the connector role and the StackSet, and everything that is live of both."""
    found = live(cloud)
    stack_set = cloud.client("cloudformation").describe_stack_set(StackSetName=STACK_SET)["StackSet"]
    return {
        "ids": (cloud.client("iam").get_role(RoleName=CONNECTOR)["Role"]["RoleId"], stack_set["StackSetId"]),
        "live": [found["role", CONNECTOR], found["stack set", STACK_SET]],
    }


def _refuse_the_last(made: Scenario, cloud: LocalAws, deploy: tuple[str, ...]) -> None:
    """Fail the creation at the last resource of each stack: in the function's region, then in the home region."""
    steps, facts = made.steps, made.facts
    own = rf"tailpipe-artifacts-.*|{OPERATOR}|StackSets"
    facts["before"] = live(cloud, own)
    cloud.faults.add("lambda", "CreateEventSourceMapping", "ServiceException", message="no more event sources")
    steps["refused"] = tailpipe(*deploy)
    facts["events"] = _events(cloud, NAME)
    facts["after refusal"] = (stack_status(cloud), live(cloud, own))
    steps["preview after refusal"] = tailpipe(*deploy[:-1], "--dry-run")
    rule = f"{NAME}-accounts"
    at_home = f"/{cloud.partition.home}/"
    cloud.faults.add(
        "events",
        "PutRule",
        "LimitExceededException",
        message="no more rules",
        when=lambda one: one.params.get("Name") == rule and at_home in one.headers.get("authorization", ""),
    )
    steps["refused at home"] = tailpipe(*deploy)
    facts["events at home"] = _events(cloud, f"{NAME}-home", "@home")
    facts["left at home"] = [key for key in live(cloud, own) if key[0].endswith("@home")]


def _events(cloud: LocalAws, name: str, place: str = "") -> dict[str, str]:
    """Return what CloudFormation reports first of each resource of a stack after the beginning, by logical id."""
    pages = cloud.client(f"cloudformation{place}").get_paginator("describe_stack_events").paginate(StackName=name)
    found: dict[str, str] = {}
    for one in reversed([each for page in pages for each in page["StackEvents"]]):
        if one["LogicalResourceId"] != name and not one["ResourceStatus"].endswith("_IN_PROGRESS"):
            found.setdefault(one["LogicalResourceId"], one["ResourceStatus"])
    return found


def _with_terraform(folder: Path, patch: pytest.MonkeyPatch, deploy: tuple[str, ...]) -> Result:
    """Deploy over the stack with Terraform, of which only the name is needed for a refusal."""
    binary = folder / "terraform"
    binary.write_text("#!/bin/sh\nexit 1\n")
    binary.chmod(0o755)
    patch.setenv("PATH", str(folder))
    return tailpipe(*[one for one in deploy if one not in ("--with", "native")])


slow = pytest.mark.slow


@slow
def test_preview_creates_nothing_and_shows_the_plan(scenario: Scenario) -> None:
    """Not even a bucket or a stack under review; the permissions that would be granted are listed."""
    result = scenario.steps["preview"]
    assert result.exit_code == 0, result.stderr
    text = stderr_of(result)
    assert "create 2 AWS::Lambda::Function: Function, Collector" in text
    assert "The function may:" in text
    assert "nothing was created: this was a dry run" in text
    assert scenario.facts["after preview"] == (set(), "")


@slow
def test_missing_right_is_found_before_anything_is_created(scenario: Scenario) -> None:
    """The remedy is the command that grants it."""
    result = scenario.steps["without a right"]
    assert result.exit_code == 1
    assert "scheduler:CreateSchedule" in stderr_of(result)
    assert "operator-native-policy.json" in stderr_of(result)
    assert scenario.facts["without a right"] == (set(), "")


@slow
def test_creation_that_fails_at_the_last_resource_leaves_nothing(scenario: Scenario) -> None:
    """The message has the reason of the call that failed and the remedy; only the package's bucket is left."""
    result = scenario.steps["refused"]
    assert result.exit_code == 1
    text = stderr_of(result)
    assert "EventsSource: no more event sources" in text
    assert "it was rolled back, and nothing is left of it" in text
    assert "run the same command again: it continues" in text
    *others, last = scenario.facts["events"].items()
    assert (last, {status for _, status in others}) == (("EventsSource", "CREATE_FAILED"), {"CREATE_COMPLETE"})
    assert scenario.facts["after refusal"] == ("ROLLBACK_COMPLETE", scenario.facts["before"])
    preview = scenario.steps["preview after refusal"]
    assert preview.exit_code == 0, preview.stderr
    assert "create 2 AWS::Lambda::Function: Function, Collector" in stderr_of(preview)


@slow
def test_creation_that_fails_in_the_home_region_continues(scenario: Scenario) -> None:
    """The stack of the home region is rolled back, the other one stays, and the same command continues."""
    result = scenario.steps["refused at home"]
    assert result.exit_code == 1
    text = stderr_of(result)
    assert "AccountsEventRule: no more rules" in text
    assert "run the same command again: it continues" in text
    *others, last = scenario.facts["events at home"].items()
    assert (last, {status for _, status in others}) == (("AccountsEventRule", "CREATE_FAILED"), {"CREATE_COMPLETE"})
    assert scenario.facts["left at home"] == [key for key in scenario.facts["before"] if key[0].endswith("@home")]
    assert scenario.steps["deploy"].exit_code == 0, scenario.steps["deploy"].stderr


@slow
def test_deployment_runs_and_is_in_sync(scenario: Scenario) -> None:
    """The first run follows, and nothing differs from the template; a second call changes nothing."""
    text = stderr_of(scenario.steps["deploy"])
    assert "StackSets' access to the organization is switched on" in stderr_of(scenario.steps["refused"])
    for step in ("AccountsEventRule: create complete", "run 1 created"):
        assert step in text
    assert "RunSchedule: create complete" in stderr_of(scenario.steps["refused at home"])
    assert scenario.facts["drift after deploy"] == {}
    again = scenario.steps["again"]
    assert again.exit_code == 0, again.stderr
    assert "nothing to change: the deployment matches the plan" in stderr_of(again)


@slow
def test_damage_is_seen_as_drift_and_healed_by_a_run(scenario: Scenario) -> None:
    """The export and the bucket's policy are back."""
    assert scenario.facts["drift after damage"] == {"ExportBucketPolicy": "DELETED"}
    assert scenario.steps["heal"].exit_code == 0, scenario.steps["heal"].stderr
    assert scenario.facts["exports after healing"] == 1
    assert scenario.facts["drift after healing"] == {}


@slow
def test_new_package_changes_only_the_functions(scenario: Scenario) -> None:
    """Its key has its hash, so that CloudFormation sees the change."""
    result = scenario.steps["update"]
    assert result.exit_code == 0, result.stderr
    text = stderr_of(result)
    assert "change 2 AWS::Lambda::Function: Function, Collector" in text or "Collector, Function" in text
    assert "Function: update complete" in text
    assert scenario.facts["code changed"]


@slow
def test_plan_that_would_replace_the_bucket_is_refused(scenario: Scenario) -> None:
    """Another bucket name does not move the data."""
    result = scenario.steps["rename"]
    assert result.exit_code == 1
    assert "ExportBucket holds data and would be deleted" in stderr_of(result)


@slow
def test_terraform_over_a_stack_is_refused(scenario: Scenario) -> None:
    """The remedy is one command."""
    result = scenario.steps["with terraform"]
    assert result.exit_code == 1
    text = stderr_of(result)
    assert "is managed by the cloud's own service" in text
    assert "tailpipe-exports migrate aws --to terraform" in text


@slow
def test_other_commands_work_on_a_stack(scenario: Scenario) -> None:
    """Doctor and onboarding need neither Terraform nor a flag."""
    assert scenario.steps["doctor"].exit_code == 0, scenario.steps["doctor"].stderr
    source = yaml.safe_load((REPOSITORY / "infra" / "aws" / "operator.yaml").read_text(encoding="utf-8"))
    needed = {action for grant in source["native"] for action in grant["actions"]}
    checked = {one["right"]: one["present"] for one in json.loads(scenario.steps["doctor"].stdout)["rights"]}
    assert {action for action in needed if checked.get(action) is not True} == set()
    without = scenario.steps["doctor without a right"]
    assert without.exit_code == 1
    assert "✗ cloudformation:GetTemplate" in stderr_of(without)
    assert "operator-native-policy.json" in stderr_of(without)
    shown = json.loads(scenario.steps["onboarding"].stdout)
    assert shown["tailpipe"]["externalId"] == EXTERNAL_ID
    assert shown["childAccounts"]["count"] == MEMBERS


@slow
def test_removal_keeps_the_data_and_what_was_requested(scenario: Scenario) -> None:
    """The bucket and Tailpipe's role outlive the stack."""
    preview = scenario.steps["preview of removal"]
    assert preview.exit_code == 2, preview.stderr
    assert "to be kept: bucket" in stderr_of(preview)
    assert scenario.steps["destroy"].exit_code == 0, scenario.steps["destroy"].stderr
    assert scenario.facts["after removal"] == ("", b"cost data", [CONNECTOR])


@slow
def test_kept_identity_is_adopted_by_a_new_stack(scenario: Scenario) -> None:
    """Role, StackSet and instances stay the same ones, with the new External ID; a failed creation changes nothing."""
    refused, adopted = scenario.steps["adopt refused"], scenario.steps["adopt"]
    assert (refused.exit_code, adopted.exit_code) == (1, 0), adopted.stderr
    kept, found = scenario.facts["kept"], scenario.facts["adopted"]
    assert scenario.facts["kept after refusal"] == kept
    assert EXTERNAL_ID not in scenario.facts["template of the import"]
    assert found["ids"] == kept["ids"]
    for before, after in zip(kept["live"], found["live"], strict=True):
        changed = {path for path in before | after if before.get(path) != after.get(path)}
        assert changed != set()
        assert json.dumps(after) == json.dumps(before).replace(EXTERNAL_ID, f"{EXTERNAL_ID}-next")
    assert scenario.facts["drift after adoption"] == {}


@slow
@pytest.mark.usefixtures("fast")
def test_bad_input_is_one_sentence_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A value of the wrong form, no package, another region's bucket, a function of Terraform's, a lost right."""
    package = tmp_path / "package.zip"
    package.write_bytes(b"PK")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    deploy = (*NATIVE, "--var", f"package={package}", "--yes")
    cases = {
        ("--var", "memory_mb=12"): "Set memory_mb to a whole number from 256 to 10240.",
        ("--var", "function_name=with_underscore"): "Set function_name to at most 48 letters, digits and hyphens",
        ("--var", f"package={tmp_path / 'missing.zip'}"): "Name a file that exists",
        ("--var", "fleet=true"): "use --with terraform",
        ("--local-state", str(tmp_path)): "Remove it.",
    }
    with LocalAws(bare=True) as cloud:
        organization(cloud, 1)
        sign_in(cloud, monkeypatch)
        for given, remedy in cases.items():
            refused(cloud, (*deploy, *given), remedy)
        elsewhere = next(one for one in ("eu-central-1", "us-east-1") if one != cloud.region)
        cloud.client("s3").create_bucket(
            Bucket=f"tailpipe-dataexport-{cloud.account}",
            CreateBucketConfiguration={"LocationConstraint": cloud.region},
        )
        monkeypatch.setenv("AWS_REGION", elsewhere)
        refused(cloud, deploy, f"set AWS_REGION={cloud.region}")
    with LocalAws(accounts=2, package=built) as cloud:
        sign_in(cloud, monkeypatch)
        refused(cloud, deploy, "tailpipe-exports migrate aws --to native")


@slow
@pytest.mark.usefixtures("fast")
def test_refused_update_is_rolled_back_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What AWS refuses leaves the deployment as it was, and the message says which value to change."""
    package, text = tmp_path / "package.zip", tmp_path / "text.zip"
    package.write_bytes(built())
    text.write_bytes(b"text")
    missing = "arn:aws:iam::111122223333:policy/missing"
    deploy = (*NATIVE, "--var", f"package={package}", "--var", "reserved_concurrency=-1", "--yes")
    cases = {
        "schedule=cron(15 * * * * *)": 'such as "rate(1 hour)", or six cron fields',
        f"permissions_boundary_arn={missing}": "--var permissions_boundary_arn=ARN",
        f"package={text}": "Give a package that tailpipe-exports package aws wrote",
        "reserved_concurrency=1": "Add --var reserved_concurrency=-1",
    }
    with signed_in_organization(tmp_path, 1) as (cloud, _patch):
        assert tailpipe(*deploy).exit_code == 0
        before = live(cloud, "tailpipe-artifacts-.*")
        cloud.world.lambda_api.concurrent_executions = 10
        for given, remedy in cases.items():
            rolled_back(cloud, (*deploy, "--var", given), remedy)
            assert live(cloud, "tailpipe-artifacts-.*") == before
        with zipfile.ZipFile(package, "a") as archive:
            archive.writestr("VERSION", "next")
        with monkeypatch.context() as patch:
            patch.setattr(stack.StackEngine, "_upload", lambda *_arguments: None)
            rolled_back(cloud, deploy, "it uploads the package first")
        assert live(cloud, "tailpipe-artifacts-.*") == before
        assert tailpipe(*deploy).exit_code == 0


@slow
def test_resources_of_the_earlier_scripts_are_imported(tmp_path: Path) -> None:
    """Bucket, data, export, roles, StackSet and instances stay the same ones, and statements of others stay too.

    The import changes neither bucket nor policy: the function adds what exports need, and the rest is shown as drift.
    """
    package = tmp_path / "package.zip"
    package.write_bytes(built())
    kept = ("data", "exports", "connector", "stack sets", "instances", "member roles")
    with signed_in_organization(tmp_path, MEMBERS) as (cloud, patch):
        earlier_scripts(cloud)
        assume(cloud, operator(cloud), patch)
        before = resources(cloud)
        deploy = (*NATIVE, "--var", f"package={package}")
        preview = tailpipe(*deploy, "--dry-run")
        assert preview.exit_code == 0, preview.stderr
        assert "adopt 1 AWS::S3::Bucket: ExportBucket" in stderr_of(preview)
        assert resources(cloud) == before
        taken = tailpipe(*deploy, "--yes")
        assert taken.exit_code == 0, taken.stderr
        after = resources(cloud)
        assert before["data"].items() <= after["data"].items()
        assert {name: after[name] for name in kept[1:]} == {name: before[name] for name in kept[1:]}
        bucket = cloud.deployment.bucket
        assert after["buckets"][bucket] == before["buckets"][bucket]
        policy = json.loads(cloud.client("s3").get_bucket_policy(Bucket=bucket)["Policy"])
        statements = {one["Sid"] for one in policy["Statement"]}
        assert statements == {"TailpipeTlsOnly", "TailpipeDataExports", "EnableDataExports"}
        assert drifted(cloud) == {"ExportBucket": "MODIFIED", "ExportBucketPolicy": "MODIFIED"}
        assert "nothing to change" in stderr_of(tailpipe(*deploy, "--yes"))


@slow
@pytest.mark.usefixtures("fast")
def test_stack_without_its_function_is_removed_by_name(tmp_path: Path) -> None:
    """A first creation under another name was rolled back; another name is refused, and then nothing is removed."""
    package = tmp_path / "package.zip"
    package.write_bytes(built())
    named = ("--var", "function_name=costs", "--var", "schedule=cron(15 * * * * *)")
    with signed_in_organization(tmp_path, 1) as (cloud, _patch):
        assert tailpipe(*NATIVE, "--var", f"package={package}", *named, "--yes").exit_code == 1
        assert stack_status(cloud, "costs") == "ROLLBACK_COMPLETE"
        destroy = ("destroy", "aws", "--confirm", cloud.account, "--function")
        unknown = tailpipe(*destroy, "other")
        assert (unknown.exit_code, "no function other is deployed here" in stderr_of(unknown)) == (1, True)
        assert stack_status(cloud, "costs") == "ROLLBACK_COMPLETE"
        removed = tailpipe(*destroy, "costs")
        assert removed.exit_code == 0, removed.stderr
        assert stack_status(cloud, "costs") == ""


def rolled_back(cloud: LocalAws, arguments: tuple[str, ...], remedy: str) -> None:
    """Expect that a deployment fails with a remedy, and that its update is rolled back."""
    result = tailpipe(*arguments)
    assert (result.exit_code, remedy in stderr_of(result)) == (1, True), (arguments, result.stderr)
    assert "what was there before is there again" in stderr_of(result)
    assert stack_status(cloud) == "UPDATE_ROLLBACK_COMPLETE"


def refused(cloud: LocalAws, arguments: tuple[str, ...], remedy: str) -> None:
    """Expect that a command fails with a remedy and leaves neither a stack nor a bucket behind."""
    result = tailpipe(*arguments)
    assert (result.exit_code, remedy in stderr_of(result)) == (1, True), (arguments, result.stderr)
    assert stack_status(cloud) == ""
    assert not [one for one in buckets(cloud) if one.startswith("tailpipe-artifacts")]


@slow
@pytest.mark.usefixtures("fast")
def test_member_account_is_refused_before_anything_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The remedy names both ways: the management account, or this account's own costs."""
    package = tmp_path / "package.zip"
    package.write_bytes(b"PK")
    with LocalAws(accounts=3, kind="member") as cloud:
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("ACCOUNT_KIND", raising=False)
        result = tailpipe(*NATIVE, "--var", f"package={package}", "--var", "account_kind=management", "--yes")
        assert result.exit_code == 1, result.stderr
        assert "standalone" in stderr_of(result)
        assert stack_status(cloud) == ""
