"""Cloud Tasks: queues, their limits, named tasks, and the retries of each task.

Delivery is at least once and in no promised order; the task faults set how often and when a task is dispatched.
Sources: the reference of the Cloud Tasks API v2 (``RateLimits``, ``RetryConfig``, ``Task``, ``HttpRequest``,
``CreateTaskRequest``, ``queues.delete``), "Quotas and limits" and "Create HTTP target tasks" (Cloud Tasks).
"""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from localcloud.common.event_faults import EventArrivals
from localcloud.gcp.errors import GoogleError
from shared.runtime.clock import Clock

# How long a finished or deleted task's name, and a deleted queue's name, are refused.
TASK_NAME_KEPT, QUEUE_NAME_KEPT = timedelta(hours=24), timedelta(days=3)
RETENTION = timedelta(days=31)  # a task's longest life, dispatched or not
DEFAULT_DEADLINE = timedelta(minutes=10)
LIMITS: dict[str, Any] = {"maxDispatchesPerSecond": 500.0, "maxConcurrentDispatches": 1000}
RETRIES: dict[str, Any] = {"maxAttempts": 100, "minBackoff": "0.100s", "maxBackoff": "3600s", "maxDoublings": 16}
_DURATION = re.compile(r"-?[0-9]+(\.[0-9]{1,9})?s")
_LEAST_RATE = 1 / 64  # of the configured rate, while the target answers 429 or 503


@dataclass
class Task:
    """A task; `due` is when it is dispatched next, `running` the dispatches in progress."""

    name: str
    http: dict[str, Any]
    created: datetime
    due: datetime
    deadline: timedelta
    retries: dict[str, Any]
    running: int = 0
    dispatches: int = 0
    responses: int = 0
    failures: int = 0  # responses that are neither 2xx nor 5xx
    first: datetime | None = None
    last: dict[str, Any] = field(default_factory=dict)
    previous: int = 0  # the status of the previous response, 0 without one
    gone: bool = False

    @property
    def queue(self) -> str:
        return self.name.partition("/tasks/")[0]

    def headers(self) -> dict[str, str]:
        """Return the headers of its next request, in lower case."""
        sent = {name.lower(): str(value) for name, value in self.http.get("headers", {}).items()}
        own = {
            "user-agent": "Google-Cloud-Tasks",
            "x-cloudtasks-queuename": self.queue.rpartition("/")[2],
            "x-cloudtasks-taskname": self.name.rpartition("/")[2],
            "x-cloudtasks-taskretrycount": str(max(0, self.dispatches - 1)),
            "x-cloudtasks-taskexecutioncount": str(self.failures),
            "x-cloudtasks-tasketa": f"{self.due.timestamp():.6f}",
        }
        return sent | own | ({"x-cloudtasks-taskpreviousresponse": str(self.previous)} if self.previous else {})


@dataclass
class Queue:
    """A queue: its settings, its tasks by name, and its token bucket."""

    name: str
    limits: dict[str, Any]
    retries: dict[str, Any]
    created: datetime
    http_target: dict[str, Any] = field(default_factory=dict)
    state: str = "RUNNING"
    purged: datetime | None = None
    tasks: dict[str, Task] = field(default_factory=dict)
    running: int = 0
    tokens: float = 0.0
    filled: float = 0.0  # the monotonic time of the last refill
    share: float = 1.0  # the part of its rate that the target's 429 and 503 leave
    waiting: list[tuple[datetime, int, Task, bool]] = field(
        default_factory=list
    )  # a heap; True: a faulty extra dispatch

    # difference: GCP-24
    @property
    def burst(self) -> int:
        return max(1, math.ceil(float(self.limits["maxDispatchesPerSecond"])))

    @property
    def rate(self) -> float:
        return float(self.limits["maxDispatchesPerSecond"]) * self.share

    def as_json(self) -> dict[str, Any]:
        """Return the queue as a ``Queue``."""
        document = {
            "name": self.name,
            "rateLimits": {**self.limits, "maxBurstSize": self.burst},
            "retryConfig": dict(self.retries),
            "state": self.state,
        }
        if self.http_target:
            document["httpTarget"] = self.http_target
        return document | ({"purgeTime": stamp(self.purged)} if self.purged else {})


