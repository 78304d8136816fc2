"""Moves on Azure that have nothing to move; tests/e2e moves a deployment."""

from __future__ import annotations

import pytest

from tests.cli.support.azure import said, sign_in, tailpipe, template_variables, tenant
from tests.cli.support.operating import terraform
from tests.cli.support.terraform_double import TerraformDouble

__all__ = ["terraform"]  # a fixture, which pytest finds by name


@pytest.mark.parametrize(
    ("engine", "what", "remedy"),
    [
        ("native", "nothing is deployed here", "deploy azure --with native"),
        ("terraform", "no launch template is deployed here", "deploy azure"),
    ],
)
def test_move_of_nothing_is_refused(
    terraform: TerraformDouble, monkeypatch: pytest.MonkeyPatch, engine: str, what: str, remedy: str
) -> None:
    """It names the command that deploys, and calls Terraform only to validate the values."""
    with tenant(bare=True) as cloud:
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        result = tailpipe("migrate", "azure", "--to", engine, *template_variables(terraform.folder), "--yes")
        assert (result.exit_code, what in said(result), remedy in said(result)) == (1, True, True), said(result)
        assert (cloud.world.resources, terraform.calls("apply")) == ({}, [])
