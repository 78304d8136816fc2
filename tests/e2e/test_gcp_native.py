"""A deployment by Infrastructure Manager, from creation to removal, with the real module and the real Terraform.

The provider is the stand-in (`tests.infra.standin`), so that the local Google Cloud has the module's resources from the
start, except the function: it appears with the first apply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from cli.deployment.gcp.infra_manager_rest import InfraManagerRest
from cli.local.gcp import runtime
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.names import ORGANIZATION
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers

pytestmark = pytest.mark.slow
INFRA = REPOSITORY / "infra" / "gcp"
TUTORIAL = INFRA / "tutorial.md"
VALUES = {
    "environment": "prod",
    "tailpipe_tenant": "tenant-of-this-machine",
    "tailpipe_issuer": "https://issuer.example.com",
    "tailpipe_audience": "https://audience.example.com",
    "check_issuer": "false",
}


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[LocalGcp]:
    """Return a Google Cloud before a deployment, with the account that the tutorial creates."""
    with (
        stand_in_providers(Workspace(tmp_path / "standin", "gcp")) as workspace,
        LocalGcp(accounts=2, done=1, history_days=1, rows=2, runtime=runtime) as cloud,
    ):
        monkeypatch.setenv("TF_REATTACH_PROVIDERS", workspace.environment["TF_REATTACH_PROVIDERS"])
        for name, value in cloud.environment().items():
            if not name.startswith("TF_VAR_"):
                monkeypatch.setenv(name, value)
        cloud.set_ingress("ALLOW_ALL")
        as_the_tutorial_says(cloud)
        platform = cloud.world.platform.all
        function = platform.pop(cloud.deployment.function)
        applied, deleted = InfraManagerRest.apply, InfraManagerRest.delete

        def apply(rest: InfraManagerRest, body: Any) -> Any:
            made = applied(rest, body)
            platform[cloud.deployment.function] = function
            return made

        def delete(rest: InfraManagerRest) -> None:
            deleted(rest)
            del platform[cloud.deployment.function]

        monkeypatch.setattr(InfraManagerRest, "apply", apply)
        monkeypatch.setattr(InfraManagerRest, "delete", delete)
        yield cloud


def as_the_tutorial_says(cloud: LocalGcp) -> None:
    """Create the account with exactly the roles in the tutorial's commands."""
    text = TUTORIAL.read_text(encoding="utf-8")
    (name,) = re.findall(r"gcloud iam service-accounts create (\S+)", text)
    account = f"{name}@{cloud.project}.iam.gserviceaccount.com"
    cloud.world.platform.add(f"projects/{cloud.project}/serviceAccounts/{account}", {"email": account})
    roles = dict(re.findall(r"gcloud iam roles create \S+ --(project|organization)=\S+ --file=(\S+)", text))
    resources = {"projects": f"projects/{cloud.project}", "organizations": ORGANIZATION}
    bound = re.findall(r"gcloud (\w+) add-iam-policy-binding .* --role=(\S+)", text)
    assert len(bound) == 3
    for kind, role in bound:
        if role.startswith("roles/"):
            cloud.world.iam.grant(account, role, resources[kind])
            continue
        file = REPOSITORY / roles[kind.removesuffix("s")]
        permissions = yaml.safe_load(file.read_text(encoding="utf-8"))["includedPermissions"]
        cloud.world.iam.grant(account, role, resources[kind], permissions=permissions)


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def deploy(tmp_path: Path, package: bytes = b"PK", *more: str, engine: str = "native") -> Result:
    """Deploy with a file in place of the function's package, which has separate tests."""
    path = tmp_path / "given.zip"
    path.write_bytes(package)
    pairs = [f"{name}={value}" for name, value in {**VALUES, "package": str(path)}.items()]
    flags = [part for pair in pairs for part in ("--var", pair)]
    return tailpipe("deploy", "gcp", "--with", engine, *flags, "--yes", *more)


def test_deployment_from_creation_to_removal(gcp: LocalGcp, tmp_path: Path) -> None:
    """Created, run, damaged, healed, updated and removed; the data stays, and nothing is left of the deployment."""
    made = deploy(tmp_path)
    assert made.exit_code == 0, made.output
    assert json.loads(made.stdout)["storage"]["bucket"] == gcp.deployment.bucket
    (deployment,) = gcp.infra_manager.records.deployments.values()
    (revision,) = deployment.revisions
    assert (revision["state"], revision["serviceAccount"].rpartition("/")[2]) == (
        "APPLIED",
        f"tailpipe-deployer@{gcp.project}.iam.gserviceaccount.com",
    )
    held = {one["terraformInfo"]["address"] for one in deployment.resources[revision["name"]]}
    assert {
        "module.tailpipe.google_cloudfunctions2_function.this",
        "module.tailpipe.google_storage_bucket.export",
    } <= held

    again = deploy(tmp_path)
    assert (again.exit_code, len(deployment.revisions)) == (0, 1), again.output

    assert gcp.delete_objects() > 0
    assert gcp.copies() == []
    healed = tailpipe("invoke", "gcp")
    assert (healed.exit_code, gcp.copies() != []) == (0, True), healed.output

    refused = deploy(tmp_path, engine="terraform")
    assert refused.exit_code == 1
    assert "tailpipe-exports migrate gcp --to terraform" in " ".join(refused.stderr.split())

    updated = deploy(tmp_path, b"PK2")
    assert (updated.exit_code, len(deployment.revisions)) == (0, 2), updated.output
    changed = {
        one["terraformInfo"]["type"]: one["intent"]
        for one in deployment.resources[deployment.revisions[-1]["name"]]
        if one["intent"] != "UNCHANGED"
    }
    assert "google_storage_bucket_object" in changed

    assert tailpipe("doctor", "gcp").exit_code in (0, 3)
    shown = tailpipe("destroy", "gcp", "--dry-run")
    assert shown.exit_code == 2, shown.output
    assert gcp.infra_manager.records.deployments != {}
    removed = tailpipe("destroy", "gcp", "--confirm", gcp.project)
    assert removed.exit_code == 0, removed.output
    assert gcp.infra_manager.records.deployments == {}
    assert gcp.copies() != []
    assert gcp.tables() != {}
