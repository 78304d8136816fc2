"""Carries out operations on stacks, one resource after another, each in a thread of its own.

A resource is created, changed and deleted through the local AWS's own HTTP APIs, with the credentials of the caller or
of the stack's role: local permissions, limits and faults apply to each call, and the call log shows it.

The module is over 350 lines because creation, update, import, rollback and deletion are one procedure over resources.
"""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.stacks.kinds import Context, Kind, ResourceError, comparable
from localcloud.aws.stacks.records import Change, Drift, Resource, Stack, Template
from localcloud.aws.stacks.template import Evaluator, TemplateError, order, typed
from localcloud.aws.stacks.types import KINDS
from shared.runtime.clock import Clock

PENDING = "{{changeSet:KNOWN_AFTER_APPLY}}"
RETAINED = ("Retain",)
_FAILURES = (ClientError, BotoCoreError, ResourceError, TemplateError, AwsError, ValueError, KeyError)


class FailedError(Exception):
    """An operation failed at a resource; the stack has to be rolled back."""


# difference: AWS-20
class Engine:
    """All stacks, by account, region and name; deleted ones are kept by their id."""

    def __init__(self, clock: Clock, partition: str, suffix: str, sessions: Sessions) -> None:
        self._clock = clock
        self._partition = partition
        self._suffix = suffix
        self._sessions = sessions
        self._threads: list[threading.Thread] = []
        self.lock = threading.RLock()
        self.stacks: dict[tuple[str, str, str], Stack] = {}
        self.deleted: list[Stack] = []
        self.drifts: dict[str, Drift] = {}
        self.failures: dict[str, str] = {}

    # Called by the API

    def start(self, operation: Callable[..., None], *arguments: Any) -> None:
        """Run an operation in a thread of its own."""
        thread = threading.Thread(target=operation, args=arguments, daemon=True)
        with self.lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Wait until every operation has ended."""
        with self.lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(60)

    def context(self, stack: Stack) -> Context:
        """Return the clients of a stack: of its role, else of the caller of its last operation."""
        if stack.role:
            found = self._sessions.assume("cloudformation.amazonaws.com", stack.role, "AWSCloudFormation", stack.where)
        else:
            found = SimpleNamespace(access_key_id=stack.key, secret_access_key="unchecked", session_token=None)  # noqa: S106 - the local cloud checks no signature
        return Context(
            lambda service: self._sessions.client(found, service, stack.where.region),
            stack.where.account,
            stack.where.region,
            self._partition,
            stack.name,
        )

    def pseudo(self, where: Where, name: str, identity: str) -> dict[str, Any]:
        return {
            "AWS::AccountId": where.account,
            "AWS::Region": where.region,
            "AWS::Partition": self._partition,
            "AWS::URLSuffix": self._suffix,
            "AWS::StackName": name,
            "AWS::StackId": identity,
            "AWS::NotificationARNs": [],
        }

    def exports(self, where: Where, but: Stack | None = None) -> dict[str, str]:
        """Return the exported outputs of a region's stacks."""
        with self.lock:
            stacks = [one for (account, region, _), one in self.stacks.items() if (account, region) == tuple(where)]
        return {
            output["ExportName"]: output["OutputValue"]
            for one in stacks
            if one is not but
            for output in one.outputs
            if "ExportName" in output
        }

    def evaluator(self, stack: Stack, template: Template, pending: frozenset[str] = frozenset()) -> Evaluator:
        """Return an evaluator of a stack's template; `pending` are resources whose attributes are not yet known."""
        names = typed(template.document, template.values) | self.pseudo(stack.where, stack.name, stack.id)

        def reference(_evaluator: Evaluator, logical: str, attribute: str) -> Any:
            resource = stack.resources.get(logical)
            if resource is None or logical in pending or not resource.physical:
                if logical in pending:
                    return PENDING
                raise TemplateError(f"Template format error: Unresolved resource dependencies [{logical}]")
            if not attribute:
                return resource.attributes[""]
            if attribute not in resource.attributes:
                raise TemplateError(f"Requested attribute {attribute} does not exist in schema for {resource.type}")
            return resource.attributes[attribute]

        return Evaluator(template.document, names, reference, self.exports(stack.where, stack))

    def changes(
        self, stack: Stack, template: Template, imports: Mapping[str, str], tags: dict[str, str]
    ) -> list[Change]:
        """Return what changing a stack to a template would do. Raises TemplateError."""
        wanted = [one for one in order(template.document) if self._holds(stack, template, one)]
        pending = frozenset(one for one in wanted if one not in stack.resources)
        found = []
        for logical in wanted:
            resource, about = stack.resources.get(logical), template.resource(logical)
            kind = str(about["Type"])
            props = self._props(stack, template, logical, tags, pending)
            if resource is None:
                action = "Import" if logical in imports else "Add"
                found.append(Change(action, logical, kind, imports.get(logical, "")))
                continue
            if resource.type != kind:
                raise TemplateError(f"Update of resource type is not permitted. The new template modifies {logical}")
            names = tuple(
                sorted(
                    key
                    for key in {*props, *resource.props}
                    if comparable(props.get(key)) != comparable(resource.props.get(key))
                    or PENDING in json.dumps(props.get(key))
                )
            )
            policy = about.get("DeletionPolicy", "Delete") != resource.deletion
            if not names and not policy:
                continue
            fixed = tuple(one for one in names if one in self._kind(kind).fixed)
            pending |= {logical} if fixed else frozenset()
            attributes = ("DeletionPolicy",) if policy else ()
            found.append(Change("Modify", logical, kind, resource.physical, names, fixed, attributes))
        gone = [one for logical, one in stack.resources.items() if logical not in wanted]
        return found + [Change("Remove", one.logical, one.type, one.physical, (), (), (one.deletion,)) for one in gone]

    def _holds(self, stack: Stack, template: Template, logical: str) -> bool:
        return self.evaluator(stack, template).holds(template.resource(logical).get("Condition"))

    def _kind(self, name: str) -> Kind:
        if name not in KINDS:
            raise ResourceError(f"the local cloud does not carry out resources of type {name}")
        return KINDS[name]

    def _props(
        self,
        stack: Stack,
        template: Template,
        logical: str,
        tags: Mapping[str, str],
        pending: frozenset[str] = frozenset(),
    ) -> dict[str, Any]:
        """Return a resource's evaluated properties, with the stack's tags and a name. Raises ResourceError."""
        about = template.resource(logical)
        kind = self._kind(str(about["Type"]))
        props: dict[str, Any] = self.evaluator(stack, template, pending).value(about.get("Properties", {}))
        unknown = sorted(set(props) - kind.known)
        if unknown:
            raise ResourceError(f"Encountered unsupported property {unknown[0]}")
        if "Tags" in kind.known and (tags or "Tags" in props):
            own = {str(one["Key"]): str(one["Value"]) for one in props.get("Tags", [])}
            props["Tags"] = [{"Key": key, "Value": value} for key, value in sorted((dict(tags) | own).items())]
        if kind.name and kind.name not in props:
            known = stack.resources.get(logical)
            made = f"{stack.name}-{logical}-{secrets.token_hex(6).upper()}"
            made = made.lower() if kind.name == "BucketName" else made
            props[kind.name] = known.props.get(kind.name, made) if known else made
        return props

    # Operations, each in a thread of its own

    def create(self, stack: Stack, on_failure: str, imports: Mapping[str, str] | None = None) -> None:
        """Create the resources of a stack that is marked as in progress."""
        verb = "IMPORT" if imports is not None else "CREATE"
        try:
            self._make_all(stack, stack.template, imports)
        except FailedError as error:
            if imports is not None:
                stack.mark(self._now(), "IMPORT_ROLLBACK_IN_PROGRESS", str(error))
                with self.lock:
                    stack.resources.clear()
                stack.mark(self._now(), "IMPORT_ROLLBACK_COMPLETE")
            elif on_failure == "DO_NOTHING":
                stack.mark(self._now(), "CREATE_FAILED", str(error))
            elif on_failure == "DELETE":
                stack.mark(self._now(), "DELETE_IN_PROGRESS", str(error))
                self._delete_all(stack, creating=True)
                self._deleted(stack)
            else:
                self._roll_back(stack, str(error))
            return
        stack.mark(self._now(), f"{verb}_COMPLETE")

    def _roll_back(self, stack: Stack, reason: str) -> None:
        stack.mark(self._now(), "ROLLBACK_IN_PROGRESS", f"{reason} Rollback requested by user.")
        failed = self._delete_all(stack, creating=True)
        if failed:
            stack.mark(
                self._now(), "ROLLBACK_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}]."
            )
        else:
            stack.mark(self._now(), "ROLLBACK_COMPLETE")

    def _make_all(self, stack: Stack, template: Template, imports: Mapping[str, str] | None) -> None:
        for logical in order(template.document):
            if not self._holds(stack, template, logical):
                continue
            self._make(stack, template, logical, (imports or {}).get(logical) if imports is not None else None)
        self._output(stack, template)

    def _make(self, stack: Stack, template: Template, logical: str, imported: str | None = None) -> Resource:
        """Create or import one resource. Raises FailedError."""
        about = template.resource(logical)
        resource = Resource(
            logical, str(about["Type"]), "", self._now(), deletion=about.get("DeletionPolicy", "Delete")
        )
        with self.lock:
            stack.resources[logical] = resource
        verb = "IMPORT" if imported is not None else "CREATE"
        stack.mark_resource(self._now(), resource, f"{verb}_IN_PROGRESS")
        try:
            kind, at = self._kind(resource.type), self.context(stack)
            resource.props = self._props(stack, template, logical, stack.tags)
            self._fail_injected(logical)
            if imported is not None:
                if kind.read(at, imported) is None:
                    raise ResourceError(
                        f"Resource of type '{resource.type}' with identifier '{imported}' was not found."
                    )
                resource.physical = kind.imported(imported)
            else:
                taken = kind.taken(at, resource.props)
                if taken:
                    raise ResourceError(
                        f"Resource of type '{resource.type}' with identifier '{taken}' already exists. "
                        "(HandlerErrorCode: AlreadyExists)"
                    )
                try:
                    resource.physical = kind.create(at, resource.props)
                except _FAILURES:
                    # What was created before the refusal is the stack's, and its rollback deletes it.
                    with suppress(*_FAILURES):
                        resource.physical = kind.taken(at, resource.props)
                    raise
            self._learn(kind, at, resource)
        except _FAILURES as error:
            stack.mark_resource(self._now(), resource, f"{verb}_FAILED", reason_of(error))
            raise FailedError(f"The following resource(s) failed to {verb.lower()}: [{logical}].") from error
        stack.mark_resource(self._now(), resource, f"{verb}_COMPLETE")
        return resource

    def _learn(self, kind: Kind, at: Context, resource: Resource) -> None:
        attributes = kind.attributes(at, resource.physical)
        resource.attributes = {**attributes, "": kind.reference(at, resource.physical)}

    def _fail_injected(self, logical: str) -> None:
        if logical in self.failures:
            raise ResourceError(self.failures[logical])

    def _output(self, stack: Stack, template: Template) -> None:
        evaluator = self.evaluator(stack, template)
        made = []
        try:
            for name, about in template.document.get("Outputs", {}).items():
                if not evaluator.holds(about.get("Condition")):
                    continue
                output = {"OutputKey": name, "OutputValue": str(evaluator.value(about["Value"]))}
                if "Description" in about:
                    output["Description"] = str(about["Description"])
                if "Export" in about:
                    output["ExportName"] = str(evaluator.value(about["Export"]["Name"]))
                made.append(output)
        except TemplateError as error:
            raise FailedError(str(error)) from error
        with self.lock:
            stack.outputs = made

    def update(self, stack: Stack, template: Template, tags: dict[str, str], imports: Mapping[str, str] | None) -> None:
        """Change the resources of a stack that is marked as in progress."""
        verb = "IMPORT" if imports is not None else "UPDATE"
        before = (stack.template, dict(stack.tags), list(stack.outputs))
        undo: list[Callable[[], None]] = []
        cleanup: list[Resource] = []
        stack.tags = tags
        try:
            wanted = [one for one in order(template.document) if self._holds(stack, template, one)]
            for logical in wanted:
                self._renew(stack, template, logical, imports, undo, cleanup)
            self._output(stack, template)
        except FailedError as error:
            stack.template, stack.tags, stack.outputs = before
            self._undo(stack, verb, str(error), undo)
            return
        stack.template = template
        if imports is None:
            stack.mark(self._now(), "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS")
        gone = [one for logical, one in stack.resources.items() if logical not in wanted]
        for resource in (*reversed(cleanup), *reversed(gone)):
            self._delete(stack, resource, keep_record=resource in cleanup)
        stack.mark(self._now(), f"{verb}_COMPLETE")

    def _undo(self, stack: Stack, verb: str, reason: str, undo: list[Callable[[], None]]) -> None:
        prefix = "IMPORT_ROLLBACK" if verb == "IMPORT" else "UPDATE_ROLLBACK"
        stack.mark(self._now(), f"{prefix}_IN_PROGRESS", reason)
        try:
            for step in reversed(undo):
                step()
        except (*_FAILURES, FailedError) as error:
            stack.mark(self._now(), f"{prefix}_FAILED", reason_of(error))
            return
        if verb == "UPDATE":
            stack.mark(self._now(), "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
        stack.mark(self._now(), f"{prefix}_COMPLETE")

    def _renew(
        self,
        stack: Stack,
        template: Template,
        logical: str,
        imports: Mapping[str, str] | None,
        undo: list[Callable[[], None]],
        cleanup: list[Resource],
    ) -> None:
        """Bring one resource to the template. Raises FailedError."""
        resource = stack.resources.get(logical)
        if resource is None:
            undo.append(lambda: self._forget(stack, logical, delete=imports is None))
            self._make(stack, template, logical, (imports or {}).get(logical) if imports is not None else None)
            return
        old = dict(resource.props)
        try:
            props = self._props(stack, template, logical, stack.tags)
        except (*_FAILURES,) as error:
            stack.mark_resource(self._now(), resource, "UPDATE_FAILED", reason_of(error))
            raise FailedError(f"The following resource(s) failed to update: [{logical}].") from error
        resource.deletion = template.resource(logical).get("DeletionPolicy", "Delete")
        if comparable(old) == comparable(props):
            return
        kind = self._kind(resource.type)
        if any(comparable(old.get(one)) != comparable(props.get(one)) for one in kind.fixed):
            self._replace(stack, template, resource, props, undo, cleanup)
            return
        stack.mark_resource(self._now(), resource, "UPDATE_IN_PROGRESS")
        undo.append(lambda: self._revert(stack, resource, props, old))
        try:
            self._fail_injected(logical)
            at = self.context(stack)
            kind.update(at, resource.physical, old, props)
            resource.props = props
            self._learn(kind, at, resource)
        except _FAILURES as error:
            stack.mark_resource(self._now(), resource, "UPDATE_FAILED", reason_of(error))
            raise FailedError(f"The following resource(s) failed to update: [{logical}].") from error
        stack.mark_resource(self._now(), resource, "UPDATE_COMPLETE")

    def _replace(
        self,
        stack: Stack,
        template: Template,
        old: Resource,
        props: Mapping[str, Any],
        undo: list[Callable[[], None]],
        cleanup: list[Resource],
    ) -> None:
        kind, logical = self._kind(old.type), old.logical
        if kind.name in template.resource(logical).get("Properties", {}) and old.props.get(kind.name) == props.get(
            kind.name
        ):
            reason = (
                "CloudFormation cannot update a stack when a custom-named resource requires replacing. "
                f"Rename {old.props.get(kind.name)} and update the stack again."
            )
            stack.mark_resource(self._now(), old, "UPDATE_FAILED", reason)
            raise FailedError(f"The following resource(s) failed to update: [{logical}].")
        reason = "Requested update requires the creation of a new physical resource; hence creating one."
        stack.mark_resource(self._now(), old, "UPDATE_IN_PROGRESS", reason)

        def restore() -> None:
            self._forget(stack, logical, delete=True)
            with self.lock:
                stack.resources[logical] = old

        undo.append(restore)
        self._make(stack, template, logical)
        if template.resource(logical).get("UpdateReplacePolicy", "Delete") not in RETAINED:
            cleanup.append(old)

    def _revert(self, stack: Stack, resource: Resource, new: dict[str, Any], old: dict[str, Any]) -> None:
        stack.mark_resource(self._now(), resource, "UPDATE_IN_PROGRESS")
        self._kind(resource.type).update(self.context(stack), resource.physical, new, old)
        resource.props = old
        stack.mark_resource(self._now(), resource, "UPDATE_COMPLETE")

    def _forget(self, stack: Stack, logical: str, *, delete: bool) -> None:
        resource = stack.resources[logical]
        if delete and resource.physical:
            self._delete(stack, resource, creating=True, keep_record=True)
        with self.lock:
            stack.resources.pop(logical, None)

    def delete(self, stack: Stack, retain: frozenset[str]) -> None:
        """Delete the resources of a stack that is marked as in progress."""
        used = sorted(set(self._own_exports(stack)) & self._imported(stack))
        if used:
            stack.mark(
                self._now(), "DELETE_FAILED", f"Export {used[0]} cannot be deleted as it is in use by another stack"
            )
            return
        failed = self._delete_all(stack, retain=retain)
        if failed:
            stack.mark(
                self._now(), "DELETE_FAILED", f"The following resource(s) failed to delete: [{', '.join(failed)}]. "
            )
            return
        self._deleted(stack)

    def _own_exports(self, stack: Stack) -> list[str]:
        return [one["ExportName"] for one in stack.outputs if "ExportName" in one]

    def _imported(self, but: Stack) -> set[str]:
        with self.lock:
            texts = [one.template.body for one in self.stacks.values() if one is not but and one.where == but.where]
        return {
            name for name in self._own_exports(but) if any("ImportValue" in text and name in text for text in texts)
        }

    def _deleted(self, stack: Stack) -> None:
        stack.deleted = self._now()
        stack.mark(self._now(), "DELETE_COMPLETE")
        with self.lock:
            self.stacks.pop((*stack.where, stack.name), None)
            self.deleted.append(stack)

    def _delete_all(self, stack: Stack, *, creating: bool = False, retain: frozenset[str] = frozenset()) -> list[str]:
        """Delete the resources, dependent ones first, and return the logical ids of those that could not be deleted."""
        places = {logical: place for place, logical in enumerate(order(stack.template.document))}
        resources = sorted(stack.resources.values(), key=lambda one: places.get(one.logical, 0), reverse=True)
        failed = []
        for resource in resources:
            if resource.logical in retain:
                stack.mark_resource(self._now(), resource, "DELETE_SKIPPED")
            elif resource.physical and not self._delete(stack, resource, creating=creating, keep_record=True):
                failed.append(resource.logical)
        return failed

    def _delete(self, stack: Stack, resource: Resource, *, creating: bool = False, keep_record: bool = False) -> bool:
        """Delete one resource unless its policy retains it. Returns whether it is gone from the stack."""
        if resource.status == "DELETE_COMPLETE":
            return True
        if resource.deletion == "Retain" or (resource.deletion == "RetainExceptOnCreate" and not creating):
            stack.mark_resource(self._now(), resource, "DELETE_SKIPPED")
        else:
            stack.mark_resource(self._now(), resource, "DELETE_IN_PROGRESS")
            try:
                self._kind(resource.type).delete(self.context(stack), resource.physical, resource.props)
            except _FAILURES as error:
                stack.mark_resource(self._now(), resource, "DELETE_FAILED", reason_of(error))
                return False
            stack.mark_resource(self._now(), resource, "DELETE_COMPLETE")
        if not keep_record:
            with self.lock:
                stack.resources.pop(resource.logical, None)
        return True

    def detect(self, drift: Drift, logicals: frozenset[str]) -> None:
        """Compare the live resources with their properties; an empty set means all."""
        stack = drift.stack
        try:
            at = self.context(stack)
            for resource in list(stack.resources.values()):
                if not logicals or resource.logical in logicals:
                    self._compare(at, resource)
        except _FAILURES as error:
            drift.status, drift.reason = "DETECTION_FAILED", reason_of(error)
            return
        found = {one.drift for one in stack.resources.values()}
        stack.drift = "DRIFTED" if found & {"MODIFIED", "DELETED"} else "IN_SYNC"
        stack.drift_at = self._now()
        drift.status = "DETECTION_COMPLETE"

    def _compare(self, at: Context, resource: Resource) -> None:
        actual = self._kind(resource.type).read(at, resource.physical)
        resource.drift_at, resource.differences = self._now(), []
        if actual is None:
            resource.drift, resource.actual = "DELETED", {}
            return
        resource.actual = actual
        for name, wanted in sorted(resource.props.items()):
            if name not in actual:
                continue
            expected, live = comparable(wanted), comparable(actual[name])
            if expected != live:
                kind = "REMOVE" if live is None else "NOT_EQUAL"
                resource.differences.append(
                    {
                        "PropertyPath": f"/{name}",
                        "ExpectedValue": json.dumps(expected),
                        "ActualValue": json.dumps(live),
                        "DifferenceType": kind,
                    }
                )
        resource.drift = "MODIFIED" if resource.differences else "IN_SYNC"

    def _now(self) -> Any:
        return self._clock.now()


def reason_of(error: Exception) -> str:
    """Return the status reason of a failed call."""
    if isinstance(error, ClientError):
        about = error.response.get("Error", {})
        service = "Service"
        return f"{about.get('Message', '')} ({service}: {error.operation_name}, Error Code: {about.get('Code', '')})"
    if isinstance(error, KeyError):
        return f"Properties validation failed: required key [{error.args[0]}] not found"
    return str(error)
