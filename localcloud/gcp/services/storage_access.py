"""Permission checks on buckets and objects, with Cloud Storage's own error messages."""

from __future__ import annotations

from localcloud.gcp.context import Context
from localcloud.gcp.errors import GoogleError, not_found, unpaid
from localcloud.gcp.services.buckets import Bucket
from localcloud.gcp.services.objects import StoredObject


def forbidden(context: Context, permission: str, where: str) -> str:
    """Return Cloud Storage's error message for a missing permission."""
    return (
        f"{context.identity} does not have {permission} access to {where}. Permission '{permission}' denied on "
        "resource (or it may not exist)."
    )


def reach(context: Context, permission: str, name: str, item: str = "") -> Bucket:
    """Return a bucket if the caller has a permission on it, or on its object `item`.

    Raises GoogleError 403 or 404.
    """
    buckets = context.world.buckets
    if name not in buckets.all and _sees_buckets(context):
        raise not_found("The specified bucket does not exist.")
    kind = "bucket" if permission.startswith("storage.buckets") else "object"
    message = forbidden(context, permission, f"the Google Cloud Storage {kind}")
    context.need(permission, f"buckets/{name}/objects/{item}" if item else f"buckets/{name}", message)
    if name not in buckets.all:
        raise GoogleError(403, "forbidden", message)
    context.world.check_project(buckets.all[name].project)
    if state := context.world.unpaid(buckets.all[name].project):
        raise unpaid(state)
    return buckets.all[name]


def look_up(context: Context, permission: str, bucket: Bucket, item: str, wanted: int | None = None) -> StoredObject:
    """Return an object, optionally of a given generation.

    Raises GoogleError 404; 403 for a caller without the list permission, who must not learn whether it exists.
    """
    try:
        return bucket.objects.get(bucket.name, item, wanted)
    except GoogleError as missing:
        if missing.status == 404:
            message = forbidden(context, permission, "the Google Cloud Storage object")
            context.need("storage.objects.list", f"buckets/{bucket.name}", message)
        raise


def _sees_buckets(context: Context) -> bool:
    # Only callers who may read the project's buckets learn that a bucket is missing.
    chain = context.world.chain(f"projects/{context.world.project}")
    asked = ("storage.buckets.get", "storage.buckets.create", "storage.objects.list", "storage.objects.get")
    return any(context.world.iam.allows(context.identity, name, chain) for name in asked)
