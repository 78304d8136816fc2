"""What one invocation of the function does: a run, a look for changes, announcements, or the status."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from azure_function.changes import find_changes
from azure_function.clients import RATES, Clients, warm_clients
from azure_function.delivery_events import is_of_billing, read_event
from azure_function.errors import translate
from azure_function.fleet_store import FleetBlobs
from azure_function.provider import AzureCloud
from azure_function.resources.backfill import REACH
from azure_function.resources.delivery_source import delivery_documents
from azure_function.secrets import WebhookSecret
from azure_function.settings import MOST_BACKFILL, AzureSettings, read_settings
from azure_function.state_store import BlobStore
from azure_function.tenants import RULES
from azure_function.topics import announcer_of
from shared.deliveries.chain import StoredDeliveries
from shared.errors import AnotherRun, ReportedError, RequestError, TooSoon
from shared.hints import merge, read_all
from shared.notify.changes import Wording
from shared.notify.delivery import Secret
from shared.periods import month_before, month_of
from shared.publish import Publishing
from shared.reconcile import RunResult, reconcile
from shared.request import RunRequest, hinted
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink, with_tenant
from shared.state.session import READ_SECONDS, StateSession
from shared.state.store import StateStore
from shared.state.summary import remembered_status
from shared.tenants.messages import announce_round
from shared.tenants.registry import TENANT, environment_of
from shared.tenants.rounds import read_registry
from shared.tenants.rows import FleetDocuments, run_alone

FLEET_SECONDS = 24 * 3600.0
DELIVERY_SECONDS = 25.0  # Event Grid sends an event again unless it is answered within 30 s

WORDING = Wording("Azure", "subscription", "subscriptions")


def run_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None,
    seed: int | None = None,
) -> RunResult:
    """Reconcile once, within `seconds` (None: the setting RUN_SECONDS).

    A request for a tenant, or an environment with TENANT, which already is that tenant's, is a run of the tenant, whose
    row is stored at its end. Raises SettingsError and RequestError before any call, RegistryError, and AnotherRun if
    another run is in progress.
    """
    tenant = environment.get(TENANT, "") or request.tenant
    if not tenant:
        return reconcile_once(request, environment, sink, clock, seconds, seed)
    asked = msgspec.structs.replace(request, tenant=tenant)
    documents, _ = open_fleet(environment, sink, clock)
    entered = _entering(documents, tenant, environment)

    def work(one: RunRequest) -> RunResult:
        return reconcile_once(one, entered(), sink, clock, seconds, seed)

    return run_alone(asked, documents, clock, sink, work)


def _entering(documents: FleetBlobs, tenant: str, environment: Mapping[str, str]) -> Callable[[], Mapping[str, str]]:
    """Return what returns the environment of a tenant's run, or raises RegistryError if its entry is wrong.

    Raises RequestError if the tenant is unknown or paused: it gets no row.
    """
    if environment.get(TENANT):
        return lambda: environment
    registry = read_registry(documents, RULES)
    if tenant not in registry.refused:
        registry.tenant(tenant)
    return lambda: environment_of(registry.tenant(tenant), environment, RULES)


def reconcile_once(
    request: RunRequest,
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seconds: float | None,
    seed: int | None = None,
) -> RunResult:
    """Run `run_once` for the environment as it is; a tenant's has TENANT and the settings of its entry."""
    settings = msgspec.structs.replace(read_settings(environment), requested_months=_past_months(request.months, clock))
    clients = warm_clients(settings, environment)
    sink = with_tenant(sink, settings.tenant)
    run = RunContext(
        "azure", settings.engine, sink, clock, seconds or float(settings.run_seconds), RATES, translate, seed
    )
    secret = _secret(settings, clients, run)
    store = BlobStore(settings, clients, run)
    publishing = Publishing(WORDING, REACH, secret, announcer=announcer_of(settings, clients, run, secret))
    return reconcile(AzureCloud(settings, clients, run), store, request, run, publishing)


