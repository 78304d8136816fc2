"""What the tests of the operator's commands on Azure share: a tenant, and the commands as an operator calls them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner, Result

from cli.local.azure import _start
from cli.main import main
from localcloud.azure.cloud import LocalAzure


@contextmanager
def tenant(subscriptions: int = 3, bare: bool = False, **options: object) -> Iterator[LocalAzure]:
    """Yield a local tenant whose function app runs the function of this checkout."""
    with LocalAzure(subscriptions=subscriptions, bare=bare, start=_start, **options) as cloud:  # type: ignore[arg-type]  # the options are LocalAzure's own
        yield cloud


def sign_in(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give this process the variables that the local tenant exports, and no other of Azure."""
    for name in ("AZURE_SUBSCRIPTION_ID", "ARM_SUBSCRIPTION_ID", "TAILPIPE_EXPORTS_FUNCTION_NAME", "AZURE_CLOUD"):
        monkeypatch.delenv(name, raising=False)
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)
