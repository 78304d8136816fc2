"""The HTTP server of the local AWS with a client that disconnects."""

from __future__ import annotations

import socket
import struct
from urllib.parse import urlsplit

import pytest

from localcloud.aws.cloud import LocalAws
from tests.limits import HANG_S


def test_client_that_disconnects_during_its_request_logs_nothing(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A reset before the body ends the thread silently, and other clients are served."""
    with LocalAws(accounts=2) as cloud:
        address = urlsplit(cloud.endpoint)
        with socket.create_connection((address.hostname, address.port), timeout=HANG_S) as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: sts.amazonaws.com\r\nContent-Length: 1000\r\n\r\nAction=")
            # With SO_LINGER 0, closing sends a reset.
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for _ in range(3):
            assert cloud.client("sts").get_caller_identity()["Account"]
    assert capfd.readouterr().err == ""
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
