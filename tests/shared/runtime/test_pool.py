"""The bounded pool."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from shared.runtime.pool import each
from tests.limits import HANG_S


def always() -> bool:
    """Say that there is time."""
    return True


def test_every_item_comes_back_once_with_its_own_answer() -> None:
    """Nothing is lost or doubled, whatever order the work ends in."""
    answers = list(each(range(200), lambda number: number * number, 8, always))
    assert sorted(answers) == [(number, number * number) for number in range(200)]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_at_most_so_many_are_in_flight(workers: int) -> None:
    """All workers are used, and never more than there are."""
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


def test_answers_arrive_in_the_callers_thread() -> None:
    """Who takes the answers needs no lock of his own: the work alone runs in threads."""
    here = threading.get_ident()
    for worker, _ in each([0, 1], lambda _: threading.get_ident(), 2, always):
        assert threading.get_ident() == here
        assert worker in (0, 1)
    assert here not in {thread for _, thread in each(range(4), lambda _: threading.get_ident(), 2, always)}


def test_nothing_is_begun_when_there_is_no_time_left() -> None:
    """What was begun is finished and handed over, the rest is left out."""
    begun: list[int] = []
    done = [item for item, _ in each(range(100), begun.append, 1, lambda: len(begun) < 7)]
    assert done == begun == list(range(7))
    assert list(each(range(100), begun.append, 4, lambda: False)) == []


def test_items_are_taken_only_as_they_can_be_begun() -> None:
    """A long plan is not turned into a queue of futures."""
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    answers = each(items(), lambda number: number, 2, always)
    next(answers)
    assert len(taken) <= 2
    assert len(list(answers)) == 99


def test_an_exception_of_the_work_is_raised_once_the_others_have_ended() -> None:
    """No thread goes on behind the caller's back, and nothing more is begun."""
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


def test_a_caller_that_stops_early_leaves_no_thread() -> None:
    """Closing the answers waits for what is in flight."""
    answers = each(range(100), lambda number: number, 4, always)
    next(answers)
    answers.close()  # type: ignore[attr-defined]  # each is a generator, which its type does not say
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("work")]
