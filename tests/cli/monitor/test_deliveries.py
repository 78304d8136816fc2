"""`deliveries` shows each stored delivery once, with what it changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.main import main
from cli.monitor import deliveries
from shared.deliveries.chain import Chain
from shared.deliveries.document import CURRENT, File, FileSet, Series
from shared.errors import Denied
from shared.runtime.clock import Clock, VirtualClock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.settings import EngineSettings
from shared.state.store import Blob
from tests.cli.support.fakes import FakeFunction, install
from tests.inmemory import InMemoryStore

NOW = datetime.now(UTC).replace(microsecond=0)
HOSTILE = "team\x1b[31m\u202egro"


class Stored:
    """The documents of deliveries; `written` is when each was, and `failure` what reading them raises."""

    def __init__(self) -> None:
        self.store = InMemoryStore()
        self.written: dict[str, datetime] = {}
        self.failure: Exception | None = None
        self.loads = 0

    def names(self, prefix: str) -> Iterator[tuple[str, datetime]]:
        if self.failure:
            raise self.failure
        yield from ((name, at) for name, at in self.written.items() if name.startswith(prefix))

    def load(self, limit: int, document: str = "") -> Blob:
        self.loads += 1
        return self.store.load(limit, document)

    def deliver(self, scope: str = "a", dataset: str = "daily", at: datetime = NOW, **files: str) -> None:
        """Store the delivery of these files, whose contents are the texts."""
        made = tuple(File(name, 500 * len(content), f"etag:{content}") for name, content in files.items())
        series = Series(scope, dataset, "2026-07")
        for document in Chain("aws", {}, context()).append(series, self.store, FileSet("s3://bucket/", made, at)):
            self.written[document.data.document] = at
        self.written |= {name: at for name in self.store.documents if name.startswith(CURRENT)}


def context() -> RunContext:
    """Return the context of calls that are not counted."""
    return RunContext("aws", EngineSettings(), lambda *_: None, VirtualClock(), 60.0, {}, lambda error: error)  # type: ignore[arg-type,return-value]  # no call uses it


@pytest.fixture
def stored(monkeypatch: pytest.MonkeyPatch) -> Stored:
    """Return the documents of the deployed AWS function, of which there are none."""
    found = Stored()

    def open_deliveries(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[Stored, RunContext]:
        assert environment["EXPORTS"] == "cur2"
        print("a library that writes to standard output")  # noqa: T201 - what the tool must keep out of its document
        return found, context()

    install(monkeypatch, FakeFunction())
    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], open_deliveries=lambda: open_deliveries))
    return found


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, ["deliveries", "aws", *arguments])


def test_line_has_time_period_scope_dataset_and_what_changed(stored: Stored) -> None:
    """The oldest is first; the number is the one that the document has."""
    stored.deliver(at=NOW - timedelta(minutes=5), x="1", y="22")
    stored.deliver(at=NOW, x="3", z="4")
    done = called()
    assert done.exit_code == 0, done.output
    assert done.stdout.splitlines() == [
        f"{NOW - timedelta(minutes=5):%Y-%m-%d %H:%M:%S}Z  2026-07  a · daily · +2 ~0 -0 · 2 files, 1.5 KB · number 1",
        f"{NOW:%Y-%m-%d %H:%M:%S}Z  2026-07  a · daily · +1 ~1 -1 · 2 files, 1.0 KB · number 2",
    ]


def test_scope_dataset_and_age_select_before_anything_is_read(stored: Stored) -> None:
    """Only what is shown is read."""
    stored.deliver("providers/x:y", "daily", x="1")
    stored.deliver("b", "focus", x="1")
    stored.deliver("c", "focus", NOW - timedelta(days=3), x="1")
    stored.loads = 0
    assert "b · focus" in called("--scope", "B", "--dataset", "FOC").stdout
    assert stored.loads == 1
    assert "c · focus" not in called().stdout
    assert "c · focus" in called("--since", "4d").stdout


def test_scope_with_replaced_characters_is_found(stored: Stored) -> None:
    """The id is written as the cloud writes it."""
    stored.deliver("providers/x:y", x="1")
    stored.deliver("providers/x_y", x="1")
    (line,) = called("--scope", "providers/x:y").stdout.splitlines()
    assert "providers/x:y · daily" in line


def test_json_has_one_document_per_line_as_it_is_stored(stored: Stored) -> None:
    """Standard output has nothing else."""
    stored.deliver(x="1")
    (line,) = called("--json").stdout.splitlines()
    found = json.loads(line)
    assert found == json.loads(stored.store.documents[found["data"]["document"]])


def test_only_the_newest_are_shown_unless_all_are_wanted(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """The earlier ones are counted, and not read."""
    monkeypatch.setattr(deliveries, "LISTED", 2)
    for number in range(5):
        stored.deliver(at=NOW - timedelta(minutes=10 - number), x=str(number))
    stored.loads = 0
    done = called()
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["4", "5"]
    assert "3 earlier ones are not shown; --all shows them" in done.stderr
    assert stored.loads == 2
    assert len(called("--all").stdout.splitlines()) == 5
    assert len(called("--json").stdout.splitlines()) == 5


def test_no_delivery_is_not_an_error(stored: Stored) -> None:
    """Standard error says since when, and what records them."""
    done = called("--since", "2026-01-05")
    assert (done.exit_code, done.stdout) == (0, "")
    assert "no delivery since 2026-01-05 00:00 UTC" in done.stderr
    assert "delivery_events" in done.stderr


def test_damaged_document_is_named_and_one_that_expired_is_left_out(stored: Stored) -> None:
    """The others are shown."""
    stored.deliver(x="1")
    for name, data in (("deltas/daily/b/2026-07/00000001.json", b"{"), ("deltas/daily/c/2026-07/00000001.json", None)):
        stored.written[name] = NOW
        if data is not None:
            stored.store.replace(data, name)
    done = called()
    assert done.exit_code == 0
    assert len(done.stdout.splitlines()) == 1
    assert "deltas/daily/b/2026-07/00000001.json is damaged" in done.stderr
    assert "daily/c" not in done.output


def test_hostile_names_cannot_control_the_terminal(stored: Stored) -> None:
    """Control and direction characters are not printed."""
    stored.deliver(HOSTILE, HOSTILE, x="1")
    done = called()
    assert len(done.stdout.splitlines()) == 1
    assert not {"\x1b", "\u202e"} & set(done.output)


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_unreadable_documents_are_an_error_with_a_remedy(stored: Stored, form: tuple[str, ...]) -> None:
    """The exit code is 1; with --json, the error is a document too."""
    stored.failure = Denied("access-denied", "the folder may not be listed", "Grant it.")
    done = called(*form)
    assert done.exit_code == 1
    assert "the folder may not be listed" in done.stderr
    if form:
        assert json.loads(done.stdout)["error"]["problems"][0]["remedy"].startswith(
            "Have the permission granted to you"
        )


def test_follow_shows_each_delivery_once(stored: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks again every ten seconds, and ends without an error when it is interrupted."""
    waits: list[float] = []
    steps: Iterator[Callable[[], None]] = iter((lambda: None, lambda: stored.deliver(x="2"), lambda: None))

    class Interrupted(VirtualClock):
        """Something happens in each wait; the last one is interrupted."""

        def wait_until(self, moment: float) -> None:
            waits.append(moment - self.monotonic())
            super().wait_until(moment)
            step = next(steps, None)
            if step is None:
                raise KeyboardInterrupt
            step()

    monkeypatch.setattr(deliveries, "SystemClock", Interrupted)
    stored.deliver(x="1")
    done = called("--follow")
    assert done.exit_code == 0
    assert [line.rpartition(" ")[2] for line in done.stdout.splitlines()] == ["1", "2"]
    assert waits == [10.0] * 4


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 bytes"), (999, "999 bytes"), (1000, "1.0 KB"), (5 * 10**15, "5000.0 TB")]
)
def test_size_is_in_a_unit_that_people_read(count: int, text: str) -> None:
    """Units are decimal, as storage is billed."""
    assert deliveries.size_of(count) == text
