"""The CloudFormation templates create what the Terraform module creates, and refuse what it refuses.

Terraform applies each set of variables to the local AWS; the templates are evaluated with the same variables.
Resources, rights and settings are compared one by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any
from zipfile import ZipFile

import pytest

from cli.deployment.aws.parameters import ELSEWHERE, OTHERWISE, parameter_of, parameters
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.infra import refused_aws, terraform
from tests.infra.cloudformation import Place, Refused, Stack, read
from tests.infra.compared_aws import ACCEPTED, WITHOUT, Flat, differences, from_template, from_terraform
from tests.infra.native_aws import HOME, REGIONS, SETS, given
from tests.infra.planning import REPOSITORY, Workspace
from tools import modules

INFRA = REPOSITORY / "infra" / "aws"
MODULE = modules.read(INFRA)
PACKAGE = {"PackageBucket": "packages", "PackageKey": "package.zip"}
PARTITIONS = {"cn-north-1": "aws-cn", "us-iso-east-1": "aws-iso"}
ACCOUNT = "111122223333"


@dataclass(frozen=True)
class Applied:
    """Terraform's resources by set, and the account."""

    resources: Mapping[str, list[dict[str, Any]]]
    account: str


def template(name: str = "template.yaml") -> dict[str, Any]:
    """Return a committed template."""
    return read((INFRA / name).read_text(encoding="utf-8"))


def stack(values: Mapping[str, Any], region: str = "eu-west-1", account: str = ACCOUNT, **changed: Any) -> Stack:
    """Return the main template, evaluated with values of the module's variables. Raises Refused."""
    made = parameters({key: value for key, value in values.items() if key != "providers"})
    place = Place(account, region, PARTITIONS.get(region, "aws"))
    return Stack(changed.get("template") or template(), {**PACKAGE, **made, **changed.get("more", {})}, place)


# What follows needs no Terraform.


def test_defaults_are_those_of_the_module() -> None:
    """Also where the module computes the value: the minutes of the default schedule."""
    declared = template()["Parameters"]
    defaults = {name: body["default"] for name, body in MODULE.variables.items() if "default" in body}
    expected = {parameter_of(name): _written(one) for name, one in defaults.items() if parameter_of(name) in declared}
    expected["SchedulePeriodMinutes"] = "60"
    assert {name: str(declared[name]["Default"]) for name in expected} == expected


