"""The host of a function app: it starts the functions on first use and restarts them when settings change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

import msgspec

from localcloud.azure.platform.sites import Site
from localcloud.azure.runtime.durable_host import DurableHost
from localcloud.azure.runtime.durable_task import TaskHub
from localcloud.azure.runtime.worker import AzureWorker, Invocation
from localcloud.azure.wire import Answer, Request

# Starts the worker with the functions' environment; the caller provides it because it knows where their code is.
Start = Callable[[Mapping[str, str]], AzureWorker]


class FunctionApp:
    """Serve one site. `platform` are the site's environment variables in addition to its settings.

    Without `start`, the app has no code: it has no functions, and every request gets a 404.
    """

    def __init__(self, site: Site, platform: Mapping[str, str], start: Start | None) -> None:
        self._site, self._platform, self._start = site, dict(platform), start
        self._lock = threading.Lock()
        self._worker: AzureWorker | None = None
        self._settings: dict[str, str] = {}
        self._durable: DurableHost | None = None
        self._hub = TaskHub(lambda: datetime.now(UTC))  # as in the app's storage, histories survive the worker

    def functions(self) -> Mapping[str, list[dict[str, Any]]]:
        """Return the bindings of each function by name."""
        worker = self._current()
        return worker.functions() if worker else {}

    def answer(self, request: Request) -> Answer:
        """Answer a request to the app; as with the real host, the key is in a header or in the query (`code`)."""
        worker = self._current()
        if worker is None:
            return Answer(status=404)
        route = request.path + (f"?{urlencode(request.query)}" if request.query else "")
        key = request.query.get("code", "")
        done = worker.invoke_http(request.method, route, request.body, request.headers, key=key)
        self._keep(done)
        return Answer(msgspec.Raw(done.body) if done.body else None, done.status)

    def tick(self, name: str = "") -> bool:
        """Trigger a timer (default: the first one) and return whether its function ran and succeeded.

        A disabled function does not run.
        """
        timers = [
            one
            for one, bindings in self.functions().items()
            if any(binding["type"] == "timerTrigger" for binding in bindings)
        ]
        chosen = name or next(iter(timers), "")
        worker = self._current()
        if worker is None or chosen not in timers or self._site.disabled(chosen):
            return False
        done = worker.invoke_timer(chosen)
        self._keep(done)
        return done.error is None

    def push(self, event: Mapping[str, Any]) -> bool:
        """Deliver an event to the function that an Event Grid subscription names; return whether it succeeded."""
        worker = self._current()
        if worker is None:
            return False
        done = worker.invoke_event(event)
        self._keep(done)
        return done.error is None

    def close(self) -> None:
        """Stop the worker if it is running; later requests get a 404."""
        with self._lock:
            self._start = None
            self._end()

    def _keep(self, done: Invocation) -> None:
        """Store the log lines of an invocation."""
        now = datetime.now(UTC)
        self._site.lines.extend((now, line) for line in done.logs)

    def _current(self) -> AzureWorker | None:
        with self._lock:
            if self._start is None:
                return None
            if self._worker is None or self._settings != self._site.settings:
                self._end()
                self._settings = dict(self._site.settings)
                self._worker = self._start({**self._platform, **self._settings})
                self._worker.function_key = self._site.key
                self._durable = DurableHost.attach(self._worker, self._hub, self._keep)
            return self._worker

    def _end(self) -> None:
        if self._durable is not None:
            self._durable.close()
            self._durable = None
        if self._worker is not None:
            self._worker.__exit__(None, None, None)
            self._worker = None
