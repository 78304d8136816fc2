"""Any trigger's payload → what a run is asked for."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from shared.errors import RequestError
from shared.request import MAX_SCOPES, RunRequest, parse_request, refuse_months


@pytest.mark.parametrize("payload", [None, "", {}, MappingProxyType({})])
def test_an_empty_payload_is_a_full_run(payload: object) -> None:
    """Nothing asked for means everything, for real, with every safety."""
    assert parse_request(payload) == RunRequest(dry_run=False, scopes=(), force=False, verify_all=False)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"dry_run": True}, RunRequest(dry_run=True)),
        ({"dry_run": False, "force": True}, RunRequest(force=True)),
        ({"verify_all": True}, RunRequest(verify_all=True)),
        ({"scopes": []}, RunRequest()),
        ({"scopes": ["b", "a", "b"]}, RunRequest(scopes=("b", "a"))),
    ],
)
def test_each_key_is_taken_over(payload: dict[str, object], expected: RunRequest) -> None:
    """Ids keep their order, and a repeated one counts once."""
    assert parse_request(payload) == expected


@pytest.mark.parametrize(
    ("payload", "faults"),
    [
        pytest.param([], ["the request is a list, not an object"], id="a list"),
        pytest.param("go", ["the request is a str, not an object"], id="a text"),
        pytest.param(0, ["the request is a int, not an object"], id="a number"),
        pytest.param({"dryrun": True}, ["unknown key 'dryrun'"], id="a key that is nearly right"),
        pytest.param({"x" * 500: 1}, ["unknown key '" + "x" * 80 + "' "], id="a huge key is cut"),
        pytest.param({7: 1}, ["unknown key '7'"], id="a key that is no text"),
        pytest.param({"dry_run": 1}, ["'dry_run' is int, not true or false"], id="1 is not true"),
        pytest.param({"dry_run": "false"}, ["'dry_run' is str, not true or false"], id="a text is not false"),
        pytest.param({"force": None}, ["'force' is NoneType, not true or false"], id="null is not false"),
        pytest.param({"scopes": "s1"}, ["'scopes' is str, not a list of ids"], id="one id without a list"),
        pytest.param({"scopes": None}, ["'scopes' is NoneType, not a list of ids"], id="null is no list"),
        pytest.param(
            {"scopes": ["a", "", 7, None]},
            ["'scopes'[1] is empty", "'scopes'[2] is int", "'scopes'[3] is NoneType"],
            id="each wrong id by its place",
        ),
        pytest.param({"scopes": ["a"] * (MAX_SCOPES + 1)}, ["'scopes' has 10001 ids"], id="too many ids"),
        pytest.param(
            {"zeta": 1, "alpha": 2, "dry_run": 0, "scopes": [1]},
            ["unknown key 'alpha'", "unknown key 'zeta'", "'dry_run' is int", "'scopes'[0] is int"],
            id="all faults at once",
        ),
    ],
)
def test_a_bad_request_names_every_fault(payload: object, faults: list[str]) -> None:
    """Nothing is guessed: a request that is not understood is refused whole."""
    with pytest.raises(RequestError) as raised:
        parse_request(payload)
    assert len(raised.value.problems) == len(faults)
    assert [found.startswith(fault) for found, fault in zip(raised.value.problems, faults, strict=True)] == [
        True
    ] * len(faults), raised.value.problems
    assert str(raised.value).startswith(f"{len(faults)} problem(s) in the request: ")


@pytest.mark.parametrize("wrong", [7, None, "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "\n"])
def test_hash_of_writes_is_a_sha256(wrong: object) -> None:
    """A hash that cannot be one is a fault of the request: it would refuse every plan."""
    with pytest.raises(RequestError, match="'writes_hash' is not a SHA-256"):
        parse_request({"writes_hash": wrong})
    assert parse_request({"writes_hash": "0a" * 32}).writes_hash == "0a" * 32


def test_an_unknown_key_is_told_the_known_ones() -> None:
    """The message says what could have been meant."""
    with pytest.raises(RequestError, match="known: dry_run, force, months, scopes, verify_all, writes_hash"):
        parse_request({"dry-run": True})


def test_months_are_sorted_and_counted_once() -> None:
    """Each month of the form YYYY-MM is kept once, in order."""
    assert parse_request({"months": ["2026-02", "2025-12", "2026-02"]}).months == ("2025-12", "2026-02")
    assert parse_request({}).months == ()


@pytest.mark.parametrize(
    "months",
    ["2026-01", {"2026-01": 1}, [202601], [None], ["2026-13"], ["2026-01-05"], ["\u202e2026"], ["2026-01"] * 85],
)
def test_what_is_no_list_of_months_is_refused(months: object) -> None:
    """The problem names the key, and shows nothing that a terminal would obey."""
    with pytest.raises(RequestError, match="'months'") as caught:
        parse_request({"months": months})
    assert "\u202e" not in str(caught.value)


def test_cloud_that_delivers_no_past_months_refuses_them() -> None:
    """A request without months passes."""
    refuse_months(RunRequest(), "it cannot")
    with pytest.raises(RequestError, match="'months': it cannot"):
        refuse_months(RunRequest(months=("2026-01",)), "it cannot")
