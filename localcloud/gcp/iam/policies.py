"""IAM policies: roles granted to identities on resources, with their propagation delay.

Resources are paths from general to specific: ``organizations/1``, ``projects/p``, ``projects/p/datasets/d``,
``buckets/b``, ``buckets/b/objects/o``, ``billingAccounts/ID``. A grant on a resource also applies to everything below
it, limited by its condition.
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

ISSUED = "local-google-token."  # begins access tokens; an identity follows, unless a token was issued for some time
# The permissions of each role, limited to those that the local cloud checks
# (https://cloud.google.com/iam/docs/understanding-roles). "*" stands for every permission.
ROLES = read_table(__file__, "roles.json", dict[str, frozenset[str]])


@dataclass(frozen=True)
class Binding:
    """One grant: a role's permissions, or a single permission, on a resource and everything below it.

    A grant with a `condition` is in the policy of `bound_on`, an ancestor of the `resource` to which the condition
    limits it; otherwise both are the same. Only the condition's expression is evaluated; `resource` just tells grants
    apart.
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
        self._held: dict[str, list[Binding]] | None = None  # the same by identity; None after a change
        self._denials: list[tuple[str, str, str]] = []
        self.tokens: dict[str, str] = {}
        self.expired: set[str] = set()
        # The principal sets that a federated identity belongs to, as policies name them.
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

        Raises ValueError for an unknown role or an unsupported condition.
        """
        if condition:
            parse(condition["expression"])
        held = frozenset(permissions) or ROLES.get(role, frozenset({role}))
        if role.startswith("roles/") and role not in ROLES:
            raise ValueError(f"{role} is not one of the known roles: {', '.join(sorted(ROLES))}")
        since = self._clock.now() + timedelta(seconds=0 if at_once else self.propagation_s)
        binding = Binding(identity, role, held, resource, since, bound_on or resource, condition)
        self._bindings.append(binding)
        if self._held is not None:
            self._held.setdefault(identity, []).append(binding)

    def revoke(self, identity: str, role: str, resource: str = "*") -> int:
        """Revoke grants immediately and return how many there were; `*` matches any part of the resource.

        A permission is also removed from the custom roles that contain it.
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
        self._bindings, self._held = kept, None
        return gone

    def strip(self, identity: str) -> None:
        """Revoke all grants of an identity immediately."""
        self._bindings = [binding for binding in self._bindings if binding.identity != identity]
        self._held = None

    def forget(self, resource: str) -> None:
        """Drop the policies of a deleted resource and of everything below it."""
        self._bindings = [one for one in self._bindings if not f"{one.bound_on}/".startswith(f"{resource}/")]
        self._held = None

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
        """Deny a permission (wildcards allowed) regardless of grants, as a deny policy does."""
        self._denials.append((permission, identity, resource))

    def allow(self, permission: str) -> None:
        """Remove the denials that `deny` added under the same permission pattern."""
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
            binding.since <= now
            and binding.bound_on in chain
            and _includes(binding.permissions, permission)
            and (binding.condition is None or holds(binding.condition["expression"], values))
            for member in members
            for binding in self._by_identity().get(member, ())
        )

    def bound_below(self, identity: str, prefix: str) -> bool:
        """Return whether an identity, or a set that it is in, has a grant on a resource whose path begins like this."""
        members = {identity, *self.members.get(identity, ())}
        held = self._by_identity()
        return any(one.bound_on.startswith(prefix) for member in members for one in held.get(member, ()))

    def _by_identity(self) -> dict[str, list[Binding]]:
        if self._held is None:
            self._held = {}
            for binding in self._bindings:
                self._held.setdefault(binding.identity, []).append(binding)
        return self._held

    def issue(self, token: str, identity: str, until: datetime) -> None:
        """Register a token that is valid until a given time."""
        self.tokens[token] = identity
        self._until[token] = until

    def identity_of(self, token: str) -> str | None:
        """Return a token's owner, or else the token itself; None if it is expired or malformed."""
        if token in self.expired or not token or " " in token:
            return None
        if token in self._until and self._until[token] <= self._clock.now():
            return None
        return self.tokens.get(token, token.removeprefix(ISSUED))


def member_of(identity: str) -> str:
    """Return an identity in the form that policies use."""
    if identity in ("allUsers", "allAuthenticatedUsers") or "://" in identity:
        return identity
    kind = "serviceAccount" if identity.endswith(".gserviceaccount.com") else "user"
    return f"{kind}:{identity}"


def resource_name(resource: str) -> str:
    """Return a resource's full name as conditions use it (https://cloud.google.com/iam/docs/conditions-resource-attributes)."""
    return f"projects/_/{resource}" if resource.startswith("buckets/") else resource


def _includes(permissions: frozenset[str], permission: str) -> bool:
    return permission in permissions or any("*" in item and fnmatchcase(permission, item) for item in permissions)
