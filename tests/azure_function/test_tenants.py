"""Runs of several Entra tenants by one deployment: each with its own entry, state and resources."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobServiceClient
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from azure_function import handler, rounds
from azure_function.clients import Clients, drop_clients
from azure_function.entry import EntryCredential
from azure_function.fleet_store import REGISTRY_CONTAINER
from azure_function.invocation import open_state, run_once, status_once
from azure_function.settings import read_settings
from azure_function.tenants import RULES
from cli.deployment.azure.tenant_roles import roles_of
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.customers import APPLICATION, CustomerTenant
from localcloud.azure.platform.deployment import NOTIFY_SECRET
from localcloud.azure.services.event_grid import ACTION as SEND
from shared.errors import Permanent, RequestError, Unreachable
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.tenants.registry import environment_of, parse_registry
from tests.azure_function.support import HOUR, Lines, local_azure, messages
from tests.shared.notify.receiver import receiving

ROUND = "20261102T090000Z-0000002a"
TOKEN = "Microsoft.Entra/tenants/token/action"


@pytest.fixture
def fleet(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalAzure]:
    """Return a provider's tenant with three customers' tenants in its registry."""
    with local_azure(subscriptions=1, customers=3) as cloud:
        environment = cloud.environment()
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, environment[name])
        register(cloud)
        yield cloud
        drop_clients()


def register(cloud: LocalAzure, entries: Sequence[Any] = (), **changes: dict[str, Any]) -> None:
    """Store a registry with these entries, by default of all customers, each with `changes` by its name."""
    given = [{**one, **changes.get(one["id"].replace("-", "_"), {})} for one in entries or cloud.tenant_entries()]
    cloud.put_registry(json.dumps({"version": 1, "tenants": given}).encode())


def run(cloud: LocalAzure, tenant: str, **settings: str) -> RunResult:
    """Run the function once for a tenant."""
    environment = {**cloud.environment(), **settings}
    return run_once(RunRequest(tenant=tenant), environment, Lines(), cloud.clock, 3300, seed=1)


def row(
    cloud: LocalAzure, tenant: str, round_id: str = ROUND, sink: Lines | None = None, **settings: str
) -> dict[str, Any]:
    """Return the row of a tenant's run in a round."""
    environment = {**cloud.environment(), **settings}
    return rounds.run_tenant(tenant, round_id, environment, sink or Lines(), cloud.clock, 3300, seed=1)


def stored(cloud: LocalAzure) -> set[str]:
    """Return the names of the blobs in the state container."""
    with cloud.blob_client(cloud.host_account.name) as client:
        return set(client.get_container_client("tailpipe-state").list_blob_names())


def read(cloud: LocalAzure, name: str) -> Any:
    """Return a JSON document of the state container."""
    with cloud.blob_client(cloud.host_account.name) as client:
        return json.loads(client.get_blob_client("tailpipe-state", name).download_blob().readall())


def callers(customer: CustomerTenant) -> set[str]:
    """Return who called a customer's Resource Manager or storage."""
    return {one.app for one in customer.world.calls}


def test_a_tenants_run_creates_exports_in_the_tenant_and_stores_everything_with_the_provider(
    fleet: LocalAzure,
) -> None:
    """State, report and row are the provider's; only exports and containers are the tenant's."""
    customer = fleet.customers[0]
    finished = run(fleet, customer.name)
    assert finished.report["status"] == "ok", messages(finished)
    assert finished.report["tenant"] == customer.name
    assert finished.report["scopes"]["covered"] == 2
    assert len(customer.actions.exports()) == 2
    assert fleet.exports() == []
    run_id = finished.report["run_id"]
    assert stored(fleet) == {
        f"tenants/{customer.name}/known_subscriptions.json",
        f"runs/tenants/{customer.name}/{run_id}.json",
        f"rows/{customer.name}.json",
    }
    document = read(fleet, f"tenants/{customer.name}/known_subscriptions.json")
    assert document["owner"] == customer.id
    assert read(fleet, f"rows/{customer.name}.json")["status"] == "ok"


def test_no_credential_of_one_tenant_is_sent_to_another(fleet: LocalAzure) -> None:
    """Runs alternate in one process; each tenant sees its own principal and no other, and refuses no token."""
    for _ in range(2):
        for customer in fleet.customers:
            assert run(fleet, customer.name).report["status"] == "ok"
        fleet.advance(HOUR)
        fleet.sync()
    for customer in fleet.customers:
        assert callers(customer) == {customer.principal}
        assert not customer.world.calls.select(status=401)
    assert not fleet.calls.select(status=401)
    principals = {customer.principal for customer in fleet.customers}
    assert not principals & {one.app for one in fleet.calls}


