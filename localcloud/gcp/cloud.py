"""`LocalGcp`: a Google Cloud organization on this machine, for demos and tests."""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

from localcloud.common.control_api import ControlApi
from localcloud.common.http_server import LoopbackServer
from localcloud.common.local_cloud import LocalCloud
from localcloud.gcp.calls import CallLog
from localcloud.gcp.context import Handler
from localcloud.gcp.control_api import GcpActions
from localcloud.gcp.errors import GoogleError
from localcloud.gcp.faults import Faults
from localcloud.gcp.gateway import Gateway
from localcloud.gcp.iam.federation import ISSUER, Federation
from localcloud.gcp.iam.policies import ISSUED, Iam
from localcloud.gcp.infra_manager.api import InfraManager
from localcloud.gcp.methods import methods
from localcloud.gcp.platform.deployed import AUDIENCE
from localcloud.gcp.platform.deployment import OPERATOR, TENANT, Deployment
from localcloud.gcp.platform.event_delivery import EventDelivery
from localcloud.gcp.platform.functions import Functions, Runtime
from localcloud.gcp.platform.names import ORGANIZATION, PROJECT
from localcloud.gcp.platform.task_delivery import TaskDelivery
from localcloud.gcp.runtime.metadata_server import MetadataServer
from localcloud.gcp.services.billing import BillingAccount, account_id
from localcloud.gcp.services.catalog import LOCATIONS
from localcloud.gcp.state import Behavior, World
from shared.runtime.clock import Clock, SystemClock

# Prefixes of the operator's variables, which are kept out of the function's environment.
_OPERATORS = ("GOOGLE_OAUTH_ACCESS_TOKEN", "CLOUDSDK_AUTH_", "CLOUDSDK_CORE_", "TF_VAR_")
# The path that gcloud's endpoint override of each API must include (`gcloud topic configurations`).
_PATHS = {
    # `bq` treats the override as the root URL and reads the path from the discovery document.
    "bigquery": "",
    "storage": "storage/v1/",
    **dict.fromkeys(
        (
            "artifactregistry",
            "cloudbilling",
            "cloudfunctions",
            "cloudresourcemanager",
            "cloudscheduler",
            "cloudtasks",
            "config",
            "iam",
            "iamcredentials",
            "logging",
            "monitoring",
            "orgpolicy",
            "pubsub",
            "run",
            "secretmanager",
            "serviceusage",
        ),
        "",
    ),
    "compute": "compute/v1/",
}
# The Google provider's endpoint variables, one per product, so that no Terraform plan reaches Google.
_TERRAFORM = {
    "ARTIFACT_REGISTRY": "v1/",
    "BIG_QUERY": "bigquery/v2/",
    "CLOUD_BILLING": "v1/",
    "CLOUD_RUN_V2": "v2/",
    "CLOUD_SCHEDULER": "v1/",
    "CLOUD_TASKS": "v2/",
    "CLOUDFUNCTIONS2": "v2/",
    "IAM": "v1/",
    "IAM_BETA": "v1/",
    "IAM_CREDENTIALS": "v1/",
    "LOGGING": "v2/",
    "MONITORING": "",
    "PUBSUB": "v1/",
    "RESOURCE_MANAGER": "v1/",
    "RESOURCE_MANAGER_V3": "v3/",
    "SERVICE_USAGE": "v1/",
    "STORAGE": "storage/v1/",
}
_USAGE = ("standard", "detailed", "pricing")


