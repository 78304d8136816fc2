"""Publishes deliveries to an Event Grid custom topic, as CloudEvents.

Sources: "CloudEvents v1.0 schema with Azure Event Grid", "Publish events to Azure Event Grid custom topics", and
"Authenticate publishing clients using Microsoft Entra ID" (Microsoft Learn). Event Grid promises no order.
"""

from __future__ import annotations

from http import HTTPStatus

from azure.core.rest import HttpRequest

from azure_function.clients import EVENT_GRID, Clients
from azure_function.resources.delivery_source import DeliverySource
from azure_function.settings import AzureSettings
from shared.deliveries.announce import Announcer
from shared.deliveries.chain import Topic
from shared.errors import NotUnderstood
from shared.notify.delivery import Secret
from shared.notify.formats import CLOUD_EVENT
from shared.notify.topic import WebhookTopic
from shared.parsing import is_html
from shared.runtime.context import RunContext

API_VERSION = "2018-01-01"


class EventGridTopic:
    """The custom topic of the deployment, whose input schema is CloudEvents 1.0. Safe in several threads."""

    def __init__(self, settings: AzureSettings, clients: Clients, run: RunContext) -> None:
        self._endpoint = settings.delivery_topic
        self._clients = clients
        self._run = run

    def publish(self, event: bytes, event_id: str, key: str) -> None:  # noqa: ARG002 - both are in the event
        """Publish one event. Raises CloudError."""
        self._run.calls(EVENT_GRID, self._send, event)

    def _send(self, event: bytes) -> None:
        url = f"{self._endpoint}?api-version={API_VERSION}"
        request = HttpRequest("POST", url, content=event, headers={"Content-Type": CLOUD_EVENT})
        response = self._clients.event_grid.send_request(request)
        response.raise_for_status()
        if response.status_code != HTTPStatus.OK or is_html(response.content):
            raise NotUnderstood("the publishing of a delivery", f"the topic answered {response.status_code}")


def announcer_of(settings: AzureSettings, clients: Clients, run: RunContext, secret: Secret | None) -> Announcer | None:
    """Return what announces deliveries by the settings, None if nothing does. `secret` is that of the webhook."""
    if not settings.deltas:
        return None
    topics: dict[str, Topic] = {}
    if settings.delivery_topic:
        topics["event-grid"] = EventGridTopic(settings, clients, run)
    if secret is not None:
        topics["webhook"] = WebhookTopic(secret, run)
    return Announcer(DeliverySource(settings, clients, run), topics, run)
