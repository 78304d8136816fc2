"""Upload the blueprint of Infrastructure Manager, with the package inside, and print the command that deploys it."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cli.deployment.engine import Variable
from cli.deployment.gcp import blueprint
from cli.deployment.gcp.infra_manager_rest import InfraManagerRest
from cli.deployment.gcp.session import Session, open_session, translated
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.packaging import archive as archives
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.errors import Denied

VALUES = "terraform.tfvars.json"
_ADDRESS = re.compile(r"gs://([a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(\S*))?")


def upload(
    archive: Path, address: str, variables: Mapping[str, Variable], values: Mapping[str, Any], tell: Tell
) -> list[tuple[str, str]]:
    """Upload the blueprint as one zip file, and return the command that deploys it, with its title.

    The given `values` of the module's `variables` are in the blueprint, without those that are sensitive. Raises
    OperatorError.
    """
    bucket, folder = _parsed(address)
    session = open_session(values)
    given = {name: one for name, one in values.items() if not (name in variables and variables[name].sensitive)}
    given |= {"project_id": session.project, "region": session.region}
    content = blueprint.files(archive.read_bytes())
    content[VALUES] = json.dumps(given, indent=2).encode()
    with translated():
        _check_bucket(session, bucket)
        with tempfile.TemporaryDirectory(prefix="tailpipe-blueprint-") as name:
            path = Path(name, "blueprint.zip")
            digest = archives.write(path, content)
            key = folder if folder.endswith(".zip") else f"{folder}tailpipe-exports-gcp-{digest[:12]}.zip"
            made = session.google.upload(bucket, key, path.read_bytes())
    source = f"gs://{bucket}/{key}#{made['generation']}"
    tell(f"{source} is uploaded")
    return [("deploy it with Infrastructure Manager", command(session, source))]


def command(session: Session, source: str) -> str:
    """Return the command that creates or updates the deployment from an uploaded blueprint."""
    rest = InfraManagerRest(session)
    account = f"projects/{session.project}/serviceAccounts/{rest.account}"
    return (
        f"gcloud infra-manager deployments apply {rest.name} --gcs-source='{source}' --service-account={account} "
        f"--labels={MANAGED_BY}={MANAGER}"
    )


def _parsed(address: str) -> tuple[str, str]:
    """Return the bucket, and the object or the folder with a slash at its end."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise OperatorError(
            Problem(
                f"--upload {address[:100]!r} is not an address in Cloud Storage", "Write --upload gs://BUCKET/FOLDER/."
            )
        )
    name = found[2] or ""
    if name and not name.endswith(("/", ".zip")):
        raise OperatorError(
            Problem(f"--upload {address[:100]!r} does not end with .zip", "End it with .zip, or with / for a folder.")
        )
    return found[1], name


def _check_bucket(session: Session, bucket: str) -> None:
    """Refuse a bucket that does not exist or is another project's. Raises ReportedError for anything else.

    The agent's role lets the deploying account read the buckets of its own project only ("Configure the service
    account", Infrastructure Manager). Their location does not matter.
    """
    try:
        found = session.google.find("storage", f"storage/v1/b/{bucket}")
    except Denied:
        found = {}
    if found is None:
        raise OperatorError(
            Problem(
                f"bucket {bucket} does not exist",
                f"Create it: gcloud storage buckets create gs://{bucket} --project={session.project} "
                f"--location={session.region} --uniform-bucket-level-access --public-access-prevention",
            )
        )
    if str(found.get("projectNumber")) != session.number:
        raise OperatorError(
            Problem(
                f"bucket {bucket} belongs to another project than {session.project}, or you may not read it",
                "Name a bucket of this project, or grant storage.buckets.get on it.",
            )
        )
