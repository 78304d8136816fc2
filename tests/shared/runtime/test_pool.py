"""The bounded worker pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from shared.runtime.pool import each
from tests.limits import HANG_S


def always() -> bool:
    """Return that there is time."""
    return True


def test_every_item_is_returned_once_with_its_result() -> None:
    """Nothing is lost or duplicated, in whatever order the work ends."""
    answers = list(each(range(200), lambda number: number * number, 8, always))
    assert sorted(answers) == [(number, number * number) for number in range(200)]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_concurrency_is_limited_to_the_workers(workers: int) -> None:
    """All workers are used."""
    lock, full = threading.Lock(), threading.Barrier(workers, timeout=HANG_S)
    flying = most = 0

    def work(_: int) -> None:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)
        full.wait()
        with lock:
            flying -= 1

    assert len(list(each(range(workers * 4), work, workers, always))) == workers * 4
    assert most == workers


def test_results_are_returned_in_the_callers_thread() -> None:
    """Only the work runs in threads, so the caller needs no lock."""
    here = threading.get_ident()
    for worker, _ in each([0, 1], lambda _: threading.get_ident(), 2, always):
        assert threading.get_ident() == here
        assert worker in (0, 1)
    assert here not in {thread for _, thread in each(range(4), lambda _: threading.get_ident(), 2, always)}


def test_no_item_starts_without_time_left() -> None:
    """Started items are completed and returned; the rest is left out."""
    begun: list[int] = []
    done = [item for item, _ in each(range(100), begun.append, 1, lambda: len(begun) < 7)]
    assert done == begun == list(range(7))
    assert list(each(range(100), begun.append, 4, lambda: False)) == []


def test_items_are_consumed_only_when_they_can_start() -> None:
    """A long plan does not become a queue of futures."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    release = threading.Event()  # the first item is running the whole time
    answers = each(items(), lambda number: number or release.wait(HANG_S), 2, always)
    for returned in range(1, 51):
        next(answers)
        assert len(taken) <= returned + 1
    release.set()
    assert len(list(answers)) == 50


def test_exception_is_raised_after_running_items_have_ended() -> None:
    """No thread continues in the background, and no further item starts."""
    failing, ended = threading.Event(), []

    def work(item: int) -> None:
        if item == 0:
            failing.set()
            raise ValueError("defect")
        failing.wait(HANG_S)
        ended.append(item)

    with pytest.raises(ValueError, match="defect"):
        list(each(range(100), work, 3, always))
    assert {1, 2} <= set(ended)
    assert len(ended) < 50
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("work")]


def test_closing_the_results_early_leaves_no_thread() -> None:
    """Closing waits for the running items."""
    answers = each(range(100), lambda number: number, 4, always)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # a generator, declared as an iterator
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("work")]
