"""Cloud Tasks of the local GCP: queues, named tasks, dispatch within rates, retries, and delivery faults."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
import requests

from localcloud.gcp.platform.deployment import OPERATOR
from localcloud.gcp.platform.task_delivery import Dispatch, TaskDelivery, TaskResponse
from localcloud.gcp.services.tasks import RETRIES, backoff
from tests.limits import HANG_S
from tests.localcloud.gcp.conftest import START, Clients, Opener

PLACE = "projects/tailpipe-dataexport/locations/us-central1"
QUEUE = f"{PLACE}/queues/rounds"
DAY = 86_400.0


class Target:
    """What tasks call: keeps the requests, and answers with `status` after `seconds`."""

    def __init__(self, operator: Clients) -> None:
        self.cloud = operator.cloud
        self.requests: list[Dispatch] = []
        self.at: list[datetime] = []
        self.status: int = 200
        self.retry_after = 0.0
        self.seconds = 0.0
        self.delivery = TaskDelivery(self.cloud.world, self.send)

    def send(self, request: Dispatch) -> TaskResponse:
        self.requests.append(request)
        self.at.append(self.cloud.clock.now())
        if self.seconds:
            self.cloud.advance(self.seconds)
        return TaskResponse(self.status, self.retry_after)

    def deliver(self) -> list[int | None]:
        return [status for _, status in self.delivery.deliver()]

    def names(self) -> list[str]:
        return [one.task.rpartition("/")[2] for one in self.requests]


@pytest.fixture
def operator(opened: Opener, clients: Callable[..., Clients]) -> Clients:
    """Return the operator's clients on a cloud with one queue."""
    found = clients(opened(accounts=0), OPERATOR)
    assert queue(found).status_code == 200
    return found


@pytest.fixture
def target(operator: Clients) -> Target:
    """Return what the tasks call."""
    return Target(operator)


def queue(operator: Clients, name: str = QUEUE, **settings: Any) -> requests.Response:
    """Create a queue."""
    return operator.post(f"v2/{PLACE}/queues", {"name": name, **settings})


def enqueue(operator: Clients, name: str = "", **task: Any) -> requests.Response:
    """Create a task with a JSON body."""
    body = base64.b64encode(json.dumps({"tenant": name}).encode()).decode()
    document = {"httpRequest": {"url": "https://function.example.com", "body": body}, **task}
    if name:
        document["name"] = f"{QUEUE}/tasks/{name}"
    return operator.post(f"v2/{QUEUE}/tasks", {"task": document})


def test_a_task_is_dispatched_once_with_the_documented_headers(operator: Clients, target: Target) -> None:
    """The request names queue, task and retry; a success removes the task."""
    made = enqueue(operator, "one").json()
    assert (made["dispatchDeadline"], made["view"]) == ("600s", "BASIC")
    assert "body" not in made["httpRequest"]
    assert target.deliver() == [200]
    (sent,) = target.requests
    assert json.loads(sent.body) == {"tenant": "one"}
    assert sent.headers == {
        "user-agent": "Google-Cloud-Tasks",
        "x-cloudtasks-queuename": "rounds",
        "x-cloudtasks-taskname": "one",
        "x-cloudtasks-taskretrycount": "0",
        "x-cloudtasks-taskexecutioncount": "0",
        "x-cloudtasks-tasketa": f"{START.timestamp():.6f}",
    }
    assert operator.get(f"v2/{QUEUE}/tasks/one").status_code == 404
    assert target.deliver() == []


def test_a_name_is_refused_for_a_day_after_the_task(operator: Clients, target: Target) -> None:
    """While it exists, and up to 24 hours after it was executed or deleted."""
    assert enqueue(operator, "one").status_code == 200
    again = enqueue(operator, "one")
    assert (again.status_code, again.json()["error"]["status"]) == (409, "ALREADY_EXISTS")
    target.deliver()
    operator.cloud.advance(DAY - 60)
    assert enqueue(operator, "one").status_code == 409
    operator.cloud.advance(120)
    assert enqueue(operator, "one").status_code == 200
    deleted = operator.session.delete(f"{operator.cloud.endpoint}/v2/{QUEUE}/tasks/one", timeout=HANG_S)
    assert deleted.status_code == 200
    assert enqueue(operator, "one").status_code == 409


def test_a_deleted_queue_is_not_recreated_within_three_days(operator: Clients) -> None:
    """The creation only appears to succeed, as Google documents."""
    url = f"{operator.cloud.endpoint}/v2/{QUEUE}"
    assert operator.session.delete(url, timeout=HANG_S).status_code == 200
    assert queue(operator).status_code == 200
    assert operator.get(f"v2/{QUEUE}").status_code == 404
    operator.cloud.advance(3 * DAY + 60)
    assert queue(operator).status_code == 200
    assert operator.get(f"v2/{QUEUE}").json()["state"] == "RUNNING"
    assert queue(operator).status_code == 409


