"""The virtual clock of a local cloud, for a function in another process."""

from __future__ import annotations

import http.client
import json
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

TIMEOUT_S = 60


class RemoteClock:
    """Shows the time of the local cloud at `endpoint`, and moves it on whenever the function waits.

    So the cloud's quotas, delays and deliveries see every second that the function waits, without real waiting. No
    other process may move that clock while the function works; `sync` reads what moved it before a run.

    Raises OSError when the local cloud does not answer, RuntimeError when it lives by the machine's clock.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._lock = threading.Lock()
        self._elapsed = 0.0
        self._start = self._advance(0.0)

    def now(self) -> datetime:
        """Return the local cloud's time."""
        return (self._start + timedelta(seconds=self.monotonic())).replace(microsecond=0)

    def monotonic(self) -> float:
        """Return the seconds since this clock was made."""
        with self._lock:
            return self._elapsed

    def wait_until(self, moment: float) -> None:
        """Move both clocks to `moment`, unless they are there already."""
        with self._lock:
            if moment > self._elapsed:
                self._advance(moment - self._elapsed)
                self._elapsed = moment

    def sync(self) -> RemoteClock:
        """Read the local cloud's clock, which other processes may have moved."""
        with self._lock:
            ahead = (self._advance(0.0) - self._start).total_seconds()
            self._elapsed = max(self._elapsed, ahead)
        return self

    def _advance(self, seconds: float) -> datetime:
        body = json.dumps({"seconds": seconds})
        self._connection.request("POST", "/_local/advance", body, {"Content-Type": "application/json"})
        response = self._connection.getresponse()
        document = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(document.get("error", f"the local cloud answered {response.status}"))
        return datetime.fromisoformat(document["result"]).astimezone(UTC)
