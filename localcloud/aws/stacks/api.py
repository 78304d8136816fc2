"""CloudFormation's operations on stacks that change something: stacks, change sets, detection of drift.

The module is over 350 lines because each operation checks what is documented for it before anything changes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from botocore.exceptions import ClientError

from localcloud.aws.arns import Where
from localcloud.aws.errors import AwsError
from localcloud.aws.iam.caller import Caller, Handler
from localcloud.aws.iam.sessions import Sessions
from localcloud.aws.stacks.engine import Engine
from localcloud.aws.stacks.kinds import ResourceError
from localcloud.aws.stacks.reads import Reads, find
from localcloud.aws.stacks.records import REVIEW, UPDATABLE, ChangeSet, Drift, Stack, Template
from localcloud.aws.stacks.template import (
    Evaluator,
    TemplateError,
    UnsupportedError,
    check,
    check_parameters,
    parameters,
    read,
    typed,
    unresolved,
)
from localcloud.aws.stacks.types import KINDS
from shared.runtime.clock import Clock

LONGEST_BODY, LONGEST_FILE = 51_200, 1_048_576
LONGEST_NAME = 128
NO_CHANGES = "The submitted information didn't contain changes. Submit different information to create a change set."
_NAME = "[a-zA-Z][-a-zA-Z0-9]*"
_IAM = ("AWS::IAM::",)
_NAMES_OF_IAM = ("RoleName", "PolicyName", "ManagedPolicyName", "UserName", "GroupName")
_HOST = re.compile(r"^(?:(?P<bucket>[a-z0-9.-]+)\.)?s3[.-][a-z0-9-]*\.?amazonaws\.com")
# What an import cannot find out.
IMPORTABLE = {name: kind.identifier for name, kind in KINDS.items() if kind.identifier}


def refuse(message: str) -> AwsError:
    """Return the error of an invalid request."""
    return AwsError("ValidationError", message, 400)


_TEMPLATE = ("StackName", "TemplateBody", "TemplateURL", "Parameters", "Capabilities", "RoleARN", "Tags")
# The parameters that each change takes into account, beside the tokens of repeated requests; others are refused.
_TAKEN = {
    "CreateStack": (*_TEMPLATE, "DisableRollback", "OnFailure", "TimeoutInMinutes", "EnableTerminationProtection"),
    "UpdateStack": (*_TEMPLATE, "UsePreviousTemplate"),
    "DeleteStack": ("StackName", "RetainResources", "RoleARN"),
    "CreateChangeSet": (
        *(*_TEMPLATE, "UsePreviousTemplate", "ChangeSetName", "ChangeSetType", "Description", "OnStackFailure"),
        "ResourcesToImport",
    ),
    "ExecuteChangeSet": ("StackName", "ChangeSetName", "DisableRollback"),
    "DeleteChangeSet": ("StackName", "ChangeSetName"),
    "DetectStackDrift": ("StackName", "LogicalResourceIds"),
}
_TOKENS = ("ClientRequestToken", "ClientToken")


def _checked(operation: str, handler: Handler) -> Handler:
    """Return a handler that refuses a name which no stack can have, as AWS does, and parameters that it would ignore.

    Sources: CreateStack in the CloudFormation API Reference; the words in hashicorp/terraform-provider-aws#42668
    (creation) and aws/aws-toolkit-vscode#1427 (the operations that also take an id).
    """
    pattern = _NAME if operation == "CreateStack" else f"{_NAME}|arn:[-a-zA-Z0-9:/._+]*"

    def handle(caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        ignored = [one for one in params if params[one] and one not in (*_TAKEN.get(operation, params), *_TOKENS)]
        if ignored:
            raise AwsError("NotImplemented", f"the local cloud does not offer {ignored[0]} of {operation}", 501)
        name = str(params.get("StackName", ""))
        if not name:
            return handler(caller, params)
        broken = [] if re.fullmatch(pattern, name) else [f"satisfy regular expression pattern: {pattern}"]
        if len(name) > LONGEST_NAME and not name.startswith("arn:"):
            broken.append(f"have length less than or equal to {LONGEST_NAME}")
        if broken:
            found = [f"Value '{name}' at 'stackName' failed to satisfy constraint: Member must {one}" for one in broken]
            errors = "error" if len(found) == 1 else "errors"
            raise refuse(f"{len(found)} validation {errors} detected: {'; '.join(found)}")
        return handler(caller, params)

    return handle


class StacksApi:
    """Maps operation names to handlers, which must not hold the lock of the state: they call this cloud themselves."""

    def __init__(self, engine: Engine, sessions: Sessions, clock: Clock, partition: str) -> None:
        self._engine = engine
        self._sessions = sessions
        self._clock = clock
        self._partition = partition
        handlers: dict[str, Callable[[Caller, dict[str, Any]], dict[str, Any]]] = {
            "CreateStack": self._create,
            "UpdateStack": self._update,
            "DeleteStack": self._delete,
            "CreateChangeSet": self._create_change_set,
            "ExecuteChangeSet": self._execute,
            "DeleteChangeSet": self._delete_change_set,
            "DetectStackDrift": self._detect,
            "UpdateTerminationProtection": self._protect,
            "ValidateTemplate": self._validate,
            "GetTemplateSummary": self._summary,
        }
        every: dict[str, Handler] = {**handlers, **Reads(engine).operations}
        self.operations: dict[str, Handler] = {name: _checked(name, handler) for name, handler in every.items()}

    # Requests

    def _body(self, caller: Caller, params: Mapping[str, Any], previous: Stack | None) -> str:
        if params.get("UsePreviousTemplate"):
            if previous is None:
                raise refuse("UsePreviousTemplate cannot be used for a stack that does not exist")
            return previous.template.body
        if ("TemplateBody" in params) == ("TemplateURL" in params):
            raise refuse("Either Template URL or Template Body must be specified.")
        if "TemplateURL" in params:
            return self._file(caller, str(params["TemplateURL"]))
        body = str(params["TemplateBody"])
        if len(body.encode()) > LONGEST_BODY:
            raise refuse(f"1 validation error detected: Member 'templateBody' must have length at most {LONGEST_BODY}")
        return body

    def _file(self, caller: Caller, url: str) -> str:
        """Return a template from a bucket, read with the caller's credentials."""
        parts = urlsplit(url)
        path = unquote(parts.path).lstrip("/")
        host = _HOST.match(parts.netloc)
        if parts.netloc == urlsplit(self._sessions.endpoint).netloc or (host and not host["bucket"]):
            bucket, _, key = path.partition("/")
        elif host:
            bucket, key = host["bucket"], path
        else:
            raise refuse("TemplateURL must be a supported URL.")
        client = self._engine.context(self._as(caller)).client("s3")
        try:
            answer = client.get_object(Bucket=bucket, Key=key)
            content: bytes = answer["Body"].read()
        except ClientError as error:
            raise refuse(f"S3 error: {error.response['Error'].get('Message', '')}") from error
        if len(content) > LONGEST_FILE:
            raise refuse(f"Template may not exceed {LONGEST_FILE} bytes in size.")
        return content.decode()

    def _as(self, caller: Caller, role: str = "") -> Stack:
        """Return a stack that is not kept, for calls with the caller's credentials before there is one."""
        template = Template("", {"Resources": {}}, {})
        where = Where(caller.account, caller.region)
        return Stack("", "", where, template, "", self._clock.now(), {}, [], role, caller.key)

    def _template(self, caller: Caller, params: Mapping[str, Any], previous: Stack | None) -> Template:
        """Return the checked template of a request with its parameters. Raises AwsError."""
        body = self._body(caller, params, previous)
        kept = previous.template.values if previous is not None else {}
        given: dict[str, str] = {}
        for one in params.get("Parameters", []):
            name = str(one["ParameterKey"])
            if not one.get("UsePreviousValue"):
                given[name] = str(one.get("ParameterValue", ""))
            elif name in kept:
                given[name] = kept[name]
            else:
                raise refuse(f"Invalid input for parameter key {name}. Cannot specify usePreviousValue as true")
        try:
            document = read(body)
            check(document)
            values = parameters(document, given)
            check_parameters(document, values)
            where, name = Where(caller.account, caller.region), str(params.get("StackName", ""))
            names = typed(document, values) | self._engine.pseudo(where, name, name)
            Evaluator(document, names, unresolved).check_rules()
        except TemplateError as error:
            raise refuse(str(error)) from error
        except UnsupportedError as error:
            raise AwsError("NotImplemented", str(error), 501) from error
        self._require_capabilities(document, params.get("Capabilities", []))
        return Template(body, document, values)

    def _require_capabilities(self, document: dict[str, Any], given: list[str]) -> None:
        needed = capabilities_of(document)
        named = "CAPABILITY_NAMED_IAM"
        if needed and not (set(given) & ({named} if needed == [named] else {named, "CAPABILITY_IAM"})):
            raise AwsError("InsufficientCapabilitiesException", f"Requires capabilities : [{needed[0]}]", 400)

    def _stack(self, caller: Caller, name: str) -> Stack | None:
        return find(self._engine, caller, name, deleted=False)

    def _existing(self, caller: Caller, name: str) -> Stack:
        stack = self._stack(caller, name)
        if stack is None or stack.status == REVIEW:
            raise refuse(f"Stack [{name}] does not exist")
        return stack

    def _new(self, caller: Caller, params: Mapping[str, Any], template: Template, status: str) -> Stack:
        name = str(params["StackName"])
        identity = f"arn:{self._partition}:cloudformation:{caller.region}:{caller.account}:stack/{name}/{uuid.uuid4()}"
        return Stack(
            identity,
            name,
            Where(caller.account, caller.region),
            template,
            status,
            self._clock.now(),
            {str(one["Key"]): str(one["Value"]) for one in params.get("Tags", [])},
            list(params.get("Capabilities", [])),
            str(params.get("RoleARN", "")),
            caller.key,
            description=str(template.document.get("Description", "")),
            protected=bool(params.get("EnableTerminationProtection", False)),
            disable_rollback=bool(params.get("DisableRollback", False)),
            timeout_minutes=params.get("TimeoutInMinutes"),
        )

    def _check_role(self, stack: Stack) -> None:
        """Refuse a role that CloudFormation may not assume."""
        if stack.role:
            try:
                self._engine.context(stack)
            except AwsError as error:
                message = f"Role {stack.role} is invalid or cannot be assumed"
                raise refuse(message) from error

    # Stacks

    def _create(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        if "DisableRollback" in params and "OnFailure" in params:
            raise refuse("You can specify either DisableRollback or OnFailure, but not both.")
        template = self._template(caller, params, None)
        stack = self._new(caller, params, template, "")
        self._check_role(stack)
        with self._engine.lock:
            if (*stack.where, stack.name) in self._engine.stacks:
                raise AwsError("AlreadyExistsException", f"Stack [{stack.name}] already exists", 400)
            self._engine.stacks[(*stack.where, stack.name)] = stack
            stack.mark(self._clock.now(), "CREATE_IN_PROGRESS", "User Initiated")
        failure = "DO_NOTHING" if stack.disable_rollback else str(params.get("OnFailure", "ROLLBACK"))
        self._engine.start(self._engine.create, stack, failure)
        return {"StackId": stack.id}

    def _require_updatable(self, stack: Stack) -> None:
        if stack.status not in UPDATABLE:
            raise refuse(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")

    def _update(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(caller, str(params["StackName"]))
        self._require_updatable(stack)
        template = self._template(caller, params, stack)
        tags = self._tags(params, stack)
        self._adopt(stack, caller, params)
        if not self._changes(stack, template, {}, tags) and not self._differs(stack, template, tags):
            raise refuse("No updates are to be performed.")
        self._begin(stack, "UPDATE_IN_PROGRESS")
        self._engine.start(self._engine.update, stack, template, tags, None)
        return {"StackId": stack.id}

    def _adopt(self, stack: Stack, caller: Caller, params: Mapping[str, Any]) -> None:
        """Use the caller's credentials, or the role, for the operation that follows."""
        stack.key = caller.key
        stack.role = str(params.get("RoleARN", stack.role))
        stack.capabilities = list(params.get("Capabilities", stack.capabilities))
        self._check_role(stack)

    def _begin(self, stack: Stack, status: str) -> None:
        with self._engine.lock:
            if stack.busy:
                raise refuse(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
            stack.updated = self._clock.now()
            stack.mark(self._clock.now(), status, "User Initiated")

    def _tags(self, params: Mapping[str, Any], stack: Stack) -> dict[str, str]:
        if "Tags" not in params:
            return dict(stack.tags)
        return {str(one["Key"]): str(one["Value"]) for one in params["Tags"]}

    def _changes(self, stack: Stack, template: Template, imports: Mapping[str, str], tags: dict[str, str]) -> list[Any]:
        try:
            return self._engine.changes(stack, template, imports, tags)
        except (TemplateError, ResourceError) as error:
            raise refuse(str(error)) from error

    def _differs(self, stack: Stack, template: Template, tags: Mapping[str, str]) -> bool:
        """Return whether anything besides resources changes: outputs, or the stack's own tags."""
        old, new = stack.template, template
        return old.document.get("Outputs") != new.document.get("Outputs") or stack.tags != tags

    def _delete(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._stack(caller, str(params["StackName"]))
        if stack is None:
            return {}  # a stack that does not exist is deleted
        if stack.protected:
            raise refuse(f"Stack [{stack.name}] cannot be deleted while TerminationProtection is enabled")
        retain = frozenset(params.get("RetainResources", []))
        if retain and stack.status != "DELETE_FAILED":
            message = f"Invalid operation on stack [{stack.id}]. Only a stack in DELETE_FAILED may retain resources"
            raise refuse(message)
        if stack.status == "DELETE_IN_PROGRESS":
            return {}
        stack.key = caller.key
        stack.role = str(params.get("RoleARN", stack.role))
        self._check_role(stack)
        self._begin(stack, "DELETE_IN_PROGRESS")
        self._engine.start(self._engine.delete, stack, retain)
        return {}

    def _protect(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(caller, str(params["StackName"]))
        stack.protected = bool(params["EnableTerminationProtection"])
        return {"StackId": stack.id}

    # Change sets

    def _create_change_set(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        kind, name = str(params.get("ChangeSetType", "UPDATE")), str(params["StackName"])
        stack = self._stack(caller, name)
        imports = self._imports(params)
        if kind == "UPDATE" and (stack is None or stack.status == REVIEW):
            raise refuse(f"Stack [{name}] does not exist")
        if kind == "CREATE" and stack is not None and stack.status != REVIEW:
            again = f"cannot be created again with the changeSet [{params['ChangeSetName']}]"
            raise refuse(f"Stack [{name}] already exists and {again}.")
        if stack is not None and stack.status != REVIEW:
            self._require_updatable(stack)
        template = self._template(caller, params, stack if stack is not None and stack.status != REVIEW else None)
        if stack is None:
            stack = self._new(caller, params, template, "")
            self._check_role(stack)
            with self._engine.lock:
                self._engine.stacks[(*stack.where, stack.name)] = stack
                stack.mark(self._clock.now(), REVIEW, "User Initiated")
        if str(params["ChangeSetName"]) in stack.change_sets:
            raise AwsError("AlreadyExistsException", f"ChangeSet {params['ChangeSetName']} already exists", 400)
        tags = self._tags(params, stack)
        if kind == "IMPORT":
            self._check_import(stack, template, imports)
        made = self._change_set(caller, params, stack, template, tags, imports)
        stack.change_sets[made.name] = made
        return {"Id": made.id, "StackId": stack.id}

    def _imports(self, params: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for one in params.get("ResourcesToImport", []):
            kind, identifier = str(one["ResourceType"]), dict(one["ResourceIdentifier"])
            wanted = IMPORTABLE.get(kind)
            if wanted is None:
                raise refuse(f"Resource type {kind} cannot be imported")
            keys = wanted.split("|")
            if set(identifier) != set(keys):
                raise refuse(f"Invalid resource identifier for {one['LogicalResourceId']}: {wanted} is required")
            found[str(one["LogicalResourceId"])] = "|".join(str(identifier[key]) for key in keys)
        return found

    def _check_import(self, stack: Stack, template: Template, imports: Mapping[str, str]) -> None:
        before = stack.template.document.get("Outputs", {}) if stack.status != REVIEW else {}
        if template.document.get("Outputs", {}) != before:
            raise refuse("As part of the import operation, you cannot modify or add [Outputs]")
        lacking = sorted(one for one in imports if "DeletionPolicy" not in template.document["Resources"].get(one, {}))
        if lacking:
            raise refuse(f"Resources [{', '.join(lacking)}] is missing DeletionPolicy attribute for import")
        held = {
            (resource.type, resource.physical): one.name
            for (account, region, _), one in self._engine.stacks.items()
            if (account, region) == tuple(stack.where)
            for resource in one.resources.values()
        }
        for logical, physical in imports.items():
            owner = held.get((str(template.document["Resources"].get(logical, {}).get("Type")), physical))
            if owner:
                raise refuse(f"Resource {physical} already exists in stack {owner}")

    def _change_set(
        self,
        caller: Caller,
        params: Mapping[str, Any],
        stack: Stack,
        template: Template,
        tags: dict[str, str],
        imports: dict[str, str],
    ) -> ChangeSet:
        name, kind = str(params["ChangeSetName"]), str(params.get("ChangeSetType", "UPDATE"))
        prefix = stack.id.split(":stack/")[0]
        made = ChangeSet(
            f"{prefix}:changeSet/{name}/{uuid.uuid4()}",
            name,
            kind,
            self._clock.now(),
            template,
            tags,
            list(params.get("Capabilities", [])),
            str(params.get("RoleARN", stack.role)),
            caller.key,
            str(params.get("Description", "")),
            [],
            imports,
            str(params.get("OnStackFailure", "ROLLBACK")),
        )
        try:
            made.changes = self._engine.changes(stack, template, imports, tags)
        except (TemplateError, ResourceError) as error:
            made.status, made.execution, made.reason = "FAILED", "UNAVAILABLE", str(error)
            return made
        if kind == "IMPORT" and any(one.action != "Import" for one in made.changes):
            made.status, made.execution = "FAILED", "UNAVAILABLE"
            made.reason = "You have modified resources in your template that are not being imported."
        elif not made.changes and not (stack.status != REVIEW and self._differs(stack, template, tags)):
            made.status, made.execution, made.reason = "FAILED", "UNAVAILABLE", NO_CHANGES
        return made

    def _execute(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack, made = self._named(caller, params)
        if made.execution != "AVAILABLE":
            message = f"ChangeSet [{made.id}] cannot be executed in its current execution status of [{made.execution}]"
            raise AwsError("InvalidChangeSetStatus", message, 400)
        if stack.busy:
            raise refuse(f"Stack:{stack.id} is in {stack.status} state and can not be updated.")
        stack.key, stack.role, stack.capabilities = caller.key, made.role, made.capabilities
        self._check_role(stack)
        imports = made.imports if made.type == "IMPORT" else None
        new = stack.status == REVIEW
        verb = "IMPORT" if imports is not None else "CREATE" if new else "UPDATE"
        self._begin(stack, f"{verb}_IN_PROGRESS")
        made.execution = "EXECUTE_COMPLETE"
        # The other change sets of a stack are deleted once one is executed.
        stack.change_sets = {made.name: made}
        if new:
            stack.template, stack.tags = made.template, made.tags
            disabled = params.get("DisableRollback") or made.on_failure == "DO_NOTHING"
            self._engine.start(self._engine.create, stack, "DO_NOTHING" if disabled else made.on_failure, imports)
        else:
            self._engine.start(self._engine.update, stack, made.template, made.tags, imports)
        return {}

    def _delete_change_set(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        try:
            stack, made = self._named(caller, params)
        except AwsError as error:
            if error.code == "ChangeSetNotFound":
                return {}
            raise
        stack.change_sets.pop(made.name)
        return {}

    def _named(self, caller: Caller, params: Mapping[str, Any]) -> tuple[Stack, ChangeSet]:
        return Reads(self._engine).change_set(caller, params)

    # Drift and templates

    def _detect(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        stack = self._existing(caller, str(params["StackName"]))
        if stack.busy or not (stack.status in UPDATABLE or stack.status == "UPDATE_ROLLBACK_FAILED"):
            raise refuse(f"Drift detection is not supported for stack in {stack.status}")
        stack.key = caller.key
        drift = Drift(str(uuid.uuid4()), stack, self._clock.now())
        self._engine.drifts[drift.id] = drift
        self._engine.start(self._engine.detect, drift, frozenset(params.get("LogicalResourceIds", [])))
        return {"StackDriftDetectionId": drift.id}

    def _validate(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in self._described(caller, params).items() if key in _VALIDATED}

    def _described(self, caller: Caller, params: Mapping[str, Any]) -> dict[str, Any]:
        stack = self._existing(caller, str(params["StackName"])) if params.get("StackName") else None
        try:
            document = stack.template.document if stack is not None else read(self._body(caller, params, None))
            check(document)
        except TemplateError as error:
            raise refuse(str(error)) from error
        except UnsupportedError as error:
            raise AwsError("NotImplemented", str(error), 501) from error
        needed = capabilities_of(document)
        reason = (
            {"CapabilitiesReason": f"The following resource(s) require capabilities: [{needed[0]}]"} if needed else {}
        )
        declared = []
        for name, about in document.get("Parameters", {}).items():
            default = {"DefaultValue": str(about["Default"])} if "Default" in about else {}
            described = {"Description": str(about["Description"])} if "Description" in about else {}
            hidden = str(about.get("NoEcho", False)).lower() == "true"
            declared.append({"ParameterKey": name, "NoEcho": hidden, **default, **described})
        described = {"Description": str(document["Description"])} if "Description" in document else {}
        return {"Parameters": declared, "Capabilities": needed, **described, **reason, "_document": document}

    def _summary(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        found = self._described(caller, params)
        document = found.pop("_document")
        for one in found["Parameters"]:
            one["ParameterType"] = str(document["Parameters"][one["ParameterKey"]]["Type"])
        logical: dict[str, list[str]] = {}
        for name, about in document["Resources"].items():
            logical.setdefault(str(about["Type"]), []).append(name)
        identified = [
            {"ResourceType": kind, "LogicalResourceIds": names, "ResourceIdentifiers": IMPORTABLE[kind].split("|")}
            for kind, names in logical.items()
            if kind in IMPORTABLE
        ]
        version = document.get("AWSTemplateFormatVersion")
        more = {"Version": str(version)} if version else {}
        return {**found, **more, "ResourceTypes": sorted(logical), "ResourceIdentifierSummaries": identified}


_VALIDATED = ("Parameters", "Description", "Capabilities", "CapabilitiesReason")


def capabilities_of(document: Mapping[str, Any]) -> list[str]:
    """Return the capability that a template's IAM resources need, if any."""
    identities = [one for one in document["Resources"].values() if str(one["Type"]).startswith(_IAM)]
    named = any(set(one.get("Properties", {})) & set(_NAMES_OF_IAM) for one in identities)
    return ["CAPABILITY_NAMED_IAM"] if named else ["CAPABILITY_IAM"] if identities else []
