"""The commands for tenants against the local Azure: the function serves them in the worker runtime, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from azure_function.clients import drop_clients
from cli.main import main
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import TAILPIPE_APP
from tests.cli.support.azure import sign_in, tailpipe, template_variables, tenant
from tests.limits import HANG_S


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a deployment with `fleet = true` and two customers' tenants, none of them registered."""
    with tenant(subscriptions=1, customers=2, fleet=True) as cloud:
        sign_in(cloud, monkeypatch)
        yield cloud
        drop_clients()


def add(cloud: LocalAzure, number: int) -> str:
    """Register a customer's tenant by the command, and return its id."""
    given = cloud.tenant_entries()[number]
    options = [
        part
        for key in ("entry", "destination")
        for name, value in given[key].items()
        for part in (f"--{key}", f"{name}={value}")
    ]
    added = tailpipe("tenants", "add", "azure", given["id"], *options, "--label", "group=south")
    assert added.exit_code == 0, added.output
    return str(given["id"])


def test_second_tenant_is_found_added_checked_and_planned(fleet: LocalAzure) -> None:
    """The customers of the partner billing account are proposed; the entry that was added is the one entered."""
    assert "no tenant of Azure" in tailpipe("tenants", "list", "azure").stdout
    found = tailpipe("tenants", "list", "azure", "--discovered", "--json")
    assert found.exit_code == 0, found.output
    proposed = json.loads(found.stdout)["tenants"]
    assert [one["entry"]["tenant_id"] for one in proposed] == [one.id for one in fleet.customers]
    name = add(fleet, 0)
    left = json.loads(tailpipe("tenants", "list", "azure", "--discovered", "--json").stdout)["tenants"]
    assert [one["entry"]["tenant_id"] for one in left] == [fleet.customers[1].id]
    add(fleet, 1)
    checked = tailpipe("tenants", "check", "azure", name)
    assert checked.exit_code == 0, checked.output
    assert "another identity of this deployment is refused here" in checked.output
    planned = tailpipe("plan", "azure", "--tenant", name)
    assert planned.exit_code == 2, planned.output
    assert fleet.customers[0].actions.exports() == []
    fleet.revoke_consent(name)
    assert tailpipe("tenants", "check", "azure", name).exit_code == 1


def test_tenants_of_the_local_azure_are_added_as_its_guide_says(fleet: LocalAzure) -> None:
    """Its control API returns entries that `tenants add --from -` takes."""
    with requests.post(f"{fleet.endpoint}/_local/tenant_entries", timeout=HANG_S) as response:
        entries = response.json()["result"]
    added = CliRunner().invoke(main, ["tenants", "add", "azure", "--from", "-"], input=json.dumps(entries))
    assert added.exit_code == 0, added.output
    listed = json.loads(tailpipe("tenants", "list", "azure", "--json").stdout)["tenants"]
    assert [one["id"] for one in listed] == [one.name for one in fleet.customers]


def test_option_for_customers_deploys_with_a_fleet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without customers the function is deployed without."""
    served: list[Mapping[str, Any]] = []

    def serve(_cloud: object, options: Mapping[str, Any], _behavior: object) -> int:
        served.append(options)
        return 0

    monkeypatch.setattr("cli.local.azure.serve", serve)
    assert tailpipe("local", "azure").exit_code == 0
    assert tailpipe("local", "azure", "--customers", "3", "--customer-subscriptions", "4").exit_code == 0
    shown = [tuple(one[name] for name in ("customers", "customer_subscriptions", "fleet")) for one in served]
    assert shown == [(0, 2, False), (3, 4, True)]


@pytest.mark.slow
def test_deployed_function_serves_tenants_over_http(fleet: LocalAzure) -> None:
    """One tenant by itself, then a round over both on Durable Functions; each is shown alone and among all."""
    one, other = add(fleet, 0), add(fleet, 1)
    ran = tailpipe("invoke", "azure", "--tenant", one, "--json")
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout)["tenant"] == one
    assert [len(each.actions.exports()) for each in fleet.customers] == [2, 0]
    assert "2 of 2 covered" in tailpipe("status", "azure", "--tenant", one).output
    fleet.revoke_consent(other)
    every = tailpipe("invoke", "azure", "--all", "--json")
    report = json.loads(every.stdout)
    assert (report["tenants"]["ok"], report["tenants"]["unreachable"]) == (1, 1), every.output
    fleet.consent_tenant(other)
    every = tailpipe("invoke", "azure", "--all", "--json")
    assert every.exit_code == 0, every.output
    assert json.loads(every.stdout)["tenants"]["ok"] == 2
    assert [len(each.actions.exports()) for each in fleet.customers] == [2, 2]
    listed = json.loads(tailpipe("status", "azure", "--all-tenants", "--json").stdout)["clouds"][0]["list"]
    assert {each["id"]: each["status"] for each in listed} == {one: "ok", other: "ok"}
    assert "2 of 2 covered" in tailpipe("status", "azure", "--tenant", other).output


@pytest.mark.slow
def test_deployment_with_a_fleet_serves_a_tenant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From nothing: deploy with `fleet`, trust the identity that this made, add a tenant, check and run it."""
    with tenant(bare=True, customers=1) as cloud:
        cloud.world.service_principals[TAILPIPE_APP] = "00000000-0000-0000-0000-00000000c0de"
        sign_in(cloud, monkeypatch)
        monkeypatch.delenv("DESTINATION", raising=False)
        monkeypatch.delenv("TENANTS_IDENTITY")
        monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", cloud.subscription_ids[0])
        deployed = tailpipe(
            "deploy", "azure", "--with", "native", "--yes", *template_variables(tmp_path), "--var", "fleet=true"
        )
        assert deployed.exit_code == 0, deployed.output
        name = add(cloud, 0)
        (refused,) = json.loads(tailpipe("tenants", "check", "azure", name, "--json").stdout)["tenants"][0]["findings"]
        assert "AADSTS700213" in refused["detail"], "the application does not trust this deployment yet"
        cloud.trust_identity(cloud.site.settings["TENANTS_IDENTITY"])
        checked = tailpipe("tenants", "check", "azure", name)
        assert checked.exit_code == 0, checked.output
        ran = tailpipe("invoke", "azure", "--tenant", name)
        assert ran.exit_code == 0, ran.output
        assert len(cloud.customers[0].actions.exports()) == 2
        every = tailpipe("invoke", "azure", "--all", "--json")
        assert json.loads(every.stdout)["tenants"]["ok"] == 1, every.output
        drop_clients()
