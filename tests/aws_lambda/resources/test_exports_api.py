"""The calls of BCM Data Exports: every page, and exact names."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from aws_lambda.resources.exports_api import ExportsApi
from aws_lambda.settings import read_settings
from aws_lambda.targets import MANAGED_BY, MANAGER

ACCOUNT = "111122223333"


def api_of(**calls: Any) -> ExportsApi:
    """Return the API with these functions in place of a client's."""
    clients: Any = SimpleNamespace(exports=SimpleNamespace(**calls))
    run: Any = SimpleNamespace(calls=lambda _quota, function, **arguments: function(**arguments))
    return ExportsApi(read_settings({"AWS_REGION": "eu-west-1"}), ACCOUNT, clients, run)


def test_export_on_a_later_page_is_found_by_its_exact_name() -> None:
    """A page may be empty with more to come, and the name of another export may begin with ours."""
    pages: dict[str | None, dict[str, Any]] = {
        None: {"Exports": [{"ExportName": "tailpipe-dataexport-2", "ExportArn": "other"}], "NextToken": "a"},
        "a": {"Exports": [], "NextToken": "b"},
        "b": {"Exports": [{"ExportName": "tailpipe-dataexport", "ExportArn": "ours"}]},
    }

    def list_exports(**asked: Any) -> dict[str, Any]:
        assert asked["MaxResults"] == 300
        return pages[asked.get("NextToken")]

    api = api_of(list_exports=list_exports)
    assert api.find("tailpipe-dataexport") == "ours"
    assert api.find("tailpipe") is None


def test_tag_on_a_later_page_marks_an_export_as_ours() -> None:
    """An export may have fifty tags, and its key with another value is not ours."""
    pages: dict[str | None, dict[str, Any]] = {
        None: {"ResourceTags": [{"Key": MANAGED_BY, "Value": "someone"}], "NextToken": "a"},
        "a": {"ResourceTags": [{"Key": MANAGED_BY, "Value": MANAGER}]},
    }
    api = api_of(list_tags_for_resource=lambda **asked: pages[asked.get("NextToken")])
    assert api.is_marked("arn")
    pages["a"] = {"ResourceTags": [{"Key": "team", "Value": MANAGER}]}
    assert not api.is_marked("arn")
