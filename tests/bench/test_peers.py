"""The comparison with what people do today: what counts as working, and how the result is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localcloud.azure.cloud import LocalAzure
from tests.azure_function.support import DAY, advance, local_azure, run
from tests.bench.peers import TITLES, measures_of, page
from tests.bench.peers.story import NEW, SETTINGS, TROUBLES, Ended, lines_of, works


@pytest.fixture(scope="module")
def cloud() -> Any:
    """Return a tenant whose subscriptions all have a working export."""
    with local_azure(subscriptions=4 + len(TROUBLES)) as opened:
        run(opened)
        opened.deliver()
        advance(opened, DAY)
        yield opened


# Without rights the export that exists works on; a schedule that is about to end works until then.
LATER = {"rights removed", "schedule about to end"}


@pytest.mark.parametrize(("place", "trouble"), [*enumerate(TROUBLES, start=1)])
def test_each_trouble_breaks_a_working_export(cloud: LocalAzure, place: int, trouble: str) -> None:
    """Otherwise its row would prove nothing."""
    one = cloud.subscription_ids[place]
    assert works(cloud, one)
    happen: Callable[[LocalAzure, str], Any] = TROUBLES[trouble]
    happen(cloud, one)
    cloud.deliver([one])
    assert works(cloud, one) == (trouble in LATER)


def test_page_shows_what_each_contender_left() -> None:
    """A trouble that was healed has an empty cell."""
    ended = Ended(100, 60.0, 10, 30.0, 1.0, 50.0, 7, {NEW: 5, "export deleted": 3}, {NEW: 2})
    shown = "\n".join(page([one for name in TITLES for one in measures_of(name, ended)]))
    assert "| Tailpipe Exports | 10 | 100 | 1 | 0.5 | 1 | 50 | 7 | 8 | 2 |" in shown
    assert f"| {NEW} | 5 / 2 | 5 / 2 | 5 / 2 |" in shown
    assert "| export redirected |  |  |  |" in shown


def test_lines_are_those_that_users_maintain() -> None:
    """The code of a script, the settings of a deployment."""
    assert lines_of("runbook") > lines_of("loop") > lines_of("this") == SETTINGS
