"""The local Lambda: runs the uploaded zip in the real runtime client with the function's role."""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.function_code import check_fits
from tests.limits import HANG_S
from tests.localcloud.aws.iam.sessions import make_role
from tests.localcloud.aws.runtime.zips import ECHO, LAMBDA, RAISE, create_function, invoke, messages, queue, zipped
from tests.localcloud.control_client import ControlClient

WHO = """
import os, sys
def handler(event, context):
    return {"path": sys.path, "environment": dict(os.environ), "arn": context.invoked_function_arn}
"""
IMPORT = "import importlib\ndef handler(event, context):\n    return importlib.import_module(event['name']).__name__\n"
# Blocks until the test has written a file, so that no test depends on timing.
BLOCK = """
import os, time
def handler(event, context):
    with open(event["began"] + ".new", "w") as file:
        file.write(str(os.getpid()))
    os.rename(event["began"] + ".new", event["began"])
    while not os.path.exists(event["go"]):
        time.sleep(0.01)
    return event["name"]
"""
METRICS = """
import json
def handler(event, context):
    names = [{"Name": "Covered", "Unit": "Count"}, {"Name": "Missing", "Unit": "Count"}]
    directive = {"Namespace": "Own", "Dimensions": [["service"]], "Metrics": names}
    print(json.dumps({"_aws": {"Timestamp": 0, "CloudWatchMetrics": [directive]},
                      "service": "s", "Covered": [3.0], "Missing": 2}))
"""


def refused(call: Any, **arguments: Any) -> dict[str, Any]:
    """Return the error document of a refused call with its status."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    answer = caught.value.response
    return {**answer["Error"], "status": answer["ResponseMetadata"]["HTTPStatusCode"], "reason": answer.get("Reason")}


def send(functions: Any, kind: str = "Event", **arguments: Any) -> int:
    """Invoke the function asynchronously and return the status, reading the response completely."""
    answer = functions.invoke(FunctionName="function", InvocationType=kind, **arguments)
    answer["Payload"].read()
    return int(answer["StatusCode"])


def lines(cloud: LocalAws, name: str = "function") -> list[str]:
    """Return all lines of the function's log group."""
    logs = cloud.client("logs")
    group = f"/aws/lambda/{name}"
    streams = [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=group)["logStreams"]]
    return [
        event["message"]
        for stream in streams
        for event in logs.get_log_events(logGroupName=group, logStreamName=stream)["events"]
    ]


def total(cloud: LocalAws, namespace: str, metric: str, dimension: str, value: str) -> float:
    """Return the sum of a metric over the last hour."""
    now = datetime.now(UTC)
    answer = cloud.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": dimension, "Value": value}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(hours=1),
        Period=7200,
        Statistics=["Sum"],
    )
    return float(sum(point["Sum"] for point in answer["Datapoints"]))


