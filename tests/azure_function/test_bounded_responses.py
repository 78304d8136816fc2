"""What is returned to the SDK clients is bounded."""

from __future__ import annotations

import gc
import io
import weakref

import requests
from urllib3 import HTTPResponse

from azure_function.answers import BoundedAdapter


def test_response_that_is_not_read_to_its_end_is_freed_at_once() -> None:
    """Its socket does not wait for the garbage collection, which a warm instance rarely needs."""
    raw = HTTPResponse(io.BytesIO(b"12"), status=200, preload_content=False)
    sent = requests.Request("GET", "https://management.azure.com/subscriptions").prepare()
    response = BoundedAdapter().build_response(sent, raw)
    parts = response.iter_content(1)
    assert next(parts) == b"1"
    freed = weakref.ref(raw)
    gc.disable()
    try:
        del raw, response, parts
        assert freed() is None
    finally:
        gc.enable()
