"""Resources that the earlier setup scripts created and that customers still have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from localcloud.gcp.platform.deployment import POOL, Deployment
from localcloud.gcp.platform.names import ORGANIZATION

# The scripts' own values: no vendor document confirms them.
ISSUER = "https://auth.tailpipe.io"
AUDIENCE = "https://tailpipe.io"
ROLES = (
    "roles/bigquery.dataViewer",
    "roles/bigquery.jobUser",
    "roles/storage.objectViewer",
    "roles/monitoring.viewer",
    "roles/compute.viewer",
)
KEY = "0123456789abcdef0123456789abcdef01234567"
# The scripts deleted copies older than this.
LIFECYCLE: dict[str, Any] = {"rule": [{"action": {"type": "Delete"}, "condition": {"age": 90}}]}


def bucket(deployment: Deployment, location: str) -> dict[str, Any]:
    """Return the scripts' request body for the bucket: Google's defaults and the lifecycle rule."""
    return {"name": deployment.bucket, "location": location, "lifecycle": LIFECYCLE}


def resources(deployment: Deployment, number: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (full name, document) of the scripts' service account, its key, the pool and the provider.

    The provider has no condition: it accepted every customer's token.
    """
    account = f"projects/{deployment.project}/serviceAccounts/{deployment.connector}"
    yield account, {"projectId": deployment.project, "email": deployment.connector, "uniqueId": str(10**20)}
    yield f"{account}/keys/{KEY}", {"keyType": "USER_MANAGED"}
    pool = f"locations/global/workloadIdentityPools/{POOL}"
    shown = f"projects/{number}/{pool}"
    yield f"projects/{deployment.project}/{pool}", {"name": shown, "displayName": "Tailpipe", "state": "ACTIVE"}
    yield (
        f"projects/{deployment.project}/{pool}/providers/tailpipe-provider",
        {
            "name": f"{shown}/providers/tailpipe-provider",
            "state": "ACTIVE",
            "attributeMapping": {"google.subject": "assertion.sub", "attribute.tenant": "assertion.tenant_id"},
            "oidc": {"issuerUri": ISSUER, "allowedAudiences": [AUDIENCE]},
        },
    )


def grants(deployment: Deployment, number: str) -> Iterator[tuple[str, str, str]]:
    """Yield (identity, role, resource) of the scripts' grants, which have no conditions."""
    for role in ROLES:
        yield deployment.connector, role, f"projects/{deployment.project}"
    yield deployment.connector, "roles/billing.viewer", ORGANIZATION
    pool_members = f"principalSet://iam.googleapis.com/projects/{number}/locations/global/workloadIdentityPools/{POOL}"
    account = f"projects/{deployment.project}/serviceAccounts/{deployment.connector}"
    yield f"{pool_members}/attribute.tenant/*", "roles/iam.workloadIdentityUser", account
