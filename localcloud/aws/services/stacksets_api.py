"""The CloudFormation operations that change StackSets and their instances."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any

from localcloud.aws.errors import AwsError, invalid
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.services.organization import Organization
from localcloud.aws.services.stackset_operations import Operations
from localcloud.aws.services.stackset_targets import resolve
from localcloud.aws.services.stacksets import SERVICE, Operation, Place, StackSet
from localcloud.aws.services.stacksets_read_api import StackSetReads

ACCESS = "You must enable organizations access to operate a service managed stack set"
NOT_ADMIN = (
    "You must be the management account or delegated admin account of an organization "
    "before operating a SERVICE_MANAGED stack set"
)
NOT_ALL_FEATURES = (
    "The organization must have all features enabled for trusted access with AWS CloudFormation StackSets"
)
TRUSTED = "member.org.stacksets.cloudformation.amazonaws.com"


class StackSetsApi:
    """Maps operation names to handlers. An organization's StackSets belong to its management account."""

    def __init__(self, operations: Operations, page_size: int = 100) -> None:
        self._engine = operations
        self._reads = StackSetReads(operations, self._find, self._home, page_size)
        self.operations: dict[str, Handler] = {
            "ActivateOrganizationsAccess": self._activate,
            "DeactivateOrganizationsAccess": self._deactivate,
            "DescribeOrganizationsAccess": self._describe_access,
            "CreateStackSet": self._create,
            "UpdateStackSet": self._update,
            "DeleteStackSet": self._delete,
            "CreateStackInstances": self._create_instances,
            "UpdateStackInstances": self._update_instances,
            "DeleteStackInstances": self._delete_instances,
            "DetectStackSetDrift": self._detect_drift,
            "StopStackSetOperation": self._stop,
            **self._reads.operations,
        }

    def _home(self, caller: Caller, params: dict[str, Any]) -> str:
        """Return the account whose StackSets the caller addresses. Raises AwsError if it may not act for it."""
        if params.get("CallAs", "SELF") == "SELF":
            return caller.account
        organization = self._engine.organization_of(caller.account)
        delegated = organization.delegated.get(caller.account, {}) if organization else {}
        if organization is None or TRUSTED not in delegated:
            raise invalid(SERVICE, NOT_ADMIN)
        return organization.management

    def _find(self, caller: Caller, params: dict[str, Any]) -> StackSet:
        self._engine.settle()
        home, name = self._home(caller, params), params["StackSetName"].partition(":")[0]
        stack_set = self._engine.stack_sets.get((home, caller.region, name))
        if stack_set is None or (":" in params["StackSetName"] and stack_set.id != params["StackSetName"]):
            raise AwsError("StackSetNotFoundException", f"StackSet {params['StackSetName']} not found", 404)
        return stack_set

    def _require_access(self, home: str) -> Organization:
        organization = self._engine.organization_of(home)
        if organization is None or organization.management != home:
            raise invalid(SERVICE, NOT_ADMIN)
        if organization.stacksets_access != "ENABLED":
            raise invalid(SERVICE, ACCESS)
        return organization

    def _activate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        organization = self._manager(caller)
        if organization.feature_set != "ALL":
            raise AwsError("InvalidOperationException", NOT_ALL_FEATURES, 400)
        if organization.stacksets_access == "DISABLED_PERMANENTLY":
            raise AwsError("InvalidOperationException", "Organizations access is permanently disabled", 400)
        self._engine.allow_access(organization, TRUSTED)
        return {}

    def _deactivate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._engine.withdraw_access(self._manager(caller), TRUSTED)
        return {}

    def _manager(self, caller: Caller) -> Organization:
        organization = self._engine.organization_of(caller.account)
        if organization is None or organization.management != caller.account:
            message = "Your account must be the management account of an organization to call this operation"
            raise AwsError("InvalidOperationException", message, 400)
        return organization

    def _describe_access(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        organization = self._engine.organization_of(caller.account)
        if organization is None or self._home(caller, params) != organization.management:
            raise AwsError("InvalidOperationException", NOT_ADMIN, 400)
        return {"Status": organization.stacksets_access}

    def _create(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        home = self._home(caller, params)
        permissions = params.get("PermissionModel", "SELF_MANAGED")
        # A SELF_MANAGED StackSet does not depend on the organization.
        managed = permissions == "SERVICE_MANAGED"
        organization = self._require_access(home) if managed else self._engine.organization_of(home)
        if organization is None:
            raise invalid(SERVICE, "the local cloud supports StackSets only in an organization")
        key = (home, caller.region, params["StackSetName"])
        if key in self._engine.stack_sets:
            raise AwsError("NameAlreadyExistsException", f"StackSet {params['StackSetName']} already exists", 409)
        if "TemplateBody" not in params:
            raise invalid(SERVICE, "the local cloud supports only TemplateBody for templates")
        automatic = _automatic(params, enabled=False)
        made = StackSet(
            id=f"{params['StackSetName']}:{uuid.uuid4()}",
            name=params["StackSetName"],
            home=(home, caller.region),
            partition=organization.partition.name,
            body=params["TemplateBody"],
            given={one["ParameterKey"]: one.get("ParameterValue", "") for one in params.get("Parameters", [])},
            description=params.get("Description", ""),
            tags={tag["Key"]: tag["Value"] for tag in params.get("Tags", [])},
            capabilities=list(params.get("Capabilities", [])),
            auto=bool(automatic.get("Enabled", False)),
            retain=bool(automatic.get("RetainStacksOnAccountRemoval", False)),
            managed_execution=bool(params.get("ManagedExecution", {}).get("Active", False)),
            permissions=permissions,
        )
        made.load()
        self._engine.stack_sets[key] = made
        return {"StackSetId": made.id}

    def _update(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        organization = self._require_access(stack_set.home[0])
        self._engine.check_idle(stack_set)
        automatic = _automatic(params, enabled=stack_set.auto)
        if params.get("Accounts"):
            resolve(organization, params)
        before = (stack_set.body, stack_set.given, stack_set.tags, stack_set.capabilities)
        if not params.get("UsePreviousTemplate"):
            if "TemplateBody" not in params:
                raise invalid(SERVICE, "Either TemplateBody or UsePreviousTemplate must be given")
            stack_set.body = params["TemplateBody"]
        if "Parameters" in params:
            stack_set.given = {
                one["ParameterKey"]: stack_set.given.get(one["ParameterKey"], "")
                if one.get("UsePreviousValue")
                else one.get("ParameterValue", "")
                for one in params["Parameters"]
            }
        if "Tags" in params:
            stack_set.tags = {tag["Key"]: tag["Value"] for tag in params["Tags"]}
        stack_set.capabilities = list(params.get("Capabilities", stack_set.capabilities))
        try:
            stack_set.load()
        except AwsError:
            stack_set.body, stack_set.given, stack_set.tags, stack_set.capabilities = before
            stack_set.load()
            raise
        stack_set.description = params.get("Description", stack_set.description)
        stack_set.auto = bool(automatic.get("Enabled", stack_set.auto))
        stack_set.retain = bool(automatic.get("RetainStacksOnAccountRemoval", stack_set.retain))
        if "ManagedExecution" in params:
            stack_set.managed_execution = bool(params["ManagedExecution"].get("Active", False))
        changed = before != (stack_set.body, stack_set.given, stack_set.tags, stack_set.capabilities)
        places: dict[Place, str] = {}
        if params.get("DeploymentTargets"):
            chosen, _ = resolve(organization, params, accounts_alone=True)
            places = self._existing(stack_set, chosen, params.get("Regions") or stack_set.regions)
        elif changed:
            places = {place: one.unit for place, one in stack_set.instances.items()}
        if changed:
            stack_set.mark_outdated()
        answer = self._submit(stack_set, "UPDATE", places, params)
        if changed:
            # A selective update leaves the other instances PENDING without an operation.
            for place, instance in stack_set.instances.items():
                if place not in places and instance.status != "INOPERABLE":
                    instance.detailed = "PENDING"
        return answer

    def _delete(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        try:
            stack_set = self._find(caller, params)
        except AwsError as error:
            if error.code != "StackSetNotFoundException":
                raise
            return {}
        if stack_set.active():
            raise AwsError(
                "OperationInProgressException", f"StackSet {stack_set.name} has an operation in progress", 409
            )
        if stack_set.instances:
            raise AwsError("StackSetNotEmptyException", f"StackSet {stack_set.name} is not empty", 409)
        del self._engine.stack_sets[(*stack_set.home, stack_set.name)]
        return {}

    def _create_instances(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        organization = self._require_access(stack_set.home[0])
        self._check_accounts(params)
        chosen, _ = resolve(organization, params)
        regions = _regions(params)
        places = {(account, region): unit for region in regions for account, unit in chosen.items()}
        answer = self._submit(stack_set, "CREATE", places, params)
        for unit in params["DeploymentTargets"]["OrganizationalUnitIds"]:
            if unit not in stack_set.units:
                stack_set.units.append(unit)
        stack_set.regions += [region for region in regions if region not in stack_set.regions]
        return answer

    def _update_instances(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        organization = self._require_access(stack_set.home[0])
        self._check_accounts(params)
        chosen, explicit = resolve(organization, params, accounts_alone=True)
        regions = _regions(params)
        for account in sorted(explicit):
            for region in regions:
                stack_set.instance((account, region))
        return self._submit(stack_set, "UPDATE", self._existing(stack_set, chosen, regions), params)

    def _delete_instances(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        organization = self._require_access(stack_set.home[0])
        chosen, _ = resolve(organization, params)
        places = self._existing(stack_set, chosen, _regions(params))
        return self._submit(stack_set, "DELETE", places, params, bool(params["RetainStacks"]))

    def _detect_drift(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack_set = self._find(caller, params)
        places = {place: one.unit for place, one in stack_set.instances.items()}
        return self._submit(stack_set, "DETECT_DRIFT", places, params)

    def _stop(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self._engine.stop(self._find(caller, params), params["OperationId"])
        return {}

    def _submit(
        self, stack_set: StackSet, action: str, places: dict[Place, str], params: dict[str, Any], retain: bool = False
    ) -> dict[str, Any]:
        if stack_set.permissions != "SERVICE_MANAGED":
            raise invalid(SERVICE, "the local cloud runs only operations of SERVICE_MANAGED StackSets")
        preferences = params.get("OperationPreferences", {})
        for kind in ("FailureTolerance", "MaxConcurrent"):
            if f"{kind}Count" in preferences and f"{kind}Percentage" in preferences:
                raise invalid(SERVICE, f"Only one of {kind}Count and {kind}Percentage can be specified")
        operation: Operation = self._engine.submit(
            stack_set,
            action,
            places,
            preferences,
            params.get("DeploymentTargets", {}),
            params.get("OperationId"),
            retain,
        )
        return {"OperationId": operation.id}

    def _check_accounts(self, params: dict[str, Any]) -> None:
        if self._engine.rejected & set(params.get("DeploymentTargets", {}).get("Accounts", [])):
            raise invalid(SERVICE, "Account(s) are not valid deployment targets")

    def _existing(self, stack_set: StackSet, chosen: dict[str, str], regions: list[str]) -> dict[Place, str]:
        return {
            (account, region): stack_set.instances[(account, region)].unit
            for region in regions
            for account in chosen
            if (account, region) in stack_set.instances
        }


def _automatic(params: Mapping[str, Any], *, enabled: bool) -> Mapping[str, Any]:
    """Return AutoDeployment of a request to a StackSet whose automatic deployment is `enabled` until now.

    Raises AwsError for RetainStacksOnAccountRemoval where it is not enabled: "Specify only if Enabled is set to True"
    (AutoDeployment, CloudFormation API Reference; hashicorp/terraform-provider-aws#19015).
    """
    found: Mapping[str, Any] = params.get("AutoDeployment", {})
    if "RetainStacksOnAccountRemoval" in found and not found.get("Enabled", enabled):
        raise invalid(SERVICE, "RetainStacksOnAccountRemoval can be specified only if automatic deployment is enabled")
    return found


def _regions(params: dict[str, Any]) -> list[str]:
    regions = list(dict.fromkeys(params.get("Regions", [])))
    if not regions:
        raise invalid(SERVICE, "At least one region must be specified")
    return regions
