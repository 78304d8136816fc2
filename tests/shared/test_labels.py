"""Labels of scopes: they are bounded where they are recorded, and where a page shows many of them."""

from __future__ import annotations

import json

from shared.labels import LONGEST_NAME, LONGEST_VALUE, MOST, bounded, packed, presentable


def test_labels_are_bounded_in_number_and_length() -> None:
    """The first ones are kept, in their order; what is cut ends with an ellipsis."""
    found = bounded({f"tag {number}": "x" * 1000 for number in range(MOST + 5)} | {"never": "shown"})
    assert list(found) == [f"tag {number}" for number in range(MOST)]
    assert {len(value) for value in found.values()} == {LONGEST_VALUE}
    assert found["tag 0"].endswith("…")
    assert [len(name) for name in bounded({"n" * 5000: ""})] == [LONGEST_NAME]


def test_labels_are_printable() -> None:
    """Control characters, lone surrogates and line ends become blanks; a name of nothing else has no label."""
    assert bounded({"a\x00b": "one\ntwo\u202e", "\ud800c": "", " \n": "lost"}) == {"a b": "one two", "c": ""}


def test_packed_labels_name_each_text_once() -> None:
    """Scopes refer to the distinct texts by their places."""
    labels = [{"env": "prod", "owner": "a"}, {}, {"env": "prod", "owner": "b"}]
    assert packed(labels) == (["env: prod", "owner: a", "owner: b"], [[0, 1], [], [0, 2]], 0)


def test_packed_labels_stay_within_their_room() -> None:
    """What does not fit is left out and counted by scope, while labels that are there already still fit."""
    labels = [{"env": "prod", "owner": f"{number:050d}"} for number in range(100)]
    texts, rows, incomplete = packed(labels, 2_000)
    assert len(json.dumps([texts, rows], separators=(",", ":"))) <= 2_000 + 3 * len(rows)
    assert incomplete == sum(len(row) < 2 for row in rows) > 0
    assert all(texts[place] == "env: prod" for row in rows for place in row[:1])


def test_secret_in_a_label_is_masked_where_it_is_shown() -> None:
    """Some put a key into a tag."""
    key = "AKIA" + "ABCDEFGH" * 2
    labels = {"env": "prod", "key": key, f"of {key}": "x"}
    assert presentable(labels)["env"] == "prod"
    assert key not in json.dumps([presentable(labels), packed([labels, labels])])
    assert packed([labels, labels])[1] == [[0, 1, 2], [0, 1, 2]]
