"""Two local Azures: one that Terraform applied the module to, one that the launch template was deployed to.

What each leaves is read as one flat document (`left_behind`), and compared leaf by leaf.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cli.deployment.azure.stack import with_template
from cli.deployment.azure.stack_input import camel
from cli.local.azure import _start
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import TAILPIPE_APP
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.services.directory import made_up_id
from tests.cli.support.azure import template_variables
from tests.infra.planning import Workspace, stand_in_providers
from tests.infra.standin.arm import Arm
from tests.infra.standin.azurerm import AzureRm
from tests.infra.standin.roots import Applied, apply_signed_in, sign_in
from tests.infra.template_azure import read

Json = dict[str, Any]
TAILPIPE = made_up_id("Tailpipe's enterprise application")
WRITER = "00000000-0000-0000-0000-0000000000aa"


def _outside(group: str, what: str) -> str:
    return f"/subscriptions/{{first}}/resourceGroups/{group}/providers/{what}"


# Sets of the module's variables; {tenant}, {first} and {second} are ids of the tenant and of two subscriptions.
SETS: dict[str, Json] = {
    "defaults": {"management_group_id": "{tenant}"},
    "rich": {
        "management_group_id": "production",
        "policy": "deploy",
        "location": "northeurope",
        "resource_group_name": "platform-tailpipe",
        "tags": {"owner": "platform"},
        "include_subscriptions": ["{first}", "{second}"],
        "exclude_subscriptions": ["00000000-0000-0000-0000-00000000abcd"],
        "monitoring_access": "subscription",
        "exports": ["actual", "focus"],
        "export_format": "parquet",
        "export_identity": True,
        "destination_count": 2,
        "cool_after_days": 60,
        "replication": "GRS",
        "schedule": "0 5 */2 * * *",
        "schedule_minutes": 120,
        "call_budget": 2000,
        "memory_mb": 4096,
        "notify_secret": _outside("secrets", "Microsoft.KeyVault/vaults/hooks/secrets/tailpipe"),
        "notify_digest": True,
        "publish_page": True,
        "activity_log_workspace_id": _outside("logs", "Microsoft.OperationalInsights/workspaces/central-activity"),
        "delivery_events": True,
        "fleet": True,
        "registry_writers": [WRITER],
        "notification_emails": ["platform@example.com"],
        "log_retention_days": 180,
    },
    "closed": {
        "management_group_id": "{tenant}",
        "policy": "audit",
        "export_identity": True,
        "storage_closed": True,
        "storage_ip_rules": ["203.0.113.0/24"],
        "function_subnet_id": _outside("network", "Microsoft.Network/virtualNetworks/hub/subnets/function"),
        "private_endpoint_subnet_id": _outside("network", "Microsoft.Network/virtualNetworks/hub/subnets/endpoints"),
        "private_dns_zone_id": _outside(
            "network", "Microsoft.Network/privateDnsZones/privatelink.blob.core.windows.net"
        ),
        "dashboard": False,
        "events": False,
    },
    "listed": {"include_subscriptions": ["{first}", "{second}"], "archive_after_days": None},
}


@contextmanager
def opened() -> Iterator[LocalAzure]:
    """Open a tenant with what the sets refer to, and without a deployment."""
    with LocalAzure(subscriptions=3, bare=True, start=_start, limits=UNLIMITED) as azure:
        for group in ("secrets", "logs", "network"):
            azure.world.resource_groups[(azure.subscription_ids[0], group)] = "westeurope"
        azure.world.service_principals[TAILPIPE_APP] = TAILPIPE
        yield azure


def arguments(name: str, azure: LocalAzure, folder: Path) -> Json:
    """Return the module's arguments of a set, without the package."""
    ids = {"tenant": azure.tenant, "first": azure.subscription_ids[0], "second": azure.subscription_ids[1]}
    given = template_variables(folder)[1::2]
    own = dict(one.split("=", 1) for one in given)
    own = {key: value for key, value in own.items() if key not in ("settings", "package")}
    chosen = {"settings": {"BACKFILL_MONTHS": "0"}, **SETS[name]}
    return {**own, **{key: _filled(value, ids) for key, value in chosen.items()}}


def _filled(value: Any, ids: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_filled(one, ids) for one in value]
    return value.format(**ids) if isinstance(value, str) and "{" in value else value


@contextmanager
def by_terraform(name: str, folder: Path) -> Iterator[tuple[LocalAzure, Applied]]:
    """Yield a tenant to which Terraform applied the module with a set of variables."""
    with opened() as azure:
        workspace = Workspace(folder / "terraform", "azure")
        given = arguments(name, azure, folder)
        workspace.package.write_bytes((folder / "given.zip").read_bytes())
        # It waits until Azure has evaluated the policy, which the local Azure does not.
        (workspace.module / "policy_evaluated.py").write_text("")
        call = {**given, "source": "../..", "package": str(workspace.package)}
        root = {"provider": {"azurerm": {"features": {}}, "azuread": {}}, "module": {"tailpipe_exports": call}}
        sign_in(workspace, azure.endpoint, azure.operator_token(), azure.environment()["FUNCTION_ENDPOINT"])
        with stand_in_providers(workspace, AzureRm(azure, TAILPIPE)):
            applied = apply_signed_in(workspace, root)
        assert {step: done.code for step, done in applied.steps.items()} == {"validate": 0, "apply": 0, "again": 0}, (
            applied.steps
        )
        yield azure, applied


