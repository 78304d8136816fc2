"""Routes and validates requests by Google's discovery documents; an unknown field is reported by its name."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from localcloud.common.oracles import oracle
from localcloud.gcp.errors import GoogleError

# Google's own tools call two versions of Resource Manager.
DOCUMENTS = (
    "bigquery.v2",
    "storage.v1",
    "cloudbilling.v1",
    "serviceusage.v1",
    "cloudresourcemanager.v1",
    "cloudresourcemanager.v3",
    # One server answers for all APIs: of two with the same path, such as that of an operation, the first one listed.
    "config.v1",
    # The APIs of the deployed resources.
    "artifactregistry.v1",
    "cloudfunctions.v2",
    "cloudscheduler.v1",
    "cloudtasks.v2",
    "compute.v1",
    "iam.v1",
    "iamcredentials.v1",
    "logging.v2",
    "monitoring.v1",
    "monitoring.v3",
    "oauth2.v2",
    "pubsub.v1",
    "run.v2",
)
DISCOVERY = "/$discovery/rest"  # where `bq` fetches BigQuery's document
IN_LIBRARY = Path("googleapiclient", "discovery_cache", "documents")
EXTRACTED = Path(sys.prefix, "google-discovery")
_COMMON = {"uploadType", "upload_id", "upload_protocol", "userProject"}
# Undocumented parameters that Google's own client sends and BigQuery accepts.
_TOLERATED = {(f"bigquery.jobs.{verb}", "projection") for verb in ("cancel", "get", "insert")}
_ANY_CASE = ("bigquery.jobs.list", "stateFilter")
_PLACEHOLDER = re.compile(r"\{\+?([^}]+)\}")
_INTEGER = re.compile(r"-?\d+")
_TYPES: Mapping[str, Any] = {
    "string": str,
    "boolean": bool,
    "integer": int,
    "array": list,
    "object": dict,
    "number": (int, float),
}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")


@dataclass(frozen=True)
class Route:
    """One method of an API: `id` such as ``bigquery.tables.get``, `service` such as ``bigquery``."""

    id: str
    service: str
    verb: str
    pattern: re.Pattern[str]
    parameters: Mapping[str, Any]
    request: str
    document: str
    answer: str = ""


@dataclass(frozen=True)
class Match:
    """A route with the values of its path, in order and decoded. `media` is ``upload``, ``download`` or empty."""

    route: Route
    ids: tuple[str, ...]
    media: str


@cache
def _documents() -> dict[str, Any]:
    folder = _folder()
    return {name: json.loads((folder / f"{name}.json").read_bytes()) for name in DOCUMENTS}


def _folder() -> Path:
    """Return the documents' folder: extracted when this environment was set up, or in Google's client library."""
    if all((EXTRACTED / f"{name}.json").is_file() for name in DOCUMENTS):
        return EXTRACTED
    library = importlib.util.find_spec("googleapiclient")
    if library is None or library.origin is None:
        raise RuntimeError("google-api-python-client, which carries Google's discovery documents, is not installed")
    return Path(library.origin).parents[1] / IN_LIBRARY


def described(name: str, host: str) -> dict[str, Any]:
    """Return an API's discovery document with this local cloud's URLs; `bq` reads methods and paths from it."""
    document = _documents()[name]
    root = f"http://{host}/"
    own = {"rootUrl": root, "baseUrl": root + document["servicePath"], "mtlsRootUrl": root}
    return {**document, **own}


@cache
def _routes() -> Mapping[tuple[str, int], tuple[Route, ...]]:
    """Return the methods by verb and number of slashes; a path parameter never contains one."""
    routes: list[Route] = []
    for name, document in _documents().items():
        _collect(name, document, document, routes)
    found: dict[tuple[str, int], tuple[Route, ...]] = {}
    # A custom verb after a colon and literal segments take precedence over a placeholder.
    for route in sorted(routes, key=lambda route: -len(_literal(route.pattern.pattern))):
        key = (route.verb, _literal(route.pattern.pattern).count("/"))
        found[key] = (*found.get(key, ()), route)
    return found


def _literal(pattern: str) -> str:
    return pattern.replace("([^/]+)", "")


def _collect(name: str, document: Mapping[str, Any], node: Mapping[str, Any], routes: list[Route]) -> None:
    for method in node.get("methods", {}).values():
        path = "/" + document["servicePath"] + (method.get("flatPath") or method["path"])
        pattern = "".join(
            re.escape(part) if index % 2 == 0 else "([^/]+)" for index, part in enumerate(_PLACEHOLDER.split(path))
        )
        parameters = document.get("parameters", {}) | method.get("parameters", {})
        routes.append(
            Route(
                method["id"],
                document["name"],
                method["httpMethod"],
                re.compile(pattern),
                parameters,
                method.get("request", {}).get("$ref", ""),
                name,
                method.get("response", {}).get("$ref", ""),
            )
        )
    for child in node.get("resources", {}).values():
        _collect(name, document, child, routes)


def match(verb: str, path: str) -> Match | None:
    """Return the method that a request calls; `path` is percent-encoded. None if Google has no such method."""
    media = ""
    for prefix in ("upload", "download"):
        if path.startswith((f"/{prefix}/", f"/resumable/{prefix}/")):
            media = prefix
            path = path[path.index(f"/{prefix}/") + len(prefix) + 1 :]
    # Chunks of a resumable upload are sent by PUT to the path where a POST started it.
    if media == "upload" and verb in ("PUT", "DELETE"):
        verb = "POST"
    for route in _routes().get((verb, path.count("/")), ()):
        if found := route.pattern.fullmatch(path):
            return Match(route, tuple(unquote(value) for value in found.groups()), media)
    return None


@oracle("Google discovery documents, parameters")
def check_parameters(route: Route, query: Mapping[str, list[str]]) -> None:
    """Raise GoogleError for an unknown query parameter or a value of the wrong type."""
    for name, values in query.items():
        spec = route.parameters.get(name)
        if spec is None:
            if name in _COMMON or name.startswith("$") or (route.id, name) in _TOLERATED:
                continue
            raise _bad(
                f"Invalid JSON payload received. Unknown name {json.dumps(name)}: Cannot bind query parameter. "
                f"Field '{name}' could not be found in request message."
            )
        if len(values) > 1 and not spec.get("repeated"):
            raise _bad(f"Invalid value for {name}: it is given {len(values)} times")
        for value in values:
            # Google's client sends the states of jobs in capitals, which its description does not list.
            _check_parameter(name, spec, value.lower() if (route.id, name) == _ANY_CASE else value)


def _check_parameter(name: str, spec: Mapping[str, Any], value: str) -> None:
    kind = spec["type"]
    if kind == "integer" or spec.get("format") in ("int64", "uint64"):
        if not _INTEGER.fullmatch(value):
            raise _bad(f"Invalid value at '{name}' (TYPE_INT64), {json.dumps(value)}")
        if ("minimum" in spec and int(value) < int(spec["minimum"])) or (
            "maximum" in spec and int(value) > int(spec["maximum"])
        ):
            raise _bad(f"Invalid value '{value}'. Values must be within the range of {name}.")
    elif kind == "boolean" and value.lower() not in ("true", "false", "1", "0"):
        raise _bad(f"Invalid value at '{name}' (TYPE_BOOL), {json.dumps(value)}")
    elif "enum" in spec and value not in spec["enum"]:
        raise _bad(f"Invalid value at '{name}', {json.dumps(value)}")


@oracle("Google discovery documents, requests")
def check_body(route: Route, body: Any) -> None:
    """Raise GoogleError that names the first field that is unknown or of the wrong type."""
    if route.request:
        schemas = _documents()[route.document]["schemas"]
        _check(schemas, {"$ref": route.request}, body, "")


def canonical(route: Route, body: Any) -> Any:
    """Return a valid request's body as Google stores and returns it: numbers of 64 bits are texts in its JSON."""
    return _canonical(_documents()[route.document]["schemas"], {"$ref": route.request}, body) if route.request else body


