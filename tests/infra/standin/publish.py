"""Stand-ins for what the module's scripts call: the Azure CLI, Resource Manager and the app's publish endpoint."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.infra.standin.values import SUBSCRIPTION

TOKEN = "the-operators-token"
FUNCTIONS = (
    *("changes_timer", "delivery_event", "reconcile_http", "reconcile_timer", "status"),
    *("round_begin", "round_end", "rounds", "rounds_timer", "tenant_calls", "tenant_run", "tenants_lane"),
    "tenants_round",
)
# Replaces the Azure CLI: it is signed in, and logs its arguments.
AZ = """\
#!/usr/bin/env python3
import json, os, pathlib, sys
with open(pathlib.Path(__file__).with_name("az.log"), "a") as log:
    log.write(json.dumps(sys.argv[1:]) + "\\n")
endpoint = os.environ["STANDIN_ENDPOINT"]
answers = {
    "cloud": {"endpoints": {"resourceManager": endpoint, "activeDirectoryResourceId": "https://management.example/"}},
    "account": {"accessToken": os.environ["STANDIN_TOKEN"]},
}
print(json.dumps(answers[sys.argv[1]]))
"""


@dataclass(frozen=True)
class RecordedRequest:
    """A request: method, path without query, query, and the hash of its body ("" without a body)."""

    method: str
    path: str
    query: str
    digest: str


@dataclass
class AzureStandIn:
    """Responds as Azure does on success; `requests` are those with a valid token, in order."""

    endpoint: str = ""
    requests: list[RecordedRequest] = field(default_factory=list)

    def answer(self, request: RecordedRequest) -> Any:
        """Record a request, and return the JSON of its response."""
        self.requests.append(request)
        if request.path.endswith("/api/publish"):
            return "deployment-1"
        if "/api/deployments/" in request.path:
            return {"status": 4, "complete": True}
        if request.path.endswith("/functions"):
            return {"value": [{"name": f"app/{one}"} for one in FUNCTIONS]}
        if request.path.endswith("/summarize"):
            assignment = request.query.partition("eq%20%27")[2].partition("%27")[0]
            details = [{"complianceState": "noncompliant", "count": 2}]
            states = {"policyAssignmentId": assignment.replace("%2F", "/"), "results": {"resourceDetails": details}}
            return {"value": [{"policyAssignments": [states]}]}
        return {"id": f"/subscriptions/{SUBSCRIPTION}", "properties": {}}


@contextmanager
def serve_azure() -> Iterator[AzureStandIn]:
    """Serve the stand-in for Azure on a loopback port."""
    standin = AzureStandIn()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            valid = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            path, _, query = self.path.partition("?")
            digest = hashlib.sha256(body).hexdigest() if body else ""
            request = RecordedRequest(self.command, path, query, digest)
            answer = json.dumps(standin.answer(request) if valid else {}).encode()
            self.send_response(200 if valid else 401)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        standin.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield standin
        finally:
            server.shutdown()
            thread.join()
