"""Deliveries on GCP from the real runtime to Tailpipe's reader, which rebuilds the data from the documents alone."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import google_crc32c
import pytest
from google.api_core.exceptions import NotFound

from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework
from shared.deliveries.document import CURRENT, DELTAS
from shared.runtime.clock import VirtualClock
from tests.readers.deltas import Changed, DeltaReader
from tests.readers.gcp import ONCE, Reader

FUNCTION = "cli.demo.gcp_app:reconcile"  # the real handler, on the local cloud's virtual clock


@pytest.fixture
def gcp() -> Iterator[LocalGcp]:
    """Return a project with one billing account, whose standard export has three days, and a topic of deliveries."""
    with LocalGcp(1, clock=VirtualClock(), done=1, kinds=("standard",), history_days=3, rows=4) as cloud:
        cloud.announce_deliveries()
        yield cloud


@pytest.fixture
def function(gcp: LocalGcp, repository: Path) -> Iterator[FunctionsFramework]:
    """Return the function as Cloud Run serves it, with deliveries announced."""
    chosen = {"EXPORTS": "standard", "COPY": "standard", "DELTAS": "1", "DELIVERY_TOPIC": gcp.deployment.delivery_topic}
    with FunctionsFramework(FUNCTION, {**gcp.environment(), **chosen}, source=repository, grace_s=1) as serving:
        yield serving


@pytest.fixture
def tailpipe(gcp: LocalGcp) -> Iterator[Reader]:
    """Return Tailpipe's reader with the connector's permissions."""
    document = {
        "project": {"id": gcp.project},
        "storage": {"bucket": gcp.deployment.bucket, "datasetFullPath": f"{gcp.project}.{gcp.deployment.dataset}"},
    }
    with closing(Reader(gcp.endpoint, gcp.deployment.connector, document)) as found:
        yield found


class Follower:
    """Follows the deliveries with Tailpipe's reader, and parses what it fetched."""

    def __init__(self, tailpipe: Reader, bucket: str, folder: Path) -> None:
        self._tailpipe, self._bucket, self._folder = tailpipe, bucket, folder
        self.deltas = DeltaReader(self._names, self._read, self._fetch)

    def rows(self) -> list[str]:
        """Return all rows, sorted."""
        return sorted(self.deltas.rows(self.parse))

    def parse(self, _name: str, content: bytes) -> list[str]:
        """Return the rows of a Parquet file."""
        path = self._folder / "file.parquet"
        path.write_bytes(content)
        with duckdb.connect() as engine:
            return [str(one) for one in engine.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()]

    def full_read(self) -> list[str]:
        """Return the rows of all files that the manifests list now, sorted."""
        manifests = [json.loads(self._tailpipe.read(name)) for name in self._tailpipe.manifests()]
        names = [file["name"] for manifest in manifests for file in manifest["files"]]
        return sorted(row for name in names for row in self.parse(name, self._tailpipe.read(name)))

    def _names(self, prefix: str) -> list[str]:
        return [one.name for one in self._tailpipe.storage.list_blobs(self._bucket, prefix=prefix, retry=ONCE)]

    def _read(self, name: str) -> bytes | None:
        try:
            return self._tailpipe.read(name)
        except NotFound:
            return None

    def _fetch(self, said: Mapping[str, Any]) -> bytes:
        content = self._read(said["name"])
        if content is None or _checksum(content) != said["checksum"]:
            raise Changed(said["name"])
        return content


def _checksum(content: bytes) -> str:
    return f"crc32c:{base64.b64encode(google_crc32c.value(content).to_bytes(4, 'big')).decode()}"


def run(gcp: LocalGcp, function: FunctionsFramework) -> None:
    """Run the function once, an hour after the last run, and require that the run was ok."""
    gcp.advance(3600)
    done = function.invoke()
    assert isinstance(done.payload, dict), done
    assert (done.status, done.payload["status"]) == (200, "ok"), done.payload


def test_a_reader_that_follows_documents_or_events_has_the_rows_of_a_full_read(
    gcp: LocalGcp, function: FunctionsFramework, tailpipe: Reader, tmp_path: Path
) -> None:
    """After late rows, a deleted copy, deleted days, repeated and lost events, and from any point of the chain."""
    (account,) = gcp.accounts()
    run(gcp, function)
    days = sorted({name.split("/")[1] for name in gcp.copies(account)})
    follower, listener = (Follower(tailpipe, gcp.deployment.bucket, tmp_path) for _ in range(2))
    received = _events(gcp)
    listener.deltas.events(received)
    follower.deltas.look(f"standard/{account}/")
    assert follower.rows() == listener.rows() == follower.full_read()
    assert len(received) == len(days) == 3
    gcp.event_faults(copies=2)
    gcp.late_data(account, days[0])
    gcp.delete_copy(account, days[1])
    run(gcp, function)
    received = _events(gcp)
    assert len(received) == 4
    listener.deltas.events(reversed(received))
    gcp.event_faults(loss=1)
    gcp.late_data(account, days[0])
    gcp.delete_rows(account, days[2])
    gcp.delete_copy(account, days[2])
    run(gcp, function)
    assert _events(gcp) == []
    gcp.event_faults()
    gcp.late_data(account, days[0])
    run(gcp, function)
    listener.deltas.events(_events(gcp))
    newcomer = Follower(tailpipe, gcp.deployment.bucket, tmp_path)
    for one in (follower, listener, newcomer):
        one.deltas.look(f"standard/{account}/")
    assert follower.rows() == listener.rows() == newcomer.rows() == follower.full_read()
    assert len(follower.rows()) == sum(gcp.tables().values())
    gcp.delete_objects(prefix=DELTAS)
    assert gcp.objects(prefix=CURRENT)
    late = Follower(tailpipe, gcp.deployment.bucket, tmp_path)
    late.deltas.look(f"standard/{account}/")
    assert late.rows() == follower.rows()


def _events(gcp: LocalGcp) -> list[dict[str, Any]]:
    """Return the events that the subscription has received since the last call."""
    return [json.loads(base64.b64decode(one["data"])) for one in gcp.published()]
