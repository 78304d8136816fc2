"""The guards around every test: nothing but loopback, and nobody's credentials."""

from __future__ import annotations

import os
import socket

import boto3
import pytest
from pytest_socket import SocketConnectBlockedError


def test_other_hosts_cannot_be_reached() -> None:
    """A connection to an address outside this machine is refused before a packet leaves."""
    with (
        pytest.raises(SocketConnectBlockedError),
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
    ):
        # 192.0.2.0/24 is reserved for documentation (RFC 5737).
        connection.connect(("192.0.2.1", 443))


def test_loopback_can_be_reached() -> None:
    """A server on this machine answers."""
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()) as client,
    ):
        assert client.getpeername() == server.getsockname()


def test_no_credentials_are_visible() -> None:
    """The AWS SDK finds no credentials, no region and no endpoint unless a test gives them."""
    session = boto3.Session()
    assert [session.get_credentials(), session.region_name] == [None, None]
    assert not [name for name in os.environ if "ENDPOINT_URL" in name]
