"""The containers that exports deliver to, and the properties of their storage accounts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from azure_function import manual_steps
from azure_function.clients import ARM_READ, STORAGE, Clients
from azure_function.errors import CONTAINER_MISSING, NETWORK_CLOSED
from azure_function.resources.deliveries import LISTING, ArchivedBlobs, Deliveries
from azure_function.resources.evidence import Evidence
from azure_function.resources.registration import unseen
from azure_function.settings import AzureSettings, Storage
from azure_function.targets import CONTAINER, ROOT
from shared.errors import CloudError, NotApplicable, NotFound, Permanent, Transient
from shared.model import Absent, Action, Health, Key, ManualStep, Observation, Present, Target, Unknown
from shared.parsing import mapping
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext

STORAGE_API = "2023-05-01"
IMMUTABLE, EXPIRES, ARCHIVED = "destination-immutable", "destination-expires", "destination-archived"
DEPLOY = "Apply the deployment again (infra/azure), which owns this resource and repairs it."
READABLE = timedelta(days=62)  # the files of this month and the last one must be readable
OPEN_STATES = frozenset({"Warned"})  # such a subscription allows no new resources, but existing ones work


class Container:
    """Observes and creates the containers that exports deliver to, and reads the properties of their accounts.

    `states` holds the state of each destination's subscription that is not active.
    """

    kinds = (CONTAINER,)

    def __init__(
        self, settings: AzureSettings, clients: Clients, run: RunContext, deliveries: Deliveries, evidence: Evidence
    ) -> None:
        self._settings = settings
        self._clients = clients
        self._run = run
        self._deliveries = deliveries
        self._evidence = evidence
        self.states: Mapping[str, str] = {}

    def account_of(self, target: Target) -> Storage:
        """Return the storage account of a container's target."""
        name = target.key.name.partition("/")[0]
        return next(
            one for one in self._settings.destination if one.name == name and one.subscription == target.key.scope
        )

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read each account once its container was listed."""
        self._evidence.list_containers()
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the account, and return the observation from the listing of its container."""
        found = self._observe(target)
        progress = self._evidence.progress.get(target.key)
        if isinstance(found, Present) and progress is not None:
            return msgspec.structs.replace(found, facts={LISTING: msgspec.to_builtins(progress)})
        return found

    def _observe(self, target: Target) -> Observation:
        account = self.account_of(target)
        listing = self._deliveries.failed.get(account.id)
        state = self.states.get(account.subscription, "")
        if state and state not in OPEN_STATES:
            manual_step = manual_steps.destination_disabled(account.name, account.subscription, state)
            return Present({"state": "there"}, Health.MANUAL, code="destination-disabled", manual_step=manual_step)
        try:
            properties = self._properties(account)
        except (NotFound, NotApplicable) as error:
            return _missing(account, error)
        except CloudError as error:
            # The exports' own errors show this as well, so an unreadable account is not an error.
            self._skip(error, f"the properties of storage account {account.name}", target.key)
            properties = {}
        closed = closed_to_exports(properties, identity=self._settings.identity)
        if closed and not (isinstance(listing, CloudError) and listing.code != NETWORK_CLOSED):
            manual_step = manual_steps.storage_closed(account.name, closed, function_too=listing is not None)
            return Present({"state": "there"}, Health.MANUAL, code="storage-refuses-exports", manual_step=manual_step)
        keys = properties.get("allowSharedKeyAccess", True)
        if keys is False and not self._settings.identity:
            return Present(
                {"state": "there"},
                Health.MANUAL,
                code="storage-keys-disabled",
                manual_step=manual_steps.keys_disabled(),
            )
        if listing is None:
            loss, code = self._loss(account, self._deliveries.archived.get(account.id), target.key)
            if loss is not None:
                return Present({"state": "there"}, Health.MANUAL, code=code, detail=loss.what, manual_step=loss)
            return Present({"state": "there"})
        if isinstance(listing, NotFound):
            if listing.code in CONTAINER_MISSING or properties:
                return Absent(("list",), f"storage account {account.name} has no container {self._settings.container}")
            return _missing(account, listing)
        return unseen(listing, f"container {target.key.name}")

    def _loss(self, account: Storage, archived: ArchivedBlobs | None, key: Key) -> tuple[ManualStep | None, str]:
        """Return the step and its code if the customer's rules prevent exports from being written or read."""
        name = self._settings.container
        container = f"{account.id}/blobServices/default/containers/{name}"
        held = _held(self._shown(container, f"immutability policies of container {account.name}/{name}", key))
        if held:
            return manual_steps.destination_immutable(f"container {account.name}/{name}", held), IMMUTABLE
        what = f"lifecycle rules of {account.name}"
        policy = self._shown(f"{account.id}/managementPolicies/default", what, key).get("policy")
        rules = taking_away(mapping(policy), f"{name}/{ROOT}/")
        if rules:
            return manual_steps.destination_expires(account.name, rules), EXPIRES
        if archived is not None:
            return manual_steps.destination_archived(account.name, name, archived.count, archived.example), ARCHIVED
        return None, ""

    def _shown(self, path: str, what: str, key: Key) -> Mapping[str, Any]:
        """Return the properties of a resource of the account; {} if it does not exist or cannot be read."""
        try:
            answer = self._run.calls(ARM_READ, self._clients.arm_get, path, STORAGE_API)
        except NotFound:
            return {}
        except CloudError as error:
            self._skip(error, what, key)
            return {}
        return mapping(answer.get("properties"))

    def _skip(self, error: CloudError, what: str, key: Key) -> None:
        self._run.log(
            "warning", "detail-unread", key, code=error.code, reason=f"could not read {what}: {error.message}"
        )

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create the containers, one by one."""
        return one_by_one(self._create, actions)

    def _create(self, action: Action) -> Applied:
        account = self.account_of(action.target)
        client = self._clients.container(account.name, self._settings.container)
        try:
            self._run.calls(STORAGE, client.create_container)
        except (Permanent, Transient) as error:
            # Another run created it first.
            if error.code != "ContainerAlreadyExists":
                raise
        return Applied()

    def _properties(self, account: Storage) -> Mapping[str, Any]:
        answer = self._run.calls(ARM_READ, self._clients.arm_get, account.id, STORAGE_API)
        return mapping(answer.get("properties"))


def closed_to_exports(account: Mapping[str, Any], *, identity: bool) -> str:
    """Return why a storage account with these properties blocks exports; "" if it does not.

    Source: "Tutorial: Improved exports experience", prerequisites for storage accounts.
    """
    scope = account.get("allowedCopyScope")
    if scope in ("AAD", "PrivateLink"):
        return f"its permitted scope for copy operations is {scope}, not 'From any storage account'"
    rules = mapping(account.get("networkAcls"))
    if rules.get("defaultAction") != "Deny" and account.get("publicNetworkAccess") != "Disabled":
        return ""
    if "AzureServices" not in str(rules.get("bypass") or "AzureServices"):
        return "its network rules block trusted Microsoft services"
    return "" if identity else "its network is closed, and exports without a managed identity have no access"


def _held(container: Mapping[str, Any]) -> str:
    """Return what prevents a container's blobs from being replaced; "" if nothing does."""
    if container.get("hasLegalHold") is True:
        return "a legal hold"
    if container.get("hasImmutabilityPolicy") is True:
        return "an immutability policy"
    versions = container.get("immutableStorageWithVersioning")
    return "" if not isinstance(versions, Mapping) or versions.get("enabled") is not True else "immutable versions"


