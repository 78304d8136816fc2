"""The tenant: its subscriptions, its management groups, and the resource providers registered in each subscription."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from uuid import NAMESPACE_DNS, UUID, uuid5

from localcloud.azure.errors import ArmError, missing_registration, not_found, read_only, subscription_not_found
from localcloud.azure.services.agreements import AGREEMENTS, Agreement

WRITABLE_STATES = frozenset({"Enabled", "Warned", "PastDue"})
STATES = ("Enabled", "Warned", "PastDue", "Disabled", "Deleted")
# The providers that a deployment registers in the destination subscriptions.
DEPLOYED_PROVIDERS = (
    "Microsoft.CostManagement",
    "Microsoft.CostManagementExports",
    "Microsoft.Storage",
    "Microsoft.Insights",
    "Microsoft.PolicyInsights",
)
KNOWN_PROVIDERS = (
    *DEPLOYED_PROVIDERS,
    "Microsoft.App",
    "Microsoft.Authorization",
    "Microsoft.Billing",
    "Microsoft.Compute",
    "Microsoft.EventGrid",
    "Microsoft.ManagedIdentity",
    "Microsoft.Network",
    "Microsoft.OperationalInsights",
    "Microsoft.Web",
)
_ALWAYS = frozenset({"microsoft.authorization", "microsoft.billing", "microsoft.costmanagement", "microsoft.resources"})
_NAMES = uuid5(NAMESPACE_DNS, "local-azure.example.com")
_CANONICAL = {name.lower(): name for name in KNOWN_PROVIDERS}


def made_up_id(*words: object) -> str:
    """Return a GUID that is derived from `words`."""
    return str(uuid5(_NAMES, "/".join(str(word) for word in words)))


@dataclass(slots=True)
class Subscription:
    """A subscription. Times are in clock seconds.

    - `rights_from`: the time from which inherited role assignments take effect; infinite for never.
    - `cost_lag`: the additional seconds until they take effect in Cost Management.
    - `young_until`: there is no cost data before this time.
    - `demands`: the namespaces that must be registered in this subscription before it accepts an export.
    - `denied_by`: the policy assignment that denies exports.
    - `refusal`: the status, code and message of the error that its agreement returns for exports.
    - `closed_regions`: the regions where Azure allows no new resources of this subscription.
    - `tags`: the tags of the subscription itself.
    """

    id: str
    name: str
    agreement: Agreement
    group: str
    state: str = "Enabled"
    rights_from: float = 0.0
    cost_lag: float = 0.0
    young_until: float = 0.0
    demands: tuple[str, ...] = ()
    denied_by: str = ""
    refusal: tuple[int, str, str] | None = None
    closed_regions: set[str] = field(default_factory=set)
    tags: dict[str, str] = field(default_factory=dict)
    # Maps each lowercase namespace to the time when its registration completes; other namespaces are not registered.
    registered: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Group:
    """A management group; `parent` is empty for the tenant's root group."""

    id: str
    name: str
    parent: str = ""


