"""`deploy` and `destroy` on GCP with a Terraform double; everything else is real."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.deployment.gcp.operator import GcpOperator
from cli.deployment.terraform.root_module import INFRA
from cli.local.gcp import runtime
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from tests.cli.support.operating import package, terraform
from tests.cli.support.processes import TAILPIPE, call, local_cloud
from tests.cli.support.terraform_double import TerraformDouble, change
from tests.limits import HANG_S
from tests.localcloud.control_client import ControlClient

__all__ = ["package", "terraform"]  # fixtures, which pytest finds by name
TENANT = "tenant-of-this-machine"
AUDIENCE = "https://audience.example.com"


def given(cloud: LocalGcp) -> tuple[str, ...]:
    """Return the flags that name the trusted principal."""
    values = {
        "environment": "prod",
        "tailpipe_tenant": TENANT,
        "tailpipe_issuer": cloud.world.issuer,
        "tailpipe_audience": AUDIENCE,
    }
    return tuple(part for name, value in values.items() for part in ("--var", f"{name}={value}"))


@pytest.fixture
def gcp(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Return a deployment with its function in the real runtime."""
    with LocalGcp(accounts=2, done=1, history_days=1, rows=2, runtime=runtime) as cloud:
        for name, value in cloud.environment().items():
            if not name.startswith("TF_VAR_"):
                monkeypatch.setenv(name, value)
        # A call by address returns immediately; for a call by schedule, the command waits for the report.
        cloud.set_ingress("ALLOW_ALL")
        yield cloud


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def existing(cloud: LocalGcp) -> list[dict[str, Any]]:
    """Return planned resources of which all but the last exist."""
    return [
        change("google_storage_bucket.export", name=cloud.deployment.bucket, project=cloud.project),
        change("google_bigquery_dataset.export", dataset_id="billing_export", project=cloud.project),
        change("google_service_account.connector", account_id="tailpipe-connector", project=cloud.project),
        change("google_monitoring_notification_channel.email", display_name="new", project=cloud.project),
    ]


def test_dry_run_renders_the_root_module_and_creates_nothing(
    gcp: LocalGcp, terraform: TerraformDouble, package: str
) -> None:
    """The values are passed in the environment; nothing is applied, and no state is created.

    The warning about alarms without a receiver has the number of alarms in the plan.
    """
    alarms = [change(f'google_monitoring_alert_policy.this["{one}"]', display_name=f"new {one}") for one in range(3)]
    terraform.plan([*existing(gcp), *alarms])
    gcp.clear_calls()
    result = tailpipe("deploy", "gcp", *given(gcp), "--var", package, "--dry-run")
    assert result.exit_code == 0, result.output
    planned = terraform.calls("plan")[0]
    module = planned.root["module"]["tailpipe"]
    declared = set(re.findall(r'variable "(\w+)"', (INFRA / "gcp" / "variables.tf").read_text(encoding="utf-8")))
    assert module["source"] == str(INFRA / "gcp")
    assert set(module) - {"source"} <= declared
    assert {name: json.loads(value) for name, value in planned.variables.items()} == {
        "TF_VAR_dataset_location": "US",
        "TF_VAR_environment": "prod",
        "TF_VAR_organization_id": "123456789012",
        "TF_VAR_package": "tailpipe-exports-gcp.zip",
        "TF_VAR_project_id": gcp.project,
        "TF_VAR_region": "us-central1",
        "TF_VAR_tailpipe_audience": AUDIENCE,
        "TF_VAR_tailpipe_issuer": gcp.world.issuer,
        "TF_VAR_tailpipe_tenant": TENANT,
    }
    assert planned.root["provider"]["google"]["project"] == gcp.project
    assert list(planned.root["terraform"]["backend"]) == ["local"]
    assert terraform.calls("apply") == []
    writes = [one.method for one in gcp.calls.select() if re.search(r"insert|patch|delete|update|run$", one.method)]
    assert writes == []
    assert "nothing was created" in result.stderr
    assert "Warning: the 3 alarms of this deployment notify no one." in " ".join(result.stderr.split())


