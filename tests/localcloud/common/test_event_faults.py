"""Event faults: the arrivals of events, the control action, and the options of `tailpipe-exports local`."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import main
from localcloud.common import local_cloud
from localcloud.common.control_api import ControlActions
from localcloud.common.event_faults import EventArrivals, EventFaults
from localcloud.common.local_cloud import LocalCloud
from tests.localcloud.common.test_control_api import World

GIVEN = ("--event-delay", "3", "--event-spread", "60", "--event-copies", "2", "--event-loss", "0.25")
EXPECTED = EventFaults(delay_s=3, spread_s=60, copies=2, loss=0.25)


def test_without_faults_every_event_arrives_once_and_at_once() -> None:
    """This is how the local clouds start."""
    assert EventArrivals().delays() == [0]


def test_events_are_delayed_repeated_and_overtake_each_other() -> None:
    """Each copy takes its own time between the delay and the delay plus the spread."""
    arrivals = EventArrivals()
    arrivals.faults = EventFaults(delay_s=10, spread_s=60, copies=2)
    found = [arrivals.delays() for _ in range(100)]
    assert {len(one) for one in found} == {2}
    assert all(10 <= delay <= 70 for one in found for delay in one)
    firsts = [one[0] for one in found]
    assert firsts != sorted(firsts)


@pytest.mark.parametrize(("loss", "least", "most"), [(0, 0, 0), (0.5, 30, 70), (1, 100, 100)])
def test_the_lost_fraction_never_arrives_and_is_counted(loss: float, least: int, most: int) -> None:
    """The same seed loses the same events."""
    arrivals = EventArrivals()
    arrivals.faults = EventFaults(loss=loss)
    missing = sum(not arrivals.delays() for _ in range(100))
    assert least <= missing <= most
    assert arrivals.lost == missing


@pytest.mark.parametrize("wrong", [{"delay_s": -1}, {"spread_s": -1}, {"copies": 0}, {"loss": 1.1}, {"loss": -0.1}])
def test_values_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    """The message has the values."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EventFaults(**wrong)


def test_the_action_sets_the_faults_and_clearing_all_faults_removes_them() -> None:
    """The action returns the faults and the number of lost events."""
    world = World()
    actions = ControlActions(world)
    assert actions.event_faults(loss=1) == {"delay_s": 0, "spread_s": 0, "copies": 1, "loss": 1, "lost": 0}
    assert world.faults.events.delays() == []
    actions.clear_faults()
    assert world.faults.events.delays() == [0]
    assert actions.event_faults()["lost"] == 1


@pytest.mark.parametrize("cloud", ["aws", "azure", "gcp"])
def test_every_local_cloud_takes_the_same_options(cloud: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are given to the cloud that is served; none of them is an argument of its class."""
    served: list[EventFaults] = []

    def serve(_cloud: LocalCloud, *, events: EventFaults, **_options: Any) -> int:
        served.append(events)
        return 0

    monkeypatch.setattr(local_cloud, "serve", serve)
    ended = CliRunner().invoke(main, ["local", cloud, *GIVEN])
    assert ended.exit_code == 0, ended.output
    assert served == [EXPECTED]
    assert CliRunner().invoke(main, ["local", cloud]).exit_code == 0
    assert served[1:] == [EventFaults()]


@pytest.mark.parametrize("wrong", [("--event-loss", "2"), ("--event-copies", "0"), ("--event-delay", "-1")])
def test_an_option_out_of_range_is_refused(wrong: tuple[str, str]) -> None:
    """The message names the option, and nothing is served."""
    ended = CliRunner().invoke(main, ["local", "gcp", *wrong])
    assert ended.exit_code == 1
    assert wrong[0] in ended.stderr
