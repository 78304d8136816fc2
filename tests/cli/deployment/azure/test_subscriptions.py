"""A tenant of several subscriptions: the deployment is found in any of them, a second one is noticed."""

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
from shared.report import LONGEST_LIST, cut_lists, was_cut
from tests.cli.support.azure import sign_in, tailpipe

OTHER = "tailpipe-exports-two"
COMMANDS = (("plan",), ("run", "--yes"), ("invoke",), ("doctor",), ("onboarding",), ("destroy", "--dry-run"))


@pytest.fixture(scope="module")
def lasting() -> Iterator[LocalAzure]:
    """Return a tenant of three subscriptions, the first of which has the function."""
    with LocalAzure(subscriptions=3) as cloud:
        yield cloud


@pytest.fixture
def azure(lasting: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return that tenant, signed in to, without anything that names a subscription."""
    sign_in(lasting, monkeypatch)
    monkeypatch.delenv("DESTINATION", raising=False)
    yield lasting
    lasting.clear_faults()


@contextmanager
def second(azure: LocalAzure, **settings: str) -> Iterator[str]:
    """Have a further function of ours in the second subscription, which is yielded; `settings` replace the first's."""
    subscription = azure.subscription_ids[1]
    site = replace(azure.site, name=OTHER, subscription=subscription, settings={**azure.site.settings, **settings})
    azure.world.sites[site.id.lower()] = site
    yield subscription
    del azure.world.sites[site.id.lower()]


def said(result: Result) -> str:
    """Return what a command said to people, in one line."""
    return " ".join(result.stderr.split())


def test_the_function_is_found_in_whichever_subscription_it_is(azure: LocalAzure) -> None:
    """Nothing names a subscription, the sign-in sees three, and each command opens the one that has the function."""
    for command in (("plan", "--json"), ("doctor",), ("onboarding",)):
        result = tailpipe(command[0], "azure", *command[1:])
        assert f"({azure.subscription_ids[0]}, " in said(result), result.stderr
        assert "could hold the deployment" not in said(result)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_of_functions_in_two_subscriptions_none_is_taken_unasked(azure: LocalAzure, command: tuple[str, ...]) -> None:
    """Both are named with their subscriptions, and the option that chooses one."""
    with second(azure) as subscription:
        result = tailpipe(command[0], "azure", *command[1:])
    assert result.exit_code == 1, result.output
    assert f"{azure.site.name} in subscription {azure.subscription_ids[0]}" in said(result)
    assert f"{OTHER} in subscription {subscription}" in said(result)
    assert "--function NAME" in said(result)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_the_named_function_is_opened_in_its_subscription(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """The name outranks the subscription that the environment has; a name that no function has is refused."""
    with second(azure) as subscription:
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[0])
        result = tailpipe(command[0], "azure", *command[1:], "--function", OTHER)
        wrong = tailpipe(command[0], "azure", *command[1:], "--function", "tailpipe-nowhere")
    assert f"({subscription}, " in said(result), result.stderr
    assert wrong.exit_code == 1
    assert "no function tailpipe-nowhere is deployed here" in said(wrong)


def test_a_subscription_that_is_named_is_the_one(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it has no function, the ones elsewhere in the tenant are named, and none is called."""
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[2])
    result = tailpipe("invoke", "azure")
    assert result.exit_code == 1
    assert f"no function is deployed in subscription {azure.subscription_ids[2]}" in said(result)
    assert f"{azure.site.name} in subscription {azure.subscription_ids[0]}" in said(result)


def test_without_an_answer_about_the_tenant_the_chosen_subscription_is_looked_at(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Resource Graph is a help and no condition: where it fails, the chosen subscription's own listing is enough."""
    azure.fault("Microsoft.ResourceGraph/resources/read", "AuthorizationFailed", "no", status=403)
    monkeypatch.setenv("DESTINATION", azure.site.settings["DESTINATION"])
    assert tailpipe("plan", "azure").exit_code in (0, 2)


@pytest.mark.parametrize(
    "settings", [{}, {"MANAGEMENT_GROUP": "platform"}], ids=["the whole tenant twice", "a part of the tenant"]
)
def test_a_deployment_in_another_subscription_is_noticed(azure: LocalAzure, settings: Mapping[str, str]) -> None:
    """Before anything is made, the other one is named with its subscription and every way out."""
    with second(azure, **settings) as subscription:
        found = AzureOperator.open({"location": "westeurope"}, environment=signed(azure)).preflight(
            {"location": "westeurope"}
        )
    (other,) = [one for one in found if one.what == f"function app {OTHER} in subscription {subscription}"]
    assert (other.ok, "each would redirect the other's" in other.detail) == (False, True)
    assert f"AZURE_SUBSCRIPTION_ID={subscription}" in other.remedy


def test_deployments_of_separate_subscriptions_do_not_stop_each_other(azure: LocalAzure) -> None:
    """Each lists its own subscriptions; one that is in both lists stops the deployment."""
    first, _, third = azure.subscription_ids
    for theirs, ok in ((third, True), (first, False)):
        with second(azure, MANAGEMENT_GROUP="", INCLUDE_SUBSCRIPTIONS=theirs):
            operator = AzureOperator.open({"include_subscriptions": [first]}, environment=signed(azure))
            (other,) = [one for one in operator.preflight({"location": "westeurope"}) if OTHER in one.what]
        assert other.ok is ok, other


def signed(azure: LocalAzure) -> dict[str, str]:
    """Return the operator's environment with the first subscription chosen."""
    return {**azure.environment(), "AZURE_SUBSCRIPTION_ID": azure.subscription_ids[0]}


@pytest.fixture
def cut_answer(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the report of a run that is stored, and have the function answer it with its actions cut."""
    whole: dict[str, Any] = json.loads(tailpipe("run", "azure", "--yes", "--json").stdout)
    many = [{**whole["actions"][0], "name": f"export-{number}"} for number in range(LONGEST_LIST + 1)]
    short = cut_lists({**whole, "actions": many}, "runs/")
    assert was_cut(short)
    monkeypatch.setattr(FunctionCaller, "run", lambda _self, _payload, _tell: short)
    return whole


def test_invoke_shows_the_whole_report_where_the_answer_was_cut(cut_answer: Mapping[str, Any]) -> None:
    """The stored report takes the place of the answer, with every action."""
    result = tailpipe("invoke", "azure", "--json")
    assert json.loads(result.stdout)["actions"] == cut_answer["actions"], result.stderr
    assert "is cut" not in said(result)


def test_a_report_that_may_not_be_read_is_located_with_the_role_that_reads_it(
    azure: LocalAzure, cut_answer: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cut answer is shown, with the blob that has the rest and the role for it."""
    monkeypatch.setenv("BLOB_KEY", "")
    result = tailpipe("invoke", "azure", "--json")
    assert was_cut(json.loads(result.stdout))
    account = azure.site.settings["STATE_ACCOUNT"]
    assert f"runs/{cut_answer['run_id']}.json in container tailpipe-state of storage account {account}" in said(result)
    assert "Storage Blob Data Reader" in said(result)
