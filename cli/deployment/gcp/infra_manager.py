"""Infrastructure Manager as the engine of a deployment: Google runs the module, and keeps the state.

A plan is a preview, whose result is Terraform's own plan. Google runs both as a service account of the project, which
holds the operator's roles and roles/config.agent; see docs/gcp.md. Sources: the discovery document of
config.googleapis.com v1; "Manage the Terraform state file" and "Configure the service account", Infrastructure Manager.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli.deployment.engine import Plan, Planning, Variable
from cli.deployment.gcp import adopt, backend, blueprint, rights
from cli.deployment.gcp.functions import environment_of
from cli.deployment.gcp.infra_manager_rest import InfraManagerRest
from cli.deployment.gcp.session import Session, translated
from cli.deployment.model import Adoption, Change, Kept, OperatorError, Problem
from cli.deployment.operator import Tell
from cli.deployment.terraform import root_module
from cli.deployment.terraform.binary import BINARIES, changes_of, granted_in, types_of
from cli.deployment.terraform.engine import show_adoptions
from cli.deployment.terraform.variables import OWN
from cli.deployment.terraform.workspace import require_good_values
from cli.packaging import archive
from gcp_function.targets import MANAGED_BY, MANAGER

VERSION = "=1.5.7"
FOLDER = "blueprints"
# What a removal deletes where the deployment holds no resource: the deployment.
ITSELF = (f"{root_module.ADDRESS}deployment",)
# A root module without resources.
EMPTY = b'terraform {\n  required_version = ">= 1.5"\n}\n'


@dataclass(frozen=True)
class InfraPlan:
    """A plan of Infrastructure Manager's: `body` is the deployment to apply; None if it is to be deleted."""

    changes: Sequence[Change]
    types: Sequence[str] = ()
    granted: Mapping[str, Sequence[str]] | None = None
    body: Mapping[str, Any] | None = None

    @property
    def empty(self) -> bool:
        return not self.changes


