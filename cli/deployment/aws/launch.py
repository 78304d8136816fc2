"""Upload the package and the CloudFormation templates, and make the links that open them in the console."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from botocore.exceptions import ClientError

from aws_lambda.manual_steps import console_url
from cli.deployment.aws import template
from cli.deployment.aws.account_kind import account_kind
from cli.deployment.aws.parameters import parameters
from cli.deployment.aws.session import Session, code_of, local_endpoint, open_session, refused, translated
from cli.deployment.engine import Variable
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from tailpipe_exports import FILES

STACK = "tailpipe-exports"
TEMPLATE, HOME_TEMPLATE = "template.yaml", "home-events.yaml"
# Parameters of the stack that forwards events from the partition's home region.
HOME_PARAMETERS = ("AccountKind", "ConnectorRoleName", "FunctionName", "PermissionsBoundaryArn", "TailpipePrincipalArn")
SUFFIXES = {"aws-cn": "amazonaws.com.cn", "aws-eusc": "amazonaws.eu"}
_ADDRESS = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(\S*))?")
# Where an uploaded object says which package it is.
_HASH = "package-sha256"


@dataclass(frozen=True)
class Uploaded:
    """Objects in a bucket: the package with its version ("" without versions), and the templates' addresses."""

    bucket: str
    key: str
    version: str
    templates: Mapping[str, str]


def upload(
    archive: Path, address: str, variables: Mapping[str, Variable], values: Mapping[str, Any], tell: Tell
) -> list[tuple[str, str]]:
    """Upload an archive and the templates, and return the links that create the stacks, each with its title.

    The links fill in the parameters for the `values` of the module's `variables`, without those that are sensitive.
    Raises OperatorError.
    """
    session = open_session(values)
    given = {name: value for name, value in values.items() if not (name in variables and variables[name].sensitive)}
    filled = parameters({**given, "account_kind": account_kind(session.place, values, {})})
    # What is not given here is entered in the console.
    if problems := template.refused({"Environment": "prod", **filled, "ExternalId": "entered-later"}):
        raise OperatorError(*problems)
    with translated():
        made = _put(session, archive, address, tell)
    filled |= {"PackageBucket": made.bucket, "PackageKey": made.key}
    filled |= {"PackageVersion": made.version} if made.version else {}
    aws = session.aws
    if bucket := _retained(session, filled):
        tell(
            f"bucket {bucket} exists and belongs to no stack, so a new stack stops there: create it with "
            "tailpipe-exports deploy aws --with native, which imports the bucket"
        )
    links = [("create the stack", quick_create(aws.region, made.templates[TEMPLATE], STACK, filled))]
    if aws.region != aws.home and filled.get("Events") != "false":
        own = {name: value for name, value in filled.items() if name in HOME_PARAMETERS}
        forward = {**own, "FunctionRegion": aws.region}
        link = quick_create(aws.home, made.templates[HOME_TEMPLATE], f"{STACK}-home", forward)
        links.append((f"and in {aws.home}, the stack that forwards what AWS reports there", link))
    return links


def _retained(session: Session, given: Mapping[str, str]) -> str:
    """Return the export bucket's name if it exists without a stack, as a deleted one leaves it; "" if not, or unseen.

    CloudFormation imports by itself only what has its name written out in the template, which this bucket has not.
    Source: "Import AWS resources into a CloudFormation stack automatically", AWS CloudFormation User Guide.
    """
    bucket = given.get("BucketName") or f"tailpipe-dataexport-{session.place.id}"
    try:
        session.aws.client("s3").head_bucket(**session.owned(bucket))
        session.aws.client("cloudformation").describe_stack_resources(PhysicalResourceId=bucket)
    except ClientError as error:
        return bucket if error.operation_name == "DescribeStackResources" and not refused(error) else ""
    return ""


def quick_create(region: str, template_url: str, stack: str, given: Mapping[str, str]) -> str:
    """Return the link that opens a new stack in the console, with these parameters filled in.

    Source: "Create quick-create links for stacks", AWS CloudFormation User Guide.
    """
    query = {"templateURL": template_url, "stackName": stack} | {
        f"param_{name}": value for name, value in given.items()
    }
    page = console_url(region, f"cloudformation/home?region={region}#/stacks/quickcreate")
    return f"{page}?{urlencode(query, quote_via=quote)}"