def test_the_deployments_own_run_is_as_before(fleet: LocalAzure) -> None:
    """Its reports are listed without those of tenants."""
    run(fleet, fleet.customers[0].name)
    finished = run_once(RunRequest(), fleet.environment(), Lines(), fleet.clock, 3300, seed=2)
    assert finished.report["status"] == "ok", messages(finished)
    assert "tenant" not in finished.report
    store, _ = open_state(fleet.environment(), Lines(), fleet.clock)
    assert store.report_ids("2026") == [finished.report["run_id"]]


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (7000229, "accept the link"),
        (65001, "accept the link"),
        (700016, "accept the link"),
        (7000112, "enable users' sign-in"),
        (53003, "Conditional Access"),
        (90002, "Correct tenant_id"),
        (5000225, "reactivated"),
    ],
)
def test_a_tenant_that_cannot_be_entered_is_a_row(fleet: LocalAzure, code: int, remedy: str) -> None:
    """Nothing is called in its cloud, and no state is written; the others are not affected."""
    dead, other = fleet.customers[:2]
    if code == 7000229:
        fleet.revoke_consent(dead.name)
    elif code == 7000112:
        fleet.disable_application(dead.name)
    else:
        fleet.refuse_tokens(dead.name, code)
    found = row(fleet, dead.name)
    assert (found["status"], found["again"]) == ("unreachable", False)
    (failure,) = found["failures"]
    assert failure["code"] == "tenant-unreachable"
    assert f"AADSTS{code}" in failure["message"]
    assert remedy in failure["remedy"]
    assert len(dead.world.calls) == 0
    assert not any(name.startswith(f"tenants/{dead.name}") for name in stored(fleet))
    assert row(fleet, other.name)["status"] == "ok"


def test_a_tenant_without_roles_for_the_application_cannot_be_entered_either(fleet: LocalAzure) -> None:
    """A consent that was given again starts without the former roles."""
    customer = fleet.customers[0]
    fleet.revoke_consent(customer.name)
    fleet.consent_tenant(customer.name, roles=False)
    (failure,) = row(fleet, customer.name)["failures"]
    assert failure["code"] == "tenant-unreachable"
    assert "tenants invite" in failure["remedy"]


def test_consent_revoked_between_two_runs_keeps_the_state(fleet: LocalAzure) -> None:
    """The tenant's exports go on by themselves, and the next consent continues where the state ended."""
    customer = fleet.customers[0]
    run(fleet, customer.name)
    before = read(fleet, f"tenants/{customer.name}/known_subscriptions.json")
    fleet.revoke_consent(customer.name)
    drop_clients()
    assert row(fleet, customer.name)["status"] == "unreachable"
    assert read(fleet, f"tenants/{customer.name}/known_subscriptions.json")["scopes"] == before["scopes"]
    fleet.consent_tenant(customer.name)
    again = row(fleet, customer.name, "20261102T100000Z-0000002b")
    assert (again["status"], again["scopes"]["covered"]) == ("ok", 2)
    assert len(customer.actions.exports()) == 2


