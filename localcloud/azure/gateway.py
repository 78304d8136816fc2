"""The gateway of the local Azure: serves Resource Manager, Graph, identity tokens and the control API on one port."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import replace

from localcloud.azure.customers import Customers
from localcloud.azure.errors import ArmError
from localcloud.azure.iam.identity import PATH, Identity
from localcloud.azure.resource_manager import ResourceManager
from localcloud.azure.services.event_grid import PREFIX as EVENT_GRID
from localcloud.azure.services.event_grid import Topic
from localcloud.azure.services.graph import PREFIX, Graph
from localcloud.azure.services.token_endpoint import PREFIX as ENTRA
from localcloud.azure.services.token_endpoint import TokenEndpoint
from localcloud.azure.services.vault import PREFIX as VAULT
from localcloud.azure.services.vault import Vault
from localcloud.azure.wire import Answer, Request, served
from localcloud.common import http_server
from localcloud.common.control_api import PREFIX as CONTROL
from localcloud.common.control_api import ControlApi

_CUSTOMERS = f"{CONTROL}tenants/"


class Gateway:
    """Route requests to the services; called from the server's threads."""

    def __init__(
        self,
        arm: ResourceManager,
        graph: Graph,
        vault: Vault,
        topic: Topic,
        identity: Identity,
        control: ControlApi,
        sync: Callable[[], None],
        tokens: TokenEndpoint,
        customers: Customers,
    ) -> None:
        self._arm, self._graph, self._identity, self._control, self._sync = arm, graph, identity, control, sync
        self._vault, self._topic, self._tokens, self._customers = vault, topic, tokens, customers
        self._controls = {one.name: ControlApi(one.actions, ArmError) for one in customers}
        self._azure = served(self._answer)

    def __call__(self, request: http_server.Request) -> http_server.Response:
        """Answer one request."""
        if self._control.owns(request):
            self._sync()
            name, _, action = request.path.removeprefix(_CUSTOMERS).partition("/")
            if request.path.startswith(_CUSTOMERS) and name in self._controls:
                return self._controls[name].answer(replace(request, path=f"{CONTROL}{action}"))
            return self._control.answer(request)
        return self._azure(request)

    def _answer(self, request: Request) -> Answer:
        try:
            self._sync()
            if request.path == PATH:
                return self._identity.answer(request)
            if request.path.startswith(f"{PREFIX}/"):
                return self._graph.answer(request)
            if request.path.startswith(f"{VAULT}/"):
                return self._vault.answer(request)
            if request.path.startswith(f"{EVENT_GRID}/"):
                return self._topic.answer(request)
            if request.path.startswith(f"{ENTRA}/"):
                return self._tokens.answer(request)
            customer = self._customers.called(request)
            return (customer.arm if customer else self._arm).answer(request)
        except Exception:  # noqa: BLE001 - a defect of the local cloud must be visible to its caller
            message = f"The local Azure failed: {traceback.format_exc(limit=-3)}"
            return Answer({"error": {"code": "InternalServerError", "message": message}}, 500)
