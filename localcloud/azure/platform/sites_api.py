"""Resource Manager's operations on function apps: settings, functions, keys, and name availability."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

from localcloud.azure.errors import ArmError, not_found, resource_not_found
from localcloud.azure.platform.sites import Site
from localcloud.azure.services.directory import check_writable
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

# Some of the regions that offer Flex Consumption.
_PACKAGE_S = 60.0
FLEX_REGIONS = ("East US", "North Europe", "Sweden Central", "UK South", "West Europe")


class SitesApi:
    """Function apps. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, request: Request) -> Answer:
        return Answer(self._site(request).document())

    def put(self, request: Request) -> Answer:
        """Create an app of Flex Consumption, or update its settings, tags and identities."""
        subscription, group, name = request.path_args[:3]
        check_writable(self._world.directory.get(subscription))
        body = request.json()
        properties = body.get("properties") or {}
        config = properties.get("functionAppConfig")
        if not config:
            message = (
                "Site.FunctionAppConfig is invalid. The FunctionAppConfig section was not specified in the request, "
                "which is required for Flex Consumption sites."
            )
            raise ArmError(400, "BadRequest", message)
        plan = str(properties.get("serverFarmId", ""))
        if plan.lower() not in self._world.resources:
            raise not_found("ResourceNotFound", f"The Resource '{plan}' was not found.")
        where = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"
        site = self._world.sites.get(where.lower())
        new = site is None
        if site is None:
            if name.lower() in {one.name for one in self._world.sites.values()} | self._world.taken_names:
                raise ArmError(409, "Conflict", f"Website with given name {name} already exists.")
            site = Site(name, subscription, group, str(body["location"]), "", {})
            self._world.host_site(site)
            self._world.sites[where.lower()] = site
        listed = (properties.get("siteConfig") or {}).get("appSettings") or ()
        site.settings = {str(one["name"]): str(one["value"]) for one in listed}
        site.tags = dict(body.get("tags") or {})
        site.assigned = {
            one: self._assigned(one) for one in (body.get("identity") or {}).get("userAssignedIdentities") or ()
        }
        site.given = {
            name: value
            for name, value in {**properties, "functionAppConfig": config}.items()
            if value is not None and name != "siteConfig"
        }
        site.modified = self._world.clock.now()
        return Answer(site.document(), 201 if new else 200)

    def delete(self, request: Request) -> Answer:
        subscription, group, name = request.path_args[:3]
        where = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"
        return Answer(status=200 if self._world.sites.pop(where.lower(), None) else 204)

    def _assigned(self, identity: str) -> dict[str, str]:
        """Return the ids of a user-assigned identity, which has to exist."""
        found = self._world.resources.get(identity.lower())
        if found is None:
            raise resource_not_found(identity)
        return {name: str(found["properties"][name]) for name in ("principalId", "clientId")}

    def one_deploy(self, request: Request) -> Answer:
        """Read a package from an address and store it; the local Azure reads from this machine only."""
        site = self._site(request)
        properties = request.json().get("properties") or {}
        address = str(properties.get("packageUri", ""))
        if properties.get("remoteBuild"):
            raise ArmError(501, "NotImplemented", "The local Azure does not support remote builds.")
        if urlsplit(address).scheme != "http" or urlsplit(address).hostname not in ("127.0.0.1", "localhost"):
            raise ArmError(501, "NotImplemented", f"The local Azure reads no package from '{address}'.")
        try:
            with build_opener(ProxyHandler({})).open(address, timeout=_PACKAGE_S) as answer:
                package = answer.read()
        except OSError as error:
            raise ArmError(400, "BadRequest", f"The package at '{address}' could not be downloaded: {error}") from error
        failure = site.publish(package)
        if failure:
            raise ArmError(400, "BadRequest", failure)
        kind, where = "Microsoft.Web/sites/extensions", f"{site.id}/extensions/onedeploy"
        return Answer({"id": where, "name": "onedeploy", "type": kind, "properties": {"status": 4, "complete": True}})

    def settings(self, request: Request) -> Answer:
        return Answer(self._settings(self._site(request)))

    def put_settings(self, request: Request) -> Answer:
        """Replace all settings, as the real operation does; the host restarts with the new ones."""
        site = self._site(request)
        check_writable(self._world.directory.get(site.subscription))
        properties = request.json().get("properties")
        if not isinstance(properties, dict) or not all(isinstance(one, str) for one in properties.values()):
            raise ArmError(400, "BadRequest", "The parameter properties must be an object of texts.")
        site.settings = dict(properties)
        site.modified = self._world.clock.now()
        return Answer(self._settings(site))

    def put_passwords(self, request: Request) -> Answer:
        """Allow or disallow publishing by user name and password at one endpoint."""
        site, kind = self._site(request), request.path_args[3].lower()
        allowed = (request.json().get("properties") or {}).get("allow")
        if not isinstance(allowed, bool):
            raise ArmError(400, "BadRequest", "The parameter properties.allow must be a boolean.")
        (site.passwords.add if allowed else site.passwords.discard)(kind)
        where = f"{site.id}/basicPublishingCredentialsPolicies/{kind}"
        return Answer({"id": where, "name": kind, "properties": {"allow": allowed}})

    def passwords(self, request: Request) -> Answer:
        """Return whether one endpoint takes user name and password."""
        site, kind = self._site(request), request.path_args[3].lower()
        where = f"{site.id}/basicPublishingCredentialsPolicies/{kind}"
        return Answer({"id": where, "name": kind, "properties": {"allow": kind in site.passwords}})

    def functions(self, request: Request) -> Answer:
        site = self._site(request)
        kind = "Microsoft.Web/sites/functions"
        return Answer(
            {
                "value": [
                    {
                        "id": f"{site.id}/functions/{name}",
                        "name": f"{site.name}/{name}",
                        "type": kind,
                        "properties": {
                            "name": name,
                            "language": "python",
                            "isDisabled": site.disabled(name),
                            "config": {"name": name, "bindings": bindings},
                        },
                    }
                    for name, bindings in (site.functions().items() if site.loads else ())
                ]
            }
        )

    def function_keys(self, request: Request) -> Answer:
        site = self._site(request)
        if not site.loads or request.path_args[3] not in site.functions():
            raise not_found("NotFound", f"Function '{request.path_args[3]}' was not found.")
        return Answer({"default": site.key})

    def check_name(self, request: Request) -> Answer:
        """Return whether an app name is available; app names are unique across Azure."""
        body = request.json()
        name, kind = body.get("name"), body.get("type")
        if not isinstance(name, str) or kind not in ("Site", "Microsoft.Web/sites"):
            raise ArmError(400, "BadRequest", "A name and the type Site are required.")
        taken = name.lower() in {one.name for one in self._world.sites.values()} | self._world.taken_names
        reason = {"reason": "AlreadyExists", "message": f"Hostname '{name}' already exists."} if taken else {}
        return Answer({"nameAvailable": not taken, **reason})

    def regions(self, request: Request) -> Answer:
        """Return the display names of the regions that offer a plan."""
        self._world.directory.get(request.path_args[0])
        if request.query.get("sku", "FlexConsumption") != "FlexConsumption":
            raise ArmError(400, "BadRequest", "The local Azure supports only the regions of FlexConsumption.")
        kind = "Microsoft.Web/geoRegions"
        return Answer({"value": [{"name": one, "type": kind, "properties": {"name": one}} for one in FLEX_REGIONS]})

    def _settings(self, site: Site) -> dict[str, Any]:
        where = f"{site.id}/config/appsettings"
        return {"id": where, "name": "appsettings", "type": "Microsoft.Web/sites/config", "properties": site.settings}

    def _site(self, request: Request) -> Site:
        subscription, group, name = request.path_args[:3]
        where = f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Web/sites/{name}"
        found = self._world.sites.get(where.lower())
        if found is None:
            raise resource_not_found(where)
        return found
