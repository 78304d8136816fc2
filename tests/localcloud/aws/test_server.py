"""The server under the local AWS, with a client that leaves."""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

import pytest

from localcloud.aws.cloud import LocalAws
from tests.limits import HANG_S


def test_a_client_that_leaves_in_the_middle_of_its_request_is_nothing_to_tell(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A connection that is reset before the body has come ends its thread without a word; others are served on."""
    with LocalAws(accounts=2) as cloud:
        address = urlsplit(cloud.endpoint)
        with socket.create_connection((address.hostname, address.port), timeout=HANG_S) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: sts.amazonaws.com\r\nContent-Length: 1000\r\n\r\nAction=")
            # With nothing to linger for, closing sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(3):
            assert cloud.client("sts").get_caller_identity()["Account"]
    assert capfd.readouterr().err == ""
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