def test_deployment_adopts_applies_invokes_verifies_and_prints_the_onboarding(
    gcp: LocalGcp, terraform: TerraformDouble, package: str
) -> None:
    """The second plan imports existing resources; after the apply the function runs, and stdout has the document."""
    terraform.plan(existing(gcp))
    result = tailpipe("deploy", "gcp", *given(gcp), "--var", package, "--yes")
    assert result.exit_code == 0, result.output
    first, second = terraform.calls("plan")
    assert "imports.tf.json" not in first.files
    imported = {one["to"]: one["id"] for one in json.loads(second.files["imports.tf.json"])["import"]}
    assert imported == {
        "module.tailpipe.google_storage_bucket.export": f"{gcp.project}/{gcp.deployment.bucket}",
        "module.tailpipe.google_bigquery_dataset.export": f"projects/{gcp.project}/datasets/billing_export",
        "module.tailpipe.google_service_account.connector": (
            f"projects/{gcp.project}/serviceAccounts/{gcp.deployment.connector}"
        ),
    }
    bucket = f"tailpipe-terraform-{gcp.project}"
    assert second.root["terraform"]["backend"]["gcs"] == {"bucket": bucket, "prefix": "tailpipe-exports"}
    assert gcp.world.buckets.all[bucket].document["versioning"] == {"enabled": True}
    assert json.loads(result.stdout)["storage"]["bucket"] == gcp.deployment.bucket
    assert gcp.copies() != []
    assert "4 resources" not in result.stderr
    # No argument and no file contains a credential.
    for one in terraform.calls():
        assert OPERATOR not in json.dumps([one.argv, one.files])
        assert "local." not in json.dumps([one.argv, one.files, one.variables])


def test_failed_apply_is_reported_and_continued_by_the_next_call(
    gcp: LocalGcp, terraform: TerraformDouble, package: str, tmp_path: Path
) -> None:
    """Created resources stay in the state and are listed."""
    state = ("--local-state", str(tmp_path / "state"))
    terraform.plan(existing(gcp))
    terraform.break_at("google_service_account.connector")
    broken = tailpipe("deploy", "gcp", *given(gcp), "--var", package, "--yes", *state)
    assert broken.exit_code == 1
    assert "it broke" in broken.stderr
    assert "2 resources exist" in " ".join(broken.stderr.split())
    terraform.break_at("")
    assert tailpipe("deploy", "gcp", *given(gcp), "--var", package, "--yes", *state).exit_code == 0
    assert len(terraform.held()) == 4
    assert f"tailpipe-terraform-{gcp.project}" not in gcp.world.buckets.all


def test_missing_values_and_permissions_are_reported_before_the_plan(
    gcp: LocalGcp, terraform: TerraformDouble, package: str
) -> None:
    """All missing values are listed first, then all missing permissions."""
    values = tailpipe("deploy", "gcp", "--yes")
    assert values.exit_code == 1
    required = ("environment", "tailpipe_tenant", "tailpipe_issuer", "tailpipe_audience")
    assert all(f"{name} is required" in values.stderr for name in required)
    gcp.deny("storage.buckets.create", identity=OPERATOR)
    rights = tailpipe("deploy", "gcp", *given(gcp), "--var", package, "--yes")
    assert rights.exit_code == 1
    assert "storage.buckets.create" in rights.stderr
    assert terraform.calls("plan") == []


HELD = [
    "google_bigquery_dataset.export",
    'google_bigquery_dataset_iam_member.this["connector/ReadDataset"]',
    'google_bigquery_dataset_iam_member.this["function/ReadExports"]',
    "google_cloud_scheduler_job.this",
    "google_cloudfunctions2_function.this",
    "google_iam_workload_identity_pool.tailpipe",
    "google_iam_workload_identity_pool_provider.tailpipe",
    'google_project_iam_member.this["connector/ReadCopies"]',
    'google_project_iam_member.this["function/RunJobs"]',
    "google_service_account.connector",
    "google_service_account.function",
    "google_service_account_iam_member.connector",
    "google_storage_bucket.export",
    "google_storage_bucket.state",
]


@pytest.mark.parametrize(
    ("flags", "kept"),
    [
        ((), {"google_bigquery_dataset.export", "google_storage_bucket.export"}),
        (("--delete-exports", "--delete-data"), set()),
        (
            ("--keep-identity",),
            {
                one
                for one in HELD
                if "connector" in one
                or "workload_identity" in one
                or one in ("google_bigquery_dataset.export", "google_storage_bucket.export")
            },
        ),
    ],
    ids=["default", "everything", "keep-identity"],
)
def test_removal_pauses_the_schedule_first_and_keeps_the_data(
    gcp: LocalGcp, terraform: TerraformDouble, tmp_path: Path, flags: tuple[str, ...], kept: set[str]
) -> None:
    """Kept resources are removed from the state and never destroyed."""
    terraform.hold(HELD)
    gcp.put_object("copies/1.parquet", "x")
    arguments = ("destroy", "gcp", *flags, "--local-state", str(tmp_path / "state"))
    gcp.clear_calls()
    shown = tailpipe(*arguments, "--dry-run")
    assert (shown.exit_code, terraform.held(), terraform.calls("apply")) == (2, HELD, []), shown.stderr
    assert f"{len(HELD) - len(kept)} to remove" in shown.stderr
    assert not [one.method for one in gcp.calls.select() if re.search(r"insert|patch|delete|update|pause", one.method)]
    refused = tailpipe(*arguments, "--confirm", "another-project")
    assert (refused.exit_code, terraform.calls("apply")) == (1, [])
    result = tailpipe(*arguments, "--confirm", gcp.project)
    assert result.exit_code == 0, result.output
    forgotten = {
        one.removeprefix("module.tailpipe.")
        for removal in terraform.calls("state", "rm")
        for one in removal.argv[2:]
        if not one.startswith("-")
    }
    assert forgotten == kept
    assert terraform.held() == []
    paused = next(one for one in gcp.calls.select() if one.method.endswith("jobs.pause"))
    (applied,) = terraform.calls("apply")
    assert paused.at < datetime.fromtimestamp(applied.at, paused.at.tzinfo)
    assert "module" not in applied.root
    assert (gcp.copies() == []) == ("--delete-data" in flags)
    assert (gcp.tables() == {}) == ("--delete-data" in flags)


