"""Exports that others have made: they stay as they are, and no folder gets the same costs twice.

The definitions are those of the managed exports of FinOps hubs (names, schedule, container, folder, format, versions),
and of the Azure portal: https://github.com/microsoft/finops-toolkit
(``src/templates/finops-hub/modules/Microsoft.CostManagement/ManagedExports/app.bicep``) and
https://learn.microsoft.com/azure/cost-management-billing/costs/tutorial-improved-exports
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from azure_function.clients import drop_clients
from azure_function.resources.other_exports import LISTED_A_RUN
from localcloud.azure.cloud import LocalAzure
from shared.model import Verb
from shared.reconcile import RunResult
from tests.azure_function.support import (
    BILLED,
    HOUR,
    READ,
    WRITE,
    action,
    advance,
    local_azure,
    messages,
    run,
    verbs,
)
from tests.localcloud.azure.helpers import Sdk

ACCOUNT = "/providers/Microsoft.Billing/billingAccounts/8611537/enrollmentAccounts/one"
# Each export of a hub: its type, its dataset without what all have in common, and the version.
HUB: dict[str, tuple[str, dict[str, Any], str]] = {
    "finops-hub-daily-costdetails": ("FocusCost", {"granularity": "Daily"}, "1.2-preview"),
    "finops-hub-daily-pricesheet": ("PriceSheet", {}, "2023-05-01"),
    "finops-hub-daily-reservationtransactions": ("ReservationTransactions", {}, "2023-05-01"),
}


@pytest.fixture
def put(shared: LocalAzure) -> Iterator[Sdk]:
    """Return Microsoft's clients for a person who owns the tenant of the module."""
    with ExitStack() as closing:
        yield Sdk(shared, closing, token=shared.operator_token())


def hub_export(name: str, scope: str, account: str) -> dict[str, Any]:
    """Return the body with which a FinOps hub creates one of its exports; a pipeline runs it each day.

    Its identity is left out, and its account is ours, because the local caller has rights on no other.
    """
    kind, dataset, version = HUB[name]
    return {
        "properties": {
            "definition": {
                "dataSet": {"configuration": {"dataVersion": version, "filters": []}, **dataset},
                "timeframe": "MonthToDate",
                "type": kind,
            },
            "deliveryInfo": {"destination": _place(account, "msexports", scope.strip("/"))},
            "schedule": {
                "recurrence": "Daily",
                "recurrencePeriod": {"from": "2026-12-01T00:00:00Z", "to": "2050-02-01T00:00:00Z"},
                "status": "Inactive",
            },
            "format": "Parquet",
            "partitionData": True,
            "dataOverwriteBehavior": "CreateNewReport",
            "compressionMode": "snappy",
        },
    }


def portal_export(account: str, container: str, folder: str, kind: str = "ActualCost") -> dict[str, Any]:
    """Return the body of an export that a person creates in the portal with the values that it proposes."""
    return {
        "properties": {
            "definition": {
                "dataSet": {"granularity": "Daily", "configuration": {"columns": []}},
                "timeframe": "MonthToDate",
                "type": kind,
            },
            "deliveryInfo": {"destination": _place(account, container, folder)},
            "schedule": {
                "recurrence": "Daily",
                "recurrencePeriod": {"from": "2026-12-01T00:00:00Z", "to": "2036-12-01T00:00:00Z"},
                "status": "Active",
            },
            "format": "Csv",
            "partitionData": True,
            "dataOverwriteBehavior": "OverwritePreviousReport",
            "compressionMode": "gzip",
        },
    }


def _place(account: str, container: str, folder: str) -> dict[str, str]:
    return {"type": "AzureBlob", "resourceId": account, "container": container, "rootFolderPath": folder}


def message(finished: RunResult, scope: str) -> str:
    """Return the message of the report about the export of a scope."""
    (found,) = [one for one in finished.report["actions"] if (one["scope"], one["kind"]) == (scope, "export")]
    return str(found["message"])


def test_managed_exports_of_a_finops_hub_stay_and_are_reported() -> None:
    """Only the one of costs is mentioned; the plan says it too, and later runs add and change nothing."""
    with local_azure(subscriptions=3) as cloud, ExitStack() as closing:
        cloud.add_billing_account("8611537", "EnterpriseAgreement", {"one": cloud.subscription_ids})
        cloud.grant_billing()
        exports = Sdk(cloud, closing).exports
        for name in HUB:
            exports.create_or_update(ACCOUNT, name, hub_export(name, ACCOUNT, cloud.destinations[0].id))
        before = {one.name: one.as_dict() for one in exports.list(ACCOUNT).value}
        said = (
            "finops-hub-daily-costdetails stays, and is not used: it differs in name, type, schedule, format, "
            "overwrite, container, folder, and delivers to "
            f"{cloud.destinations[0].name}/msexports/{ACCOUNT.strip('/')}"
        )
        for finished in (run(cloud, dry_run=True, **BILLED), run(cloud, **BILLED)):
            assert message(finished, ACCOUNT) == said
            assert action(finished, ACCOUNT).reason == "others-exist"
        for _ in range(2):
            cloud.deliver()
            advance(cloud, HOUR)
            assert not {"CREATE", "REPAIR", "ADOPT"} & set(verbs(run(cloud, **BILLED)))
        after = {one.name: one.as_dict() for one in exports.list(ACCOUNT).value}
        assert set(after) == {*HUB, "TailpipeAllSubs"}
        assert {name: after[name] for name in HUB} == before
        drop_clients()


