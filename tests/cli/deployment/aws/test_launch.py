"""`package aws --upload` and the templates: where CloudFormation reads from, and the links that open it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from botocore.exceptions import ClientError
from click.testing import Result

from aws_lambda.manual_steps import CONSOLES
from aws_lambda.settings import read_settings
from cli.deployment.aws.launch import quick_create
from cli.deployment.aws.parameters import ELSEWHERE, OTHERWISE, parameter_of, parameters, salted_hash
from cli.deployment.aws.session import Aws
from cli.deployment.model import OperatorError
from cli.deployment.terraform import variables as module_variables
from cli.packaging import Package
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import account, sign_in, stderr_of, tailpipe, writes
from tests.infra.cloudformation import read
from tests.localcloud.aws.helpers import join_another_organization
from tools import modules

OTHER = "999988887777"
CONTENT = b"a package"
DIGEST = sha256(CONTENT).hexdigest()
INFRA = Path(__file__).resolve().parents[4] / "infra" / "aws"


@pytest.fixture(autouse=True)
def packaged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build an archive without wheels."""

    def build(_name: str, out: Path) -> Package:
        out.mkdir(parents=True, exist_ok=True)
        path = out / "tailpipe-exports-aws.zip"
        path.write_bytes(CONTENT)
        return Package(path, DIGEST, ("handler.py",))

    monkeypatch.setattr("cli.package.build", build)


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAws]:
    """Return the management account of an organization with an empty bucket `mine`, signed in to it."""
    with account(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        make_bucket(cloud, "mine")
        sign_in(cloud, monkeypatch)
        yield cloud


def make_bucket(cloud: LocalAws, name: str, owner: str | None = None) -> None:
    """Create a bucket in the local AWS's region."""
    where = {"LocationConstraint": cloud.region}
    cloud.client("s3", owner).create_bucket(Bucket=name, CreateBucketConfiguration=where)


def uploaded(address: str, *more: str) -> Result:
    """Call the command."""
    return tailpipe("package", "aws", "--upload", address, *more)


def link(result: Result, place: int = 0) -> tuple[str, dict[str, str]]:
    """Return page and query of a printed link."""
    assert result.exit_code == 0, result.output
    parts = urlsplit(result.stdout.splitlines()[place])
    page, _, query = parts.fragment.partition("?")
    return f"{parts.netloc}{parts.path}?{parts.query}#{page}", {
        key: one for key, [one] in parse_qs(query, strict_parsing=True, keep_blank_values=True).items()
    }


def test_package_and_templates_lie_where_the_link_says(cloud: LocalAws) -> None:
    """The key has the package's hash, so that the stack sees each new package; secrets are not in the link."""
    result = uploaded("s3://mine/releases/", "--var", "environment=uat", "--var", 'include_accounts=["111111111111"]')
    page, query = link(result)
    assert (
        page == f"{cloud.region}.console.aws.amazon.com/cloudformation/home?region={cloud.region}#/stacks/quickcreate"
    )
    key = f"releases/tailpipe-exports-aws-{DIGEST[:12]}.zip"
    given = {name.removeprefix("param_"): one for name, one in query.items() if name.startswith("param_")}
    assert given == {
        "Environment": "uat",
        "IncludeAccounts": "111111111111",
        "AccountKind": "management",
        "PackageBucket": "mine",
        "PackageKey": key,
    }
    assert set(given) <= set(read((INFRA / "template.yaml").read_text())["Parameters"])
    assert EXTERNAL_ID not in result.output
    s3 = cloud.client("s3")
    stored = s3.get_object(Bucket="mine", Key=key)["Body"]
    with stored:
        assert stored.read() == CONTENT
    assert query["stackName"] == "tailpipe-exports"
    template = urlsplit(query["templateURL"]).path.removeprefix("/mine/")
    body = s3.get_object(Bucket="mine", Key=template)["Body"]
    with body:
        assert body.read() == (INFRA / "template.yaml").read_bytes()


def test_bucket_of_a_deleted_stack_is_named_before_the_link_is_opened(cloud: LocalAws) -> None:
    """A stack from the link would stop at it; one of a stack, or one that cannot be seen, is not named."""
    bucket = f"tailpipe-dataexport-{cloud.account}"
    assert "exists and belongs to no stack" not in stderr_of(uploaded("s3://mine/"))
    make_bucket(cloud, bucket)
    said = stderr_of(uploaded("s3://mine/"))
    assert f"bucket {bucket} exists and belongs to no stack" in said
    assert "create it with tailpipe-exports deploy aws --with native, which imports the bucket" in said
    assert "exists and belongs to no stack" not in stderr_of(uploaded("s3://mine/", "--var", "bucket_name=another"))
    for action in ("cloudformation:DescribeStackResources", "s3:ListBucket"):
        cloud.deny(action)
        assert "exists and belongs to no stack" not in stderr_of(uploaded("s3://mine/"))
        cloud.allow(action)


def test_second_link_forwards_the_home_regions_events(cloud: LocalAws) -> None:
    """Outside us-east-1; where the function takes no events, there is one stack."""
    page, query = link(uploaded("s3://mine/", "--var", "function_name=costs"), 1)
    assert page == "us-east-1.console.aws.amazon.com/cloudformation/home?region=us-east-1#/stacks/quickcreate"
    given = {name.removeprefix("param_"): one for name, one in query.items() if name.startswith("param_")}
    assert given == {"AccountKind": "management", "FunctionName": "costs", "FunctionRegion": cloud.region}
    assert set(given) <= set(read((INFRA / "home-events.yaml").read_text())["Parameters"])
    assert query["templateURL"].endswith("-home-events.yaml")
    assert len(uploaded("s3://mine/", "--var", "events=false").stdout.splitlines()) == 1


def test_versioned_bucket_keeps_a_fixed_key(cloud: LocalAws) -> None:
    """The version tells one package from the next."""
    s3 = cloud.client("s3")
    s3.put_bucket_versioning(Bucket="mine", VersioningConfiguration={"Status": "Enabled"})
    first, second = (link(uploaded("s3://mine/tailpipe.zip"))[1] for _ in range(2))
    versions = {one["VersionId"] for one in s3.list_object_versions(Bucket="mine", Prefix="tailpipe.zip")["Versions"]}
    assert {first["param_PackageVersion"], second["param_PackageVersion"]} == versions
    assert len(versions) == 2


def test_another_package_under_the_same_key_is_refused(cloud: LocalAws) -> None:
    """A stack would not see that the code has changed; the same package is uploaded again."""
    assert uploaded("s3://mine/a/b.zip").exit_code == 0
    assert uploaded("s3://mine/a/b.zip").exit_code == 0
    cloud.client("s3").put_object(Bucket="mine", Key="a/b.zip", Body=b"another")
    refused(cloud, "s3://mine/a/b.zip", "holds another package", "End the address with a slash (s3://mine/a/)")


def refused(cloud: LocalAws, address: str, what: str, remedy: str, *more: str) -> None:
    """Call the command, and verify its message and that nothing is written."""
    cloud.clear_calls()
    result = uploaded(address, *more)
    assert (result.exit_code, result.stdout) == (1, ""), result.output
    said = " ".join(stderr_of(result).split())
    assert what in said
    assert remedy in said
    assert writes(cloud) == []


@pytest.mark.parametrize(
    ("address", "what", "remedy"),
    [
        ("mine/", "is not an address in S3", "Write --upload s3://BUCKET/FOLDER/."),
        ("s3://Mine/", "is not an address in S3", "Write --upload s3://BUCKET/FOLDER/."),
        ("s3://mine/package", "does not end with .zip", "End it with .zip, or with / for a folder."),
        ("s3://nowhere/", "bucket nowhere does not exist", "aws s3 mb s3://nowhere --region"),
        ("s3://elsewhere/", "bucket elsewhere is in us-west-2", "or set AWS_REGION=us-west-2 to deploy there"),
        ("s3://theirs/", "bucket theirs belongs to another account", "Name a bucket of this account"),
    ],
)
def test_wrong_address_is_refused(cloud: LocalAws, address: str, what: str, remedy: str) -> None:
    """One sentence with its remedy, before anything is uploaded."""
    where = {"LocationConstraint": "us-west-2"}
    Aws("us-west-2").client("s3").create_bucket(Bucket="elsewhere", CreateBucketConfiguration=where)
    make_bucket(cloud, "theirs", OTHER)
    refused(cloud, address, what, remedy)


def test_variables_without_a_parameter_are_refused(cloud: LocalAws) -> None:
    """What the template does not have, with what does it instead."""
    refused(
        cloud, "s3://mine/", "fleet: the CloudFormation template has no", "use --with terraform", "--var", "fleet=true"
    )


@pytest.mark.parametrize("given", ["environment=staging", "schedule=rate(7 minutes)"])
def test_values_that_the_template_refuses_are_not_uploaded(cloud: LocalAws, given: str) -> None:
    """A link with such a value would fail only in the console."""
    refused(cloud, "s3://mine/", f"{given.partition('=')[0]} is not valid", "", "--var", given)


def test_member_account_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a deployment with Terraform is."""
    with account(bare=True) as cloud:
        join_another_organization(cloud)
        make_bucket(cloud, "mine")
        sign_in(cloud, monkeypatch)
        refused(cloud, "s3://mine/", "is a member of organization", "Use the credentials of the management account")


def test_missing_right_is_named(cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of S3 is shown, and nothing is half done."""

    def denied(*_: Any, **__: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDenied", "Message": "no s3:PutObject"}}, "PutObject")

    monkeypatch.setattr("cli.deployment.aws.launch._put_one", denied)
    refused(cloud, "s3://mine/", "no s3:PutObject", "See tailpipe-exports doctor aws.")


def test_cloud_without_an_upload_is_refused() -> None:
    """With what to use instead."""
    result = tailpipe("package", "azure", "--upload", "s3://mine/")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "Use: tailpipe-exports deploy azure" in stderr_of(result)


def test_every_variable_has_a_parameter_or_a_replacement() -> None:
    """A new variable of the module is in the template, or it is said what does it instead."""
    declared = module_variables.declared(INFRA)
    known = set(read((INFRA / "template.yaml").read_text())["Parameters"])
    assert {name for name in declared if parameter_of(name) not in known} == set(ELSEWHERE) | set(OTHERWISE)


def test_values_become_parameters() -> None:
    """Lists are separated by commas, null is the default, and the minutes of a rate are computed."""
    given = {"exports": ["cur2", "focus"], "events": False, "bucket_name": None, "schedule": "rate(6 hours)"}
    given |= {"settings": {"CALLS_AT_ONCE": "4"}, "fleet": False, "tags": {"team": "x"}, "memory_mb": 512}
    assert parameters(given) == {
        "Exports": "cur2,focus",
        "Events": "false",
        "Schedule": "rate(6 hours)",
        "SchedulePeriodMinutes": "360",
        "CallsAtOnce": "4",
        "MemoryMb": "512",
    }
    with pytest.raises(OperatorError, match="extra_bucket_policy"):
        parameters({"extra_bucket_policy": json.dumps({"Statement": []})})


def test_function_accepts_the_salted_hash() -> None:
    """It matches each of the External IDs, and no other one."""
    settings = read_settings({"AWS_REGION": "eu-west-1", "EXTERNAL_ID_HASH": salted_hash([EXTERNAL_ID, "before"])})
    assert [settings.external_id_matches(one) for one in (EXTERNAL_ID, "before", "other")] == [True, True, False]


def test_console_is_that_of_the_partition() -> None:
    """A link to the wrong console would ask for other credentials."""
    made = quick_create("cn-north-1", "https://b/t.yaml", "s", {"A": "x y"})
    page = "https://cn-north-1.console.amazonaws.cn/cloudformation/home?region=cn-north-1#/stacks/quickcreate"
    assert made == f"{page}?templateURL=https%3A%2F%2Fb%2Ft.yaml&stackName=s&param_A=x%20y"
    sovereign = quick_create("eusc-de-east-1", "https://b/t.yaml", "s", {})
    assert sovereign.startswith("https://eusc-de-east-1.console.amazonaws-eusc.eu/cloudformation/home?")


def test_each_partition_with_exports_has_a_console() -> None:
    """The template's rule lists the partitions in which it can be deployed."""
    rule = json.dumps(read((INFRA / "template.yaml").read_text())["Rules"])
    assert sorted(set(re.findall(r'"(aws(?:-[a-z]+)*)"', rule))) == sorted(CONSOLES)


def commands(begin: str) -> list[str]:
    """Return the lines of the block in the guide that contains a text, without their comments."""
    text = (INFRA.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
    [block] = [one for one in re.findall(r"^```\n(.*?)^```", text, re.MULTILINE | re.DOTALL) if begin in one]
    return [line.partition("   #")[0].strip() for line in block.splitlines()]


def test_commands_of_the_guide_print_the_link(cloud: LocalAws, monkeypatch: pytest.MonkeyPatch) -> None:
    """The block for the launch link, line by line."""
    region, bucket, access, package = commands("package aws --upload")
    monkeypatch.setenv("AWS_REGION", region.rpartition("=")[2])
    assert bucket.startswith("aws s3 mb s3://")
    make_bucket(cloud, bucket.rpartition("/")[2])
    service, operation = access.removeprefix("aws ").split()
    getattr(cloud.client(service), operation.replace("-", "_"))()
    _, query = link(tailpipe(*package.removeprefix(".venv/bin/tailpipe-exports ").split()))
    assert query["param_Environment"] == "prod"


def test_hash_of_the_guide_is_accepted_by_the_function() -> None:
    """The shell prints what the function compares with."""
    asks, *prints = commands("EXTERNAL_ID")
    assert asks == "read -rs EXTERNAL_ID && export EXTERNAL_ID"
    script = "\n".join([f"read -rs EXTERNAL_ID <<<'{EXTERNAL_ID}' && export EXTERNAL_ID", *prints])
    done = subprocess.run(["bash", "-euc", script], capture_output=True, text=True, check=True)
    settings = read_settings({"AWS_REGION": "eu-west-1", "EXTERNAL_ID_HASH": done.stdout.strip()})
    assert settings.external_id_matches(EXTERNAL_ID)


def test_guide_names_every_variable_without_a_parameter() -> None:
    """Each is in the table, with what does it instead."""
    text = (INFRA.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
    table = text.partition("| variable of the module | in the template |")[2].partition("\n\n")[0]
    assert set(re.findall(r"`([a-z_]+)`", table)) >= {*ELSEWHERE, *OTHERWISE}


def test_statements_for_a_key_are_those_of_the_module() -> None:
    """The guide shows the output `kms_key_policy`."""
    text = (INFRA.parents[1] / "docs" / "aws.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```json\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    [block] = [one for one in blocks if "TailpipeLog" in one]
    shown = [(one["Sid"], *one["Action"], *one["Condition"]) for one in json.loads(block)]
    value = modules.read(INFRA).outputs["kms_key_policy"]["value"]
    stated = re.findall(r"Sid\W+(\w+)(.*?)Condition\W+(\w+)", value, re.DOTALL)
    assert [(sid, *re.findall(r"kms:[A-Z][\w*]+", rest), condition) for sid, rest, condition in stated] == shown
