"""Run code that coverage never counts without coverage's tracer.

Python 3.11 slows down every call of a traced thread, whether its file is measured or not: a test of the AWS function
takes 70 % longer, most of it in SDKs, moto and the local cloud. This module suspends the tracer during such calls and
restores it when an SDK calls back into a measured package. A callback that is missing here shows up as lost coverage.
"""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from functools import wraps
from socketserver import ThreadingMixIn
from types import ModuleType
from typing import Any

import azure.core.paging
import azure.core.pipeline
import azure.mgmt.billing.operations
import azure.mgmt.costmanagement.operations
import azure.mgmt.managementgroups.operations
import azure.mgmt.resource.resources.operations
import azure.mgmt.resource.subscriptions.operations
import azure.storage.blob
import botocore.client
import botocore.session
import google.auth.transport.requests
import google.cloud._http
import google.cloud.bigquery
import google.cloud.storage
import hypothesis.internal.charmap
import requests
from hypothesis.core import StateForActualGivenExecution

import aws_lambda.clients
import azure_function.answers
import azure_function.clients
import gcp_function.clients
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.gcp.cloud import LocalGcp

Owner = type | ModuleType
# Local clouds, the request methods of the SDKs, and Hypothesis while it chooses examples.
CALLS: tuple[tuple[Owner, str], ...] = (
    (LocalAws, "__enter__"),
    (LocalAzure, "__enter__"),
    (LocalGcp, "__enter__"),
    (ThreadingMixIn, "process_request_thread"),
    (botocore.session.Session, "__init__"),
    (botocore.session.Session, "create_client"),
    (botocore.client.BaseClient, "_make_api_call"),
    (azure.core.pipeline.Pipeline, "run"),
    (azure.core.paging.ItemPaged, "__next__"),
    (azure.core.paging.PageIterator, "__next__"),
    (google.cloud._http.JSONConnection, "api_request"),
    (google.auth.transport.requests.AuthorizedSession, "request"),
    (requests.Session, "request"),
    # Once in a checkout, it tries to encode all characters.
    (hypothesis.internal.charmap, "intervals_from_codec"),
    (StateForActualGivenExecution, "run_engine"),
)
# All methods of these classes are wrapped: they convert between models, requests and responses.
SDKS: tuple[type, ...] = (
    azure.storage.blob.BlobClient,
    azure.storage.blob.BlobServiceClient,
    azure.storage.blob.ContainerClient,
    google.cloud.bigquery.Client,
    google.cloud.storage.Blob,
    google.cloud.storage.Bucket,
    google.cloud.storage.Client,
)
OPERATIONS = (
    azure.mgmt.billing.operations,
    azure.mgmt.costmanagement.operations,
    azure.mgmt.managementgroups.operations,
    azure.mgmt.resource.resources.operations,
    azure.mgmt.resource.subscriptions.operations,
)
# SDKs may call functions and methods of these modules, including imported functions.
CALLED_BACK = (aws_lambda.clients, azure_function.answers, azure_function.clients, gcp_function.clients)
MEASURED = ("shared.", "aws_lambda.", "azure_function.", "gcp_function.")
HOOKS = ("cls", "raw_response_hook")  # parameters that pass one of our callbacks to an SDK
_suspended = threading.local()


def install() -> None:
    """Wrap the calls for the rest of the process."""
    for owner, name in (*CALLS, *_calls()):
        setattr(owner, name, _untraced(getattr(owner, name)))
    for owner, name in list(_called_back()):
        setattr(owner, name, _traced(getattr(owner, name)))
    _trace_examples()


def _trace_examples() -> None:
    """Trace the tests that Hypothesis calls."""
    create = StateForActualGivenExecution.__init__

    @wraps(create)
    def created(state: StateForActualGivenExecution, *arguments: Any, **options: Any) -> None:
        create(state, *arguments, **options)
        state.test = _traced(state.test)

    StateForActualGivenExecution.__init__ = created  # type: ignore[assignment, method-assign]  # with the traced test


def _calls() -> Iterator[tuple[type, str]]:
    operations = (member for module in OPERATIONS for member in vars(module).values() if isinstance(member, type))
    for owner in (*SDKS, *operations):
        for name in _functions(owner):
            if not name.startswith("_") or name == "__init__":
                yield owner, name


def _called_back() -> Iterator[tuple[Owner, str]]:
    for module in CALLED_BACK:
        owners: list[Owner] = [module, *(member for member in vars(module).values() if isinstance(member, type))]
        for owner in owners:
            for name in _functions(owner):
                if getattr(owner, name).__module__.startswith(MEASURED):
                    yield owner, name


def _functions(owner: Owner) -> Iterator[str]:
    for name, member in list(vars(owner).items()):
        if inspect.isfunction(member) and not inspect.isgeneratorfunction(member):
            yield name


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        if tracer is None:
            return function(*arguments, **options)
        hooks = {name: _traced(options[name]) for name in HOOKS if callable(options.get(name))}
        _suspended.tracer = tracer
        sys.settrace(None)
        try:
            return function(*arguments, **{**options, **hooks})
        finally:
            _suspended.tracer = None
            sys.settrace(tracer)
            _resume()

    return call


def _traced(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        tracer = getattr(_suspended, "tracer", None)
        if tracer is None:
            return function(*arguments, **options)
        _suspended.tracer = None
        sys.settrace(tracer)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(None)
            _suspended.tracer = tracer

    return call


def _resume() -> None:
    """Let coverage's tracer resume at this call, before the caller's next line."""
