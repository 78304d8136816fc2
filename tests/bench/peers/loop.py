"""A loop over all subscriptions with the vendor's SDK: it creates each export that a read does not find."""

from __future__ import annotations

from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from tests.bench.peers.sdk import Sdk
from tests.bench.peers.wanted import export, name_of


def run(sdk: Sdk) -> list[str]:
    """Run the script once; return the subscriptions for which it prints an error."""
    failed = []
    for subscription in sdk.subscriptions.subscriptions.list():
        if subscription.state != "Enabled":
            continue
        identifier = str(subscription.subscription_id)
        scope, name = f"/subscriptions/{identifier}", name_of(identifier)
        try:
            try:
                sdk.costs.exports.get(scope, name)
            except ResourceNotFoundError:
                sdk.costs.exports.create_or_update(scope, name, export(identifier))
        except HttpResponseError:
            failed.append(identifier)
    return failed
