"""What the registry may say about a tenant of Google Cloud, and the settings of its run."""

from __future__ import annotations

from typing import Any

import pytest

from gcp_function.settings import read_settings
from gcp_function.tenants import RULES
from shared.tenants.registry import encode_registry, environment_of, parse_registry

ACCOUNT, OTHER = "012345-6789AB-CDEF01", "0A1B2C-3D4E5F-678901"
HOME = {
    "GOOGLE_CLOUD_PROJECT": "home-project",
    "HOME_PROJECT": "home-project",
    "STATE_BUCKET": "home-state",
    "ORGANIZATION": "organizations/1",
    "EXPORT_BUCKET": "home-exports",
    "BILLING_DATASET": "home_dataset",
    "EVENTS_SUBSCRIPTION": "projects/home-project/subscriptions/events",
    "EXCLUDE_ACCOUNTS": OTHER,
    "DELTAS": "1",
    "DELIVERY_TOPIC": "projects/home-project/topics/deliveries",
}


def entry(tenant: str, **changes: Any) -> dict[str, Any]:
    """Return a sound entry; `changes` replace its parts."""
    return {
        "id": tenant,
        "cloud": "gcp",
        "entry": {"service_account": f"exports-{tenant}@{tenant}-project.iam.gserviceaccount.com"},
        "destination": {"project": f"{tenant}-project"},
        **changes,
    }


def faults(*entries: dict[str, Any]) -> str:
    """Return all faults of a registry as one text."""
    found = parse_registry(encode_registry(entries), RULES).refused
    return " | ".join(fault for each in found.values() for fault in each)


def test_a_tenants_run_has_its_own_place_and_the_deployments_state() -> None:
    """Nothing that names the deployment's accounts, events or destination is inherited."""
    given = entry("acme", settings={"COPY_DAYS": "10"})
    given["entry"]["billing_accounts"] = ACCOUNT
    registry = parse_registry(encode_registry([given]), RULES)
    settings = read_settings(environment_of(registry.tenant("acme"), HOME, RULES))
    assert (settings.project, settings.bucket) == ("acme-project", "tailpipe-billing-export-acme-project")
    assert (settings.dataset, settings.organization) == ("billing_export", "")
    assert (settings.include_accounts, settings.exclude_accounts) == ((ACCOUNT,), ())
    assert (settings.state_bucket, settings.registry_bucket) == ("home-state", "tailpipe-tenants-home-project")
    assert (settings.events_subscription, settings.delivery_topic, settings.deltas) == ("", "", True)
    assert (settings.tenant, settings.copy_days) == ("acme", 10)
    own = settings.at_home()
    assert (own.project, own.tenant, own.service_account) == ("home-project", "", "")


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"entry": {}}, "service_account is required"),
        ({"entry": {"service_account": "person@example.com"}}, "service_account: 'person@example.com' is not"),
        ({"destination": {}}, "project is required"),
        ({"settings": {"STATE_BUCKET": "x"}}, "'STATE_BUCKET' may not be set"),
        ({"settings": {"HOME_PROJECT": "x"}}, "'HOME_PROJECT' may not be set"),
        ({"settings": {"BIGQUERY_EMULATOR_HOST": "127.0.0.1:1"}}, "may not be set for a tenant"),
        ({"settings": {"EXPORTS": "everything"}}, "EXPORTS"),
        ({"destination": {"project": "acme-project", "bucket": "home-state"}}, "STATE_BUCKET"),
    ],
)
def test_unsound_entries_are_refused(changes: dict[str, Any], fault: str) -> None:
    """Each fault names the field, and what an entry may never set."""
    assert fault in faults(entry("acme", **changes))


def test_two_tenants_share_no_organization_account_or_destination() -> None:
    """Both entries are refused, with the other's id."""
    same = entry("bolt", entry=entry("acme")["entry"])
    assert "service_account is the same" in faults(entry("acme"), same)
    shared = faults(entry("acme"), entry("bolt", destination={"project": "acme-project"}))
    assert "dataset acme-project.billing_export is also that of another tenant" in shared
    assert "bucket tailpipe-billing-export-acme-project is also that of another tenant" in shared
    organization = [entry(one) for one in ("acme", "bolt")]
    for one in organization:
        one["entry"]["organization"] = "organizations/7"
    assert "enters organization 7" in faults(*organization)
    for one, accounts in zip(organization, (f"{ACCOUNT},{OTHER}", OTHER), strict=True):
        one["entry"]["billing_accounts"] = accounts
    assert f"billing account {OTHER} is also that of another tenant" in faults(*organization)
    organization[1]["entry"]["billing_accounts"] = "111111-222222-333333"
    assert faults(*organization) == ""


def test_an_organization_and_accounts_of_it_are_two_tenants_only_if_it_leaves_them_out() -> None:
    """The registry alone shows the overlap; with EXCLUDE_ACCOUNTS both are sound."""
    whole, part = entry("acme"), entry("bolt")
    whole["entry"]["organization"] = "organizations/7"
    part["entry"] |= {"organization": "7", "billing_accounts": f"{ACCOUNT},{OTHER}"}
    found = parse_registry(encode_registry([whole, part]), RULES).refused
    assert set(found) == {"acme", "bolt"}
    assert f"serves all of organization 7, of which bolt serves {ACCOUNT}, {OTHER}; leave" in found["acme"][0]
    assert f"serves {ACCOUNT}, {OTHER} of organization 7, as acme does" in found["bolt"][0]
    whole["settings"] = {"EXCLUDE_ACCOUNTS": ACCOUNT}
    assert f"serves {OTHER} of organization 7" in faults(whole, part)
    whole["settings"] = {"EXCLUDE_ACCOUNTS": f"{ACCOUNT}, {OTHER}"}
    assert faults(whole, part) == ""
    assert faults(entry("acme"), part) == ""
    del part["entry"]["organization"]
    assert faults({**whole, "settings": {}}, part) == ""  # only the cloud knows where these accounts are
