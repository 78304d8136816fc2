"""Parsing of any trigger's payload into a request."""

from __future__ import annotations

from types import MappingProxyType

import pytest

from shared.errors import RequestError
from shared.request import MAX_SCOPES, RoundRequest, RunRequest, Step, parse_request, parse_round, refuse_months

ROUND = "20260105T000000Z-0000002a"


@pytest.mark.parametrize("payload", [None, "", {}, MappingProxyType({})])
def test_empty_payload_is_a_full_run(payload: object) -> None:
    """It selects all scopes, a real run, and every safety check."""
    assert parse_request(payload) == RunRequest(dry_run=False, scopes=(), force=False, verify_all=False)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        ({"dry_run": True}, RunRequest(dry_run=True)),
        ({"dry_run": False, "force": True}, RunRequest(force=True)),
        ({"verify_all": True}, RunRequest(verify_all=True)),
        ({"scopes": []}, RunRequest()),
        ({"tenant": "a-1"}, RunRequest(tenant="a-1")),
        ({"tenant": "a", "round": ROUND}, RunRequest(tenant="a", round=ROUND)),
        ({"scopes": ["b", "a", "b"]}, RunRequest(scopes=("b", "a"))),
    ],
)
def test_every_key_is_parsed(payload: dict[str, object], expected: RunRequest) -> None:
    """Ids keep their order, and duplicates are removed."""
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
        pytest.param({"tenant": "A"}, ["'tenant' is 'A', not the id of a tenant"], id="a tenant's id"),
        pytest.param({"tenant": None}, ["'tenant' is NoneType, not the id"], id="null is no tenant"),
        pytest.param({"tenant": "a", "round": "1"}, ["'round' is '1', not the id of a round"], id="a round's id"),
        pytest.param({"round": ROUND}, ["'round' needs 'tenant'"], id="a round without a tenant"),
        pytest.param({"scopes": ["a"] * (MAX_SCOPES + 1)}, ["'scopes' has 10001 ids"], id="too many ids"),
        pytest.param(
            {"zeta": 1, "alpha": 2, "dry_run": 0, "scopes": [1]},
            ["unknown key 'alpha'", "unknown key 'zeta'", "'dry_run' is int", "'scopes'[0] is int"],
            id="all faults at once",
        ),
    ],
)
def test_invalid_request_lists_every_problem(payload: object, faults: list[str]) -> None:
    """An invalid request is refused as a whole."""
    with pytest.raises(RequestError) as raised:
        parse_request(payload)
    assert len(raised.value.problems) == len(faults)
    assert [found.startswith(fault) for found, fault in zip(raised.value.problems, faults, strict=True)] == [
        True
    ] * len(faults), raised.value.problems
    assert str(raised.value).startswith(f"{len(faults)} problem(s) in the request: ")


@pytest.mark.parametrize("wrong", [7, None, "0" * 63, "0" * 65, "G" * 64, "0" * 63 + "\n"])
def test_hash_of_writes_must_be_a_sha256(wrong: object) -> None:
    """Any other value would refuse every plan, so it is a problem of the request."""
    with pytest.raises(RequestError, match="'writes_hash' is not a SHA-256"):
        parse_request({"writes_hash": wrong})
    assert parse_request({"writes_hash": "0a" * 32}).writes_hash == "0a" * 32


def test_unknown_key_is_refused_with_the_known_keys() -> None:
    """The message lists the valid keys."""
    with pytest.raises(
        RequestError, match="known: dry_run, force, months, round, scopes, tenant, verify_all, writes_hash"
    ):
        parse_request({"dry-run": True})


def test_months_are_sorted_without_duplicates() -> None:
    """Each month has the form YYYY-MM."""
    assert parse_request({"months": ["2026-02", "2025-12", "2026-02"]}).months == ("2025-12", "2026-02")
    assert parse_request({}).months == ()


@pytest.mark.parametrize(
    "months",
    ["2026-01", {"2026-01": 1}, [202601], [None], ["2026-13"], ["2026-01-05"], ["\u202e2026"], ["2026-01"] * 85],
)
def test_invalid_months_are_refused(months: object) -> None:
    """The problem names the key and contains no control characters."""
    with pytest.raises(RequestError, match="'months'") as caught:
        parse_request({"months": months})
    assert "\u202e" not in str(caught.value)


def test_cloud_without_backfill_refuses_months() -> None:
    """A request without months is accepted."""
    refuse_months(RunRequest(), "it cannot")
    with pytest.raises(RequestError, match="'months': it cannot"):
        refuse_months(RunRequest(months=("2026-01",)), "it cannot")


@pytest.mark.parametrize("payload", [None, "", [], {}, {"tenant": "a", "round": ROUND}, {"round": ROUND}])
def test_other_requests_are_not_for_a_round(payload: object) -> None:
    """They are parsed as requests for a run."""
    assert parse_round(payload) is None


def test_round_begins_and_ends() -> None:
    """The end names the round that begin returned."""
    assert parse_round({"round": {"step": "begin"}}) == RoundRequest(Step.BEGIN)
    assert parse_round({"round": {"step": "end", "id": ROUND}}) == RoundRequest(Step.END, ROUND)


@pytest.mark.parametrize(
    ("payload", "faults"),
    [
        pytest.param({"round": {}}, ["'step' is NoneType, not one of begin, end"], id="empty"),
        pytest.param({"round": {"step": ["begin"]}}, ["'step' is list, not one of"], id="a list"),
        pytest.param({"round": {"step": "end"}}, ["'id' is '', not the id of a round"], id="no id"),
        pytest.param({"round": {"step": "end", "id": "20261305T000000Z-0000002a"}}, ["'id' is '2026"], id="no date"),
        pytest.param({"round": {"step": "begin", "id": ROUND}}, ["'id' is given by the round"], id="an id too early"),
        pytest.param(
            {"round": {"step": "go", "more": 1}, "force": True},
            ["unknown key 'force' beside 'round'", "unknown key 'more' in 'round'", "'step' is 'go', not one of"],
            id="all faults at once",
        ),
    ],
)
def test_wrong_request_for_a_round(payload: dict[str, object], faults: list[str]) -> None:
    """Every fault is named at once."""
    with pytest.raises(RequestError) as raised:
        parse_round(payload)
    assert len(raised.value.problems) == len(faults)
    for found, fault in zip(raised.value.problems, faults, strict=True):
        assert found.startswith(fault)
