"""What lies in Cloud Storage beyond the store's contract: odd states, pages, and rows counted by footers."""

from __future__ import annotations

from gcp_function.state_store import KEY
from localcloud.gcp.cloud import LocalGcp
from tests.gcp_function.support import Lines, run, verbs

STATE = "tailpipe-state-tailpipe-dataexport"
EXPORT = "tailpipe-billing-export-tailpipe-dataexport"


def test_corrupt_state_is_set_aside_and_rebuilt(covered: LocalGcp) -> None:
    """An unreadable blob is kept under another name, warned of, and everything is looked at again."""
    covered.put_object(KEY, "{broken", bucket=STATE)
    lines = Lines()
    finished = run(covered, sink=lines)
    assert finished.report["status"] == "ok"
    assert set(verbs(finished)) == {"KEEP", "SKIP"}
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)
    kept = [name for name in covered.objects(STATE) if "corrupt" in name]
    assert [covered.read_object(name, STATE) for name in kept] == ["{broken"]


def test_empty_state_is_corrupt_and_not_missing(covered: LocalGcp) -> None:
    """A blob of no bytes is read as what it is."""
    covered.put_object(KEY, "", bucket=STATE)
    lines = Lines()
    assert run(covered, sink=lines).report["status"] == "ok"
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)


def test_forbidden_state_stops_the_run(covered: LocalGcp) -> None:
    """State that may not be read is neither missing nor empty: the run ends with the right to grant."""
    covered.deny("storage.objects.get", f"buckets/{STATE}")
    finished = run(covered)
    assert finished.report["status"] == "failed"
    (failure,) = finished.report["failures"]
    assert failure["code"] == "state-forbidden"
    assert "storage.objects.get" in failure["remedy"]


def test_the_client_reads_no_bucket_behind_the_functions_back(gcp: LocalGcp) -> None:
    """Only the export bucket's own look is a read of a bucket: one a run, and none of the state's bucket."""
    run(gcp)
    run(gcp)
    read = [call.path.rpartition("/")[2] for call in gcp.calls.select("storage.buckets.get")]
    assert read == [EXPORT, EXPORT]


def test_a_missing_state_bucket_is_said_and_the_run_goes_on(gcp: LocalGcp) -> None:
    """Without its bucket the state cannot be kept: the copies are made all the same, and the remedy is told."""
    gcp.delete_bucket(STATE)
    finished = run(gcp)
    assert finished.report["status"] == "degraded"
    assert {one["code"] for one in finished.report["failures"]} == {"state-unsaved"}
    assert verbs(finished)["CREATE"] == 18
