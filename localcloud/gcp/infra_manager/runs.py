"""The work behind Infrastructure Manager's operations, each in a thread of its own.

Infrastructure Manager runs Terraform in Cloud Build as the service account of the deployment: the account reads the
blueprint, writes its artifacts to a bucket of the project, and calls the APIs of the resources.
"""

from __future__ import annotations

import io
import json
import os
import secrets
import threading
import traceback
import zipfile
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from localcloud.gcp.errors import GoogleError, unimplemented
from localcloud.gcp.iam.policies import ISSUED
from localcloud.gcp.infra_manager.records import Deployment, Preview, Records, changes_of, resources_of
from localcloud.gcp.infra_manager.terraform_run import Run, binary, run
from localcloud.gcp.services.buckets import Bucket, new_document
from localcloud.gcp.services.object_files import read
from localcloud.gcp.services.objects import Conditions, ObjectStore, rfc3339
from localcloud.gcp.state import World

TOKEN_LIFE = timedelta(hours=1)
# Variables of this process that would give Terraform another identity or other values.
_OTHERS = (
    "GOOGLE_OAUTH_ACCESS_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "CLOUDSDK_",
    "TF_VAR_",
    "TF_CLI_ARGS",
    "TF_DATA",
)
# What roles/config.agent gives the service account, without which Cloud Build cannot run.
_BUILD = "logging.logEntries.create"
Environment = Callable[[], Mapping[str, str]]


