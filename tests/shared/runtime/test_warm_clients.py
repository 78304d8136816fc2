"""Clients stay warm while settings and credentials stay the same, and are closed when they change."""

from __future__ import annotations

from shared.runtime.warm_clients import WarmClients


class Connections:
    """Clients that note whether they were closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_equal_keys_share_one_set_of_clients() -> None:
    """The second invocation builds nothing."""
    warm = WarmClients[Connections]()
    first = warm.get(("eu-west-1", "key"), Connections)
    assert warm.get(("eu-west-1", "key"), Connections) is first
    assert not first.closed


def test_another_key_closes_the_clients_before_it() -> None:
    """Connections made with former credentials are not left open."""
    warm = WarmClients[Connections]()
    first = warm.get("old", Connections)
    second = warm.get("new", Connections)
    assert (first.closed, second.closed) == (True, False)
    warm.drop()
    assert second.closed
    assert warm.get("new", Connections) is not second
