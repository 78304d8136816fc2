"""The state object in Cloud Storage, beyond the store's contract: damaged, denied, or without its bucket."""

from __future__ import annotations

from gcp_function.state_store import KEY
from localcloud.gcp.cloud import LocalGcp
from tests.gcp_function.support import Lines, run, verbs

STATE = "tailpipe-state-tailpipe-dataexport"
EXPORT = "tailpipe-billing-export-tailpipe-dataexport"


def test_corrupt_state_is_set_aside_and_rebuilt(covered: LocalGcp) -> None:
    """The run copies the unreadable object to another name, logs a warning and observes everything again."""
    covered.put_object(KEY, "{broken", bucket=STATE)
    lines = Lines()
    finished = run(covered, sink=lines)
    assert finished.report["status"] == "ok"
    assert set(verbs(finished)) == {"KEEP", "SKIP"}
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)
    kept = [name for name in covered.objects(STATE) if "corrupt" in name]
    assert [covered.read_object(name, STATE) for name in kept] == ["{broken"]


def test_empty_state_is_treated_as_corrupt(covered: LocalGcp) -> None:
    """An object of zero bytes is corrupt, not missing."""
    covered.put_object(KEY, "", bucket=STATE)
    lines = Lines()
    assert run(covered, sink=lines).report["status"] == "ok"
    assert any(event == "state-corrupt" for _, event, _ in lines.lines)


def test_denied_read_of_the_state_ends_the_run(covered: LocalGcp) -> None:
    """State that cannot be read is neither missing nor empty: the failure names the permission to grant."""
    covered.deny("storage.objects.get", f"buckets/{STATE}")
    finished = run(covered)
    assert finished.report["status"] == "failed"
    (failure,) = finished.report["failures"]
    assert failure["code"] == "state-forbidden"
    assert "storage.objects.get" in failure["remedy"]


def test_storage_client_makes_no_implicit_bucket_reads(gcp: LocalGcp) -> None:
    """Each run reads the export bucket once, and the state bucket not at all."""
    run(gcp)
    run(gcp)
    buckets = [call.path.rpartition("/")[2] for call in gcp.calls.select("storage.buckets.get")]
    assert buckets == [EXPORT, EXPORT]


def test_missing_state_bucket_degrades_the_run_and_copies_are_made(gcp: LocalGcp) -> None:
    """The state cannot be saved, so the report has the remedy."""
    gcp.delete_bucket(STATE)
    finished = run(gcp)
    assert finished.report["status"] == "degraded"
    assert {one["code"] for one in finished.report["failures"]} == {"state-unsaved"}
    assert verbs(finished)["CREATE"] == 18
