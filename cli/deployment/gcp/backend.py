"""The storage of Terraform's state on Google Cloud: one private bucket per project."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from cli.deployment.gcp.rest import refused
from cli.deployment.gcp.session import Session
from cli.deployment.model import Backend, OperatorError, Problem
from cli.deployment.operator import Tell
from gcp_function.targets import MANAGED_BY, MANAGER
from shared.errors import Denied, Permanent, ReportedError

PREFIX = "tailpipe-exports"
STATE = f"{PREFIX}/default.tfstate"  # as Terraform's backend gcs names the default workspace


def bucket_of(session: Session) -> str:
    """Return the bucket's name."""
    return f"tailpipe-terraform-{session.project}"


def backend(session: Session) -> Backend:
    """Return the backend."""
    bucket = bucket_of(session)
    return Backend("gcs", {"bucket": bucket, "prefix": PREFIX}, f"bucket {bucket}")


def exists(session: Session) -> bool:
    """Return whether the bucket exists. Raises OperatorError if it belongs to another project."""
    bucket = bucket_of(session)
    try:
        found = session.google.find("storage", f"storage/v1/b/{bucket}")
    except Denied as error:
        raise OperatorError(_foreign(bucket)) from error
    except ReportedError as error:
        raise refused(error) from error
    if found is not None and str(found.get("projectNumber")) != session.number:
        raise OperatorError(_foreign(bucket))
    return found is not None


def state(session: Session) -> str | None:
    """Return Terraform's state file, or None if none is readable to the caller. Raises ReportedError."""
    path = f"storage/v1/b/{bucket_of(session)}/o/{quote(STATE, safe='')}"
    try:
        return session.google.text("storage", path, alt="media")
    except Denied:
        return None


def write_state(session: Session, document: Mapping[str, Any], name: str = STATE) -> None:
    """Write a state file, which replaces Terraform's unless `name` is another object's. Raises ReportedError."""
    session.google.upload(bucket_of(session), name, json.dumps(document, indent=2).encode())


def holds_resources(session: Session) -> bool:
    """Return whether Terraform's state has resources. Raises ReportedError, and OperatorError for a damaged state."""
    content = state(session)
    try:
        document = json.loads(content) if content else {}
        return any(one.get("mode") == "managed" for one in document.get("resources", ()))
    except (ValueError, AttributeError, TypeError) as error:
        raise OperatorError(
            Problem(
                f"Terraform's state gs://{bucket_of(session)}/{STATE} is damaged",
                "Restore an older version of the object, which the bucket keeps.",
            )
        ) from error


def make(session: Session, tell: Tell) -> None:
    """Create the bucket, or restore its properties. Raises ReportedError, and OperatorError as `exists` does."""
    bucket = bucket_of(session)
    # Cloud Storage encrypts everything and serves its API only over TLS. Only access and the restoration of older
    # states remain to be set.
    wanted: dict[str, Any] = {
        "iamConfiguration": {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"},
        "versioning": {"enabled": True},
        "labels": {MANAGED_BY: MANAGER},
    }
    location = str(session.given.get("dataset_location") or "US")
    try:
        body = {**wanted, "name": bucket, "location": location}
        session.google.post("storage", "storage/v1/b", body, project=session.project)
    except Permanent as error:
        if error.code != "already-exists":
            raise
        if not exists(session):
            raise OperatorError(_foreign(bucket)) from error
        session.google.patch("storage", f"storage/v1/b/{bucket}", wanted)
    tell(f"bucket {bucket} is created for Terraform's state: private, versioned, encrypted")


def _foreign(bucket: str) -> Problem:
    return Problem(
        f"bucket {bucket} belongs to another project, or you may not read it",
        "Grant storage.buckets.get on it; or keep the state with --local-state DIR.",
    )
