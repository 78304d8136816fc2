"""Who may do what: roles granted to identities on resources, in effect only once they have propagated.

Resources are paths from general to special: ``organizations/1``, ``projects/p``, ``projects/p/datasets/d``,
``buckets/b``, ``billingAccounts/ID``. A grant on one of them holds for everything below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from fnmatch import fnmatchcase

from shared.clock import Clock

_BIGQUERY_READ = frozenset(
    f"bigquery.{name}"
    for name in [
        "datasets.get",
        "datasets.getIamPolicy",
        "tables.get",
        "tables.list",
        "tables.getData",
        "tables.export",
        "tables.getIamPolicy",
    ]
)
_OBJECTS = frozenset(f"storage.objects.{verb}" for verb in ["create", "delete", "get", "list", "update"])
_BUCKETS = frozenset(
    f"storage.buckets.{verb}" for verb in ["create", "delete", "get", "list", "update", "getIamPolicy"]
)

# The permissions of each role as far as the local cloud asks for them
# (https://cloud.google.com/iam/docs/understanding-roles). "*" is every permission there is.
ROLES: dict[str, frozenset[str]] = {
    "roles/owner": frozenset({"*"}),
    "roles/bigquery.dataViewer": _BIGQUERY_READ,
    "roles/bigquery.dataEditor": _BIGQUERY_READ
    | {"bigquery.datasets.create", "bigquery.tables.create", "bigquery.tables.update", "bigquery.tables.delete"},
    "roles/bigquery.dataOwner": _BIGQUERY_READ | {"bigquery.datasets.*", "bigquery.tables.*"},
    "roles/bigquery.metadataViewer": frozenset(
        {"bigquery.datasets.get", "bigquery.datasets.getIamPolicy", "bigquery.tables.get", "bigquery.tables.list"}
    ),
    "roles/bigquery.jobUser": frozenset({"bigquery.jobs.create"}),
    "roles/bigquery.admin": frozenset({"bigquery.*"}),
    "roles/storage.objectViewer": frozenset({"storage.objects.get", "storage.objects.list"}),
    "roles/storage.objectCreator": frozenset({"storage.objects.create"}),
    "roles/storage.objectAdmin": _OBJECTS,
    "roles/storage.admin": _OBJECTS | _BUCKETS,
    "roles/billing.viewer": frozenset(
        {"billing.accounts.get", "billing.accounts.list", "billing.accounts.getIamPolicy"}
    ),
    "roles/browser": frozenset({"resourcemanager.projects.get", "resourcemanager.projects.list"}),
    "roles/serviceusage.serviceUsageViewer": frozenset({"serviceusage.services.get", "serviceusage.services.list"}),
    "roles/serviceusage.serviceUsageConsumer": frozenset(
        {"serviceusage.services.get", "serviceusage.services.list", "serviceusage.services.use"}
    ),
}


@dataclass(frozen=True)
class Binding:
    """One grant: a role's permissions, or a single permission, on a resource and everything below it."""

    identity: str
    role: str
    permissions: frozenset[str]
    resource: str
    since: datetime


class Iam:
    """The grants of the local cloud. `propagation_s`: seconds until a change is in effect (Google: up to 7 minutes)."""

    def __init__(self, clock: Clock, propagation_s: float = 0) -> None:
        self._clock = clock
        self.propagation_s = propagation_s
        self._bindings: list[Binding] = []
        self._denials: list[tuple[str, str, str]] = []
        self.tokens: dict[str, str] = {}
        self.expired: set[str] = set()

    def grant(self, identity: str, role: str, resource: str, *, at_once: bool = False) -> None:
        """Grant a role of `ROLES`, or a permission by its own name, on a resource."""
        permissions = ROLES.get(role, frozenset({role}))
        if role.startswith("roles/") and role not in ROLES:
            raise ValueError(f"{role} is none of the roles known here: {', '.join(sorted(ROLES))}")
        since = self._clock.now() + timedelta(seconds=0 if at_once else self.propagation_s)
        self._bindings.append(Binding(identity, role, permissions, resource, since))

    def revoke(self, identity: str, role: str, resource: str = "*") -> int:
        """Take grants back, at once; `*` matches any part of the resource. Returns how many there were."""
        kept = [
            binding
            for binding in self._bindings
            if (binding.identity, binding.role) != (identity, role) or not fnmatchcase(binding.resource, resource)
        ]
        gone = len(self._bindings) - len(kept)
        self._bindings = kept
        return gone

    def deny(self, permission: str, *, identity: str = "*", resource: str = "*") -> None:
        """Refuse a permission (wildcards allowed) whatever was granted, as a deny policy does."""
        self._denials.append((permission, identity, resource))

    def allow(self, permission: str) -> None:
        """Take back what `deny` refused under the same name."""
        self._denials = [denial for denial in self._denials if denial[0] != permission]

    def allows(self, identity: str, permission: str, chain: tuple[str, ...]) -> bool:
        """Return whether `identity` has `permission` on the first resource of `chain`, the rest being its ancestors."""
        for pattern, who, resource in self._denials:
            if fnmatchcase(permission, pattern) and fnmatchcase(identity, who) and fnmatchcase(chain[0], resource):
                return False
        now = self._clock.now()
        return any(
            binding.identity == identity
            and binding.since <= now
            and binding.resource in chain
            and _holds(binding.permissions, permission)
            for binding in self._bindings
        )

    def identity_of(self, token: str) -> str | None:
        """Return whose token it is: a registered one's owner, else the token itself. None: expired or malformed."""
        if token in self.expired or not token or " " in token:
            return None
        return self.tokens.get(token, token)


def _holds(permissions: frozenset[str], permission: str) -> bool:
    return permission in permissions or any("*" in item and fnmatchcase(permission, item) for item in permissions)
