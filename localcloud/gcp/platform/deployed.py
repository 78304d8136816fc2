"""The resources around the function as their own APIs show them after a deployment."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from string import Template
from typing import Any

from localcloud.gcp.platform.names import Names
from tailpipe_exports import FILES

# The audience of the local issuer's tokens.
AUDIENCE = "https://audience.example.com"
LABELS = {"managed-by": "tailpipe-exports"}
_ACCOUNTS = ("function", "connector", "scheduler", "build", "events")
_ALARMS = (
    "no run succeeded for 3 hours",
    "a run failed",
    "a billing account has not been covered for two days",
    "a manual step is waiting",
    "Google refuses the export of a billing account",
)
_TIMEOUT_S = 1800
SINK_WRITER = "service-123456789012@gcp-sa-logging.iam.gserviceaccount.com"
EVENTS_FILTER = FILES / "infra" / "gcp" / "events.filter"
Named = tuple[str, dict[str, Any]]


def deployed(deployment: Names, number: str, uri: str, issuer: str, now: datetime) -> Iterator[Named]:
    """Yield (full name, document) of each; `number` is the project's number, `uri` the function's address.

    `issuer` is the issuer whose tokens the connector's identity pool accepts.
    """
    stamp = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    project = f"projects/{deployment.project}"
    region = deployment.function.rpartition("/functions/")[0]
    function = deployment.function.rpartition("/")[2]
    yield from _identities(deployment, number, issuer)
    yield from _function(deployment, uri, stamp)
    yield (
        f"{region}/jobs/{function}",
        {
            "description": f"Runs {function}, which keeps the billing exports alive",
            "schedule": "0 * * * *",
            "timeZone": "Etc/UTC",
            "state": "ENABLED",
            "attemptDeadline": f"{_TIMEOUT_S}s",
            "retryConfig": {"retryCount": 3, "minBackoffDuration": "60s", "maxBackoffDuration": "600s"},
            "httpTarget": {
                "uri": uri,
                "httpMethod": "POST",
                "oidcToken": {"serviceAccountEmail": deployment.scheduler, "audience": uri},
            },
            "userUpdateTime": stamp,
        },
    )
    yield f"{region}/repositories/{function}", {"format": "DOCKER", "labels": dict(LABELS), "createTime": stamp}
    yield f"{region}/buckets/{function}", {"retentionDays": 90, "lifecycleState": "ACTIVE", "createTime": stamp}
    yield f"{project}/sinks/{function}", {"name": function, "destination": f"logging.googleapis.com/{region}/buckets/x"}
    yield f"{project}/sinks/{function}-events", _events_sink(deployment)
    for kind in ("ok", "covered", "missing", "manual", "excluded", "announced", "unannounced"):
        name = f"tailpipe_exports_runs_{kind}"
        yield f"{project}/metrics/{name}", {"name": name, "filter": f'jsonPayload.status="{kind}"'}
    for index, title in enumerate(_ALARMS, start=1):
        document = {"displayName": f"{function}: {title}", "userLabels": dict(LABELS), "enabled": True}
        yield f"{project}/alertPolicies/{index}", document
    title = f"Tailpipe Exports: {function}"
    # Returned with the project number, requested with the project id.
    shown = f"projects/{number}/dashboards/1"
    yield f"{project}/dashboards/1", {"name": shown, "displayName": title, "labels": dict(LABELS)}


def _events_sink(deployment: Names) -> dict[str, Any]:
    text = Template(EVENTS_FILTER.read_text(encoding="utf-8")).substitute(function=deployment.identity)
    return {
        "name": f"{deployment.function.rpartition('/')[2]}-events",
        "destination": f"pubsub.googleapis.com/{deployment.topic}",
        "filter": text,
        "writerIdentity": f"serviceAccount:{SINK_WRITER}",
    }


def _identities(deployment: Names, number: str, issuer: str) -> Iterator[Named]:
    project = f"projects/{deployment.project}"
    for index, name in enumerate(_ACCOUNTS, start=1):
        email = deployment.account(name)
        unique = str(10**20 + index)
        document = {"projectId": deployment.project, "email": email, "uniqueId": unique, "oauth2ClientId": unique}
        yield f"{project}/serviceAccounts/{email}", document
    for grant in deployment.grants("function"):
        if grant.actions:
            yield (
                grant.role_in(deployment.project),
                {"title": f"Tailpipe Exports: {grant.id}", "includedPermissions": list(grant.actions), "stage": "GA"},
            )
    pool = "locations/global/workloadIdentityPools/tailpipe-pool"
    # Returned with the project number, requested with the project id.
    shown = f"projects/{number}/{pool}"
    yield f"{project}/{pool}", {"name": shown, "displayName": "Tailpipe", "state": "ACTIVE"}
    yield (
        f"{project}/{pool}/providers/tailpipe-provider",
        {
            "name": f"{shown}/providers/tailpipe-provider",
            "state": "ACTIVE",
            "attributeMapping": {"google.subject": "assertion.sub", "attribute.tenant": "assertion.tenant_id"},
            "attributeCondition": "assertion.tenant_id == 'tenant-of-this-machine'",
            "oidc": {"issuerUri": issuer, "allowedAudiences": [AUDIENCE]},
        },
    )


def _function(deployment: Names, uri: str, stamp: str) -> Iterator[Named]:
    function = deployment.function.rpartition("/")[2]
    config: dict[str, Any] = {
        "service": deployment.service,
        "uri": uri,
        "serviceAccountEmail": deployment.identity,
        "environmentVariables": {"GOOGLE_CLOUD_PROJECT": deployment.project, **deployment.settings()},
        "timeoutSeconds": _TIMEOUT_S,
        "availableMemory": "512Mi",
        "availableCpu": "1",
        "maxInstanceCount": 1,
        "maxInstanceRequestConcurrency": 1,
        "ingressSettings": "ALLOW_INTERNAL_ONLY",
        "allTrafficOnLatestRevision": True,
        "revision": f"{function}-00001-loc",
    }
    yield (
        deployment.function,
        {
            "environment": "GEN_2",
            "state": "ACTIVE",
            "labels": dict(LABELS),
            "buildConfig": {"runtime": "python312", "entryPoint": "reconcile"},
            "serviceConfig": config,
            "url": uri,
            "updateTime": stamp,
        },
    )
    yield deployment.service, {"uri": uri, "ingress": "INGRESS_TRAFFIC_INTERNAL_ONLY", "labels": dict(LABELS)}
