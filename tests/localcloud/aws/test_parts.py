"""Parts that need no server: policies, templates, statements, pages, the clock."""

from __future__ import annotations

import json
from typing import Any

import pytest

from localcloud.aws.errors import AwsError
from localcloud.aws.iam.policy import Access, allows, denies
from localcloud.aws.pages import page
from localcloud.aws.services.export_query import read_statement
from localcloud.aws.services.stackset_template import TemplateError, read, roles

ROLE_ARN = "arn:aws:iam::111122223333:role/r"


def statement(**changes: Any) -> str:
    """Return a policy of one statement that allows everyone to read one bucket's objects."""
    one = {"Effect": "Allow", "Principal": "*", "Action": "s3:Get*", "Resource": "arn:aws:s3:::b/*"} | changes
    return json.dumps({"Version": "2012-10-17", "Statement": one})


@pytest.mark.parametrize(
    ("changes", "granted"),
    [
        ({}, True),
        ({"Action": ["S3:GETOBJECT"]}, True),
        ({"Action": "s3:Put*"}, False),
        ({"Resource": "arn:aws:s3:::b/prefix/*"}, False),
        ({"Resource": "arn:aws:s3:::b/[k]ey"}, False),
        ({"Principal": {"AWS": "111122223333"}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::111122223333:root"}}, True),
        ({"Principal": {"AWS": ROLE_ARN}}, True),
        ({"Principal": {"AWS": "arn:aws:iam::999999999999:root"}}, False),
        ({"Principal": {"Service": "s3.amazonaws.com"}}, False),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": ["1", "2"]}}}, True),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": "3"}}}, False),
        ({"Condition": {"StringNotEquals": {"aws:SourceAccount": "3"}}}, True),
        ({"Condition": {"StringLike": {"AWS:sourceaccount": "?"}}}, True),
        ({"Condition": {"StringEquals": {"aws:absent": "1"}}}, False),
        ({"Condition": {"StringEqualsIfExists": {"aws:absent": "1"}}}, True),
        ({"Condition": {"Null": {"aws:absent": "true"}}}, True),
        ({"Condition": {"NumericLessThan": {"aws:x": "1"}}}, False),
    ],
)
def test_policy_is_evaluated_like_iam(changes: dict[str, Any], granted: bool) -> None:
    """Actions ignore case, resources do not, all conditions must match, and an unknown operator never grants."""
    access = Access(ROLE_ARN, "AWS", "s3:GetObject", "arn:aws:s3:::b/key", {"aws:sourceaccount": "2"})
    assert allows(statement(**changes), access) is granted


def test_deny_takes_precedence_and_an_unknown_condition_denies() -> None:
    """The order of the statements does not matter."""
    access = Access(ROLE_ARN, "AWS", "s3:GetObject", "arn:aws:s3:::b/key")
    allow = json.loads(statement())["Statement"]
    deny = allow | {"Effect": "Deny", "Condition": {"NumericLessThan": {"aws:x": "1"}}}
    both = json.dumps({"Statement": [deny, allow]})
    assert denies(both, access)
    assert not allows(both, access)


TEMPLATE = """
Parameters:
  Name: {Type: String, Default: reader}
  Partner: {Type: String, Default: ''}
Conditions:
  HasPartner: !Not [!Equals [!Ref Partner, '']]
Resources:
  Reader:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Sub '${Name}-${AWS::AccountId}'
      Path: !If [HasPartner, /partner/, !Ref AWS::NoValue]
      AssumeRolePolicyDocument:
        Version: 2012-10-17
        Statement:
          - Effect: Allow
            Principal: {AWS: !Join [':', [arn, !Ref 'AWS::Partition', iam, '', '1:root']]}
            Action: sts:AssumeRole
            Condition: {StringEquals: {sts:ExternalId: x}}
  Unwanted:
    Type: AWS::IAM::Role
    Condition: HasPartner
    Properties: {RoleName: unwanted, AssumeRolePolicyDocument: {}}
"""


def test_template_is_rendered_for_an_account() -> None:
    """Sub, Join, Ref, If and conditions are resolved to the role that IAM stores; a policy's Condition is kept."""
    pseudo = {"AWS::AccountId": "111122223333", "AWS::Partition": "aws-cn"}
    (role,) = roles(read(TEMPLATE), {}, pseudo)
    trust = json.loads(role.trust)
    assert (role.name, role.path) == ("reader-111122223333", "/")
    assert trust["Version"] == "2012-10-17"
    assert trust["Statement"][0]["Principal"] == {"AWS": "arn:aws-cn:iam::1:root"}
    assert trust["Statement"][0]["Condition"] == {"StringEquals": {"sts:ExternalId": "x"}}
    assert [one.path for one in roles(read(TEMPLATE), {"Partner": "p"}, pseudo)] == ["/partner/", "/"]


@pytest.mark.parametrize(
    ("body", "given"),
    [("{", {}), ("a: b", {}), (TEMPLATE, {"NoSuch": "1"}), (TEMPLATE.replace("'${Name}", "'${Gone}"), {})],
)
def test_invalid_template_is_refused(body: str, given: dict[str, str]) -> None:
    """This covers syntax errors, no resources, unknown parameters and unresolved names."""
    with pytest.raises(TemplateError):
        roles(read(body), given, {"AWS::AccountId": "1", "AWS::Partition": "aws"})


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT a, b FROM T", ("T", ["a", "b"])),
        ("select a,\n b AS c, m.key AS k\nfrom T;", ("T", ["a", "b", "m"])),
        ("SELECT a FROM T WHERE a = 'x' LIMIT 5", ("T", ["a"])),
    ],
)
def test_query_statements_are_parsed(sql: str, expected: tuple[str, list[str]]) -> None:
    """Columns, aliases, nested keys, WHERE and LIMIT are supported."""
    assert read_statement(sql) == expected


@pytest.mark.parametrize("sql", ["", "SELECT FROM T", "SELECT * FROM T", "SELECT sum(a) FROM T", "DELETE FROM T"])
def test_unsupported_query_statements_are_refused(sql: str) -> None:
    """Only plain columns from one table are allowed."""
    with pytest.raises(AwsError, match="query statement is invalid"):
        read_statement(sql)


def test_pages_contain_every_item_once_and_refuse_invalid_tokens() -> None:
    """An invented token is a validation error."""
    items, token, collected = list(range(7)), None, []
    while True:
        shown, token = page("organizations", items, token, 3, 20)
        collected += shown
        if token is None:
            break
    assert collected == items
    with pytest.raises(AwsError, match="InvalidInputException"):
        page("organizations", items, "made-up", None, 20)