def _canonical(schemas: Mapping[str, Any], spec: Mapping[str, Any], value: Any) -> Any:
    if "$ref" in spec:
        spec = schemas[spec["$ref"]]
    if isinstance(value, dict):
        properties, others = spec.get("properties", {}), spec.get("additionalProperties", {})
        return {name: _canonical(schemas, properties.get(name, others), item) for name, item in value.items()}
    if isinstance(value, list):
        return [_canonical(schemas, spec.get("items", {}), item) for item in value]
    whole = spec.get("format") in ("int64", "uint64") and isinstance(value, int)
    return str(value) if whole else value


@oracle("Google discovery documents, answers")
def check_answer(route: Route, document: Mapping[str, Any]) -> None:
    """Raise GoogleError (501) that names every field of an answer that Google's own description does not allow."""
    problems: list[str] = []
    if route.answer:
        schemas = _documents()[route.document]["schemas"]
        _compare(schemas, {"$ref": route.answer}, document, "", problems)
    if problems:
        raise GoogleError(501, "notImplemented", f"The answer of {route.id} is not Google's: {'; '.join(problems)}")


def _compare(schemas: Mapping[str, Any], spec: Mapping[str, Any], value: Any, where: str, problems: list[str]) -> None:
    if "$ref" in spec:
        spec = schemas[spec["$ref"]]
    kind, form = spec.get("type", "any"), spec.get("format", "")
    if not _has_type(kind, form, value):
        problems.append(f"{where or 'the body'} is {type(value).__name__}, not {kind} {form}".rstrip())
    elif isinstance(value, dict):
        properties, others = spec.get("properties", {}), spec.get("additionalProperties")
        for name, item in value.items():
            at = f"{where}.{name}" if where else name
            field = properties.get(name, others)
            if field is not None:
                _compare(schemas, field, item, at, problems)
            elif kind != "any":
                problems.append(f"{at} is unknown")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _compare(schemas, spec.get("items", {}), item, f"{where}[{index}]", problems)
    elif "enum" in spec and value not in spec["enum"]:
        problems.append(f"{where} is {value!r}, not one of its values")


