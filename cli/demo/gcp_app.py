"""The deployed HTTP function, on the local GCP's virtual clock instead of the machine's.

The hour between two scheduled runs then takes no real time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gcp_function import handler
from localcloud.common.remote_clock import RemoteClock

if TYPE_CHECKING:
    from flask import Request

    from gcp_function.handler import Answer

# One per process: overlapping calls share the same time.
_clock = RemoteClock(os.environ["GOOGLE_API_ENDPOINT"])


def reconcile(request: Request) -> Answer:
    """Run once for a request and return the report."""
    return handler.reconcile(request, clock=_clock.sync())  # type: ignore[call-arg,return-value]  # the framework's decorator keeps neither in its type
