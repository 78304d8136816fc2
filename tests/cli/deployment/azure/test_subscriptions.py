"""A tenant with several subscriptions: the deployment is found in each, and a second one is detected."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from click.testing import Result

from cli.deployment.azure.invoke import FunctionCaller
from cli.deployment.azure.operator import AzureOperator
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import UNLIMITED
from shared.report import LONGEST_LIST, cut_lists, was_cut
from tests.cli.support.azure import sign_in, tailpipe

OTHER = "tailpipe-exports-two"
COMMANDS = (("plan",), ("run", "--yes"), ("invoke",), ("doctor",), ("onboarding",), ("destroy", "--dry-run"))


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAzure]:
    """Return a tenant with three subscriptions, the first of which has the function."""
    with LocalAzure(subscriptions=3, limits=UNLIMITED) as cloud:
        yield cloud


@pytest.fixture
def azure(lasting: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return that tenant, signed in, without a selected subscription."""
    sign_in(lasting, monkeypatch)
    monkeypatch.delenv("DESTINATION", raising=False)
    yield lasting
    lasting.clear_faults()


@contextmanager
def second(azure: LocalAzure, **settings: str) -> Iterator[str]:
    """Yield the second subscription with another function of ours; `settings` override the first one's."""
    subscription = azure.subscription_ids[1]
    site = replace(azure.site, name=OTHER, subscription=subscription, settings={**azure.site.settings, **settings})
    azure.world.sites[site.id.lower()] = site
    yield subscription
    del azure.world.sites[site.id.lower()]


def output_of(result: Result) -> str:
    """Return a command's messages in one line."""
    return " ".join(result.stderr.split())


def test_function_is_found_in_any_subscription(azure: LocalAzure) -> None:
    """Without a selection, each command opens the subscription with the function."""
    for command in (("plan", "--json"), ("doctor",), ("onboarding",)):
        result = tailpipe(command[0], "azure", *command[1:])
        assert f"({azure.subscription_ids[0]}, " in output_of(result), result.stderr
        assert "could hold the deployment" not in output_of(result)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_functions_in_two_subscriptions_need_a_selection(azure: LocalAzure, command: tuple[str, ...]) -> None:
    """Both are listed with their subscriptions and the option that selects one."""
    with second(azure) as subscription:
        result = tailpipe(command[0], "azure", *command[1:])
    assert result.exit_code == 1, result.output
    assert f"{azure.site.name} in subscription {azure.subscription_ids[0]}" in output_of(result)
    assert f"{OTHER} in subscription {subscription}" in output_of(result)
    assert "--function NAME" in output_of(result)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_named_function_is_opened_in_its_subscription(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The name takes precedence over the selected subscription; an unknown name is refused."""
    with second(azure) as subscription:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[0])
        result = tailpipe(command[0], "azure", *command[1:], "--function", OTHER)
        wrong = tailpipe(command[0], "azure", *command[1:], "--function", "tailpipe-nowhere")
    assert f"({subscription}, " in output_of(result), result.stderr
    assert wrong.exit_code == 1
    assert "no function tailpipe-nowhere is deployed here" in output_of(wrong)


def test_selected_subscription_without_a_function_is_reported(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions elsewhere in the tenant are listed, and none is called."""
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[2])
    result = tailpipe("invoke", "azure")
    assert result.exit_code == 1
    assert f"no function is deployed in subscription {azure.subscription_ids[2]}" in output_of(result)
    assert f"{azure.site.name} in subscription {azure.subscription_ids[0]}" in output_of(result)


def test_selected_subscription_is_searched_without_resource_graph(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If Resource Graph fails, the subscription's own listing is sufficient."""
    azure.fault("Microsoft.ResourceGraph/resources/read", "AuthorizationFailed", "no", status=403)
    monkeypatch.setenv("DESTINATION", azure.site.settings["DESTINATION"])
    assert tailpipe("plan", "azure").exit_code in (0, 2)


@pytest.mark.parametrize(
    "settings", [{}, {"MANAGEMENT_GROUP": "platform"}], ids=["the whole tenant twice", "a part of the tenant"]
)
def test_deployment_in_another_subscription_is_reported(azure: LocalAzure, settings: Mapping[str, str]) -> None:
    """The message has its subscription and every remedy, before anything is created."""
    with second(azure, **settings) as subscription:
        found = AzureOperator.open({"location": "westeurope"}, environment=signed(azure)).preflight(
            {"location": "westeurope"}
        )
    (other,) = [one for one in found if one.what == f"function app {OTHER} in subscription {subscription}"]
    assert (other.ok, "each would redirect the other's" in other.detail) == (False, True)
    assert f"AZURE_SUBSCRIPTION_ID={subscription}" in other.remedy


def test_deployments_with_separate_subscriptions_are_allowed(azure: LocalAzure) -> None:
    """A subscription in both lists is refused."""
    first, _, third = azure.subscription_ids
    for theirs, ok in ((third, True), (first, False)):
        with second(azure, MANAGEMENT_GROUP="", INCLUDE_SUBSCRIPTIONS=theirs):
            operator = AzureOperator.open({"include_subscriptions": [first]}, environment=signed(azure))
            (other,) = [one for one in operator.preflight({"location": "westeurope"}) if OTHER in one.what]
        assert other.ok is ok, other


def signed(azure: LocalAzure) -> dict[str, str]:
    """Return the operator's environment with the first subscription selected."""
    return {**azure.environment(), "AZURE_SUBSCRIPTION_ID": azure.subscription_ids[0]}


@pytest.fixture
def cut_answer(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Store a run's report, and let the function respond with its actions shortened; return the report."""
    whole: dict[str, Any] = json.loads(tailpipe("run", "azure", "--yes", "--json").stdout)
    many = [{**whole["actions"][0], "name": f"export-{number}"} for number in range(LONGEST_LIST + 1)]
    short = cut_lists({**whole, "actions": many}, "runs/")
    assert was_cut(short)
    monkeypatch.setattr(FunctionCaller, "run", lambda _self, _payload, _tell: short)
    return whole


def test_invoke_shows_the_stored_report_if_the_response_is_shortened(cut_answer: Mapping[str, Any]) -> None:
    """It has every action."""
    result = tailpipe("invoke", "azure", "--json")
    assert json.loads(result.stdout)["actions"] == cut_answer["actions"], result.stderr
    assert "is cut" not in output_of(result)


def test_denied_stored_report_is_reported_with_its_blob_and_role(
    azure: LocalAzure, cut_answer: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shortened response is shown."""
    monkeypatch.setenv("BLOB_KEY", "")
    result = tailpipe("invoke", "azure", "--json")
    assert was_cut(json.loads(result.stdout))
    account = azure.site.settings["STATE_ACCOUNT"]
    assert f"runs/{cut_answer['run_id']}.json in container tailpipe-state of storage account {account}" in output_of(
        result
    )
    assert "Storage Blob Data Reader" in output_of(result)
