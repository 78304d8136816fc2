"""Clients are reused while settings and credentials are unchanged, and closed when they change."""

from __future__ import annotations

import threading

from shared.runtime.warm_clients import WarmClients


class Connections:
    """Clients that record whether they were closed."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


class Named(Connections):
    """Clients that know for whom they were built."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


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


def test_several_sets_are_kept_and_the_one_not_used_for_longest_is_closed() -> None:
    """A deployment that serves several tenants alternates between their clients and its own."""
    warm = WarmClients[Connections](most=2)
    own, first = warm.get("own", Connections), warm.get("first", Connections)
    assert warm.get("own", Connections) is own
    second = warm.get("second", Connections)
    assert (own.closed, first.closed, second.closed) == (False, True, False)
    warm.drop()
    assert own.closed


def test_no_thread_gets_the_clients_of_another_key() -> None:
    """Runs of several tenants in one process alternate at any moment."""
    warm = WarmClients[Named]()
    wrong: list[str] = []

    def use(name: str) -> None:
        wrong.extend(name for _ in range(300) if warm.get(name, lambda: Named(name)).name != name)

    threads = [threading.Thread(target=use, args=(name,)) for name in ("one", "two", "three")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
