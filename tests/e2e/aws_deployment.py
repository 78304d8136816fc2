"""Run the operator's commands as processes with Terraform, the operator's exact permissions, and a local AWS."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cli.deployment.aws import stack
from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.cli.support.aws import sign_in
from tests.infra import terraform
from tests.limits import HANG_S
from tests.localcloud.aws.iam.sessions import document
from tests.readers.aws import assumed

REPOSITORY = Path(__file__).resolve().parents[2]
# Two tenants whose exports Tailpipe reads by roles of their own.
CONNECTORS = {
    name: {"payer": payer, "external_id": f"{EXTERNAL_ID}-of-{name}"}
    for name, payer in (("acme", "222233334444"), ("bolt", "333344445555"))
}
OPERATOR = "deployment-operator"


@dataclass(frozen=True)
class CommandResult:
    """The exit code, standard output and standard error of a command."""

    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


class Deployment:
    """An operator: the credentials of a role with the shipped policies, and the command-line tool."""

    def __init__(self, cloud: LocalAws, folder: Path, init: str) -> None:
        self.cloud = cloud
        self.folder = folder
        self.external_id = EXTERNAL_ID
        self.at_once = 3  # tenants
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "TF_"))}
        self._environment = {
            **environment,
            **cloud.environment(),
            **self._session(),
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "HOME": str(folder),
            "TF_CLI_ARGS_init": init,
        }

    def _session(self) -> dict[str, str]:
        """Create the operator's role from the two policy documents, and return a session as variables."""
        iam = self.cloud.client("iam")
        trust = document({"Principal": {"AWS": f"arn:aws:iam::{self.cloud.account}:root"}, "Action": "sts:AssumeRole"})
        role = iam.create_role(RoleName=OPERATOR, AssumeRolePolicyDocument=trust)["Role"]["Arn"]
        for purpose in ("deploy", "destroy"):
            text = (REPOSITORY / "infra" / "aws" / f"operator-{purpose}-policy.json").read_text()
            policy = iam.create_policy(PolicyName=f"tailpipe-{purpose}", PolicyDocument=text)["Policy"]["Arn"]
            iam.attach_role_policy(RoleName=OPERATOR, PolicyArn=policy)
        own = {
            "aws_access_key_id": f"AKIALOCA{self.cloud.account}",
            "aws_secret_access_key": "local-cloud-has-no-secrets",
        }
        session = assumed(self.cloud.endpoint, self.cloud.region, own, role, None)
        return {name.upper(): value for name, value in session.items()}

    def tailpipe(self, *arguments: str) -> CommandResult:
        """Run the command with the permissions of the shipped policies, and wait for it."""
        secrets = {"TF_VAR_external_id": self.external_id, "TF_VAR_tenant_connectors": json.dumps(CONNECTORS)}
        return self._call(arguments, self._environment | secrets)

    def laptop(self, *arguments: str) -> CommandResult:
        """Run the command as an administrator without any of the function's settings, and wait for it."""
        session = {"AWS_SESSION_TOKEN"} | {name for name in os.environ if name.startswith("TAILPIPE_")}
        kept = {name: value for name, value in self._environment.items() if name not in session}
        return self._call(arguments, kept | self.cloud.environment())

    def _call(self, arguments: Sequence[str], environment: Mapping[str, str]) -> CommandResult:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *arguments],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=HANG_S,
            check=False,
        )
        return CommandResult(done.returncode, done.stdout, done.stderr)

    def deploy(self, package: Path, *more: str) -> CommandResult:
        """Deploy a package that is built for this machine's Python."""
        emails = 'notification_emails=["platform@example.com"]'
        events, fleet = ("dashboard=true", "delivery_events=true"), ("fleet=true", f"fleet_concurrency={self.at_once}")
        values = ("environment=prod", f"package={package}", emails, *events, *fleet)
        return self.tailpipe("deploy", "aws", *(part for value in values for part in ("--var", value)), *more)

    def accesses(self) -> set[tuple[str, str]]:
        """Return the actions that the operator used, each with its resource."""
        role = f"arn:aws:iam::{self.cloud.account}:role/{OPERATOR}"
        return {(one["action"], one["resource"]) for one in self.cloud.accesses() if one["principal"] == role}


def organization(cloud: LocalAws, members: int) -> None:
    """Create an organization with `members` accounts in addition to the management account."""
    cloud.client("organizations").create_organization(FeatureSet="ALL")
    for number in range(members):
        cloud.join_account(name=f"member-{number}")


@contextmanager
def signed_in_organization(folder: Path, members: int) -> Iterator[tuple[LocalAws, pytest.MonkeyPatch]]:
    """Yield a local organization, signed in to its management account; what a command keeps for itself is in `folder`.

    CloudFormation is asked for a stack's status more often than on AWS.
    """
    with LocalAws(bare=True) as cloud, pytest.MonkeyPatch.context() as patch:
        organization(cloud, members)
        sign_in(cloud, patch)
        patch.setenv("XDG_STATE_HOME", str(folder))
        patch.setattr(stack, "POLL_S", 0.05)
        yield cloud, patch


def terraform_init() -> str:
    """Return the arguments of `terraform init` that find the AWS provider.

    Skips the calling test module if Terraform or the provider is not installed.
    """
    terraform.binary()
    return " ".join(terraform.plugin_arguments("aws"))


def status_of(document: Mapping[str, Any]) -> tuple[str, int]:
    """Return a report's status and the number of covered and pending scopes."""
    return str(document["status"]), int(document["scopes"]["covered"] + document["scopes"]["pending"])