class LocalGcp(LocalCloud):
    """A context manager that serves a local GCP on 127.0.0.1 while it is open.

    It starts in the state after a deployment: project, dataset, both buckets, enabled APIs, effective permissions,
    `accounts` open billing accounts with the console step done for `done` of them (default: all but the last), and
    `history_days` days of data with `rows` rows a day in each table. `bare` creates only the project and its grants.

    `runtime` serves the deployed function at its own address, starting with the first call; without it, the address
    returns 503.

    `actions` (also available as methods: `cloud.late_data(...)`) change the live state, as does
    `POST {endpoint}/_local/<action>` from other processes; see `GcpActions`.
    `faults`, `calls`, `iam` and `clock` are the local cloud's own.

    Raises ValueError for invalid settings, OSError if the port is in use.
    """

    ACTIONS = GcpActions

    def __init__(
        self,
        accounts: int = 5,
        port: int = 0,
        clock: Clock | None = None,
        seed: int = 0,
        *,
        bare: bool = False,
        done: int | None = None,
        kinds: tuple[str, ...] = _USAGE,
        history_days: int = 0,
        rows: int = 20,
        location: str = "US",
        project: str = PROJECT,
        behavior: Behavior | None = None,
        runtime: Runtime | None = None,
    ) -> None:
        if accounts < 0 or port < 0 or history_days < 0 or rows < 1:
            raise ValueError("accounts, port and history_days must not be negative, and rows at least 1")
        if location.upper() not in LOCATIONS:
            raise ValueError(f"location {location!r} is not one of {', '.join(LOCATIONS.values())}")
        super().__init__()
        self.clock = clock or SystemClock()
        self.deployment = Deployment(project=project, location=location)
        self._accounts, self._port, self._seed, self._bare = accounts, port, seed, bare
        self._done = max(0, accounts - 1) if done is None else done
        self._kinds, self._history_days, self._rows = kinds, history_days, rows
        self._behavior = behavior or Behavior()
        self._runtime = runtime
        self._world: World | None = None
        self._actions: GcpActions | None = None
        self.handlers: dict[str, Handler] = {}
        self._token_file = Path()

    @property
    def world(self) -> World:
        """The state. Raises RuntimeError if the local cloud is not open."""
        if self._world is None:
            raise RuntimeError("the local GCP is not open")
        return self._world

    @property
    def actions(self) -> GcpActions:
        if self._actions is None:
            raise RuntimeError("the local GCP is not open")
        return self._actions

    @property
    def faults(self) -> Faults:
        return self.world.faults

    @property
    def calls(self) -> CallLog:
        return self.world.calls

    @property
    def iam(self) -> Iam:
        return self.world.iam

    @property
    def project(self) -> str:
        return self.deployment.project

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, value, trace)
        self._world, self._actions = None, None

    def environment(self) -> dict[str, str]:
        """Return Google's own variables for clients and tools and, unless bare, the function's settings."""
        host = self.endpoint.removeprefix("http://")
        variables = {
            "GOOGLE_CLOUD_PROJECT": self.project,
            "BIGQUERY_EMULATOR_HOST": self.endpoint,
            "STORAGE_EMULATOR_HOST": self.endpoint,
            # Google's auth library fetches its token from here, as on Cloud Run.
            "GCE_METADATA_HOST": host,
            "GCE_METADATA_IP": host,
            # For APIs without an emulator variable: Cloud Billing, Resource Manager, Service Usage.
            "GOOGLE_API_ENDPOINT": self.endpoint,
            # Authenticates Terraform's provider and the operator's commands.
            "GOOGLE_OAUTH_ACCESS_TOKEN": f"{ISSUED}{OPERATOR}",
            # gcloud authenticates with this file; without it, gcloud would send the user's own credentials.
            "PUBSUB_EMULATOR_HOST": host,
            "CLOUDSDK_CORE_PROJECT": self.project,
            "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(self._token_file),
            "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
            # The deployment trusts this local cloud as the issuer and admits this tenant only.
            "TF_VAR_tailpipe_issuer": self.world.issuer,
            "TF_VAR_tailpipe_audience": AUDIENCE,
            "TF_VAR_tailpipe_tenant": TENANT,
        }
        for service, path in _PATHS.items():
            variables[f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{service.upper()}"] = f"{self.endpoint}/{path}"
        for product, path in _TERRAFORM.items():
            variables[f"GOOGLE_{product}_CUSTOM_ENDPOINT"] = f"{self.endpoint}/{path}"
        return variables if self._bare else variables | self.deployment.settings()

    def function_environment(self) -> dict[str, str]:
        """Return the function's environment: the emulator variables and the settings currently deployed."""
        deployed: dict[str, str] = self.world.platform.find(self.deployment.function)["serviceConfig"][
            "environmentVariables"
        ]
        ours = {name: value for name, value in self.environment().items() if not name.startswith(_OPERATORS)}
        return ours | deployed

    def _open(self) -> None:
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="local-gcp-")))
        self._token_file = folder / "operator-token"
        self._token_file.write_text(f"{ISSUED}{OPERATOR}", encoding="utf-8")
        world = World(self.clock, folder, self._behavior, self.project, self._seed)
        service = self.deployment.function.rpartition("/")[2]
        functions = Functions(world, self._runtime, self.function_environment, service)
        federation = Federation(world)
        self._stack.callback(world.warehouse.close)
        self._world, self._actions = world, GcpActions(world, self.deployment)
        address = LoopbackServer(functions.serve, 0)
        self._stack.callback(address.stop)
        world.function_uri = address.endpoint
        number = self.deployment.found(world).number
        self.deployment.grant(world)
        identity = self.deployment.identity
        self.task_delivery = TaskDelivery(world, functions.dispatch)
        infra_manager = self.infra_manager = InfraManager(world, self.environment)
        self.handlers = methods(world, functions, federation, self.task_delivery.run_now, infra_manager)
        gateway = Gateway(
            world,
            self.handlers,
            federation,
            infra_manager,
            MetadataServer(identity, self.project, number, world.faults),
            ControlApi(self._actions, GoogleError),
            identity,
        )
        self._server = LoopbackServer(self.faults.wire.around(gateway), self._port)
        self._stack.callback(self._server.stop)
        world.issuer = f"{self._server.endpoint}{ISSUER}"
        if not self._bare:
            self.deployment.make(world)
            self._open_accounts(world)
        self._server.start()
        # Callers stop before the services they call: the function's address, the function, then the local cloud.
        self._stack.callback(infra_manager.close)
        self._stack.callback(functions.close)
        self.delivery = EventDelivery(world, functions.push)
        self._stack.callback(self.delivery.close)
        self.delivery.start()
        self._stack.callback(self.task_delivery.close)
        self.task_delivery.start()
        self._stack.callback(address.stop)
        address.start()

    def _open_accounts(self, world: World) -> None:
        for number in range(self._accounts):
            identifier = account_id(number, self._seed)
            world.billing.add(BillingAccount(identifier, f"Billing account {number}", ORGANIZATION))
            if number < self._done:
                self.actions.console_step(identifier, self._kinds)
        if self._history_days:
            self.actions.stream(days=self._history_days, rows=self._rows)