def test_consent_revoked_in_the_middle_of_a_run_loses_nothing(fleet: LocalAzure) -> None:
    """What was created is remembered, the rest waits for the next consent, and no other tenant notices."""
    customer, other = fleet.customers[:2]

    class Revoked(Lines):
        def __call__(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
            super().__call__(level, event, fields)
            if event == "write-done" and customer.principal:
                # Entra ID deletes the assignments with the principal; the token that was issued lives on.
                for held in customer.world.rights.of(customer.principal):
                    customer.world.rights.remove(held.id)
                customer.revoke_consent()

    found = row(fleet, customer.name, sink=Revoked(), CALLS_AT_ONCE="1")
    # A refusal of a new subscription may be one whose roles are not in effect yet, so that it is tried again first.
    assert (found["scopes"]["covered"], found["scopes"]["deferred"]) == (1, 1), found
    assert row(fleet, other.name)["status"] == "ok"
    drop_clients()
    assert row(fleet, customer.name, "20261102T100000Z-0000002b")["status"] == "unreachable"
    fleet.consent_tenant(customer.name)
    fleet.advance(HOUR)
    fleet.sync()
    again = row(fleet, customer.name, "20261102T110000Z-0000002c")
    assert (again["status"], again["scopes"]["covered"]) == ("ok", 2), again
    assert len(customer.world.calls.select("Microsoft.CostManagement/exports/write", status=201)) == 2


def test_the_own_identity_being_unavailable_is_not_the_tenants_failure(fleet: LocalAzure) -> None:
    """The row says that this deployment's credentials are missing."""
    fleet.break_identity("unavailable")
    found = row(fleet, fleet.customers[0].name)
    assert found["status"] == "failed"
    assert found["failures"][0]["code"] == "credentials"


def test_a_state_of_another_entra_tenant_is_not_touched(fleet: LocalAzure) -> None:
    """A tenant's id that was given to another customer fails with one sentence and writes nothing."""
    first, second = fleet.customers[:2]
    run(fleet, first.name)
    name = f"tenants/{first.name}/known_subscriptions.json"
    before = read(fleet, name)
    entry = {"entry": second.entry(), "destination": second.destination()}
    others = [one for one in fleet.tenant_entries() if one["id"] != second.name]
    register(fleet, [{**one, **(entry if one["id"] == first.name else {})} for one in others])
    finished = run(fleet, first.name)
    assert finished.report["status"] == "failed"
    assert first.id in messages(finished)
    assert read(fleet, name) == before
    assert second.actions.exports() == []


def test_a_tenant_that_moves_to_another_id_finds_its_exports(fleet: LocalAzure) -> None:
    """They are adopted: no second export is created."""
    customer = fleet.customers[0]
    run(fleet, customer.name)
    entries = fleet.tenant_entries()
    register(fleet, [{**entries[0], "id": "renamed"}, *entries[1:]])
    finished = run(fleet, "renamed")
    assert finished.report["status"] == "ok", messages(finished)
    assert finished.report["outcomes"].get("create", {}) == {}
    assert len(customer.actions.exports()) == 2


def test_an_account_of_another_tenant_is_refused_by_the_registry(fleet: LocalAzure) -> None:
    """Both entries name what Azure does not allow, and nothing is called."""
    first, second, third = fleet.customers
    register(fleet, customer_001={"destination": first.destination()})
    for customer in (first, second):
        found = row(fleet, customer.name)
        assert found["status"] == "refused"
        assert "only to a storage account in the same Entra tenant" in found["failures"][0]["message"]
        assert len(customer.world.calls) == 0
    assert row(fleet, third.name)["status"] == "ok"


def test_an_account_of_the_provider_is_not_sent_a_tenants_token(fleet: LocalAzure) -> None:
    """Another tenant's account answers that it wants a token of its own authority, which is not requested."""
    customer = fleet.customers[0]
    foreign = {"storage_account": fleet.destinations[0].id}
    register(fleet, customer_000={"destination": foreign})
    issued = len(fleet.calls.select(TOKEN))
    found = row(fleet, customer.name)
    assert found["status"] in ("failed", "degraded")
    assert customer.actions.exports() == []
    tenants = {one.resource.split("/")[2] for one in list(fleet.calls.select(TOKEN))[issued:]}
    assert tenants == {customer.id}


def test_an_unknown_or_paused_tenant_is_refused_before_any_call(fleet: LocalAzure) -> None:
    """Neither gets a row by a single run."""
    register(fleet, customer_001={"paused": True})
    for name, why in (("nobody", "not in the registry"), (fleet.customers[1].name, "paused")):
        with pytest.raises(RequestError, match=why):
            run(fleet, name)
    assert not any(name.startswith("rows/") for name in stored(fleet))


def certificate(key: rsa.RSAPrivateKey, days: float = 1) -> tuple[bytes, x509.Certificate]:
    """Return an application's certificate for so many days from now, as PEM with its key, and as Entra ID stores it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tailpipe-exports")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=9), now + timedelta(days=days))
    ).sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private + made.public_bytes(serialization.Encoding.PEM), made


def test_an_application_enters_by_its_certificate(fleet: LocalAzure) -> None:
    """Key Vault holds it as PKCS #12 in base64; the function reads it with the deployment's own identity."""
    key = rsa.generate_private_key(65537, 2048)
    pem, made = certificate(key)
    archive = pkcs12.serialize_key_and_certificates(None, key, made, None, serialization.NoEncryption())
    fleet.world.secrets["tailpipe-webhook"] = base64.b64encode(archive).decode()
    customer = fleet.customers[0]
    entry = {**customer.entry(), "certificate": "https://any.vault.azure.net/certificates/tailpipe-webhook"}
    register(fleet, customer_000={"entry": entry})
    (failure,) = row(fleet, customer.name, ARM_TOKEN="")["failures"]
    assert "AADSTS700027" in failure["message"]
    assert "Upload the certificate" in failure["remedy"]
    fleet.world.entra.applications[APPLICATION].add_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    drop_clients()
    again = row(fleet, customer.name, "20261102T100000Z-0000002b", ARM_TOKEN="")
    assert (again["status"], again["scopes"]["covered"]) == ("ok", 2)
    assert callers(customer) == {customer.principal}


def test_an_expired_certificate_makes_the_tenant_unreachable(fleet: LocalAzure) -> None:
    """The row says so with the remedy; nothing is called in the tenant."""
    pem, _ = certificate(rsa.generate_private_key(65537, 2048), days=-1)
    fleet.world.secrets["tailpipe-webhook"] = base64.b64encode(pem).decode()
    fleet.world.entra.applications[APPLICATION].add_certificate(pem[pem.index(b"-----BEGIN CERTIFICATE") :])
    customer = fleet.customers[0]
    entry = {**customer.entry(), "certificate": "https://any.vault.azure.net/certificates/tailpipe-webhook"}
    register(fleet, customer_000={"entry": entry})
    found = row(fleet, customer.name, ARM_TOKEN="")
    (failure,) = found["failures"]
    assert (found["status"], failure["code"]) == ("unreachable", "tenant-unreachable")
    assert "AADSTS1000502" in failure["message"]
    assert "renew it" in failure["remedy"]
    assert len(customer.world.calls) == 0


@pytest.mark.parametrize("value", ["", "no certificate", base64.b64encode(b"garbage").decode()])
def test_an_unusable_certificate_is_not_quoted(fleet: LocalAzure, value: str) -> None:
    """Nor is one that does not exist, or that the function may not read."""
    if value:
        fleet.world.secrets["tailpipe-webhook"] = value
    entry = {**fleet.customers[0].entry(), "certificate": "https://any.vault.azure.net/secrets/tailpipe-webhook"}
    register(fleet, customer_000={"entry": entry})
    found = row(fleet, fleet.customers[0].name, ARM_TOKEN="")
    (failure,) = found["failures"]
    assert (found["status"], failure["code"]) == ("failed", "entry-certificate")
    assert not value or value not in json.dumps(found)
    assert len(fleet.customers[0].world.calls) == 0


def test_a_token_of_another_authority_is_not_used(fleet: LocalAzure) -> None:
    """Entra ID names the tenant in every token; one of another tenant is refused before it is sent."""
    one, other = fleet.customers[:2]
    environment = fleet.environment()
    entries = parse_registry(json.dumps({"version": 1, "tenants": fleet.tenant_entries()}).encode(), RULES)
    settings = read_settings(environment_of(entries.tenant(one.name), environment, RULES))
    clients = Clients(settings, environment)
    entered = read_settings(environment_of(entries.tenant(other.name), environment, RULES))
    assert settings.entry is not None
    foreign = Clients(entered, environment)
    swapped = EntryCredential(settings.entry, foreign.credential)
    with pytest.raises(Unreachable, match=f"was issued by {other.id}"):
        swapped.get_token("https://management.azure.com/.default")
    with pytest.raises(Permanent, match=f"a resource of the Entra tenant {other.id}"):
        clients.credential.get_token("https://storage.azure.com/.default", tenant_id=other.id)
    clients.close()
    foreign.close()


def test_outside_of_azure_a_tenant_is_entered_by_certificate_only(fleet: LocalAzure) -> None:
    """The message names the command that runs it where the identity is; without a call."""
    environment = {**fleet.environment(), "IDENTITY_ENDPOINT": ""}
    issued = len(fleet.calls.select(TOKEN))
    finished = run_once(RunRequest(tenant=fleet.customers[0].name), environment, Lines(), fleet.clock, 3300, seed=1)
    assert finished.report["status"] == "failed"
    assert "invoke azure --tenant" in messages(finished)
    assert len(fleet.calls.select(TOKEN)) == issued


def test_the_deployment_reads_the_registry_and_cannot_write_it(fleet: LocalAzure) -> None:
    """With its identity instead of keys, a round needs no right that the module does not grant."""
    own = fleet.keyless()
    environment = {**fleet.environment(), **own}
    begun = rounds.begin(environment, Lines(), fleet.clock)
    for tenant in begun["tenants"]:
        found = rounds.run_tenant(tenant, begun["round"], environment, Lines(), fleet.clock, 3300)
        assert found["status"] == "ok"
    assert rounds.end(begun["round"], environment, Lines(), fleet.clock)["status"] == "ok"
    assert not fleet.calls.select(status=403)
    settings = read_settings(environment)
    clients = Clients(settings, environment)
    blob = clients.registry(REGISTRY_CONTAINER).get_blob_client("tenants.json")
    for write in (lambda: blob.upload_blob(b"{}", overwrite=True), blob.delete_blob):
        with pytest.raises(HttpResponseError) as refused:
            write()
        assert refused.value.status_code == 403
    clients.close()


@pytest.mark.parametrize(
    "action",
    [
        "Microsoft.CostManagement/exports/read",
        "Microsoft.CostManagement/exports/write",
        "Microsoft.Resources/subscriptions/providers/read",
        "Microsoft.Storage/storageAccounts/read",
        "Microsoft.Storage/storageAccounts/write",
        "Microsoft.Storage/storageAccounts/blobServices/containers/read",
    ],
)
def test_each_right_of_a_tenants_application_is_needed(fleet: LocalAzure, action: str) -> None:
    """Without it, the tenant refuses a call of the first run, and the next tenant is not affected."""
    customer, other = fleet.customers[:2]
    customer.actions.deny(action, customer.principal)
    row(fleet, customer.name)
    refused = {one.action for one in customer.world.rights.checks if not one.by}
    assert action in refused
    assert row(fleet, other.name)["status"] == "ok"
    assert all(one.by for one in other.world.rights.checks)


def test_a_tenants_run_uses_no_right_beyond_the_invitation(fleet: LocalAzure) -> None:
    """Neither the first run nor one in steady state, whose reads differ."""
    customer = fleet.customers[0]
    tenant = parse_registry(json.dumps({"version": 1, "tenants": fleet.tenant_entries()}).encode(), RULES).tenants[
        customer.name
    ]
    granted = {action for role in roles_of(tenant) for action in (*role.actions, *role.data_actions)}
    run(fleet, customer.name)
    customer.actions.deliver()
    fleet.advance(HOUR)
    fleet.sync()
    assert run(fleet, customer.name).report["status"] == "ok"
    used = customer.world.calls.actions(customer.principal)
    # Azure filters the listing of subscriptions and the queries of Resource Graph by what their caller can read.
    assert used - granted <= {"Microsoft.ResourceGraph/resources/read"}


def post(cloud: LocalAzure, document: Any) -> tuple[int, Any]:
    """Return status code and JSON document of a request to the HTTP trigger."""
    request = func.HttpRequest(method="POST", url="http://host/api/reconcile", body=json.dumps(document).encode())
    response = handler.on_request(request, cloud.clock)
    return response.status_code, json.loads(response.get_body())


def test_http_runs_a_tenant_alone_or_as_part_of_a_round(
    fleet: LocalAzure, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A report for the one, a row for the other; only a run of the deployment's own cloud feeds the alarms."""
    for name, value in fleet.environment().items():
        monkeypatch.setenv(name, value)
    first, second = (one.name for one in fleet.customers[:2])
    with caplog.at_level(logging.INFO, logger="tailpipe-exports"):
        code, report = post(fleet, {"tenant": first, "dry_run": True})
        assert (code, report["tenant"], report["dry_run"]) == (200, first, True)
        assert stored(fleet) == set()
        assert post(fleet, {"tenant": first})[1]["scopes"]["covered"] == 2
        fleet.advance(HOUR)
        fleet.sync()
        code, begun = post(fleet, {"round": {"step": "begin"}})
        assert (code, begun["tenants"][-1]) == (200, first)
        code, found = post(fleet, {"tenant": second, "round": begun["round"]})
        assert (code, found["tenant"], found["status"], found["again"]) == (200, second, "ok", False)
        code, ended = post(fleet, {"round": {"step": "end", "id": begun["round"]}})
        assert (code, ended["status"], ended["tenants"]["not_run"]) == (200, "degraded", 2)
    assert not [one for one in caplog.records if '"event": "figures"' in one.message]


@pytest.mark.parametrize(
    ("document", "why"),
    [
        ({"tenant": "nobody"}, "not in the registry"),
        ({"tenant": "Not An Id"}, "not the id of a tenant"),
        ({"tenant": "customer-000", "round": "last"}, "not the id of a round"),
        ({"round": "20261102T090000Z-0000002a"}, "'round' needs 'tenant'"),
        ({"round": {"step": "end"}}, "not the id of a round"),
        ({"round": {"step": "middle"}}, "not one of begin, end"),
    ],
)
def test_http_refuses_an_invalid_request_for_a_tenant(
    fleet: LocalAzure, monkeypatch: pytest.MonkeyPatch, document: Any, why: str
) -> None:
    """Nothing is called in any tenant, and nothing is stored."""
    for name, value in fleet.environment().items():
        monkeypatch.setenv(name, value)
    code, answered = post(fleet, document)
    assert (code, answered["error"]) == (400, "bad-request")
    assert why in answered["faults"][0]
    assert stored(fleet) == set()
    assert all(len(one.world.calls) == 0 for one in fleet.customers)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"{", "not valid JSON"),
        (b'{"version": 2, "tenants": []}', "a later release wrote it"),
        (b'{"version": 1, "tenants": "all"}', "not a list"),
        (b" " * (9 * 1024 * 1024), "more than 8388608"),
    ],
)
def test_a_registry_that_cannot_be_used_is_refused_as_a_whole(
    fleet: LocalAzure, monkeypatch: pytest.MonkeyPatch, data: bytes, why: str
) -> None:
    """The deployment's own run does not read it."""
    for name, value in fleet.environment().items():
        monkeypatch.setenv(name, value)
    fleet.put_registry(data)
    for document in ({"tenant": "customer-000"}, {"round": {"step": "begin"}}):
        code, answered = post(fleet, document)
        assert (code, answered["error"]) == (500, "bad-registry")
        assert why in answered["faults"][0]
    assert post(fleet, {})[0] == 200


