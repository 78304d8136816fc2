"""IAM policies: roles granted to identities on resources, with their propagation delay.

Resources are paths from general to special: ``organizations/1``, ``projects/p``, ``projects/p/datasets/d``,
``buckets/b``, ``buckets/b/objects/o``, ``billingAccounts/ID``. A grant on one of them holds for everything below it, as
far as its condition says.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fnmatch import fnmatchcase
from typing import Any

from localcloud.common.data_file import read_table
from localcloud.gcp.iam.conditions import holds, parse
from shared.runtime.clock import Clock

# The permissions of each role as far as the local cloud asks for them
# (https://cloud.google.com/iam/docs/understanding-roles). "*" is every permission there is.
ROLES = read_table(__file__, "roles.json", dict[str, frozenset[str]])


@dataclass(frozen=True)
class Binding:
    """One grant: a role's permissions, or a single permission, on a resource and everything below it.

    A grant with a `condition` stands in the policy of `bound_on`, above the `resource` to which the condition limits
    it; else both are the same. What decides is the condition's expression, never the `resource`, which only says
    grants apart.
    """

    identity: str
    role: str
    permissions: frozenset[str]
    resource: str
    since: datetime
    bound_on: str
    condition: Mapping[str, str] | None = None


class Iam:
    """The grants of the local cloud. `propagation_s`: seconds until a change is in effect (Google: up to 7 minutes)."""

    def __init__(self, clock: Clock, propagation_s: float = 0) -> None:
        self._clock = clock
        # difference: GCP-6
        self.propagation_s = propagation_s
        self._bindings: list[Binding] = []
        self._denials: list[tuple[str, str, str]] = []
        self.tokens: dict[str, str] = {}
        self.expired: set[str] = set()
        # The sets that a federated identity belongs to, by the names under which policies grant to them.
        self.members: dict[str, frozenset[str]] = {}
        self._until: dict[str, datetime] = {}

    def grant(
        self,
        identity: str,
        role: str,
        resource: str,
        *,
        at_once: bool = False,
        permissions: Iterable[str] = (),
        bound_on: str = "",
        condition: Mapping[str, str] | None = None,
    ) -> None:
        """Grant a role of `ROLES`, a permission by its own name, or a custom role with its `permissions`.

        Raises ValueError for an unknown role, or a condition of a form that is not covered.
        """
        if condition:
            parse(condition["expression"])
        held = frozenset(permissions) or ROLES.get(role, frozenset({role}))
        if role.startswith("roles/") and role not in ROLES:
            raise ValueError(f"{role} is not one of the known roles: {', '.join(sorted(ROLES))}")
        since = self._clock.now() + timedelta(seconds=0 if at_once else self.propagation_s)
        self._bindings.append(Binding(identity, role, held, resource, since, bound_on or resource, condition))

    def revoke(self, identity: str, role: str, resource: str = "*") -> int:
        """Take grants back, at once; `*` matches any part of the resource. Returns how many there were.

        A permission is taken out of the custom roles that hold it, too.
        """
        kept: list[Binding] = []
        gone = 0
        for binding in self._bindings:
            concerned = binding.identity == identity and fnmatchcase(binding.resource, resource)
            if concerned and (binding.role == role or role in binding.permissions):
                gone += 1
                if binding.role != role:
                    kept.append(replace(binding, permissions=binding.permissions - {role}))
            else:
                kept.append(binding)
        self._bindings = kept
        return gone

    def strip(self, identity: str) -> None:
        """Take everything back that an identity was granted, at once."""
        self._bindings = [binding for binding in self._bindings if binding.identity != identity]

    def forget(self, resource: str) -> None:
        """Drop the policy of a resource that is deleted, and of what was below it."""
        self._bindings = [one for one in self._bindings if not f"{one.bound_on}/".startswith(f"{resource}/")]

    def policy(self, resource: str) -> dict[str, Any]:
        """Return a resource's own policy as ``getIamPolicy`` answers it, version 3; deny policies are not in it."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for binding in self._bindings:
            if binding.bound_on != resource or not binding.role.startswith(("roles/", "projects/", "organizations/")):
                continue
            key = (binding.role, (binding.condition or {}).get("expression", ""))
            entry = found.setdefault(key, {"role": binding.role, "members": []})
            if binding.condition:
                entry["condition"] = dict(binding.condition)
            if member_of(binding.identity) not in entry["members"]:
                entry["members"].append(member_of(binding.identity))
        policy: dict[str, Any] = {"version": 3, "etag": "BwYAAAAAAAA="}
        return policy | ({"bindings": [found[key] for key in sorted(found)]} if found else {})

    def deny(self, permission: str, *, identity: str = "*", resource: str = "*") -> None:
        """Refuse a permission (wildcards allowed) whatever was granted, as a deny policy does."""
        self._denials.append((permission, identity, resource))

    def allow(self, permission: str) -> None:
        """Take back what `deny` refused under the same name."""
        self._denials = [denial for denial in self._denials if denial[0] != permission]

    def allows(self, identity: str, permission: str, chain: tuple[str, ...]) -> bool:
        """Return whether `identity` has `permission` on the first resource of `chain`, the rest being its ancestors."""
        for pattern, who, resource in self._denials:
            if (
                fnmatchcase(permission, pattern)
                and fnmatchcase(identity, who)
                and any(fnmatchcase(one, resource) for one in chain)
            ):
                return False
        now = self._clock.now()
        members = {identity, *self.members.get(identity, ())}
        values = {"resource.name": resource_name(chain[0])}
        return any(
            binding.identity in members
            and binding.since <= now
            and binding.bound_on in chain
            and _includes(binding.permissions, permission)
            and (binding.condition is None or holds(binding.condition["expression"], values))
            for binding in self._bindings
        )

    def issue(self, token: str, identity: str, until: datetime) -> None:
        """Register a token that holds until a moment."""
        self.tokens[token] = identity
        self._until[token] = until

    def identity_of(self, token: str) -> str | None:
        """Return whose token it is: a registered one's owner, else the token itself. None: expired or malformed."""
        if token in self.expired or not token or " " in token:
            return None
        if token in self._until and self._until[token] <= self._clock.now():
            return None
        return self.tokens.get(token, token)


def member_of(identity: str) -> str:
    """Return an identity as policies name it."""
    if identity in ("allUsers", "allAuthenticatedUsers") or "://" in identity:
        return identity
    kind = "serviceAccount" if identity.endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{identity}"


def resource_name(resource: str) -> str:
    """Return a resource's full name as conditions see it (https://cloud.google.com/iam/docs/conditions-resource-attributes)."""
    return f"projects/_/{resource}" if resource.startswith("buckets/") else resource


def _includes(permissions: frozenset[str], permission: str) -> bool:
    return permission in permissions or any("*" in item and fnmatchcase(permission, item) for item in permissions)
