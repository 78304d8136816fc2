"""Code that coverage never counts, run without coverage's tracer.

Python 3.11 slows down every line of a traced thread, whether its file is measured or not: a test of the AWS function
takes 70 % longer, most of it in botocore, moto and the local cloud. Here the tracer rests while they work. Nothing
below calls back into a measured package; `make test` would show it as lost coverage.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from socketserver import ThreadingMixIn
from typing import Any

import botocore.endpoint
import botocore.httpsession
import botocore.parsers
import botocore.regions
import botocore.session
import botocore.signers
import requests

from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.gcp.cloud import LocalGcp

# Who answers as a cloud does, and the steps of an SDK's call between which the functions' hooks run.
CALLS: tuple[tuple[type, str], ...] = (
    (LocalAws, "__enter__"),
    (LocalAzure, "__enter__"),
    (LocalGcp, "__enter__"),
    (botocore.session.Session, "__init__"),
    (botocore.session.Session, "create_client"),
    (botocore.regions.EndpointRulesetResolver, "construct_endpoint"),
    (botocore.signers.RequestSigner, "sign"),
    (botocore.httpsession.URLLib3Session, "send"),
    (botocore.parsers.ResponseParser, "parse"),
    (requests.Session, "request"),
    (ThreadingMixIn, "process_request_thread"),
)


def install() -> None:
    """Wrap the calls, for the rest of the process."""
    for owner, name in CALLS:
        setattr(owner, name, _untraced(getattr(owner, name)))


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(function)
    def call(*arguments: Any, **options: Any) -> Any:
        tracer = sys.gettrace()
        if tracer is None:
            return function(*arguments, **options)
        sys.settrace(None)
        try:
            return function(*arguments, **options)
        finally:
            sys.settrace(tracer)
            _resume()

    return call


def _resume() -> None:
    """Be the call with which coverage's tracer takes up its work again, before the caller's next line."""
