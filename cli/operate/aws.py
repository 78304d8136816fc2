"""The operator's commands on AWS."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from aws_lambda.settings import AwsSettings, read_settings
from aws_lambda.targets import BY_NAME
from cli.operate import aws_adopt, aws_look, aws_preflight, aws_remove
from cli.operate.aws_session import FUNCTION, Aws, code_of, gone, identify, local_endpoint, message_of, session
from cli.operate.model import Adoption, Backend, Change, Fault, Finding, Kept, OperatorError, Place, Removal
from cli.operate.port import Tell
from shared.errors import SettingsError

NAME_VARIABLE = "TAILPIPE_FUNCTION_NAME"
MARK = {"Key": "managed-by", "Value": "tailpipe-exports"}
# A run holds the lock at most as long as a function may last, and a lease of five minutes more.
LONGEST_WAIT_S = 1200.0
AGAIN_S = 5.0
IDENTITY = (
    "aws_iam_role.connector",
    "aws_iam_role_policy.connector",
    "aws_iam_role_policies_exclusive.connector",
    "aws_cloudformation_stack_set",
)


class AwsOperator:
    """The port `cli.operate.port.Operator` for AWS.

    The function is found by its name: the variable `function_name`, TAILPIPE_FUNCTION_NAME, or the usual one. `sleep`
    waits that many seconds.
    """

    precious = frozenset({"aws_s3_bucket"})

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._function = os.environ.get(NAME_VARIABLE) or FUNCTION

    def place(self, given: Mapping[str, Any]) -> Place:
        self._function = str(given.get("function_name") or self._function)
        return identify(given)

    def detected(self, place: Place, given: Mapping[str, Any]) -> dict[str, Any]:
        kinds = {"management account": "management", "standalone account": "standalone"}
        # The name that invoke and destroy look for is the one to deploy under.
        named = {} if self._function == FUNCTION else {"function_name": self._function}
        if place.kind in kinds:
            return {"account_kind": kinds[place.kind], **named}
        if "account_kind" in given:
            return named
        raise OperatorError(
            Fault(
                "whether this account manages an organisation could not be read",
                "Grant organizations:DescribeOrganization, or add --var account_kind=management (or standalone).",
            )
        )

    def rights(self, place: Place) -> list[Finding]:
        with _translated():
            return aws_look.rights(self._aws(place), place)

    def preflight(self, place: Place, given: Mapping[str, Any]) -> list[Finding]:
        with _translated():
            return list(aws_preflight.preflight(self._aws(place), place, given))

    def providers(self, place: Place) -> dict[str, Any]:
        aws = self._aws(place)
        # A local cloud serves its buckets under one host.
        local = {"s3_use_path_style": True} if local_endpoint() else {}
        return {"aws": [{"region": aws.region, **local}, {"alias": "home", "region": aws.home, **local}]}

    def module_providers(self) -> dict[str, str]:
        return {"aws": "aws", "aws.home": "aws.home"}

    def backend(self, place: Place) -> Backend:
        bucket = _state_bucket(place)
        configuration: dict[str, Any] = {
            "bucket": bucket,
            "key": f"tailpipe-exports/{place.region}.tfstate",
            # One bucket serves deployments in several regions.
            "region": self._state_region(place) or place.region,
            "encrypt": True,
            "use_lockfile": True,
        }
        local = local_endpoint()
        if local:
            configuration |= {"endpoints": {"s3": local}, "use_path_style": True, "skip_credentials_validation": True}
            configuration |= {"skip_requesting_account_id": True, "skip_metadata_api_check": True}
        return Backend("s3", configuration, f"bucket {bucket}")

    def backend_exists(self, place: Place) -> bool:
        if self._state_region(place) is None:
            return False
        # The mark is put last: a bucket without it was not made to its end.
        client, bucket = self._aws(place).client("s3"), _state_bucket(place)
        try:
            tags = client.get_bucket_tagging(Bucket=bucket, ExpectedBucketOwner=place.id)["TagSet"]
        except ClientError as error:
            if code_of(error) == "NoSuchTagSet":
                return False
            raise OperatorError(Fault(message_of(error), "See tailpipe doctor aws.")) from error
        return any(tag["Value"] == MARK["Value"] for tag in tags)

    def _state_region(self, place: Place) -> str | None:
        """Return the region of the bucket for Terraform's state, None where there is none."""
        bucket = _state_bucket(place)
        try:
            answer = self._aws(place).client("s3").head_bucket(Bucket=bucket, ExpectedBucketOwner=place.id)
        except ClientError as error:
            if code_of(error) in ("404", "NoSuchBucket"):
                return None
            raise OperatorError(
                Fault(
                    f"bucket {bucket} belongs to another account, or may not be looked at",
                    "Grant s3:ListBucket on it; or keep the state with --local-state DIR.",
                )
            ) from error
        return str(answer.get("BucketRegion") or place.region)

    def make_backend(self, place: Place, tell: Tell) -> None:
        aws, bucket = self._aws(place), _state_bucket(place)
        client = aws.client("s3")
        of = {"Bucket": bucket, "ExpectedBucketOwner": place.id}
        where = (
            {} if place.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": place.region}}
        )
        with _translated():
            try:
                client.create_bucket(Bucket=bucket, **where)
            except ClientError as error:
                # Begun before and not finished: what is missing is put now.
                if code_of(error) != "BucketAlreadyOwnedByYou":
                    raise
            every = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            client.put_public_access_block(**of, PublicAccessBlockConfiguration=dict.fromkeys(every, True))
            client.put_bucket_versioning(**of, VersioningConfiguration={"Status": "Enabled"})
            encrypted = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
            client.put_bucket_encryption(**of, ServerSideEncryptionConfiguration={"Rules": [encrypted]})
            client.put_bucket_policy(**of, Policy=json.dumps(_tls_only(aws.partition, bucket)))
            client.put_bucket_tagging(**of, Tagging={"TagSet": [MARK]})
        tell(f"bucket {bucket} is made for Terraform's state: private, versioned, encrypted")

    def adoptions(self, place: Place, changes: Sequence[Change], tell: Tell) -> list[Adoption]:  # noqa: ARG002 - the port's signature
        with _translated():
            return list(aws_adopt.adoptions(self._aws(place), place, changes))

    def deployed(self, place: Place) -> dict[str, str] | None:
        try:
            answer = self._aws(place).client("lambda").get_function_configuration(FunctionName=self._function)
        except ClientError as error:
            if gone(error):
                return None
            raise OperatorError(Fault(message_of(error), "See tailpipe doctor aws.")) from error
        return dict(answer.get("Environment", {}).get("Variables", {}))

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
            return list(aws_look.verify(self._aws(place), place, environment, self._function))

    def onboarding(self, place: Place) -> dict[str, Any]:
        aws, settings = self._aws(place), self._settings(place)
        with _translated():
            role = _role(aws, settings)
            management = place.kind == "management account"
            root = aws.client("organizations").list_roots()["Roots"][0]["Id"] if management else None
            return {
                "awsAccountNumber": place.id,
                "region": place.region,
                "isManagementAccount": management,
                "organizationRootId": root,
                "tailpipe": {
                    # The one place that has it in clear: the policy that asks for it.
                    "externalId": next(iter(aws_look.external_ids(role.get("AssumeRolePolicyDocument", {}))), None),
                    "connectorRoleArn": settings.principal or None,
                },
                "costExport": {
                    "name": "tailpipe-dataexport",
                    "s3Bucket": settings.bucket_of(place.id),
                    "s3Prefix": settings.prefix,
                    "exportArn": _export_arn(aws),
                    "bcmRegion": aws.home,
                },
                "iamRole": {"name": settings.connector_role, "arn": role.get("Arn")},
                "childAccounts": _children(aws, settings) if management else _no_children(settings),
            }

    def stop_schedule(self, place: Place, tell: Tell) -> None:
        with _translated():
            aws_remove.stop_schedule(self._aws(place), self._function, tell)

    def clear(self, place: Place, removal: Removal, tell: Tell) -> None:
        aws, settings = self._aws(place), self._settings(place, forgiving=True)
        with _translated():
            aws_remove.wait_for_run(aws, place, settings, tell, self._sleep)
            if not removal.keep_identity and place.kind == "management account":
                aws_remove.delete_instances(aws, settings.stackset, tell, self._sleep)
            if removal.delete_exports:
                aws_remove.delete_exports(aws, tell)
            if removal.delete_data:
                aws_remove.delete_data(aws, place, settings, tell)

    def kept(self, place: Place, removal: Removal) -> list[Kept]:
        kept: list[Kept] = []
        if not removal.delete_data:
            bucket = self._settings(place, forgiving=True).bucket_of(place.id)
            exports = "" if removal.delete_exports else ", to which the exports go on to deliver"
            kept.append(Kept(f"bucket {bucket} with its data{exports}", ("aws_s3_bucket",)))
        if removal.keep_identity:
            kept.append(Kept("the connector role, and the StackSet with its instances", IDENTITY))
        return kept

    def _missing(self) -> Fault:
        return Fault(
            f"there is no function {self._function} here",
            f"Deploy it: tailpipe deploy aws. If it has another name or region, set {NAME_VARIABLE} or AWS_REGION.",
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
            raise OperatorError(Fault(message_of(error), "See tailpipe doctor aws.")) from error
        document = json.loads(answer["Payload"].read() or b"null")
        if answer.get("FunctionError") and document.get("errorType") == "AnotherRun":
            return str(document.get("errorMessage", "another run is under way")), None
        return "", document

    def _report(self, place: Place, document: Any) -> dict[str, Any]:
        """Return the report in an answer; a failed run answers with an error, and its report lies in the bucket."""
        if isinstance(document, dict) and "status" in document:
            return document
        told = document if isinstance(document, dict) else {}
        kind, message = str(told.get("errorType", "no answer")), str(told.get("errorMessage", ""))
        words = message.split()
        if kind == "RunFailed" and len(words) > 1:
            report = self._stored(place, words[1])
            if report is not None:
                return report
        raise OperatorError(Fault(f"{kind}: {message}", f"Read the log group /aws/lambda/{self._function}."))

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


def _state_bucket(place: Place) -> str:
    return f"tailpipe-terraform-{place.id}"


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the SDK's errors into the operator's."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise OperatorError(Fault(message_of(error), "See tailpipe doctor aws.")) from error


def _tls_only(partition: str, bucket: str) -> dict[str, Any]:
    arn = f"arn:{partition}:s3:::{bucket}"
    statement = {
        "Sid": "TailpipeTlsOnly",
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def _role(aws: Aws, settings: AwsSettings) -> Mapping[str, Any]:
    try:
        role: Mapping[str, Any] = aws.client("iam").get_role(RoleName=settings.connector_role)["Role"]
    except ClientError as error:
        if gone(error):
            return {}
        raise
    return role


def _export_arn(aws: Aws) -> str | None:
    for page in aws.client("bcm-data-exports").get_paginator("list_exports").paginate():
        for one in page["Exports"]:
            if one["ExportName"] == next(iter(BY_NAME)):
                return str(one["ExportArn"])
    return None


def _no_children(settings: AwsSettings) -> dict[str, Any]:
    return {
        "configured": False,
        "count": 0,
        "allAccounts": False,
        "selectedAccounts": [],
        "childRoleName": settings.member_role,
        "stackSetName": settings.stackset,
    }


def _children(aws: Aws, settings: AwsSettings) -> dict[str, Any]:
    client = aws.client("cloudformation")
    try:
        pages = client.get_paginator("list_stack_instances").paginate(StackSetName=settings.stackset)
        accounts = sorted({one["Account"] for page in pages for one in page["Summaries"]})
    except ClientError as error:
        if gone(error):
            return _no_children(settings)
        raise
    chosen = bool(settings.include_accounts or settings.include_ous or settings.exclude_accounts)
    return {
        "configured": True,
        "count": len(accounts),
        "allAccounts": not chosen,
        "selectedAccounts": accounts if chosen else [],
        "childRoleName": settings.member_role,
        "stackSetName": settings.stackset,
    }
