"""The function is granted exactly the AWS permissions that it uses.

The scenarios run under the function's role, and the local AWS enforces the policy of rights.yaml.
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
from aws_lambda.rounds import Fleet
from aws_lambda.state_store import KEY as STATE
from localcloud.aws.arns import Where
from localcloud.aws.cloud import LocalAws
from localcloud.aws.iam import grants
from localcloud.aws.iam.sessions import credentials
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.aws_lambda.support import DAY, EXPORT, HOUR, Lines, local_aws, members
from tests.aws_lambda.tenants import Provider
from tests.e2e.aws_rights import ACCOUNT, KEY, SECRET, Use, beyond, changed, granted, missing, superfluous
from tests.localcloud.aws.runtime.zips import RAISE, zipped
from tests.readers.aws import client

BASE = frozenset({"connector", "management", "members"})
STANDALONE = frozenset({"connector"})  # account_kind = "standalone"
ROLE = "tailpipe-exports"
Item = tuple[str, str]  # a grant's id, and one of its actions
HOME = f"us-east-1:{ACCOUNT}"
# Resources outside the deployment, where AWS offers nothing narrower (Service Authorization Reference).
WIDE = {
    *(f"{grant}: on *" for grant in ("SeeAccounts", "SeeRoot", "SeeUnits", "SeeOrganizationsAccess")),
    *(f"{grant}: on *" for grant in ("ListExports", "ExportCarbon")),
    # An export's ARN ends in an id that AWS assigns.
    f"ReadExports: on arn:aws:bcm-data-exports:{HOME}:export/*",
    f"KeepExports: on arn:aws:bcm-data-exports:{HOME}:export/tailpipe-dataexport*",
    # AWS's own tables, billing view and resource type.
    f"ReadTables: on arn:aws:bcm-data-exports:{HOME}:table/*",
    f"KeepExports: on arn:aws:bcm-data-exports:{HOME}:table/*",
    f"KeepExports: on arn:aws:billing::{ACCOUNT}:billingview/primary",
    # AWS also assigns the ids of the views that a billing transfer makes.
    f"ExportBillingViews: on arn:aws:billing::{ACCOUNT}:billingview/*",
    "DeployMemberRole: on arn:aws:cloudformation:*::type/resource/AWS-IAM-Role",
    # Checked when an export is created, before its definition has a name.
    f"PutReportDefinition: on arn:aws:cur:{HOME}:definition/*",
}


class Function:
    """The function in a local AWS, under its own role with the grants that apply under `conditions`."""

    def __init__(self, cloud: LocalAws, conditions: Collection[str] = BASE, file: Path = grants.RIGHTS) -> None:
        self.cloud = cloud
        self.role = f"arn:aws:iam::{cloud.account}:role/{ROLE}"
        self.secret = ""
        if "notify" in conditions:
            # A closed port is enough: the receiver's response requires no permission.
            text, made = "http://127.0.0.1:9/hook", cloud.client("secretsmanager").create_secret
            self.secret = made(Name="tailpipe-webhook", SecretString=text)["ARN"]
        policy = grants.policy("function", cloud.deployment.names(KEY, self.secret), conditions, file)
        cloud.client("iam").put_role_policy(RoleName=ROLE, PolicyName="reconcile", PolicyDocument=policy)
        cloud.calls.clear()
        where = Where(cloud.account, cloud.region)
        session = cloud.world.sessions.assume("lambda.amazonaws.com", self.role, ROLE, where)
        self.environment = {**cloud.environment(), **credentials(session)}
        self.settings: dict[str, str] = {}  # in addition to the local cloud's

    def run(self, *scopes: str, force: bool = False, tenant: str = "", **settings: str) -> RunResult:
        """Run once, then let an hour pass."""
        done = run_once(
            RunRequest(scopes=scopes, force=force, tenant=tenant),
            {**self.environment, **self.settings, **settings},
            Lines(),
            self.cloud.clock,
            900,
            account=self.cloud.account,
            seed=1,
        )
        self.cloud.advance(HOUR)
        return done

    def client(self, service: str) -> Any:
        """Return a client with the role's permissions."""
        keys = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        given = {key.lower(): self.environment[key] for key in keys}
        return client(self.cloud.endpoint, self.cloud.region, service, given)

    def uses(self) -> set[Use]:
        """Return the permissions that the role used."""
        return {(one["action"], one["resource"]) for one in self.cloud.accesses(self.role)}

    def refused(self) -> list[str]:
        """Return the calls that were denied to the role."""
        return [
            f"{one['operation']} ({one['error']})"
            for one in self.cloud.actions.calls()
            if one["principal"] == self.role and str(one["error"]).startswith("AccessDenied")
        ]