def test_a_round_reports_every_tenant(fleet: LocalAzure) -> None:
    """Never run first, then the longest waiting; a second delivery of a task runs nothing."""
    fleet.revoke_consent(fleet.customers[1].name)
    run(fleet, fleet.customers[0].name)
    lines = Lines()
    begun = rounds.begin(fleet.environment(), lines, fleet.clock)
    assert begun["tenants"] == ["customer-001", "customer-002", "customer-000"]
    for tenant in begun["tenants"]:
        row(fleet, tenant, begun["round"], lines)
    exports = len(fleet.customers[2].actions.exports())
    calls = len(fleet.customers[2].world.calls)
    assert row(fleet, "customer-002", begun["round"])["status"] == "ok"
    assert len(fleet.customers[2].world.calls) == calls
    report = rounds.end(begun["round"], fleet.environment(), lines, fleet.clock)
    assert report["tenants"] == {
        "total": 3, "ok": 2, "degraded": 0, "failed": 0, "unreachable": 1, "refused": 0, "paused": 0, "not_run": 0,
    }  # fmt: skip
    assert [one["tenant"] for one in report["rows"]] == ["customer-001"]
    assert len(fleet.customers[2].actions.exports()) == exports == 2
    assert len(read(fleet, f"runs/rounds/{begun['round']}.json")["rows"]) == 3
    (figures,) = [fields for _, event, fields in lines.lines if event == "round-figures"]
    assert (figures["tenants_ok"], figures["tenants_unreachable"]) == (2, 1)
    # A tenant's events carry its id, so that a log of many tenants can be read.
    assert {fields.get("tenant") for _, event, fields in lines.lines if event == "run-finished"} == set(
        begun["tenants"]
    )


