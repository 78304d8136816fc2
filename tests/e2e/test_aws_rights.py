"""The function's rights on AWS, both ways: nothing is used that is not granted, nothing granted that is not used.

The stories run under the function's role, which the local AWS holds to exactly the policy of rights.yaml.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from botocore.exceptions import ClientError

from aws_lambda.handler import run_once
from aws_lambda.state_store import KEY as STATE
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam import grants
from localcloud.aws.iam.sessions import credentials
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.aws_lambda.support import DAY, EXPORT, HOUR, Lines, local_aws, members
from tests.e2e.aws_rights import ACCOUNT, KEY, SECRET, Use, beyond, changed, granted, missing, superfluous
from tests.localcloud.aws.runtime.zips import RAISE, zipped
from tests.readers.aws import client

BASE = frozenset({"connector", "management", "members"})
ALONE = frozenset({"connector"})  # account_kind = "standalone"
ROLE = "tailpipe-exports"
Item = tuple[str, str]  # a grant's id, and one of its actions
HOME = f"us-east-1:{ACCOUNT}"
# Resources that are not the deployment's own, where AWS offers nothing narrower (Service Authorization Reference).
WIDE = {
    *(f"{grant}: on *" for grant in ("SeeAccounts", "SeeRoot", "SeeUnits", "SeeOrganizationsAccess")),
    *(f"{grant}: on *" for grant in ("ListExports", "ExportCarbon")),
    # An export's ARN ends in an id that AWS gives.
    f"ReadExports: on arn:aws:bcm-data-exports:{HOME}:export/*",
    f"KeepExports: on arn:aws:bcm-data-exports:{HOME}:export/tailpipe-dataexport*",
    # AWS's own tables, billing view and type of resource.
    f"ReadTables: on arn:aws:bcm-data-exports:{HOME}:table/*",
    f"KeepExports: on arn:aws:bcm-data-exports:{HOME}:table/*",
    f"KeepExports: on arn:aws:billing::{ACCOUNT}:billingview/primary",
    "DeployMemberRole: on arn:aws:cloudformation:*::type/resource/AWS-IAM-Role",
    # Asked for when an export is created, of which no definition has a name yet.
    f"PutReportDefinition: on arn:aws:cur:{HOME}:definition/*",
}


class Function:
    """The function in a local AWS, under its own role with the grants that hold under some conditions."""

    def __init__(self, cloud: LocalAws, conditions: Collection[str] = BASE, file: Path = grants.RIGHTS) -> None:
        self.cloud = cloud
        self.role = f"arn:aws:iam::{cloud.account}:role/{ROLE}"
        self.secret = ""
        if "notify" in conditions:
            # A closed port: what a receiver answers needs no right.
            text, made = "http://127.0.0.1:9/hook", cloud.client("secretsmanager").create_secret
            self.secret = made(Name="tailpipe-webhook", SecretString=text)["ARN"]
        policy = grants.policy("function", cloud.deployment.names(KEY, self.secret), conditions, file)
        cloud.client("iam").put_role_policy(RoleName=ROLE, PolicyName="reconcile", PolicyDocument=policy)
        cloud.calls.clear()
        where = Where(cloud.account, cloud.region)
        session = cloud.world.sessions.assume("lambda.amazonaws.com", self.role, ROLE, where)
        self._environment = {**cloud.environment(), **credentials(session)}
        self.settings: dict[str, str] = {}  # beside the local cloud's

    def run(self, *scopes: str, force: bool = False, **settings: str) -> RunResult:
        """Run once; an hour passes."""
        done = run_once(
            RunRequest(scopes=scopes, force=force),
            {**self._environment, **self.settings, **settings},
            Lines(),
            self.cloud.clock,
            900,
            account=self.cloud.account,
            seed=1,
        )
        self.cloud.advance(HOUR)
        return done

    def client(self, service: str) -> Any:
        """Return a client with the role's rights."""
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        given = {key.lower(): self._environment[key] for key in keys}
        return client(self.cloud.endpoint, self.cloud.region, service, given)

    def uses(self) -> set[Use]:
        """Return what the role did."""
        return {(one["action"], one["resource"]) for one in self.cloud.accesses(self.role)}

    def refused(self) -> list[str]:
        """Return what the role was refused."""
        return [
            f"{one['operation']} ({one['error']})"
            for one in self.cloud.actions.calls()
            if one["principal"] == self.role and str(one["error"]).startswith("AccessDenied")
        ]


