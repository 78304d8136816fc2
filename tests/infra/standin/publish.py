"""What the module's scripts call: the Azure CLI, Resource Manager, and the app's own publish endpoint."""

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
FUNCTIONS = ("reconcile_http", "reconcile_timer", "status")
# In place of the Azure CLI: it is signed in, and notes what it was called with.
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
class Asked:
    """One request: method, path without query, query, and the hash of its body ("" without one)."""

    method: str
    path: str
    query: str
    digest: str


@dataclass
class AzureStandIn:
    """Answers as Azure does where all goes well; `asked` holds what it was asked with the right token, in order."""

    endpoint: str = ""
    asked: list[Asked] = field(default_factory=list)

    def answer(self, asked: Asked) -> Any:
        """Return the JSON of an answer."""
        self.asked.append(asked)
        if asked.path.endswith("/api/publish"):
            return "deployment-1"
        if "/api/deployments/" in asked.path:
            return {"status": 4, "complete": True}
        if asked.path.endswith("/functions"):
            return {"value": [{"name": f"app/{one}"} for one in FUNCTIONS]}
        if asked.path.endswith("/summarize"):
            assignment = asked.query.partition("eq%20%27")[2].partition("%27")[0]
            details = [{"complianceState": "noncompliant", "count": 2}]
            states = {"policyAssignmentId": assignment.replace("%2F", "/"), "results": {"resourceDetails": details}}
            return {"value": [{"policyAssignments": [states]}]}
        return {"id": f"/subscriptions/{SUBSCRIPTION}", "properties": {}}


@contextmanager
def azure_standing_in() -> Iterator[AzureStandIn]:
    """Serve a stand-in on a loopback port."""
    standin = AzureStandIn()

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            right = self.headers.get("Authorization") == f"Bearer {TOKEN}"
            path, _, query = self.path.partition("?")
            digest = hashlib.sha256(body).hexdigest() if body else ""
            answer = json.dumps(standin.answer(Asked(self.command, path, query, digest)) if right else {}).encode()
            self.send_response(200 if right else 401)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        do_GET = do_PUT = do_POST = handle_any

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        standin.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield standin
        finally:
            server.shutdown()
            thread.join()
