"""The algorithm of the earlier runbook: only subscriptions that its list does not know are looked at.

It registers providers, looks for the export, waits for permissions, creates the export, and adds the subscription to
the list; a list that cannot be read counts as empty.
"""

from __future__ import annotations

import json

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.bench.peers.sdk import Sdk
from tests.bench.peers.wanted import export, name_of

PROVIDERS = (
    "Microsoft.CostManagement",
    "Microsoft.CostManagementExports",
    "Microsoft.Storage",
    "Microsoft.Insights",
    "Microsoft.PolicyInsights",
)
BLOB, CONTAINER = "runbook_subscriptions.json", "dataexport"
TRIES, PAUSE_S = 16, 60


def run(sdk: Sdk) -> list[str]:
    """Run the runbook once; return the subscriptions for which it logs an error."""
    failed = []
    container = sdk.container(CONTAINER)
    try:
        known = set(json.loads(container.download_blob(BLOB).readall()))
    except (HttpResponseError, ValueError):
        known = set()
    for subscription in sdk.subscriptions.subscriptions.list():
        identifier = str(subscription.subscription_id)
        if subscription.state != "Enabled" or identifier in known:
            continue
        if _add(sdk, identifier):
            known.add(identifier)
            container.upload_blob(BLOB, json.dumps(sorted(known)), overwrite=True)
        else:
            failed.append(identifier)
    return failed


def _add(sdk: Sdk, identifier: str) -> bool:
    scope, name = f"/subscriptions/{identifier}", name_of(identifier)
    resources = sdk.resources(identifier)
    for attempt in range(TRIES):
        if attempt:
            sdk.sleep(PAUSE_S)
        try:
            for provider in PROVIDERS:
                resources.providers.register(provider)
            try:
                sdk.costs.exports.get(scope, name)
            except ResourceNotFoundError:
                sdk.costs.exports.create_or_update(scope, name, export(identifier))
        except HttpResponseError:
            continue
        return True
    return False
