"""The installed command, Google's clients and a local GCP, each in a separate process."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.cli.support.processes import TAILPIPE, LocalCloud, call, local_cloud
from tests.localcloud.control_client import ControlClient

# Google's clients in their usual form: only the environment has the endpoints.
LOOK = """
import json, os
import google.auth
from google.auth.transport.requests import AuthorizedSession
from google.cloud import bigquery, storage

tables = bigquery.Client().list_tables(os.environ["BILLING_DATASET"])
objects = storage.Client().list_blobs(os.environ["EXPORT_BUCKET"])
credentials, project = google.auth.default()
session = AuthorizedSession(credentials)
accounts = session.get(os.environ["CLOUDSDK_API_ENDPOINT_OVERRIDES_CLOUDBILLING"] + "v1/billingAccounts").json()
print(json.dumps({
    "project": project,
    "tables": [table.table_id for table in tables],
    "objects": [blob.name for blob in objects],
    "accounts": [one["name"].split("/")[1] for one in accounts["billingAccounts"]],
}))
"""
DELETE = """
import os, sys
from google.cloud import storage

bucket = storage.Client().bucket(os.environ["EXPORT_BUCKET"])
for name in sys.argv[1:]:
    bucket.blob(name).delete()
"""


@pytest.fixture(scope="module")
def cloud() -> Iterator[LocalCloud]:
    """Return a local project with two billing accounts, one of which exports."""
    with local_cloud("gcp", "--accounts", "2", "--history-days", "2", "--rows", "3") as running:
        yield running


def tailpipe(variables: Mapping[str, str], *arguments: str) -> tuple[int, Any]:
    """Run the tool with --json and return its exit code and its report."""
    answer = call([TAILPIPE, *arguments, "--json"], variables)
    assert answer.stdout, answer.stderr
    return answer.returncode, json.loads(answer.stdout)


def python(variables: Mapping[str, str], source: str, *arguments: str) -> str:
    """Run a script with only the exported variables and return its output; fail the test if it fails."""
    answer = call([sys.executable, "-c", source, *arguments], variables)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


@pytest.mark.slow
def test_run_repairs_a_copy_deleted_by_googles_clients(cloud: LocalCloud) -> None:
    """The clients have only the exported variables."""
    variables = cloud.variables
    code, report = tailpipe(variables, "run", "gcp", "--yes")
    assert (code, report["status"]) == (0, "ok")
    assert report["scopes"]["manual"] == 1

    seen = json.loads(python(variables, LOOK))
    account = seen["accounts"][0].replace("-", "_")
    assert seen["project"] == variables["GOOGLE_CLOUD_PROJECT"]
    assert {f"gcp_billing_export_v1_{account}", f"gcp_billing_export_resource_v1_{account}"} <= set(seen["tables"])
    manifests = [name for name in seen["objects"] if name.endswith("/manifest.json")]
    assert len(manifests) == 4
    folder = manifests[0].removesuffix("manifest.json")
    lost = [name for name in seen["objects"] if name.startswith(folder)]
    python(variables, DELETE, *lost)

    code, report = tailpipe(variables, "plan", "gcp")
    assert (code, report["outcomes"]["CREATE"]) == (2, {"planned": 1})
    code, report = tailpipe(variables, "run", "gcp", "--yes")
    assert (code, report["outcomes"]["CREATE"]) == (0, {"done": 1})
    assert set(lost) & set(json.loads(python(variables, LOOK))["objects"])
    code, report = tailpipe(variables, "plan", "gcp")
    assert code == 0


def test_console_step_can_be_posted_to_the_local_cloud() -> None:
    """The next plan does not report the step."""
    with local_cloud("gcp", "--accounts", "2", "--history-days", "2", "--rows", "3") as cloud:
        endpoint = cloud.variables["GOOGLE_API_ENDPOINT"]
        remote = ControlClient(endpoint)
        waiting = list(remote.accounts())[-1]
        remote.console_step(account=waiting)
        remote.stream(days=1, rows=2, accounts=[waiting])
        _, report = tailpipe(cloud.variables, "plan", "gcp")
        assert report["manual"] == []
