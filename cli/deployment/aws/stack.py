"""CloudFormation as the engine of a deployment: a stack of the template, planned and applied as change sets.

An operator without Terraform deploys with it, and it holds the same resources. The stack is found in the cloud: by the
function's name, else by the function as one of its resources, for a stack that was created from the console.

The module is over 350 lines because the engine's methods share one reading of stacks and of change sets.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from botocore.exceptions import ClientError

from cli.deployment.aws import backend, imports, template
from cli.deployment.aws.functions import environment_of
from cli.deployment.aws.launch import object_url, package_name
from cli.deployment.aws.parameters import parameters, salted_hash
from cli.deployment.aws.session import Session, code_of, gone, message_of, refused, translated
from cli.deployment.aws.verify import external_ids
from cli.deployment.engine import Plan, Planning, Variable
from cli.deployment.model import Change, Kept, OperatorError, Problem
from cli.deployment.operator import Tell

CAPABILITIES = ["CAPABILITY_NAMED_IAM"]
IDENTITY = {"ConnectorRole": "AWS::IAM::Role", "MemberRoles": "AWS::CloudFormation::StackSet"}
DATA = {"ExportBucket": "AWS::S3::Bucket", "ExportBucketPolicy": "AWS::S3::BucketPolicy"}
# The prefixes of Terraform's addresses by which a removal names what it keeps.
KEPT = {"aws_s3_bucket": DATA, "aws_iam_role.connector": IDENTITY}
REVIEW = "REVIEW_IN_PROGRESS"
# A stack that holds nothing; one whose creation was rolled back is deleted before the next one.
NEW = frozenset({None, REVIEW, "ROLLBACK_COMPLETE"})
GOOD = frozenset({"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"})
UPDATABLE = GOOD | {"UPDATE_ROLLBACK_COMPLETE", "IMPORT_ROLLBACK_COMPLETE"}
POLL_S = 2.0
LONGEST_S = 2 * 3600.0
NO_CHANGES = ("didn't contain changes", "No updates are to be performed")
CANCELLED = "Resource creation cancelled"
# What to change where AWS refuses a resource, by the words of its refusal.
REMEDIES = {
    "S3 Error Code: ": "Run the same command again: it uploads the package first.",
    "Could not unzip": "Give a package that tailpipe-exports package aws wrote: --var package=FILE.",
    "UnreservedConcurrentExecution": "Add --var reserved_concurrency=-1, or request a higher quota in Service Quotas.",
    "is not attachable": "Give a policy that exists: --var permissions_boundary_arn=ARN.",
    "Invalid Schedule Expression": 'Give a rate, such as "rate(1 hour)", or six cron fields with ? as one of the days.',
}

# The identifiers of existing resources by logical id.
Adopts = Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class _Part:
    """One stack of a deployment: the function's, or the one that forwards events from the partition's home region."""

    name: str
    region: str
    file: str
    given: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class StackPlan:
    """A plan: the change sets by stack, or with `removing` the deletion of all stacks.

    `adopts` are the existing resources that a new stack imports first.
    """

    changes: Sequence[Change]
    types: Sequence[str] = ()
    granted: Mapping[str, Sequence[str]] | None = None
    parts: Sequence[_Part] = ()
    change_sets: Mapping[str, str] = field(default_factory=dict)
    adopts: Adopts = field(default_factory=dict)
    removing: bool = False
    keeps: Mapping[str, str] = field(default_factory=dict)

    @property
    def empty(self) -> bool:
        return not self.changes


class StackEngine:
    """Implements `cli.deployment.engine.Engine`."""

    title = "the CloudFormation stack"
    precious = frozenset({"AWS::S3::Bucket"})
    alarm = "AWS::CloudWatch::Alarm"

    def __init__(self, session: Session, sleep: Callable[[float], None]) -> None:
        self._session = session
        self._sleep = sleep
        self._access = ""

    # The stack

    def name(self) -> str:
        """Return the name of the stack that holds the function, else that of a new one."""
        function = self._session.function
        if self._status(function) is not None:
            return function
        try:
            found = self._client().describe_stack_resources(PhysicalResourceId=function)["StackResources"]
        except ClientError as error:
            if _absent(error) or refused(error):
                return function
            raise
        return next((str(one["StackName"]) for one in found), function)

    def exists(self) -> bool:
        """Return whether a stack holds the deployment; a stack that only awaits its first change set does not."""
        try:
            status = self._status(self.name())
        except ClientError as error:
            if refused(error):
                return False
            raise
        return status is not None and status != REVIEW

    def _client(self, region: str | None = None) -> Any:
        return self._session.aws.client("cloudformation", region)

    def _status(self, name: str, region: str | None = None) -> str | None:
        found = self._found(name, region)
        return None if found is None else str(found["StackStatus"])

    def _found(self, name: str, region: str | None = None) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = self._client(region).describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if _absent(error):
                return None
            raise
        return found

    def _parts(self, given: Mapping[str, str], tags: Mapping[str, str]) -> list[_Part]:
        aws, name = self._session.aws, self.name()
        parts = [_Part(name, aws.region, template.MAIN, given, tags)]
        if aws.region != aws.home and given.get("Events", "true") == "true":
            known = template.document(template.HOME)["Parameters"]
            forward = {**{key: value for key, value in given.items() if key in known}, "FunctionRegion": aws.region}
            parts.append(_Part(f"{name}-home", aws.home, template.HOME, forward, tags))
        return parts

    # Planning

    def check(self, variables: Mapping[str, Variable], values: Mapping[str, Any]) -> None:  # noqa: ARG002 - the port's signature
        problems = template.refused(parameters(values))
        if problems:
            raise OperatorError(*problems)

    @translated()
    def plan(self, wanted: Planning) -> Plan:
        self._access = str(wanted.values.get("organizations_access") or "activate")
        given = self._given(wanted)
        parts = self._parts(given, self._tags(wanted))
        for part in parts:
            self._settle(part, wanted)
        kinds = template.resources(given, self._pseudo())
        granted = template.granted(given, self._pseudo())
        main = parts[0]
        wanted.say(f"CloudFormation stack: {main.name}")
        new = {part.name for part in parts if self._status(part.name, part.region) in NEW}
        adopts = self._adoptable(given) if main.name in new else {}
        if not wanted.dry_run:
            self._upload(wanted, self._key(wanted))
        changes, made = [], dict[str, str]()
        for part in parts:
            prefix = "" if part is main else f"{part.region}/"
            if part.name in new:
                found = template.resources(part.given, self._pseudo(part.region), part.file)
                changes += [
                    Change(logical, kind, ("no-op",), {}, importing=True)
                    if part is main and logical in adopts
                    else Change(f"{prefix}{logical}", kind, ("create",), {})
                    for logical, kind in found.items()
                ]
                continue
            name, planned = self._change_set(part)
            if name:
                made[part.name] = name
            changes += [_change(one, prefix) for one in planned]
            if wanted.dry_run and name:
                self._client(part.region).delete_change_set(StackName=part.name, ChangeSetName=name)
        return StackPlan(changes, list(kinds.values()), granted, parts, made, adopts)

    def _given(self, wanted: Planning) -> dict[str, str]:
        """Return the parameters of the main stack."""
        found = {**parameters(wanted.values), **self._hash(wanted.values)}
        return found | {"PackageBucket": self._bucket(), "PackageKey": self._key(wanted)}

    def _tags(self, wanted: Planning) -> dict[str, str]:
        return {str(key): str(value) for key, value in (wanted.values.get("tags") or {}).items()}

    def _pseudo(self, region: str | None = None) -> dict[str, str]:
        aws = self._session.aws
        return {
            "AWS::Partition": aws.partition,
            "AWS::AccountId": self._session.place.id,
            "AWS::Region": region or aws.region,
        }

    def _hash(self, values: Mapping[str, Any]) -> dict[str, str]:
        """Return the parameter with the External ID's hash, salted as before, so that it does not change each time."""
        ids = [str(values[one]) for one in ("external_id", "external_id_previous") if values.get(one)]
        if not ids:
            return {}
        before = (environment_of(self._session) or {}).get("EXTERNAL_ID_HASH", "").partition(":")[0]
        try:
            salt = bytes.fromhex(before)
        except ValueError:
            salt = b""
        return {"ExternalIdHash": salted_hash(ids, salt or secrets.token_bytes(16))}

    def _settle(self, part: _Part, wanted: Planning) -> None:
        """Wait for an operation that still runs, and clear away what a failed creation left. Raises OperatorError."""
        status = self._status(part.name, part.region)
        if status is None or status == REVIEW or status in UPDATABLE:
            return
        if status.endswith("_IN_PROGRESS"):
            wanted.say(f"waiting for the operation on stack {part.name} that is in progress")
            status = self._wait(part.name, part.region, wanted.tell)
        if status == "ROLLBACK_COMPLETE" and not wanted.dry_run:
            # It holds nothing, and CloudFormation allows nothing but its deletion.
            self._delete(part.name, part.region, wanted.tell)
        elif status is not None and status not in UPDATABLE and status != "ROLLBACK_COMPLETE":
            remedy = f"tailpipe-exports destroy aws --confirm {self._session.place.id}, then deploy again."
            if status == "UPDATE_ROLLBACK_FAILED":
                remedy = f"aws cloudformation continue-update-rollback --stack-name {part.name} --region {part.region}"
            raise OperatorError(Problem(f"stack {part.name} is in {status} and cannot be updated", remedy))

    def _adoptable(self, given: Mapping[str, str]) -> dict[str, dict[str, str]]:
        """Return what a removal retains and a new stack imports: bucket, bucket policy, connector role and StackSet."""
        part = _Part("", self._session.aws.region, template.MAIN, given, {})
        return self._existing(part, {*DATA, *IDENTITY})

    def _live(self, adopts: Adopts) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the properties that the imported identities have now, and the External IDs in them by parameter.

        The bucket has the template's properties in its import: a rollback must take nothing away from it.
        """
        found: dict[str, Any] = {}
        if "ConnectorRole" in adopts:
            found["ConnectorRole"] = imports.live_role(self._session, adopts["ConnectorRole"]["RoleName"])
        if "MemberRoles" in adopts:
            name = adopts["MemberRoles"]["StackSetId"].partition(":")[0]
            found["MemberRoles"] = imports.live_stack_set(self._session, name)
        ids = set(external_ids(found.get("ConnectorRole", {}).get("AssumeRolePolicyDocument", {})))
        given = found.get("MemberRoles", {}).get("Parameters", [])
        ids |= {one["ParameterValue"] for one in given if one["ParameterKey"].startswith("ExternalId")} - {""}
        names = {one: f"LiveExternalId{number}" for number, one in enumerate(sorted(ids))}
        return _referring(found, names), {name: one for one, name in names.items()}

    def _existing(self, part: _Part, only: Collection[str] | None = None) -> dict[str, dict[str, str]]:
        """Return the resources of a part that exist, each with the identifier by which a stack imports it."""
        pseudo, found = self._pseudo(part.region), {}
        kinds = template.resources(part.given, pseudo, part.file)
        for logical, name in template.names(part.given, pseudo, part.file).items():
            if only is None or logical in only:
                identifier = imports.identifier(self._session, part.region, kinds[logical], name)
                if identifier:
                    found[logical] = identifier
        return found

    # Files

    def _bucket(self) -> str:
        return backend.artifacts_of(self._session)

    def _key(self, wanted: Planning) -> str:
        content = (wanted.folder / str(wanted.values["package"])).read_bytes()
        return package_name(sha256(content).hexdigest())

    def _upload(self, wanted: Planning, key: str) -> None:
        """Put the package and the template into the bucket of artifacts, which is created if necessary."""
        backend.make(self._session, wanted.tell, self._bucket())
        client, of = self._session.aws.client("s3"), self._session.owned(self._bucket())
        try:
            client.head_object(**of, Key=key)
        except ClientError as error:
            if not gone(error):
                raise
            content = (wanted.folder / str(wanted.values["package"])).read_bytes()
            client.put_object(**of, Key=key, Body=content)
            wanted.tell(f"the package is in bucket {self._bucket()}")

    def _source(self, body: str) -> dict[str, str]:
        """Return the argument with a template: its text, or its address in the bucket where it is too long."""
        if len(body.encode()) <= 51_200:  # the maximum of TemplateBody
            return {"TemplateBody": body}
        key = f"template-{sha256(body.encode()).hexdigest()[:12]}.yaml"
        self._session.aws.client("s3").put_object(**self._session.owned(self._bucket()), Key=key, Body=body.encode())
        return {"TemplateURL": object_url(self._session, self._bucket(), key)}

    # Change sets

    def _change_set(
        self, part: _Part, adopts: Adopts | None = None, *, creating: bool = False
    ) -> tuple[str, list[Mapping[str, Any]]]:
        """Return a change set's name and changes; "" if there is nothing to change. Raises OperatorError.

        With `adopts`, it imports these resources; `creating`: an update that may change them follows.
        """
        client, name = self._client(part.region), f"tailpipe-{secrets.token_hex(6)}"
        more: dict[str, Any] = {}
        given = dict(part.given)
        if adopts:
            kinds = template.resources(part.given, self._pseudo(part.region), part.file)
            live, hidden = self._live(adopts) if creating else ({}, {})
            given |= hidden
            source = self._source(template.subset(adopts, part.file, live, hidden))
            more["ResourcesToImport"] = [
                {
                    "ResourceType": kinds[logical],
                    "LogicalResourceId": logical,
                    "ResourceIdentifier": dict(identifier),
                }
                for logical, identifier in adopts.items()
            ]
            kind = "IMPORT"
        else:
            found = self._status(part.name, part.region)
            kind = "CREATE" if found in (None, REVIEW) else "UPDATE"
            body = template.text(part.file)
            same = kind == "UPDATE" and client.get_template(StackName=part.name).get("TemplateBody") == body
            source = {"UsePreviousTemplate": True} if same else self._source(body)  # type: ignore[dict-item] # a flag among texts
        client.create_change_set(
            StackName=part.name,
            ChangeSetName=name,
            ChangeSetType=kind,
            Capabilities=CAPABILITIES,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in given.items()],
            Tags=[{"Key": key, "Value": value} for key, value in sorted(part.tags.items())],
            **source,
            **more,
        )
        return self._described(part, name)

    def _described(self, part: _Part, name: str) -> tuple[str, list[Mapping[str, Any]]]:
        client = self._client(part.region)
        waited = 0.0
        while True:
            found = client.describe_change_set(StackName=part.name, ChangeSetName=name)
            if found["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            if waited >= LONGEST_S:
                raise OperatorError(Problem(f"change set {name} is still being created", "Call again."))
            self._sleep(POLL_S)
            waited += POLL_S
        reason = str(found.get("StatusReason", ""))
        if found["Status"] == "FAILED":
            client.delete_change_set(StackName=part.name, ChangeSetName=name)
            if any(one in reason for one in NO_CHANGES):
                return "", []
            raise OperatorError(
                Problem(f"CloudFormation refused the plan of {part.name}: {reason}", "Fix it, and call again.")
            )
        changes = [one["ResourceChange"] for one in found["Changes"]]
        while found.get("NextToken"):
            found = client.describe_change_set(StackName=part.name, ChangeSetName=name, NextToken=found["NextToken"])
            changes += [one["ResourceChange"] for one in found["Changes"]]
        return name, changes

    # Applying

    @translated()
    def apply(self, plan: Plan, tell: Tell) -> None:
        if not isinstance(plan, StackPlan):
            raise TypeError(f"{type(plan).__name__} is not a plan of CloudFormation's")
        if plan.removing:
            self._remove(plan, tell)
            return
        if "AWS::CloudFormation::StackSet" in plan.types and self._access == "activate":
            self._activate(tell)
        for part in plan.parts:
            name = plan.change_sets.get(part.name, "")
            if not name and self._status(part.name, part.region) in (None, REVIEW):
                if plan.adopts and part is plan.parts[0]:
                    self._execute(part, self._change_set(part, plan.adopts, creating=True)[0], tell)
                name, changes = self._change_set(part)
                lost = [
                    one["LogicalResourceId"]
                    for one in changes
                    if _change(one, "").deletes and one["ResourceType"] in self.precious
                ]
                if lost:
                    raise OperatorError(
                        Problem(f"{', '.join(lost)} holds data and would be replaced", "Keep its name.")
                    )
            if name:
                self._execute(part, name, tell)

    def _activate(self, tell: Tell) -> None:
        """Switch on StackSets' access to the organization, which no resource of a template can."""
        client = self._client()
        if client.describe_organizations_access().get("Status") != "ENABLED":
            client.activate_organizations_access()
            tell("StackSets' access to the organization is switched on")

    def _execute(self, part: _Part, name: str, tell: Tell) -> None:
        if not name:
            return
        before = {one["EventId"] for one in self._events(part.name, part.region)}
        self._client(part.region).execute_change_set(StackName=part.name, ChangeSetName=name)
        status = self._wait(part.name, part.region, tell, before)
        if status not in GOOD:
            raise OperatorError(*self._failures(part.name, part.region, str(status)))

    def _wait(self, name: str, region: str, tell: Tell, before: Collection[str] | None = None) -> str | None:
        """Wait until an operation on a stack ends, and show each resource that is done; return the stack's status.

        `before` are the ids of the events before the operation; None: those that exist now.
        """
        shown = set(before) if before is not None else {one["EventId"] for one in self._events(name, region)}
        waited = 0.0
        identity = str((self._found(name, region) or {}).get("StackId", name))
        while True:
            status = self._status(identity, region)
            for event in reversed(list(self._events(identity, region))):
                if event["EventId"] not in shown:
                    shown.add(event["EventId"])
                    if event["ResourceStatus"].endswith(("_COMPLETE", "_FAILED", "_SKIPPED")):
                        done = event["ResourceStatus"].lower().replace("_", " ")
                        tell(f"{event['LogicalResourceId']}: {done}")
            if status is None or status == "DELETE_COMPLETE" or not status.endswith("_IN_PROGRESS"):
                return status
            if waited >= LONGEST_S:
                raise OperatorError(Problem(f"stack {name} is still in {status}", "Look at it in CloudFormation."))
            self._sleep(POLL_S)
            waited += POLL_S

    def _events(self, name: str, region: str) -> Iterator[Mapping[str, Any]]:
        try:
            pages = self._client(region).get_paginator("describe_stack_events").paginate(StackName=name)
            for page in pages:
                yield from page["StackEvents"]
        except ClientError as error:
            if not _absent(error):
                raise

    def _failures(self, name: str, region: str, status: str) -> Iterator[Problem]:
        """Yield why the last operation failed: the resources that failed since it began."""
        found = []
        for event in self._events(name, region):
            if event["LogicalResourceId"] == name and event.get("ResourceStatusReason") == "User Initiated":
                break
            reason = str(event.get("ResourceStatusReason", ""))
            if (
                event["ResourceStatus"].endswith("_FAILED")
                and event["LogicalResourceId"] != name
                and CANCELLED not in reason
            ):
                remedy = next((text for words, text in REMEDIES.items() if words in reason), "")
                found.append(Problem(f"{event['LogicalResourceId']}: {reason}", remedy))
        yield from reversed(found)
        what = "nothing is left of it" if status == "ROLLBACK_COMPLETE" else "what was there before is there again"
        rolled = "ROLLBACK_COMPLETE" in status
        yield Problem(f"stack {name} is in {status}" + (f": it was rolled back, and {what}" if rolled else ""))

    def addresses(self) -> list[str]:
        return [one["LogicalResourceId"] for one in self._resources(self.name(), self._session.aws.region)]

    def _resources(self, name: str, region: str) -> list[Mapping[str, Any]]:
        try:
            pages = self._client(region).get_paginator("list_stack_resources").paginate(StackName=name)
            listed = [one for page in pages for one in page["StackResourceSummaries"]]
        except ClientError as error:
            if _absent(error):
                return []
            raise
        missing = ("DELETE_COMPLETE", "CREATE_FAILED")
        return [one for one in listed if one["ResourceStatus"] not in missing and one.get("PhysicalResourceId")]

    def outputs(self) -> dict[str, Any]:
        found = self._found(self.name())
        return {one["OutputKey"]: one["OutputValue"] for one in (found or {}).get("Outputs", [])}

    # Removal

    @translated()
    def removal(self, kept: Sequence[Kept]) -> list[Change]:
        keeps = _keeps(kept)
        return [
            Change(f"{prefix}{one['LogicalResourceId']}", one["ResourceType"], ("delete",), {})
            for prefix, name, region in self._stacks()
            for one in self._resources(name, region)
            if prefix or one["LogicalResourceId"] not in keeps
        ]

    def _stacks(self) -> list[tuple[str, str, str]]:
        """Return the stacks of the deployment in the order of their removal: prefix, name, region."""
        aws, name = self._session.aws, self.name()
        home = [(f"{aws.home}/", f"{name}-home", aws.home)] if aws.region != aws.home else []
        return [*home, ("", name, aws.region)]

    def plan_removal(self, kept: Sequence[Kept]) -> Plan:
        changes = self.removal(kept)
        if not changes and self.exists():
            # A stack whose creation was rolled back holds nothing, and still has to go.
            changes = [Change(self.name(), "AWS::CloudFormation::Stack", ("delete",), {})]
        return StackPlan(changes, removing=True, keeps=_keeps(kept))

    def _remove(self, plan: StackPlan, tell: Tell) -> None:
        name, region = self.name(), self._session.aws.region
        bucket = next(
            (
                one["PhysicalResourceId"]
                for one in self._resources(name, region)
                if one["LogicalResourceId"] == "ExportBucket"
            ),
            "",
        )
        identities = {one: kind for one, kind in IDENTITY.items() if one in plan.keeps}
        if identities:
            self._retain(name, region, identities, tell)
        self._delete_stacks(tell)
        if bucket and "ExportBucket" not in plan.keeps:
            self._session.aws.client("s3").delete_bucket(**self._session.owned(str(bucket)))
            tell(f"bucket {bucket} is deleted")

    def _delete_stacks(self, tell: Tell) -> None:
        for _, name, region in self._stacks():
            if self._status(name, region) is not None:
                self._delete(name, region, tell)

    # Moves

    @translated()
    def take_over(self, wanted: Planning) -> None:
        """Import everything that exists into the stacks, then create what cannot be imported. May be repeated.

        Raises OperatorError, with nothing changed in a resource, if that would delete or replace one.
        """
        given = self._given(wanted)
        self._upload(wanted, given["PackageKey"])
        for part in self._parts(given, self._tags(wanted)):
            self._settle(part, wanted)
            if self._status(part.name, part.region) == "IMPORT_ROLLBACK_COMPLETE" and not self._resources(
                part.name, part.region
            ):
                self._delete(part.name, part.region, wanted.tell)
            if self._status(part.name, part.region) in (None, REVIEW):
                existing = self._existing(part)
                wanted.say(f"{len(existing):,} resources are imported into stack {part.name}")
                self._execute(part, self._change_set(part, existing)[0], wanted.tell)
            name, changes = self._change_set(part)
            lost = [one["LogicalResourceId"] for one in changes if _change(one, "").deletes]
            if lost:
                self._client(part.region).delete_change_set(StackName=part.name, ChangeSetName=name)
                raise OperatorError(
                    Problem(
                        f"these values would delete or replace {', '.join(lost)}",
                        "Give the values that are deployed, and call again: nothing was changed.",
                    )
                )
            self._execute(part, name, wanted.tell)

    @translated()
    def hand_over(self, tell: Tell) -> None:
        """Retain every resource of the stacks, so that their deletion changes nothing. May be repeated."""
        for _, name, region in self._stacks():
            if self._status(name, region) is not None:
                self._retain(name, region, None, tell)

    @translated()
    def disband(self, tell: Tell) -> None:
        """Delete the stacks after `hand_over`; their resources stay."""
        self._delete_stacks(tell)

    def _retain(self, name: str, region: str, wanted: Collection[str] | None, tell: Tell) -> None:
        """Change the stack's template so that its deletion leaves these resources in place, or all with None."""
        held = [str(one["LogicalResourceId"]) for one in self._resources(name, region)]
        chosen = [logical for logical in held if wanted is None or logical in wanted]
        client = self._client(region)
        if not chosen:
            return
        found = client.get_template(StackName=name)["TemplateBody"]
        # botocore returns a template in JSON as data.
        body = template.retained(found if isinstance(found, str) else json.dumps(found), chosen)
        held_by = self._found(name, region) or {}
        previous = [
            {"ParameterKey": one["ParameterKey"], "UsePreviousValue": True} for one in held_by.get("Parameters", [])
        ]
        change = f"tailpipe-{secrets.token_hex(6)}"
        client.create_change_set(
            StackName=name, ChangeSetName=change, Capabilities=CAPABILITIES, Parameters=previous, **self._source(body)
        )
        part = _Part(name, region, template.MAIN, {}, {})
        self._execute(part, self._described(part, change)[0], tell)

    def _delete(self, name: str, region: str, tell: Tell) -> None:
        client = self._client(region)
        identity = str((self._found(name, region) or {}).get("StackId", name))
        before = {one["EventId"] for one in self._events(identity, region)}
        client.delete_stack(StackName=name)
        status = self._wait(identity, region, tell, before)
        if status not in (None, "DELETE_COMPLETE"):
            raise OperatorError(
                *self._failures(name, region, str(status)),
                Problem(f"stack {name} is not deleted", "Fix the problems above and call again: it continues."),
            )
        tell(f"stack {name} is deleted")

    def left(self) -> str:
        return f"the packages stay in bucket {self._bucket()}; remove it manually when you no longer need it"


