"""The buckets that moto stores, with the access that other services of the local cloud need."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.s3.models import s3_backends

from shared.runtime.clock import Clock


@dataclass
class _Change:
    at: datetime
    before: bytes | None


class Buckets:
    """Reads and writes moto's buckets, and records when a bucket's policy last changed.

    For `policy_delay_s` after a change, services still use the previous policy, because S3's bucket policies are
    eventually consistent.
    """

    def __init__(self, clock: Clock, policy_delay_s: float = 0) -> None:
        self._clock = clock
        self.policy_delay_s = policy_delay_s
        self._changes: dict[str, _Change] = {}

    def owner(self, name: str) -> str | None:
        """Return the account that owns a bucket, or None if the bucket does not exist."""
        location = s3_backends.bucket_accounts.get(name)
        return str(location[1]) if location else None

    def region(self, name: str) -> str:
        return str(self._bucket(name).region_name)

    def policy(self, name: str) -> bytes | None:
        """Return the stored policy."""
        policy: bytes | None = self._bucket(name).policy
        return policy

    def set_policy(self, name: str, policy: bytes | None) -> None:
        self.note_change(name)
        self._bucket(name).policy = policy

    def note_change(self, name: str) -> None:
        """Record that a policy is about to be put or deleted."""
        self._changes[name] = _Change(self._clock.now(), self.effective_policy(name))

    def effective_policy(self, name: str) -> bytes | None:
        """Return the policy that other services use now."""
        change = self._changes.get(name)
        if change and self._clock.now() < change.at + timedelta(seconds=self.policy_delay_s):
            return change.before
        return self.policy(name)

    def retain(self, name: str, mode: str, days: int) -> None:
        """Enable Object Lock, also on an existing bucket, with a default retention (0 days: no default)."""
        bucket = self._bucket(name)
        bucket.object_lock_enabled, bucket.versioning_status = True, "Enabled"
        bucket.default_lock_mode, bucket.default_lock_days, bucket.default_lock_years = (
            (mode, days, 0) if days else (None, 0, 0)
        )

    def blocks_public_policies(self, name: str) -> bool:
        """Return whether the bucket's public access block refuses policies that make it public."""
        block = self._bucket(name).public_access_block
        return block is not None and str(block.block_public_policy).lower() == "true"

    # difference: AWS-8
    def writing_key(self, name: str) -> str:
        """Return the customer's KMS key with which the bucket encrypts by default, or ""."""
        rule = (self._bucket(name).encryption or {}).get("Rule") or {}
        default = rule.get("ApplyServerSideEncryptionByDefault") or {}
        kms = str(default.get("SSEAlgorithm", "")).startswith("aws:kms")
        return str(default.get("KMSMasterKeyID") or "") if kms else ""

    def reading_key(self, name: str, key: str) -> str:
        """Return the customer's KMS key with which an object is encrypted, or ""."""
        stored = self._bucket(name).keys.get(key)
        # A deletion in a versioned bucket leaves a delete marker, which has no encryption.
        kms = str(getattr(stored, "encryption", None) or "").startswith("aws:kms")
        return str(getattr(stored, "kms_key_id", None) or "") if kms else ""

    def put(self, name: str, key: str, value: bytes) -> None:
        """Store an object as the bucket's owner, stamped with the local clock."""
        partition, account = s3_backends.bucket_accounts[name]
        stored = s3_backends[account][partition].put_object(name, key, value)
        self.stamp(stored)

    def stamp_key(self, name: str, key: str) -> None:
        """Set an object's modification time to the local clock's time."""
        stored = self._bucket(name).keys.get(key)
        if stored is not None:
            self.stamp(stored)

    def stamp(self, stored: Any) -> None:
        stored.last_modified = self._clock.now().astimezone(UTC).replace(tzinfo=None)

    def age(self, name: str, prefix: str, by: timedelta) -> None:
        """Move the modification times of the objects under a prefix back by `by`."""
        for key in self.keys(name, prefix):
            self._bucket(name).keys.get(key).last_modified -= by

    def keys(self, name: str, prefix: str = "") -> list[str]:
        return sorted(key for key in self._bucket(name).keys if key.startswith(prefix))

    def _bucket(self, name: str) -> Any:
        partition, account = s3_backends.bucket_accounts[name]
        return s3_backends[account][partition].get_bucket(name)