def taking_away(policy: Mapping[str, Any], place: str) -> dict[str, str]:
    """Return the rules of a management policy that delete or archive blobs below `place` too soon, and when.

    A rule applies if it is enabled, its prefixes overlap `place`, and it requires no tags. Source: "Azure Blob Storage
    lifecycle management overview".
    """
    found: dict[str, str] = {}
    rules = policy.get("rules")
    for rule in rules if isinstance(rules, list) else ():
        definition = rule.get("definition") if isinstance(rule, Mapping) else None
        if not isinstance(definition, Mapping) or rule.get("enabled") is False or not _reaches(definition, place):
            continue
        actions = definition.get("actions")
        base = actions.get("baseBlob") if isinstance(actions, Mapping) else None
        for action, does in (("delete", "deletes"), ("tierToArchive", "archives")):
            conditions = base.get(action) if isinstance(base, Mapping) else None
            days = [one for one in conditions.values() if _is_days(one)] if isinstance(conditions, Mapping) else []
            if days and min(days) < READABLE.days:
                found[str(rule.get("name") or "without a name")] = f"{does} blobs after {min(days):g} days"
    return found


def _reaches(definition: Mapping[str, Any], place: str) -> bool:
    filters = definition.get("filters")
    filters = filters if isinstance(filters, Mapping) else {}
    prefixes, types = filters.get("prefixMatch") or [""], filters.get("blobTypes") or ["blockBlob"]
    reaching = [one for one in prefixes if isinstance(one, str) and (place.startswith(one) or one.startswith(place))]
    return bool(reaching) and "blockBlob" in types and not filters.get("blobIndexMatch")


def _is_days(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _missing(account: Storage, error: CloudError) -> Unknown:
    manual_step = ManualStep(
        f"the storage account {account.name} of DESTINATION does not exist: {error.message}",
        (DEPLOY, "Or correct DESTINATION to the resource id of an account that exists."),
        manual_steps.EXPORTS_DOC,
    )
    return Unknown("destination-missing", manual_step.what, manual_step)
