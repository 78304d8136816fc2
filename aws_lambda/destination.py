"""The bucket: its own statements and rules are merged by Sid and by id, everything else stays as it is."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from aws_lambda import guides
from aws_lambda.clients import Clients
from aws_lambda.errors import observed
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import EXPORTS_SID, TLS_SID, lifecycle_rules, own_statements
from shared.cloud import Applied
from shared.errors import CloudError, Manual, NotFound, Permanent
from shared.model import Absent, Action, Health, Observation, Present, Target, Verb
from shared.run import Run

QUOTA = "s3"
BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
FIELDS_OF_STATEMENTS = {"tls-statement": TLS_SID, "export-statement": EXPORTS_SID}
STATEMENT_LISTS = ("Action", "NotAction", "Resource", "NotResource")
ENCRYPTION_RANK = {"none": 0, "AES256": 1, "aws:kms": 2, "aws:kms:dsse": 3}


class Destination:
    """Observes and applies the bucket target."""

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: Run) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self._name = settings.bucket_of(account)
        self._lock = threading.Lock()  # one read-modify-write of the policy at a time
        self.statement_missing: bool | None = None  # whether the export statement was missing when last looked at

    def observe(self, target: Target) -> Observation:
        """Read the bucket's policy, public access block, encryption and lifecycle: four calls."""
        try:
            policy = self._policy()
        except NotFound as error:
            return self._absent(error, target)
        except CloudError as error:
            return self._unreadable(error)
        try:
            return self._present(target, policy)
        except NotFound as error:
            return self._absent(error, target)
        except CloudError as error:
            return self._unreadable(error)

    def apply(self, action: Action) -> Applied:
        """Create the bucket, or repair the fields that differ. Raises CloudError."""
        if action.verb is Verb.CREATE:
            self._create()
        fields = tuple(action.target.desired) if action.verb is Verb.CREATE else action.changes
        writers: Mapping[str, Callable[[Target], None]] = {
            "public-access": self._block_public_access,
            "encryption": self._encrypt,
            "lifecycle": self._write_lifecycle,
        }
        for field in fields:
            if field in writers:
                writers[field](action.target)
        if any(field in FIELDS_OF_STATEMENTS for field in fields):
            self.write_statements(exporting="export-statement" in action.target.desired)
        return Applied()

    def write_statements(self, exporting: bool = True) -> None:
        """Put the own statements into the policy, keeping everything else in it.

        Raises Manual where the policy is no JSON object, other CloudErrors where S3 refuses.
        """
        with self._lock:
            text = self._policy()
            try:
                document = _parsed(text)
            except ValueError as error:
                raise Manual("policy-unreadable", guides.policy_unreadable(self._name)) from error
            own = own_statements(self._account, self._settings, exporting)
            self._call(self._clients.s3.put_bucket_policy, Policy=json.dumps(_merged(document, own)))

    def _present(self, target: Target, text: str) -> Present:
        try:
            statements = _statements(_parsed(text))
        except ValueError:
            return Present(health=Health.MANUAL, code="policy-unreadable", guide=guides.policy_unreadable(self._name))
        actual: dict[str, Any] = {
            "public-access": self._public_access(),
            "encryption": self._encryption(str(target.desired["encryption"])),
            "lifecycle": self._lifecycle(),
        }
        for field, sid in FIELDS_OF_STATEMENTS.items():
            mine = [normal_statement(one) for one in statements if _sid(one) == sid]
            wanted = target.desired.get(field)
            actual[field] = wanted if mine == [wanted] else (mine or None)
        if "export-statement" in target.desired:
            self.statement_missing = actual["export-statement"] != target.desired["export-statement"]
        denying = [one for one in statements if self._blocks_delivery(one)]
        if denying and "export-statement" in target.desired:
            return Present(
                actual, Health.MANUAL, code="policy-denies", guide=guides.policy_denies(self._name, _sid(denying[0]))
            )
        return Present(actual)

    def _absent(self, error: NotFound, target: Target) -> Observation:
        if error.code != "NoSuchBucket":
            return observed(error, f"bucket {self._name}")
        self.statement_missing = "export-statement" in target.desired
        return Absent(("get",), f"bucket {self._name} does not exist")

    def _unreadable(self, error: CloudError) -> Observation:
        return observed(error, f"bucket {self._name} (of account {self._account}, or of somebody else)")

    def _policy(self) -> str:
        try:
            return str(self._call(self._clients.s3.get_bucket_policy)["Policy"])
        except NotFound as error:
            if error.code != "NoSuchBucketPolicy":
                raise
            return ""

    def _public_access(self) -> str:
        try:
            found = self._call(self._clients.s3.get_public_access_block)["PublicAccessBlockConfiguration"]
        except NotFound as error:
            _raise_if_no_bucket(error)
            found = {}
        open_doors = [name for name in BLOCKS if not found.get(name)]
        return f"open: {', '.join(open_doors)}" if open_doors else "blocked"

    def _encryption(self, wanted: str) -> str:
        """Return the default encryption, or `wanted` where what is there is stricter."""
        try:
            answer = self._call(self._clients.s3.get_bucket_encryption)["ServerSideEncryptionConfiguration"]
        except NotFound as error:
            _raise_if_no_bucket(error)
            return "none"
        rules = answer.get("Rules", [])
        default = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
        algorithm, key = str(default.get("SSEAlgorithm", "none")), str(default.get("KMSMasterKeyID", ""))
        asked, _, asked_key = wanted.partition(" ")
        strict_enough = ENCRYPTION_RANK.get(algorithm, 0) >= ENCRYPTION_RANK[asked]
        return wanted if strict_enough and asked_key in ("", key) else f"{algorithm} {key}".strip()

    def _lifecycle(self) -> list[str]:
        """Return the ids of the own rules that are as they should be."""
        found = {str(rule.get("ID", "")): _normal_rule(rule) for rule in self._lifecycle_answer().get("Rules", [])}
        wanted = lifecycle_rules(self._settings)
        return sorted(name for name, rule in wanted.items() if found.get(name) == _normal_rule(rule))

    def _lifecycle_answer(self) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self._call(self._clients.s3.get_bucket_lifecycle_configuration)
        except NotFound as error:
            _raise_if_no_bucket(error)
            return {}
        return answer

    def _create(self) -> None:
        region = self._settings.bucket_region
        # us-east-1 is the one region that must not be named.
        place: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        try:
            self._run.calls(QUOTA, self._clients.s3.create_bucket, Bucket=self._name, **place)
        except Permanent as error:
            if error.code == "BucketAlreadyOwnedByYou":
                return
            if error.code == "BucketAlreadyExists":
                raise Manual("bucket-name-taken", guides.bucket_name_taken(self._name), error.message) from error
            raise

    def _block_public_access(self, _target: Target) -> None:
        self._call(self._clients.s3.put_public_access_block, PublicAccessBlockConfiguration=dict.fromkeys(BLOCKS, True))

    def _encrypt(self, target: Target) -> None:
        algorithm, _, key = str(target.desired["encryption"]).partition(" ")
        default = {"SSEAlgorithm": algorithm} | ({"KMSMasterKeyID": key} if key else {})
        rule = {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": bool(key)}
        self._call(self._clients.s3.put_bucket_encryption, ServerSideEncryptionConfiguration={"Rules": [rule]})

    def _write_lifecycle(self, _target: Target) -> None:
        answer = self._lifecycle_answer()
        own = lifecycle_rules(self._settings)
        kept = [rule for rule in answer.get("Rules", []) if rule.get("ID") not in own]
        minimum = answer.get("TransitionDefaultMinimumObjectSize")
        self._call(
            self._clients.s3.put_bucket_lifecycle_configuration,
            LifecycleConfiguration={"Rules": [*kept, *own.values()]},
            **({"TransitionDefaultMinimumObjectSize": minimum} if minimum else {}),
        )

    def _call(self, function: Callable[..., Any], **arguments: Any) -> Any:
        return self._run.calls(QUOTA, function, Bucket=self._name, ExpectedBucketOwner=self._account, **arguments)

    def _blocks_delivery(self, statement: Mapping[str, Any]) -> bool:
        """Return whether a foreign Deny plainly hits the service: only one without conditions is plain."""
        if statement.get("Effect") != "Deny" or statement.get("Condition") or _sid(statement) == TLS_SID:
            return False
        principal = statement.get("Principal")
        services = _many(principal.get("Service", [])) if isinstance(principal, dict) else []
        everyone = principal == "*" or (isinstance(principal, dict) and "*" in _many(principal.get("AWS", [])))
        if not everyone and "bcm-data-exports.amazonaws.com" not in services:
            return False
        probe = f"arn:{self._settings.partition}:s3:::{self._name}/{self._settings.prefix}/probe"
        hits_action = any(_like("s3:putobject", str(one).lower()) for one in _many(statement.get("Action", [])))
        return hits_action and any(_like(probe, str(one)) for one in _many(statement.get("Resource", [])))


def normal_statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    """Return a statement with every value that may be one or many as a sorted list of texts."""
    normal: dict[str, Any] = dict(statement)
    for name in STATEMENT_LISTS:
        if name in normal:
            normal[name] = _texts(normal[name])
    if "Principal" in normal:
        principal = {"AWS": "*"} if normal["Principal"] == "*" else normal["Principal"]
        normal["Principal"] = _listed(principal)
    conditions = normal.get("Condition")
    if isinstance(conditions, dict):
        normal["Condition"] = {operator: _listed(keys) for operator, keys in conditions.items()}
    return normal


def _listed(values: Any) -> Any:
    return {key: _texts(value) for key, value in values.items()} if isinstance(values, dict) else values


def _texts(value: Any) -> list[str]:
    return sorted("true" if one is True else "false" if one is False else str(one) for one in _many(value))


def _many(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _like(value: str, pattern: str) -> bool:
    # Policies know * and ? only: a bracket is a plain character there.
    return fnmatchcase(value, pattern.replace("[", "[[]"))


def _sid(statement: Mapping[str, Any]) -> str:
    return str(statement.get("Sid", ""))


def _parsed(text: str) -> dict[str, Any]:
    """Return the policy as an object, empty for no policy. Raises ValueError if it is none."""
    if not text:
        return {}
    try:
        document = json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(document, dict) or not all(isinstance(one, dict) for one in _many(document.get("Statement", []))):
        raise ValueError("not a policy")
    return document


def _statements(document: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _many(document.get("Statement", []))


def _merged(document: Mapping[str, Any], own: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    kept = [one for one in _statements(document) if _sid(one) not in own]
    return {"Version": "2012-10-17", **document, "Statement": [*kept, *own.values()]}


def _normal_rule(rule: Mapping[str, Any]) -> dict[str, Any]:
    scope = rule.get("Filter") or {}
    return {
        "status": rule.get("Status"),
        "prefix": scope.get("Prefix", rule.get("Prefix", "")),
        "further": sorted(set(scope) - {"Prefix"}),
        "transitions": sorted((one.get("StorageClass"), one.get("Days")) for one in rule.get("Transitions", [])),
        "expires": rule.get("Expiration", {}).get("Days"),
    }


def _raise_if_no_bucket(error: NotFound) -> None:
    if error.code == "NoSuchBucket":
        raise error