def test_rate_and_concurrency_limit_the_dispatches(operator: Clients, target: Target) -> None:
    """A burst, then the rate; and no more at once than the limit of concurrent dispatches."""
    limits = {"maxDispatchesPerSecond": 2, "maxConcurrentDispatches": 3}
    body = {"rateLimits": limits}
    patched = operator.session.patch(
        f"{operator.cloud.endpoint}/v2/{QUEUE}", params={"updateMask": "rateLimits"}, json=body, timeout=HANG_S
    )
    assert patched.json()["rateLimits"] == {**limits, "maxBurstSize": 2}
    operator.cloud.world.tasks.queue(QUEUE).tokens = 2
    for number in range(6):
        enqueue(operator, f"task-{number}")
    assert len(target.deliver()) == 2
    operator.cloud.advance(1)
    assert len(target.deliver()) == 2
    operator.cloud.advance(60)
    tasks = operator.cloud.world.tasks
    assert len(list(tasks.take())) == 2
    for number in range(3):
        enqueue(operator, f"more-{number}")
    operator.cloud.advance(60)
    assert len(list(tasks.take())) == 1  # three run now
    operator.cloud.advance(60)
    assert target.deliver() == []


def test_a_failed_task_is_retried_with_back_off_until_its_attempts_are_used(operator: Clients, target: Target) -> None:
    """The next requests count the retries; then the task is deleted, and its name is still refused."""
    retries = {"maxAttempts": 3, "minBackoff": "10s", "maxBackoff": "60s", "maxDoublings": 3}
    enqueue(operator, "one", retryConfig=retries)
    target.status = 500
    assert target.deliver() == [500]
    assert target.deliver() == []
    shown = operator.get(f"v2/{QUEUE}/tasks/one").json()
    assert (shown["dispatchCount"], shown["responseCount"]) == (1, 1)
    assert shown["lastAttempt"]["responseStatus"] == {"code": 13}
    operator.cloud.advance(10)
    target.status = 404
    assert target.deliver() == [404]
    operator.cloud.advance(20)
    assert target.deliver() == [404]
    counts = [
        (sent.headers["x-cloudtasks-taskretrycount"], sent.headers["x-cloudtasks-taskexecutioncount"])
        for sent in target.requests
    ]
    assert counts == [("0", "0"), ("1", "0"), ("2", "1")]  # answers of 5xx do not count as executions
    assert target.requests[-1].headers["x-cloudtasks-taskpreviousresponse"] == "404"
    operator.cloud.advance(3600)
    assert target.deliver() == []
    assert enqueue(operator, "one").status_code == 409


def test_back_off_doubles_then_grows_linearly() -> None:
    """The example of `RetryConfig.maxDoublings`."""
    retries = {**RETRIES, "minBackoff": "10s", "maxBackoff": "300s", "maxDoublings": 3}
    waits = [backoff(retries, attempts).total_seconds() for attempts in range(1, 9)]
    assert waits == [10, 20, 40, 80, 160, 240, 300, 300]


def test_an_overloaded_target_slows_its_whole_queue(operator: Clients, target: Target) -> None:
    """After 429 the other tasks wait too; successes restore the rate."""
    patch = {"rateLimits": {"maxDispatchesPerSecond": 1}}
    operator.session.patch(f"{operator.cloud.endpoint}/v2/{QUEUE}", json=patch, timeout=HANG_S)
    enqueue(operator, "slow", retryConfig={"minBackoff": "600s"})
    operator.cloud.advance(5)
    target.status = 429
    target.deliver()
    target.status = 200
    enqueue(operator, "other")
    operator.cloud.advance(1)
    assert target.deliver() == []
    operator.cloud.advance(1)
    assert target.deliver() == [200]
    assert operator.cloud.world.tasks.queue(QUEUE).share == 1.0


