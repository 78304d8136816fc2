"""The tenant registry: every fault at once, a wrong entry costs only its own tenant, and no secret is quoted."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import RegistryError, RequestError
from shared.tenants.registry import (
    MAX_BYTES,
    MAX_TENANTS,
    Tenant,
    encode_registry,
    environment_of,
    parse_registry,
    read_document,
)
from tests.shared.tenants.memory import RULES, entry, registry


def faults_of(*entries: Any) -> dict[str, tuple[str, ...]]:
    """Return the faults of a registry's entries."""
    return dict(parse_registry(registry(*entries), RULES).refused)


def test_entry_is_read_whole() -> None:
    """Each part of an entry arrives."""
    given = entry(
        name="acme",
        destination={"bucket": "data"},
        settings={"EXPORTS": "focus"},
        labels={"group": "north"},
        paused=True,
    )
    found = parse_registry(registry(given), RULES)
    wanted = Tenant(
        "acme", "aws", "", {"role": "role/acme"}, {"bucket": "data"}, {"EXPORTS": "focus"}, True, {"group": "north"}
    )
    assert (found.tenants, found.refused) == ({"acme": wanted}, {})


@pytest.mark.parametrize(
    ("data", "faults"),
    [
        pytest.param(b"", ["the registry is not valid JSON (JSONDecodeError)"], id="empty"),
        pytest.param(b"\xff\xfe", ["the registry is not valid JSON ("], id="not UTF-8"),
        pytest.param(b"[" * 100_000, ["the registry is not valid JSON (RecursionError)"], id="nested deeply"),
        pytest.param(b"[]", ["the registry is list, not an object"], id="a list"),
        pytest.param(b"{}", ["'version' is missing", "'tenants' is missing, not a list"], id="nothing in it"),
        pytest.param(b'{"version": 2, "tenants": []}', ["'version' is '2': a later release wrote it"], id="later"),
        pytest.param(b'{"version": true, "tenants": []}', ["'version' is bool"], id="true is no version"),
        pytest.param(
            b'{"version": "1", "tenants": {}, "more": 1}',
            ["unknown key 'more'", "'version' is str, not the number 1", "'tenants' is dict, not a list"],
            id="all faults at once",
        ),
        pytest.param(b" " * (MAX_BYTES + 1), [f"the registry has {MAX_BYTES + 1} bytes, more than"], id="too large"),
        pytest.param(
            json.dumps({"version": 1, "tenants": [0] * (MAX_TENANTS + 1)}).encode(),
            ["'tenants' has 10001 entries, more than 10000"],
            id="too many tenants",
        ),
    ],
)
def test_document_that_cannot_be_used(data: bytes, faults: list[str]) -> None:
    """A fault of the document as a whole is an error with every fault."""
    with pytest.raises(RegistryError) as raised:
        parse_registry(data, RULES)
    assert len(raised.value.problems) == len(faults)
    for found, fault in zip(raised.value.problems, faults, strict=True):
        assert found.startswith(fault)


@pytest.mark.parametrize(
    ("given", "place", "faults"),
    [
        pytest.param(7, "tenants[1]", ["is int, not an object"], id="no object"),
        pytest.param(
            {}, "tenants[1]", ["'id' is missing", "'cloud' is missing", "'entry': role is required"], id="empty"
        ),
        pytest.param(
            entry("Acme"),
            "tenants[1]",
            ["'id' is 'Acme', not 1 to 40", "'entry': role: 'role/Acme' is not a role"],
            id="capitals",
        ),
        pytest.param(entry("a" * 41), "tenants[1]", ["'id' is 'aaaa"], id="a long id"),
        pytest.param(entry("../x"), "tenants[1]", ["'id' is '../x'", "'entry': role: 'role/../x'"], id="a path"),
        pytest.param({**entry(), "cloud": "ibm"}, "acme", ["'cloud' is 'ibm', not one of aws, azure, gcp"], id="cloud"),
        pytest.param(entry(paused="yes"), "acme", ["'paused' is str, not true or false"], id="paused"),
        pytest.param(entry(name="acme", more=1), "acme", ["unknown key 'more'"], id="an unknown key"),
        pytest.param(
            entry(settings={"EXPORTS": 1, "AWS_ENDPOINT_URL": "http://x"}),
            "acme",
            [
                "'settings': the value of 'EXPORTS' is not printable text",
                "'settings': 'AWS_ENDPOINT_URL' may not be set",
            ],
            id="a setting that no tenant may have",
        ),
        pytest.param(entry(labels=[]), "acme", ["'labels' is list, not an object"], id="labels"),
        pytest.param(
            {**entry(), "entry": {"role": "other", "nothing": "x"}, "destination": {"bucket": "B"}},
            "acme",
            [
                "'entry': unknown key 'nothing'",
                "'entry': role: 'other' is not a role",
                "'destination': bucket: 'B' is not",
            ],
            id="all faults at once",
        ),
        pytest.param(
            {**entry(), "entry": {"role": "role/a\n"}},
            "acme",
            ["'entry': the value of 'role'", "'entry': role is required"],
            id="a line end",
        ),
    ],
)
def test_wrong_entry_costs_only_its_own_tenant(given: Any, place: str, faults: list[str]) -> None:
    """It is named with every fault, and the others are usable."""
    found = parse_registry(registry(entry("other"), given), RULES)
    assert list(found.tenants) == ["other"]
    assert list(found.refused) == [place]
    assert len(found.refused[place]) == len(faults)
    for seen, fault in zip(found.refused[place], faults, strict=True):
        assert seen.startswith(fault)
    with pytest.raises(RegistryError, match="problem"):
        found.require_sound()