class Tasks:
    """All queues and tasks. The caller holds the local cloud's lock."""

    def __init__(self, clock: Clock, arrivals: EventArrivals) -> None:
        self._clock = clock
        self._arrivals = arrivals
        self._number = itertools.count(1)
        self.queues: dict[str, Queue] = {}
        self.deleted: dict[str, datetime] = {}  # queues, by when they were deleted
        self.names: dict[str, datetime] = {}  # finished and deleted tasks, by when their names are free again
        self.dispatched = 0

    def queue(self, name: str) -> Queue:
        """Return a queue. Raises GoogleError 404."""
        if name not in self.queues:
            raise GoogleError(
                404,
                "notFound",
                "Queue does not exist. If you just created the queue, wait at least a minute for it to initialize.",
            )
        return self.queues[name]

    def make(self, name: str, document: Mapping[str, Any]) -> Queue:
        """Create a queue, and return it; while its name is kept, only the response shows it. Raises GoogleError 409."""
        if name in self.queues:
            raise GoogleError(409, "alreadyExists", "Queue already exists")
        now = self._clock.now()
        made = Queue(
            name,
            {**LIMITS, **document.get("rateLimits", {})},
            {**RETRIES, **document.get("retryConfig", {})},
            now,
            dict(document.get("httpTarget", {})),
        )
        made.limits.pop("maxBurstSize", None)  # output only
        made.tokens, made.filled = made.burst, self._clock.monotonic()
        if now >= self.deleted.get(name, now - QUEUE_NAME_KEPT) + QUEUE_NAME_KEPT:
            self.queues[name] = made
        return made

    def delete_queue(self, name: str) -> None:
        """Delete a queue with its tasks. Raises GoogleError 404."""
        self.queue(name)
        del self.queues[name]
        self.deleted[name] = self._clock.now()

    def add(self, task: Task) -> Task:
        """Add a task to its queue. Raises GoogleError 404, and 409 for a name that is in use or was recently."""
        queue, now = self.queue(task.queue), self._clock.now()
        if task.name in queue.tasks:
            raise GoogleError(409, "alreadyExists", "Requested entity already exists")
        if self.names.get(task.name, now) > now:
            raise GoogleError(
                409,
                "alreadyExists",
                "The task cannot be created because a task with this name existed too recently. For more information "
                "about task de-duplication see https://cloud.google.com/tasks/docs/reference/rest/v2/"
                "projects.locations.queues.tasks/create#body.request_body.FIELDS.task.",
            )
        queue.tasks[task.name] = task
        for number, delay in enumerate(self._arrivals.delays()):
            self._wait(queue, task, max(task.due, now) + timedelta(seconds=delay), extra=number > 0)
        return task

    def find(self, name: str) -> Task:
        """Return a task. Raises GoogleError 404 for a queue or task that does not exist or was finished."""
        found = self.queue(name.partition("/tasks/")[0]).tasks.get(name)
        if found is None:
            raise GoogleError(
                404,
                "notFound",
                "The task no longer exists, though a task with this name existed recently."
                if name in self.names
                else "Requested entity was not found.",
            )
        return found

    def remove(self, task: Task) -> None:
        """Remove a finished or deleted task; its name is kept."""
        task.gone = True
        if (queue := self.queues.get(task.queue)) is not None and queue.tasks.get(task.name) is task:
            del queue.tasks[task.name]
        self.names[task.name] = self._clock.now() + TASK_NAME_KEPT

    def purge(self, queue: Queue) -> None:
        """Remove all tasks of a queue."""
        for task in list(queue.tasks.values()):
            self.remove(task)
        queue.waiting.clear()
        queue.purged = self._clock.now()

    def take(self) -> Iterator[Task]:
        """Yield the tasks to dispatch now, within the rate and concurrency of each queue; `finish` each of them."""
        now = self._clock.now()
        for queue in list(self.queues.values()):
            for task in [one for one in queue.tasks.values() if now - one.created >= RETENTION]:
                self.remove(task)
            self._fill(queue)
            while self._ready(queue, now):
                _, _, task, extra = heapq.heappop(queue.waiting)
                if task.gone and not extra:
                    continue
                queue.tokens -= 1
                self.begin(task)
                yield task

    def begin(self, task: Task) -> None:
        """Note that a task is being dispatched."""
        now = self._clock.now()
        task.running += 1
        task.dispatches += 1
        task.first = task.first or now
        task.last = {"scheduleTime": stamp(task.due), "dispatchTime": stamp(now)}
        self.dispatched += 1
        if (queue := self.queues.get(task.queue)) is not None:
            queue.running += 1

    def finish(self, task: Task, status: int | None, retry_after: float = 0.0) -> None:
        """Note the response to a dispatch (None: none within the deadline); schedule the retry of a failed task."""
        now = self._clock.now()
        task.running -= 1
        queue = self.queues.get(task.queue)
        if queue is not None:
            queue.running -= 1
            self._throttle(queue, status)
        if status is not None:
            task.responses += 1
            task.previous = status
            task.failures += not 200 <= status < 300 and status < 500
            task.last["responseTime"] = stamp(now)
        task.last["responseStatus"] = {"code": _rpc(status)} if _rpc(status) else {}
        if task.gone or queue is None:
            return
        if (status is not None and 200 <= status < 300) or self._exhausted(task, now):
            self.remove(task)
        else:
            task.due = now + max(backoff(task.retries, task.dispatches), timedelta(seconds=retry_after))
            self._wait(queue, task, task.due)

    def next_due(self) -> datetime | None:
        """Return when the next waiting task of a running queue is due, None if none waits; rates are not considered."""
        dues = [queue.waiting[0][0] for queue in self.queues.values() if queue.waiting and queue.state == "RUNNING"]
        return min(dues, default=None)

    def _wait(self, queue: Queue, task: Task, due: datetime, *, extra: bool = False) -> None:
        if not extra:
            task.due = due
        heapq.heappush(queue.waiting, (due, next(self._number), task, extra))

    def _ready(self, queue: Queue, now: datetime) -> bool:
        return (
            queue.state == "RUNNING"
            and bool(queue.waiting)
            and queue.waiting[0][0] <= now
            and queue.tokens >= 1
            and queue.running < queue.limits["maxConcurrentDispatches"]
        )

    def _fill(self, queue: Queue) -> None:
        now = self._clock.monotonic()
        queue.tokens = min(queue.burst, queue.tokens + (now - queue.filled) * queue.rate)
        queue.filled = now

    # difference: GCP-23
    def _throttle(self, queue: Queue, status: int | None) -> None:
        """Halve the queue's rate for a 429 or 503, and double it again, up to the configured one, for a success."""
        self._fill(queue)
        if status in (429, 503):
            queue.share = max(_LEAST_RATE, queue.share / 2)
            queue.tokens = min(queue.tokens, 0.0)
        elif status is not None and 200 <= status < 300:
            queue.share = min(1.0, queue.share * 2)

    def _exhausted(self, task: Task, now: datetime) -> bool:
        most, longest = int(task.retries["maxAttempts"]), seconds_of(task.retries.get("maxRetryDuration", "0s"))
        if most < 0 and not longest:
            return False
        tried = most < 0 or task.dispatches >= most
        return tried and (not longest or (now - (task.first or now)).total_seconds() >= longest)


