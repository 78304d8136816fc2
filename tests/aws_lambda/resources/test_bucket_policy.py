"""Bucket policy statements are compared in normal form."""

from __future__ import annotations

from typing import Any

from aws_lambda.resources.bucket_policy import normal_statement


def test_order_and_form_of_a_statement_are_not_drift() -> None:
    """A string and a list with one string, in any order, mean the same to AWS."""
    one: dict[str, Any] = {"Action": "s3:*", "Principal": "*", "Resource": ["b", "a"]}
    other: dict[str, Any] = {"Action": ["s3:*"], "Principal": {"AWS": "*"}, "Resource": ["a", "b"]}
    one["Condition"], other["Condition"] = {"Bool": {"x": False}}, {"Bool": {"x": ["false"]}}
    assert normal_statement(one) == normal_statement(other)
