"""The export bucket: merge the function's policy statements and lifecycle rules, and keep everything else in it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from aws_lambda import manual_steps
from aws_lambda.clients import Clients
from aws_lambda.errors import observed
from aws_lambda.resources.bucket_lifecycle import harm_of, normal_rule
from aws_lambda.resources.bucket_policy import (
    POLICY_LIMIT,
    deleted_principals,
    label_of,
    may_block_delivery,
    merged,
    normal_statement,
    parsed,
    sid_of,
    statements_of,
)
from aws_lambda.settings import AwsSettings
from aws_lambda.targets import BUCKET, EXPORTS_SID, TLS_SID, lifecycle_rules, own_statements
from shared.errors import CloudError, Manual, NotFound, NotUnderstood, Permanent
from shared.model import Absent, Action, Health, Key, ManualStep, Observation, Present, Target, Verb
from shared.parsing import parse_time
from shared.provider import Applied
from shared.resources import one_by_one
from shared.runtime.context import RunContext

QUOTA = "s3"
BLOCKS = ("BlockPublicAcls", "BlockPublicPolicy", "IgnorePublicAcls", "RestrictPublicBuckets")
FIELDS_OF_STATEMENTS = {"tls-statement": TLS_SID, "export-statement": EXPORTS_SID}
RETENTION_FRESH = timedelta(hours=24)
ENCRYPTION_RANK = {"none": 0, "AES256": 1, "aws:kms": 2, "aws:kms:dsse": 3}


class Bucket:
    """Observes, creates and repairs the bucket."""

    kinds = (BUCKET,)

    def __init__(self, settings: AwsSettings, account: str, clients: Clients, run: RunContext) -> None:
        self._settings = settings
        self._account = account
        self._clients = clients
        self._run = run
        self.name, self._owner = settings.bucket_of(account), settings.owner_of_bucket(account)
        self._lock = threading.Lock()  # one read-modify-write of the policy at a time
        # The last observation, for the exports: whether the export statement was missing,
        self.statement_missing: bool | None = None
        # a lifecycle rule that removes recent exports, with its code, the statements that may block the export service,
        # and the customer's KMS key.
        self.harm: tuple[str, ManualStep] | None = None
        self.suspects: list[str] = []
        self.key = ""

    def observe_bulk(self, targets: Sequence[Target]) -> Mapping[Key, Observation]:
        """Read the bucket; its exports depend on what was observed."""
        return {target.key: self.observe(target) for target in targets}

    def observe(self, target: Target) -> Observation:
        """Read the bucket's policy, public access block, encryption and lifecycle rules, in four calls."""
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

    def apply(self, actions: Sequence[Action]) -> Sequence[Applied | CloudError]:
        """Create the bucket, or repair the fields that differ."""
        return one_by_one(self._write, actions)

    def _write(self, action: Action) -> Applied:
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
        """Add the function's statements to the policy and keep everything else in it.

        Raises Manual if the policy is not a JSON object, is too large or is rejected by S3; other CloudErrors.
        """
        with self._lock:
            text = self._policy()
            try:
                document = parsed(text)
            except json.JSONDecodeError as error:
                raise NotUnderstood("s3 GetBucketPolicy", "its JSON is truncated or damaged") from error
            except ValueError as error:
                raise Manual("policy-unreadable", manual_steps.policy_unreadable(self.name)) from error
            own = own_statements(self._account, self._settings, exporting)
            policy = json.dumps(merged(document, own), separators=(",", ":"))
            if len(policy.encode()) > POLICY_LIMIT:
                raise Manual(
                    "policy-too-large", manual_steps.policy_too_large(self.name, len(policy.encode()), POLICY_LIMIT)
                )
            try:
                self._call(self._clients.s3.put_bucket_policy, Policy=policy)
            except Permanent as error:
                if error.code != "MalformedPolicy":
                    raise
                others = [one for one in statements_of(document) if sid_of(one) not in own]
                manual_step = manual_steps.policy_refused(
                    self.name, deleted_principals(others), [label_of(one) for one in others], error.message
                )
                raise Manual("policy-refused", manual_step, error.message) from error

    def _present(self, target: Target, text: str) -> Present:
        try:
            statements = statements_of(parsed(text))
        except json.JSONDecodeError as error:
            raise NotUnderstood("s3 GetBucketPolicy", "its JSON is truncated or damaged") from error
        except ValueError:
            return Present(
                health=Health.MANUAL, code="policy-unreadable", manual_step=manual_steps.policy_unreadable(self.name)
            )
        actual: dict[str, Any] = {
            "public-access": self._public_access(),
            "encryption": self._encryption(str(target.desired["encryption"])),
            "lifecycle": self._lifecycle(),
        }
        for field, sid in FIELDS_OF_STATEMENTS.items():
            mine = [normal_statement(one) for one in statements if sid_of(one) == sid]
            wanted = target.desired.get(field)
            actual[field] = wanted if mine == [wanted] else (mine or None)
        if "export-statement" in target.desired:
            self.statement_missing = actual["export-statement"] != target.desired["export-statement"]
        probe = f"arn:{self._settings.partition}:s3:::{self.name}/{self._settings.prefix}/probe"
        hits = [one for one in statements if may_block_delivery(one, probe)]
        self.suspects = [label_of(one) for one in hits]
        denying = [one for one in hits if not one.get("Condition")]
        # The function first repairs what it can: a manual step would prevent the repair.
        drifted = any(actual[field] != value for field, value in target.desired.items())
        if denying and "export-statement" in target.desired and not drifted:
            return Present(
                actual,
                Health.MANUAL,
                code="policy-denies",
                manual_step=manual_steps.policy_denies(self.name, label_of(denying[0])),
            )
        return Present(actual)

    def _absent(self, error: NotFound, target: Target) -> Observation:
        if error.code != "NoSuchBucket":
            return observed(error, f"bucket {self.name}")
        self.statement_missing = "export-statement" in target.desired
        return Absent(("get",), f"bucket {self.name} does not exist")

    def _unreadable(self, error: CloudError) -> Observation:
        return observed(error, f"bucket {self.name} (of account {self._account} or another account)")

    def _policy(self) -> str:
        try:
            text = str(self._call(self._clients.s3.get_bucket_policy)["Policy"])
        except NotFound as error:
            if error.code != "NoSuchBucketPolicy":
                raise
            return ""
        # S3 stores only JSON objects, and answers 404 without a policy: anything else is truncated or not from S3.
        if not (text.startswith("{") and text.rstrip().endswith("}")):
            raise NotUnderstood("s3 GetBucketPolicy", "it is not a JSON object")
        return text

    def _public_access(self) -> str:
        try:
            found = self._call(self._clients.s3.get_public_access_block)["PublicAccessBlockConfiguration"]
        except NotFound as error:
            _raise_if_no_bucket(error)
            found = {}
        missing = [name for name in BLOCKS if not found.get(name)]
        return f"open: {', '.join(missing)}" if missing else "blocked"

    def retention(self, facts: Mapping[str, Any]) -> tuple[tuple[str, ManualStep] | None, dict[str, Any]]:
        """Return the code and manual step of a default retention, None without one, and the facts to remember.

        It is read once a day; while there is one, in every run, so that its removal is detected at once.
        """
        now = self._run.clock.now()
        found, at = str(facts.get("retention", "")), parse_time(facts.get("retention_at"))
        remembered: dict[str, Any] = {}
        if found or at is None or now - at >= RETENTION_FRESH:
            try:
                found = self._retention()
                remembered = {"retention": found, "retention_at": now.isoformat()}
            except CloudError as error:
                # Deployments of earlier versions lack the permission, and their exports deliver without it.
                what = f"Object Lock of bucket {self.name}: {error.message}"
                self._run.log("warning", "detail-unread", code=error.code, reason=what)
        harm = ("bucket-retention", manual_steps.bucket_retention(self.name, found)) if found else None
        return harm, remembered

    def _retention(self) -> str:
        try:
            answer = self._call(self._clients.s3.get_object_lock_configuration)["ObjectLockConfiguration"]
        except NotFound as error:
            # S3 answers 404 without Object Lock, with this code; any other 404 is not from S3.
            if error.code not in ("ObjectLockConfigurationNotFoundError", "NoSuchBucket"):
                raise NotUnderstood("s3 GetObjectLockConfiguration", error.message) from error
            return ""
        default = answer.get("Rule", {}).get("DefaultRetention", {})
        length = [f"{default[unit]} {unit.lower()}" for unit in ("Days", "Years") if default.get(unit)]
        return " ".join([*length, f"in mode {default.get('Mode', 'unknown')}"]) if length else ""

    def _encryption(self, wanted: str) -> str:
        """Return the default encryption, or `wanted` if the present one is at least as strict."""
        try:
            answer = self._call(self._clients.s3.get_bucket_encryption)["ServerSideEncryptionConfiguration"]
        except NotFound as error:
            _raise_if_no_bucket(error)
            return "none"
        rules = answer.get("Rules", [])
        default = rules[0].get("ApplyServerSideEncryptionByDefault", {}) if rules else {}
        algorithm, key = str(default.get("SSEAlgorithm", "none")), str(default.get("KMSMasterKeyID", ""))
        self.key = key if algorithm.startswith("aws:kms") else ""
        wanted_algorithm, _, wanted_key = wanted.partition(" ")
        strict_enough = ENCRYPTION_RANK.get(algorithm, 0) >= ENCRYPTION_RANK[wanted_algorithm]
        return wanted if strict_enough and wanted_key in ("", key) else f"{algorithm} {key}".strip()

    def _lifecycle(self) -> list[str]:
        """Return the ids of the function's rules that match their definition."""
        rules = self._lifecycle_answer().get("Rules", [])
        found = {str(rule.get("ID", "")): normal_rule(rule) for rule in rules}
        wanted = lifecycle_rules(self._settings)
        self.harm = self._harm([rule for rule in rules if rule.get("ID") not in wanted])
        return sorted(name for name, rule in wanted.items() if found.get(name) == normal_rule(rule))

    def _harm(self, rules: Sequence[Mapping[str, Any]]) -> tuple[str, ManualStep] | None:
        for harm in ("expires", "archives"):
            ids = [str(rule.get("ID", "")) for rule in rules if harm_of(rule, self._settings.prefix) == harm]
            if ids:
                return f"lifecycle-{harm}", manual_steps.lifecycle_harms(self.name, self._settings.prefix, harm, ids)
        return None

    def _lifecycle_answer(self) -> Mapping[str, Any]:
        try:
            answer: Mapping[str, Any] = self._call(self._clients.s3.get_bucket_lifecycle_configuration)
        except NotFound as error:
            _raise_if_no_bucket(error)
            return {}
        return answer

    def _create(self) -> None:
        region = self._settings.bucket_region
        # us-east-1 is the only region that must be omitted.
        location: dict[str, Any] = (
            {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        )
        try:
            self._run.calls(QUOTA, self._clients.s3.create_bucket, Bucket=self.name, **location)
        except Permanent as error:
            if error.code == "BucketAlreadyOwnedByYou":
                return
            if error.code == "BucketAlreadyExists":
                raise Manual("bucket-name-taken", manual_steps.bucket_name_taken(self.name), error.message) from error
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
        return self._run.calls(QUOTA, function, Bucket=self.name, ExpectedBucketOwner=self._owner, **arguments)


def _raise_if_no_bucket(error: NotFound) -> None:
    if error.code == "NoSuchBucket":
        raise error
