"""The deployed functions on AWS, and the settings of the selected one."""

from __future__ import annotations

import base64
from typing import Any

from botocore.exceptions import ClientError

from aws_lambda.settings import AwsSettings, read_settings
from cli.deployment.aws.session import NAME_VARIABLE, Session, gone, message_of, refused
from cli.deployment.model import Deployed, OperatorError, Problem
from shared.errors import SettingsError

# From infra/aws/function.tf. No other function has our entry point; a listing shows it, but not tags.
HANDLER = "aws_lambda.handler.handler"


def functions(session: Session) -> list[Deployed]:
    """Return our functions in a region, found by their entry point, or by the default name if listing is denied.

    Raises OperatorError if neither is permitted, ClientError and BotoCoreError for any other failure.
    """
    client = session.aws.client("lambda")
    try:
        listed = [one for page in client.get_paginator("list_functions").paginate() for one in page["Functions"]]
    except ClientError as error:
        if not refused(error):
            raise
        listed = _by_name(client, session.function)
    ours = [one for one in listed if one.get("Handler") == HANDLER or one["FunctionName"] == session.function]
    return [
        Deployed(
            str(one["FunctionName"]),
            str(one["FunctionArn"]),
            f"code sha256 {_hex(str(one.get('CodeSha256', '')))}, deployed {str(one.get('LastModified', ''))[:16]} UTC",
            {"AWS_REGION": session.aws.region},
        )
        for one in ours
    ]


def _by_name(client: Any, name: str) -> list[dict[str, Any]]:
    try:
        return [client.get_function_configuration(FunctionName=name)]
    except ClientError as error:
        if gone(error):
            return []
        if refused(error):
            raise OperatorError(
                Problem(
                    f"whether function {name} is deployed could not be read: {message_of(error)}",
                    "Grant lambda:ListFunctions, or lambda:GetFunctionConfiguration on that function.",
                )
            ) from error
        raise


def _hex(digest: str) -> str:
    """Return the beginning of a digest as `tailpipe-exports package` prints it."""
    try:
        return base64.b64decode(digest, validate=True).hex()[:12] or "unknown"
    except ValueError:
        return digest[:12]


def missing(session: Session) -> Problem:
    """Return the problem that no function is deployed, with its remedy."""
    return Problem(
        f"no function {session.function} is deployed here",
        f"Deploy it: tailpipe-exports deploy aws. If it has another name or region, set {NAME_VARIABLE} or AWS_REGION.",
    )


def environment_of(session: Session) -> dict[str, str] | None:
    """Return the function's environment variables, None if there is no function. Raises OperatorError."""
    try:
        answer = session.aws.client("lambda").get_function_configuration(FunctionName=session.function)
    except ClientError as error:
        if gone(error):
            return None
        right = f"Grant lambda:GetFunctionConfiguration on function {session.function}."
        remedy = right if refused(error) else "See tailpipe-exports doctor aws."
        raise OperatorError(Problem(message_of(error), remedy)) from error
    environment = answer.get("Environment") or {}
    if environment.get("Error"):
        # Lambda's response if its key may not be used: the variables exist but are not readable.
        why = environment["Error"].get("Message") or environment["Error"].get("ErrorCode") or "no reason given"
        raise OperatorError(
            Problem(
                f"the settings of function {session.function} cannot be read: {why}",
                "Grant kms:Decrypt on the key that encrypts the function's environment variables, and call again.",
            )
        )
    return dict(environment.get("Variables") or {})


def settings_of(session: Session, *, or_defaults: bool = False) -> AwsSettings:
    """Return the function's settings; the default ones if `or_defaults` and there is no function.

    Raises OperatorError without a function, and for settings that cannot be read.
    """
    environment = environment_of(session)
    if environment is None:
        if not or_defaults:
            raise OperatorError(missing(session))
        environment = {}
    try:
        return read_settings({**environment, "AWS_REGION": session.place.region})
    except SettingsError as error:
        raise OperatorError(*(Problem(fault, "Deploy again.") for fault in error.problems)) from error