@dataclass(frozen=True)
class Scenario:
    """The conditions and settings of a deployment, and the steps to run in it."""

    conditions: frozenset[str]
    steps: Callable[[Function], None]
    options: Mapping[str, Any]


def organization(function: Function) -> None:
    """Onboard an organization, run without changes, then repair everything that the function can repair."""
    cloud = function.cloud
    assert function.run().report["status"] == "ok"
    cloud.deliver()
    assert function.run().report["status"] == "ok"
    joined = cloud.join_account(name="new")
    function.run(joined)
    cloud.fail_instance(members(cloud)[0])
    function.run()
    function.run()
    repair(function)


def notified(function: Function) -> None:
    """Send the weekly digest, which requires the webhook's secret."""
    function.run(NOTIFY_URL=function.secret, NOTIFY_DIGEST="weekly")


def standalone(function: Function) -> None:
    """Export a member account's own costs, and repair what that requires."""
    function.settings["ACCOUNT_KIND"] = "standalone"
    assert function.run().report["status"] == "ok"
    function.cloud.deliver()
    repair(function)


def repair(function: Function) -> None:
    """Repair the export, the bucket's protection, the state and the bucket, each changed or deleted."""
    cloud = function.cloud
    change_export(cloud)
    function.run()
    cloud.remove_bucket_policy_statement("TailpipeDataExports")
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.delete_public_access_block(Bucket=bucket)
    s3.delete_bucket_encryption(Bucket=bucket)
    s3.delete_bucket_lifecycle(Bucket=bucket)
    function.run()
    # Without the state, marks distinguish our resources from foreign ones.
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


def change_export(cloud: LocalAws) -> None:
    """Let the first export add files in place of replacing them."""
    exports = cloud.client("bcm-data-exports")
    arn = exports.list_exports()["Exports"][0]["ExportArn"]
    changed = {name: one for name, one in exports.get_export(ExportArn=arn)["Export"].items() if name != "ExportArn"}
    changed["DestinationConfigurations"]["S3Destination"]["S3OutputConfigurations"]["Overwrite"] = "CREATE_NEW_REPORT"
    exports.update_export(ExportArn=arn, Export=changed)


def tenants(function: Function) -> None:
    """Export a payer into the shared bucket and a billing view, repair the view's export, and announce deliveries."""
    cloud = function.cloud
    provider = Provider(cloud)
    payer = provider.add("acme", shared=True)
    view = cloud.transfer_billing(payer=cloud.add_payer(name="billed"), name="Billed")
    destination = {"billing_view": view, "bucket_owner": cloud.account}
    provider.entries.append({"id": "billed", "cloud": "aws", "destination": destination})
    provider.write()
    fleet = Fleet(function.environment, Lines(), cloud.clock, 900, cloud.account)
    assert fleet.begin()["tenants"] == ["acme", "billed"]
    for step in ("create", "repair", "announce", "announce again"):
        if step == "repair":
            change_export(cloud)
        for tenant, account in (("acme", payer), ("billed", cloud.account)):
            if step.startswith("announce"):
                cloud.deliver(account=account)
                function.cloud.advance(HOUR)
            assert function.run(tenant=tenant).report["failures"] == [], (step, tenant)
    assert provider.stored(f"dataexport/{payer}/acme/deltas/")
    assert provider.stored(f"dataexport/{cloud.account}/billed/deliveries/")


