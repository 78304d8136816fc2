"""Hosts in Google's place: redirects are not followed, and what quotes a request shows no secret of it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gcp_function.handler import run_once
from gcp_function.settings import ENDPOINTS, METADATA
from localcloud.gcp.cloud import LocalGcp
from shared.errors import CloudError
from shared.request import RunRequest
from tests.elsewhere import REDIRECTS, Elsewhere, Quoting, Redirecting, on_screen
from tests.gcp_function.support import Lines, local_gcp

PLACES = (*ENDPOINTS.values(), METADATA)

# The SDK closes a connection that it gives up in the middle of an odd answer only when it is collected: here, and not
# in whatever test happens to run by then.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def project() -> Iterator[LocalGcp]:
    """Return a project with one account."""
    with local_gcp(accounts=1, done=1, history_days=1) as cloud:
        yield cloud


def everything_said(cloud: LocalGcp, place: str, url: str) -> str:
    """Run once and return what it leaves behind: log, report, terminal, stored state and reports, or its error."""
    lines = Lines()
    host = cloud.endpoint.removeprefix("http://")
    environment = {
        **cloud.environment(),
        METADATA: host,
        place: url.removeprefix("http://") if place == METADATA else url,
    }
    if place == ENDPOINTS["secretmanager"]:
        # The secret is read only when a message is due, as the weekly digest is for a function without a state.
        environment |= {"NOTIFY_URL": f"projects/{cloud.project}/secrets/webhook", "NOTIFY_DIGEST": "weekly"}
        cloud.delete_objects(cloud.deployment.state_bucket)
    try:
        report = run_once(RunRequest(), environment, lines, cloud.clock, 900, seed=1).report
    except CloudError as error:
        return f"{lines.text()} {error} {error.message} {error.remedy}"
    bucket = cloud.world.buckets.find(f"tailpipe-state-{cloud.project}")
    stored = [str(bucket.objects.get(bucket.name, name).content) for name in bucket.objects.names()]
    return " ".join([lines.text(), json.dumps(report), on_screen(report), *stored])


@pytest.mark.parametrize("place", PLACES)
def test_no_redirect_to_another_host_is_followed(project: LocalGcp, place: str) -> None:
    """Whatever the status, nobody is called at the other host, and no credential gets there."""
    with Elsewhere() as elsewhere:
        for status in REDIRECTS if place == "STORAGE_EMULATOR_HOST" else (302, 307):
            with Redirecting(elsewhere.url, status) as redirecting:
                everything_said(project, place, redirecting.url.replace("localhost", "127.0.0.1"))
                assert redirecting.seen, place
        assert elsewhere.seen == []


@pytest.mark.parametrize("place", PLACES)
def test_an_error_that_quotes_the_request_shows_no_secret(project: LocalGcp, place: str) -> None:
    """The token of the quoted request appears nowhere: log, report, terminal, state, error."""
    for status, shape in ((403, "arm"), (200, "page")):
        with Quoting(shape, status) as proxy:
            said = everything_said(project, place, proxy.url)
            secrets = proxy.secrets()
            assert secrets or place == METADATA, place
            assert [one for one in secrets if one in said] == [], f"{place} {status}"