def look_once(environment: Mapping[str, str], sink: Sink, clock: Clock, seed: int | None = None) -> RunResult | None:
    """Look for changes, and reconcile the scopes that changed.

    Returns None without changes, or if a run may not begin now. Nothing is written unless a run begins, and the next
    look finds all changes that no run has looked at. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate, seed)
    try:
        document = StateSession(BlobStore(settings, clients, run), run, read_only=True).open()
        hints = merge(find_changes(settings, clients, run, document), clock.now())
        return run_once(hinted(hints), environment, sink, clock, None, seed) if hints else None
    except (AnotherRun, TooSoon):
        return None  # the run has logged it
    except ReportedError as error:
        run.log("warning", "events-unread", code=error.code, reason=error.message)
        return None


def announce_once(
    events: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    sink: Sink,
    clock: Clock,
    seed: int | None = None,
) -> int:
    """Announce the deliveries that Event Grid's events name; return how many could not be.

    Events of anything else are logged and dropped. Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, DELIVERY_SECONDS, RATES, translate, seed)
    announcer = announcer_of(settings, clients, run, _secret(settings, clients, run))
    if announcer is None:
        return 0
    scopes: list[str] = []
    if any(map(is_of_billing, events)):
        document = StateSession(BlobStore(settings, clients, run), run, read_only=True).open()
        scopes = [one for one in document.scopes if one.startswith("/")]
    named, _ = read_all(events, lambda event: read_event(event, settings, scopes), sink, "azure")
    return announcer.announce_named(named)


def announce(
    documents: FleetDocuments, report: Mapping[str, Any], environment: Mapping[str, str], run: RunContext
) -> None:
    """Tell operators which tenants changed in a round. Never raises CloudError."""
    settings = read_settings(environment)
    secret = _secret(settings, warm_clients(settings, environment), run)
    announce_round(documents, report, WORDING.title, settings.state_url, secret, run)


def _secret(settings: AzureSettings, clients: Clients, run: RunContext) -> Secret | None:
    """Return the webhook's secret, None where the settings name none."""
    local = bool(settings.arm_endpoint)
    return Secret(WebhookSecret(settings, clients, run).read, local) if settings.notify_url else None


def _past_months(months: tuple[str, ...], clock: Clock) -> tuple[str, ...]:
    """Return the months of a request. Raises RequestError if one is outside the range that Azure can deliver."""
    present = month_of(clock.now())
    oldest = month_before(present, MOST_BACKFILL)
    outside = [month for month in months if not oldest <= month < present]
    if outside:
        allowed = f"only months from {oldest} to {month_before(present)} can be delivered again"
        raise RequestError([f"'months': {', '.join(outside)}: {allowed}"])
    return months


def status_once(environment: Mapping[str, str], sink: Sink, clock: Clock) -> dict[str, Any]:
    """Return the status that earlier runs recorded (see `remembered_status`). Raises SettingsError, ReportedError."""
    store, run = open_state(environment, sink, clock)
    return remembered_status(StateSession(store, run, read_only=True).open())


def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
    """Return the store of the state and the reports, and the context of its calls, which end after READ_SECONDS.

    Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    clients = warm_clients(settings, environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return BlobStore(settings, clients, run), run


def open_fleet(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[FleetBlobs, RunContext]:
    """Return the registry, the rows and the reports of rounds, and the context of their calls.

    The context outlasts every run, because a run's row is stored at its end. Raises SettingsError before any call.
    """
    # They are the deployment's, also in the environment of a tenant's run.
    settings = msgspec.structs.replace(read_settings(environment), tenant="", entry=None)
    run = RunContext("azure", settings.engine, sink, clock, FLEET_SECONDS, RATES, translate)
    return FleetBlobs(settings, warm_clients(settings, environment), run), run


def open_deliveries(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StoredDeliveries, RunContext]:
    """Return the documents of deliveries, for reads within READ_SECONDS, and the context of their calls.

    Raises SettingsError before any call.
    """
    settings = read_settings(environment)
    run = RunContext("azure", settings.engine, sink, clock, READ_SECONDS, RATES, translate)
    return delivery_documents(settings, warm_clients(settings, environment), run), run