@dataclass(frozen=True)
class Story:
    """A deployment's conditions and settings, and what happens in it."""

    conditions: frozenset[str]
    tell: Callable[[Function], None]
    options: Mapping[str, Any]


def organization(function: Function) -> None:
    """Onboard, rest, and heal everything that the function promises to."""
    cloud = function.cloud
    assert function.run().report["status"] == "ok"
    cloud.deliver()
    assert function.run().report["status"] == "ok"
    joined = cloud.join_account(name="new")
    function.run(joined)
    cloud.fail_instance(members(cloud)[0])
    function.run()
    function.run()
    heal(function)


def notified(function: Function) -> None:
    """Read the secret of the webhook, whose digest is due."""
    function.run(NOTIFY_URL=function.secret, NOTIFY_DIGEST="weekly")


def alone(function: Function) -> None:
    """Export a member account's own costs, and heal what that needs."""
    function.settings["ACCOUNT_KIND"] = "standalone"
    assert function.run().report["status"] == "ok"
    function.cloud.deliver()
    heal(function)


def heal(function: Function) -> None:
    """Repair the export, the bucket's protection, the state and the bucket, each damaged or deleted."""
    cloud = function.cloud
    exports = cloud.client("bcm-data-exports")
    arn = exports.list_exports()["Exports"][0]["ExportArn"]
    changed = {name: one for name, one in exports.get_export(ExportArn=arn)["Export"].items() if name != "ExportArn"}
    changed["DestinationConfigurations"]["S3Destination"]["S3OutputConfigurations"]["Overwrite"] = "CREATE_NEW_REPORT"
    exports.update_export(ExportArn=arn, Export=changed)
    function.run()
    cloud.remove_bucket_policy_statement("TailpipeDataExports")
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.delete_public_access_block(Bucket=bucket)
    s3.delete_bucket_encryption(Bucket=bucket)
    s3.delete_bucket_lifecycle(Bucket=bucket)
    function.run()
    # With the memory gone, what is there is told from what is foreign by its marks.
    s3.delete_object(Bucket=bucket, Key=STATE)
    function.run()
    cloud.delete_export(EXPORT)
    function.run()
    cloud.advance(3 * DAY)
    function.run()
    for one in s3.list_objects_v2(Bucket=bucket).get("Contents", []):
        s3.delete_object(Bucket=bucket, Key=one["Key"])
    s3.delete_bucket(Bucket=bucket)
    function.run(force=True)
    assert function.run(force=True).report["status"] != "failed"


def vanished(function: Function) -> None:
    """Ask what became of the operation where an instance that it made is not listed any more."""
    function.run()
    function.cloud.remove_instance(members(function.cloud)[0])
    function.run()


def units(function: Function) -> None:
    """Walk the organizational units whose accounts were selected."""
    root = function.cloud.client("organizations").list_roots()["Roots"][0]["Id"]
    assert function.run(INCLUDE_OUS=root).report["status"] == "ok"


def carbon(function: Function) -> None:
    """Export carbon emissions too."""
    assert function.run(EXPORTS="cur2,carbon").report["status"] == "ok"


