"""The upload of a blueprint for Infrastructure Manager, and the command that deploys it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from cli.deployment.gcp import blueprint, launch
from cli.deployment.model import OperatorError
from cli.deployment.terraform.variables import declared
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.services.object_files import read
from tests.cli.support.infra_manager import deployer, small_module
from tests.infra import terraform
from tests.limits import HANG_S

BUCKET = "blueprints"
VALUES = {"environment": "prod", "exports": ["standard"]}


@pytest.fixture
def cloud(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalGcp]:
    """Open a local Google Cloud with one bucket."""
    with LocalGcp(accounts=0, bare=True) as opened:
        for name, value in opened.environment().items():
            if not name.startswith("TF_VAR_"):
                monkeypatch.setenv(name, value)
        opened.deployment.make_bucket(opened.world, BUCKET)
        yield opened


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Return a file in place of the function's package."""
    path = tmp_path / "given.zip"
    path.write_bytes(b"PK")
    return path


def upload(archive: Path, address: str) -> list[tuple[str, str]]:
    """Upload with `VALUES`."""
    return launch.upload(archive, address, declared(blueprint.SOURCE), VALUES, lambda _line: None)


def test_blueprint_is_one_zip_file_with_the_package_and_the_given_values(cloud: LocalGcp, archive: Path) -> None:
    """The command names the version that was uploaded, and the account that deploys."""
    ((title, command),) = upload(archive, f"gs://{BUCKET}/some/")
    (name,) = cloud.objects(BUCKET)
    stored = cloud.world.buckets.all[BUCKET].objects.get(BUCKET, name)
    assert title == "deploy it with Infrastructure Manager"
    assert f"--gcs-source='gs://{BUCKET}/{name}#{stored.generation}'" in command
    assert command.startswith(
        f"gcloud infra-manager deployments apply projects/{cloud.project}/locations/us-central1/deployments/"
    )
    assert f"/serviceAccounts/tailpipe-deployer@{cloud.project}.iam.gserviceaccount.com" in command
    with zipfile.ZipFile(BytesIO(read(stored.content))) as made:
        assert made.read(blueprint.PACKAGE) == b"PK"
        assert json.loads(made.read(launch.VALUES)) == {
            **VALUES,
            "project_id": cloud.project,
            "region": "us-central1",
        }


def test_same_blueprint_has_the_same_name(cloud: LocalGcp, archive: Path) -> None:
    """A folder gets a name with the hash of the content; a name that ends with .zip is taken as it is."""
    upload(archive, f"gs://{BUCKET}")
    upload(archive, f"gs://{BUCKET}/")
    assert len(cloud.objects(BUCKET)) == 1
    upload(archive, f"gs://{BUCKET}/own/name.zip")
    assert "own/name.zip" in cloud.objects(BUCKET)


@pytest.mark.parametrize(
    ("address", "what", "remedy"),
    [
        ("s3://bucket/x/", "is not an address in Cloud Storage", "gs://BUCKET/FOLDER/"),
        ("gs://", "is not an address in Cloud Storage", "gs://BUCKET/FOLDER/"),
        (f"gs://{BUCKET}/folder", "does not end with .zip", "with / for a folder"),
        ("gs://absent/x/", "does not exist", "gcloud storage buckets create gs://absent"),
        ("gs://foreign/x/", "belongs to another project", "Name a bucket of this project"),
    ],
)
def test_unsuitable_address_is_refused_with_a_remedy(
    cloud: LocalGcp, archive: Path, address: str, what: str, remedy: str
) -> None:
    """Nothing is uploaded."""
    cloud.deployment.make_bucket(cloud.world, "foreign")
    cloud.world.buckets.all["foreign"].document["projectNumber"] = "1"
    with pytest.raises(OperatorError, match=what) as caught:
        upload(archive, address)
    assert remedy in caught.value.problems[0].remedy
    assert cloud.objects(BUCKET) == []


def test_operator_who_may_not_read_the_bucket_is_told_so(cloud: LocalGcp, archive: Path) -> None:
    """The bucket is treated as another project's."""
    cloud.deny("storage.buckets.get", identity=OPERATOR)
    with pytest.raises(OperatorError, match="or you may not read it"):
        upload(archive, f"gs://{BUCKET}/")


def test_package_prints_the_command_that_deploys_the_uploaded_blueprint(
    cloud: LocalGcp, archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the command is on standard output, so that a shell can run it."""
    monkeypatch.setattr("cli.package._built", lambda *_: SimpleNamespace(path=archive))
    words = ["package", "gcp", "--upload", f"gs://{BUCKET}/some/", "--var", "environment=prod"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.stderr
    (name,) = cloud.objects(BUCKET)
    (line,) = done.stdout.splitlines()
    assert line.startswith("gcloud infra-manager deployments apply ")
    assert f"gs://{BUCKET}/{name}#" in line


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed")
def test_googles_tool_deploys_the_uploaded_blueprint_and_deletes_it(
    cloud: LocalGcp, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs the printed command, locks and unlocks the deployment, and deletes it, with its own requests."""
    terraform.binary()
    deployer(cloud)
    monkeypatch.setattr(blueprint, "files", partial(blueprint.files, source=small_module(tmp_path / "module")))
    ((_, command),) = upload(archive, f"gs://{BUCKET}/")
    place = ("tailpipe-exports", "--location=us-central1")

    def gcloud(*words: str) -> str:
        home = {"HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path), "PATH": os.environ["PATH"]}
        done = subprocess.run(
            words, env={**cloud.environment(), **home}, capture_output=True, text=True, timeout=HANG_S, check=False
        )
        assert done.returncode == 0, done.stderr[-500:]
        return done.stdout

    gcloud(*shlex.split(command))
    group = ("gcloud", "infra-manager", "deployments")
    assert json.loads(gcloud(*group, "describe", *place, "--format=json"))["state"] == "ACTIVE"
    gcloud(*group, "lock", *place)
    lock = json.loads(gcloud(*group, "export-lock", *place, "--format=json"))["lockId"]
    gcloud(*group, "unlock", *place, f"--lock-id={lock}")
    gcloud(*group, "delete", *place, "--quiet")
    assert cloud.infra_manager.records.deployments == {}