def test_export_of_the_portal_to_another_folder_stays_and_is_reported(shared: LocalAzure, put: Sdk) -> None:
    """It delivers to the same container, where nothing of ours reads."""
    new = shared.join_subscription("portal")
    account = shared.destinations[0]
    put.exports.create_or_update(
        f"/subscriptions/{new}", "monthly-costs", portal_export(account.id, "dataexport", "finance")
    )
    place = f"{account.name}/dataexport/finance"
    said = f"monthly-costs stays, and is not used: it differs in name, folder, and delivers to {place}"
    assert message(run(shared, [new], dry_run=True), new) == said
    assert message(run(shared, [new]), new) == said
    assert {one["name"] for one in shared.exports(new)} == {"monthly-costs", f"TailpipeDataExport-{new[-6:]}"}


def test_no_second_export_goes_to_a_folder_that_has_the_costs_already(shared: LocalAzure, put: Sdk) -> None:
    """Costs would count twice: the step names the other export, and ours is created when it has gone."""
    new = shared.join_subscription("same folder")
    folder, path = f"tailpipe/subscriptions/{new}", f"/subscriptions/{new}"
    put.exports.create_or_update(path, "by-hand", portal_export(shared.destinations[0].id, "dataexport", folder))
    for finished in (run(shared, [new], dry_run=True), run(shared, [new])):
        assert (action(finished, new).verb, action(finished, new).reason) == (Verb.MANUAL, "folder-shared")
        assert "by-hand delivers the data" in messages(finished)
    assert [one["name"] for one in shared.exports(new)] == ["by-hand"]
    shared.delete_export(new, "by-hand")
    advance(shared, 8 * HOUR)
    assert action(run(shared, [new]), new).verb is Verb.CREATE


def test_another_dataset_in_the_same_folder_is_no_second_delivery(shared: LocalAzure, put: Sdk) -> None:
    """The datasets of EXPORTS also share a folder."""
    new = shared.join_subscription("other dataset")
    body = portal_export(shared.destinations[0].id, "dataexport", f"tailpipe/subscriptions/{new}", "AmortizedCost")
    put.exports.create_or_update(f"/subscriptions/{new}", "amortized-by-hand", body)
    assert action(run(shared, [new]), new).reason == "others-exist"


def test_export_that_joins_ours_in_its_folder_is_reported_while_it_delivers(azure: LocalAzure) -> None:
    """Its deliveries show it, without a read of each scope; the step ends two days after the last one."""
    first = azure.subscription_ids[0]
    run(azure)
    with ExitStack() as closing:
        exports = Sdk(azure, closing, token=azure.operator_token()).exports
        body = portal_export(azure.destinations[0].id, "dataexport", f"tailpipe/subscriptions/{first}")
        exports.create_or_update(f"/subscriptions/{first}", "by-hand", body)
        azure.deliver()
        advance(azure, HOUR)
        shared = run(azure)
        assert [one["scope"] for one in shared.report["manual"] if one["code"] == "folder-shared"] == [first]
        assert azure.calls.count(WRITE) == len(azure.subscription_ids) + 2  # each once, the probe, and the one by hand
        azure.delete_export(first, "by-hand")
    for _ in range(3):
        advance(azure, 20 * HOUR)
        azure.deliver()
    assert run(azure).report["manual"] == []


def test_few_scopes_are_listed_in_a_run() -> None:
    """Most exports are created in one call, so only some scopes are asked for other exports."""
    with local_azure(subscriptions=2 * LISTED_A_RUN) as cloud:
        run(cloud)
        assert cloud.calls.count(READ) <= LISTED_A_RUN + 3
        drop_clients()


def test_refused_listing_of_other_exports_does_not_block_the_creation(shared: LocalAzure) -> None:
    """They would only be mentioned."""
    new = shared.join_subscription("refused listing")
    shared.faults.add(READ, "NotFound", "not found", status=404, times=1, resource=f"*{new}*")
    shared.faults.add(READ, "RBACAccessDenied", "no", status=403, times=1, resource=f"*{new}*")
    assert action(run(shared, [new]), new).verb is Verb.CREATE
