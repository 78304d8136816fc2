"""The virtual clock of a local cloud, for a function in another process."""

from __future__ import annotations

import http.client
import json
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlsplit

TIMEOUT_S = 60


class RemoteClock:
    """Follows the clock of the local cloud at `endpoint`, and advances it whenever the function waits.

    The cloud's quotas, delays and deliveries then account for every second that the function waits, without real
    waiting. No other process may advance that clock during a run; `sync` picks up what changed before the run.

    Raises OSError when the local cloud does not respond, RuntimeError when it uses the system clock.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=TIMEOUT_S)
        self._lock = threading.Lock()
        self._elapsed = 0.0
        self._start = self._advance(0.0)

    def now(self) -> datetime:
        """Return the local cloud's current time."""
        return (self._start + timedelta(seconds=self.monotonic())).replace(microsecond=0)

    def monotonic(self) -> float:
        """Return the seconds since this clock was created."""
        with self._lock:
            return self._elapsed

    def wait_until(self, moment: float) -> None:
        """Advance both clocks to `moment`, unless it is in the past."""
        with self._lock:
            if moment > self._elapsed:
                self._advance(moment - self._elapsed)
                self._elapsed = moment

    def sync(self) -> RemoteClock:
        """Read the local cloud's clock, which other processes may have advanced."""
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
            raise RuntimeError(document.get("error", f"the local cloud responded with status {response.status}"))
        return datetime.fromisoformat(document["result"]).astimezone(UTC)