def test_a_run_that_was_cut_short_asks_for_another_call_until_its_share_is_used(fleet: LocalAzure) -> None:
    """The engine repeats the call; the function counts."""
    customer = fleet.customers[0]
    customer.actions.latency(40, "Microsoft.CostManagement/exports/*")
    environment = {**fleet.environment(), "TENANT_INVOCATIONS": "2", "CALLS_AT_ONCE": "1"}
    rows = [
        rounds.run_tenant(customer.name, ROUND, environment, Lines(), fleet.clock, 60, seed=number)
        for number in range(3)
    ]
    assert [(one["invocations"], one["again"]) for one in rows] == [(1, True), (2, False), (2, False)]
    assert not rows[-1]["run_complete"]


def test_the_timers_and_requests_of_one_tenant_do_not_see_the_state_of_another(fleet: LocalAzure) -> None:
    """With TENANT in its environment, the status is that of the tenant."""
    run(fleet, fleet.customers[0].name)
    data = json.dumps({"version": 1, "tenants": fleet.tenant_entries()}).encode()
    registry = parse_registry(data, RULES)
    totals = [
        status_once(environment_of(registry.tenant(one.name), fleet.environment(), RULES), Lines(), fleet.clock)
        for one in fleet.customers[:2]
    ]
    assert [one["scopes"]["total"] for one in totals] == [2, 0]
    assert status_once(fleet.environment(), Lines(), fleet.clock)["scopes"]["total"] == 0