def encrypted(function: Function) -> None:
    """Keep state and reports under a customer's key."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    function.cloud.client("s3").put_bucket_encryption(
        Bucket=function.cloud.deployment.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )
    assert function.run(KMS_KEY_ARN=KEY).report["status"] == "ok"
    assert function.run(KMS_KEY_ARN=KEY).report["status"] == "ok"


def misplaced(function: Function) -> None:
    """Deployed in a member account, say which account manages the organization."""
    assert function.run().report["failures"][0]["code"] == "member-account"


def invoked(function: Function) -> None:
    """Have the platform write the log and keep the event of a failed run, both in the role's name."""
    cloud = function.cloud
    cloud.client("lambda").invoke(FunctionName=ROLE, InvocationType="Event", Payload=b"{}")["Payload"].read()
    assert cloud.await_functions()[0]["outcome"] == "failed"


def failing() -> bytes:
    """Return a function whose every run fails."""
    return zipped("", {"aws_lambda/__init__.py": "", "aws_lambda/handler.py": RAISE})


STORIES = {
    "organization": Story(BASE, organization, {}),
    "alone": Story(ALONE, alone, {"kind": "member"}),
    "vanished": Story(BASE, vanished, {}),
    "units": Story(BASE | {"units"}, units, {}),
    "carbon": Story(BASE | {"carbon"}, carbon, {}),
    "notified": Story(BASE | {"notify"}, notified, {}),
    "encrypted": Story(BASE | {"kms"}, encrypted, {}),
    "misplaced": Story(BASE, misplaced, {"kind": "member"}),
    "invoked": Story(BASE, invoked, {"package": failing}),
}
# The organization's own refusal of a member account is what that story is about.
REFUSED = {"misplaced": {"ListAccounts (AccessDeniedException)"}}


@pytest.fixture(scope="module")
def used_in() -> dict[str, set[Use]]:
    """Tell all stories and return what the role did in each."""
    found = {}
    for name, story in STORIES.items():
        with local_aws(**story.options) as cloud:
            function = Function(cloud, story.conditions)
            story.tell(function)
            assert set(function.refused()) <= REFUSED.get(name, set()), name
            found[name] = {(action, _as_given(arn, cloud, function)) for action, arn in function.uses()}
    return found


def _as_given(arn: str, cloud: LocalAws, function: Function) -> str:
    """Return an ARN as the grants of `NAMES` have it."""
    return SECRET if arn and arn == function.secret else arn.replace(cloud.account, ACCOUNT)


@pytest.fixture(scope="module")
def used(used_in: dict[str, set[Use]]) -> set[Use]:
    """Return what the role did in all stories."""
    return set().union(*used_in.values())


def take(some: list[dict[str, Any]], grant: str, action: str) -> None:
    """Take one action out of a grant; a grant without any other goes."""
    found = next(one for one in some if one["id"] == grant)
    found["actions"].remove(action)
    if not found["actions"]:
        some.remove(found)


def items() -> list[Item]:
    """Return every action of every grant."""
    document = yaml.safe_load(grants.RIGHTS.read_text(encoding="utf-8"))
    return [(grant["id"], action) for grant in document["function"] for action in grant["actions"]]


def test_nothing_is_granted_that_is_not_used(used: set[Use]) -> None:
    """Each action of each grant, and each resource it reaches, was needed by some story."""
    assert superfluous(used) == []


def test_nothing_is_used_that_is_not_granted(used: set[Use]) -> None:
    """Everything the role did is allowed by a grant of rights.yaml, and by nothing else."""
    assert missing(used) == []


def test_a_standalone_function_is_granted_what_it_uses_and_nothing_more(used_in: dict[str, set[Use]]) -> None:
    """For this account alone, the role has no right in the organization or to StackSets, and needs none."""
    used = used_in["alone"] | used_in["invoked"]
    assert superfluous(used, conditions=ALONE) == []
    assert missing(used_in["alone"], conditions=ALONE) == []
    actions = {action for grant in granted(conditions=ALONE) for action in grant["Action"]}
    assert not [one for one in actions if one.startswith(("organizations:", "cloudformation:"))]


