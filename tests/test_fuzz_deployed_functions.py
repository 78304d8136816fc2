"""The three entry points on deployed local clouds, with invalid requests, settings and stored states.

The status is 200, 400, 409 or 500 and the body is a document. A refused request writes nothing, and a damaged entry of
the state affects only its own scope.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from flask import Flask, request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import aws_lambda.handler
import azure_function.handler
import gcp_function.handler
from azure_function.clients import drop_clients
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.services.azurite import Azurite
from localcloud.gcp.services.objects import Conditions
from shared.errors import AnotherRun, RequestError, SettingsError
from tests.aws_lambda.support import local_aws
from tests.azure_function.support import local_azure
from tests.azure_function.test_handler import at, post
from tests.gcp_function.support import local_gcp
from tests.test_fuzz_entry_points import Context
from tests.test_fuzz_inputs import JSON, TEXT

FEW = settings(max_examples=12, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=200)
DEEP = 100_000
BODIES: Mapping[str, bytes] = {
    "ten megabytes": b'{"scopes": ["' + b"x" * 10_000_000 + b'"]}',
    "nested lists": b"[" * DEEP + b"]" * DEEP,
    "nested objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "long number": b'{"scopes": ' + b"9" * 5000 + b"}",
    "lone surrogate": b'{"scopes": ["\\ud800"], "dry_run": true}',
    "not UTF-8": bytes(range(256)),
    "not a number": b'{"dry_run": NaN}',
    "ten thousand ids": json.dumps({"dry_run": True, "scopes": [f"{one:012d}" for one in range(10_000)]}).encode(),
}
INVALID: list[Any] = [
    *(None, True, -1, 10**18, 10**400, 1e308, "", "²", "\ud800", "x" * 3000, [], {}, [[]], {"": None}),
    *("9999-12-31T23:59:59+00:00", "0001-01-01T00:00:00Z"),
]
INVALID_TEXT = [
    *("", " ", "²", "-1", "9" * 5000, "1e400", "nan", "\udcff", "x" * 70_000, "a,,b", "{}", "../..", "%s%n", "\n"),
    *("off", "0"),
]
# Settings of endpoints and credentials are not varied: an empty value would select the real cloud.
EXCLUDED = ("ENDPOINT", "URL", "HOST", "KEY", "TOKEN", "SECRET", "CREDENTIALS", "CONTAINER_CRED", "FUNCTION_DIR")
ENGINE = (
    *("MAX_WRITES_PER_RUN", "MAX_VANISHED_PERCENT", "CALL_BUDGET", "CALLS_AT_ONCE"),
    *("STALE_MIN_HOURS", "STALE_MAX_HOURS", "RUN_SECONDS"),
)


class Deployed:
    """A function that is deployed in its local cloud."""

    names: tuple[str, ...] = ()

    def __init__(self, cloud: Any) -> None:
        self.cloud = cloud
        self.environment: dict[str, str] = cloud.environment()

    @abstractmethod
    def invoke(self, body: bytes) -> tuple[int, Any]:
        """Return status and body of one call."""

    @abstractmethod
    def written(self) -> list[str]:
        """Return the writing calls since `calm`, except those for state and reports."""

    @abstractmethod
    def state(self) -> bytes:
        """Return the stored state."""

    @abstractmethod
    def put_state(self, data: bytes) -> None:
        """Store a state."""

    def calm(self) -> None:
        """Clear the recorded calls and let some time pass."""
        self.cloud.advance(20)  # so little that no delivery becomes late, however many calls are made
        self.cloud.calls.clear()

    def call(self, body: bytes = b"", **changed: str) -> tuple[int, Any]:
        """Call with some settings changed, and verify that the response keeps the contract."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in {**self.environment, **changed}.items():
                patch.setenv(name, value)
            code, document = self.invoke(body)
        json.dumps(document).encode()
        assert code in (200, 400, 409, 500)
        assert isinstance(document, dict)
        if code == 400:
            assert document["faults"], document
        if code == 500 and "faults" not in document:
            failures = document.get("failures") or [document]
            assert all(one["message"] and one["remedy"] for one in failures), document
        if code != 200:
            assert self.written() == [], (code, document)
        return code, document