@contextmanager
def by_template(name: str, folder: Path) -> Iterator[LocalAzure]:
    """Yield a tenant in which Azure deployed the launch template with a set of variables, and read the package."""
    with opened() as azure:
        given = arguments(name, azure, folder)
        group = given.pop("management_group_id", "")
        if group:
            given["subscription_id"] = azure.subscription_ids[0]
        values = {
            camel(key): {"value": (0 if key == "archive_after_days" else "") if value is None else value}
            for key, value in given.items()
        }
        values["connectorObjectId"] = {"value": TAILPIPE}
        document = read("template.json")
        where = f"/subscriptions/{azure.subscription_ids[0]}"
        if group:
            document = with_template(read("management-group.json"), document)
            where = f"/providers/Microsoft.Management/managementGroups/{group}"
        with _served((folder / "given.zip").read_bytes()) as address:
            values["packageUri"] = {"value": address}
            properties = {"mode": "Incremental", "template": document, "parameters": values}
            path, version = f"{where}/providers/Microsoft.Resources/deployments/tailpipe", "2022-09-01"
            Arm(azure).ask("PUT", path, version, {"location": given["location"], "properties": properties})
        found = Arm(azure).ask("GET", path, version)["properties"]
        assert found["provisioningState"] == "Succeeded", found.get("error")
        yield azure


@contextmanager
def _served(package: bytes) -> Iterator[str]:
    """Serve a package on this machine; yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(package)))
            self.end_headers()
            self.wfile.write(package)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/package.zip"
        finally:
            server.shutdown()
            thread.join()


def left_behind(azure: LocalAzure) -> dict[str, Any]:
    """Return everything in a tenant: path of a value → value. GUIDs that each engine chooses have a name instead."""
    world = azure.world
    found: Json = {}
    for (owner, group), location in world.resource_groups.items():
        tags = world.group_tags.get((owner, group), {})
        found[f"/subscriptions/{owner}/resourceGroups/{group}"] = {"location": location, "tags": tags}
    for account in world.accounts.values():
        names = account.containers
        if names is None:
            names = {one for one in _CONTAINERS if world.blobs.has_container(account.name, one)}
        found[account.id] = {
            **account.document("https://blobs"),
            "blobService": account.blob_service,
            "lifecycle": account.lifecycle,
            "containers": sorted(names),
        }
    for site in world.sites.values():
        found[site.id] = {
            **site.document(),
            "settings": site.settings,
            "passwords": sorted(site.passwords),
            "package": hashlib.sha256(site.package).hexdigest(),
            "functions": sorted(site.functions()),
        }
        del found[site.id]["properties"]["lastModifiedTimeUtc"]
    named: dict[str, str] = {}
    for one in world.resources.values():
        if one["type"] == "Microsoft.Insights/workbooks":
            named[one["name"]] = "(workbook)"
            data = json.loads(one["properties"]["serializedData"])
            found[one["id"]] = {**one, "properties": {**one["properties"], "serializedData": data}}
        elif one["type"] == "Microsoft.Resources/deployments":
            found[one["id"]] = {"tags": one["tags"], "state": one["properties"]["provisioningState"]}
        else:
            found[one["id"]] = one
    for role in world.rights.roles.values():
        if role.custom:
            named[role.id] = f"({role.name})"
            found[f"role {role.name}"] = {
                "actions": role.actions,
                "dataActions": role.data_actions,
                "notActions": role.not_actions,
                "scopes": role.scopes,
                "description": role.description,
            }
    for held in world.rights.assignments.values():
        role = world.rights.roles[held.role]
        found[f"{held.scope} grants {role.name} to {held.principal}"] = {"kind": held.kind, "condition": held.condition}
    found["applications"] = dict(world.service_principals)
    text = json.dumps(found).replace(azure.endpoint, "https://azure").replace(azure.blob_endpoint, "https://blobs")
    for guid, title in named.items():
        text = text.replace(guid, title)
    return dict(_leaves(json.loads(text)))


_CONTAINERS = ("app-package", "tailpipe-state", "dataexport", "tailpipe-registry")


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value below a path. Lists are sets, and a property that is empty is not there."""
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _leaves(one, f"{path}: {name}" if path and ": " not in path else f"{path}.{name}".lstrip("."))
    elif isinstance(value, list) and value:
        yield path, sorted((_plain(one) for one in value), key=repr)
    elif value not in (None, "", []):
        yield path, value


def _plain(value: Any) -> Any:
    """Return an item of a list without what is empty in it."""
    if isinstance(value, dict):
        return {name: _plain(value[name]) for name in sorted(value) if value[name] not in (None, "", [], {})}
    return sorted((_plain(one) for one in value), key=repr) if isinstance(value, list) else value


