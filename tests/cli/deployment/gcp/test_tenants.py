"""The tenant port on Google Cloud: the registry, checks of an entry, the invitation's script, and proposals."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest

from cli.deployment.gcp import tenants
from cli.deployment.model import Finding
from gcp_function.tenants import RULES
from localcloud.gcp.cloud import LocalGcp
from shared.state.store import Conflict
from shared.tenants.registry import Tenant, encode_registry, parse_registry
from tests.gcp_function.fleet import FleetFunction, fleet
from tests.gcp_function.support import Lines

FEW = {"history_days": 1, "rows": 1, "kinds": ("standard", "detailed", "pricing", "focus")}


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[FleetFunction]:
    """Return a deployment with two tenants; the operator is signed in, and may impersonate as the function may."""
    with fleet() as cloud:
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        found = FleetFunction(cloud, {"acme": FEW, "bolt": FEW})
        yield found


def tenant_of(function: FleetFunction, tenant: str) -> Tenant:
    """Return a tenant as the registry has it."""
    return parse_registry(encode_registry(function.entries.values()), RULES).tenants[tenant]


def checked(function: FleetFunction, tenant: str) -> dict[str, Finding]:
    """Return what the checks of a tenant found, by title."""
    others = [tenant_of(function, one) for one in function.entries]
    found = tenants.check(tenant_of(function, tenant), others, function.environment, Lines(), function.cloud.clock)
    return {one.what: one for one in found}


def test_the_registry_is_written_by_compare_and_swap(function: FleetFunction) -> None:
    """A registry that another operator wrote in between is not overwritten."""
    store = tenants.registry_store(function.environment, Lines(), function.cloud.clock)
    assert store.place == f"gs://{function.cloud.deployment.registry_bucket}/tenants.json"
    found = store.load(1_000_000)
    version = store.save(found.data + b" ", found.version)
    assert version != found.version
    with pytest.raises(Conflict):
        store.save(found.data, found.version)


def test_a_sound_tenant_passes_every_check(function: FleetFunction) -> None:
    """Entry, rights, and that its account cannot read the exports of another tenant."""
    found = checked(function, "acme")
    assert [one for one in found.values() if one.ok is not True] == []
    assert found["acme cannot read bolt"].detail.endswith("tailpipe-billing-export-bolt-exports")


def test_a_billing_account_of_two_tenants_is_found(function: FleetFunction) -> None:
    """An entry names an account of another's organization, or two that name nothing see the same one."""
    cloud, entries = function.cloud, function.entries
    title = "no other tenant has a billing account of {}"
    account = cloud.accounts_of("acme")[0]
    cloud.grant("roles/billing.viewer", f"billingAccounts/{account}", entries["bolt"]["entry"]["service_account"])
    del entries["bolt"]["entry"]["organization"]
    found = checked(function, "bolt")[title.format("bolt")]
    assert (found.ok, found.detail) == (False, f"billing account {account}: also of tenant acme")
    assert "EXCLUDE_ACCOUNTS" in found.remedy
    del entries["acme"]["entry"]["organization"]
    for one, other in (("acme", "bolt"), ("bolt", "acme")):
        found = checked(function, one)[title.format(one)]
        assert (found.ok, found.detail) == (False, f"billing account {account}: also of tenant {other}")
    entries["bolt"]["entry"]["billing_accounts"] = account
    assert checked(function, "acme")[title.format("acme")].ok is False
    entries["acme"]["settings"] = {"EXCLUDE_ACCOUNTS": account}
    assert [checked(function, one)[title.format(one)].ok for one in entries] == [True, True]