def _absent(error: ClientError) -> bool:
    """Return whether no stack has the name of a request, or none can have it."""
    message = message_of(error)
    return code_of(error) == "ValidationError" and ("does not exist" in message or "at 'stackName' failed" in message)


def _referring(node: Any, names: Mapping[str, str]) -> Any:
    """Return a part of a template in which texts are references to the parameters that hold them."""
    if isinstance(node, Mapping):
        return {key: _referring(one, names) for key, one in node.items()}
    if isinstance(node, list):
        return [_referring(one, names) for one in node]
    return {"Ref": names[node]} if isinstance(node, str) and node in names else node


def _keeps(kept: Sequence[Kept]) -> dict[str, str]:
    """Return the logical ids of what a removal keeps, by the prefixes of Terraform's addresses."""
    named = {part for one in kept for part in one.addresses}
    return {logical: kind for prefix, chosen in KEPT.items() if prefix in named for logical, kind in chosen.items()}


def _change(change: Mapping[str, Any], prefix: str) -> Change:
    """Return a change of a change set. A replacement that depends on another one counts as a replacement."""
    actions: tuple[str, ...] = ("update",)
    if change["Action"] == "Add":
        actions = ("create",)
    elif change["Action"] == "Remove":
        actions = ("forget",) if change.get("PolicyAction") == "Retain" else ("delete",)
    elif change.get("Replacement") in ("True", "Conditional"):
        actions = ("create", "delete")
    address = f"{prefix}{change['LogicalResourceId']}"
    return Change(address, str(change["ResourceType"]), actions, {}, importing=change["Action"] == "Import")
