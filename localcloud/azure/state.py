"""The state of one local Azure, guarded by one lock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from localcloud.azure.calls import CallLog
from localcloud.azure.faults import Faults
from localcloud.azure.iam.entra import Entra
from localcloud.azure.iam.rights import Rights
from localcloud.azure.platform.sites import Site
from localcloud.azure.quotas import Quotas
from localcloud.azure.services.activity_log import ActivityLog
from localcloud.azure.services.billing import BillingAccount
from localcloud.azure.services.blobs import Write
from localcloud.azure.services.directory import Directory, DirectoryCopy
from localcloud.azure.services.exports import Exports
from localcloud.azure.services.manifest_events import ManifestEvents, Published
from localcloud.azure.services.storage import StorageAccount
from shared.runtime.clock import Clock

BlindUpdates = Literal["refused", "accepted"]
AnswerShape = Literal["documented", "recorded"]


@dataclass
class Behavior:
    """Settings for behavior that varies in the real Azure. Times are in seconds on the local clock.

    - `blind_updates`: whether a PUT over an existing export without its eTag is rejected (400) or accepted.
    - `page_size`, `empty_pages_every`: the page size of listings, and how often a page is empty (0: never).
    - `rights_delay_s`, `cost_lag_s`: the delay until a role assignment takes effect in Resource Manager, and the
      additional delay in Cost Management.
    - `registration_delay_s`: the delay until a provider is registered.
    - `run_delay_s`: the delay from an execution to its data.
    - `young_s`: how long a new subscription has no cost data.
    - `stale_etag`: the status of the response to an outdated eTag.
    - `container_deletion_s`: how long the name of a deleted container stays in use, for callers with tokens.
    - `focus_versions`: the versions that FocusCost exports can request.
    - `answers`: whether Cost Management's responses have the shape that the current SDK documents, or the one recorded
      with API 2021-10-01.
    """

    blind_updates: BlindUpdates = "refused"
    page_size: int = 1000
    empty_pages_every: int = 0
    rights_delay_s: float = 0
    cost_lag_s: float = 0
    registration_delay_s: float = 0
    run_delay_s: float = 0
    young_s: float = 0
    stale_etag: Literal[409, 412] = 412
    container_deletion_s: float = 0
    focus_versions: tuple[str, ...] = ("1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview", "1.2")
    answers: AnswerShape = "documented"


class BlobStore(Protocol):
    """The blob operations that deliveries and the storage API use."""

    def put(self, writes: list[Write]) -> None: ...

    def delete(self, names: list[tuple[str, str, str]]) -> None: ...

    def set_tier(self, names: list[tuple[str, str, str]], tier: str) -> None: ...

    def make_container(self, account: str, container: str) -> bool: ...

    def has_container(self, account: str, container: str) -> bool: ...

    def delete_container(self, account: str, container: str) -> None: ...


@dataclass
class World:
    """All state of one tenant, except `entra`, which all tenants of a local Azure share.

    `lock` guards it, except `calls`, `faults` and `clock`, which are thread-safe. The provider's guards `entra`.

    `resources` are the resources without behavior; their keys, like those of `sites`, are lowercase IDs. `taken_names`
    are names of accounts and apps that other customers use. `service_principals` maps application IDs to object IDs,
    and `directory_roles` maps principals to the template IDs of their roles. `billing_readers` are the principals with
    a billing role; all others get an empty list of billing accounts. `locks` maps lowercase scopes to the level of
    their resource lock. `before_blobs` is called before blobs are written, to set Azurite's clock to the local time.
    """

    clock: Clock
    tenant: str
    behavior: Behavior
    blobs: BlobStore
    before_blobs: Callable[[], None] = lambda: None
    lock: threading.RLock = field(default_factory=threading.RLock)
    calls: CallLog = field(default_factory=CallLog)
    quotas: Quotas = field(default_factory=Quotas)
    accounts: dict[str, StorageAccount] = field(default_factory=dict)
    billing: dict[str, BillingAccount] = field(default_factory=dict)
    billing_readers: set[str] = field(default_factory=set)
    exports: Exports = field(default_factory=Exports)
    resource_groups: dict[tuple[str, str], str] = field(default_factory=dict)
    group_tags: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)
    # The operations of each deployment of a template, by its lowercase ID.
    operations: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    # The keys of the accounts that the emulator has, whether they exist in Resource Manager or not.
    emulated: Mapping[str, str] = field(default_factory=dict)
    sites: dict[str, Site] = field(default_factory=dict)
    # Runs the code of a site that a deployment creates; it sets what the site's own fields need.
    host_site: Callable[[Site], None] = lambda _site: None
    taken_names: set[str] = field(default_factory=set)
    service_principals: dict[str, str] = field(default_factory=dict)
    directory_roles: dict[str, set[str]] = field(default_factory=dict)
    # The resource ID of the only vault, and the values of its secrets by name.
    vault: str = (
        "/subscriptions/00000000-0000-0000-0000-00000000aaaa/resourceGroups/vaults/providers/"
        "Microsoft.KeyVault/vaults/tailpipe-vault"
    )
    secrets: dict[str, str] = field(default_factory=dict)
    # The resource ID of the only workspace that can receive all activity logs.
    activity_workspace: str = ""
    # The resource ID of the only Event Grid topic, and the events that it has accepted.
    topic: str = ""
    # Tokens that stand for those of every audience, because settings hold only one.
    static_tokens: set[str] = field(default_factory=set)
    published: list[Published] = field(default_factory=list)
    locks: dict[str, str] = field(default_factory=dict)
    pages_served: int = 0
    entra: Entra = field(default_factory=Entra)

    def __post_init__(self) -> None:
        self.faults = Faults(self.clock)
        self.activity = ActivityLog(self.faults.events)
        self.manifest_events = ManifestEvents(self.faults.events)
        self.directory = Directory(self.tenant)
        self.directory_copy = DirectoryCopy(self.directory)
        self.rights = Rights(self.directory, self.clock.monotonic)

    def assigned_identities(self) -> dict[str, str]:
        """Return the object ids of the apps' user-assigned identities by their client ids."""
        with self.lock:
            found = [ids for site in self.sites.values() for ids in site.assigned.values()]
        return {one["clientId"]: one["principalId"] for one in found}

    def note(self, operation: str, resource: str, caller: str = "") -> None:
        """Write a change to the activity log; without a `caller`, it is attributed to an administrator."""
        self.activity.add(self.clock.now(), operation, resource, caller or "admin@example.com")

    def reads_billing(self, principal: str) -> bool:
        """Return whether a principal has a billing role; the local operator always does."""
        return principal in self.billing_readers or principal.startswith("app-")
