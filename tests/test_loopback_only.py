"""The guards around every test: only loopback is reachable, and no credentials are visible."""

from __future__ import annotations

import os
import socket

import boto3
import pytest
from pytest_socket import SocketConnectBlockedError


def test_connection_to_another_host_is_refused() -> None:
    """The connection is refused before a packet is sent."""
    with (
        pytest.raises(SocketConnectBlockedError),
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
    ):
        # 192.0.2.0/24 is reserved for documentation (RFC 5737).
        connection.connect(("192.0.2.1", 443))


def test_connection_to_loopback_succeeds() -> None:
    """A server on this machine is reachable."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_sdk_finds_no_credentials() -> None:
    """The AWS SDK finds no credentials, region or endpoint unless a test sets them."""
    session = boto3.Session()
    assert [session.get_credentials(), session.region_name] == [None, None]
    assert not [name for name in os.environ if "ENDPOINT_URL" in name]
