"""The Cloud Tasks methods: queues and their settings, and the tasks that callers create, read, delete and run."""

from __future__ import annotations

import base64
import json
import re
import secrets
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, unimplemented
from localcloud.gcp.services.tasks import DEFAULT_DEADLINE, Queue, Task, seconds_of, stamp
from shared.parsing import parse_time

_QUEUES, _TASKS = "cloudtasks.projects.locations.queues", "cloudtasks.projects.locations.queues.tasks"
_QUEUE_ID, _TASK_ID = re.compile(r"[A-Za-z0-9-]{1,100}"), re.compile(r"[A-Za-z0-9_-]{1,500}")
_URL, _LONGEST_URL = re.compile(r"https?://\S+"), 2083
_LARGEST_TASK = 100 * 1024
_LATEST = timedelta(days=30)  # "Quotas and limits": the maximum schedule time
_SHORTEST_DEADLINE, _LONGEST_DEADLINE = timedelta(seconds=15), timedelta(minutes=30)
_WITH_BODY = ("POST", "PUT", "PATCH")
_PAGE = 1000
ACT_AS = "iam.serviceAccounts.actAs"

# Dispatches a task now, beyond the limits of its queue.
RunNow = Callable[[Task], None]


class TasksApi:
    """Queues: create, get, list, patch, delete, pause, resume, purge, policy. Tasks: create, get, list, delete, run."""

    def __init__(self, run_now: RunNow) -> None:
        self._run_now = run_now
        self.handlers: dict[str, Handler] = {
            f"{_QUEUES}.create": self._create_queue,
            f"{_QUEUES}.get": self._get_queue,
            f"{_QUEUES}.list": self._list_queues,
            f"{_QUEUES}.patch": self._patch_queue,
            f"{_QUEUES}.delete": self._delete_queue,
            f"{_QUEUES}.pause": self._pause,
            f"{_QUEUES}.resume": self._resume,
            f"{_QUEUES}.purge": self._purge,
            f"{_QUEUES}.getIamPolicy": self._policy,
            f"{_QUEUES}.testIamPermissions": self._test,
            f"{_TASKS}.create": self._create,
            f"{_TASKS}.get": self._get,
            f"{_TASKS}.list": self._list,
            f"{_TASKS}.delete": self._delete,
            f"{_TASKS}.run": self._run,
        }

    # Queues

    def _create_queue(self, context: Context) -> Answer:
        parent = f"projects/{context.ids[0]}/locations/{context.ids[1]}"
        _need(context, "cloudtasks.queues.create", parent)
        name = str(context.body.get("name", ""))
        if not name.startswith(f"{parent}/queues/") or not _QUEUE_ID.fullmatch(name.rpartition("/")[2]):
            raise _bad(f'Queue.name must be formatted: "{parent}/queues/QUEUE_ID"')
        _check_queue(context.body)
        return context.world.tasks.make(name, context.body).as_json()

    def _get_queue(self, context: Context) -> Answer:
        return _queue(context, "cloudtasks.queues.get").as_json()

    def _list_queues(self, context: Context) -> Answer:
        parent = f"projects/{context.ids[0]}/locations/{context.ids[1]}"
        _need(context, "cloudtasks.queues.list", parent)
        found = [one for name, one in sorted(context.world.tasks.queues.items()) if name.startswith(f"{parent}/")]
        items, token = page(found, context.request.one("pageToken"), _size(context), parent)
        return {"queues": [one.as_json() for one in items]} | ({"nextPageToken": token} if token else {})

    def _patch_queue(self, context: Context) -> Answer:
        name = _queue_name(context)
        _check_queue(context.body)
        if name not in context.world.tasks.queues:
            _need(context, "cloudtasks.queues.create", name.partition("/queues/")[0])
            return context.world.tasks.make(name, context.body).as_json()
        queue = _queue(context, "cloudtasks.queues.update")
        paths = [one for one in context.request.one("updateMask").split(",") if one]
        for path in paths or ["rateLimits", "retryConfig", "httpTarget"]:
            head, _, leaf = path.replace("_", "").partition(".")
            _update(queue, head.lower(), leaf.lower(), context.body)
        return queue.as_json()

    def _delete_queue(self, context: Context) -> Answer:
        context.world.tasks.delete_queue(_queue(context, "cloudtasks.queues.delete").name)
        return {}

    def _pause(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.queues.pause")
        queue.state = "PAUSED"
        return queue.as_json()

    def _resume(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.queues.resume")
        queue.state = "RUNNING"
        return queue.as_json()

    def _purge(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.queues.purge")
        context.world.tasks.purge(queue)
        return queue.as_json()

    def _policy(self, context: Context) -> Answer:
        return context.world.iam.policy(_queue(context, "cloudtasks.queues.getIamPolicy").name)

    def _test(self, context: Context) -> Answer:
        return context.tested(_queue_name(context))

    # Tasks

    def _create(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.tasks.create")
        document = context.body.get("task")
        if not isinstance(document, dict):
            raise _bad("Task is required.")
        if len(json.dumps(document)) > _LARGEST_TASK:
            raise _bad("Task size too large.")
        task = _parsed(context, queue, document)
        token = task.http.get("oidcToken")
        if token is not None:
            email = str(token.get("serviceAccountEmail", ""))
            account = f"projects/{context.ids[0]}/serviceAccounts/{email}"
            if account not in context.world.platform.all:
                raise _bad("The service account must exist and be within the same project as the queue.")
            _need(context, ACT_AS, account)
        full = context.body.get("responseView") == "FULL"
        if full:
            _need(context, "cloudtasks.tasks.fullView", queue.name)
        return _shown(context.world.tasks.add(task), full=full)

    def _get(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.tasks.get")
        return _shown(context.world.tasks.find(f"{queue.name}/tasks/{context.ids[3]}"), full=self._full(context, queue))

    def _list(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.tasks.list")
        full = self._full(context, queue)
        items, token = page(list(queue.tasks.values()), context.request.one("pageToken"), _size(context), queue.name)
        found = {"tasks": [_shown(one, full=full) for one in items]} if items else {}
        return found | ({"nextPageToken": token} if token else {})

    def _delete(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.tasks.delete")
        context.world.tasks.remove(context.world.tasks.find(f"{queue.name}/tasks/{context.ids[3]}"))
        return {}

    def _run(self, context: Context) -> Answer:
        queue = _queue(context, "cloudtasks.tasks.run")
        task = context.world.tasks.find(f"{queue.name}/tasks/{context.ids[3]}")
        self._run_now(task)
        return _shown(task, full=False)

    def _full(self, context: Context, queue: Queue) -> bool:
        if context.request.one("responseView") != "FULL":
            return False
        _need(context, "cloudtasks.tasks.fullView", queue.name)
        return True


def _parsed(context: Context, queue: Queue, document: Mapping[str, Any]) -> Task:
    """Return the task of a create request. Raises GoogleError 400."""
    now = context.world.clock.now()
    prefix = f"{queue.name}/tasks/"
    name = str(document.get("name") or f"{prefix}{secrets.randbits(63):020d}")
    if not name.startswith(prefix) or not _TASK_ID.fullmatch(name.removeprefix(prefix)):
        raise _bad(f'Task name must be formatted: "{prefix}<TASK_ID>"')
    if "appEngineHttpRequest" in document:
        raise unimplemented("A task for App Engine")
    http = document.get("httpRequest")
    if not isinstance(http, dict):
        raise _bad("The task must have a payload type: http_request or app_engine_http_request.")
    url, method = str(http.get("url", "")), str(http.get("httpMethod", "POST"))
    if not _URL.fullmatch(url) or len(url) > _LONGEST_URL:
        raise _bad('HttpRequest.url is required and must begin with "http://" or "https://".')
    if http.get("body") and method not in _WITH_BODY:
        raise _bad("HTTP Body is not allowed for HTTP method " + method)
    try:
        base64.b64decode(str(http.get("body", "")), validate=True)
    except ValueError as error:
        raise _bad("Invalid value at 'task.http_request.body' (TYPE_BYTES)") from error
    due = parse_time(document.get("scheduleTime")) or now
    if due - now > _LATEST:
        raise _bad("The schedule_time must be within 30 days from now.")
    given = document.get("dispatchDeadline")
    deadline = timedelta(seconds=seconds_of(str(given))) if given else DEFAULT_DEADLINE
    if not _SHORTEST_DEADLINE <= deadline <= _LONGEST_DEADLINE:
        raise _bad("The dispatch deadline must be between [15s, 1800s].")
    retries = {**queue.retries, **document.get("retryConfig", {})}
    return Task(name, {**http, "url": url, "httpMethod": method}, now, max(due, now), deadline, retries)


def _shown(task: Task, *, full: bool) -> dict[str, Any]:
    """Return a task as a ``Task``; only the full view has the body and the headers."""
    hidden = () if full else ("body", "headers", "oidcToken")
    document: dict[str, Any] = {
        "name": task.name,
        "httpRequest": {name: value for name, value in task.http.items() if name not in hidden},
        "scheduleTime": stamp(task.due),
        "createTime": stamp(task.created),
        "dispatchDeadline": f"{task.deadline.total_seconds():g}s",
        "view": "FULL" if full else "BASIC",
    }
    counts = {"dispatchCount": task.dispatches, "responseCount": task.responses}
    document |= {name: count for name, count in counts.items() if count}
    if task.first:
        document |= {"firstAttempt": {"dispatchTime": stamp(task.first)}, "lastAttempt": dict(task.last)}
    return document


def _check_queue(document: Mapping[str, Any]) -> None:
    """Raise GoogleError 400 for limits out of range."""
    limits, retries = document.get("rateLimits", {}), document.get("retryConfig", {})
    if not 0 < float(limits.get("maxDispatchesPerSecond", 1)) <= 500:
        raise _bad("Queue.rateLimits.maxDispatchesPerSecond must be between 0 and 500.")
    if not 0 < int(limits.get("maxConcurrentDispatches", 1)) <= 5000:
        raise _bad("Queue.rateLimits.maxConcurrentDispatches must be between 0 and 5000.")
    if int(retries.get("maxAttempts", 1)) < -1 or int(retries.get("maxAttempts", 1)) == 0:
        raise _bad("Queue.retryConfig.maxAttempts must be greater than 0, or -1.")
    if int(retries.get("maxDoublings", 0)) < 0:
        raise _bad("Queue.retryConfig.maxDoublings must be greater than or equal to 0.")
    waits = [seconds_of(str(retries[name])) for name in ("minBackoff", "maxBackoff") if name in retries]
    if waits != sorted(waits) or any(one < 0 for one in waits):
        raise _bad("Queue.retryConfig.minBackoff must not exceed maxBackoff.")


def _update(queue: Queue, head: str, leaf: str, body: Mapping[str, Any]) -> None:
    """Set one path of an update mask, given in lower case without underscores."""
    targets = {"ratelimits": (queue.limits, "rateLimits"), "retryconfig": (queue.retries, "retryConfig")}
    if head == "httptarget" and not leaf:
        queue.http_target = dict(body.get("httpTarget", {}))
        return
    if head not in targets:
        raise unimplemented(f"An update of {head} of a queue")
    kept, name = targets[head]
    for key, value in body.get(name, {}).items():
        if leaf in ("", key.lower()) and key != "maxBurstSize":
            kept[key] = value


def _queue_name(context: Context) -> str:
    project, location, queue = context.ids[:3]
    return f"projects/{project}/locations/{location}/queues/{queue}"


def _queue(context: Context, permission: str) -> Queue:
    """Return the queue of a request. Raises GoogleError 403, and 404."""
    name = _queue_name(context)
    _need(context, permission, name)
    return context.world.tasks.queue(name)


def _need(context: Context, permission: str, resource: str) -> None:
    context.need(permission, resource, f"The principal lacks IAM permission {permission} for the resource {resource}.")


def _size(context: Context) -> int:
    return min(int(context.request.one("pageSize") or _PAGE) or _PAGE, _PAGE)


def _bad(message: str) -> GoogleError:
    return GoogleError(400, "badRequest", message)
