"""Helpers of the operator commands' tests on Azure: a tenant, and calls of the tool."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli.deployment.azure.rights import ROLE, ROLE_NAME
from cli.local.azure import _start
from cli.main import main
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.iam.rights import Role
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.services.directory import made_up_id


@contextmanager
def tenant(subscriptions: int = 3, bare: bool = False, **options: object) -> Iterator[LocalAzure]:
    """Yield a local tenant whose function app runs the function of this checkout."""
    options = {"limits": UNLIMITED, **options}
    with LocalAzure(subscriptions=subscriptions, bare=bare, start=_start, **options) as cloud:  # type: ignore[arg-type]  # passed to LocalAzure
        yield cloud


def sign_in(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the local tenant's variables in this process, and no others of Azure."""
    for name in ("AZURE_SUBSCRIPTION_ID", "ARM_SUBSCRIPTION_ID", "TAILPIPE_EXPORTS_FUNCTION_NAME", "AZURE_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)


def hold_shipped_role(azure: LocalAzure) -> None:
    """Replace the operator's ownership by the custom role that is shipped, at the root management group."""
    actions = tuple(json.loads(ROLE.read_text(encoding="utf-8"))["Actions"])
    shipped = Role(made_up_id("shipped role"), ROLE_NAME, actions, custom=True)
    rights = azure.world.rights
    rights.roles[shipped.id] = shipped
    for one in rights.of(OPERATOR):
        rights.remove(one.id)
    root = f"/providers/Microsoft.Management/managementGroups/{azure.tenant}"
    rights.assign(root, OPERATOR, shipped.id, made_up_id("shipped role's assignment"))


def denied(azure: LocalAzure) -> list[str]:
    """Return the calls of the operator that Azure refused for want of a right."""
    return [f"{one.action} at {one.resource}" for one in azure.calls if one.app == OPERATOR and one.status == 403]


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def said(result: Result) -> str:
    """Return what a command said to people, in one line."""
    return " ".join(result.stderr.split())


def template_variables(folder: Path) -> list[str]:
    """Return the arguments of a deployment by templates, whose accounts the emulator has."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in ("host.json", "function_app.py", ".python_packages/lib/site-packages/one.py"):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            opened.writestr(entry, "{}")
    (folder / "given.zip").write_bytes(archive.getvalue())
    given = {
        "environment": "prod",
        "location": "westeurope",
        "storage_account_name": "tailpipedataexport00",
        "host_storage_account_name": "tailpipehost",
        "package": str(folder / "given.zip"),
        "settings": '{BACKFILL_MONTHS = "0"}',
    }
    return [part for name, value in given.items() for part in ("--var", f"{name}={value}")]
