"""The methods that the local GCP covers, with their handlers."""

from __future__ import annotations

from localcloud.gcp.context import Handler
from localcloud.gcp.iam.federation import Federation
from localcloud.gcp.infra_manager.api import InfraManager
from localcloud.gcp.platform.compute_stub import ComputeStub
from localcloud.gcp.platform.functions import Functions
from localcloud.gcp.platform.identities_api import IdentitiesApi
from localcloud.gcp.platform.resources_api import ResourcesApi
from localcloud.gcp.platform.unsupported_writes import UnsupportedWrites
from localcloud.gcp.services.bigquery_api import BigQueryApi
from localcloud.gcp.services.billing_api import BillingApi
from localcloud.gcp.services.projects_api import ProjectsApi
from localcloud.gcp.services.pubsub_api import PubSubApi
from localcloud.gcp.services.secrets_api import SecretsApi
from localcloud.gcp.services.storage_api import StorageApi
from localcloud.gcp.services.tasks_api import RunNow, TasksApi
from localcloud.gcp.state import World


def methods(
    world: World, functions: Functions, federation: Federation, run_now: RunNow, infra_manager: InfraManager
) -> dict[str, Handler]:
    """Return the handlers by method, spelled as in Google's discovery documents."""
    return {
        **ProjectsApi().handlers,
        **infra_manager.handlers,
        **ResourcesApi().handlers,
        **functions.handlers,
        **federation.handlers,
        **IdentitiesApi().handlers,
        **ComputeStub().handlers,
        **UnsupportedWrites().handlers,
        **BillingApi().handlers,
        **SecretsApi().handlers,
        **PubSubApi().handlers,
        **TasksApi(run_now).handlers,
        **StorageApi(world.behavior.page_size, world.behavior.mutations_per_s).handlers,
        **BigQueryApi(world).handlers,
    }
