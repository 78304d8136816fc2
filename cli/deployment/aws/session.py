"""A deployment on AWS as commands use it: the caller's credentials, the account, and the function's name."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, NoRegionError, ProfileNotFound
from botocore.exceptions import ConnectionError as NoConnection

from aws_lambda.clients import EXPORT_REGIONS
from aws_lambda.settings import partition_of
from cli.deployment.aws.account_kind import (
    CONSOLIDATED,
    DEPLOYS,
    FEATURES,
    MANAGED_BY,
    MANAGEMENT,
    MEMBER,
    ORGANIZATION,
    STANDALONE,
)
from cli.deployment.model import AGAIN, ANSWERS, OperatorError, Place, Problem
from shared.errors import clean
from shared.parsing import is_html

FUNCTION = "tailpipe-exports"
NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
# The tag on everything that Terraform creates here.
MARK, OURS = "managed-by", "tailpipe-exports"
# A run takes at most 900 s, and its response comes at the end.
LONGEST_RUN_S = 930
SIGN_IN = "Log in (aws sso login, or the credentials of your profile) and try again."
PROFILE = "Set AWS_PROFILE to one that `aws configure list-profiles` shows, or unset it."
LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Aws:
    """Cached clients of one region and of its partition's home region."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.partition = partition_of(region)
        self.home = EXPORT_REGIONS.get(self.partition, region)
        self._session = botocore.session.get_session()
        self._clients: dict[tuple[str, str], Any] = {}

    def client(self, service: str, region: str | None = None) -> Any:
        """Return a client; those of partition-wide services are in the home region."""
        if region is None:
            region = self.home if service in ("organizations", "bcm-data-exports", "iam") else self.region
        key = (service, region)
        if key not in self._clients:
            waits = Config(
                connect_timeout=10,
                read_timeout=LONGEST_RUN_S if service == "lambda" else 60,
                # A retried invocation would run the function twice.
                retries={"total_max_attempts": 1} if service == "lambda" else {"mode": "standard", "max_attempts": 5},
            )
            self._clients[key] = self._session.create_client(service, region_name=region, config=waits)
            self._clients[key].meta.events.register("before-parse", _refuse_pages)
        return self._clients[key]


@dataclass(frozen=True)
class Session:
    """The context of the operator port: clients, the account, and the name of the deployed function."""

    aws: Aws
    place: Place
    function: str

    def owned(self, bucket: str) -> dict[str, str]:
        """Return the arguments of a call to S3 that fails for a bucket of another account."""
        return {"Bucket": bucket, "ExpectedBucketOwner": self.place.id}


def open_session(given: Mapping[str, Any]) -> Session:
    """Return the session for the credentials' account. Raises OperatorError.

    The function is found by its name: the variable `function_name`, TAILPIPE_EXPORTS_FUNCTION_NAME, or the default.
    """
    aws, place = _identified(region_of(given))
    return Session(aws, place, str(given.get("function_name") or os.environ.get(NAME_VARIABLE) or FUNCTION))


def region_of(given: Mapping[str, Any]) -> str:
    """Return the region that the operator works in. Raises OperatorError if none is set."""
    try:
        configured = os.environ.get("AWS_REGION") or botocore.session.get_session().get_config_variable("region")
    except BotoCoreError as error:
        remedy = PROFILE if isinstance(error, ProfileNotFound) else SIGN_IN
        raise OperatorError(Problem(message_of(error), remedy)) from error
    region = str(given.get("region") or configured or "")
    if not region:
        raise OperatorError(Problem("no region is set", "Set AWS_REGION to the region of the function."))
    if not partition_of(region):
        raise OperatorError(Problem(f"{region!r} is in no AWS partition", "Set AWS_REGION to one that is."))
    return region


def local_endpoint() -> str:
    """Return the endpoint of all calls if it is a local cloud, else ""."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL", "")
    return endpoint if urlsplit(endpoint).hostname in LOOPBACK else ""


@contextmanager
def translated() -> Iterator[None]:
    """Turn the SDK's errors into OperatorError."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise OperatorError(Problem(message_of(error), "See tailpipe-exports doctor aws.")) from error


def code_of(error: ClientError) -> str:
    """Return the error's code."""
    return str(error.response.get("Error", {}).get("Code", ""))


def message_of(error: Exception) -> str:
    """Return an error's message on one line."""
    return clean(str(error))


def _refuse_pages(operation_model: Any, response_dict: Mapping[str, Any], **_: Any) -> None:
    """Raise OperatorError for an HTML page: botocore would fail to parse it, or report an unknown error."""
    body = response_dict.get("body")
    if response_dict["status_code"] < 500 and isinstance(body, bytes) and is_html(body):
        raise OperatorError(
            Problem(
                f"the answer to {operation_model.service_model.service_name} {operation_model.name} is an HTML page",
                ANSWERS,
            )
        )


def refused(error: ClientError) -> bool:
    """Return whether the error means a missing permission."""
    return code_of(error) in ("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "AuthorizationError")


def gone(error: ClientError) -> bool:
    """Return whether the error means that the resource does not exist."""
    code = code_of(error)
    return code.startswith(("ResourceNotFound", "NoSuch", "NotFound", "StackSetNotFound")) or code in (
        "404",
        "AWS.SimpleQueueService.NonExistentQueue",
        "QueueDoesNotExist",
        "StateMachineDoesNotExist",
        # The errors of S3 for two parts of a bucket that were never configured.
        "OwnershipControlsNotFoundError",
        "ServerSideEncryptionConfigurationNotFoundError",
    )


def _identified(region: str) -> tuple[Aws, Place]:
    """Return clients for a region, and the account with its role in the organization and the caller."""
    try:
        aws = Aws(region)
        me = aws.client("sts").get_caller_identity()
    except NoRegionError as error:
        raise OperatorError(Problem(message_of(error), "Set AWS_REGION.")) from error
    except ProfileNotFound as error:
        raise OperatorError(Problem(message_of(error), PROFILE)) from error
    except (HTTPClientError, NoConnection) as error:
        raise OperatorError(Problem(f"AWS could not be reached: {message_of(error)}", AGAIN)) from error
    # The SDK raises ValueError for an AWS_ENDPOINT_URL that is not an address.
    except (BotoCoreError, ClientError, ValueError) as error:
        raise OperatorError(Problem(f"AWS did not accept these credentials: {message_of(error)}", SIGN_IN)) from error
    account, caller = str(me["Account"]), str(me["Arn"])
    details: dict[str, str] = {}

    def located(kind: str) -> tuple[Aws, Place]:
        return aws, Place("aws", account, kind, caller, region, details, here=bool(local_endpoint()))

    try:
        organization = aws.client("organizations").describe_organization()["Organization"]
    except ClientError as error:
        if code_of(error) == "AWSOrganizationsNotInUseException":
            return located(STANDALONE)
        if not refused(error):
            raise OperatorError(Problem(f"the organization could not be read: {message_of(error)}")) from error
        details[ORGANIZATION] = "not readable with these credentials"
        return located("account")
    details[ORGANIZATION] = str(organization["Id"])
    management = str(organization["MasterAccountId"])
    if management != account:
        details[MANAGED_BY] = management
        details[DEPLOYS] = "with account_kind=standalone, for this account's own costs; all costs are exported from "
        details[DEPLOYS] += f"{management}"
        return located(MEMBER)
    if organization.get("FeatureSet") != "ALL":
        details[FEATURES] = CONSOLIDATED
        details[DEPLOYS] = "with account_kind=standalone: member roles need all features"
    return located(MANAGEMENT)
