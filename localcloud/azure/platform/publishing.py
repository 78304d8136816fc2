"""The publish endpoint of a Flex Consumption app, on the app's own host: accepts an archive and returns an ID.

Sources: `enable_zip_deploy_flex` (Azure/azure-cli) for the endpoint and its headers; Azure/azure-dev issue 3658 for the
deployment's document and its statuses; Azure-Samples/azure-functions-flex-consumption-samples issue 41 for the error
when the app cannot write to the storage account.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from typing import Any

from localcloud.azure.calls import Call
from localcloud.azure.errors import ArmError, authorization_failed
from localcloud.azure.iam.caller import MANAGEMENT, identify
from localcloud.azure.platform.sites import Site
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.storage import StorageAccount
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

PUBLISH, DEPLOYMENTS = "/api/publish", "/api/deployments/"
ACTION = "Microsoft.Web/sites/publish/action"
BLOB_WRITE = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/write"
SUCCESS, FAILED = 4, 3
# Flex Consumption rejects packages while any of these settings is present ("Flex Consumption plan deprecations").
REFUSED_SETTINGS = ("ENABLE_ORYX_BUILD", "SCM_DO_BUILD_DURING_DEPLOYMENT", "WEBSITE_RUN_FROM_PACKAGE")
READABLE = 0o444 << 16


@dataclass(frozen=True)
class Deployment:
    """The result of publishing one archive."""

    id: str
    status: int
    log: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "status": self.status,
            "status_text": "" if self.status == SUCCESS else self.log[-1],
            "complete": True,
            "active": self.status == SUCCESS,
            "remoteBuild": False,
            "build_summary": {"errors": [], "warnings": []},
        }


# difference: AZURE-14
class Publishing:
    """Serve the publish endpoint of one site."""

    def __init__(self, world: World, site: Site) -> None:
        self._world, self._site = world, site
        self._deployments: dict[str, Deployment] = {}

    def answer(self, request: Request) -> Answer | None:
        """Handle a request to the publish endpoint and log it; errors are returned as responses.

        Return None for requests to the function app itself.
        """
        if request.path != PUBLISH and not request.path.startswith(DEPLOYMENTS):
            return None
        app = ""
        try:
            caller = identify(request.headers.get("authorization", ""), self._world.tenant, MANAGEMENT)
            app = caller.principal
            with self._world.lock:
                if not self._world.rights.allows(app, ACTION, self._site.id):
                    raise authorization_failed(app, ACTION, self._site.id)
                answer = self._publish(request) if request.path == PUBLISH else self._found(request)
        except ArmError as error:
            answer = Answer(error.document(), error.status)
        at = self._world.clock.monotonic()
        self._world.calls.add(Call(at, app, request.method, ACTION, self._site.id, answer.status))
        return answer

    def _publish(self, request: Request) -> Answer:
        if request.method != "POST":
            raise ArmError(405, "MethodNotAllowed", f"The method {request.method} is not allowed.")
        if request.headers.get("content-type", "").partition(";")[0].strip() != "application/zip":
            raise ArmError(415, "UnsupportedMediaType", "A package is sent as application/zip.")
        if request.query.get("remotebuild", "false").lower() != "false":
            raise ArmError(
                501, "NotImplemented", "The local Azure does not support remote builds. Publish with RemoteBuild=false."
            )
        identifier = made_up_id("deployment", self._site.name, len(self._deployments))
        failure = self.store(request.body)
        status = FAILED if failure else SUCCESS
        log = (f"Package of {len(request.body)} bytes received.", failure or "The deployment was successful!")
        self._deployments[identifier] = Deployment(identifier, status, log)
        return Answer(identifier, 202)

    def store(self, package: bytes) -> str:
        """Store a package, and return why it could not be stored, or ""."""
        failure = self._failure(package)
        if not failure:
            self._site.package = package
            self._site.loads = loads(package)
        return failure

    def _found(self, request: Request) -> Answer:
        name, _, part = request.path.removeprefix(DEPLOYMENTS).partition("/")
        found = self._deployments.get(next(reversed(self._deployments), "") if name == "latest" else name)
        if found is None or part not in ("", "log"):
            raise ArmError(404, "NotFound", f"Deployment {name} not found.")
        return Answer([{"message": one} for one in found.log] if part else found.document())

    def _failure(self, package: bytes) -> str:
        refused = [one for one in REFUSED_SETTINGS if one in self._site.settings]
        if refused:
            return f"App setting {refused[0]} is not supported on Flex Consumption."
        if not zipfile.is_zipfile(io.BytesIO(package)):
            return "The package is not a valid zip archive."
        host = self._world.accounts.get(self._site.settings.get("AzureWebJobsStorage__accountName", ""))
        allowed = host is not None and self._world.rights.allows(self._site.principal, BLOB_WRITE, host.id, data=True)
        if host is None or not allowed or not self._reaches(host):
            suffix = "operation using this permission" if host is None or self._reaches(host) else "operation"
            return (
                "Failed to upload because Azure Storage responded with Forbidden : Response status code does not "
                f"indicate success: 403 (This request is not authorized to perform this {suffix}.)."
            )
        return ""

    def _reaches(self, account: StorageAccount) -> bool:
        """Return whether the site reaches an account: it is open, or admits the site's subnet or a private endpoint.

        Sources (Microsoft Learn): "Azure Storage firewall rules", "Use private endpoints for Azure Storage".
        """
        if not account.firewall:
            return True
        subnet = str(self._site.given.get("virtualNetworkSubnetId") or "").lower()
        rules = (account.given.get("networkAcls") or {}).get("virtualNetworkRules") or ()
        linked = {
            str(link["properties"]["privateLinkServiceId"]).lower()
            for one in self._world.resources.values()
            if one["type"] == "Microsoft.Network/privateEndpoints"
            for link in one["properties"]["privateLinkServiceConnections"]
        }
        admitted = subnet in {str(one["id"]).lower() for one in rules} or account.id.lower() in linked
        return bool(subnet) and admitted


def loads(package: bytes) -> bool:
    """Return whether a host finds functions in an archive; it finds none if it cannot read the files.

    The archive must contain its dependencies, because there is no remote build.
    """
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        entries = archive.infolist()
    names = {one.filename for one in entries}
    readable = all(one.external_attr & READABLE == READABLE for one in entries if not one.is_dir())
    dependencies = any(one.startswith(".python_packages/lib/site-packages/") for one in names)
    return readable and dependencies and {"host.json", "function_app.py"} <= names