def test_id_that_is_used_twice_refuses_both() -> None:
    """Which one was meant is unknown."""
    assert faults_of(entry("acme"), {**entry("acme"), "entry": {"role": "role/b"}}) == {
        "acme": ("this id is used 2 times; give each tenant its own",)
    }


def test_two_entries_of_one_payer_are_both_refused() -> None:
    """Two tenants of one payer would make each export twice."""
    same = {"role": "role/one"}
    found = faults_of({**entry("a"), "entry": same}, {**entry("b"), "entry": same}, entry("c"))
    assert found == {
        "a": ("enters role/one, as another one does (b); keep one of them",),
        "b": ("enters role/one, as another one does (a); keep one of them",),
    }


def test_secret_that_is_used_twice_is_not_quoted() -> None:
    """An External ID that two tenants share lets one enter the other."""
    found = faults_of(*({**entry(one), "entry": {"role": f"role/{one}", "key": "secret:same"}} for one in "ab"))
    assert found["a"] == ("'entry': key is the same as that of another tenant (b); keep one of them",)
    assert "secret:same" not in str(found)


@pytest.mark.parametrize("where", ["key", "unknown"])
def test_literal_secret_is_never_quoted(where: str) -> None:
    """Somebody may write the secret where its reference belongs."""
    found = faults_of({**entry(), "entry": {"role": "role/a", where: "hunter2-very-secret"}})
    assert "hunter2" not in str(found)
    assert len(found["acme"]) == 1


def test_entries_of_other_clouds_are_left_out() -> None:
    """One document may name the tenants of all clouds; each function sees its own."""
    found = parse_registry(registry({"id": "b", "cloud": "gcp", "entry": 7}, entry("a")), RULES)
    assert (list(found.tenants), found.refused) == (["a"], {})


def test_further_faults_come_from_the_cloud() -> None:
    """They are looked for in entries whose fields are valid."""
    rules = msgspec.structs.replace(RULES, further=lambda tenant: [f"{tenant.id} lacks a bucket"])
    assert parse_registry(registry(entry()), rules).refused == {"acme": ("acme lacks a bucket",)}


def test_tenant_that_cannot_run_says_why() -> None:
    """Unknown, paused, and with a wrong entry are three errors."""
    found = parse_registry(registry(entry("a"), entry("b", paused=True), entry("c", more=1)), RULES)
    assert found.tenant("a").id == "a"
    with pytest.raises(RequestError, match="tenant 'x' is not in the registry for aws"):
        found.tenant("x")
    with pytest.raises(RequestError, match="tenant 'b' is paused"):
        found.tenant("b")
    with pytest.raises(RegistryError, match="c: unknown key 'more'"):
        found.tenant("c")


def test_environment_of_a_tenant_inherits_only_what_it_may() -> None:
    """What enters the deployment's own cloud never enters a tenant, and the entry wins over the deployment."""
    base = {
        "ROLE": "own",
        "KEY": "own",
        "BUCKET": "own",
        "ACCOUNTS": "1",
        "TENANT": "x",
        "EXPORTS": "cur2",
        "REGION": "r",
    }
    tenant = parse_registry(registry(entry(settings={"EXPORTS": "focus"})), RULES).tenant("acme")
    assert environment_of(tenant, base, RULES) == {
        "EXPORTS": "focus",
        "REGION": "r",
        "ROLE": "role/acme",
        "TENANT": "acme",
    }


def test_written_registry_is_read_again() -> None:
    """Tenants, and entries as they were written, keep their content."""
    first = Tenant("a", "aws", "A", {"role": "role/a"}, labels={"group": "ä"})
    wrong = {"id": "B", "what": 1}
    written = encode_registry([first, wrong])
    assert read_document(written)[1] == wrong
    assert parse_registry(written, RULES).tenants == {"a": first}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "cloud", "entry", "destination", "settings", "paused", "labels", "name", "role", "key"]
            )
            | st.text(max_size=4),
            inner | st.sampled_from(["aws", "acme", "role/a", "secret:a"]),
            max_size=6,
        )
    ),
    max_leaves=20,
)


@given(st.lists(JSON, max_size=4))
def test_any_entries_are_used_or_refused(entries: list[Any]) -> None:
    """No entry raises anything; each one of this cloud is a tenant or has faults."""
    found = parse_registry(registry(*entries), RULES)
    elsewhere = [one for one in entries if isinstance(one, dict) and one.get("cloud") in ("azure", "gcp")]
    assert len(found.tenants) + len(found.refused) <= len(entries) - len(elsewhere)
    assert not set(found.tenants) & set(found.refused)
    assert all(found.refused.values())
    assert bool(found.tenants or found.refused) == (len(entries) > len(elsewhere))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_registry_or_an_error(data: bytes) -> None:
    """Nothing but RegistryError is raised."""
    try:
        read_document(data)
    except RegistryError as error:
        assert error.problems  # noqa: PT017 - bytes that are a registry by chance are right, too