def test_round_sends_one_message_about_the_tenants_that_changed(fleet: LocalAzure) -> None:
    """A tenant's run sends none, and a round without a change neither."""
    with receiving() as receiver:
        fleet.world.secrets[NOTIFY_SECRET] = f"{receiver.url}/services/secret-part"
        uri = f"https://tailpipe-vault.vault.azure.net/secrets/{NOTIFY_SECRET}"
        environment = {**fleet.environment(), **fleet.keyless(), "NOTIFY_URL": uri}
        fleet.customers[0].revoke_consent()
        for _ in range(2):
            begun = rounds.begin(environment, Lines(), fleet.clock)
            for tenant in begun["tenants"]:
                rounds.run_tenant(tenant, begun["round"], environment, Lines(), fleet.clock, 3300, seed=1)
            rounds.end(begun["round"], environment, Lines(), fleet.clock)
            fleet.advance(HOUR)
            fleet.sync()
        assert receiver.titles() == ["Azure: 1 tenant changed: 1 unreachable"]


def documents(cloud: LocalAzure, customer: CustomerTenant) -> list[str]:
    """Return the folders of the documents of deliveries in a customer's container."""
    own = cloud.connection_string().replace(cloud.destinations[0].name, customer.account.name)
    with BlobServiceClient.from_connection_string(own) as client:
        names = client.get_container_client(customer.destination()["container"]).list_blob_names()
        return [name.partition("/")[0] for name in names if name.startswith(("deltas/", "deliveries/"))]


