"""The methods of Infrastructure Manager (config.googleapis.com v1) that the local cloud covers.

Source: the discovery document; "Access control with IAM" and "Manage the Terraform state file" of Infrastructure
Manager. Git sources, worker pools, deployment groups and quota validation answer 501.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from localcloud.common.http_server import Request, Response
from localcloud.gcp.context import Answer, Context, Handler, page
from localcloud.gcp.errors import GoogleError, invalid, unimplemented
from localcloud.gcp.field_mask import parse_mask
from localcloud.gcp.infra_manager.records import Deployment, Preview, Records, is_state
from localcloud.gcp.infra_manager.runs import Environment, Runs
from localcloud.gcp.services.objects import rfc3339
from localcloud.gcp.state import World

# "Terraform and Infrastructure Manager", supported versions.
VERSIONS = ("1.3.10", "1.4.7", "1.5.7")
_SIGNED = "/_signed/"
_ID = re.compile(r"[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACCOUNT = re.compile(r"projects/[^/]+/serviceAccounts/[^/@]+@[^/@]+")
_SOURCE = re.compile(r"gs://[^/]+(?:/.*)?")
_PAGE = 500
_D = "config.projects.locations.deployments"
_P = "config.projects.locations.previews"
_UNCOVERED = ("workerPool", "quotaValidation", "providerConfig", "importExistingResources")
_FIELDS = ("annotations", "artifactsGcsBucket", "labels", "serviceAccount", "terraformBlueprint", "tfVersionConstraint")


class InfraManager:
    """The deployments, previews and operations of the local cloud."""

    def __init__(self, world: World, environment: Environment) -> None:
        self.records = Records()
        self.runs = Runs(world, self.records, environment)
        self._world = world
        # By the secret part of a signed address: the deployment whose draft it writes, or the content that it reads.
        self._signed: dict[str, Deployment | bytes] = {}
        self.handlers: dict[str, Handler] = {
            f"{_D}.create": self._create,
            f"{_D}.get": self._get,
            f"{_D}.list": self._list,
            f"{_D}.patch": self._patch,
            f"{_D}.delete": self._delete,
            f"{_D}.lock": self._lock,
            f"{_D}.unlock": self._unlock,
            f"{_D}.exportLock": self._export_lock,
            f"{_D}.exportState": self._export_state,
            f"{_D}.importState": self._import_state,
            f"{_D}.revisions.get": self._revision,
            f"{_D}.revisions.list": self._revisions,
            f"{_D}.revisions.resources.list": self._resources,
            f"{_P}.create": self._preview,
            f"{_P}.get": self._preview_get,
            f"{_P}.list": self._preview_list,
            f"{_P}.delete": self._preview_delete,
            f"{_P}.export": self._preview_export,
            f"{_P}.resourceChanges.list": self._changes,
            "config.projects.locations.operations.get": self._operation,
        }

    def close(self) -> None:
        """Wait for the operations in progress."""
        self.runs.close()

    # Signed addresses

    def owns(self, request: Request) -> bool:
        """Return whether a request is for a signed address."""
        return request.path.startswith(_SIGNED)

    def signed(self, request: Request) -> Response:
        """Answer a signed address: its bearer needs no other permission."""
        with self._world.lock:
            found = self._signed.get(request.path.removeprefix(_SIGNED))
            if isinstance(found, bytes) and request.method == "GET":
                return Response(200, {"Content-Type": "application/octet-stream"}, found)
            if isinstance(found, Deployment) and request.method == "PUT" and found.lock:
                found.draft = request.body
                return Response(200)
        return Response(403, {"Content-Type": "application/xml"}, b"<Error><Code>SignatureDoesNotMatch</Code></Error>")

    def _sign(self, context: Context, target: Deployment | bytes) -> str:
        token = secrets.token_urlsafe(24)
        self._signed[token] = target
        return f"{context.request.endpoint}{_SIGNED}{token}"

    # Deployments

    def _create(self, context: Context) -> Answer:
        parent, identifier = _name(context).removesuffix("/deployments"), context.request.one("deploymentId")
        _need(context, "config.deployments.create", parent)
        name = f"{parent}/deployments/{identifier}"
        document = self._given(context, name, identifier)
        self.records.free(name)
        document |= {"state": "CREATING", "lockState": "LOCKED"}
        made = self.records.deployments[name] = Deployment(document)
        return self.runs.start("create", name, lambda: self.runs.apply(made, "CREATE"))

    def _patch(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.update", name)
        found = self.records.deployment(name)
        _require_unlocked(found)
        wanted = self._given(context, name, name.rpartition("/")[2], found.document)
        found.document.update({**wanted, "state": "UPDATING", "lockState": "LOCKED"})
        return self.runs.start("update", name, lambda: self.runs.apply(found, "UPDATE"))

    def _given(self, context: Context, name: str, identifier: str, before: Mapping[str, Any] | None = None) -> Any:
        """Return the document that a request asks for. Raises GoogleError for what is invalid or not covered."""
        self.runs.require_terraform()
        body = context.body
        if not _ID.fullmatch(identifier):
            raise invalid(f"Invalid value '{identifier}': an id has lowercase letters, digits and hyphens, at most 63.")
        for field in _UNCOVERED:
            if body.get(field):
                raise unimplemented(f"The field {field}")
        mask = context.request.one("updateMask")
        written = {key for key in body if key in _FIELDS}
        if mask:
            written &= {part.partition(".")[0] for part in parse_names(mask)}
        merged = {**(before or {}), **{key: body[key] for key in written}}
        _check_blueprint(merged.get("terraformBlueprint") or {})
        account = str(merged.get("serviceAccount") or "")
        if not _ACCOUNT.fullmatch(account):
            raise invalid("service_account must have the form projects/{project}/serviceAccounts/{serviceAccount}.")
        self._world.platform.find(account)
        permission = "iam.serviceAccounts.actAs"
        context.need(permission, account, f"Permission '{permission}' denied on resource '{account}'.")
        now = rfc3339(self._world.clock.now())
        kept = {key: value for key, value in merged.items() if key not in ("errorCode", "stateDetail", "tfErrors")}
        return {
            **kept,
            "name": name,
            "createTime": kept.get("createTime", now),
            "updateTime": now,
            "tfVersion": VERSIONS[-1],
        }

    def _get(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.get", name)
        return dict(self.records.deployment(name).document)

    def _list(self, context: Context) -> Answer:
        parent = _name(context).removesuffix("/deployments")
        _need(context, "config.deployments.list", parent)
        return _listed(context, "deployments", [one.document for one in self.records.deployments.values()], parent)

    def _delete(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.delete", name)
        self.runs.require_terraform()
        found = self.records.deployment(name)
        _require_unlocked(found)
        if found.revisions and not context.request.flag("force"):
            raise _precondition(f"Deployment {name} has revisions; delete it with force.")
        account = str(found.document["serviceAccount"])
        permission = "iam.serviceAccounts.actAs"
        context.need(permission, account, f"Permission '{permission}' denied on resource '{account}'.")
        found.document |= {"state": "DELETING", "lockState": "LOCKED"}
        policy = context.request.one("deletePolicy")
        return self.runs.start("delete", name, lambda: self.runs.delete(found, policy))

    # Locks and states

    def _lock(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.lock", name)
        found = self.records.deployment(name)
        _require_unlocked(found)
        found.lock, found.locked_by = str(secrets.randbelow(10**15) + 10**15), context.identity
        found.document["lockState"] = "LOCKED"
        return self.runs.start("lock", name, lambda: dict(found.document))

    def _unlock(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.unlock", name)
        found = self._locked(name, context.body.get("lockId"))

        def unlock() -> Mapping[str, Any]:
            with self._world.lock:
                if found.draft and not is_state(found.draft):
                    found.document["lockState"] = "UNLOCK_FAILED"
                    raise _precondition("The uploaded state file is not valid.")
                found.state, found.draft, found.lock = found.draft or found.state, b"", ""
                found.document["lockState"] = "UNLOCKED"
                return dict(found.document)

        return self.runs.start("unlock", name, unlock)

    def _export_lock(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.getLock", name)
        found = self.records.deployment(name)
        if not found.lock:
            raise _precondition(f"Deployment {name} is not locked.")
        return {"lockId": found.lock, "who": found.locked_by}

    def _export_state(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.getState", name)
        found = self.records.deployment(name)
        if not found.lock:
            raise _precondition(f"Deployment {name} must be locked to export its state.")
        content = found.draft if context.body.get("draft") and found.draft else found.state
        return {"signedUri": self._sign(context, content)}

    def _import_state(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.deployments.updateState", name)
        return {"signedUri": self._sign(context, self._locked(name, context.body.get("lockId")))}

    def _locked(self, name: str, lock: Any) -> Deployment:
        found = self.records.deployment(name)
        if not found.lock or str(lock) != found.lock:
            raise _precondition(f"Deployment {name} is not locked with lock id {lock}.")
        return found

    # Revisions

    def _revision(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.revisions.get", name)
        return dict(self.records.revision(name)[1])

    def _revisions(self, context: Context) -> Answer:
        parent = _name(context).removesuffix("/revisions")
        _need(context, "config.revisions.list", parent)
        return _listed(context, "revisions", self.records.deployment(parent).revisions, parent)

    def _resources(self, context: Context) -> Answer:
        revision = _name(context).removesuffix("/resources")
        _need(context, "config.resources.list", revision)
        owner, _ = self.records.revision(revision)
        return _listed(context, "resources", owner.resources.get(revision, []), revision)

    # Previews

    def _preview(self, context: Context) -> Answer:
        parent = _name(context).removesuffix("/previews")
        _need(context, "config.previews.create", parent)
        identifier = context.request.one("previewId") or f"preview-{secrets.token_hex(6)}"
        name = f"{parent}/previews/{identifier}"
        reference = str(context.body.get("deployment") or "")
        deployment = self.records.deployment(reference) if reference else None
        base = {key: one for key, one in (deployment.document if deployment else {}).items() if key in _FIELDS[3:]}
        document = self._given(context, name, identifier, base)
        for key in ("updateTime", "annotations", "labels"):
            document.pop(key, None)
        self.records.free(name)
        document |= {key: context.body[key] for key in ("deployment", "previewMode") if key in context.body}
        document["state"] = "CREATING"
        made = self.records.previews[name] = Preview(document)
        return self.runs.start("create", name, lambda: self.runs.preview(made, deployment))

    def _preview_get(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.previews.get", name)
        return dict(self.records.preview(name).document)

    def _preview_list(self, context: Context) -> Answer:
        parent = _name(context).removesuffix("/previews")
        _need(context, "config.previews.list", parent)
        return _listed(context, "previews", [one.document for one in self.records.previews.values()], parent)

    def _preview_delete(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.previews.delete", name)
        found = self.records.preview(name)
        del self.records.previews[name]
        return self.runs.start("delete", name, lambda: {**found.document, "state": "DELETED"})

    def _preview_export(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.previews.export", name)
        found = self.records.preview(name)
        if found.document["state"] != "SUCCEEDED":
            raise _precondition(f"Preview {name} has no result: its state is {found.document['state']}.")
        uris = {
            "binarySignedUri": self._sign(context, found.binary_plan),
            "jsonSignedUri": self._sign(context, found.plan),
        }
        return {"result": uris}

    def _changes(self, context: Context) -> Answer:
        name = _name(context).removesuffix("/resourceChanges")
        _need(context, "config.resourcechanges.list", name)
        return _listed(context, "resourceChanges", self.records.preview(name).changes, name)

    def _operation(self, context: Context) -> Answer:
        name = _name(context)
        _need(context, "config.operations.get", name)
        if name not in self.records.operations:
            raise GoogleError(404, "notFound", f"Operation '{name}' was not found")
        return dict(self.records.operations[name])


def parse_names(mask: str) -> list[str]:
    """Return the fields of a comma-separated mask in the spelling of JSON."""
    parse_mask(mask)  # raises for an invalid one
    return [re.sub(r"_([a-z])", lambda found: found[1].upper(), one.strip()) for one in mask.split(",")]


def _name(context: Context) -> str:
    return unquote(context.request.path).removeprefix("/v1/").partition(":")[0]


def _need(context: Context, permission: str, name: str) -> None:
    project = "/".join(name.split("/")[:2])
    message = f"Permission '{permission}' denied on resource '//config.googleapis.com/{name}' (or it may not exist)."
    context.need(permission, project, message)


def _listed(context: Context, key: str, every: list[dict[str, Any]], parent: str) -> Answer:
    for field in ("filter", "orderBy"):
        if context.request.one(field):
            raise unimplemented(f"The parameter {field}")
    start = parent.removesuffix("-")
    found = [dict(one) for one in every if str(one["name"]).startswith(start)]
    size = min(int(context.request.one("pageSize") or _PAGE) or _PAGE, _PAGE)
    items, token = page(found, context.request.one("pageToken"), size, f"{parent}/{key}")
    return ({key: list(items)} if items else {}) | ({"nextPageToken": token} if token else {})


def _check_blueprint(blueprint: Mapping[str, Any]) -> None:
    if blueprint.get("gitSource"):
        raise unimplemented("A Git source")
    if blueprint.get("externalValues"):
        raise unimplemented("The field externalValues")
    if not _SOURCE.fullmatch(str(blueprint.get("gcsSource") or "")):
        raise invalid("terraform_blueprint needs a source: gcs_source has the form gs://{bucket}/{object}.")


def _require_unlocked(found: Deployment) -> None:
    if found.document["lockState"] != "UNLOCKED":
        raise _precondition(f"Deployment {found.name} is locked.")


def _precondition(message: str) -> GoogleError:
    return GoogleError(400, "failedPrecondition", message)
