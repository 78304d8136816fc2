"""`LocalAws`: an AWS organization on this machine, for demos and tests."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

from botocore.config import Config
from moto.core.base_backend import BackendDict
from moto.s3.models import s3_backends

from localcloud.aws.calls import CallLog
from localcloud.aws.control_api import AwsActions
from localcloud.aws.errors import AwsError
from localcloud.aws.faults import Faults
from localcloud.aws.gateway import Gateway, access_key_of
from localcloud.aws.iam.sessions import shared_session
from localcloud.aws.partitions import PARTITIONS, regions
from localcloud.aws.platform.deployed_deliveries import expire_documents, make_topic
from localcloud.aws.platform.deployed_events import make_events
from localcloud.aws.platform.deployed_function import make_function, make_function_role
from localcloud.aws.platform.deployed_rounds import make_rounds
from localcloud.aws.platform.deployment import STACK_SET, Deployment
from localcloud.aws.platform.object_events import object_events
from localcloud.aws.services.organization import MANAGEMENT_ACCOUNT, Organization, account_id
from localcloud.aws.services.s3_rules import without_motos_policies
from localcloud.aws.services.stacksets_api import TRUSTED
from localcloud.aws.state import Behavior, World
from localcloud.common.control_api import ControlApi
from localcloud.common.http_server import LoopbackServer
from localcloud.common.local_cloud import LocalCloud
from shared.runtime.clock import Clock, SystemClock

Kind = Literal["management", "delegated", "standalone", "member"]
RUNTIME = f"python{'.'.join(map(str, sys.version_info[:2]))}"
_UNITS = ("Production", "Development", "Sandbox")
# moto's backends are global to the process, so only one local AWS can be open at a time.
_open = threading.Lock()


class LocalAws(LocalCloud):
    """A context manager that serves a local AWS on 127.0.0.1 while it is open.

    `accounts` is the number of accounts in the organization, including the management account. `kind` selects whose
    credentials `environment()` holds: the management account's, a delegated administrator's, a member's, or those of
    an account without an organization. `bare` starts with an account without an organization or a deployment.

    `actions` (also methods here: `cloud.join_account(...)`) act on the live state, and so does
    `POST {endpoint}/_local/<action>` from other processes; see `AwsActions`.
    `faults`, `calls` and `clock` are the local cloud's own.

    Role sessions may do what their policies allow (see `Enforcement`); the credentials in `environment()` may do
    everything. Uploaded functions run when they are invoked, when their schedule fires, or when a rule sends them
    an event (see `Functions`, `Schedules` and `EventBuses`).

    `package` returns the function's zip, built for this machine's Python, on the first call; without it, the
    deployment has no function, only its role. With `deliveries`, it announces them: there is a topic, and S3 reports
    manifests. With `fleet`, a state machine calls the function for each tenant of the registry.

    Raises RuntimeError when another LocalAws is open in this process, ValueError for invalid settings.
    """

    ACTIONS = AwsActions

    def __init__(
        self,
        accounts: int = 5,
        port: int = 0,
        bare: bool = False,
        kind: Kind = "management",
        partition: str = "aws",
        region: str | None = None,
        clock: Clock | None = None,
        stackset_delay_s: float = 0,
        page_size: int = 1000,
        empty_pages_every: int = 3,
        policy_delay_s: float = 0,
        close_delay_s: float = 0,
        package: Callable[[], bytes] | None = None,
        deliveries: bool = False,
        fleet: bool = False,
    ) -> None:
        super().__init__()
        if partition not in PARTITIONS:
            raise ValueError(f"partition {partition!r} is not one of {', '.join(PARTITIONS)}")
        if accounts < 1 or (kind in ("delegated", "member") and accounts < 2):
            raise ValueError(f"{accounts} accounts are not enough for an account of kind {kind!r}")
        if page_size < 1 or port < 0:
            raise ValueError("page_size must be at least 1 and port at least 0")
        self._accounts, self._port, self._bare, self._kind = accounts, port, bare, kind
        if region is not None and region not in regions(partition):
            raise ValueError(f"region {region!r} is not in partition {partition}: {', '.join(regions(partition))}")
        self.partition = PARTITIONS[partition]
        self.region = region or self.partition.default_region
        self.clock = clock or SystemClock()
        self._package = package
        behavior = Behavior(page_size, empty_pages_every, stackset_delay_s, policy_delay_s, close_delay_s)
        self.world = World(self.clock, self.partition, behavior)
        self.world.functions.package = package
        member = kind in ("delegated", "member") and not bare
        self.account = account_id(0) if member else MANAGEMENT_ACCOUNT
        self.deployment = Deployment.fresh(
            self.account,
            self.partition,
            self.region,
            standalone=kind == "standalone",
            deliveries=deliveries,
            fleet=fleet,
        )
        self._actions = AwsActions(self.world, self.account, self.region, self.deployment.bucket, STACK_SET)
        self._clients: dict[tuple[str, str], Any] = {}

    @property
    def faults(self) -> Faults:
        return self.world.faults

    @property
    def calls(self) -> CallLog:
        return self.world.calls

    @property
    def organization(self) -> Organization | None:
        return self.world.organizations.organization

    @property
    def actions(self) -> AwsActions:
        return self._actions

    def __enter__(self) -> Self:
        if not _open.acquire(blocking=False):
            raise RuntimeError("another LocalAws is open in this process; close it first")
        self._stack.callback(_open.release)
        return super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for client in self._clients.values():
            client.close()
        self._clients.clear()
        super().__exit__(kind, value, trace)

    def environment(self) -> dict[str, str]:
        """Return the SDKs' own variables and, unless bare, the function's settings."""
        variables = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": access_key_of(self.account),
            "AWS_SECRET_ACCESS_KEY": "local-cloud-has-no-secrets",
        }
        return variables if self._bare else variables | self.deployment.settings()

    def settle(self) -> int:
        """Deliver the services' events that are due; returns their number."""
        return self.world.events.release()

    def client(self, service: str, account: str | None = None) -> Any:
        """Return a boto3 client with an account's credentials (default: the environment's); kept until closed.

        ``SERVICE@home`` is the service in the partition's home region.
        """
        account = account or self.account
        key = (service, account)
        if key not in self._clients:
            name, _, place = service.partition("@")
            home = place == "home" or name in ("organizations", "bcm-data-exports", "iam")
            self._clients[key] = shared_session().client(
                name,
                endpoint_url=self.endpoint,
                region_name=self.partition.home if home else self.region,
                aws_access_key_id=access_key_of(account),
                aws_secret_access_key="local-cloud-has-no-secrets",  # noqa: S106 - no signature is checked
                config=Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=60),
            )
        return self._clients[key]

    def _open(self) -> None:
        BackendDict.reset()
        s3_backends.bucket_accounts.clear()
        self._stack.callback(s3_backends.bucket_accounts.clear)
        self._stack.callback(BackendDict.reset)
        self._stack.enter_context(without_motos_policies())
        self._stack.enter_context(object_events(self.world.events))
        gateway = Gateway(self.world, ControlApi(self._actions, AwsError))
        server = LoopbackServer(self.faults.wire.around(gateway), self._port)
        self._server = server
        self.world.sessions.endpoint = server.endpoint
        self._stack.callback(self.world.sessions.close)
        self._stack.callback(server.stop)
        # Closed first, so that the server still answers the last requests of a function.
        self._stack.callback(self.world.functions.close)
        self._stack.callback(self.world.event_sources.close)
        self._stack.callback(self.world.state_machines.close)
        self._stack.callback(self.world.stack_engine.close)
        server.start()
        if not self._bare:
            self._deploy()
            self.world.calls.clear()

    def _deploy(self) -> None:
        conditions = self._deploy_infrastructure()
        if self._package is not None:
            # Last, so that the events of the deployment itself do not reach the function.
            make_events(self.deployment, self.client, RUNTIME, conditions | {"connector_events"})

    def _deploy_infrastructure(self) -> set[str]:
        self.deployment.make_bucket(self.client)
        self.deployment.make_connector_role(self.client)
        standalone = self._kind == "standalone"
        conditions = {"connector"} if standalone else {"connector", "management", "members"}
        if self.deployment.deliveries:
            conditions.add("deliveries")
            make_topic(self.deployment, self.client)
            expire_documents(self.deployment, self.client)
        if self.deployment.fleet:
            conditions.add("fleet")
            make_rounds(self.deployment, self.client)
        role = make_function_role(self.deployment, self.client, conditions)
        if self._package is not None:
            make_function(self.deployment, self.client, RUNTIME, role)
        if self._kind == "standalone":
            return conditions
        self.client("organizations", MANAGEMENT_ACCOUNT).create_organization(FeatureSet="ALL")
        organization = self.organization
        if organization is None:
            raise RuntimeError("the organization was not created")
        organization.close_delay_s = self.world.behavior.close_delay_s
        parents = [organization.root.id]
        parents += [organization.add_unit(organization.root.id, name).id for name in _UNITS]
        parents.append(organization.add_unit(parents[1], "Critical").id)
        for number in range(self._accounts - 1):
            email = f"account-{number:05d}@example.com"
            organization.join(f"account-{number:05d}", email, parents[number % len(parents)])
        self.deployment.make_stack_set(self.client, MANAGEMENT_ACCOUNT)
        if self._kind == "delegated":
            self.client("organizations", MANAGEMENT_ACCOUNT).register_delegated_administrator(
                AccountId=self.account, ServicePrincipal=TRUSTED
            )
        return conditions
