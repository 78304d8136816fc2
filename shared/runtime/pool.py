"""A bounded thread pool that begins work only while there is time and yields results in the caller's thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


def each(
    items: Iterable[Item], work: Callable[[Item], Answer], workers: int, may_begin: Callable[[], bool]
) -> Iterator[tuple[Item, Answer]]:
    """Yield each item with the result of `work`, in order of completion; leave out items not begun in time.

    At most `workers` run at once. After an exception of `work`, nothing more is begun; the exception is raised once the
    running items have ended.
    """
    queue = iter(items)
    flying: dict[Future[Answer], Item] = {}
    with ThreadPoolExecutor(max_workers=workers, thread_name_prefix="work") as pool:
        while True:
            for item in islice(queue, workers - len(flying)):
                if not may_begin():
                    break
                flying[pool.submit(work, item)] = item
            if not flying:
                return
            done, _ = wait(flying, return_when=FIRST_COMPLETED)
            for future in done:
                yield flying.pop(future), future.result()
