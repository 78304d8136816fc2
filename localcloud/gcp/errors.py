"""Google's error responses: one exception, two bodies (`errors` in older APIs, `details` in newer ones)."""

from __future__ import annotations

from typing import Any

_RPC = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
}
# The HTTP status for a failed job's reason where the response is not the job itself
# (https://cloud.google.com/bigquery/docs/error-messages).
STATUS_OF_REASON = {
    "accessDenied": 403,
    "backendError": 503,
    "billingNotEnabled": 403,
    "bytesBilledLimitExceeded": 400,
    "duplicate": 409,
    "internalError": 500,
    "invalid": 400,
    "invalidQuery": 400,
    "notFound": 404,
    "notImplemented": 501,
    "quotaExceeded": 403,
    "rateLimitExceeded": 403,
    "resourcesExceeded": 400,
    "responseTooLarge": 403,
    "stopped": 200,
}


class GoogleError(Exception):
    """An error response. `reason` is the code of the older APIs, `details` the newer APIs' `google.rpc` messages."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        details: tuple[dict[str, Any], ...] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.details = details
        self.headers = headers or {}

    def body(self, *, legacy: bool) -> dict[str, Any]:
        """Return the JSON document; with `legacy`, in the form of BigQuery and Cloud Storage."""
        error: dict[str, Any] = {"code": self.status, "message": self.message}
        if legacy:
            error["errors"] = [{"message": self.message, "domain": "global", "reason": self.reason}]
        if rpc := _RPC.get(self.status):
            error["status"] = rpc
        if self.details:
            error["details"] = list(self.details)
        return {"error": error}

    def proto(self) -> dict[str, Any]:
        """Return the ErrorProto that a failed job carries."""
        return {"reason": self.reason, "message": self.message}


def error_info(reason: str, **metadata: str) -> dict[str, Any]:
    """Return a `google.rpc.ErrorInfo` (https://google.aip.dev/193)."""
    return {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "reason": reason,
        "domain": "googleapis.com",
        "metadata": metadata,
    }


def job_error(reason: str, message: str) -> GoogleError:
    """Return the error of a job that fails for this reason."""
    return GoogleError(STATUS_OF_REASON[reason], reason, message)


def invalid(message: str) -> GoogleError:
    """Return the 400 error for an invalid request."""
    return GoogleError(400, "invalid", message)


def not_found(message: str) -> GoogleError:
    """Return the 404 error for a missing resource."""
    return GoogleError(404, "notFound", message)


def unimplemented(what: str) -> GoogleError:
    """Return the 501 error for a feature that the local cloud does not support."""
    return GoogleError(501, "notImplemented", f"{what} is not covered by the local GCP")


def unauthenticated() -> GoogleError:
    """Return the 401 error for an invalid or expired token."""
    return GoogleError(
        401,
        "authError",
        "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
        "authentication credential. See https://developers.google.com/identity/sign-in/web/devconsole-project.",
    )


def unpaid(state: str) -> GoogleError:
    """Return Cloud Storage's error for a bucket whose project's billing account is ``absent`` or ``closed``.

    Source: "HTTP status and error codes for JSON", Cloud Storage.
    """
    return GoogleError(
        403, "accountDisabled", f"The billing account for the owning project is disabled in state {state}"
    )


def outside_perimeter(service: str, number: str, identifier: str) -> GoogleError:
    """Return the error of VPC Service Controls; administrators look up the violation by `identifier`.

    Source: "Troubleshoot common issues", VPC Service Controls.
    """
    violation = {"type": "VPC_SERVICE_CONTROLS", "description": identifier}
    failure = {"@type": "type.googleapis.com/google.rpc.PreconditionFailure", "violations": [violation]}
    info = error_info("SECURITY_POLICY_VIOLATED", service=service, consumer=f"projects/{number}", uid=identifier)
    return GoogleError(
        403,
        "forbidden",
        "VPC Service Controls: Request is prohibited by organization's policy. vpcServiceControlsUniqueIdentifier: "
        f"{identifier}.",
        details=(failure, info),
    )


def quota_project_missing(service: str) -> GoogleError:
    """Return the error for user credentials without a quota project, which default to gcloud's own project.

    Source: "Troubleshoot your ADC setup", Google Cloud authentication.
    """
    return GoogleError(
        403,
        "accessNotConfigured",
        "Your application is authenticating by using local Application Default Credentials. The "
        f"{service} API requires a quota project, which is not set by default. To learn how to set your quota project, "
        "see https://cloud.google.com/docs/authentication/adc-troubleshooting/user-creds .",
        details=(error_info("SERVICE_DISABLED", service=service, consumer="projects/764086051850"),),
    )


def service_disabled(title: str, service: str, project: str, number: str) -> GoogleError:
    """Return the error for an API that is disabled in the project that is billed for the call."""
    url = f"https://console.developers.google.com/apis/api/{service}/overview?project={project}"
    return GoogleError(
        403,
        "accessNotConfigured",
        f"{title} has not been used in project {project} before or it is disabled. Enable it by visiting {url} then "
        "retry. If you enabled this API recently, wait a few minutes for the action to propagate to our systems and "
        "retry.",
        details=(error_info("SERVICE_DISABLED", service=service, consumer=f"projects/{number}"),),
    )