def _written(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def test_secrets_are_not_echoed() -> None:
    """Neither are their hashes."""
    hidden = {name for name, body in template()["Parameters"].items() if body.get("NoEcho")}
    secret = {parameter_of(name) for name, body in MODULE.variables.items() if body.get("sensitive")}
    secret -= {parameter_of(name) for name in ELSEWHERE}
    assert hidden == secret | {"ExternalIdHash"}


VALIDATED = [name for name, (values, _) in refused_aws.BY_VARIABLE.items() if not {*values} & {*OTHERWISE, *ELSEWHERE}]


@pytest.mark.parametrize("name", VALIDATED)
def test_parameter_refuses_what_a_variable_refuses(name: str) -> None:
    """With the sentence of the module's rule."""
    values, message = refused_aws.BY_VARIABLE[name]
    [variable] = values
    with pytest.raises(Refused) as refused:
        stack(refused_aws.GOOD | values)
    named = re.sub(r"[^A-Za-z]+", " ", message.replace(variable, parameter_of(variable)))
    said = re.sub(r"[^A-Za-z]+", " ", str(refused.value))
    assert " ".join(named.split()[:2]) in said


# Combinations that no rule of a template can see, with who refuses them.
SEEN_BY_OTHERS = {
    "home_in_another_region": "a stack has one region; home-events.yaml refuses another one than a home",
    "home_in_another_partition": "a stack has one region; home-events.yaml refuses another one than a home",
    "member_account": "package and deploy refuse it; CloudFormation refuses the StackSet, and rolls back",
    "in_and_out": "the function refuses the setting, and deploy before it",
    "principal_of_another_partition": "IAM refuses the principal, and CloudFormation rolls back",
    "key_in_another_region": "S3 refuses the key, and CloudFormation rolls back",
    "secret_of_another_partition": "the function refuses the setting",
    "cron_without_period": "the period has a default, since a mapping needs a key",
    "access_not_switched_on": "deploy refuses it; CloudFormation refuses the StackSet, and rolls back",
}


COMBINED = [name for name, (values, _) in refused_aws.COMBINATIONS.items() if not values.keys() & ELSEWHERE.keys()]


@pytest.mark.parametrize("name", COMBINED)
def test_rule_refuses_what_a_precondition_refuses(name: str) -> None:
    """Except for what only the module can see."""
    values, _ = refused_aws.COMBINATIONS[name]
    region = "us-iso-east-1" if name == "partition_without_exports" else "eu-west-1"
    if name in SEEN_BY_OTHERS:
        stack(refused_aws.GOOD | values, region)
        return
    with pytest.raises(Refused):
        stack(refused_aws.GOOD | values, region)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"Schedule": "rate(6 hours)"}, "Set SchedulePeriodMinutes to 360, the minutes of rate(6 hours)."),
        ({"SchedulePeriodMinutes": "120"}, "Set SchedulePeriodMinutes to 60, the minutes of rate(1 hour)."),
        ({"Schedule": "rate(7 hours)"}, "Set Schedule to a rate of 15, 20, 30"),
        ({"PackageKey": "package"}, "Set PackageKey to the key"),
        ({"ExternalIdHash": "x"}, "Set ExternalIdHash to salt:hash"),
        ({"NotificationEmails": ",".join(f"{one}@example.com" for one in "abcdef")}, "at most five"),
        ({"MaxWritesPerRun": "many"}, "Set MaxWritesPerRun to a number"),
        ({"Environment": ""}, "Set Environment to"),
    ],
)
def test_wrong_parameter_is_refused_with_its_remedy(given: dict[str, str], message: str) -> None:
    """Those that no variable of the module has, too."""
    with pytest.raises(Refused, match=re.escape(message)):
        stack(refused_aws.GOOD, more=given)


def test_stack_without_package_or_external_id_is_refused() -> None:
    """Both have no default."""
    with pytest.raises(Refused, match="ExternalId, PackageBucket, PackageKey"):
        Stack(template(), {"Environment": "prod"}, Place(ACCOUNT, "eu-west-1", "aws"))


def test_data_is_retained() -> None:
    """The bucket and its policy stay, also where an update would replace them, unless their creation fails."""
    kept = {
        name: (body.get("DeletionPolicy"), body.get("UpdateReplacePolicy"))
        for name, body in template()["Resources"].items()
        if body["Type"].startswith("AWS::S3")
    }
    assert kept == dict.fromkeys(("ExportBucket", "ExportBucketPolicy"), ("RetainExceptOnCreate", "Retain"))


def test_home_stack_is_created_in_home_regions_only() -> None:
    """And not beside the function."""
    values = {"FunctionRegion": "eu-west-1"}
    assert Stack(template("home-events.yaml"), values, Place(ACCOUNT, "us-east-1", "aws")).resources
    with pytest.raises(Refused, match="Create this stack in the region"):
        Stack(template("home-events.yaml"), values, Place(ACCOUNT, "eu-west-1", "aws"))
    with pytest.raises(Refused, match="Delete this stack"):
        Stack(template("home-events.yaml"), {"FunctionRegion": "us-east-1"}, Place(ACCOUNT, "us-east-1", "aws"))


def test_china_has_no_member_roles() -> None:
    """Without a principal of its partition, there is no role for Tailpipe either; services have their own names."""
    made = stack(refused_aws.GOOD, "cn-north-1")
    types = {one.type for one in made.resources.values()}
    assert not types & {"AWS::CloudFormation::StackSet"}
    assert "ConnectorRole" not in made.resources
    variables = made.resources["Function"].properties["Environment"]["Variables"]
    assert variables["TAILPIPE_PRINCIPAL_ARN"] == ""
    text = json.dumps([one.properties for one in made.resources.values()])
    assert "arn:aws:" not in text
    assert "arn:aws-cn:bcm-data-exports:cn-northwest-1:" in text


