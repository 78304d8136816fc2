"""A deployment that a released version made, upgraded by this one, also where a version is skipped.

The released module is taken from the history of the repository, applied, and replaced by this one. AWS: Terraform's own
provider on the local AWS. Azure and Google Cloud: a stand-in provider, which knows no arguments that force a
replacement; `released.json` in `checks` holds what such arguments are made of.
"""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from localcloud.aws.cloud import LocalAws
from tests.canaries import EXTERNAL_ID
from tests.infra import terraform
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tests.infra.standin.roots import apply

pytestmark = pytest.mark.slow

RELEASED = json.loads((Path(__file__).parent / "checks" / "released.json").read_text(encoding="utf-8"))
# The rule for accounts passes events to a queue, and no longer invokes the function itself.
REPLACED = {"aws_cloudwatch_event_target.events", "aws_lambda_permission.accounts"}
UPLOADED = {"terraform_data.package"}  # replaced by every new package: it runs the script that uploads it
STATE = "state/known_accounts.json"


def use(workspace: Workspace, version: str = "") -> None:
    """Replace the module of a workspace by that of a released version, or of this one; its state stays."""
    folder = workspace.module
    states = {path: path.read_bytes() for path in folder.glob("examples/*/*.tfstate")}
    added = {path: path.read_bytes() for path in folder.glob("examples/*/all_outputs.tf.json")}
    shutil.rmtree(folder)
    if version:
        commit = RELEASED[version]["commit"]
        archive = subprocess.run(
            ["git", "archive", commit, f"infra/{workspace.cloud}"], cwd=REPOSITORY, capture_output=True, check=False
        )
        if archive.returncode:
            pytest.skip(f"the history of this checkout does not reach back to {version} ({commit})")
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as opened:
            opened.extractall(workspace.folder, filter="data")
        if (script := folder / "publish.sh").exists():  # it uploads the package with commands that have no stand-in
            script.write_text("exit 0\n", encoding="utf-8")
    else:
        shutil.copytree(REPOSITORY / "infra" / workspace.cloud, folder)
    for path, content in {**states, **added}.items():
        path.write_bytes(content)


def removed(workspace: Workspace, folder: Path) -> set[str]:
    """Plan the upgrade, and return the addresses in the module that it would delete or replace."""
    workspace.init(folder)
    planned = workspace.terraform(folder, "plan", "-out=upgrade.tfplan", "-no-color")
    assert planned.code == 0, planned
    changes = json.loads(workspace.terraform(folder, "show", "-json", "upgrade.tfplan").text)["resource_changes"]
    assert changes
    return {
        one["address"].partition(".")[2].partition(".")[2].partition("[")[0]
        for one in changes
        if "delete" in one["change"]["actions"]
    }


@pytest.mark.parametrize("version", RELEASED)
def test_upgrade_on_aws_keeps_bucket_identity_and_data(version: str, tmp_path: Path) -> None:
    """Only the target of the rule for accounts is replaced; the state document stays, and a second plan is empty."""
    terraform.binary()
    workspace = Workspace(tmp_path, "aws", init_arguments=terraform.plugin_arguments("aws"))
    use(workspace, version)
    with ZipFile(workspace.package, "w") as archive:
        archive.writestr("aws_lambda/handler.py", "")
    with LocalAws(bare=True) as cloud:
        cloud.client("organizations").create_organization(FeatureSet="ALL")
        cloud.client("cloudformation").activate_organizations_access()
        workspace.environment |= {**cloud.environment(), "TF_VAR_external_id": EXTERNAL_ID}
        folder = tmp_path / "root"
        folder.mkdir()
        (folder / "main.tf.json").write_text(json.dumps(_root(workspace)), encoding="utf-8")
        workspace.init(folder)
        done = workspace.terraform(folder, "apply", "-auto-approve", "-no-color", "-parallelism=20")
        assert done.code == 0, done
        s3, bucket = cloud.client("s3"), f"tailpipe-dataexport-{cloud.account}"
        s3.put_object(Bucket=bucket, Key=STATE, Body=b"{}")

        use(workspace)
        (folder / "main.tf.json").write_text(json.dumps(_root(workspace)), encoding="utf-8")
        assert removed(workspace, folder) - REPLACED == set()
        done = workspace.terraform(folder, "apply", "-no-color", "-parallelism=20", "upgrade.tfplan")
        assert done.code == 0, done
        assert s3.get_object(Bucket=bucket, Key=STATE)["Body"].read() == b"{}"
        again = workspace.terraform(folder, "plan", "-detailed-exitcode", "-no-color")
        assert again.code == 0, again


@pytest.mark.parametrize("cloud", ["azure", "gcp"])
@pytest.mark.parametrize("version", RELEASED)
def test_upgrade_plans_no_removal(version: str, cloud: str, tmp_path: Path) -> None:
    """Nothing that a released version made is deleted or replaced."""
    with stand_in_providers(Workspace(tmp_path, cloud)) as workspace:
        use(workspace, version)
        applied = apply(workspace, "minimal")
        assert applied.steps["apply"].code == 0, applied.steps["apply"]
        use(workspace)
        assert removed(workspace, applied.folder) - UPLOADED == set()


def _root(workspace: Workspace) -> dict[str, Any]:
    """Return a root module that calls the workspace's module with the defaults."""
    aliases = "aws.home" in (workspace.module / "versions.tf").read_text(encoding="utf-8")
    providers = [{"region": "eu-west-1"}, {"alias": "home", "region": "us-east-1"}]
    call = {
        "source": str(workspace.module),
        "package": str(workspace.package),
        "environment": "prod",
        "external_id": "${var.external_id}",
        "organizations_access": "require",
        **({"providers": {"aws": "aws", "aws.home": "aws.home"}} if aliases else {}),
    }
    return {
        "variable": {"external_id": {"type": "string", "sensitive": True}},
        "provider": {"aws": [{**one, "s3_use_path_style": True} for one in providers]},
        "module": {"tailpipe_exports": call},
    }
