"""Clients are reused while settings and credentials are unchanged, and closed when they change."""

from __future__ import annotations

from shared.runtime.warm_clients import WarmClients


class Connections:
    """Clients that record whether they were closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_equal_keys_share_one_set_of_clients() -> None:
    """The second invocation creates none."""
    warm = WarmClients[Connections]()
    first = warm.get(("eu-west-1", "key"), Connections)
    assert warm.get(("eu-west-1", "key"), Connections) is first
    assert not first.closed


def test_new_key_closes_the_previous_clients() -> None:
    """No connection with former credentials stays open."""
    warm = WarmClients[Connections]()
    first = warm.get("old", Connections)
    second = warm.get("new", Connections)
    assert (first.closed, second.closed) == (True, False)
    warm.drop()
    assert second.closed
    assert warm.get("new", Connections) is not second