@dataclass(frozen=True)
class Listed:
    """A known difference: the pattern of its paths, why it is one, and each side's value. None: it is not there."""

    path: str
    why: str
    terraform: Any = None
    template: Any = None

    def covers(self, path: str, terraform: Any, template: Any) -> bool:
        """Return whether a difference is this one."""
        sides = ((self.terraform, terraform), (self.template, template))
        return fnmatchcase(path, self.path) and all(
            live is not None if listed is ANY else listed == live and type(listed) is type(live)
            for listed, live in sides
        )


ANY = object()
_DEFAULT = "The provider writes Azure's own default, which the template leaves out."
_STORAGE, _LOGS = "*/storageAccounts/*: ", "*/Microsoft.OperationalInsights/workspaces/*: "
_INSIGHTS, _PLAN = "*/Microsoft.Insights/components/*: ", "*/Microsoft.Web/serverfarms/*: "
_ALARM, _EVENTS = "*/scheduledQueryRules/*: ", "*/eventSubscriptions/tailpipe-manifests: properties."
_POLICY, _REMEDIATION = "*/policyAssignments/deploy-cost-export-a: ", "*/remediations/deploy-cost-export-r: "
LISTED = (
    Listed(f"{_STORAGE}properties.accessTier", _DEFAULT, terraform="Hot"),
    Listed(f"{_STORAGE}properties.dnsEndpointType", _DEFAULT, terraform="Standard"),
    Listed(f"{_STORAGE}properties.encryption.keySource", _DEFAULT, terraform="Microsoft.Storage"),
    Listed(f"{_STORAGE}properties.encryption.services.*.keyType", _DEFAULT, terraform="Service"),
    Listed(f"{_STORAGE}properties.is[HNS]*", f"{_DEFAULT} (HNS, NFS and SFTP)", terraform=False),
    Listed(f"{_STORAGE}properties.publicNetworkAccess", _DEFAULT, terraform="Enabled"),
    Listed(f"{_STORAGE}blobService.*", f"{_DEFAULT} (features of blobs that are off)", terraform=False),
    Listed(f"{_LOGS}properties.publicNetworkAccessFor*", _DEFAULT, terraform="Enabled"),
    Listed(f"{_LOGS}properties.features.disableLocalAuth", _DEFAULT, terraform=False),
    Listed(f"{_LOGS}properties.features.enableLogAccessUsingOnlyResourcePermissions", _DEFAULT, terraform=True),
    Listed(f"{_INSIGHTS}properties.ApplicationId", "The provider writes the name once more.", terraform=ANY),
    Listed(f"{_INSIGHTS}properties.RetentionInDays", "The workspace's own days decide.", terraform=90),
    Listed(f"{_INSIGHTS}properties.SamplingPercentage", _DEFAULT, terraform=100),
    Listed(f"{_INSIGHTS}properties.DisableIpMasking", _DEFAULT, terraform=False),
    Listed(f"{_INSIGHTS}properties.ForceCustomerStorageForProfiler", _DEFAULT, terraform=False),
    Listed(f"{_INSIGHTS}properties.publicNetworkAccessFor*", _DEFAULT, terraform="Enabled"),
    Listed(f"{_ALARM}kind", _DEFAULT, terraform="LogAlert"),
    Listed(f"{_ALARM}properties.checkWorkspaceAlertsStorageConfigured", _DEFAULT, terraform=False),
    Listed("*/actionGroups/*: location", "Azure ignores case in locations.", "global", "Global"),
    Listed(f"{_PLAN}kind", "Azure derives it from the SKU.", template="functionapp"),
    Listed(f"{_PLAN}sku.tier", "Azure derives it from the SKU's name.", template="FlexConsumption"),
    Listed(f"{_PLAN}properties.*", f"{_DEFAULT} (features of other SKUs)", terraform=False),
    Listed("*/Microsoft.EventGrid/topics/*: properties.publicNetworkAccess", _DEFAULT, terraform="Enabled"),
    Listed(f"{_EVENTS}destination.properties.maxEventsPerBatch", "Event Grid's default.", template=1),
    Listed(f"{_EVENTS}destination.properties.preferredBatchSizeInKilobytes", "Event Grid's default.", template=64),
    Listed(f"{_EVENTS}filter.enableAdvancedFilteringOnArrays", _DEFAULT, terraform=False),
    Listed(f"{_POLICY}properties.enforcementMode", _DEFAULT, terraform="Default"),
    Listed(f"{_POLICY}properties.scope", "It is in the assignment's id, too.", terraform=ANY),
    Listed(f"{_POLICY}identity.type", "Azure reads None as no identity.", template="None"),
    Listed(f"{_REMEDIATION}*", "It waits for Azure's evaluation; one command makes it.", terraform=ANY),
    Listed(
        "*/Microsoft.Resources/deployments/*: state",
        "The parts of the template; both engines deploy the app by the same one.",
        template="Succeeded",
    ),
)


def differences(terraform: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the paths whose values differ, each with both values."""
    paths = sorted(terraform.keys() | template.keys())
    return {one: (terraform.get(one), template.get(one)) for one in paths if terraform.get(one) != template.get(one)}
