"""Corrections of moto's behavior where it differs from AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

from moto.iam.models import iam_backends
from moto.s3.responses import S3Response
from moto.scheduler.models import scheduler_backends
from moto.sqs import models as sqs_models
from moto.sqs.models import sqs_backends

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Attempt
from localcloud.aws.platform.event_sources import EventSources
from localcloud.aws.platform.schedules import check_expression
from localcloud.aws.runtime.functions_api import LambdaApi
from localcloud.aws.wire import AwsRequest

# AWS returns a queue's redrive policy unchanged, and Terraform compares the text; moto inserts spaces.
vars(sqs_models)["json"] = SimpleNamespace(**{**vars(json), "dumps": partial(json.dumps, separators=(",", ":"))})

_get_notification = S3Response.get_bucket_notification


def _get_notification_with_event_bridge(self: Any) -> Any:
    """Return a bucket's notifications with the switch for EventBridge, which moto stores and does not return."""
    status, headers, body = _get_notification(self)
    found = self.backend.get_bucket_notification_configuration(self.bucket_name)
    if found is not None and found.event_bridge is not None:
        # Without other notifications, moto closes the element at once.
        text = str(body).removesuffix("</NotificationConfiguration>")
        text = f"{text.removesuffix('/>')}>" if text.endswith("/>") and text == body else text
        body = f"{text}<EventBridgeConfiguration/></NotificationConfiguration>"
    return status, headers, body


setattr(S3Response, "get_bucket_notification", _get_notification_with_event_bridge)  # noqa: B010 - mypy refuses the assignment to a method


@contextmanager
def corrected(aws_request: AwsRequest, attempt: Attempt, functions: LambdaApi, sources: EventSources) -> Iterator[None]:
    """Correct a request that moto answers. Raises AwsError for a request that AWS refuses and moto accepts."""
    where = Where(attempt.account, aws_request.region)
    called = (aws_request.service, aws_request.operation)
    if called == ("scheduler", "CreateScheduleGroup"):
        _refuse_second_group(str(aws_request.params.get("Name", "")), where)
    if called in (("scheduler", "CreateSchedule"), ("scheduler", "UpdateSchedule")):
        check_expression(str(aws_request.params["ScheduleExpression"]))
    if aws_request.service == "iam" and aws_request.params.get("PermissionsBoundary"):
        _refuse_missing_boundary(str(aws_request.params["PermissionsBoundary"]), where)
    of_lambda = aws_request.service == "lambda"
    function = functions.before(aws_request.operation, aws_request.params, where) if of_lambda else None
    mapped = called == ("lambda", "CreateEventSourceMapping")
    if mapped:
        sources.check(aws_request.params, where)
    kept = _policy(aws_request.params, where) if called == ("sqs", "SetQueueAttributes") else None
    yield
    if mapped:
        sources.watch(where)
    if function is not None:
        functions.after(aws_request.operation, function)
    if kept is not None:
        queue, policy = kept
        queue.policy = policy


def _refuse_second_group(name: str, where: Where) -> None:
    """Refuse an existing group: moto would replace it with an empty one and lose its schedules."""
    if name in scheduler_backends[where.account][where.region].schedule_groups:
        raise AwsError("ConflictException", f"Schedule group {name} already exists.", 409)


def _refuse_missing_boundary(arn: str, where: Where) -> None:
    """Refuse a boundary that does not exist; those of AWS itself always do, although moto may not have loaded them.

    Source: the error NoSuchEntity of PutRolePermissionsBoundary in the IAM API Reference.
    """
    backend = iam_backends[where.account][arn.split(":")[1]]
    if arn.split(":")[4] != "aws" and arn not in backend.managed_policies:
        raise AwsError("NoSuchEntity", f"Policy {arn} does not exist or is not attachable.", 404)


def _policy(params: dict[str, Any], where: Where) -> tuple[Any, Any] | None:
    """Return the queue and its policy if other attributes are being set: moto would drop the policy."""
    queue = sqs_backends[where.account][where.region].queues.get(str(params.get("QueueUrl", "")).rpartition("/")[2])
    return None if queue is None or "Policy" in (params.get("Attributes") or {}) else (queue, queue.policy)