def _put(session: Session, archive: Path, address: str, tell: Tell) -> Uploaded:
    content = archive.read_bytes()
    digest = sha256(content).hexdigest()
    bucket, key = _parsed(address, digest)
    _check_bucket(session, bucket)
    versioned = _is_versioned(session, bucket)
    if not versioned:
        _check_key(session, bucket, key, digest)
    version = _put_one(session, bucket, key, content, "application/zip", digest)
    tell(f"s3://{bucket}/{key} is uploaded")
    addresses = {}
    for name in (TEMPLATE, HOME_TEMPLATE):
        beside = f"{key.removesuffix('.zip')}-{name}"
        _put_one(session, bucket, beside, (FILES / "infra" / "aws" / name).read_bytes(), "text/yaml", digest)
        tell(f"s3://{bucket}/{beside} is uploaded")
        addresses[name] = object_url(session, bucket, beside)
    return Uploaded(bucket, key, version if versioned else "", addresses)


def _parsed(address: str, digest: str) -> tuple[str, str]:
    """Return bucket and key of an address; one that ends with a slash gets a name with the package's hash."""
    found = _ADDRESS.fullmatch(address)
    if found is None:
        raise OperatorError(
            Problem(f"--upload {address[:100]!r} is not an address in S3", "Write --upload s3://BUCKET/FOLDER/.")
        )
    bucket, key = found[1], found[2] or ""
    if not key or key.endswith("/"):
        return bucket, f"{key}{package_name(digest)}"
    if not key.endswith(".zip"):
        raise OperatorError(
            Problem(f"--upload {address[:100]!r} does not end with .zip", "End it with .zip, or with / for a folder.")
        )
    return bucket, key


def _check_bucket(session: Session, bucket: str) -> None:
    """Refuse a bucket that does not exist, is another account's, or is in another region than the function."""
    client, region = session.aws.client("s3"), session.aws.region
    try:
        answer = client.head_bucket(**session.owned(bucket))
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchBucket"):
            raise OperatorError(
                Problem(f"bucket {bucket} does not exist", f"Create it: aws s3 mb s3://{bucket} --region {region}")
            ) from error
        if code_of(error) in ("403",) or refused(error):
            raise OperatorError(
                Problem(
                    f"bucket {bucket} belongs to another account than {session.place.id}, or you may not read it",
                    "Name a bucket of this account, or grant s3:ListBucket on it.",
                )
            ) from error
        raise
    found = str(answer.get("BucketRegion") or client.get_bucket_location(**session.owned(bucket))["LocationConstraint"])
    if found != region:
        raise OperatorError(
            Problem(
                f"bucket {bucket} is in {found}, and Lambda reads packages in its own region {region} only",
                f"Name a bucket in {region}, or set AWS_REGION={found} to deploy there.",
            )
        )


def _is_versioned(session: Session, bucket: str) -> bool:
    return bool(session.aws.client("s3").get_bucket_versioning(**session.owned(bucket)).get("Status") == "Enabled")


def _check_key(session: Session, bucket: str, key: str, digest: str) -> None:
    """Refuse to replace another package: CloudFormation would not see that the code has changed."""
    try:
        answer = session.aws.client("s3").head_object(**session.owned(bucket), Key=key)
    except ClientError as error:
        if code_of(error) in ("404", "NoSuchKey"):
            return
        raise
    folder = key[: key.rfind("/") + 1]
    if answer["Metadata"].get(_HASH) != digest:
        raise OperatorError(
            Problem(
                f"s3://{bucket}/{key} holds another package, and a stack sees no change under the same key",
                f"End the address with a slash (s3://{bucket}/{folder}), so that the key has the package's hash; or "
                "enable versioning of the bucket.",
            )
        )


def _put_one(session: Session, bucket: str, key: str, content: bytes, kind: str, digest: str) -> str:
    """Write an object and return its version. Raises ClientError."""
    answer = session.aws.client("s3").put_object(
        **session.owned(bucket),
        Key=key,
        Body=content,
        ContentType=kind,
        ChecksumAlgorithm="SHA256",
        Metadata={_HASH: digest},
    )
    return str(answer.get("VersionId") or "")


def package_name(digest: str) -> str:
    """Return the name of an uploaded package, by its SHA-256: a stack sees new code as a new name."""
    return f"tailpipe-exports-aws-{digest[:12]}.zip"


def object_url(session: Session, bucket: str, key: str) -> str:
    """Return the address from which CloudFormation reads a template."""
    if local := local_endpoint():
        return f"{local}/{bucket}/{quote(key)}"
    host = f"s3.{session.aws.region}.{SUFFIXES.get(session.aws.partition, 'amazonaws.com')}"
    return f"https://{bucket}.{host}/{quote(key)}"