def test_function_has_its_role_and_only_its_own_packages(cloud: LocalAws) -> None:
    """Its path has the zip and the runtime client; its variables are the configured ones and Lambda's."""
    create_function(cloud, WHO, Environment={"Variables": {"OWN": "1"}}, MemorySize=256)
    received = invoke(cloud)
    variables = received["environment"]
    assert received["arn"] == f"arn:aws:lambda:{cloud.region}:{cloud.account}:function:function"
    assert [one for one in received["path"] if "site-packages" in one] == []
    assert variables["OWN"] == "1"
    assert variables["AWS_ENDPOINT_URL"] == cloud.endpoint
    assert variables["AWS_REGION"] == cloud.region
    assert variables["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "256"
    assert variables["AWS_SESSION_TOKEN"]
    assert variables["AWS_ACCESS_KEY_ID"] != cloud.environment()["AWS_ACCESS_KEY_ID"]
    folder = Path(variables["LAMBDA_TASK_ROOT"])
    assert folder.is_dir()
    cloud.client("lambda").delete_function(FunctionName="function")
    assert not folder.exists()


def test_package_outside_the_zip_is_missing(cloud: LocalAws) -> None:
    """The import fails in the function as it would on AWS."""
    code = {"ZipFile": zipped(IMPORT, {"shipped.py": ""})}
    create_function(cloud, "", Code=code)
    assert invoke(cloud, {"name": "shipped"}) == "shipped"
    assert invoke(cloud, {"name": "awslambdaric"}) == "awslambdaric"
    for name in ("boto3", "msgspec", "aws_lambda"):
        assert invoke(cloud, {"name": name})["errorType"] == "ModuleNotFoundError"


def test_errors_logs_and_log_tail_match_lambda(cloud: LocalAws) -> None:
    """A raised error is a payload with FunctionError; the log group has Lambda's lines around the function's."""
    functions = create_function(cloud, RAISE)
    answer = functions.invoke(FunctionName="function", LogType="Tail")
    assert (answer["StatusCode"], answer["FunctionError"]) == (200, "Unhandled")
    assert json.loads(answer["Payload"].read())["errorMessage"] == "raised on purpose"
    tail = base64.b64decode(answer["LogResult"]).decode().split("\n")
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert tail == lines(cloud)
    assert tail[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert tail[-1].startswith(f"REPORT RequestId: {request_id}\tDuration: ")
    assert any("ValueError: raised on purpose" in line for line in tail[1:-2])


def test_timed_out_environment_is_replaced(cloud: LocalAws) -> None:
    """The function's configured timeout applies."""
    source = "import time\ndef handler(event, context):\n    time.sleep(event['s'])\n    return 'done'\n"
    create_function(cloud, source, Timeout=2)
    assert invoke(cloud, {"s": 20})["errorType"] == "Sandbox.Timedout"
    assert "Task timed out after 2.00 seconds" in "\n".join(lines(cloud))
    assert invoke(cloud, {"s": 0}) == "done"


def test_update_applies_from_the_next_call(cloud: LocalAws) -> None:
    """A warm environment of the previous revision is not used."""
    functions = create_function(cloud, "import os\ndef handler(event, context):\n    return os.environ.get('WORD')\n")
    assert invoke(cloud) is None
    functions.update_function_configuration(FunctionName="function", Environment={"Variables": {"WORD": "new"}})
    assert invoke(cloud) == "new"
    functions.update_function_code(FunctionName="function", ZipFile=zipped(ECHO))
    assert invoke(cloud, {"a": 1}) == {"a": 1}


def test_function_has_the_permissions_of_its_role(cloud: LocalAws) -> None:
    """Its calls are logged with the role, and denied where the policy does not allow them."""
    source = """
import os
def handler(event, context):
    return os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"], os.environ["AWS_SESSION_TOKEN"]
"""
    create_function(cloud, source, {"Action": "s3:ListBucket", "Resource": "*"})
    key, secret, token = invoke(cloud)
    s3 = boto3.session.Session(key, secret, token, cloud.region).client("s3", endpoint_url=cloud.endpoint)
    s3.head_bucket(Bucket=cloud.deployment.bucket)
    assert refused(s3.get_bucket_policy, Bucket=cloud.deployment.bucket)["Code"] == "AccessDenied"
    s3.close()
    role = f"arn:aws:iam::{cloud.account}:role/function-role"
    used = {action for _, action, _ in cloud.calls.accesses(role)}
    assert used == {"s3:ListBucket", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"}
    assert ("lambda.amazonaws.com", "sts:AssumeRole", role) in cloud.calls.accesses()


def test_role_without_trust_or_log_permission(cloud: LocalAws) -> None:
    """Without trust the function does not run; without log permission it runs and leaves no logs."""
    functions = create_function(cloud, ECHO)
    functions.update_function_configuration(FunctionName="function", Role=make_role(cloud, "other"))
    received = refused(functions.invoke, FunctionName="function")
    assert (received["Code"], "cannot be assumed by Lambda" in received["Message"]) == ("AccessDeniedException", True)
    functions.update_function_configuration(FunctionName="function", Role=make_role(cloud, "mute", trusts=LAMBDA))
    assert invoke(cloud, {"a": 1}) == {"a": 1}
    assert cloud.client("logs").describe_log_groups()["logGroups"] == []


def test_reserved_concurrency_throttles_calls_and_queues_events(cloud: LocalAws, tmp_path: Path) -> None:
    """While the only environment is busy, a call gets 429 with the reason, and events are queued in order."""
    functions = create_function(cloud, BLOCK, reserved=1)

    def event(name: str) -> str:
        return json.dumps({"name": name, "began": str(tmp_path / f"{name}-began"), "go": str(tmp_path / "go")})

    answers: list[Any] = []
    first = threading.Thread(target=lambda: answers.append(invoke(cloud, json.loads(event("first")))))
    first.start()
    _until(tmp_path / "first-began")
    received = refused(functions.invoke, FunctionName="function", Payload=event("second"))
    assert (received["Code"], received["status"]) == ("TooManyRequestsException", 429)
    assert received["reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    for name in ("third", "fourth"):
        assert send(functions, Payload=event(name)) == 202
    assert not (tmp_path / "third-began").exists()
    (tmp_path / "go").touch()
    first.join(HANG_S)
    done = ControlClient(cloud.endpoint).await_functions()
    assert answers == ["first"]
    assert [(one["outcome"], one["payload"]) for one in done] == [("succeeded", "third"), ("succeeded", "fourth")]
    assert total(cloud, "AWS/Lambda", "Throttles", "FunctionName", "function") == 1


def test_zero_reserved_concurrency_disables_the_function(cloud: LocalAws) -> None:
    """Every call is throttled."""
    functions = create_function(cloud, ECHO, reserved=0)
    assert refused(functions.invoke, FunctionName="function")["Code"] == "TooManyRequestsException"


def test_failed_event_is_retried_then_sent_to_its_destination(cloud: LocalAws) -> None:
    """The retries have the same request id; the record arrives only if the role may send it."""
    arn = queue(cloud)
    functions = create_function(cloud, RAISE, {"Action": "sqs:SendMessage", "Resource": arn})
    for retries in (0, 1):
        functions.put_function_event_invoke_config(
            FunctionName="function", MaximumRetryAttempts=retries, DestinationConfig={"OnFailure": {"Destination": arn}}
        )
    answer = functions.invoke(FunctionName="function", InvocationType="Event", Payload=b'{"a": 1}')
    answer["Payload"].read()
    (done,) = cloud.await_functions()
    assert (done["outcome"], done["attempts"], done["error"]) == ("failed", 2, "ValueError: raised on purpose")
    (message,) = messages(cloud)
    record = json.loads(message["Body"])
    request_id = answer["ResponseMetadata"]["RequestId"]
    assert record["requestContext"]["requestId"] == done["request_id"] == request_id
    assert record["requestContext"]["condition"] == "RetriesExhausted"
    assert record["requestPayload"] == {"a": 1}
    assert record["responsePayload"]["errorMessage"] == "raised on purpose"
    assert total(cloud, "AWS/Lambda", "Errors", "FunctionName", "function") == 2
    cloud.client("iam").delete_role_policy(RoleName="function-role", PolicyName="own")
    send(functions)
    cloud.await_functions()
    assert messages(cloud) == []
    assert total(cloud, "AWS/Lambda", "DestinationDeliveryFailures", "FunctionName", "function") == 1


def test_event_of_a_deleted_function_is_dropped(cloud: LocalAws) -> None:
    """The queue does not wait for it."""
    functions = create_function(cloud, ECHO, reserved=0)
    send(functions)
    functions.delete_function(FunctionName="function")
    assert [one["outcome"] for one in cloud.await_functions()] == ["dropped"]
    assert refused(functions.invoke, FunctionName="function")["Code"] == "ResourceNotFoundException"


def test_embedded_metrics_become_metrics(cloud: LocalAws) -> None:
    """Metrics printed in the embedded format are available by their dimensions."""
    create_function(cloud, METRICS)
    invoke(cloud)
    invoke(cloud)
    assert total(cloud, "Own", "Covered", "service", "s") == 6
    assert total(cloud, "Own", "Missing", "service", "s") == 4
    assert total(cloud, "AWS/Lambda", "Invocations", "FunctionName", "function") == 2


def test_dry_run_invocation_runs_nothing(cloud: LocalAws) -> None:
    """The status is 204."""
    functions = create_function(cloud, ECHO)
    assert send(functions, "DryRun") == 204
    assert total(cloud, "AWS/Lambda", "Invocations", "FunctionName", "function") == 0


@pytest.mark.parametrize(
    "name", ["arn:aws:lambda:eu-west-1:111122223333:function:function", "111122223333:function:function"]
)
def test_function_is_found_by_its_arns(cloud: LocalAws, name: str) -> None:
    """Full and partial ARNs work with and without $LATEST; other versions do not exist."""
    functions = create_function(cloud, ECHO)
    for tail in ("", ":$LATEST"):
        assert invoke(cloud, {"a": 1}, name=name + tail) == {"a": 1}
    assert refused(functions.invoke, FunctionName=name + ":7")["Code"] == "ResourceNotFoundException"


def test_reserved_variables_and_invalid_zips_are_refused(cloud: LocalAws) -> None:
    """Both are refused at creation."""
    role = make_role(cloud, "r", trusts=LAMBDA)
    functions = cloud.client("lambda")
    settings: dict[str, Any] = {"FunctionName": "f", "Role": role, "Runtime": "python3.13", "Handler": "x.y"}
    taken = {"Variables": {"AWS_REGION": "x", "AWS_SESSION_TOKEN": "y"}}
    received = refused(functions.create_function, Code={"ZipFile": zipped(ECHO)}, Environment=taken, **settings)
    assert received["Code"] == "InvalidParameterValueException"
    assert "AWS_REGION, AWS_SESSION_TOKEN" in received["Message"]
    received = refused(functions.create_function, Code={"ZipFile": b"no zip"}, **settings)
    assert received["Message"].startswith("Could not unzip uploaded file.")


def test_package_for_another_platform_is_refused(cloud: LocalAws) -> None:
    """Compiled modules of another Python or processor are not replaced by installed ones."""
    wheel = "Wheel-Version: 1.0\nTag: cp399-cp399-manylinux_2_99_riscv64\n"
    files = {"fast-1.0.dist-info/WHEEL": wheel, "fast/core.cpython-399-riscv64-linux-gnu.so": ""}
    functions = create_function(cloud, "", Code={"ZipFile": zipped(ECHO, files)})
    received = refused(functions.invoke, FunctionName="function")
    assert received["Code"] == "InvalidRuntimeException"
    assert "fast (cp399-cp399-manylinux_2_99_riscv64)" in received["Message"]
    assert "core.cpython-399-riscv64-linux-gnu.so" in received["Message"]
    send(functions)
    (done,) = cloud.await_functions()
    assert (done["outcome"], done["error"].startswith("InvalidRuntimeException: ")) == ("failed", True)


def test_package_for_this_platform_is_accepted(tmp_path: Path) -> None:
    """This covers wheels of any platform and those of this interpreter."""
    own = f"cp{sys.version_info.major}{sys.version_info.minor}"
    for name, tag in (("pure", "py3-none-any"), ("both", "py2.py3-none-any"), ("compiled", f"{own}-none-any")):
        folder = tmp_path / f"{name}-1.dist-info"
        folder.mkdir()
        (folder / "WHEEL").write_text(f"Wheel-Version: 1.0\nTag: {tag}\n")
    check_fits(tmp_path, "python3.13")


def test_operations_missing_in_moto_return_lambdas_defaults(cloud: LocalAws) -> None:
    """Values that were put are returned."""
    functions = create_function(cloud, ECHO)
    assert functions.get_function_recursion_config(FunctionName="function")["RecursiveLoop"] == "Terminate"
    functions.put_function_recursion_config(FunctionName="function", RecursiveLoop="Allow")
    assert functions.get_function_recursion_config(FunctionName="function")["RecursiveLoop"] == "Allow"
    assert functions.get_runtime_management_config(FunctionName="function")["UpdateRuntimeOn"] == "Auto"


def _until(path: Path) -> None:
    """Wait until a function has written a file."""
    pause = threading.Event()
    while not path.exists():
        pause.wait(0.01)


def test_running_function_ends_with_the_cloud(tmp_path: Path) -> None:
    """Neither the process nor its folder is left."""
    with LocalAws(accounts=1) as cloud:
        functions = create_function(cloud, BLOCK)
        event = {"name": "x", "began": str(tmp_path / "began"), "go": str(tmp_path / "never")}
        send(functions, Payload=json.dumps(event))
        _until(tmp_path / "began")
    (left,) = cloud.world.functions.wait(limit_s=0)
    assert (left.outcome, left.error.partition(":")[0]) == ("failed", "Runtime.ExitError")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "began").read_text()), 0)