# What follows compares with what Terraform has applied.


@pytest.fixture(scope="module")
def applied(tmp_path_factory: pytest.TempPathFactory) -> Applied:
    """Apply all sets of variables at once, and return Terraform's state."""
    terraform.binary()
    workspace = Workspace(tmp_path_factory.mktemp("native"), "aws")
    workspace.init_arguments = terraform.plugin_arguments("aws")
    with ZipFile(workspace.package, "w") as archive:
        archive.writestr("aws_lambda/handler.py", "")
    with LocalAws(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        cloud.client("cloudformation").activate_organizations_access()
        everything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
        boundary = json.dumps({"Version": "2012-10-17", "Statement": everything})
        cloud.client("iam").create_policy(PolicyName="boundary", PolicyDocument=boundary)
        workspace.environment |= {**cloud.environment(), "TF_VAR_external_id": EXTERNAL_ID}
        folder = workspace.folder / "root"
        folder.mkdir()
        (folder / "main.tf.json").write_text(json.dumps(_root(workspace)), encoding="utf-8")
        workspace.init(folder)
        done = workspace.terraform(folder, "apply", "-auto-approve", "-no-color", "-parallelism=20")
        assert done.code == 0, done
        shown = workspace.terraform(folder, "show", "-json")
        calls = json.loads(shown.text)["values"]["root_module"]["child_modules"]
        return Applied({one["address"].removeprefix("module."): one["resources"] for one in calls}, cloud.account)


def _root(workspace: Workspace) -> dict[str, Any]:
    providers = [{"region": "eu-west-1"}, {"alias": "home", "region": HOME}]
    alias = {"eu-west-1": "aws", HOME: "aws.home"}
    calls = {
        name: {
            "source": str(workspace.module),
            "package": str(workspace.package),
            "organizations_access": "require",
            "providers": {
                "aws": alias[REGIONS.get(name, "eu-west-1")],
                "aws.home": "aws.home",
            },
            **_without_secrets(given(name)),
        }
        for name in SETS
    }
    configured = [{**one, "s3_use_path_style": True} for one in providers]
    variable = {"external_id": {"type": "string", "sensitive": True}}
    return {"variable": variable, "provider": {"aws": configured}, "module": calls}


def _without_secrets(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values that refer to the External ID by a variable of the root module."""

    def replaced(value: Any) -> Any:
        return value.replace(EXTERNAL_ID, "${var.external_id}") if isinstance(value, str) else value

    return {name: replaced(value) for name, value in values.items()}


def flat_template(
    applied: Applied, name: str, main: dict[str, Any] | None = None, home: dict[str, Any] | None = None
) -> Flat:
    """Return the resources of the stack, and of the one in the home region where there is one."""
    values, region = given(name), REGIONS.get(name, "eu-west-1")
    [function] = [one for one in applied.resources[name] if one["address"].endswith("aws_lambda_function.this")]
    salted = function["values"]["environment"][0]["variables"]["EXTERNAL_ID_HASH"]
    tags = values.get("tags", {})
    made = stack(values, region, applied.account, template=main, more={"ExternalIdHash": salted})
    found = from_template(made, region, tags)
    if region != HOME and values.get("events", True):
        second = home or template("home-events.yaml")
        own = {key: one for key, one in parameters(values).items() if key in second["Parameters"]}
        place = Place(applied.account, HOME, "aws")
        found |= from_template(Stack(second, {**own, "FunctionRegion": region}, place), HOME, tags)
    return found


def compared(applied: Applied, name: str, **changed: Any) -> list[str]:
    """Return the differences of a set, accepted ones too."""
    regions = REGIONS.get(name, "eu-west-1"), HOME
    resources = changed.pop("resources", applied.resources[name])
    return list(differences(from_terraform(resources, MODULE, regions), flat_template(applied, name, **changed)))


def unlisted(found: list[str]) -> list[str]:
    """Return the differences that ACCEPTED does not list."""
    return [one for one in found if not any(re.match(pattern, one) for pattern in ACCEPTED)]


@pytest.mark.slow
@pytest.mark.parametrize("name", SETS)
def test_template_creates_what_terraform_creates(applied: Applied, name: str) -> None:
    """The same resources, with the same rights and settings, except for what is listed."""
    assert unlisted(compared(applied, name)) == []


@pytest.mark.slow
def test_each_listed_difference_exists(applied: Applied) -> None:
    """A reason for a difference that has gone is out of date."""
    found = [one for name in SETS for one in compared(applied, name)]
    assert [pattern for pattern in ACCEPTED if not any(re.match(pattern, one) for one in found)] == []


@pytest.mark.slow
def test_every_resource_of_the_module_is_compared(applied: Applied) -> None:
    """Each is in some set, or its type or its part of the module is listed."""
    made = {f"{one['type']}.{one['name']}" for each in applied.resources.values() for one in each}
    parts = ("${local.fleets}", "${local.tenant_connectors}")
    fleet = {name for name, body in MODULE.resources.items() if body.get("for_each") in parts}
    assert {name for name in MODULE.resources if name.partition(".")[0] not in WITHOUT} - fleet - made == set()


def _replaced(document: Any, old: str, new: str) -> Any:
    changed = json.loads(json.dumps(document).replace(old, new))
    assert changed != document, f"nothing contains {old}"
    return changed


def _without(document: dict[str, Any], name: str) -> dict[str, Any]:
    changed = deepcopy(document)
    del changed["Resources"][name]
    return changed


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], dict[str, Any]], str]] = {
    "right": (lambda one: _replaced(one, '"cloudwatch:GetMetricStatistics"', '"cloudwatch:GetMetricData"'), "rights"),
    "wider": (lambda one: _replaced(one, "${ExportBucket}/state/*", "${ExportBucket}/*"), "rights"),
    "default": (lambda one: _replaced(one, '"Default": 512', '"Default": 1024'), "MemorySize"),
    "setting": (lambda one: _replaced(one, '"POWERTOOLS_LOG_LEVEL"', '"LOG_LEVEL"'), "Variables"),
    "alarm": (lambda one: _replaced(one, '"Threshold": 172800', '"Threshold": 86400'), "Threshold"),
    "trust": (lambda one: _replaced(one, '"lambda.amazonaws.com"', '"ec2.amazonaws.com"'), "AssumeRolePolicyDocument"),
    "resource": (lambda one: _without(one, "NoSuccessAlarm"), "only Terraform creates it"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_change_of_the_template_alone_is_reported(applied: Applied, change: str) -> None:
    """One right, default, setting or resource."""
    made, where = CHANGES[change]
    found = unlisted(compared(applied, "defaults", main=made(template())))
    assert any(where in one for one in found), found


STATE_CHANGES: dict[str, tuple[Callable[[Any], Any], str]] = {
    "right": (lambda state: _replaced(state, "s3:GetBucketPolicy", "s3:GetBucketTagging"), "rights"),
    "setting": (lambda state: _replaced(state, '"CALL_BUDGET": "0"', '"CALL_BUDGET": "9"'), "CALL_BUDGET"),
    "argument": (lambda state: _replaced(state, '"retention_in_days": 90', '"retention_in_days": 30'), "Retention"),
    "resource": (lambda state: [one for one in state if one["type"] != "aws_scheduler_schedule"], "only the template"),
}


@pytest.mark.slow
@pytest.mark.parametrize("change", STATE_CHANGES)
def test_change_of_the_module_alone_is_reported(applied: Applied, change: str) -> None:
    """One right, setting, argument or resource in what Terraform has created."""
    made, where = STATE_CHANGES[change]
    found = unlisted(compared(applied, "defaults", resources=made(applied.resources["defaults"])))
    assert any(where in one for one in found), found