class BuildRefused(Exception):
    """The build could not begin; `code` is the error code of previews and revisions."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Runs:
    """Starts operations, and waits for them at the end. `environment` returns what the APIs' clients need."""

    def __init__(self, world: World, records: Records, environment: Environment) -> None:
        self._world = world
        self._records = records
        self._environment = environment
        self._threads: list[threading.Thread] = []

    def close(self) -> None:
        """Wait for the operations in progress."""
        for thread in self._threads:
            thread.join()

    def start(self, verb: str, target: str, work: Callable[[], Mapping[str, Any]]) -> dict[str, Any]:
        """Begin an operation and return it, not done. `work` returns the response, or raises GoogleError."""
        name = f"{'/'.join(target.split('/')[:4])}/operations/operation-{secrets.token_hex(8)}"
        metadata = {
            "@type": "type.googleapis.com/google.cloud.config.v1.OperationMetadata",
            "createTime": self._now(), "target": target, "verb": verb, "apiVersion": "v1",
        }  # fmt: skip
        operation: dict[str, Any] = {"name": name, "metadata": metadata, "done": False}
        self._records.operations[name] = operation

        def carry_out() -> None:
            try:
                result: dict[str, Any] = {"response": dict(work())}
            except GoogleError as error:
                result = {"error": {"code": 9, "message": error.message}}
            except Exception:  # noqa: BLE001 - an internal error is the operation's result, never a lost thread
                result = {
                    "error": {"code": 13, "message": f"The local cloud failed:\n{traceback.format_exc()[-2000:]}"}
                }
            with self._world.lock:
                metadata["endTime"] = self._now()
                operation.update({**result, "done": True})

        thread = threading.Thread(target=carry_out, name=name.rpartition("/")[2], daemon=True)
        self._threads.append(thread)
        thread.start()
        return {**operation, "metadata": dict(metadata)}

    def apply(self, deployment: Deployment, action: str) -> dict[str, Any]:
        """Apply the deployment's blueprint as a new revision, and return the deployment."""
        with self._world.lock:
            document = deployment.document
            revision = self._revision(deployment, action)
        outcome: Run | BuildRefused
        try:
            outcome = self._terraform("apply", document, deployment.state)
        except BuildRefused as refusal:
            outcome = refusal
        with self._world.lock:
            if isinstance(outcome, BuildRefused):
                failed, detail = outcome.code, outcome.detail
            else:
                failed = "APPLY_BUILD_RUN_FAILED" if outcome.problems else ""
                detail = "; ".join(one["errorDescription"] for one in outcome.problems)
                deployment.state = outcome.state
                deployment.resources[revision["name"]] = resources_of(revision["name"], outcome)
                revision["logs"] = self._artifact(document, revision["name"], "apply.log", outcome.log.encode())
                revision["applyResults"] = {"outputs": _outputs(outcome.outputs)}
                if outcome.problems:
                    revision["tfErrors"] = list(outcome.problems)
            revision |= {"state": "FAILED" if failed else "APPLIED", "updateTime": self._now()}
            document |= {"state": "FAILED" if failed else "ACTIVE", "updateTime": self._now(), "lockState": "UNLOCKED"}
            document["latestRevision"] = revision["name"]
            document.pop("errorCode", None)
            document.pop("stateDetail", None)
            if failed:
                revision |= {"errorCode": failed, "stateDetail": detail}
                document |= {"errorCode": "REVISION_FAILED", "stateDetail": f"revision failed: {detail}"}
            return dict(document)

    def delete(self, deployment: Deployment, policy: str) -> dict[str, Any]:
        """Destroy the resources unless the policy is ABANDON, and remove the deployment if that succeeds."""
        document = deployment.document
        try:
            outcome = None if policy == "ABANDON" else self._terraform("destroy", document, deployment.state)
        except BuildRefused as refusal:
            return self._not_deleted(deployment, "DELETE_BUILD_API_FAILED", refusal.detail)
        if outcome is not None and outcome.problems:
            with self._world.lock:
                deployment.state = outcome.state
                document["tfErrors"] = list(outcome.problems)
            detail = "; ".join(one["errorDescription"] for one in outcome.problems)
            return self._not_deleted(deployment, "DELETE_BUILD_RUN_FAILED", detail)
        with self._world.lock:
            del self._records.deployments[deployment.name]
            return {**document, "state": "DELETED", "lockState": "UNLOCKED"}

    def _not_deleted(self, deployment: Deployment, code: str, detail: str) -> dict[str, Any]:
        with self._world.lock:
            deployment.document |= {
                "state": "FAILED",
                "errorCode": code,
                "stateDetail": detail,
                "lockState": "UNLOCKED",
            }
            return dict(deployment.document)

    def preview(self, preview: Preview, deployment: Deployment | None) -> dict[str, Any]:
        """Plan the blueprint, on the state of the deployment if there is one, and return the preview."""
        document = preview.document
        verb = "plan-destroy" if document.get("previewMode") == "DELETE" else "plan"
        try:
            _require_unlocked(deployment)
            outcome = self._terraform(verb, document, deployment.state if deployment else b"")
        except BuildRefused as refusal:
            with self._world.lock:
                document |= {"state": "FAILED", "errorCode": refusal.code}
                document["errorStatus"] = {"code": 9, "message": refusal.detail}
                return dict(document)
        with self._world.lock:
            document["logs"] = self._artifact(document, document["name"], "plan.log", outcome.log.encode())
            if outcome.problems:
                detail = "; ".join(one["errorDescription"] for one in outcome.problems)
                document |= {"state": "FAILED", "errorCode": "PREVIEW_BUILD_RUN_FAILED"}
                document |= {"tfErrors": list(outcome.problems), "errorStatus": {"code": 9, "message": detail}}
            else:
                document["state"] = "SUCCEEDED"
                preview.plan, preview.binary_plan = _encoded(outcome.plan), outcome.binary_plan
                preview.changes = changes_of(document["name"], outcome.plan)
            return dict(document)

    def require_terraform(self) -> None:
        """Raise GoogleError 501 on a machine without Terraform."""
        if binary() is None:
            raise unimplemented("Infrastructure Manager without terraform or tofu on the PATH")

    def _revision(self, deployment: Deployment, action: str) -> dict[str, Any]:
        copied = ("terraformBlueprint", "serviceAccount", "tfVersion", "tfVersionConstraint")
        revision = {
            "name": f"{deployment.name}/revisions/r-{len(deployment.revisions)}",
            "createTime": self._now(), "updateTime": self._now(), "action": action, "state": "APPLYING",
            **{key: deployment.document[key] for key in copied if key in deployment.document},
        }  # fmt: skip
        deployment.revisions.append(revision)
        return revision

    def _terraform(self, verb: str, document: Mapping[str, Any], state: bytes) -> Run:
        with self._world.lock:
            account = str(document["serviceAccount"]).rpartition("/")[2]
            blueprint = document["terraformBlueprint"]
            self._require_build(document, account)
            content = self._blueprint(blueprint, account)
            token = f"{ISSUED}terraform.{secrets.token_urlsafe(24)}"
            self._world.iam.issue(token, account, self._world.clock.now() + TOKEN_LIFE)
        # difference: GCP-25
        values = {name: one.get("inputValue") for name, one in blueprint.get("inputValues", {}).items()}
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OTHERS)}
        given = {name: value for name, value in self._environment().items() if not name.startswith(_OTHERS)}
        environment = {**inherited, **given, "GOOGLE_OAUTH_ACCESS_TOKEN": token}
        return run(verb, content, values, state, environment, self._world.folder)

    def _require_build(self, document: Mapping[str, Any], account: str) -> None:
        """Create the bucket of the artifacts if necessary. Raises BuildRefused without the agent's permissions."""
        project = str(document["name"]).split("/")[1]
        chain = self._world.chain(f"projects/{project}")
        if not self._world.iam.allows(account, _BUILD, chain):
            raise BuildRefused(
                "CLOUD_BUILD_PERMISSION_DENIED",
                f"Service account {account} needs roles/config.agent on project {project}.",
            )
        name = self._artifacts(document)
        if name in self._world.buckets.all:
            return
        if not self._world.iam.allows(account, "storage.buckets.create", chain):
            raise BuildRefused(
                "BUCKET_CREATION_PERMISSION_DENIED", f"{account} does not have storage.buckets.create access to {name}."
            )
        number, now = self._world.projects.all[project].number, self._world.clock.now()
        body = {"name": name, "location": str(document["name"]).split("/")[3]}
        self._world.buckets.add(Bucket(project, new_document(body, number, now), ObjectStore(), now))

    def _artifacts(self, document: Mapping[str, Any]) -> str:
        """Return the bucket of the artifacts. Source: "Deployments, revisions, and previews overview"."""
        given = str(document.get("artifactsGcsBucket") or "").removeprefix("gs://").partition("/")[0]
        _, project, _, location, *_ = str(document["name"]).split("/")
        return given or f"{self._world.projects.all[project].number}-{location}-blueprint-config"

    def _artifact(self, document: Mapping[str, Any], owner: str, name: str, content: bytes) -> str:
        """Store an artifact and return its URL."""
        bucket, path = self._artifacts(document), f"{'/'.join(owner.split('/')[4:])}/{name}"
        stored, now = self._world.spool.keep(content), self._world.clock.now()
        self._world.buckets.all[bucket].objects.put(path, stored, {}, Conditions(), now)
        return f"gs://{bucket}/{path}"

    def _blueprint(self, blueprint: Mapping[str, Any], account: str) -> bytes:
        """Return the blueprint as a zip file, read as the service account. Raises BuildRefused if it may not."""
        source = str(blueprint["gcsSource"])
        bucket_name, _, path = source.removeprefix("gs://").partition("/")
        name, _, generation = path.partition("#")
        resource = f"buckets/{bucket_name}/objects/{name}"
        if not self._world.iam.allows(account, "storage.objects.get", self._world.chain(resource)):
            raise BuildRefused(
                "CLOUD_BUILD_PERMISSION_DENIED", f"{account} does not have storage.objects.get on {source}."
            )
        bucket = self._world.buckets.all.get(bucket_name)
        found = bucket.objects.find(name, int(generation) if generation else None) if bucket else None
        if found is not None:
            return read(found.content)
        prefix = f"{name.rstrip('/')}/" if name else ""
        names = bucket.objects.names(prefix) if bucket and not generation else []
        if bucket is None or not names:
            raise BuildRefused("APPLY_BUILD_API_FAILED", f"The blueprint {source} does not exist.")
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for one in names:
                archive.writestr(one.removeprefix(prefix), read(bucket.objects.get(bucket_name, one).content))
        return buffer.getvalue()

    def _now(self) -> str:
        return rfc3339(self._world.clock.now())


def _require_unlocked(deployment: Deployment | None) -> None:
    if deployment is not None and deployment.document["lockState"] != "UNLOCKED":
        raise BuildRefused("DEPLOYMENT_LOCK_ACQUIRE_FAILED", f"Deployment {deployment.name} is locked.")


def _outputs(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs as ApplyResults shows them; a sensitive one has no value there."""
    return {
        name: {"sensitive": bool(one["sensitive"]), **({} if one["sensitive"] else {"value": one["value"]})}
        for name, one in outputs.items()
    }


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document).encode()
