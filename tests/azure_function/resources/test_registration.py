"""Registration of resource providers: by the function if it may, else reported as a manual step."""

from __future__ import annotations

from azure_function.targets import EXPORTS_PROVIDER
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.rights import OWNER
from localcloud.azure.services.directory import made_up_id
from shared.model import Result, Verb
from tests.azure_function.support import (
    DAY,
    HOUR,
    action,
    advance,
    messages,
    outcome,
    run,
)


def test_unregistered_exports_provider_is_reported_with_the_command(azure: LocalAzure) -> None:
    """The function may not register it, and tries once per run."""
    home = azure.subscription_ids[0]
    azure.unregister_provider(home, EXPORTS_PROVIDER)
    finished = run(azure)
    registration = outcome(finished, home, "registration")
    assert (registration.result, registration.code) == (Result.MANUAL, "provider-unregistered")
    assert f"az provider register --namespace {EXPORTS_PROVIDER} --subscription {home}" in messages(finished)
    assert azure.calls.count("*/register/action") == 1
    azure.register_provider(home, EXPORTS_PROVIDER)
    advance(azure, DAY)
    assert run(azure).report["scopes"]["covered"] == 6


def test_exports_provider_is_registered_if_the_function_may(azure: LocalAzure) -> None:
    """One request starts the registration, and the exports wait for it."""
    home = azure.subscription_ids[0]
    azure.world.rights.assign(f"/subscriptions/{home}", azure.principal, OWNER, made_up_id("granted by hand"))
    azure.world.behavior.registration_delay_s = 300
    azure.unregister_provider(home, EXPORTS_PROVIDER)
    finished = run(azure)
    assert outcome(finished, home, "registration").result is Result.PENDING
    assert finished.report["scopes"]["failed"] == 0
    assert azure.calls.count("*/register/action") == 1
    advance(azure, HOUR)
    assert run(azure).report["scopes"]["covered"] == 6
    assert action(run(azure), home, "registration").verb is Verb.KEEP


def test_source_subscription_is_registered_only_if_azure_requires_it(shared: LocalAzure) -> None:
    """The error names the resource provider. The export is deferred and created by a later run."""
    asked, other = shared.join_subscription("asks"), shared.join_subscription("does-not-ask")
    shared.demand_registration(asked)
    finished = run(shared, [asked, other])
    assert outcome(finished, asked).code == "source-unregistered"
    registered = [call.resource for call in shared.calls.select("*/register/action")]
    assert len(registered) == 1
    assert asked in registered[0]
    advance(shared, HOUR)
    assert outcome(run(shared, [asked]), asked).result is Result.DONE
