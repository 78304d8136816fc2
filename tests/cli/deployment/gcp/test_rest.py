"""The operator's calls of Google's APIs."""

from __future__ import annotations

from contextlib import closing

import pytest

from cli.deployment.gcp.rest import DOCTOR, LOGIN, Google, refused
from cli.deployment.model import AGAIN, ANSWERS, CORRECT
from gcp_function import refusals
from localcloud.common.http_server import Response
from localcloud.common.wire_faults import WireFault
from localcloud.gcp.cloud import LocalGcp
from shared.errors import Denied, NotFound, NotUnderstood, Permanent, ReportedError, RunStopped, Transient

PAGE = b"<!DOCTYPE html><html><body>Sign in to the network</body></html>"


def test_page_in_place_of_a_deletion_deletes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy answered: the resource is still there, and the command may not report that it is gone."""
    with LocalGcp(accounts=1, done=1, history_days=1, rows=1, kinds=("standard",)) as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        (table,) = cloud.tables()
        path = f"bigquery/v2/projects/{cloud.project}/datasets/{cloud.deployment.dataset}/tables/{table}"
        google = Google(cloud.project)
        with closing(google.session):
            page = Response(200, {"Content-Type": "text/html"}, PAGE)
            cloud.faults.wire.begin(WireFault(range(1, 2), before=lambda _request: page))
            with pytest.raises(NotUnderstood, match="HTML page"):
                google.delete("bigquery", path)
            assert list(cloud.tables()) == [table]
            google.delete("bigquery", path)
            google.delete("bigquery", path)  # it is gone, as asked
        assert cloud.tables() == {}


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (Denied(refusals.ACCESS_DENIED, "no", refusals.RIGHTS_REMEDY), DOCTOR),
        (Denied(refusals.UNAUTHORIZED, "no", refusals.UNAUTHORIZED_REMEDY), DOCTOR),
        (Denied("vpc-service-controls", "no", "Admit the caller."), "Admit the caller."),
        (NotFound("notFound", "no", refusals.GONE_REMEDY), CORRECT),
        (Transient("connection", "no", refusals.PASSING_REMEDY), AGAIN),
        (Permanent("failedPrecondition", "no", refusals.UNKNOWN_REMEDY), CORRECT),
        (RunStopped("credentials", "no", refusals.CREDENTIALS_REMEDY), f"{LOGIN}."),
        (NotUnderstood("a call", "an HTML page"), ANSWERS),
    ],
)
def test_refused_call_has_a_remedy_for_an_operator(error: ReportedError, remedy: str) -> None:
    """The function's own remedies speak of its service account, and of a next run."""
    assert [one.remedy for one in refused(error).problems] == [remedy]