def test_a_revoked_entry_a_missing_right_and_a_confused_deputy_are_found(function: FleetFunction) -> None:
    """Each is reported with its remedy."""
    cloud = function.cloud
    account = "tailpipe-function@acme-exports.iam.gserviceaccount.com"
    cloud.grant("roles/storage.objectViewer", "buckets/tailpipe-billing-export-bolt-exports", account)
    cloud.revoke("bigquery.jobs.create", identity=account)
    cloud.grant("roles/iam.serviceAccountTokenCreator", f"projects/acme-exports/serviceAccounts/{account}", "allUsers")
    failed = {title: one for title, one in checked(function, "acme").items() if one.ok is False}
    assert set(failed) == {
        "acme cannot read bolt",
        "RunJobs on project acme-exports",
        "who may impersonate the account of acme",
    }
    assert all(one.remedy for one in failed.values())


def test_the_script_of_an_invitation_admits_the_function(
    function: FleetFunction, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its grants alone, applied to a new account, make every check pass and a run complete."""
    cloud = function.cloud
    entry = cloud.add_tenant("nova", **FEW)
    monkeypatch.setenv("GOOGLE_OAUTH_ACCESS_TOKEN", cloud.deployment.identity)
    account = entry["entry"]["service_account"]
    cloud.iam.strip(account)
    cloud.refuse_entry("nova")
    function.entries["nova"] = entry
    function.register()
    assert checked(function, "nova")["entry of nova"].ok is None
    invitation = tenants.invite(tenant_of(function, "nova"), function.environment)
    assert "remove-iam-policy-binding" in invitation.text
    run_script(cloud, invitation.files["admit.sh"])
    found = checked(function, "nova")
    assert found.pop("who may impersonate the account of nova").ok is None  # the function may not read its policy
    assert [one for one in found.values() if one.ok is not True] == []
    report = function.round()
    assert {row["tenant"]: row["run_complete"] for row in report["rows"]}["nova"] is True


def run_script(cloud: LocalGcp, script: str) -> None:
    """Carry out the script's grants in the local IAM."""
    roles: dict[str, list[str]] = {}
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        flags = dict(one[2:].partition("=")[::2] for one in words if one.startswith("--"))
        if words[:4] == ["gcloud", "iam", "roles", "create"]:
            roles[f"projects/{flags['project']}/roles/{words[4]}"] = flags["permissions"].split(",")
        elif len(words) > 2 and words[-4:] and "add-iam-policy-binding" in words:
            bind(cloud, words, flags, roles)


def bind(cloud: LocalGcp, words: list[str], flags: dict[str, str], roles: dict[str, list[str]]) -> None:
    """Grant what one command binds."""
    place = words[words.index("add-iam-policy-binding") + 1]
    kind = {"projects": "projects", "organizations": "organizations", "service-accounts": ""}[
        next(one for one in words if one in ("projects", "organizations", "service-accounts"))
    ]
    where = (
        f"{kind}/{place}" if kind else f"projects/{place.partition('@')[2].partition('.')[0]}/serviceAccounts/{place}"
    )
    condition: dict[str, Any] | None = None
    if found := re.fullmatch(r"expression=(.*),title=(.*)", flags.get("condition", "")):
        condition = {"expression": found[1], "title": found[2]}
    cloud.iam.grant(
        flags["member"].removeprefix("serviceAccount:"),
        flags["role"],
        where,
        permissions=roles.get(flags["role"], ()),
        condition=condition,
    )


def test_visible_billing_accounts_are_proposed_as_tenants(function: FleetFunction) -> None:
    """One for each organization that is not the deployment's own, and one for each sub-account of a reseller."""
    cloud = function.cloud
    master = cloud.add_account("Reseller")
    sub = cloud.add_account("Customer One", master=master)
    found = tenants.discover(function.environment, Lines(), cloud.clock)
    organizations = {one.entry.get("organization") for one in found}
    assert organizations >= {entry["entry"]["organization"] for entry in function.entries.values()}
    (customer,) = [one for one in found if one.entry.get("billing_accounts")]
    assert customer.entry == {"billing_accounts": sub}
    assert customer.id.startswith("customer-one-")
    assert len({one.id for one in found}) == len(found)
