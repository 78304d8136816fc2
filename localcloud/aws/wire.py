"""Parse HTTP requests into a service, an operation and its parameters, and serialize results."""

from __future__ import annotations

import io
import re
import sys
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import (
    PRESERVED_HEADER_NAMES_ENVIRON_KEY,
    Request,
    determine_request_protocol,
    environ_key_for_header,
    should_preserve_original_header_name,
)
from moto.core.routing import get_service_router
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound

from localcloud.aws.partitions import PARTITIONS
from localcloud.common import http_server

# Services whose model name differs from their signing name.
_MODEL_OF = {"monitoring": "cloudwatch", "email": "ses", "states": "stepfunctions"}
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
_HOST = re.compile(r"^(?P<service>[a-z0-9-]+)\.(?P<region>[a-z]+-[a-z-]+-\d+)\.")


@dataclass
class AwsRequest:
    """A parsed request. `operation` is empty if the service does not have it."""

    service: str
    region: str
    access_key: str
    operation: str
    protocol: str
    params: dict[str, Any]
    headers: dict[str, str]
    raw: Request
    body: bytes
    uri_params: dict[str, Any]
    malformed: str = ""


def environ_of(request: http_server.Request) -> dict[str, Any]:
    """Return the WSGI environment of a request, as moto's own server creates it."""
    host, _, port = request.endpoint.removeprefix("http://").partition(":")
    target = request.path + (f"?{request.query_string}" if request.query_string else "")
    environ: dict[str, Any] = {
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(request.body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        # WSGI carries bytes as latin-1 text.
        "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
        "QUERY_STRING": request.query_string,
        "RAW_URI": target,
        "REQUEST_URI": target,
        "REMOTE_ADDR": host,
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": "HTTP/1.1",
    }
    kept: dict[str, str] = {}
    for name, value in request.headers.items():
        if should_preserve_original_header_name(name):
            kept[environ_key_for_header(name)] = name
        elif "_" in name:
            continue
        # The server has already assembled the body.
        if name not in ("transfer-encoding", "content-length"):
            environ[environ_key_for_header(name)] = value
    environ[PRESERVED_HEADER_NAMES_ENVIRON_KEY] = kept
    environ["CONTENT_LENGTH"] = str(len(request.body))
    return environ


def read(received: http_server.Request) -> AwsRequest:
    """Identify the service and the operation of a request. Never raises; see `parse` for the parameters."""
    environ = environ_of(received)
    request, body = Request(environ), received.body
    request.get_data(cache=True, parse_form_data=False)
    headers = {name.lower(): value for name, value in request.headers.items()}
    service, region, access_key = _signed_for(request, headers)
    service = _MODEL_OF.get(service, service)
    model = _model(service)
    aws_request = AwsRequest(service, region, access_key, "", "query", {}, headers, request, body, {})
    if model is None:
        aws_request.operation = headers.get("x-amz-target", "").rpartition(".")[2]
        return aws_request
    try:
        aws_request.protocol = determine_request_protocol(model, headers.get("content-type"))
    except NotImplementedError:
        aws_request.protocol = str(model.protocol)
    aws_request.operation, aws_request.uri_params = _operation(aws_request)
    environ["wsgi.input"] = io.BytesIO(body)
    return aws_request


def parse(aws_request: AwsRequest) -> None:
    """Fill in a request's parameters from the service model, or `malformed` if they cannot be parsed."""
    environ = dict(aws_request.raw.environ)
    environ["wsgi.input"] = io.BytesIO(aws_request.body)
    request = Request(environ)
    model = get_service_model(aws_request.service).operation_model(aws_request.operation)
    parser = PROTOCOL_PARSERS[aws_request.protocol](model, map_type=dict)
    try:
        aws_request.params = dict(
            parser.parse(
                {
                    "method": request.method,
                    "values": request.values,
                    "headers": request.headers,
                    "body": aws_request.body,
                    "url_path": request.path,
                    "url_params": aws_request.uri_params,
                }
            )
            or {}
        )
    except Exception as error:  # noqa: BLE001 - moto's parsers raise arbitrary exceptions for invalid bodies
        aws_request.malformed = f"{type(error).__name__}: {error}"


def known(service: str) -> bool:
    """Return whether botocore has a model of the service."""
    return _model(service) is not None


def write(aws_request: AwsRequest, result: dict[str, Any], request_id: str) -> tuple[int, dict[str, str], bytes]:
    """Serialize a result, in the shape that boto3 returns, to status, headers and body."""
    model = get_service_model(aws_request.service).operation_model(aws_request.operation)
    serializer = get_serializer_class(aws_request.service, aws_request.protocol)
    answer = serializer(model, SerializationContext(request_id)).serialize(result)
    body = answer["body"]
    headers = {**answer["headers"], "x-amzn-RequestId": request_id}
    return int(answer["status_code"]), headers, body if isinstance(body, bytes) else str(body).encode()


def new_request_id() -> str:
    """Return a new request id in the format that AWS uses."""
    return str(uuid.uuid4())


@cache
def _model(service: str) -> Any:
    try:
        return get_service_model(service)
    except Exception:  # noqa: BLE001 - botocore and moto raise different exceptions for a missing model
        return None


def _signed_for(request: Request, headers: dict[str, str]) -> tuple[str, str, str]:
    signature = _CREDENTIAL.search(headers.get("authorization", "")) or _CREDENTIAL.search(
        "Credential=" + request.args.get("X-Amz-Credential", "")
    )
    if signature:
        return signature[4].lower(), signature[3], signature[1]
    for partition in PARTITIONS.values():
        if headers.get("host") == partition.exports_host:
            return "bcm-data-exports", partition.home, ""
    host = _HOST.match(headers.get("host", ""))
    return (host["service"], host["region"], "") if host else ("s3", "us-east-1", "")


def _operation(aws_request: AwsRequest) -> tuple[str, dict[str, Any]]:
    target = aws_request.headers.get("x-amz-target", "")
    model = get_service_model(aws_request.service)
    if target:
        name = target.rpartition(".")[2]
        return (name if name in model.operation_names else ""), {}
    if aws_request.protocol in ("query", "ec2"):
        request = Request({**aws_request.raw.environ, "wsgi.input": io.BytesIO(aws_request.body)})
        action = request.values.get("Action", "")
        return (action if action in model.operation_names else ""), {}
    try:
        operation, uri_params = get_service_router(aws_request.service).match(aws_request.raw)
    except (NotFound, NotImplementedError):
        return "", {}
    return str(operation.name), dict(uri_params)
