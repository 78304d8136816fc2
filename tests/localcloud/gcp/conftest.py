"""Fixtures: Google's clients on a local GCP, with any identity."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import google.auth.transport.requests
import google.cloud.bigquery
import google.cloud.storage
import pytest
import requests
from google.oauth2.credentials import Credentials

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from shared.runtime.clock import VirtualClock
from tests.limits import HANG_S

START = datetime(2026, 3, 10, 12, tzinfo=UTC)
# The clients take None for "no retry", which BigQuery's annotations do not always declare.
NO_RETRY: Any = None
Opener = Callable[..., LocalGcp]


class Clients:
    """Clients of one local GCP for one identity (default: the function's)."""

    def __init__(self, cloud: LocalGcp, identity: str = "") -> None:
        self.cloud = cloud
        self._identity = identity or cloud.deployment.identity
        options = {"api_endpoint": cloud.endpoint}
        self.bigquery = google.cloud.bigquery.Client(
            project=cloud.project, credentials=self._credentials(), client_options=options
        )
        self.storage = google.cloud.storage.Client(
            project=cloud.project, credentials=self._credentials(), client_options=options
        )
        session = google.auth.transport.requests.AuthorizedSession
        self.session: requests.Session = session(self._credentials())  # type: ignore[no-untyped-call]  # google-auth is only partly typed

    def _credentials(self) -> Any:
        return Credentials(token=self._identity)  # type: ignore[no-untyped-call]  # google-auth is only partly typed

    def get(self, path: str, **parameters: Any) -> requests.Response:
        """Call a REST method that has no client here."""
        return self.session.get(f"{self.cloud.endpoint}/{path}", params=parameters, timeout=HANG_S)

    def post(self, path: str, body: Any) -> requests.Response:
        return self.session.post(f"{self.cloud.endpoint}/{path}", json=body, timeout=HANG_S)

    def close(self) -> None:
        self.bigquery.close()  # type: ignore[no-untyped-call]  # the library is only partly typed
        self.storage.close()
        self.session.close()


@pytest.fixture
def clock() -> VirtualClock:
    """Return a clock that shows noon of 10 March 2026 until it is advanced."""
    return VirtualClock(START)


@pytest.fixture
def opened(clock: VirtualClock) -> Iterator[Opener]:
    """Open local clouds on the virtual clock, and close them after the test."""
    with ExitStack() as stack:

        def opener(**settings: Any) -> LocalGcp:
            settings.setdefault("accounts", 3)
            return stack.enter_context(LocalGcp(clock=settings.pop("clock", clock), **settings))

        yield opener


@pytest.fixture
def clients() -> Iterator[Callable[..., Clients]]:
    """Create clients, and close them after the test."""
    made: list[Clients] = []

    def make(cloud: LocalGcp, identity: str = "") -> Clients:
        made.append(Clients(cloud, identity))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def gcp(opened: Opener, clients: Callable[..., Clients]) -> Clients:
    """Return the function's clients; two of three accounts have three days of exported data."""
    return clients(opened(history_days=3, rows=10))


@pytest.fixture
def operator(gcp: Clients, clients: Callable[..., Clients]) -> Clients:
    """Return clients with all permissions on the same cloud as `gcp`."""
    return clients(gcp.cloud, OPERATOR)
