"""Hosts that answer instead of Azure: no redirect is followed, and no secret of a quoted request is shown."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from azure.storage.blob import BlobServiceClient

from azure_function.clients import drop_clients
from azure_function.invocation import run_once
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from shared.request import RunRequest
from tests.azure_function.support import Lines, local_azure
from tests.hostile_servers import REDIRECTS, QuotingServer, RecordingServer, RedirectingServer, on_screen

PLACES = ("ARM_ENDPOINT", "BLOB_ENDPOINT", "STATE_ACCOUNT", "IDENTITY_ENDPOINT")

# The SDK leaves a connection open if it gives up within an invalid response; it is closed by garbage collection, which
# the fixture `collected` triggers here, so that the warning does not appear in another test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def tenant(azurite: Azurite) -> Iterator[LocalAzure]:
    """Return a tenant with two subscriptions."""
    with local_azure(subscriptions=2, azurite=azurite) as cloud:
        yield cloud
        drop_clients()


def output_of_run(cloud: LocalAzure, place: str, url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run once, and return everything it writes: log, report, terminal output, stored state and reports."""
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
def test_redirect_to_another_host_is_not_followed(
    tenant: LocalAzure, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other host receives no request, and so no credential."""
    with RecordingServer() as elsewhere:
        for status in REDIRECTS if place == "ARM_ENDPOINT" else (302, 307):
            with RedirectingServer(elsewhere.url, status) as redirecting:
                url = redirecting.url.replace("localhost", "127.0.0.1")
                output_of_run(tenant, place, url, monkeypatch)
                assert redirecting.seen, place
        assert elsewhere.seen == []


@pytest.mark.parametrize("place", PLACES)
def test_error_that_quotes_the_request_shows_no_secret(
    tenant: LocalAzure, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token, signature and identity header appear in no log, report, terminal output or state."""
    form = "arm" if place in ("ARM_ENDPOINT", "IDENTITY_ENDPOINT") else "xml"
    for status, shape in ((403, form), (200, "page")):
        with QuotingServer(shape, status) as proxy:
            output = output_of_run(tenant, place, proxy.url, monkeypatch)
            secrets = proxy.secrets()
            assert secrets, place
            assert [one for one in secrets if one in output] == [], f"{place} {status}"
