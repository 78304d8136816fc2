"""Hostile hosts instead of Google: the function follows no redirect and shows no secret of a quoted request."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from gcp_function.handler import run_for_tenants, run_once
from gcp_function.settings import ENDPOINTS, METADATA
from localcloud.gcp.cloud import LocalGcp
from shared.errors import CloudError
from shared.http import answer
from shared.request import RunRequest
from tests.gcp_function.events import EventFunction
from tests.gcp_function.support import Lines, local_gcp
from tests.hostile_servers import REDIRECTS, QuotingServer, RecordingServer, RedirectingServer, on_screen

PLACES = (*ENDPOINTS.values(), METADATA)

# The SDK closes the connection of an aborted response only on garbage collection. Collect here, so that the warning
# does not appear in an unrelated test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


@pytest.fixture(scope="module")
def project() -> Iterator[LocalGcp]:
    """Return a project with one account, and a tenant."""
    with local_gcp(accounts=1, done=1, history_days=1) as cloud:
        cloud.write_registry([cloud.add_tenant("acme")] if cloud.enable_tenants() else [])
        yield cloud


def all_output(cloud: LocalGcp, place: str, url: str) -> str:
    """Run once; return the log, report, terminal output, stored objects, or the run's error as one text."""
    lines = Lines()
    host = cloud.endpoint.removeprefix("http://")
    environment = {
        **cloud.function_environment(),
        METADATA: host,
        place: url.removeprefix("http://") if place == METADATA else url,
    }
    if place == ENDPOINTS["secretmanager"]:
        # The function reads the secret only when a message is due; without state, the weekly digest is due.
        environment |= {"NOTIFY_URL": f"projects/{cloud.project}/secrets/webhook", "NOTIFY_DIGEST": "weekly"}
        cloud.delete_objects(cloud.deployment.state_bucket)
    if place == ENDPOINTS["pubsub"]:
        cloud.emit_event("{}")
        function = EventFunction(cloud, **environment)
        function.deliver()
        return f"{function.lines.text()} {function.answers}"
    if place == ENDPOINTS["cloudtasks"]:
        body = b'{"round": {"step": "begin"}}'
        found = answer(lambda: run_for_tenants(body, {}, environment, lines, cloud.clock), lines)
        return f"{lines.text()} {found.body()}"
    request = RunRequest(tenant="acme" if place == ENDPOINTS["iamcredentials"] else "")
    try:
        report = run_once(request, environment, lines, cloud.clock, 900, seed=1).report
    except CloudError as error:
        return f"{lines.text()} {error} {error.message} {error.remedy}"
    bucket = cloud.world.buckets.find(f"tailpipe-state-{cloud.project}")
    stored = [str(bucket.objects.get(bucket.name, name).content) for name in bucket.objects.names()]
    return " ".join([lines.text(), json.dumps(report), on_screen(report), *stored])


@pytest.mark.parametrize("place", PLACES)
def test_redirect_to_another_host_is_not_followed(project: LocalGcp, place: str) -> None:
    """The other host receives no request for any redirect status, and thus no credentials."""
    with RecordingServer() as elsewhere:
        for status in REDIRECTS if place == "STORAGE_EMULATOR_HOST" else (302, 307):
            with RedirectingServer(elsewhere.url, status) as redirecting:
                all_output(project, place, redirecting.url.replace("localhost", "127.0.0.1"))
                assert redirecting.seen, place
        assert elsewhere.seen == []


@pytest.mark.parametrize("place", PLACES)
def test_secret_in_a_quoted_request_is_not_shown(project: LocalGcp, place: str) -> None:
    """The token of a quoted request appears in no log line, report, terminal output, state or error."""
    for status, shape in ((403, "arm"), (200, "page")):
        with QuotingServer(shape, status) as proxy:
            output = all_output(project, place, proxy.url)
            secrets = proxy.secrets()
            assert secrets or place == METADATA, place
            assert [one for one in secrets if one in output] == [], f"{place} {status}"
