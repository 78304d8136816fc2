"""The part of Microsoft Graph that a deployment uses: enterprise applications, and the caller's directory roles.

Sources: "Get servicePrincipal" and "List a user's memberships" of the Microsoft Graph v1.0 reference.
"""

from __future__ import annotations

import re
from typing import Any

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError, not_found
from localcloud.azure.iam.caller import GRAPH, MANAGEMENT, identify
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

PREFIX = "/graph"
GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
_BY_APP = re.compile(r"/v1\.0/servicePrincipals\(appId='([0-9a-f-]{36})'\)", re.IGNORECASE)
_MY_ROLES = "/v1.0/me/transitivememberof/microsoft.graph.directoryrole"


# difference: AZURE-8
class Graph:
    """Handle one request at a time; only users with a directory role and the local operator have access."""

    def __init__(self, world: World) -> None:
        self._world = world

    def answer(self, request: Request) -> Answer:
        """Handle a request and log it; errors are returned as responses."""
        path, action, app = request.path[len(PREFIX) :], f"{request.method} unknown", ""
        try:
            caller = identify(request.headers.get("authorization", ""), self._world.tenant, (*GRAPH, *MANAGEMENT))
            app = caller.principal
            action, answer = self._route(request, path, app)
        except ArmError as error:
            answer = Answer(error.document(), error.status, dict(error.headers))
        self._world.calls.add(
            Call(self._world.clock.monotonic(), app, request.method, action, request.path, answer.status)
        )
        return answer

    def _route(self, request: Request, path: str, app: str) -> tuple[str, Answer]:
        by_app = _BY_APP.fullmatch(path)
        with self._world.lock:
            if request.method == "GET" and path.lower() == _MY_ROLES:
                roles = sorted(self._world.directory_roles.get(app, ()))
                return "microsoft.directory/users/memberOf/read", Answer(
                    {"value": [{"@odata.type": "#microsoft.graph.directoryRole", "roleTemplateId": r} for r in roles]}
                )
            self._check(app)
            if request.method == "GET" and by_app:
                return "microsoft.directory/servicePrincipals/standard/read", Answer(self._principal(by_app[1]))
        raise not_found("BadRequest", f"Resource not found for the segment '{path.rsplit('/', 1)[-1][:40]}'.")

    def _check(self, app: str) -> None:
        if not app.startswith("app-") and app not in self._world.directory_roles:
            raise ArmError(403, "Authorization_RequestDenied", "Insufficient privileges to complete the operation.")

    def _principal(self, app_id: str) -> dict[str, Any]:
        found = self._world.service_principals.get(app_id.lower())
        if found is None:
            raise not_found(
                "Request_ResourceNotFound",
                f"Resource '{app_id}' does not exist or one of its queried reference-property objects are not present.",
            )
        return {"id": found, "appId": app_id.lower(), "servicePrincipalType": "Application", "accountEnabled": True}