class InfraManager:
    """Implements `cli.deployment.engine.Engine` for one deployment, which has the name of the function.

    `source` is the folder of the module.
    """

    precious = frozenset({"google_bigquery_dataset", "google_storage_bucket"})
    alarm = "google_monitoring_alert_policy"

    def __init__(
        self, session: Session, sleep: Callable[[float], None] = time.sleep, source: Path = blueprint.SOURCE
    ) -> None:
        self._session = session
        self._source = source
        self._uploads: list[str] = []
        self._rest = InfraManagerRest(session, sleep)
        self.title = f"deployment {session.function} of Infrastructure Manager"

    def check(self, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:
        # Without Terraform on this machine, the preview applies the same rules before anything is created.
        if any(shutil.which(name) for name in BINARIES):
            require_good_values("gcp", variables, values)
        with translated():
            self._rest.require_ready()
            rights.require_native(self._session)

    @translated()
    def plan(self, wanted: Planning) -> InfraPlan:
        self._require_bucket(wanted)
        self._rest.wait_until_idle(wanted.tell)
        try:
            return self._planned(wanted)
        finally:
            if wanted.dry_run:
                self._remove_uploads()

    def _planned(self, wanted: Planning) -> InfraPlan:
        exists = self._rest.find() is not None
        content = blueprint.files((wanted.folder / str(wanted.values["package"])).read_bytes(), self._source)
        inputs = {name: {"inputValue": one} for name, one in wanted.values.items() if name not in OWN}
        adopted: list[Adoption] = []
        while True:
            wanted.say("Infrastructure Manager makes a preview, which takes minutes")
            body = self._body(self._upload(wanted.folder, content), inputs)
            document = self._rest.preview(body, exists)
            changes = tuple(changes_of(document))
            created = [one for one in changes if one.actions == ("create",)]
            found = list(adopt.adoptions(self._session, created)) if created else []
            if not found:
                return InfraPlan(changes, tuple(types_of(document)), granted_in(document), body)
            show_adoptions(wanted, found)
            adopted += found
            content[root_module.IMPORTS] = json.dumps(root_module.imports(adopted), indent=2).encode()

    @translated()
    def apply(self, plan: Plan, tell: Tell) -> None:
        if not isinstance(plan, InfraPlan):
            raise TypeError(f"{type(plan).__name__} is not a plan of Infrastructure Manager's")
        if plan.body is None:
            self._rest.delete()
            tell(f"{self.title} is deleted, with everything that it held")
            return
        for one in self._rest.apply(plan.body):
            if one.get("intent") not in (None, "UNCHANGED"):
                info = one.get("terraformInfo", {})
                tell(f"{info.get('address')}: {str(one['intent']).lower()}, {str(one.get('state')).lower()}")

    @translated()
    def addresses(self) -> list[str]:
        return self._rest.addresses()

    @translated()
    def outputs(self) -> dict[str, Any]:
        with self._rest.locked() as lock:
            found = lock.state().get("outputs", {})
        return {name: one.get("value") for name, one in found.items()}

    @translated()
    def removal(self, kept: Sequence[Kept]) -> list[Change]:
        held = self._rest.addresses()
        if not held and self._rest.find() is None and environment_of(self._session) is not None:
            raise OperatorError(
                Problem(
                    "a function is deployed here, and Infrastructure Manager holds nothing of it",
                    "Use the engine that deployed it, or run `tailpipe-exports deploy gcp --with native`, which adopts "
                    "existing resources; after it this command works.",
                )
            )
        gone = [one for one in held if not _is_kept(one, kept)]
        return _deletions(gone or (ITSELF if self._rest.find() is not None else ()))

    @translated()
    def plan_removal(self, kept: Sequence[Kept]) -> InfraPlan:
        # A removal that was interrupted goes on at Google's, and ends with the deployment.
        self._rest.wait_until_idle(lambda _line: None)
        if self._rest.find() is None:
            return InfraPlan(())
        with self._rest.locked() as lock:
            state = lock.state()
            remaining = without(state, lambda address: _is_kept(address, kept))
            if remaining["resources"] != state["resources"]:
                lock.put(remaining)
        return InfraPlan(_deletions(addresses_in(remaining) or ITSELF))

    @translated()
    def begin(self, wanted: Planning) -> None:
        """Create the deployment without resources unless it exists, so that it can take a state over."""
        self._require_bucket(wanted)
        self._rest.wait_until_idle(wanted.tell)
        if self._rest.find() is None:
            self._rest.apply(self._body(self._upload(wanted.folder, {"main.tf": EMPTY}), {}))

    @translated()
    def state(self) -> dict[str, Any]:
        """Return Terraform's state as Infrastructure Manager has it."""
        with self._rest.locked() as lock:
            return lock.state()

    @translated()
    def take_over(self, state: Mapping[str, Any]) -> None:
        """Replace the deployment's state by this one, with the lineage that the deployment has."""
        with self._rest.locked() as lock:
            own = lock.state()
            serial = max(int(own.get("serial", 0)), int(state.get("serial", 0))) + 1
            lock.put({**state, "serial": serial, "lineage": own.get("lineage") or state.get("lineage", "")})

    @translated()
    def abandon(self) -> None:
        """Delete the deployment and leave its resources as they are."""
        self._rest.abandon()

    def left(self) -> str:
        return f"the uploaded blueprints stay in bucket {backend.bucket_of(self._session)} below {FOLDER}/"

    @translated()
    def held(self) -> bool:
        """Return whether this deployment exists; False where Infrastructure Manager is off or not visible."""
        return self._rest.exists()

    def _body(self, source: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "serviceAccount": f"projects/{self._session.project}/serviceAccounts/{self._rest.account}",
            "labels": {MANAGED_BY: MANAGER},
            "tfVersionConstraint": VERSION,
            "terraformBlueprint": {"gcsSource": source, "inputValues": dict(inputs)},
        }

    def _require_bucket(self, wanted: Planning) -> None:
        bucket = backend.bucket_of(self._session)
        if backend.exists(self._session):
            return
        if wanted.dry_run:
            where = self._session.given.get("dataset_location") or "US"
            raise OperatorError(
                Problem(
                    f"a preview reads the blueprint from bucket {bucket}, which does not exist, and a dry run creates "
                    "nothing",
                    f"Run: gcloud storage buckets create gs://{bucket} --project={self._session.project} "
                    f"--location={where} --uniform-bucket-level-access --public-access-prevention - or deploy.",
                )
            )
        backend.make(self._session, wanted.tell)

    def _upload(self, folder: Path, content: Mapping[str, bytes]) -> str:
        """Upload the blueprint, and return its address with the version that was written."""
        path = folder / "blueprint.zip"
        digest = archive.write(path, content)
        bucket, name = backend.bucket_of(self._session), f"{FOLDER}/{self._session.function}-{digest[:16]}.zip"
        written = f"storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        made = self._session.google.find("storage", written)
        if made is None:
            made = self._session.google.upload(bucket, name, path.read_bytes())
            self._uploads.append(written)
        return f"gs://{bucket}/{name}#{made['generation']}"

    def _remove_uploads(self) -> None:
        for path in self._uploads:
            self._session.google.delete("storage", path)


def _deletions(addresses: Sequence[str]) -> list[Change]:
    return [Change(one, one.removeprefix(root_module.ADDRESS).partition(".")[0], ("delete",), {}) for one in addresses]


def _is_kept(address: str, kept: Sequence[Kept]) -> bool:
    return address.startswith(tuple(f"{root_module.ADDRESS}{part}" for one in kept for part in one.addresses))


def addresses_in(state: Mapping[str, Any]) -> list[str]:
    """Return the addresses of the managed resources in a state file."""
    return [address for one in state.get("resources", ()) for address, _ in _instances(one) if one["mode"] == "managed"]


def without(state: Mapping[str, Any], leaves: Callable[[str], bool]) -> dict[str, Any]:
    """Return a state file without the resources whose address `leaves`, as the next version of it."""
    resources = []
    for one in state.get("resources", ()):
        kept = [instance for address, instance in _instances(one) if not leaves(address)]
        if kept:
            resources.append({**one, "instances": kept})
    return {**state, "serial": int(state.get("serial", 0)) + 1, "resources": resources}


def _instances(resource: Mapping[str, Any]) -> list[tuple[str, Any]]:
    start = f"{resource['module']}." if resource.get("module") else ""
    start += "data." if resource["mode"] == "data" else ""
    found = []
    for one in resource.get("instances", ()):
        key = one.get("index_key")
        index = "" if key is None else f"[{json.dumps(key)}]"
        found.append((f"{start}{resource['type']}.{resource['name']}{index}", one))
    return found
