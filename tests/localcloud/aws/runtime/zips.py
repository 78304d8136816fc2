"""Small functions as zips, for the tests of the local Lambda."""

from __future__ import annotations

import io
import json
import zipfile
from typing import Any

from localcloud.aws.cloud import LocalAws
from tests.localcloud.aws.iam.sessions import make_role

LAMBDA = {"Service": "lambda.amazonaws.com"}
LOGS = {"Action": ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], "Resource": "*"}
ECHO = "def handler(event, context):\n    print('got', event)\n    return event\n"
RAISE = "def handler(event, context):\n    raise ValueError('raised on purpose')\n"


def zipped(source: str, files: dict[str, str] | None = None) -> bytes:
    """Return a zip with the function and further files by name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("code_of_test.py", source)
        for name, text in (files or {}).items():
            archive.writestr(name, text)
    return packed.getvalue()


def create_function(
    cloud: LocalAws,
    source: str,
    *grants: dict[str, Any],
    name: str = "function",
    reserved: int | None = None,
    **more: Any,
) -> Any:
    """Create a function and its role, which may write logs and has `grants`; return the account's client."""
    role = make_role(cloud, f"{name}-role", LOGS, *grants, trusts=LAMBDA)
    functions = cloud.client("lambda")
    functions.create_function(
        FunctionName=name,
        **{
            "Role": role,
            "Runtime": "python3.13",
            "Handler": "code_of_test.handler",
            "Code": {"ZipFile": zipped(source)},
            "Architectures": ["arm64"],
            "Timeout": 30,
            **more,
        },
    )
    if reserved is not None:
        functions.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=reserved)
    return functions


def invoke(cloud: LocalAws, event: Any = None, name: str = "function", **more: Any) -> Any:
    """Invoke synchronously; return the decoded payload."""
    answer = cloud.client("lambda").invoke(FunctionName=name, Payload=json.dumps(event or {}), **more)
    return json.loads(answer["Payload"].read())


def queue(cloud: LocalAws, name: str = "dead") -> str:
    """Create a queue; return its ARN."""
    cloud.client("sqs").create_queue(QueueName=name)
    return f"arn:aws:sqs:{cloud.region}:{cloud.account}:{name}"


def messages(cloud: LocalAws, name: str = "dead") -> list[dict[str, Any]]:
    """Receive all messages of a queue."""
    sqs = cloud.client("sqs")
    url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
    answer = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    return list(answer.get("Messages", []))
