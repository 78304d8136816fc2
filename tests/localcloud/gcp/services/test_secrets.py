"""Secrets of the local Secret Manager, as an operator stores them and a function reads them."""

from __future__ import annotations

import base64
from typing import Any

import google_crc32c
import pytest

from tests.localcloud.gcp.conftest import Clients

ADDRESS = b"https://hooks.example.com/services/one?two>three"
AUTOMATIC: dict[str, Any] = {"replication": {"automatic": {}}}


def payload(data: bytes, **more: Any) -> dict[str, Any]:
    """Return the body that adds a version."""
    return {"payload": {"data": base64.urlsafe_b64encode(data).decode(), **more}}


def test_what_an_operator_stores_is_what_the_function_reads(operator: Clients) -> None:
    """Each version is kept, `latest` is the last one, and the full names hold the project's number."""
    secrets = f"v1/projects/{operator.cloud.project}/secrets"
    created = operator.post(f"{secrets}?secretId=hook", AUTOMATIC).json()
    assert created["name"].endswith("/secrets/hook")
    checksum = str(google_crc32c.value(ADDRESS))
    added = [
        operator.post(f"{secrets}/hook:addVersion", payload(data, **more)).json()["name"]
        for data, more in ((b"first", {}), (ADDRESS, {"dataCrc32c": checksum}))
    ]
    assert added == [f"{created['name']}/versions/{number}" for number in (1, 2)]
    read = [operator.get(f"{secrets}/hook/versions/{version}:access").json() for version in ("1", "latest")]
    assert [base64.b64decode(one["payload"]["data"]) for one in read] == [b"first", ADDRESS]
    assert (read[1]["name"], read[1]["payload"]["dataCrc32c"]) == (added[1], checksum)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("?secretId=kept", AUTOMATIC, 409),
        ("?secretId=a.b", AUTOMATIC, 400),
        ("?secretId=hook", {}, 400),
        ("/absent:addVersion", payload(b"1"), 404),
        ("/kept:addVersion", payload(b"1", dataCrc32c="1"), 400),
        ("/kept:addVersion", {"payload": {"data": "?"}}, 400),
    ],
)
def test_what_secret_manager_refuses_stores_nothing(
    operator: Clients, path: str, body: dict[str, Any], status: int
) -> None:
    """A name that is taken or wrong, a secret without replication, and a payload that arrived altered are refused."""
    stored = operator.cloud.world.secrets
    stored["kept"] = ["1"]
    assert operator.post(f"v1/projects/{operator.cloud.project}/secrets{path}", body).status_code == status
    assert stored == {"kept": ["1"]}


def test_the_function_may_store_no_secret(gcp: Clients) -> None:
    """Creating a secret and adding a version each need a permission of their own."""
    gcp.cloud.world.secrets["kept"] = ["1"]
    secrets = f"v1/projects/{gcp.cloud.project}/secrets"
    refused = [
        gcp.post(f"{secrets}?secretId=hook", AUTOMATIC),
        gcp.post(f"{secrets}/kept:addVersion", payload(b"2")),
    ]
    assert [one.status_code for one in refused] == [403, 403]
    assert gcp.cloud.world.secrets == {"kept": ["1"]}
