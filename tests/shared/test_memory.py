"""What a run holds in memory: nothing twice, and nothing longer than it is needed."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest

from shared.model import Present, Result, Verb
from shared.reconcile import reconcile
from shared.report import RunProgress, pieces, summarize
from shared.request import RunRequest
from shared.settings import EngineSettings
from shared.state.decoding import parse
from shared.state.document import dump, fresh
from shared.target_state import TargetState
from tests.inmemory import InMemoryCloud, InMemoryStore
from tests.shared.builders import START, enumeration, key, outcome, remembering
from tests.shared.setting import Setting


class Watched(InMemoryStore):
    """A store that notes whether `provider` is still held when the report is stored."""

    provider: weakref.ref[Any] | None = None
    held = True

    def put_report(self, run_id: str, data: bytes) -> str:
        """Store a report."""
        self.held = self.provider is None or self.provider() is not None
        return super().put_report(run_id, data)


@pytest.fixture
def no_collector() -> Any:
    """Let nothing but reference counts free objects."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_run_is_freed_when_it_has_ended() -> None:
    """A cycle would keep its state until the collector runs, in the middle of the next run."""
    setting = Setting(3)
    run = setting.new_run()
    finished = reconcile(InMemoryCloud(setting.world, run), setting.store, RunRequest(), run)
    assert finished.report["status"] == "ok"
    watched = weakref.ref(run)
    del run, finished
    assert watched() is None


@pytest.mark.usefixtures("no_collector")
def test_what_a_run_listed_is_freed_before_its_report_is_stored() -> None:
    """The report of many targets needs the memory that their listings took."""
    setting = Setting(3)
    store, run = Watched(), setting.new_run()
    cloud = InMemoryCloud(setting.world, run)
    store.provider = weakref.ref(cloud)
    owned = [cloud]
    del cloud
    reconcile(owned.pop(), store, RunRequest(), run)
    assert not store.held


def test_equal_texts_and_times_of_a_stored_state_become_one_object() -> None:
    """The decoder makes a new one for each of hundreds of thousands of targets."""
    entry = TargetState(at=START, state="unchanged", since=START, looked_at=START + timedelta(hours=1))
    document = parse(dump(remembering({key("s1"): entry, key("s2"): entry}), START), "memory", START)
    (name, one), (other_name, other) = (item for scope in document.scopes.values() for item in scope.targets.items())
    assert name is other_name
    assert one.at is one.since is other.at
    assert (one.state, one.looked_at) == ("unchanged", START + timedelta(hours=1))
    assert one.state is other.state
    assert one.looked_at is other.looked_at


def test_report_is_made_and_stored_without_all_of_its_entries_in_memory() -> None:
    """A dictionary for each of many targets would take several times the size of the document."""
    ids = [f"s{number}" for number in range(4_000)]
    outcomes = [outcome(Result.UNCHANGED, one, Verb.KEEP, observation=Present()) for one in ids]
    progress = RunProgress(
        cloud="memory",
        run_id="run-1",
        trigger="timer",
        dry_run=False,
        started_at=START,
        enumeration=enumeration(*ids),
        outcomes=outcomes,
        run_complete=True,
    )
    tracemalloc.start()
    try:
        stored = BytesIO()
        stored.writelines(pieces(summarize(progress, fresh("memory"), EngineSettings())))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = len(stored.getvalue())
    assert size > 100 * len(ids)
    assert peak < 2 * size