class Directory:
    """The subscriptions and management groups of one tenant. The root group's ID is the tenant's."""

    def __init__(self, tenant: str) -> None:
        self.tenant = tenant
        self.groups: dict[str, Group] = {tenant: Group(tenant, "Tenant Root Group")}
        self.subscriptions: dict[str, Subscription] = {}

    def add_group(self, group: str, parent: str = "", name: str = "") -> Group:
        parent = parent or self.tenant
        if parent not in self.groups:
            raise ValueError(f"management group {parent!r} does not exist")
        self.groups[group] = Group(group, name or group, parent)
        return self.groups[group]

    def join(self, name: str, agreement: str = "ea", group: str = "", subscription: str = "") -> Subscription:
        """Add a subscription, by default with an ID derived from its name. Raises ValueError for invalid arguments."""
        if agreement not in AGREEMENTS:
            raise ValueError(f"agreement {agreement!r} is not one of {', '.join(AGREEMENTS)}")
        identifier = str(UUID(subscription)) if subscription else made_up_id("subscription", name)
        if identifier in self.subscriptions:
            raise ValueError(f"subscription {identifier} already exists")
        group = group or self.tenant
        if group not in self.groups:
            raise ValueError(f"management group {group!r} does not exist")
        self.subscriptions[identifier] = made = Subscription(identifier, name, AGREEMENTS[agreement], group)
        return made

    def get(self, subscription: str) -> Subscription:
        """Return a subscription. Raises ArmError 404 SubscriptionNotFound, also if it is deleted."""
        found = self.subscriptions.get(subscription.lower())
        if found is None or found.state == "Deleted":
            raise subscription_not_found(subscription)
        return found

    def chain(self, group: str) -> Iterator[str]:
        """Yield the group and all its ancestors."""
        while group:
            yield group
            group = self.groups[group].parent

    def descendants(self, group: str) -> Iterator[Group | Subscription]:
        """Yield the groups below a group, then the subscriptions in the group and in those."""
        below = {group}
        for candidate in self.groups.values():
            if candidate.id != group and group in self.chain(candidate.id):
                below.add(candidate.id)
                yield candidate
        yield from (one for one in self.subscriptions.values() if one.group in below and one.state != "Deleted")


class DirectoryCopy:
    """The subscriptions as Resource Graph shows them: each change appears after `delay_s` seconds."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self.delay_s = 0.0
        self._former: dict[str, tuple[float, Subscription | None]] = {}

    def before_change(self, subscription: str, now: float) -> None:
        """Preserve the shown state of a subscription for the delay; call before changing or removing it."""
        found = self._directory.subscriptions.get(subscription)
        if self.delay_s and found:
            self._former[subscription] = (now + self.delay_s, replace(found))

    def joined(self, subscription: str, now: float) -> None:
        """Hide a new subscription for the delay."""
        if self.delay_s:
            self._former[subscription] = (now + self.delay_s, None)

    def shown(self, now: float) -> Iterator[Subscription]:
        """Yield the subscriptions that are shown at `now`, in their shown state."""
        self._former = {one: kept for one, kept in self._former.items() if kept[0] > now}
        for identifier, found in self._directory.subscriptions.items():
            if identifier not in self._former:
                yield found
        yield from (found for _, found in self._former.values() if found is not None)


def check_writable(subscription: Subscription) -> None:
    """Check that a subscription accepts writes. Raises ArmError 409 ReadOnlyDisabledSubscription if disabled."""
    if subscription.state not in WRITABLE_STATES:
        raise read_only(subscription.id)


def register(subscription: Subscription, namespace: str, ready_at: float) -> str:
    """Start a registration unless there is one already; return the provider's name. Raises ArmError 404."""
    name = provider_name(namespace)
    subscription.registered.setdefault(name.lower(), ready_at)
    return name


def provider_name(namespace: str) -> str:
    """Return a provider's name in its canonical case. Raises ArmError 404 InvalidResourceNamespace."""
    name = _CANONICAL.get(namespace.lower())
    if name is None:
        raise not_found("InvalidResourceNamespace", f"The resource namespace '{namespace}' is invalid.")
    return name


def registration_state(subscription: Subscription, namespace: str, now: float) -> str:
    """Return `Registered`, `Registering` or `NotRegistered`."""
    if namespace.lower() in _ALWAYS and namespace not in subscription.demands:
        return "Registered"
    ready_at = subscription.registered.get(namespace.lower())
    if ready_at is None:
        return "NotRegistered"
    return "Registered" if ready_at <= now else "Registering"


def check_registered(subscription: Subscription, namespace: str, now: float) -> None:
    """Check a registration. Raises ArmError 409 MissingSubscriptionRegistration, or 503 while it is in progress."""
    state = registration_state(subscription, namespace, now)
    if state == "NotRegistered":
        raise missing_registration(namespace)
    if state == "Registering":
        raise ArmError(
            503,
            "ServiceUnavailable",
            f"The resource provider '{namespace}' is being registered in subscription '{subscription.id}'. Please "
            "retry later.",
        )
