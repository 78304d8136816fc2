"""The operator's commands on AWS."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from aws_lambda.settings import AwsSettings, read_settings
from cli.deployment.aws import adopt, backend, onboarding, preflight, remove, verify
from cli.deployment.aws.account_kind import MANAGEMENT, VARIABLE, account_kind, is_alone
from cli.deployment.aws.session import (
    FUNCTION,
    Aws,
    code_of,
    functions,
    gone,
    identify,
    local_endpoint,
    message_of,
    refused,
    session,
)
from cli.deployment.model import (
    Adoption,
    Backend,
    Change,
    Clearing,
    Deployed,
    Fault,
    Finding,
    Kept,
    OperatorError,
    Place,
    Removal,
)
from cli.deployment.operator import Tell
from shared.errors import SettingsError
from shared.report import was_cut

NAME_VARIABLE = "TAILPIPE_EXPORTS_FUNCTION_NAME"
# A run holds the lock at most as long as a function may last, and a lease of five minutes more.
LONGEST_WAIT_S = 1200.0
AGAIN_S = 5.0
IDENTITY = (
    "aws_iam_role.connector",
    "aws_iam_role_policy.connector",
    "aws_iam_role_policies_exclusive.connector",
    "aws_iam_role_policy_attachments_exclusive.connector",
    "aws_cloudformation_stack_set",
)


class AwsOperator:
    """The port `cli.deployment.operator.Operator` for AWS.

    The function is found by its name: the variable `function_name`, TAILPIPE_EXPORTS_FUNCTION_NAME, or the usual one.
    `sleep` waits that many seconds.
    """

    precious = frozenset({"aws_s3_bucket"})
    alarm = "aws_cloudwatch_metric_alarm"
    confirm_emails = True
    secrets: Sequence[tuple[str, ...]] = (("tailpipe", "externalId"),)

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._function = os.environ.get(NAME_VARIABLE) or FUNCTION
        self._kind = os.environ.get(VARIABLE, "")  # as what the function is deployed, if that is known

    def place(self, given: Mapping[str, Any]) -> Place:
        self._function = str(given.get("function_name") or self._function)
        return replace(identify(given), here=bool(local_endpoint()))

    def detected(self, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
        # The name that invoke and destroy look for is the one to deploy under.
        named = {} if self._function == FUNCTION else {"function_name": self._function}
        self._kind = account_kind(place, given, os.environ)
        return {"account_kind": self._kind, **named}

    def rights(self, place: Place) -> list[Finding]:
        with _translated():
            return verify.rights(self._aws(place), place, alone=is_alone(place, self._kind))

    def surroundings(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:  # noqa: ARG002 - the port's signature
        return []

    def preflight(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        with _translated():
            return list(preflight.preflight(self._aws(place), place, given))

    def providers(self, place: Place) -> dict[str, Any]:
        aws = self._aws(place)
        # A local cloud serves its buckets under one host.
        local = {"s3_use_path_style": True} if local_endpoint() else {}
        return {"aws": [{"region": aws.region, **local}, {"alias": "home", "region": aws.home, **local}]}

    def module_providers(self) -> dict[str, str]:
        return {"aws": "aws", "aws.home": "aws.home"}

    def backend(self, place: Place) -> Backend:
        return backend.backend(self._aws(place), place)

    def backend_exists(self, place: Place) -> bool:
        return backend.exists(self._aws(place), place)

    def make_backend(self, place: Place, tell: Tell) -> None:
        with _translated():
            backend.make(self._aws(place), place, tell)

    def adoptions(self, place: Place, changes: Sequence[Change], tell: Tell) -> list[Adoption]:  # noqa: ARG002 - the port's signature
        with _translated():
            return list(adopt.adoptions(self._aws(place), place, changes))

    def functions(self, place: Place) -> list[Deployed]:
        with _translated():
            return functions(self._aws(place), self._function)

    def deployed(self, place: Place) -> dict[str, str] | None:
        try:
            answer = self._aws(place).client("lambda").get_function_configuration(FunctionName=self._function)
        except ClientError as error:
            if gone(error):
                return None
            right = f"Grant lambda:GetFunctionConfiguration on function {self._function}."
            remedy = right if refused(error) else "See tailpipe-exports doctor aws."
            raise OperatorError(Fault(message_of(error), remedy)) from error
        environment = answer.get("Environment") or {}
        if environment.get("Error"):
            # Lambda answers so where its key may not be used: the variables are there, and not readable.
            why = environment["Error"].get("Message") or environment["Error"].get("ErrorCode") or "no reason given"
            raise OperatorError(
                Fault(
                    f"the settings of function {self._function} cannot be read: {why}",
                    "Grant kms:Decrypt on the key that encrypts the function's environment variables, and call again.",
                )
            )
        return dict(environment.get("Variables") or {})

    def invoke(self, place: Place, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        client = self._aws(place).client("lambda")
        waited, told = 0.0, ""
        while True:
            holder, answer = self._call(client, payload)
            if answer is not None:
                return self._report(place, answer)
            if waited >= LONGEST_WAIT_S:
                raise OperatorError(Fault(f"after {waited / 60:.0f} minutes still: {holder}", "Try again later."))
            if holder != told:
                tell(f"waiting: {holder}")
                told = holder
            self._sleep(AGAIN_S)
            waited += AGAIN_S

    def verify(self, place: Place) -> list[Finding]:
        environment = self.deployed(place)
        if environment is None:
            return [Finding("the function", False, self._missing().what, self._missing().remedy)]
        with _translated():
            return list(verify.verify(self._aws(place), place, environment, self._function))

    def onboarding(self, place: Place) -> dict[str, Any]:
        settings = self._settings(place)
        with _translated():
            return onboarding.document(self._aws(place), place, settings)

    def stop_schedule(self, place: Place, tell: Tell) -> None:
        with _translated():
            remove.stop_schedule(self._aws(place), self._function, tell)

    def clear(self, place: Place, removal: Removal, tell: Tell) -> None:
        aws, settings = self._aws(place), self._settings(place, forgiving=True)
        with _translated():
            remove.wait_for_run(aws, place, settings, tell, self._sleep)
            members = place.kind == MANAGEMENT and settings.account_kind == "management"
            if not removal.keep_identity and members:
                remove.delete_instances(aws, settings.stackset, tell, self._sleep)
            if removal.delete_exports:
                remove.delete_exports(aws, tell)
            if removal.delete_data:
                remove.delete_data(aws, place, settings, tell)

    def clearing(self, place: Place, removal: Removal) -> Clearing:
        aws, settings = self._aws(place), self._settings(place, forgiving=True)
        with _translated():
            return remove.clearing(aws, place, settings, removal)

    def kept(self, place: Place, removal: Removal) -> list[Kept]:
        kept: list[Kept] = []
        bucket = self._settings(place, forgiving=True).bucket_of(place.id)
        if not removal.delete_data:
            exports = "" if removal.delete_exports else ", to which the exports go on to deliver"
            kept.append(Kept(f"bucket {bucket} with its data{exports}", ("aws_s3_bucket",)))
        if removal.keep_identity:
            kept.append(Kept("the connector role, and the StackSet with its instances", IDENTITY))
        return kept

    def _missing(self) -> Fault:
        return Fault(
            f"there is no function {self._function} here",
            "Deploy it: tailpipe-exports deploy aws. "
            f"If it has another name or region, set {NAME_VARIABLE} or AWS_REGION.",
        )

    def _aws(self, place: Place) -> Aws:
        return session(place.region)

    def _settings(self, place: Place, forgiving: bool = False) -> AwsSettings:
        """Return the deployed function's settings; if `forgiving`, without a function those by default."""
        environment = self.deployed(place)
        if environment is None:
            if not forgiving:
                raise OperatorError(self._missing())
            environment = {}
        try:
            return read_settings({**environment, "AWS_REGION": place.region})
        except SettingsError as error:
            raise OperatorError(*(Fault(fault, "Deploy again.") for fault in error.faults)) from error

    def _call(self, client: Any, payload: Mapping[str, Any]) -> tuple[str, Any]:
        """Invoke once. Returns the answer, or who keeps the function busy and None."""
        try:
            answer = client.invoke(FunctionName=self._function, Payload=json.dumps(dict(payload)).encode())
        except ReadTimeoutError as error:
            raise OperatorError(
                Fault("the function did not answer within 15 minutes", "Read its log group, and call again.")
            ) from error
        except ClientError as error:
            if code_of(error) == "TooManyRequestsException":
                return "another invocation of the function is under way", None
            if gone(error):
                raise OperatorError(self._missing()) from error
            remedy = "See tailpipe-exports doctor aws." if refused(error) else f"Read the log group {self._logs()}."
            raise OperatorError(Fault(message_of(error), remedy)) from error
        document = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError") and document.get("errorType") == "AnotherRun":
            return str(document.get("errorMessage", "another run is under way")), None
        return "", document

    def _report(self, place: Place, document: Any) -> dict[str, Any]:
        """Return the report in an answer: the stored one where lists were cut, or where the run failed."""
        if isinstance(document, dict) and "status" in document:
            whole = self._stored(place, str(document["run_id"])) if was_cut(document) else None
            return whole or document
        told = document if isinstance(document, dict) else {}
        kind, message = str(told.get("errorType", "no answer")), str(told.get("errorMessage", ""))
        words = message.split()
        if kind == "RunFailed" and len(words) > 1:
            report = self._stored(place, words[1])
            if report is not None:
                return report
        raise OperatorError(Fault(f"{kind}: {message}", f"Read the log group {self._logs()}."))

    def _logs(self) -> str:
        return f"/aws/lambda/{self._function}"

    def _stored(self, place: Place, run_id: str) -> dict[str, Any] | None:
        settings = self._settings(place)
        client = self._aws(place).client("s3", settings.bucket_region)
        try:
            answer = client.get_object(
                Bucket=settings.bucket_of(place.id), Key=f"runs/{run_id}.json", ExpectedBucketOwner=place.id
            )
            found = json.loads(answer["Body"].read())
        except (ClientError, ValueError):
            return None
        return found if isinstance(found, dict) and "status" in found else None


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the SDK's errors into the operator's."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise OperatorError(Fault(message_of(error), "See tailpipe-exports doctor aws.")) from error
