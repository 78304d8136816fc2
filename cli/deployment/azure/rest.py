"""Azure for the operator's commands: Resource Manager, Microsoft Graph and the function app, with the caller's sign-in.

Calls go through the function's own clients, so that quotas, waits and errors are handled in the same way.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

from azure.core import PipelineClient
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import BearerTokenCredentialPolicy, RequestIdPolicy, UserAgentPolicy
from azure.core.pipeline.transport import RequestsTransport
from azure.core.rest import HttpRequest

from azure_function.answers import CLIENT_TYPE
from azure_function.clients import ARM_READ, ARM_WRITE, CONNECT_S, COST, RATES, READ_S, Clients
from azure_function.errors import NOT_FOUND_REMEDY, REPORT_REMEDY, UNKNOWN_REMEDY, WAIT_REMEDY, translate
from azure_function.settings import CLOUDS, CONTAINER, AzureSettings
from cli.deployment.model import AGAIN, ANSWERS, CORRECT, OperatorError, Problem
from shared.errors import Denied, NotApplicable, NotFound, NotUnderstood, ReportedError, RunStopped, SettingsError
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.settings import Reader

SECONDS = 12 * 3600.0  # a removal of 10,000 exports takes two hours at the quota
GRAPH = {
    "public": "https://graph.microsoft.com",
    "usgov": "https://graph.microsoft.us",
    "china": "https://microsoftgraph.chinacloudapi.cn",
}
SIGN_IN = "Sign in with `az login --tenant TENANT`, or set AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET."
DOCTOR = "`tailpipe-exports doctor azure` shows which permission is missing, and the command that grants it."
REMEDIES = {WAIT_REMEDY: AGAIN, UNKNOWN_REMEDY: CORRECT, REPORT_REMEDY: CORRECT, NOT_FOUND_REMEDY: CORRECT}
GONE = "SubscriptionNotFound"  # a deleted subscription, one of another tenant, and one that never existed
ACCEPTED, POLL_S, LONGEST_S = 202, 5.0, 60.0
Pipe = Any  # the SDK's policies are generic in types that it does not export


class _Bearer(BearerTokenCredentialPolicy[Any, Any]):
    """Sends tokens over plain HTTP too: for loopback endpoints only, see `Rest`."""

    def on_request(self, request: PipelineRequest[Any]) -> None:
        request.context.options["enforce_https"] = False
        super().on_request(request)


class Rest:
    """`environment` is the operator's; ARM_ENDPOINT, GRAPH_ENDPOINT, FUNCTION_ENDPOINT and BLOB_ENDPOINT may name a
    loopback address, where ARM_OPERATOR_TOKEN (or ARM_TOKEN) is the token. Methods raise OperatorError, never with a
    secret in it.
    """

    def __init__(self, environment: Mapping[str, str], clock: Clock) -> None:
        reader = Reader(environment)
        cloud = reader.choice("AZURE_CLOUD", "public", tuple(CLOUDS))
        self.function_endpoint = reader.endpoint("FUNCTION_ENDPOINT").rstrip("/")
        self.graph_endpoint = reader.endpoint("GRAPH_ENDPOINT").rstrip("/") or GRAPH[cloud]
        arm = reader.endpoint("ARM_ENDPOINT").rstrip("/")
        token = environment.get("ARM_OPERATOR_TOKEN") or environment.get("ARM_TOKEN") or ""
        reader.check(not token or bool(arm), "ARM_OPERATOR_TOKEN", "is for a loopback endpoint only; unset it")
        self.settings = AzureSettings(
            cloud=CLOUDS[cloud],
            destination=(),
            container=CONTAINER,
            exports=(),
            parquet=False,
            identity=False,
            location="",
            group="",
            include=(),
            exclude=(),
            billing="off",
            billing_scopes=(),
            backfill_months=0,
            entra_tenant=reader.text("AZURE_TENANT_ID", ""),
            client=reader.text("AZURE_CLIENT_ID", ""),
            client_secret=environment.get("AZURE_CLIENT_SECRET", ""),
            state_url="",
            run_seconds=int(SECONDS),
            engine=reader.engine(call_budget=0),
            arm_endpoint=arm,
            arm_token=token,
        )
        try:
            reader.finish()
        except SettingsError as error:
            raise OperatorError(*(Problem(fault) for fault in error.problems)) from error
        self.clock = clock
        self.clients = Clients(self.settings, {})
        self.run = RunContext("azure", self.settings.engine, _silent, clock, SECONDS, RATES, translate)
        self._graph: Any = None

    @property
    def loopback(self) -> bool:
        return bool(self.settings.arm_endpoint)

    def claims(self) -> dict[str, str]:
        """Return the claims of the caller's token, such as ``tid`` and ``oid``; {} if it is opaque."""
        token = str(self._translated(ARM_READ, self._token))
        try:
            body = token.split(".")[1]
            claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        except (IndexError, ValueError, binascii.Error):
            return {}
        return {name: str(claims[name]) for name in ("tid", "oid", "upn", "appid", "idtyp") if name in claims}

    def ask(self, method: str, path: str, api: str, body: Any = None, **query: str) -> Any:
        """Send one request to Resource Manager and return the JSON response ({} if it is empty).

        Raises NotFound beside OperatorError.
        """
        quota = COST if "/Microsoft.CostManagement/" in path else ARM_READ if method == "GET" else ARM_WRITE
        return self._translated(quota, self._arm, method, _url(path, api, query), body)

    def finished(self, method: str, path: str, api: str, body: Any = None) -> Any:
        """Send a request that Azure may carry out later, and return the JSON of its end."""
        answer = self._translated(ARM_WRITE, self._sent, method, _url(path, api, {}), body)
        while answer.status_code == ACCEPTED:
            wait = answer.headers.get("Retry-After", "")
            self.clock.wait_until(self.clock.monotonic() + (min(float(wait), LONGEST_S) if wait.isdigit() else POLL_S))
            answer = self._translated(ARM_READ, self._sent, "GET", answer.headers["Location"], None)
        return answer.json() if answer.content else {}

    def get(self, path: str, api: str, **query: str) -> dict[str, Any] | None:
        """Return the resource at a path, or None if it does not exist."""
        try:
            found: dict[str, Any] = self.ask("GET", path, api, **query)
        except NotFound:
            return None
        return found

    def pages(self, path: str, api: str, **query: str) -> Iterator[dict[str, Any]]:
        """Yield the items of a listing, from all pages. Raises NotFound beside OperatorError."""
        url = _url(path, api, query)
        while url:
            page = self._translated(ARM_READ, self._arm, "GET", url, None)
            yield from page.get("value", ())
            url = page.get("nextLink") or ""

    def listed(self, path: str, api: str, **query: str) -> list[dict[str, Any]]:
        """Return the items of a listing; none if the scope that it is of does not exist. Raises OperatorError."""
        try:
            return list(self.pages(path, api, **query))
        except NotFound:
            return []

    def graph(self, path: str) -> dict[str, Any]:
        """Return the resource at a path of Microsoft Graph.

        Raises ReportedError, since callers can continue without it.
        """
        found: dict[str, Any] = self.run.calls(ARM_READ, self._ask_graph, path)
        return found

    def cost(self, function: Any, *arguments: Any) -> Any:
        """Call an operation of the Cost Management client within its quota. Raises ReportedError."""
        return self.run.calls(COST, function, *arguments)

    def transport(self, read_s: float) -> RequestsTransport:
        """Return a transport that gives up on a response after `read_s` seconds."""
        # Loopback has no proxy.
        return RequestsTransport(use_env_settings=not self.loopback, connection_timeout=CONNECT_S, read_timeout=read_s)

    @property
    def endpoint(self) -> str:
        """The address of Resource Manager."""
        return self.settings.arm_endpoint or str(self.settings.cloud.resource_manager)

    def token(self) -> str:
        """Return the caller's token for Resource Manager, which is never shown."""
        return str(self._translated(ARM_READ, self._token))

    def _token(self) -> str:
        # Any token of this sign-in identifies the caller; Resource Manager's is needed anyway.
        return self.clients.credential.get_token(f"{self.settings.cloud.resource_manager}/.default").token

    def _translated(self, quota: str, function: Any, *arguments: Any) -> Any:
        try:
            return self.run.calls(quota, function, *arguments)
        except NotFound:
            raise
        except NotApplicable as error:
            # To the function, a subscription that is gone is one to leave out; to a command, it does not exist.
            raise (NotFound(GONE, error.message) if error.code == GONE else refused(error)) from error
        except ReportedError as error:
            raise refused(error) from error

    def _sent(self, method: str, url: str, body: Any) -> Any:
        answer = self.clients.cost.send_request(HttpRequest(method, url, json=body))
        answer.raise_for_status()
        return answer

    def _arm(self, method: str, url: str, body: Any) -> Any:
        return _json(self.clients.cost.send_request(HttpRequest(method, url, json=body)))

    def _ask_graph(self, path: str) -> Any:
        if self._graph is None:
            bearer: Pipe = _Bearer if self.loopback else BearerTokenCredentialPolicy
            scope = f"{self.graph_endpoint}/.default"
            policies: list[Pipe] = [
                RequestIdPolicy(),
                UserAgentPolicy(CLIENT_TYPE),
                bearer(self.clients.credential, scope),
            ]
            self._graph = PipelineClient(self.graph_endpoint, policies=policies, transport=self.transport(READ_S))
        return _json(self._graph.send_request(HttpRequest("GET", f"{self.graph_endpoint}{path}")))


def refused(error: ReportedError) -> OperatorError:
    """Return a failed call as an OperatorError."""
    return OperatorError(Problem(error.message, remedy_of(error)))


def remedy_of(error: ReportedError) -> str:
    """Return what the operator can do: the function's remedies speak of its identity, and of a later run."""
    if isinstance(error, RunStopped):
        return SIGN_IN
    if isinstance(error, NotUnderstood):
        return ANSWERS
    return DOCTOR if isinstance(error, Denied) else REMEDIES.get(error.remedy, error.remedy)


def _url(path: str, api: str, query: Mapping[str, str]) -> str:
    rest = "".join(f"&{name.replace('_', '$', 1)}={quote(value, safe='')}" for name, value in query.items())
    return f"{path}?api-version={api}{rest}"


def _json(answer: Any) -> Any:
    answer.raise_for_status()
    return answer.json() if answer.content else {}


def _silent(_level: str, _event: str, _fields: Mapping[str, Any]) -> None:
    """Drop the run's events: they belong in the function's log, and the command shows its own progress."""