def vanished(function: Function) -> None:
    """Check the operation that created an instance which is no longer listed."""
    function.run()
    function.cloud.remove_instance(members(function.cloud)[0])
    function.run()


def units(function: Function) -> None:
    """List the accounts of the selected organizational units."""
    root = function.cloud.client("organizations").list_roots()["Roots"][0]["Id"]
    assert function.run(INCLUDE_OUS=root).report["status"] == "ok"


def carbon(function: Function) -> None:
    """Export carbon emissions as well."""
    assert function.run(EXPORTS="cur2,carbon").report["status"] == "ok"


def delivered(function: Function) -> None:
    """Announce a delivery, and the one that follows it."""
    function.run()
    for _ in range(2):
        function.cloud.advance(HOUR)
        function.cloud.deliver()
        assert function.run().report["status"] == "ok"


def encrypted(function: Function) -> None:
    """Encrypt state and reports with a customer's key."""
    rule = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}}
    function.cloud.client("s3").put_bucket_encryption(
        Bucket=function.cloud.deployment.bucket, ServerSideEncryptionConfiguration={"Rules": [rule]}
    )
    assert function.run(KMS_KEY_ARN=KEY).report["status"] == "ok"
    assert function.run(KMS_KEY_ARN=KEY).report["status"] == "ok"


def misplaced(function: Function) -> None:
    """Report the management account when deployed in a member account."""
    assert function.run().report["failures"][0]["code"] == "member-account"


def invoked(function: Function) -> None:
    """Let Lambda write the log and keep the event of a failed run, both with the function's role."""
    cloud = function.cloud
    cloud.client("lambda").invoke(FunctionName=ROLE, InvocationType="Event", Payload=b"{}")["Payload"].read()
    assert cloud.await_functions()[0]["outcome"] == "failed"


def failing() -> bytes:
    """Return a function whose runs all fail."""
    return zipped("", {"aws_lambda/__init__.py": "", "aws_lambda/handler.py": RAISE})


SCENARIOS = {
    "organization": Scenario(BASE, organization, {}),
    "standalone": Scenario(STANDALONE, standalone, {"kind": "member"}),
    "vanished": Scenario(BASE, vanished, {}),
    "units": Scenario(BASE | {"units"}, units, {}),
    "carbon": Scenario(BASE | {"carbon"}, carbon, {}),
    "notified": Scenario(BASE | {"notify"}, notified, {}),
    "delivered": Scenario(BASE | {"deliveries"}, delivered, {"deliveries": True}),
    "tenants": Scenario(BASE | {"deliveries", "fleet"}, tenants, {"deliveries": True, "fleet": True}),
    "encrypted": Scenario(BASE | {"kms"}, encrypted, {}),
    "misplaced": Scenario(BASE, misplaced, {"kind": "member"}),
    "invoked": Scenario(BASE, invoked, {"package": failing}),
}
# In that scenario, Organizations refuses the call of a member account.
REFUSED = {"misplaced": {"ListAccounts (AccessDeniedException)"}}


@pytest.fixture(scope="module")
def used_in() -> dict[str, set[Use]]:
    """Run all scenarios and return the permissions used in each."""
    found = {}
    for name, scenario in SCENARIOS.items():
        with local_aws(**scenario.options) as cloud:
            function = Function(cloud, scenario.conditions)
            scenario.steps(function)
            assert set(function.refused()) <= REFUSED.get(name, set()), name
            found[name] = {(action, _with_sample_names(arn, cloud, function)) for action, arn in function.uses()}
    return found


def _with_sample_names(arn: str, cloud: LocalAws, function: Function) -> str:
    """Return an ARN with the account and secret of `NAMES`."""
    return SECRET if arn and arn == function.secret else arn.replace(cloud.account, ACCOUNT)


@pytest.fixture(scope="module")
def used(used_in: dict[str, set[Use]]) -> set[Use]:
    """Return the permissions used in all scenarios."""
    return set().union(*used_in.values())


