"""deploy, doctor, invoke and destroy with the launch templates, on the local Azure."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.platform.deployment import CONTAINER, TAILPIPE_APP
from tests.cli.support.azure import sign_in, tailpipe, tenant

TAILPIPE = "00000000-0000-0000-0000-00000000c0de"
HOLDING = ("--with", "native", "--yes")


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a tenant without a deployment but with Tailpipe's application, signed in."""
    with tenant(bare=True) as cloud:
        cloud.world.service_principals[TAILPIPE_APP] = TAILPIPE
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        yield cloud


@pytest.fixture
def variables(tmp_path: Path) -> list[str]:
    """Return the arguments of a deployment whose accounts the emulator has."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("host.json", "function_app.py", ".python_packages/lib/site-packages/one.py"):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            opened.writestr(entry, "{}")
    (tmp_path / "given.zip").write_bytes(archive.getvalue())
    given = {
        "environment": "prod",
        "location": "westeurope",
        "storage_account_name": "tailpipedataexport00",
        "host_storage_account_name": "tailpipehost",
        "package": str(tmp_path / "given.zip"),
        "settings": '{BACKFILL_MONTHS = "0"}',
    }
    return [part for name, value in given.items() for part in ("--var", f"{name}={value}")]


def said(result: Any) -> str:
    """Return what a command said to people, in one line."""
    return " ".join(str(result.stderr).split())


def deployments(azure: LocalAzure) -> Mapping[str, Any]:
    """Return the deployments of templates by name."""
    return {
        one["name"]: one for one in azure.world.resources.values() if one["type"] == "Microsoft.Resources/deployments"
    }


def test_launch_template_is_deployed_proven_and_updated(azure: LocalAzure, variables: list[str]) -> None:
    """A dry run creates nothing; a second deployment has nothing to do; damage and updates are found."""
    shown = tailpipe("deploy", "azure", "--with", "native", "--dry-run", *variables)
    assert (shown.exit_code, azure.world.sites, deployments(azure)) == (0, {}, {}), shown.output
    made = tailpipe("deploy", "azure", *HOLDING, *variables)
    assert made.exit_code == 0, made.output
    assert azure.site.loads and azure.site.settings["MANAGEMENT_GROUP"] == azure.tenant
    assert len(azure.exports()) == len(azure.subscription_ids)
    assert json.loads(made.stdout)["storage"]["accountName"] == "tailpipedataexport00"
    again = tailpipe("deploy", "azure", *HOLDING, *variables)
    assert (again.exit_code, "nothing to change" in said(again) or "no changes" in said(again)) == (0, True), said(again)
