"""How the growth of a warm process is judged, and a short soak of each function."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.soak import __main__ as command
from tests.soak.worker import FUNCTIONS, Sample, sample

MB = 1_000_000


def samples(growth: float = 0, threads: int = 0, sockets: int = 0, cold: int = 30) -> list[Sample]:
    """Return 50 samples of a process that fills its caches in the first `cold` calls and then grows."""
    return [
        Sample(
            number,
            100 * MB + min(number, cold) * MB + int(growth * number) + (5 * MB if number == 200 else 0),
            3 + (threads if number > 400 else 0),
            2 + (sockets if number > 400 else 0),
            7,
        )
        for number in range(10, 501, 10)
    ]


def test_process_that_only_warms_up_does_not_grow() -> None:
    """The caches of the first calls do not count, and neither does a single peak."""
    grown = command.judge(samples())
    assert grown.faults() == []
    assert (grown.calls, grown.bytes_per_call, grown.threads, grown.sockets) == (500, 0, (3, 3), (2, 2))


@pytest.mark.parametrize(
    ("growing", "fault"),
    [
        (samples(growth=20_000), "the memory grows by 20000 bytes with each call"),
        (samples(threads=1), "it has 4 threads at the end, and had at most 3 before"),
        (samples(sockets=1), "it has 3 sockets at the end, and had at most 2 before"),
    ],
)
def test_growth_is_a_fault(growing: list[Sample], fault: str) -> None:
    """Of memory by its slope, of the rest by one more at the end."""
    assert command.judge(growing).faults() == [fault]


def test_too_few_samples_prove_nothing() -> None:
    """Half a dozen calls are all cold."""
    with pytest.raises(ValueError, match="3 samples of a warm process are too few"):
        command.judge(samples()[:4])


def test_sample_counts_what_this_process_holds() -> None:
    """An opened file is one file more."""
    before = sample(1)
    with Path(__file__).open(encoding="utf-8"):
        assert sample(1).files == before.files + 1
    assert before.memory > 10 * MB
    assert before.threads >= 1


def test_record_writes_the_table_between_its_marks(tmp_path: Path) -> None:
    """The rest of the document stays."""
    document = tmp_path / "reliability.md"
    document.write_text(f"before\n{command.BEGIN}\nold\n{command.END}\nafter\n", encoding="utf-8")
    command.record(command.table({"aws": command.judge(samples())}), document)
    text = document.read_text(encoding="utf-8")
    assert "| aws | 500 | 130 MB | 0 bytes | 3, then 3 | 2, then 2 | 7, then 7 |" in text
    assert "old" not in text


@pytest.mark.slow
@pytest.mark.parametrize("cloud", FUNCTIONS)
def test_warm_function_does_not_grow(cloud: str) -> None:
    """A hundred calls show a leaked connection or thread; `make soak` makes a thousand."""
    assert command.soak(cloud, 100).faults() == []