def test_the_deadline_of_a_dispatch_ends_the_attempt(operator: Clients, target: Target) -> None:
    """A target that answers too late has failed; it may still have done its work."""
    enqueue(operator, "one", dispatchDeadline="15s", retryConfig={"minBackoff": "1s", "maxBackoff": "1s"})
    target.seconds = 20
    assert target.deliver() == [None]
    assert operator.get(f"v2/{QUEUE}/tasks/one").json()["lastAttempt"]["responseStatus"] == {"code": 4}
    target.seconds = 0
    operator.cloud.advance(1)
    assert target.deliver() == [200]
    assert operator.get(f"v2/{QUEUE}/tasks/one").status_code == 404


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"dispatchDeadline": "14s"}, "between [15s, 1800s]"),
        ({"dispatchDeadline": "1801s"}, "between [15s, 1800s]"),
        ({"dispatchDeadline": "1 minute"}, "Invalid duration"),
        ({"scheduleTime": (START + timedelta(days=31)).isoformat()}, "within 30 days"),
        ({"httpRequest": {"url": "ftp://example.com"}}, 'must begin with "http://"'),
        ({"httpRequest": {"url": "https://example.com", "httpMethod": "GET", "body": "eA=="}}, "not allowed"),
        ({"httpRequest": {"url": "https://example.com", "body": "?"}}, "TYPE_BYTES"),
        ({"httpRequest": {"url": "https://example.com", "body": "eA==" * 30_000}}, "size too large"),
        ({"name": "projects/p/locations/l/queues/q/tasks/t"}, "Task name must be formatted"),
        ({"name": f"{QUEUE}/tasks/a.b"}, "Task name must be formatted"),
        ({"color": "red"}, "Unknown name"),
    ],
)
def test_malformed_tasks_are_refused(operator: Clients, task: dict[str, Any], message: str) -> None:
    """Limits and forms that Google documents; nothing is enqueued."""
    refused = enqueue(operator, **task)
    assert refused.status_code == 400
    assert message in refused.json()["error"]["message"]
    assert not operator.cloud.world.tasks.queue(QUEUE).tasks


@pytest.mark.parametrize(
    "settings",
    [
        {"rateLimits": {"maxDispatchesPerSecond": 501}},
        {"rateLimits": {"maxConcurrentDispatches": 5001}},
        {"retryConfig": {"maxAttempts": 0}},
        {"retryConfig": {"minBackoff": "20s", "maxBackoff": "10s"}},
    ],
)
def test_limits_of_a_queue(operator: Clients, settings: dict[str, Any]) -> None:
    """A queue beyond Google's limits is refused."""
    assert queue(operator, f"{PLACE}/queues/another", **settings).status_code == 400


def test_enqueuing_needs_the_queue_and_the_identity_of_the_token(
    operator: Clients, clients: Callable[..., Clients]
) -> None:
    """`tasks.create` on this queue, and `actAs` on the account that the token is for."""
    cloud = operator.cloud
    function = clients(cloud)
    assert enqueue(function, "one").status_code == 403
    cloud.grant("cloudtasks.tasks.create", QUEUE)
    assert enqueue(function, "one").status_code == 200
    email = cloud.deployment.scheduler
    signed = {"url": "https://function.example.com", "oidcToken": {"serviceAccountEmail": email}}
    assert enqueue(function, "two", httpRequest=signed).status_code == 403
    cloud.grant("roles/iam.serviceAccountUser", f"projects/{cloud.project}/serviceAccounts/{email}")
    assert enqueue(function, "two", httpRequest=signed).status_code == 200
    signed["oidcToken"] = {"serviceAccountEmail": "someone@another-project.iam.gserviceaccount.com"}
    assert enqueue(function, "three", httpRequest=signed).status_code == 400
    assert function.get(f"v2/{QUEUE}").status_code == 403


def test_tasks_wait_for_their_time_and_for_a_paused_queue(operator: Clients, target: Target) -> None:
    """A scheduled task is not early; a paused queue takes tasks and dispatches them once it is resumed."""
    later = (START + timedelta(hours=1)).isoformat()
    enqueue(operator, "later", scheduleTime=later)
    enqueue(operator, "now")
    operator.post(f"v2/{QUEUE}:pause", {})
    assert target.deliver() == []
    operator.post(f"v2/{QUEUE}:resume", {})
    assert target.deliver() == [200]
    operator.cloud.advance(3600)
    assert target.deliver() == [200]
    assert target.names() == ["now", "later"]
    enqueue(operator, "purged")
    assert "purgeTime" in operator.post(f"v2/{QUEUE}:purge", {}).json()
    assert target.deliver() == []


def test_task_faults_deliver_late_twice_or_never(operator: Clients, target: Target) -> None:
    """What at-least-once delivery allows, and a task that is lost."""
    cloud = operator.cloud
    cloud.task_faults(copies=2)
    enqueue(operator, "twice")
    assert target.deliver() == [200, 200]
    cloud.task_faults(delay_s=600)
    enqueue(operator, "late")
    assert target.deliver() == []
    cloud.advance(600)
    assert target.deliver() == [200]
    assert cloud.task_faults(loss=1)["lost"] == 0
    enqueue(operator, "never")
    cloud.advance(3600)
    assert target.deliver() == []
    assert cloud.task_faults()["lost"] == 1
    assert target.names() == ["twice", "twice", "late"]
