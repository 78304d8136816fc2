"""The Azure function as it is deployed, but on the local Azure's virtual clock instead of the machine's.

The quota of 200 calls a minute is then kept in that time, and a scenario of days takes seconds.
"""

from __future__ import annotations

import os

from azure_function import handler
from azure_function.handler import app
from localcloud.common.remote_clock import RemoteClock

__all__ = ["app"]

# One per process: overlapping invocations share the same time.
_clock = RemoteClock(os.environ["ARM_ENDPOINT"])
vars(handler)["SystemClock"] = _clock.sync
