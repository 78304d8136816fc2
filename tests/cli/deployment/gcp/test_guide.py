"""Every command of the Google Cloud guide runs against the local cloud with only its exported variables."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from localcloud.gcp.cloud import LocalGcp
from tests.infra.planning import REPOSITORY
from tests.limits import HANG_S

GUIDE = REPOSITORY / "docs" / "gcp.md"
# Signing in happens at Google, so it cannot be tested.
SIGN_IN = "gcloud auth application-default login"
# The content of the file that the guide stores as a secret.
WEBHOOK = "https://hooks.example.com/services/one?two>three"
# The API of each group of gcloud commands, by the name of its override.
GROUPS = {
    "services": "serviceusage",
    "scheduler": "cloudscheduler",
    "secrets": "secretmanager",
    "storage": "storage",
    "logging": "logging",
    "pubsub": "pubsub",
}
# The variables by which the provider finds the API of each of the module's resources (its "Custom endpoints").
PROVIDER = {
    "google_artifact_registry": "ARTIFACT_REGISTRY",
    "google_bigquery": "BIG_QUERY",
    "google_billing_account": "CLOUD_BILLING",
    "google_cloud_run_v2": "CLOUD_RUN_V2",
    "google_cloud_scheduler": "CLOUD_SCHEDULER",
    "google_cloud_tasks": "CLOUD_TASKS",
    "google_cloudfunctions2": "CLOUDFUNCTIONS2",
    "google_iam_workload": "IAM_BETA",
    "google_logging": "LOGGING",
    "google_monitoring": "MONITORING",
    "google_organization_iam": "RESOURCE_MANAGER",
    "google_project_service": "SERVICE_USAGE",
    "google_project": "RESOURCE_MANAGER",
    "google_pubsub": "PUBSUB",
    "google_service_account": "IAM",
    "google_storage": "STORAGE",
}


def commands() -> list[str]:
    """Return the commands in the guide's blocks, without comments."""
    blocks = re.findall(r"^```\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [re.sub(r"\s{2,}#.*$", "", line).strip() for block in blocks for line in block.splitlines()]
    inline = re.findall(r"`(gcloud [^`]+)`", GUIDE.read_text(encoding="utf-8"))
    return [line for line in [*lines, *inline] if line and " " in line]


def of_gcloud() -> list[str]:
    """Return the guide's gcloud commands that can be tested."""
    return [line for line in commands() if line.startswith("gcloud ") and line != SIGN_IN]


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalGcp]:
    """Return a deployment with a topic of deliveries, whose function is not run."""
    with LocalGcp(accounts=2, done=1) as found:
        found.announce_deliveries()
        yield found


def environment(cloud: LocalGcp, home: Path) -> dict[str, str]:
    """Return the environment of a shell with only the local cloud's variables."""
    return {"PATH": os.environ["PATH"], "HOME": str(home), "CLOUDSDK_CONFIG": str(home), **cloud.environment()}


def test_guide_has_commands_of_each_tool() -> None:
    """Otherwise the tests below would test nothing."""
    tools = {Path(shlex.split(line)[0]).name for line in commands()}
    assert tools >= {"gcloud", "terraform", "tailpipe-exports", "export"}
    assert len(of_gcloud()) >= 4


def test_every_gcloud_command_uses_the_local_cloud(cloud: LocalGcp) -> None:
    """Each group's API has a loopback override, and the project and a local token are set."""
    variables = cloud.environment()
    for line in of_gcloud():
        service = GROUPS[shlex.split(line)[1]]
        assert urlsplit(variables[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}"]).hostname == "127.0.0.1", line
    assert variables["CLOUDSDK_CORE_PROJECT"] == cloud.project
    assert Path(variables["CLOUDSDK_AUTH_ACCESS_TOKEN_FILE"]).read_text() == variables["GOOGLE_OAUTH_ACCESS_TOKEN"]


def test_every_resource_of_the_module_uses_the_local_cloud(cloud: LocalGcp) -> None:
    """A plan with these variables makes no call to Google."""
    variables = cloud.environment()
    text = "".join(path.read_text(encoding="utf-8") for path in sorted((REPOSITORY / "infra" / "gcp").glob("*.tf")))
    for kind in sorted(set(re.findall(r'^(?:resource|data) "(google_\w+)"', text, re.MULTILINE))):
        product = max((prefix for prefix in PROVIDER if kind.startswith(prefix)), key=len)
        address = variables[f"GOOGLE_{PROVIDER[product]}_CUSTOM_ENDPOINT"]
        assert (urlsplit(address).hostname, address[-1]) == ("127.0.0.1", "/"), kind


def test_every_variable_of_the_guide_is_exported(cloud: LocalGcp) -> None:
    """The trusted principal has values that match the local deployment."""
    wanted = {name for line in commands() if line.startswith("export ") for name in re.findall(r"(\w+)=", line)}
    assert wanted <= set(cloud.environment())
    assert cloud.environment()["TF_VAR_tailpipe_issuer"] == cloud.world.issuer


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
@pytest.mark.parametrize("line", of_gcloud())
def test_gcloud_commands_of_the_guide_succeed(cloud: LocalGcp, tmp_path: Path, line: str) -> None:
    """Google's tool runs each command against the local cloud."""
    (tmp_path / "webhook.txt").write_text(WEBHOOK)
    if "jobs resume" not in line and "jobs pause" not in line:
        cloud.put_object("runs/one.json", "{}", cloud.deployment.state_bucket)
    done = subprocess.run(
        shlex.split(line),
        cwd=tmp_path,
        env=environment(cloud, tmp_path),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-500:]
    if " secrets create " in line:
        assert cloud.world.secrets["tailpipe-webhook"] == [WEBHOOK]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bq") is None, reason="bq is not installed")
def test_bq_command_of_the_manual_step_removes_the_expiration(cloud: LocalGcp, tmp_path: Path) -> None:
    """The function reports this command."""
    cloud.expire_tables(60)
    target = f"{cloud.project}:billing_export"
    line = ["bq", "update", "--default_table_expiration", "0", "--default_partition_expiration", "0", target]
    done = subprocess.run(
        line, env=environment(cloud, tmp_path), capture_output=True, text=True, timeout=HANG_S, check=False
    )
    assert done.returncode == 0, done.stdout[-500:]
    dataset = cloud.world.catalog.dataset(cloud.project, "billing_export")
    assert not any(int(dataset.extra.get(f"default{kind}ExpirationMs") or 0) for kind in ("Table", "Partition"))
