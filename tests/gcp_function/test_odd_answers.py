"""Answers of success that are not Google's: empty, cut off, a gateway's page, odd shapes. Unknown is never absent."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from localcloud.gcp.cloud import LocalGcp
from tests.gcp_function.support import Lines, local_gcp, run

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
READS = (
    "storage.objects.list",
    "storage.buckets.get",
    "bigquery.jobs.query",
    "bigquery.datasets.get",
    "bigquery.datasets.list",
    "cloudbilling.billingAccounts.list",
    "cloudresourcemanager.projects.get",
    "serviceusage.services.batchGet",
)
EMPTY_IS_AN_ANSWER = ("cloudbilling.billingAccounts.list",)
WRITES = ("insert", "patch", "update", "delete", "copy", "rewrite", "setIamPolicy")


def breaks(read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a read's answer is broken."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    yield "another type", b"[1]"
    if read not in EMPTY_IS_AN_ANSWER:
        yield "no fields", b"{}"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalGcp]:
    """Return a project at rest."""
    with local_gcp() as cloud:
        assert run(cloud).report["status"] == "ok"
        cloud.advance(600)
        yield cloud


@pytest.mark.parametrize("read", READS)
def test_an_answer_that_is_not_understood_concludes_nothing(steady: LocalGcp, read: str) -> None:
    """Whatever a read is answered with, nothing is written; the run says what was not understood, with a remedy."""
    for name, body in breaks(read):
        steady.advance(600)
        steady.clear_calls()
        order = steady.world.faults.spoil(read, body)
        lines = Lines()
        finished = run(steady, sink=lines, verify_all=True)
        steady.world.faults.restore()
        written = [
            call.method
            for call in steady.calls.select()
            if call.method.rpartition(".")[2] in WRITES and "tailpipe-state" not in call.path
        ]
        assert written == [], f"{read} {name}"
        assert order.hits, f"{read} was not called"
        assert "not-understood" in lines.text() + json.dumps(finished.report), f"{read} {name}: {finished.report}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    steady.advance(600)
    assert run(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_a_state_that_was_damaged_on_its_way_is_read_again(steady: LocalGcp, body: bytes) -> None:
    """One bad answer to the state's read sets nothing aside."""
    order = steady.world.faults.spoil("storage.objects.get", body, times=1)
    lines = Lines()
    finished = run(steady, sink=lines)
    steady.world.faults.restore()
    assert order.hits == 1
    assert finished.report["status"] == "ok", finished.report
    assert "state-corrupt" not in lines.text()


@pytest.mark.parametrize("odd", ["01\ud80023", " 012345-6789AB-CDEF01", "01\u000023"])
def test_an_account_with_an_id_that_cannot_be_one_is_left_out_and_told(steady: LocalGcp, odd: str) -> None:
    """Half a character, blanks or control characters in an id cost that account; the listing is incomplete."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["billingAccounts"].append({**document["billingAccounts"][-1], "name": f"billingAccounts/{odd}"})
        return json.dumps(document).encode()

    steady.advance(600)
    steady.world.faults.spoil("cloudbilling.billingAccounts.list", changed)
    finished = run(steady)
    steady.world.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert finished.report["failures"][0]["remedy"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3
