"""Lambda operations that moto lacks or only simulates."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

from moto.awslambda.models import lambda_backends
from moto.s3.models import FakeKey, s3_backends
from moto.utilities.utils import get_partition

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.runtime.function_fleet import check_variables
from localcloud.aws.runtime.function_logs import platform_lines
from localcloud.aws.runtime.functions import Functions
from localcloud.aws.runtime.lambda_runtime_api import MAX_PAYLOAD_BYTES
from localcloud.aws.wire import AwsRequest

# Quota "Invocation payload" of asynchronous invocations: 1 MB.
_MAX_EVENT_BYTES = 1_048_576
_LOG_TAIL_BYTES = 4096
_RECURSION = ("Allow", "Terminate")
Answer = tuple[int, dict[str, str], bytes]


CODE_BYTES = 80_530_636_800
UNZIPPED_BYTES = 262_144_000
ZIPPED_BYTES = 52_428_800
LEAST_UNRESERVED = 100


class LambdaApi:
    """`operations` maps names to handlers; `invoke` returns an HTTP response with the function's own body."""

    def __init__(self, functions: Functions) -> None:
        self._functions = functions
        self._recursion: dict[str, str] = {}
        # New accounts may have as few as 10.
        self.concurrent_executions = 1000
        self.operations: dict[str, Handler] = {
            "GetFunctionRecursionConfig": self._get_recursion,
            "PutFunctionRecursionConfig": self._put_recursion,
            "GetRuntimeManagementConfig": self._get_runtime_management,
            "GetAccountSettings": self._get_account_settings,
        }

    def _get_account_settings(self, caller: Caller, _params: dict[str, Any]) -> dict[str, Any]:
        """Return the default quotas. Source: "Lambda quotas" in the AWS Lambda Developer Guide."""
        functions = lambda_backends[caller.account][caller.region].list_functions()
        reserved = sum(int(one.reserved_concurrency or 0) for one in functions)
        size = sum(int(one.code_size) for one in functions)
        return {
            "AccountLimit": {
                "TotalCodeSize": CODE_BYTES,
                "CodeSizeUnzipped": UNZIPPED_BYTES,
                "CodeSizeZipped": ZIPPED_BYTES,
                "ConcurrentExecutions": self.concurrent_executions,
                "UnreservedConcurrentExecutions": self.concurrent_executions - reserved,
            },
            "AccountUsage": {"TotalCodeSize": size, "FunctionCount": len(functions)},
        }

    def invoke(self, aws_request: AwsRequest, attempt: Attempt, request_id: str) -> Answer:
        """Run the function, queue the event, or only check the request (DryRun). Raises AwsError."""
        place, name = self._named(attempt, aws_request.region, str(aws_request.params["FunctionName"]))
        if aws_request.params.get("Qualifier", "$LATEST") != "$LATEST":
            raise AwsError("ResourceNotFoundException", "the local cloud supports only $LATEST", 404)
        kind = aws_request.headers.get("x-amz-invocation-type", "RequestResponse")
        limit = _MAX_EVENT_BYTES if kind == "Event" else MAX_PAYLOAD_BYTES
        if len(aws_request.body) > limit:
            raise AwsError("RequestTooLargeException", f"Request must be smaller than {limit} bytes", 413)
        try:
            event = json.loads(aws_request.body or b"{}")
        except ValueError as error:
            message = f"Could not parse request body into json: {error}"
            raise AwsError("InvalidRequestContentException", message, 400) from error
        headers = {"x-amzn-RequestId": request_id, "Content-Type": "application/json"}
        if kind == "DryRun":
            self._functions.find(place, name)
            return 204, headers, b""
        if kind == "Event":
            self._functions.submit(place, name, event, request_id)
            return 202, headers, b""
        done = self._functions.invoke(place, name, event, request_id)
        headers["X-Amz-Executed-Version"] = "$LATEST"
        if done.error is not None:
            headers["X-Amz-Function-Error"] = "Unhandled"
        if aws_request.headers.get("x-amz-log-type") == "Tail":
            lines = platform_lines(self._functions.find(place, name), done)
            headers["X-Amz-Log-Result"] = base64.b64encode("\n".join(lines).encode()[-_LOG_TAIL_BYTES:]).decode()
        return 200, headers, json.dumps(done.payload if done.error is None else done.error).encode()

    def before(self, operation: str, params: Mapping[str, Any], where: Where) -> Any:
        """Return moto's record of the function that a request names; None if it creates one or names none.

        Raises AwsError for a request that Lambda refuses and moto accepts.
        """
        if operation in ("CreateFunction", "UpdateFunctionConfiguration"):
            check_variables((params.get("Environment") or {}).get("Variables") or {})
        if operation in ("CreateFunction", "UpdateFunctionCode"):
            _check_code(params.get("Code") or params, where)
        if operation == "PutFunctionConcurrency":
            self._check_reservation(str(params["FunctionName"]), int(params["ReservedConcurrentExecutions"]), where)
        if operation == "CreateFunction" or "FunctionName" not in params:
            return None
        return self._functions.find(where, str(params["FunctionName"]))

    def _check_reservation(self, name: str, wanted: int, where: Where) -> None:
        """Refuse to reserve what AWS keeps unreserved: 100 executions, or all of an account that has fewer.

        Sources: "Configuring reserved concurrency" in the AWS Lambda Developer Guide; the words in
        milliHQ/terraform-aws-next-js#251, and for an account with 10 in aws-samples/alarm-context-tool#2.
        """
        others = (one for one in lambda_backends[where.account][where.region].list_functions())
        reserved = sum(int(one.reserved_concurrency or 0) for one in others if one.function_name != name)
        least = min(LEAST_UNRESERVED, self.concurrent_executions)
        if self.concurrent_executions - reserved - wanted < least:
            message = "Specified ReservedConcurrentExecutions for function decreases account's "
            raise _invalid(f"{message}UnreservedConcurrentExecution below its minimum value of [{least}].")

    def after(self, operation: str, function: Any) -> None:
        """Correct moto's state after it answered a request."""
        configured = function.event_invoke_config
        if operation == "UpdateFunctionEventInvokeConfig" and configured:
            configured[-1].config = {**configured[0].config, **configured[-1].config}
        # moto reads the first configuration but appends new ones.
        del configured[:-1]
        if operation == "DeleteFunction":
            self._recursion.pop(str(function.function_arn), None)
            self._functions.forget(str(function.function_arn))

    def _named(self, attempt: Attempt, region: str, name: str) -> tuple[Where, str]:
        """Return the account, region and plain name of a function given by name, partial ARN or full ARN."""
        fields = name.split(":")
        if len(fields) == 1:
            return Where(attempt.account, region), name
        if "function" not in fields:
            raise AwsError("ResourceNotFoundException", "the local cloud supports only $LATEST", 404)
        at = fields.index("function")
        tail = fields[at + 1 :]
        if len(tail) > 1 and tail[1] != "$LATEST":
            raise AwsError("ResourceNotFoundException", f"Function not found: {name}", 404)
        account = fields[at - 1]
        return Where(account, fields[at - 2] if fields[0] == "arn" else region), tail[0]

    def _get_recursion(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"RecursiveLoop": self._recursion.get(self._arn(caller, params), "Terminate")}

    def _put_recursion(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        if params.get("RecursiveLoop") not in _RECURSION:
            raise AwsError("InvalidParameterValueException", f"RecursiveLoop must be one of {', '.join(_RECURSION)}")
        self._recursion[self._arn(caller, params)] = params["RecursiveLoop"]
        return {"RecursiveLoop": params["RecursiveLoop"]}

    def _get_runtime_management(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"FunctionArn": self._arn(caller, params), "UpdateRuntimeOn": "Auto"}

    def _arn(self, caller: Caller, params: dict[str, Any]) -> str:
        place = Where(caller.account, caller.region)
        return str(self._functions.find(place, str(params["FunctionName"])).function_arn)


def _check_code(code: Mapping[str, Any], where: Where) -> None:
    """Refuse code that is not in S3, or in another region, or not a zip.

    Sources of the words: aws-solutions/aws-waf-security-automations#135 (key),
    aws-solutions/dynamic-image-transformation-for-amazon-cloudfront#115 (bucket), gilt/s3-sftp-bridge#9 (region),
    aws-samples/aws-rds-snapshot-management#4 (zip).
    """
    content = code.get("ZipFile")
    if "S3Bucket" in code:
        bucket = s3_backends[where.account][get_partition(where.region)].buckets.get(str(code["S3Bucket"]))
        if bucket is None:
            raise _unread("NoSuchBucket", "The specified bucket does not exist")
        if bucket.region_name != where.region:
            again = "Please use this region to retry the request"
            raise _unread("PermanentRedirect", f"The bucket is in this region: {bucket.region_name}. {again}")
        version = code.get("S3ObjectVersion")
        key = bucket.keys.get(str(code["S3Key"]))
        if version is not None:
            versions = bucket.keys.getlist(str(code["S3Key"]), default=[])
            key = next((one for one in versions if one.version_id == version), None)
        if not isinstance(key, FakeKey):
            raise _unread("NoSuchKey", "The specified key does not exist.")
        content = key.value
    if content is not None and not zipfile.is_zipfile(io.BytesIO(content)):
        raise _invalid("Could not unzip uploaded file. Please check your file, then try to upload again.")


def _unread(code: str, message: str) -> AwsError:
    return _invalid(f"Error occurred while GetObject. S3 Error Code: {code}. S3 Error Message: {message}")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidParameterValueException", message, 400)
