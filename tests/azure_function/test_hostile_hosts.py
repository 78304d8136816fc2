"""Hosts in Azure's place: redirects are not followed, and what quotes a request shows no secret of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from azure.storage.blob import BlobServiceClient

from azure_function.clients import drop_clients
from azure_function.handler import run_once
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.request import RunRequest
from tests.azure_function.support import Lines, local_azure
from tests.hostile_servers import REDIRECTS, QuotingServer, RecordingServer, RedirectingServer, on_screen

PLACES = ("ARM_ENDPOINT", "BLOB_ENDPOINT", "STATE_ACCOUNT", "IDENTITY_ENDPOINT")

# The SDK closes a connection that it gives up in the middle of an odd answer only when it is collected: here, and not
# in whatever test happens to run by then.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def tenant(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant of two subscriptions."""
    with local_azure(subscriptions=2, azurite=azurite) as cloud:
        yield cloud
        drop_clients()


def everything_said(cloud: LocalAzure, place: str, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run once and return all that the run leaves behind: log, report, terminal, stored state and reports."""
    lines = Lines()
    environment = cloud.environment()
    if place == "IDENTITY_ENDPOINT":
        environment |= {"ARM_TOKEN": ""}
        monkeypatch.setenv("IDENTITY_HEADER", environment["IDENTITY_HEADER"])
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{url}/msi/token")
        environment["IDENTITY_ENDPOINT"] = f"{url}/msi/token"
    else:
        environment[place] = f"{url}/tailpipehost" if place == "STATE_ACCOUNT" else url
    drop_clients()
    report = run_once(RunRequest(), environment, lines, cloud.clock, 3300, seed=1).report
    drop_clients()
    service = BlobServiceClient.from_connection_string(cloud.environment()["AzureWebJobsStorage"])
    container = service.get_container_client("tailpipe-state")
    stored = []
    if container.exists():
        stored = [container.download_blob(name).readall().decode() for name in container.list_blob_names()]
    service.close()
    return " ".join([lines.text(), json.dumps(report), on_screen(report), *stored])


@pytest.mark.parametrize("place", PLACES)
def test_no_redirect_to_another_host_is_followed(
    tenant: LocalAzure, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the status, nobody is called at the other host, and no credential gets there."""
    with RecordingServer() as elsewhere:
        for status in REDIRECTS if place == "ARM_ENDPOINT" else (302, 307):
            with RedirectingServer(elsewhere.url, status) as redirecting:
                url = redirecting.url.replace("localhost", "127.0.0.1")
                everything_said(tenant, place, url, monkeypatch)
                assert redirecting.seen, place
        assert elsewhere.seen == []


@pytest.mark.parametrize("place", PLACES)
def test_an_error_that_quotes_the_request_shows_no_secret(
    tenant: LocalAzure, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token, signature and identity header of the quoted request appear nowhere: log, report, terminal, state."""
    form = "arm" if place in ("ARM_ENDPOINT", "IDENTITY_ENDPOINT") else "xml"
    for status, shape in ((403, form), (200, "page")):
        with QuotingServer(shape, status) as proxy:
            said = everything_said(tenant, place, proxy.url, monkeypatch)
            secrets = proxy.secrets()
            assert secrets, place
            assert [one for one in secrets if one in said] == [], f"{place} {status}"