def _has_type(kind: str, form: str, value: Any) -> bool:
    """Return whether a value has the form in which Google writes this type: 64-bit integers are texts."""
    if kind == "any":
        return True
    if form in ("int64", "uint64"):
        return isinstance(value, str) and _INTEGER.fullmatch(value) is not None
    if kind == "string" and form == "google-datetime":
        return isinstance(value, str) and _MOMENT.fullmatch(value) is not None
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _check(schemas: Mapping[str, Any], spec: Mapping[str, Any], value: Any, where: str) -> None:
    # A null unsets a field in a patch and has no effect elsewhere.
    if value is None:
        return
    if "$ref" in spec:
        spec = schemas[spec["$ref"]]
    kind = spec.get("type", "any")
    if kind == "object":
        _check_object(schemas, spec, value, where)
    elif kind == "array":
        if not isinstance(value, list):
            raise _mistyped(where, value)
        for index, item in enumerate(value):
            _check(schemas, spec["items"], item, f"{where}[{index}]")
    elif kind == "boolean" and not isinstance(value, bool) and value not in ("true", "false"):
        raise _mistyped(where, value)
    elif kind == "integer" or spec.get("format") in ("int64", "uint64"):
        if isinstance(value, bool) or not _INTEGER.fullmatch(str(value)):
            raise _mistyped(where, value)
    elif (kind == "number" and not isinstance(value, int | float | str)) or (
        kind == "string" and not isinstance(value, str)
    ):
        raise _mistyped(where, value)


def _check_object(schemas: Mapping[str, Any], spec: Mapping[str, Any], value: Any, where: str) -> None:
    if not isinstance(value, dict):
        raise _mistyped(where, value)
    properties, others = spec.get("properties", {}), spec.get("additionalProperties")
    for name, item in value.items():
        field = properties.get(name, others)
        if field is None:
            at = f" at '{where}'" if where else ""
            raise _bad(
                f"Invalid JSON payload received. Unknown name {json.dumps(name)}{at}: Cannot find field.",
            )
        _check(schemas, field, item, f"{where}.{name}" if where else name)


def _mistyped(where: str, value: Any) -> GoogleError:
    return _bad(f"Invalid value at '{where}', {json.dumps(value)[:80]}")


def _bad(message: str) -> GoogleError:
    return GoogleError(400, "badRequest", message)
