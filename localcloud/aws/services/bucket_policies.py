"""Check bucket policies as S3 does.

Sources: "Bucket policy examples" and "Blocking public access" in the Amazon S3 User Guide, S3's list of error codes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from localcloud.aws.errors import AwsError

LIMIT = 20_480
_UNIQUE_ID = re.compile(r"A[A-Z]{3}[A-Z0-9]{12,}")
_ACCOUNT = re.compile(r"\d{12}")
_ARN = re.compile(r"arn:[\w-]+:(?:iam|sts)::(?P<account>\d{12}|cloudfront):(?P<what>root|[\w-]+/.+)")
_SERVICE = re.compile(r"[a-z0-9.-]+\.amazonaws\.com(?:\.cn)?")


def check(text: str, bucket: str, blocks_public: bool, exists: Callable[[str], bool]) -> None:
    """Raise AwsError if S3 would refuse this policy for the bucket with this ARN.

    `exists` returns whether the principal with an ARN exists; principals of other accounts count as existing.
    """
    if len(text.encode()) > LIMIT:
        raise _malformed("Policy exceeds the maximum allowed document size.")
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise _malformed("Policies must be valid JSON and the first byte must be '{'")
    for statement in _many(document.get("Statement")):
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise _malformed("Invalid policy syntax.")
        for field in ("Principal", "Action", "Resource"):
            if field not in statement and f"Not{field}" not in statement:
                raise _malformed(f"Missing required field {field}")
        named = (*_many(statement.get("Resource")), *_many(statement.get("NotResource")))
        if not all(one == bucket or str(one).startswith(f"{bucket}/") or str(one) == f"{bucket}*" for one in named):
            raise _malformed("Policy has invalid resource")
        principal = statement.get("Principal", statement.get("NotPrincipal"))
        _check_principal(principal, exists)
        is_public = principal == "*" or (isinstance(principal, dict) and "*" in _many(principal.get("AWS")))
        if blocks_public and statement["Effect"] == "Allow" and is_public and not statement.get("Condition"):
            raise AwsError(
                "AccessDenied",
                "User is not authorized to perform: s3:PutBucketPolicy because public policies are prevented by the "
                "BlockPublicPolicy setting in S3 Block Public Access.",
                403,
            )


# difference: AWS-10
def _check_principal(principal: Any, exists: Callable[[str], bool]) -> None:
    if principal == "*":
        return
    if not isinstance(principal, dict):
        raise _malformed("Invalid principal in policy")
    for kind, values in principal.items():
        for value in map(str, _many(values)):
            if kind == "Service":
                valid = _SERVICE.fullmatch(value) is not None
            else:
                # S3 shows a deleted user or role as its unique id, which is no longer a valid principal.
                known = _ARN.fullmatch(value) is not None and exists(value)
                valid = value == "*" or _ACCOUNT.fullmatch(value) is not None or known or kind not in ("AWS", "Service")
            if not valid or _UNIQUE_ID.fullmatch(value):
                raise _malformed("Invalid principal in policy")


def _many(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _malformed(message: str) -> AwsError:
    return AwsError("MalformedPolicy", message, 400)