def test_lost_state_of_a_project_is_reported_with_a_remedy(gcp: LocalGcp, terraform: TerraformDouble) -> None:
    """The removal does nothing; a new deployment adopts what exists."""
    result = tailpipe("destroy", "gcp", "--confirm", gcp.project)
    assert result.exit_code == 1
    assert "tailpipe-exports deploy gcp" in result.stderr
    assert terraform.calls("init") == []


def test_values_are_validated_by_the_modules_rules_first(gcp: LocalGcp, package: str) -> None:
    """A real terraform reports every problem together, and no backend is created."""
    if not (shutil.which("terraform") or shutil.which("tofu")):
        pytest.skip("neither terraform nor tofu is on the PATH")
    gcp.clear_calls()
    issuer = ("tailpipe_issuer=http://issuer.example.com", "tailpipe_audience=*")
    wrong = ("environment=staging", "tailpipe_tenant=a b", "memory_mb=lots", package, *issuer)
    result = tailpipe("deploy", "gcp", "--yes", *(part for one in wrong for part in ("--var", one)))
    told = " ".join(result.stderr.split())
    assert (result.exit_code, result.stdout) == (1, "")
    assert 'Write environment = "prod"' in told
    assert "Write tailpipe_tenant as Tailpipe's onboarding page shows it" in told
    assert "Write tailpipe_issuer as Tailpipe's onboarding page shows it" in told
    assert "Write tailpipe_audience as Tailpipe's onboarding page shows it" in told
    assert "memory_mb is refused Write it as a number." in told
    assert "main.tf.json" not in told
    assert not [call.method for call in gcp.calls.select(identity=OPERATOR) if "storage" in call.method]


def test_terraform_stores_its_state_in_the_created_bucket(
    gcp: LocalGcp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real terraform, if installed, locks, writes and reads its state there."""
    binary = shutil.which("terraform") or shutil.which("tofu")
    if binary is None:
        pytest.skip("neither terraform nor tofu is on the PATH")
    operator = GcpOperator.open({})
    operator.make_backend(lambda _line: None)
    backend = operator.backend()
    bucket = str(backend.configuration["bucket"])
    # Google's Go client sends no token to an emulator, and calls without a token have the function's identity.
    gcp.grant("roles/storage.objectAdmin", f"buckets/{bucket}")
    document = {
        "terraform": {"backend": {backend.type: dict(backend.configuration)}},
        "resource": {"terraform_data": {"one": {"input": "kept"}}},
    }
    (tmp_path / "main.tf.json").write_text(json.dumps(document), encoding="utf-8")
    monkeypatch.setenv("CHECKPOINT_DISABLE", "1")
    monkeypatch.setenv("TF_INPUT", "0")

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [binary, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("init", "-no-color")
    run("apply", "-no-color", "-auto-approve")
    assert gcp.objects(bucket) == ["tailpipe-exports/default.tfstate"]
    assert "terraform_data.one" in run("state", "list")


@pytest.mark.slow  # that of AWS proves the same of the same commands, and the tests above run these in process
def test_commands_work_as_processes_with_the_local_clouds_variables() -> None:
    """The installed tool invokes the function, prints the onboarding document and reports a missing permission."""
    with local_cloud("gcp", "--accounts", "2", "--history-days", "1", "--rows", "2") as cloud:
        ran = call([TAILPIPE, "invoke", "gcp", "--json"], cloud.variables)
        assert (ran.returncode, json.loads(ran.stdout)["status"]) == (0, "ok"), ran.stderr
        shown = call([TAILPIPE, "onboarding", "gcp"], cloud.variables)
        assert json.loads(shown.stdout)["platform"] == "gcp"
        ControlClient(cloud.variables["GOOGLE_API_ENDPOINT"]).deny(
            permission="run.services.setIamPolicy", identity=OPERATOR
        )
        lacking = call([TAILPIPE, "doctor", "gcp"], cloud.variables)
        assert lacking.returncode == 1
        assert "run.services.setIamPolicy on project" in lacking.stderr
        assert cloud.end(signal.SIGTERM) == 0
