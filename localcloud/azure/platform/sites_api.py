"""Resource Manager's operations on function apps: settings, functions, keys, and name availability."""

from __future__ import annotations

from typing import Any

from localcloud.azure.errors import ArmError, not_found, resource_not_found
from localcloud.azure.platform.sites import Site
from localcloud.azure.services.directory import check_writable
from localcloud.azure.state import World
from localcloud.azure.wire import Answer, Request

# Some of the regions that offer Flex Consumption.
FLEX_REGIONS = ("East US", "North Europe", "Sweden Central", "UK South", "West Europe")


class SitesApi:
    """Function apps. Call with the world's lock held; every method raises ArmError."""

    def __init__(self, world: World) -> None:
        self._world = world

    def get(self, request: Request) -> Answer:
        return Answer(self._site(request).document())

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
        if request.path_args[3] not in site.functions():
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
