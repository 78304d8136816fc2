"""Azure Resource Manager as the engine of a deployment: the launch templates, what-if, and their deployment.

Azure itself remembers what it deployed: no state is kept. A deployment in incremental mode deletes nothing, so data is
safe from every update; a removal deletes resource by resource. Sources (Microsoft Learn): "ARM template deployment
what-if operation", "Deployment history deletions".

The module is over 350 lines because the engine's methods share one reading of what-if and of the parameters.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

from cli.deployment.azure.app import SITES_API, FunctionApp
from cli.deployment.azure.connector import assignments
from cli.deployment.azure.existing import existing_names
from cli.deployment.azure.functions import deployed
from cli.deployment.azure.names import Names, names, short_name
from cli.deployment.azure.preflight import PROVIDERS
from cli.deployment.azure.rights import APP_IDS
from cli.deployment.azure.session import MANAGEMENT_GROUPS, Session
from cli.deployment.azure.stack_input import camel, granted, refused, require_package
from cli.deployment.azure.stack_removal import (
    DEPLOYMENTS,
    RESOURCES,
    Removed,
    placed,
    records,
    removals,
    remove,
    unfinished,
    wait_until_idle,
)
from cli.deployment.engine import Plan, Planning, Variable
from cli.deployment.model import Change, Kept, OperatorError, Problem
from cli.deployment.operator import Tell
from shared.errors import NotFound, ReportedError
from tailpipe_exports import FILES

INFRA = FILES / "infra" / "azure"
API, PROVIDERS_API = "2022-09-01", "2021-04-01"
POLL_S = 5.0
PACKAGE_TAG = "package-sha256"
# Variables of the module that the templates have no parameter for, and what to do instead.
NO_PARAMETER = {
    "delete_data_on_destroy": "Leave it out: data is removed by `tailpipe-exports destroy azure --delete-data` alone.",
    "register_providers": "Leave it out: this command registers the providers that a deployment needs.",
}
_ROLE_ASSIGNMENT = "microsoft.authorization/roleassignments"
_SITE = "microsoft.web/sites"


@dataclass(frozen=True)
class StackPlan:
    """A plan of this engine. `removed`: it deletes these instead of deploying."""

    changes: Sequence[Change]
    types: Sequence[str] = ()
    granted: Mapping[str, Sequence[str]] | None = None
    parameters: Mapping[str, Any] | None = None
    package: bytes = b""
    removed: Sequence[Removed] = ()

    @property
    def empty(self) -> bool:
        return not self.changes


class AzureStack:
    """Implements `cli.deployment.engine.Engine`."""

    title = "Azure Resource Manager"
    precious = frozenset(
        {"Microsoft.Storage/storageAccounts", "Microsoft.Storage/storageAccounts/blobServices/containers"}
    )
    alarm = "Microsoft.Insights/scheduledQueryRules"

    def __init__(self, session: Session) -> None:
        self._session = session
        self._given: Mapping[str, Any] = {}

    def check(self, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:  # noqa: ARG002 - the port's signature
        problems = [
            Problem(f"{name} has no effect with --with native", remedy)
            for name, remedy in NO_PARAMETER.items()
            if name in values
        ]
        rules = (INFRA / "variables.tf").read_text(encoding="utf-8")
        problems += refused(values, _template("template.json")["parameters"], rules)
        environment = str(values.get("environment"))
        if environment in APP_IDS and not values.get("connector_object_id"):
            try:
                self._tailpipe(environment)
            except OperatorError as error:
                problems += error.problems
        if problems:
            raise OperatorError(*problems)

    def plan(self, wanted: Planning) -> StackPlan:
        session = self._session
        self._given = wanted.values
        package = (wanted.folder / str(wanted.values["package"])).read_bytes()
        require_package(package)
        group = f"{session.path}/resourceGroups/{self._names.group}"
        wait_until_idle(session, group, self._names.function, wanted.tell)
        app = deployed(session)
        parameters = self._parameters(wanted.values, app)
        body = self._body(parameters)
        wanted.say(f"checking the template and your permissions with {self.title}")
        self._validated(body)
        found = self._long(f"{self._path}/whatIf", body)
        listed = (found.get("properties") or {}).get("changes") or []
        held = assignments(session, app, app.principal) if app else []
        known = {(one.scope.lower().strip("/"), one.role) for one in held}
        changes = [change for one in listed if (change := _change(one, app, known))]
        if hashlib.sha256(package).hexdigest() != self._published():
            changes.append(Change("package", "Microsoft.Web/sites/extensions", ("update" if app else "create",), {}))
        types = [str((one.get("after") or one.get("before") or {}).get("type", "")) for one in listed]
        return StackPlan(changes, types, granted(wanted.values, session.group), parameters, package)

    def apply(self, plan: Plan, tell: Tell) -> None:
        if not isinstance(plan, StackPlan):
            raise TypeError(f"{type(plan).__name__} is not a plan of Azure Resource Manager's")
        if plan.removed:
            remove(self._session, plan.removed, tell)
            return
        self._register(tell)
        parameters = dict(plan.parameters or {})
        self._deploy(parameters, self._published(), tell)
        digest = hashlib.sha256(plan.package).hexdigest()
        if digest == self._published():
            return
        self._publish(plan.package, tell)
        # Now Event Grid finds the function, and the next plan knows the package.
        self._deploy({**parameters, "functionsPublished": {"value": True}}, digest, tell)

    def addresses(self) -> list[str]:
        group = f"{self._session.path}/resourceGroups/{self._names.group}"
        if self._session.rest.get(group, PROVIDERS_API) is None:
            return []
        return [str(one["id"]) for one in self._session.rest.pages(f"{group}/resources", PROVIDERS_API)]

    def outputs(self) -> dict[str, Any]:
        found = self._session.rest.get(self._path, API) or {}
        outputs = (found.get("properties") or {}).get("outputs") or {}
        return {name: one.get("value") for name, one in outputs.items()}

    def removal(self, kept: Sequence[Kept]) -> list[Change]:
        return [Change(short_name(one.id), one.type, ("delete",), {}) for one in removals(self._session, kept)]

    def plan_removal(self, kept: Sequence[Kept]) -> StackPlan:
        wait_until_idle(self._session, *placed(self._session, deployed(self._session)), lambda _line: None)
        gone = list(removals(self._session, kept))
        return StackPlan([Change(short_name(one.id), one.type, ("delete",), {}) for one in gone], removed=gone)

    def left(self) -> str:
        return ""

    def disband(self, tell: Tell) -> None:
        """Delete the records of the template's deployments, without the app's, which Terraform has too.

        The record that `held` looks for is the last one.
        """
        group, function = placed(self._session, deployed(self._session))
        start = f"{group}{DEPLOYMENTS}/{function}"
        found = [one for one in records(self._session, group, function) if one.id != start]
        remove(self._session, sorted(found, key=lambda one: one.id == f"{start}{RESOURCES}"), tell)

    @property
    def _names(self) -> Names:
        return names(self._session.subscription, self._given)

    @property
    def _path(self) -> str:
        session = self._session
        where = f"{MANAGEMENT_GROUPS}/{session.group}" if session.group else session.path
        return f"{where}/providers/Microsoft.Resources/deployments/{self._names.function}"

    def _parameters(self, values: Mapping[str, Any], app: FunctionApp | None) -> dict[str, Any]:
        """Return the template's parameters of the operator's values. Raises OperatorError without Tailpipe's app."""
        known = set(_template("management-group.json" if self._session.group else "template.json")["parameters"])
        made = {
            camel(name): {"value": (0 if name == "archive_after_days" else "") if value is None else value}
            for name, value in values.items()
            if camel(name) in known
        }
        if "connectorObjectId" not in made:
            made["connectorObjectId"] = {"value": self._tailpipe(str(values["environment"]))}
        if self._session.group:
            made["subscriptionId"] = {"value": self._session.subscription}
        if app is not None:
            made["functionsPublished"] = {"value": True}
        principals = (made["connectorObjectId"]["value"], *(values.get("registry_writers") or ()))
        elsewhere = (values.get("activity_log_workspace_id"), values.get("notify_secret"))
        found = existing_names(self._session, self._names, app, principals, [str(one) for one in elsewhere if one])
        return made | ({"existingNames": {"value": found}} if found else {})

    def _tailpipe(self, environment: str) -> str:
        """Return the object id of Tailpipe's application. Raises OperatorError without it."""
        app, tenant = APP_IDS[environment], self._session.tenant
        add = f"az ad sp create --id {app}"
        try:
            return str(self._session.rest.graph(f"/v1.0/servicePrincipals(appId='{app}')")["id"])
        except NotFound as error:
            lacking = Problem(
                f"Tailpipe's application {app} is not in tenant {tenant}", f"Add it, which no template can: {add}."
            )
            raise OperatorError(lacking) from error
        except ReportedError as error:
            hidden = Problem(
                f"Tailpipe's application {app} could not be looked up in tenant {tenant}: {error.message}",
                "Have an administrator tell you its object id, and add --var connector_object_id=ID: "
                f"az ad sp show --id {app} --query id, or where it is not in the tenant yet, {add} --query id.",
            )
            raise OperatorError(hidden) from error

    def _body(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        document = _template("template.json")
        if self._session.group:
            document = with_template(_template("management-group.json"), document)
        properties = {"mode": "Incremental", "template": document, "parameters": dict(parameters)}
        return {"location": self._session.region, "properties": properties}

    def _validated(self, body: Mapping[str, Any]) -> None:
        """Raise OperatorError with what the template or Azure refuses, before anything is created."""
        try:
            self._session.rest.ask("POST", f"{self._path}/validate", API, body)
        except OperatorError as error:
            raise OperatorError(*(_refusal(one) for one in error.problems)) from error

    def _long(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self._session.rest.finished("POST", path, API, body)
        if found.get("error"):
            raise OperatorError(_refusal(Problem(str(found["error"].get("message")))))
        return found

    def _deploy(self, parameters: Mapping[str, Any], digest: str, tell: Tell) -> None:
        session = self._session
        body = self._body(parameters) | {"tags": {PACKAGE_TAG: digest} if digest else {}}
        session.rest.ask("PUT", self._path, API, body)
        seen: set[str] = set()
        while True:
            found = session.rest.get(self._path, API) or {}
            for one in session.rest.pages(f"{self._path}/operations", API):
                target = (one.get("properties") or {}).get("targetResource") or {}
                if one["properties"].get("provisioningState") == "Succeeded" and str(target.get("id")) not in seen:
                    seen.add(str(target.get("id")))
                    tell(f"{target.get('resourceName') or target.get('resourceType')}: done")
            state = (found.get("properties") or {}).get("provisioningState")
            if state == "Succeeded":
                return
            if state in ("Failed", "Canceled"):
                raise OperatorError(*_failures(found["properties"].get("error") or {"message": state}))
            session.rest.clock.wait_until(session.rest.clock.monotonic() + POLL_S)

    def _register(self, tell: Tell) -> None:
        session = self._session
        for name in PROVIDERS:
            path = f"{session.path}/providers/{name}"
            if (session.rest.get(path, PROVIDERS_API) or {}).get("registrationState") != "Registered":
                session.rest.ask("POST", f"{path}/register", PROVIDERS_API)
                tell(f"{name}: registration started")

    def _published(self) -> str:
        """Return the hash of the package that was published last, "" if none was."""
        found = self._session.rest.get(self._path, API) or {}
        return str((found.get("tags") or {}).get(PACKAGE_TAG, ""))

    def _publish(self, package: bytes, tell: Tell) -> None:
        """Publish the package as Terraform does: by the same script, in this process."""
        session, script = self._session, _publish_script()
        name = self._names
        path = f"{session.path}/resourceGroups/{name.group}/providers/Microsoft.Web/sites/{name.function}"
        site = session.rest.get(path, SITES_API) or {}
        app = deployed(session)
        settings = app.settings if app else {}
        functions = (
            *script.FUNCTIONS,
            *(each for setting, some in script.OPTIONAL.items() if settings.get(setting) for each in some),
        )
        token = session.rest.token()
        arm = script.Api(session.rest.endpoint, token)
        publisher = script.Publisher(arm, path, script.Api(script.scm_of(site), token), functions=functions)
        try:
            publisher.publish(package)
            publisher.prove()
        except script.NotPublished as error:
            raise OperatorError(
                Problem(
                    f"the package could not be published to {name.function}: {error}", "Run the same command again."
                )
            ) from error
        tell(f"{name.function} has the package")


def held(session: Session) -> bool:
    """Return whether a launch template made this deployment, from the portal or by this command."""
    app = deployed(session)
    if app is None:
        return bool(unfinished(session))
    group, function = placed(session, app)
    return session.rest.get(f"{group}{DEPLOYMENTS}/{function}{RESOURCES}", API) is not None


def with_template(group: Mapping[str, Any], template: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of a management group with the template that it links to inside it."""
    made: dict[str, Any] = json.loads(json.dumps(group))
    below = made["resources"][0]["properties"]
    del below["templateLink"]
    below |= {"expressionEvaluationOptions": {"scope": "inner"}, "template": template}
    return made


@cache
def _template(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((INFRA / name).read_text(encoding="utf-8"))
    return document


def _publish_script() -> ModuleType:
    """Return infra/azure/publish.py as a module."""
    specification = importlib.util.spec_from_file_location("tailpipe_exports_publish", INFRA / "publish.py")
    if specification is None or specification.loader is None:
        raise OperatorError(Problem(f"{INFRA / 'publish.py'} cannot be read", "Install the command again."))
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


def _change(entry: Mapping[str, Any], app: FunctionApp | None, known: set[tuple[str, str]]) -> Change | None:
    """Return what a what-if entry would change, None for nothing."""
    after = entry.get("after") or {}
    kind, identifier = str(after.get("type", "")), str(entry.get("resourceId", ""))
    actions = {"Create": "create", "Modify": "update", "Delete": "delete"}.get(str(entry.get("changeType")), "")
    if entry.get("changeType") == "Unsupported" and kind.lower() == _ROLE_ASSIGNMENT:
        # The name needs the app's identity, and is not known before; what it assigns is.
        role = str((after.get("properties") or {}).get("roleDefinitionId", "")).rsplit("/", 1)[-1].lower()
        scope = identifier.lower().partition("/providers/microsoft.authorization/")[0].strip("/")
        actions = "" if (scope, role) in known else "create"
    if actions == "update":
        delta = [str(one.get("path", "")) for one in entry.get("delta") or () if not is_noise(one)]
        if kind.lower() == _SITE:
            delta = [one for one in delta if not one.startswith("properties.siteConfig")]
            actions = "update" if delta or _settings_differ(after, app) else ""
        elif not delta:
            actions = ""
    return Change(short_name(identifier, after), kind, (actions,), after) if actions else None


def _settings_differ(after: Mapping[str, Any], app: FunctionApp | None) -> bool:
    """Return whether an app's settings would change: Azure does not show them with the app."""
    wanted = ((after.get("properties") or {}).get("siteConfig") or {}).get("appSettings") or []
    if not isinstance(wanted, list) or app is None:
        return app is None
    values = {str(one.get("name")): str(one.get("value")) for one in wanted if isinstance(one, dict)}
    known = {name: value for name, value in values.items() if not value.startswith("[")}
    return set(values) != set(app.settings) or any(app.settings.get(name) != value for name, value in known.items())


def is_noise(delta: Mapping[str, Any]) -> bool:
    """Return whether what-if reports a change that a deployment does not make.

    A property that the template leaves to Azure's default is reported as deleted. Source: "ARM template deployment
    what-if operation", Microsoft Learn (`PropertyChangeType`). A tag that is left out is deleted.
    """
    kind = delta.get("propertyChangeType")
    return kind == "NoEffect" or (kind == "Delete" and not str(delta.get("path", "")).startswith("tags"))


def _refusal(problem: Problem) -> Problem:
    """Return a refusal of Azure's as one sentence: the rule's own, where a rule of the template refuses."""
    said = re.search(r"Deployment template validation failed: '(.+?)'\.?$", problem.what, re.DOTALL)
    if said and said[1].startswith(("Write ", "Leave ", "Take ", "List ", "Put ", "Give ", "Name ")):
        return Problem("the values do not fit together, and nothing was created", said[1])
    return problem


def _failures(error: Mapping[str, Any]) -> Iterator[Problem]:
    """Yield the innermost errors of a failed deployment, each with its resource."""
    details = error.get("details") or ()
    if not details:
        target = str(error.get("target", "")).rsplit("/", 1)[-1]
        yield Problem(f"{target}: {error.get('code', '')}: {error.get('message', '')}".strip(": "))
    for one in details:
        yield from _failures(one)