def test_deliveries_of_a_tenant_are_announced_by_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents are in the tenant's container by its application, events on the topic by the deployment's identity."""
    with local_azure(subscriptions=1, customers=2, deliveries=True) as cloud:
        for name in ("IDENTITY_ENDPOINT", "IDENTITY_HEADER"):
            monkeypatch.setenv(name, cloud.environment()[name])
        register(cloud, customer_000={"settings": {"DELTAS": "1"}})
        announced, silent = cloud.customers
        for hour in (9, 10, 11):
            lines = Lines()
            for customer in cloud.customers:
                found = row(cloud, customer.name, f"20261102T{hour:02d}0000Z-0000002a", lines, **cloud.keyless())
                assert found["status"] == "ok", found
            assert "delivery-unannounced" not in lines.text()
            if hour == 9:
                assert cloud.world.published == []
                for customer in cloud.customers:
                    customer.actions.deliver()
            cloud.advance(HOUR)
            cloud.sync()
        scopes = [one.event["data"]["scope"] for one in cloud.world.published]
        assert sorted(scopes) == sorted(announced.subscription_ids), "once each, and none of the other tenant"
        assert {one.app for one in cloud.calls.select(SEND)} == {cloud.principal}
        assert sorted(documents(cloud, announced)) == ["deliveries"] * 2 + ["deltas"] * 2
        assert documents(cloud, silent) == []
        assert callers(announced) == {announced.principal}
        drop_clients()


def test_tenant_that_has_not_granted_the_role_of_documents_is_logged_with_the_remedy(fleet: LocalAzure) -> None:
    """Its run is ok, and says that the invitation has a role more."""
    register(fleet, customer_000={"settings": {"DELTAS": "1"}})
    customer, lines = fleet.customers[0], Lines()
    row(fleet, customer.name)
    customer.actions.deliver()
    fleet.advance(HOUR)
    fleet.sync()
    assert row(fleet, customer.name, "20261102T100000Z-0000002b", lines, **fleet.keyless())["status"] == "ok"
    (logged,) = [fields for _, event, fields in lines.lines if event == "delivery-unannounced"]
    assert "tenants invite azure" in logged["reason"]
