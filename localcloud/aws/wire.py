"""From an HTTP request to a service, an operation and its parameters, and from a result back to HTTP."""

from __future__ import annotations

import io
import re
import uuid
from dataclasses import dataclass
from functools import cache
from typing import Any

from moto.core.parse import PROTOCOL_PARSERS
from moto.core.request import Request, determine_request_protocol
from moto.core.routing import get_service_router
from moto.core.serialize import SerializationContext, get_serializer_class
from moto.core.utils import get_service_model
from werkzeug.exceptions import NotFound

from localcloud.aws.partitions import PARTITIONS

# Services whose model is not named like the name they sign with.
_MODEL_OF = {"monitoring": "cloudwatch", "email": "ses", "states": "stepfunctions"}
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request")
_HOST = re.compile(r"^(?P<service>[a-z0-9-]+)\.(?P<region>[a-z]+-[a-z-]+-\d+)\.")


@dataclass
class Inquiry:
    """A request as it is understood. `operation` is empty where it is none that the service knows."""

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


def read(environ: dict[str, Any]) -> Inquiry:
    """Understand a request. Never raises: what cannot be read is said in `malformed`."""
    request = Request(environ)
    body = request.get_data(cache=True, parse_form_data=False)
    environ["wsgi.input"] = io.BytesIO(body)
    environ["CONTENT_LENGTH"] = str(len(body))
    environ.pop("HTTP_TRANSFER_ENCODING", None)
    request = Request(environ)
    request.get_data(cache=True, parse_form_data=False)
    headers = {name.lower(): value for name, value in request.headers.items()}
    service, region, access_key = _signed_for(request, headers)
    service = _MODEL_OF.get(service, service)
    model = _model(service)
    inquiry = Inquiry(service, region, access_key, "", "query", {}, headers, request, body, {})
    if model is None:
        inquiry.operation = headers.get("x-amz-target", "").rpartition(".")[2]
        return inquiry
    try:
        inquiry.protocol = determine_request_protocol(model, headers.get("content-type"))
    except NotImplementedError:
        inquiry.protocol = str(model.protocol)
    inquiry.operation, inquiry.uri_params = _operation(inquiry)
    environ["wsgi.input"] = io.BytesIO(body)
    return inquiry


def parse(inquiry: Inquiry) -> None:
    """Fill in the parameters of an inquiry by the service's own model."""
    environ = dict(inquiry.raw.environ)
    environ["wsgi.input"] = io.BytesIO(inquiry.body)
    request = Request(environ)
    model = get_service_model(inquiry.service).operation_model(inquiry.operation)
    parser = PROTOCOL_PARSERS[inquiry.protocol](model, map_type=dict)
    try:
        inquiry.params = dict(
            parser.parse(
                {
                    "method": request.method,
                    "values": request.values,
                    "headers": request.headers,
                    "body": inquiry.body,
                    "url_path": request.path,
                    "url_params": inquiry.uri_params,
                }
            )
            or {}
        )
    except Exception as error:  # noqa: BLE001 - moto's parsers raise whatever a wrong body makes them stumble over
        inquiry.malformed = f"{type(error).__name__}: {error}"


def known(service: str) -> bool:
    """Whether botocore has a model of the service."""
    return _model(service) is not None


def write(inquiry: Inquiry, result: dict[str, Any], request_id: str) -> tuple[int, dict[str, str], bytes]:
    """A result in the shape boto3 would return it, as status, headers and body on the wire."""
    model = get_service_model(inquiry.service).operation_model(inquiry.operation)
    serializer = get_serializer_class(inquiry.service, inquiry.protocol)
    answer = serializer(model, SerializationContext(request_id)).serialize(result)
    body = answer["body"]
    headers = {**answer["headers"], "x-amzn-RequestId": request_id}
    return int(answer["status_code"]), headers, body if isinstance(body, bytes) else str(body).encode()


def new_request_id() -> str:
    """A request id as AWS gives them."""
    return str(uuid.uuid4())


@cache
def _model(service: str) -> Any:
    try:
        return get_service_model(service)
    except Exception:  # noqa: BLE001 - botocore's loader and moto's raise differently for a name without a model
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


def _operation(inquiry: Inquiry) -> tuple[str, dict[str, Any]]:
    target = inquiry.headers.get("x-amz-target", "")
    model = get_service_model(inquiry.service)
    if target:
        name = target.rpartition(".")[2]
        return (name if name in model.operation_names else ""), {}
    if inquiry.protocol in ("query", "ec2"):
        request = Request({**inquiry.raw.environ, "wsgi.input": io.BytesIO(inquiry.body)})
        action = request.values.get("Action", "")
        return (action if action in model.operation_names else ""), {}
    try:
        operation, uri_params = get_service_router(inquiry.service).match(inquiry.raw)
    except (NotFound, NotImplementedError):
        return "", {}
    return str(operation.name), dict(uri_params)