def remove(some: list[dict[str, Any]], grant: str, action: str) -> None:
    """Remove an action from a grant, and the grant itself if it has no other action."""
    found = next(one for one in some if one["id"] == grant)
    found["actions"].remove(action)
    if not found["actions"]:
        some.remove(found)


def items() -> list[Item]:
    """Return every action of every grant."""
    document = yaml.safe_load(grants.RIGHTS.read_text(encoding="utf-8"))
    return [(grant["id"], action) for grant in document["function"] for action in grant["actions"]]


def test_every_granted_permission_is_used(used: set[Use]) -> None:
    """Each action and each resource of each grant is needed by a scenario."""
    assert superfluous(used) == []


def test_every_used_permission_is_granted(used: set[Use]) -> None:
    """rights.yaml allows everything that the role did."""
    assert missing(used) == []


def test_standalone_function_is_granted_exactly_what_it_uses(used_in: dict[str, set[Use]]) -> None:
    """Its role has no permissions for Organizations or StackSets, and needs none."""
    used = used_in["standalone"] | used_in["invoked"]
    assert superfluous(used, conditions=STANDALONE) == []
    assert missing(used_in["standalone"], conditions=STANDALONE) == []
    actions = {action for grant in granted(conditions=STANDALONE) for action in grant["Action"]}
    assert not [one for one in actions if one.startswith(("organizations:", "cloudformation:"))]


@pytest.mark.parametrize(("grant", "action"), items())
def test_removed_permission_is_reported(used: set[Use], tmp_path: Path, grant: str, action: str) -> None:
    """Each action that is removed from a copy of the file is reported as used and not granted."""

    copy = changed(tmp_path, lambda some: remove(some, grant, action))
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
def test_unused_permission_is_reported(used: set[Use], tmp_path: Path, grant: str, action: str) -> None:
    """An unused action that is added to a copy of the file is reported with its grant."""

    def add(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == grant)["actions"].append(action)

    assert superfluous(used, changed(tmp_path, add)) == [f"{grant}: {action}"]


def test_unused_resource_is_reported(used: set[Use], tmp_path: Path) -> None:
    """A resource that no call needed, such as another bucket, is reported."""

    def widen(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == "WriteReports")["resources"].append("arn:aws:s3:::other/*")

    assert superfluous(used, changed(tmp_path, widen)) == ["WriteReports: on arn:aws:s3:::other/*"]


def test_wide_resources_are_those_that_aws_cannot_narrow() -> None:
    """Each resource names something of the deployment, or is listed with its reason."""
    assert beyond() == WIDE


@pytest.mark.parametrize(
    ("grant", "resource", "expected"),
    [
        ("ListBucket", "*", "ListBucket: on *"),
        ("KeepBucket", "arn:aws:s3:::${bucket}*", "KeepBucket: on arn:aws:s3:::tailpipe-dataexport-111122223333*"),
        ("KeepFailedEvents", "arn:aws:sqs:*:*:*", "KeepFailedEvents: on arn:aws:sqs:*:*:*"),
        ("ReadConnectorRole", "arn:aws:iam::*:role/*", "ReadConnectorRole: on arn:aws:iam::*:role/*"),
    ],
)
def test_widened_resource_is_reported(tmp_path: Path, grant: str, resource: str, expected: str) -> None:
    """A pattern that covers every use and also other owners' resources is reported with its grant."""

    def widen(some: list[dict[str, Any]]) -> None:
        next(one for one in some if one["id"] == grant)["resources"] = [resource]

    assert beyond(changed(tmp_path, widen)) - WIDE == {expected}


def test_key_can_be_used_through_s3_only() -> None:
    """The grant on a customer's key does not allow the function to call KMS directly."""
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
def test_run_without_a_required_permission_is_not_ok(tmp_path: Path, grant: str, action: str) -> None:
    """The policy without the permission is enforced, and the first run cannot cover everything."""

    copy = changed(tmp_path, lambda some: remove(some, grant, action))
    with local_aws() as cloud:
        function = Function(cloud, BASE, copy)
        assert function.run().report["status"] != "ok"
        assert function.refused() != []