def backoff(retries: Mapping[str, Any], attempts: int) -> timedelta:
    """Return the wait after a number of failed attempts: doubled `maxDoublings` times, then linear, up to the maximum.

    Ten seconds, three doublings and a maximum of 300 seconds give 10, 20, 40, 80, 160, 240, 300, 300, … seconds.
    """
    least, most = seconds_of(retries["minBackoff"]), seconds_of(retries["maxBackoff"])
    doublings = int(retries["maxDoublings"])
    step = min(attempts - 1, doublings)
    linear = max(1, attempts - doublings)
    return timedelta(seconds=min(most, least * 2**step * linear))


def seconds_of(duration: str) -> float:
    """Return the seconds of a ``google.protobuf.Duration`` in JSON. Raises GoogleError 400."""
    if _DURATION.fullmatch(duration):
        return float(duration[:-1])
    raise GoogleError(400, "badRequest", f"Invalid duration format {duration[:40]!r}: seconds followed by 's'")


def stamp(moment: datetime) -> str:
    """Return a ``google.protobuf.Timestamp`` in JSON."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _rpc(status: int | None) -> int:
    """Return the gRPC code that `Attempt.responseStatus` shows for an HTTP status, 0 for a success."""
    if status is None:
        return 4  # DEADLINE_EXCEEDED
    known = {400: 3, 401: 16, 403: 7, 404: 5, 409: 10, 429: 8, 500: 13, 501: 12, 503: 14, 504: 4}
    return 0 if 200 <= status < 300 else known.get(status, 2)
