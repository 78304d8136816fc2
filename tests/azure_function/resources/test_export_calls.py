"""Calls to the Exports API: the type and the version that the agreement offers, and retries."""

from __future__ import annotations

from localcloud.azure.cloud import LocalAzure
from shared.model import Result, Verb
from tests.azure_function.support import (
    WRITE,
    action,
    focus_version,
    live,
    messages,
    outcome,
    run,
)


def test_pay_as_you_go_falls_back_to_usage_and_the_state_records_it(shared: LocalAzure) -> None:
    """Azure's error names the type that the agreement offers. A dataset without an offered type excludes the scope."""
    new = shared.join_subscription("webdirect", agreement="webdirect")
    finished = run(shared, [new], EXPORTS="actual,focus")
    base = f"TailpipeDataExport-{new[-6:]}"
    assert outcome(finished, new, name=base).result is Result.DONE
    assert live(shared, new)["definition"]["type"] == "Usage"
    refused = outcome(finished, new, name=f"{base}-focus")
    assert (refused.result, refused.code) == (Result.EXCLUDED, "type-refused")
    assert "WebDirect" in refused.message
    assert finished.report["scopes"]["excluded"] == 1
    shared.calls.clear()
    again = run(shared, [new], EXPORTS="actual")
    assert action(again, new, name=base).verb is Verb.KEEP
    assert shared.calls.count(WRITE) == 0


def test_unsupported_dataset_is_excluded_and_another_one_suggested(shared: LocalAzure) -> None:
    """A pay-as-you-go subscription offers no FOCUS export; the reason names a dataset that it offers."""
    new = shared.join_subscription("payg-focus", agreement="webdirect")
    finished = run(shared, [new], EXPORTS="focus")
    done = outcome(finished, new)
    assert (done.result, done.code) == (Result.EXCLUDED, "type-refused")
    assert "it offers the dataset actual, which EXPORTS does not contain" in done.message


def test_principal_that_is_not_replicated_yet_is_retried(shared: LocalAzure) -> None:
    """The write succeeds within the same run."""
    new = shared.join_subscription("identity")
    shared.faults.add(WRITE, "PrincipalNotFound", "Principal does not exist", status=400, times=2, resource=f"*{new}*")
    assert outcome(run(shared, [new]), new).result is Result.DONE


def test_withdrawn_focus_version_is_replaced_and_the_state_records_it(azure: LocalAzure) -> None:
    """The best offered version with no later number is used. The next run requests it directly."""
    new = azure.subscription_ids[1]
    azure.withdraw_focus_version("1.2-preview")
    finished = run(azure, EXPORTS="focus")
    assert finished.report["scopes"]["covered"] == 6, finished.report["failures"]
    assert focus_version(azure, new) == "1.2"
    assert outcome(run(azure, [new], EXPORTS="focus"), new).action.verb is Verb.KEEP
    azure.delete_export(azure.subscription_ids[2])
    azure.calls.clear()
    run(azure, [azure.subscription_ids[2]], EXPORTS="focus")
    assert azure.calls.count(WRITE, status=201) == 1
    assert azure.calls.count(WRITE, status=400) == 1, "only the probe without an eTag"
    azure.delete_export(new)
    azure.withdraw_focus_version("1.2")
    run(azure, [new], EXPORTS="focus", FOCUS_VERSION="1.0")
    assert focus_version(azure, new) == "1.0"


def test_unavailable_focus_version_is_reported_with_the_setting(azure: LocalAzure) -> None:
    """No lower version is offered; the failure names FOCUS_VERSION and the versions that Azure offers."""
    for one in ("1.0-preview(v1)", "1.0", "1.0r2", "1.2-preview"):
        azure.withdraw_focus_version(one)
    finished = run(azure, azure.subscription_ids[1:2], EXPORTS="focus", FOCUS_VERSION="1.0")
    assert "FOCUS_VERSION" in messages(finished)
    assert "'1.2'" in messages(finished)