class Aws(Deployed):
    """Lambda's handler; an exception refuses the request."""

    names = ("INCLUDE_ACCOUNTS", "EXCLUDE_ACCOUNTS", "INCLUDE_OUS", "EXPORT_PREFIX", "KMS_KEY_ARN", "EXPORTS")

    def invoke(self, body: bytes) -> tuple[int, Any]:
        context: Any = Context()
        context.invoked_function_arn = f"arn:aws:lambda:eu-west-1:{self.cloud.account}:function:tailpipe-exports"
        try:
            # Lambda's runtime parses the event and refuses invalid JSON.
            event = json.loads(body) if body else None
        except (ValueError, RecursionError):
            return 400, {"faults": ["not JSON"]}
        try:
            return 200, aws_lambda.handler.handler(event, context, clock=self.cloud.clock)
        except RequestError as error:
            return 400, {"faults": list(error.problems)}
        except SettingsError as error:
            return 500, {"faults": list(error.problems)}
        except AnotherRun as error:
            return 409, {"error": error.code}
        except aws_lambda.handler.RunFailed as error:
            return 500, {"message": str(error), "remedy": str(error)}

    def written(self) -> list[str]:
        reads = ("Get", "List", "Describe", "Head")
        return [
            call.operation
            for call in self.cloud.calls.select()
            if not call.operation.startswith(reads)
            # Except for the state and the reports; a damaged state is copied to another name.
            and (call.service != "s3" or call.operation not in ("PutObject", "CopyObject"))
        ]

    def state(self) -> bytes:
        response = self.cloud.client("s3").get_object(Bucket=self.environment["BUCKET_NAME"], Key=self._key())
        with response["Body"] as body:
            return bytes(body.read())

    def put_state(self, data: bytes) -> None:
        self.cloud.client("s3").put_object(Bucket=self.environment["BUCKET_NAME"], Key=self._key(), Body=data)

    def _key(self) -> str:
        return "state/known_accounts.json"


class Azure(Deployed):
    """The HTTP trigger; an empty body also calls the timer."""

    names = (
        "BACKFILL_MONTHS",
        "INCLUDE_SUBSCRIPTIONS",
        "MANAGEMENT_GROUP",
        "BILLING_SCOPES",
        "EXPORT_FORMAT",
        "EXPORTS",
    )

    def invoke(self, body: bytes) -> tuple[int, Any]:
        functions = at(self.cloud.clock)
        if not body:
            with suppress(SettingsError, AnotherRun, azure_function.handler.RunFailed):
                functions["reconcile_timer"](None)
        return post(functions, body)

    def written(self) -> list[str]:
        # A query of Resource Graph is a POST that only reads.
        return [
            call.action
            for call in self.cloud.calls.select()
            if call.method != "GET" and not call.action.endswith("/read")
        ]

    def state(self) -> bytes:
        with self.cloud.blob_client(self.cloud.host_account.name) as client:
            blob = client.get_blob_client("tailpipe-state", "known_subscriptions.json")
            return bytes(blob.download_blob().readall())

    def put_state(self, data: bytes) -> None:
        with self.cloud.blob_client(self.cloud.host_account.name) as client:
            client.get_blob_client("tailpipe-state", "known_subscriptions.json").upload_blob(data, overwrite=True)


class Gcp(Deployed):
    """The HTTP function."""

    names = ("COPY_DAYS", "INCLUDE_ACCOUNTS", "EXCLUDE_ACCOUNTS", "ORGANIZATION", "COPY", "EXPORTS")
    gateway = Flask("gateway")

    def invoke(self, body: bytes) -> tuple[int, Any]:
        with self.gateway.test_request_context(method="POST", data=body):
            reconcile: Any = gcp_function.handler.reconcile  # its decorator declares only the request
            response = reconcile(request, clock=self.cloud.clock)
        return response[1], json.loads(response[0])

    def written(self) -> list[str]:
        writing = ("insert", "patch", "update", "delete", "compose", "copy", "rewrite")
        names = [name for name in self.cloud.calls.by_method() if name.rsplit(".", 1)[-1] in writing]
        return [name for name in names if name not in ("storage.objects.insert", "storage.objects.copy")]

    def state(self) -> bytes:
        text: str = self.cloud.read_object("known_billing_accounts.json", self.cloud.deployment.state_bucket)
        return text.encode()

    def put_state(self, data: bytes) -> None:
        bucket = self.cloud.world.buckets.find(self.cloud.deployment.state_bucket)
        bucket.objects.put("known_billing_accounts.json", data, {}, Conditions(), self.cloud.clock.now())


CLOUDS: Mapping[str, tuple[type[Deployed], Callable[[Any], Any]]] = {
    "aws": (Aws, lambda _: local_aws(accounts=3)),
    "azure": (Azure, lambda azurite: local_azure(subscriptions=3, azurite=azurite)),
    "gcp": (Gcp, lambda _: local_gcp(accounts=2, done=2, history_days=2)),
}