@pytest.mark.parametrize(("grant", "action"), items())
def test_a_right_that_is_taken_away_is_missed(used: set[Use], tmp_path: Path, grant: str, action: str) -> None:
    """Taken out of a copy of the file, each single action is named as used and not granted."""

    copy = changed(tmp_path, lambda some: take(some, grant, action))
    assert any(line.startswith(f"{action} on ") for line in missing(used, copy))


@pytest.mark.parametrize(
    ("grant", "action"),
    [
        ("KeepBucket", "s3:DeleteBucket"),
        ("KeepExports", "bcm-data-exports:DeleteExport"),
        ("ReadConnectorRole", "iam:UpdateAssumeRolePolicy"),
        ("DeployMemberRole", "cloudformation:DeleteStackInstances"),
        ("SeeAccounts", "organizations:ListPolicies"),
    ],
)
def test_a_right_that_is_added_is_superfluous(used: set[Use], tmp_path: Path, grant: str, action: str) -> None:
    """Added to a copy of the file, an action that nobody uses is named."""

    def add(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == grant)["actions"].append(action)

    assert superfluous(used, changed(tmp_path, add)) == [f"{grant}: {action}"]


def test_a_grant_that_reaches_too_far_is_named(used: set[Use], tmp_path: Path) -> None:
    """A resource that no use needed, such as another bucket, is named."""

    def widen(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == "WriteReports")["resources"].append("arn:aws:s3:::other/*")

    assert superfluous(used, changed(tmp_path, widen)) == ["WriteReports: on arn:aws:s3:::other/*"]


def test_a_grant_reaches_beyond_our_own_where_aws_has_nothing_narrower() -> None:
    """Each resource is one of the deployment's own by its name, or one of the few that are listed with a reason."""
    assert beyond() == WIDE


@pytest.mark.parametrize(
    ("grant", "resource", "told"),
    [
        ("ListBucket", "*", "ListBucket: on *"),
        ("KeepBucket", "arn:aws:s3:::${bucket}*", "KeepBucket: on arn:aws:s3:::tailpipe-dataexport-111122223333*"),
        ("KeepFailedEvents", "arn:aws:sqs:*:*:*", "KeepFailedEvents: on arn:aws:sqs:*:*:*"),
        ("ReadConnectorRole", "arn:aws:iam::*:role/*", "ReadConnectorRole: on arn:aws:iam::*:role/*"),
    ],
)
def test_a_resource_that_is_widened_is_named(tmp_path: Path, grant: str, resource: str, told: str) -> None:
    """A pattern that still covers every use, and others' things too, is told by grant and pattern."""

    def widen(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == grant)["resources"] = [resource]

    assert beyond(changed(tmp_path, widen)) - WIDE == {told}


def test_the_key_is_used_by_way_of_s3_only() -> None:
    """With the grant of a customer's key the function still cannot use the key itself, for data of another kind."""
    with local_aws() as cloud:
        kms = Function(cloud, BASE | {"kms"}).client("kms")
        with pytest.raises(ClientError) as caught:
            kms.generate_data_key(KeyId=KEY, KeySpec="AES_256")
        assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


@pytest.mark.parametrize(
    ("grant", "action"),
    [
        ("KeepExports", "bcm-data-exports:CreateExport"),
        ("PutReportDefinition", "cur:PutReportDefinition"),
        ("DeployMemberRole", "cloudformation:CreateStackInstances"),
        ("SeeAccounts", "organizations:ListAccounts"),
        ("KeepState", "s3:PutObject"),
    ],
)
def test_without_a_right_the_function_does_not_work(tmp_path: Path, grant: str, action: str) -> None:
    """With a right taken out of the policy that is enforced, a first run does not get everything covered."""

    copy = changed(tmp_path, lambda some: take(some, grant, action))
    with local_aws() as cloud:
        function = Function(cloud, BASE, copy)
        assert function.run().report["status"] != "ok"
        assert function.refused() != []