@contextmanager
def steady_function(name: str, azurite: Azurite) -> Iterator[Deployed]:
    """Yield a function on a cloud where nothing has to be done."""
    kind, made = CLOUDS[name]
    with made(azurite) as cloud:
        deployed = kind(cloud)
        for _ in range(3):
            assert deployed.call()[0] == 200
            if isinstance(cloud, LocalAws | LocalAzure):
                cloud.deliver()
            deployed.calm()
        yield deployed
        drop_clients()


@pytest.fixture(scope="module", params=sorted(CLOUDS))
def deployed(request: pytest.FixtureRequest, azurite: Azurite) -> Iterator[Deployed]:
    """Return each cloud's function in the steady state; a test leaves it unchanged."""
    with steady_function(request.param, azurite) as found:
        yield found


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_invalid_body_is_refused(deployed: Deployed, body: bytes) -> None:
    """Oversized, deeply nested and malformed bodies are refused with 400; unknown scopes fail the run."""
    deployed.calm()
    code, document = deployed.call(body)
    assert code == (500 if body is BODIES["ten thousand ids"] else 400), document
    assert deployed.written() == []


REQUESTS = st.fixed_dictionaries(
    {}, optional={"scopes": st.lists(TEXT, max_size=3) | JSON, "dry_run": st.booleans(), "force": st.booleans() | JSON}
)


def try_requests(deployed: Deployed, examples: settings) -> None:
    """Call with random requests."""

    @examples
    @given(REQUESTS)
    def check(payload: dict[str, Any]) -> None:
        deployed.calm()
        deployed.call(json.dumps(payload).encode())
        assert deployed.written() == [], "a request wrote to the steady cloud"

    check()


def try_settings(deployed: Deployed, examples: settings) -> None:
    """Call with one setting invalid at a time."""
    names = sorted({*deployed.environment, *deployed.names, *ENGINE})
    names = [name for name in names if not any(part in name for part in EXCLUDED)]

    @examples
    @given(st.sampled_from(names), st.sampled_from(INVALID_TEXT))
    def check(name: str, value: str) -> None:
        deployed.calm()
        code, document = deployed.call(b'{"dry_run": true}', **{name: value})
        assert deployed.written() == []
        if code == 500 and "faults" in document:
            assert len(deployed.cloud.calls.select()) == 0, "invalid settings are refused before any call"

    check()


def value_paths(document: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the path of every value in a document, outer values first."""
    if path:
        yield path
    inner = (
        document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    )
    for name, value in inner:
        yield from value_paths(value, (*path, name))


def damaged(data: bytes, path: tuple[str | int, ...], value: Any) -> bytes:
    """Return the document with one value replaced."""
    document = json.loads(data)
    inner = document
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    return json.dumps(document).encode()


def try_states(deployed: Deployed, examples: settings) -> None:
    """Call with one value of the state damaged at a time."""
    good = deployed.state()
    paths = sorted(value_paths(json.loads(good)), key=str)
    scopes = deployed.call()[1]["scopes"]

    @examples
    @given(st.sampled_from(paths), st.sampled_from(INVALID))
    def check(path: tuple[str | int, ...], value: Any) -> None:
        deployed.put_state(damaged(good, path, value))
        deployed.calm()
        code, document = deployed.call()
        assert deployed.written() == [], (path, value)
        if path[0] in ("version", "cloud", "owner") and code == 500:
            return
        assert code in (200, 409 if path[0] == "running" else 200), (path, value, document)
        if code == 200:
            counts = document["scopes"]
            assert counts["active"] == scopes["active"]
            assert sum(counts[one] for one in ("covered", "pending")) >= scopes["active"] - 1, (path, value, document)

    try:
        check()
    finally:
        deployed.put_state(good)


TRIALS = {"requests": try_requests, "settings": try_settings, "states": try_states}


@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_handler_keeps_its_contract_for_invalid_input(
    deployed: Deployed, trial: Callable[[Deployed, settings], None]
) -> None:
    """Invalid requests, settings and states get a response of the contract, and write nothing to a steady cloud."""
    trial(deployed, FEW)


@pytest.mark.slow
@pytest.mark.parametrize("trial", TRIALS.values(), ids=TRIALS)
def test_handler_keeps_its_contract_for_more_invalid_input(
    deployed: Deployed, trial: Callable[[Deployed, settings], None]
) -> None:
    """The same with many more examples."""
    trial(deployed, MANY)
