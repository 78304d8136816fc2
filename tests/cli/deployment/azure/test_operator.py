"""doctor, invoke, onboarding and their operator, with the local Azure in the state after a deployment."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from cli.deployment.azure.operator import AzureOperator
from cli.deployment.azure.rest import DOCTOR
from cli.deployment.azure.rights import ROLE, role_document
from cli.deployment.azure.verify import TIMER
from cli.deployment.grants import OPERATOR_FILE, grants
from cli.deployment.model import AGAIN, CORRECT, OperatorError, Removal
from cli.local.azure import APP
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.identity import OPERATOR
from localcloud.azure.iam.rights import BLOB_DATA_OWNER, BLOB_DATA_READER
from localcloud.azure.platform.deployment import STATE_CONTAINER, TAILPIPE_APP
from localcloud.azure.platform.resources_api import keep
from localcloud.azure.quotas import UNLIMITED
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.azure.services.directory import made_up_id
from shared.runtime.clock import SystemClock, VirtualClock
from tailpipe_exports import CODE
from tests.cli.support.azure import sign_in, tailpipe, tenant
from tests.limits import HANG_S


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a deployed tenant with three subscriptions."""
    with tenant() as cloud:
        yield cloud


@pytest.fixture(autouse=True)
def restored(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Sign in, and restore after the test what it damaged."""
    sign_in(azure, monkeypatch)
    settings = dict(azure.site.settings)
    yield
    azure.clear_faults()
    azure.allow()
    azure.site.settings = settings
    azure.world.taken_names.clear()


def opened() -> AzureOperator:
    """Open the deployment of the selected subscription."""
    return AzureOperator.open({})


class Hasty(SystemClock):
    """The system clock with short waits."""

    def wait_until(self, moment: float) -> None:
        super().wait_until(min(moment, self.monotonic() + 0.3))


def silent(_line: str) -> None:
    """Ignore the progress of a command."""


def verified() -> dict[str, tuple[bool | None, str]]:
    """Return the findings of a verification by subject."""
    operator = opened()
    return {one.what: (one.ok, one.detail) for one in operator.verify()}


def test_place_has_tenant_subscription_offer_and_management_group(azure: LocalAzure) -> None:
    """The management group is that of the tenant."""
    place = opened().place
    assert (place.id, place.kind, place.region) == (azure.tenant, "tenant", "westeurope")
    assert azure.subscription_ids[0] in place.details["subscription"]
    assert "EnterpriseAgreement" in place.details["subscription"]
    assert place.details["exports below management group"].startswith(azure.tenant)
    assert OPERATOR in place.caller


def test_disabled_missing_or_ambiguous_subscription_is_refused(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has its remedy."""
    disabled = azure.join_subscription("switched off")
    azure.suspend_subscription(disabled)
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", disabled)
    with pytest.raises(OperatorError, match="is Disabled") as stopped:
        opened()
    assert "AZURE_SUBSCRIPTION_ID" in stopped.value.problems[0].remedy
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", made_up_id("no subscription"))
    with pytest.raises(OperatorError, match="does not exist, or you may not see it") as missing:
        opened()
    assert "Set AZURE_SUBSCRIPTION_ID" in missing.value.problems[0].remedy
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", "../Sandbox?x=ü")
    with pytest.raises(OperatorError, match="is not a subscription's id") as odd:
        opened()
    assert "az account list" in odd.value.problems[0].remedy
    monkeypatch.delenv("AZURE_SUBSCRIPTION_ID")
    monkeypatch.delenv("DESTINATION")
    with pytest.raises(OperatorError, match="3 subscriptions could hold"):
        opened()
    azure.remove_subscription(disabled)


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        (("Busy", "not now", 503), AGAIN),
        (("Odd", "not so", 400), CORRECT),
        (("AuthorizationFailed", "no", 403), DOCTOR),
    ],
)
def test_refused_call_has_a_remedy_for_an_operator(azure: LocalAzure, fault: tuple[str, str, int], remedy: str) -> None:
    """The function's own remedies speak of later runs, which a command does not have."""
    code, message, status = fault
    azure.fault("Microsoft.Resources/subscriptions/read", code, message, status=status, times=None)
    with pytest.raises(OperatorError, match=message) as stopped:
        AzureOperator.open({}, clock=VirtualClock())
    assert [one.remedy for one in stopped.value.problems] == [remedy]


def test_foreign_tenant_and_foreign_endpoints_are_refused(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names both tenants; endpoint overrides are accepted only for loopback."""
    monkeypatch.setenv("AZURE_TENANT_ID", made_up_id("elsewhere"))
    with pytest.raises(OperatorError, match=f"belongs to tenant {azure.tenant}"):
        opened()
    monkeypatch.setenv("ARM_ENDPOINT", "http://example.com")
    with pytest.raises(OperatorError, match="loopback") as stopped:
        AzureOperator.open({})
    assert azure.operator_token() not in str(stopped.value)


def test_expired_sign_in_has_the_command_to_sign_in(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the token nor a traceback is shown."""
    monkeypatch.setenv("ARM_OPERATOR_TOKEN", azure.token())
    azure.break_identity("expired")
    try:
        result = tailpipe("doctor", "azure")
    finally:
        azure.break_identity("well")
    assert result.exit_code == 1
    assert "az login" in result.stderr
    assert azure.token() not in result.output
    assert "Traceback" not in result.output


def test_doctor_lists_every_permission_and_the_missing_one(azure: LocalAzure) -> None:
    """The exit code is 0 with all permissions and 1 otherwise; the remedy is the command that grants it."""
    whole = tailpipe("doctor", "azure", "--json")
    rights = json.loads(whole.stdout)["rights"]
    assert (whole.exit_code, {one["present"] for one in rights}) == (0, {True})
    assert len(rights) == sum(map(len, grants("azure", OPERATOR_FILE).values()))
    azure.deny("Microsoft.Web/serverFarms/write")
    result = tailpipe("doctor", "azure", "--json")
    missing = [one for one in json.loads(result.stdout)["rights"] if not one["present"]]
    assert (result.exit_code, [one["right"].split()[1] for one in missing]) == (1, ["MakeFunction"])
    assert "Microsoft.Web/serverFarms/write" in missing[0]["detail"]
    for part in ("az role definition create", "az role assignment create", OPERATOR, azure.subscription_ids[0]):
        assert part in missing[0]["remedy"]


@pytest.mark.parametrize(
    ("action", "grant", "variable", "value"),
    [
        ("Microsoft.Authorization/policyDefinitions/*", "Policy", "policy", "deploy"),
        ("Microsoft.Network/privateEndpoints/*", "CloseStorage", "storage_closed", "true"),
    ],
)
def test_permission_for_an_option_is_required_only_with_the_option(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, action: str, grant: str, variable: str, value: str
) -> None:
    """Without the option its absence is not a finding."""
    azure.deny(action)

    def found() -> set[bool | None]:
        operator = opened()
        return {one.ok for one in operator.rights() if grant in one.what}

    assert found() == {None}
    monkeypatch.setenv(f"TF_VAR_{variable}", value)
    assert found() == {False}


@pytest.mark.parametrize("cloud", ["usgov", "china"])
def test_sovereign_cloud_is_refused_with_the_reason(
    azure: LocalAzure, monkeypatch: pytest.MonkeyPatch, cloud: str
) -> None:
    """It has no application of Tailpipe that could read the exports."""
    monkeypatch.setenv("AZURE_CLOUD", cloud)
    operator = opened()
    (found,) = [one for one in operator.preflight({"location": "westeurope"}) if one.what == "the public cloud"]
    assert found.ok is False
    assert "Azure Government and Azure China are not supported" in found.detail
    assert "AZURE_CLOUD" in found.remedy


def test_permissions_that_cannot_be_read_are_unknown(azure: LocalAzure) -> None:
    """They have the reason, and doctor exits with 0."""
    azure.deny("Microsoft.Authorization/permissions/read")
    result = tailpipe("doctor", "azure", "--json")
    found = json.loads(result.stdout)["rights"]
    assert (result.exit_code, {one["present"] for one in found if "on " in one["right"]}) == (0, {None})
    assert all("could not be read" in one["detail"] for one in found if one["present"] is None)


def test_missing_application_of_tailpipe_needs_a_directory_role(azure: LocalAzure) -> None:
    """The remedy names both ways."""
    known, roles = dict(azure.world.service_principals), dict(azure.world.directory_roles)
    azure.world.service_principals.clear()
    try:
        operator = opened()
        could = [one.ok for one in operator.rights() if "AddTailpipe" in one.what]
        azure.world.directory_roles[OPERATOR] = {"88d8e3e3-8f55-4a1e-953a-9b9898b8876b"}
        cannot = [one for one in operator.rights() if "AddTailpipe" in one.what]
    finally:
        azure.world.service_principals.update(known)
        azure.world.directory_roles.update(roles)
    assert (could, [one.ok for one in cannot]) == ([True], [False])
    assert f"az ad sp create --id {TAILPIPE_APP}" in cannot[0].remedy


def test_shipped_role_has_the_actions_of_the_file() -> None:
    """The role equals the generated one, with one wildcard, and every grant has a reason.

    Registration actions are listed explicitly: Azure refuses a role with an unpublished action, and that of the exports
    service may be one.
    """
    role = role_document(grants("azure", OPERATOR_FILE))
    assert json.loads(ROLE.read_text(encoding="utf-8")) == role
    assert [action for action in role["Actions"] if "*" in action] == ["*/register/action"]
    for listed in grants("azure", OPERATOR_FILE).values():
        for one in listed:
            assert one["why"].endswith("."), f"{one['id']} in {OPERATOR_FILE} does not say why"


def test_shipped_role_is_sufficient_to_publish_the_package() -> None:
    """It does not include the host key that the Azure CLI would read."""
    asked = {
        "Microsoft.Web/sites/basicPublishingCredentialsPolicies/write",
        "Microsoft.Web/sites/functions/read",
        "Microsoft.Web/sites/publish/action",
        "Microsoft.Web/sites/read",
    }
    held = set(json.loads(ROLE.read_text(encoding="utf-8"))["Actions"])
    assert asked <= held
    assert "Microsoft.Web/sites/host/listkeys/action" not in held


def test_invoke_runs_the_deployed_function_and_shows_its_report(azure: LocalAzure) -> None:
    """A dry run, one scope and a full run are passed on, and each prints the function's report."""
    dry = tailpipe("invoke", "azure", "--dry-run", "--scope", azure.subscription_ids[1], "--json")
    report = json.loads(dry.stdout)
    assert (dry.exit_code, report["dry_run"], report["scopes"]["total"]) == (0, True, 1)
    full = tailpipe("invoke", "azure")
    assert (full.exit_code, full.stdout) == (0, "")
    assert "3 of 3 active subscriptions covered" in full.stderr
    assert len(azure.exports()) == 3
    assert azure.site.key not in dry.output + full.output


def test_invoke_exits_with_1_for_a_failed_run(azure: LocalAzure) -> None:
    """The reason is shown; an invalid request makes no call."""
    azure.site.settings = {**azure.site.settings, "EXPORTS": "nonsense"}
    failed = tailpipe("invoke", "azure")
    assert failed.exit_code == 1
    assert "EXPORTS" in failed.stderr
    azure.calls.clear()
    wrong = tailpipe("invoke", "azure", "--scope", "")
    assert (wrong.exit_code, azure.calls.count()) == (1, 0)


def test_invoke_waits_for_another_run_and_names_its_holder(azure: LocalAzure) -> None:
    """It shows since when the lock is held, then runs."""
    azure.latency(0.8, "Microsoft.CostManagement/*")
    url, headers = azure.environment()["FUNCTION_ENDPOINT"], {"x-functions-key": azure.site.key}
    answers: list[Any] = []

    def run() -> None:
        body = {"verify_all": True}
        answers.append(requests.post(f"{url}/api/reconcile", json=body, headers=headers, timeout=HANG_S).json())

    other = threading.Thread(target=run)
    other.start()
    status: dict[str, Any] = {}
    for _ in range(200):
        status = requests.get(f"{url}/api/status", headers=headers, timeout=HANG_S).json()
        if status.get("running") or not other.is_alive():
            break
    result = tailpipe("invoke", "azure", "--json")
    other.join()
    assert status["running"]["run_id"] == answers[0]["run_id"]
    assert result.exit_code == 0
    assert f"run {answers[0]['run_id']} has been in progress since {status['running']['since'][:13]}" in result.stderr
    assert json.loads(result.stdout)["run_id"] != answers[0]["run_id"]


def test_run_beyond_the_response_timeout_is_followed_by_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """The outcome comes from the function's status route."""

    def start(environment: Mapping[str, str]) -> AzureWorker:
        return AzureWorker(APP, environment, task_root=CODE, http_limit_s=1.5)

    with LocalAzure(subscriptions=2, start=start, limits=UNLIMITED) as cloud:
        sign_in(cloud, monkeypatch)
        cloud.latency(0.6, "Microsoft.CostManagement/*")
        operator = AzureOperator.open({}, clock=Hasty())
        told: list[str] = []
        report = operator.invoke({}, told.append)
        cloud.latency(2, "Microsoft.CostManagement/*")
        with pytest.raises(OperatorError, match="dry run took longer"):
            operator.invoke({"dry_run": True, "verify_all": True}, told.append)
    assert (report["status"], report["scopes"]["covered"]) == ("ok", 2)
    assert any("the run continues" in line for line in told)


@contextmanager
def breaking(breaks: int) -> Iterator[str]:
    """Yield the address of a function app that breaks off a number of responses, then reports a successful run."""
    seen: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_args: object) -> None:
            """Stay silent."""

        def do_GET(self) -> None:
            seen.append(self.path)
            self.close_connection = True
            if len(seen) <= breaks:
                return
            last = {"run_id": "run-1", "status": "ok", "at": "2099-01-01T00:00:00+00:00"}
            body = json.dumps({"last_run": last, "scopes": {"covered": 1, "active": 1}}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_broken_responses_while_following_a_run_are_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run continues while its host moves."""
    with breaking(3) as endpoint:
        monkeypatch.setenv("FUNCTION_ENDPOINT", endpoint)
        operator = AzureOperator.open({}, clock=VirtualClock())
        report = operator.invoke({}, silent)
    assert (report["run_id"], report["status"]) == ("run-1", "ok")


def test_unavailable_function_is_reported_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for invoke and for the verification."""
    with breaking(1000) as endpoint:
        monkeypatch.setenv("FUNCTION_ENDPOINT", endpoint)
        operator = AzureOperator.open({}, clock=VirtualClock())
        with pytest.raises(OperatorError, match="ended its response early"):
            operator.invoke({}, silent)
        told = {one.what: one for one in operator.verify()}
    assert told["the function"].ok is None
    assert "ended its response early" in told["the function"].detail


def test_onboarding_document_has_the_live_exports(azure: LocalAzure) -> None:
    """It has the keys of the old scripts and each subscription's exports."""
    assert tailpipe("invoke", "azure").exit_code == 0
    azure.change_type(azure.subscription_ids[2], "Usage")
    result = tailpipe("onboarding", "azure")
    told = json.loads(result.stdout)
    assert result.exit_code == 0
    assert list(told) == ["tenantId", "tailpipe", "monitoringAccess", "storage", "costExports", "automation"]
    assert told["tailpipe"] == {
        "appId": TAILPIPE_APP,
        "servicePrincipalObjectId": azure.world.service_principals[TAILPIPE_APP],
    }
    assert told["monitoringAccess"] == {
        "mode": "managementGroup",
        "managementGroupId": azure.tenant,
        "subscriptions": [],
    }
    assert told["storage"]["accountResourceId"] == azure.destinations[0].id
    assert told["storage"]["paths"]["subscriptions"] == [
        f"tailpipe/subscriptions/{one}" for one in sorted(azure.subscription_ids)
    ]
    assert {(one["subscriptionId"], one["name"], one["type"]) for one in told["costExports"]["perSubscription"]} == {
        (one, f"TailpipeDataExport-{one[-6:]}", "Usage" if one == azure.subscription_ids[2] else "ActualCost")
        for one in azure.subscription_ids
    }
    assert told["automation"] == {"policyEnabled": False, "runbookEnabled": False}


def test_working_deployment_has_no_findings(azure: LocalAzure) -> None:
    """All checks succeed after a run."""
    assert tailpipe("invoke", "azure").exit_code == 0
    found = verified()
    assert {one for one, _ in found.values()} == {True}
    assert found["the schedule is linked and enabled"][1].startswith("0 17 * * * *")


def test_each_damage_has_a_finding(azure: LocalAzure) -> None:
    """This covers a disabled timer, a missing schedule, a closed destination and a superfluous permission."""
    operator = opened()
    operator.stop_schedule(silent)
    assert azure.site.disabled(TIMER)
    assert verified()["the schedule is linked and enabled"][0] is False
    azure.site.settings = {name: value for name, value in azure.site.settings.items() if "Disabled" not in name}
    del azure.site.settings["SCHEDULE"]
    ok, detail = verified()["the schedule is linked and enabled"]
    assert (ok, "SCHEDULE" in detail) == (False, True)
    azure.set_shared_key(False)
    azure.world.rights.assign(
        azure.host_account.id, azure.world.service_principals[TAILPIPE_APP], BLOB_DATA_OWNER, made_up_id("too much")
    )
    try:
        found = verified()
    finally:
        azure.set_shared_key(True)
        azure.world.rights.remove(made_up_id("too much"))
    assert found[f"exports can be delivered to {azure.destinations[0].name}"][0] is False
    assert found["Tailpipe has no other permission"][0] is False


def test_wider_access_of_the_old_scripts_is_reported(azure: LocalAzure) -> None:
    """A reader role on the whole storage account is not a failure; the command that removes it is shown."""
    name = made_up_id("of the older scripts")
    principal = azure.world.service_principals[TAILPIPE_APP]
    azure.world.rights.assign(azure.destinations[0].id, principal, BLOB_DATA_READER, name)
    try:
        operator = opened()
        (found,) = [one for one in operator.verify() if one.what == "Tailpipe has no other permission"]
    finally:
        azure.world.rights.remove(name)
    assert found.ok is None
    assert name in found.remedy


def test_missing_access_of_tailpipe_is_reported(azure: LocalAzure) -> None:
    """The role on the container is missing."""
    principal = azure.world.service_principals[TAILPIPE_APP]
    held = next(one for one in azure.world.rights.of(principal) if one.role == BLOB_DATA_READER)
    azure.world.rights.remove(held.id)
    try:
        assert verified()["Tailpipe reads the delivered data"][0] is False
    finally:
        azure.world.rights.assign(held.scope, held.principal, held.role, held.id)


def test_preflight_reports_taken_names_full_quotas_and_invalid_regions(azure: LocalAzure) -> None:
    """Each finding names the variable to change, before anything is created."""
    operator = opened()
    suffix = azure.subscription_ids[0][-6:]
    azure.take_name(f"tailpipedataexport{suffix}")
    azure.world.rights.counts[azure.subscription_ids[0]] = 0
    found = {one.what: one for one in operator.preflight({"location": "northeurope"})}
    taken = found[f"storage account name tailpipedataexport{suffix}"]
    assert (taken.ok, "--var storage_account_name" in taken.remedy) == (False, True)
    assert found[f"storage account name tailpipehost{suffix}"].ok is True
    assert found[f"function app name {azure.site.name}"].detail.startswith("is yours")
    group = found["resource group tailpipe-dataexport"]
    assert (group.ok, "--var location=westeurope" in group.remedy) == (False, True)
    own = operator.preflight({"storage_account_name": azure.destinations[0].name, "location": "westeurope"})
    assert {one.ok for one in own} == {True}
    assert any("deployed already" in one.detail for one in own)
    (nowhere,) = [one for one in operator.preflight({"location": "marsnorth"}) if "Flex" in one.what]
    assert (nowhere.ok, "westeurope" in nowhere.remedy) == (False, True)
    azure.take_name("strangers-app-" + suffix)
    (other,) = [one for one in operator.preflight({"function_name": "strangers-app"}) if "app name" in one.what]
    assert (other.ok, "--var function_name" in other.remedy) == (False, True)


def test_second_deployment_in_a_subscription_is_refused(azure: LocalAzure) -> None:
    """Both would redirect each other's exports; the message has both remedies."""
    operator = opened()
    found = operator.preflight({"function_name": "another", "location": "westeurope"})
    (other,) = [one for one in found if one.what == f"function app {azure.site.name}" and one.ok is False]
    assert "is another deployment in this subscription" in other.detail
    assert f"TAILPIPE_EXPORTS_FUNCTION_NAME={azure.site.name}" in other.remedy


@pytest.mark.parametrize("damage", ["refused", "empty", "invalid"])
def test_unreadable_settings_do_not_become_defaults(azure: LocalAzure, damage: str) -> None:
    """Commands that need them name the missing permission and stop."""
    operator = opened()
    if damage == "refused":
        azure.deny("Microsoft.Web/sites/config/list/action")
    else:
        azure.site.settings = {} if damage == "empty" else {**azure.site.settings, "DESTINATION": "nowhere"}
    removal = Removal(delete_exports=True, delete_data=True)
    acts: list[Callable[[], Any]] = [
        operator.onboarding,
        lambda: operator.kept(removal),
        lambda: operator.clearing(removal),
        lambda: operator.clear(removal, silent),
    ]
    said = "DESTINATION: 'nowhere' is not" if damage == "invalid" else "cannot be read"
    for act in acts:
        with pytest.raises(OperatorError) as caught:
            act()
        assert caught.value.problems[0].remedy
        assert said in str(caught.value)


def test_resources_of_the_old_scripts_are_reported(azure: LocalAzure) -> None:
    """Their resource group is adopted; the command that removes their runbook is shown."""
    group = (azure.subscription_ids[0], azure.site.group)
    tags = azure.world.group_tags.pop(group)
    path = (
        f"{azure.site.id.partition('/providers/')[0]}/providers/Microsoft.Automation/automationAccounts/tailpipe-auto"
    )
    keep(azure.world, path, {"location": "westeurope"})
    operator = opened()
    try:
        found = {one.what: one for one in operator.preflight({"location": "westeurope"})}
        told = operator.onboarding()
    finally:
        azure.world.group_tags[group] = tags
        del azure.world.resources[path.lower()]
    assert found["resource group tailpipe-dataexport"].ok is True
    assert "adopted" in found["resource group tailpipe-dataexport"].detail
    runbook = found["automation account tailpipe-auto"]
    assert (runbook.ok, "az automation account delete" in runbook.remedy) == (None, True)
    assert told["automation"]["runbookEnabled"] is True


def test_preflight_refuses_a_subscription_near_the_limit_of_role_assignments(azure: LocalAzure) -> None:
    """The deployment needs further assignments."""
    operator = opened()
    made = [made_up_id("assignment", number) for number in range(3960)]
    for name in made:
        azure.world.rights.assign(f"/subscriptions/{azure.subscription_ids[0]}", name, BLOB_DATA_READER, name)
    try:
        (found,) = [one for one in operator.preflight({}) if one.what == "room for role assignments"]
    finally:
        for name in made:
            azure.world.rights.remove(name)
    assert (found.ok, "of 4000" in found.detail) == (False, True)


def test_backend_is_private_and_created_once(azure: LocalAzure) -> None:
    """The account has no keys or public access, keeps versions, and the caller may read it."""
    operator = opened()
    if operator.backend_exists():
        pytest.fail("it does not exist yet")
    told: list[str] = []
    operator.make_backend(told.append)
    backend = operator.backend()
    account = azure.world.accounts[str(backend.configuration["storage_account_name"])]
    assert (backend.type, backend.configuration["use_azuread_auth"]) == ("azurerm", True)
    assert account.shared_key is False
    assert account.given["allowBlobPublicAccess"] is False
    assert account.given["minimumTlsVersion"] == "TLS1_2"
    assert account.blob_service["isVersioningEnabled"] is True
    assert operator.backend_exists()
    roles = [one for one in azure.world.rights.of(OPERATOR) if one.scope == account.id]
    assert len(roles) == 1
    again: list[str] = []
    operator.make_backend(again.append)
    assert (len(told) > 0, again) == (True, [])


def test_backend_with_a_taken_name_is_refused(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is created, and --local-state is suggested."""
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[1])
    operator = opened()
    azure.take_name(str(operator.backend().configuration["storage_account_name"]))
    with pytest.raises(OperatorError, match="already taken") as stopped:
        operator.make_backend(silent)
    assert "--local-state" in stopped.value.problems[0].remedy


def test_missing_deployment_is_reported_with_a_remedy(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> None:
    """This holds for invoke and onboarding."""
    monkeypatch.setenv("AZURE_SUBSCRIPTION_ID", azure.subscription_ids[1])
    for command in ("invoke", "onboarding"):
        result = tailpipe(command, "azure")
        assert (result.exit_code, "no function is deployed" in result.stderr) == (1, True)
        assert "AZURE_SUBSCRIPTION_ID" in result.stderr


def test_operator_commands_do_not_read_the_state(azure: LocalAzure) -> None:
    """They get the status of runs from the function."""
    azure.calls.clear()
    tailpipe("invoke", "azure")
    verified()
    assert not [one for one in azure.calls if one.app == OPERATOR and STATE_CONTAINER in one.resource]


def test_function_name_variable_is_the_prefix_of_the_apps_name(azure: LocalAzure) -> None:
    """The deployment is found with either."""
    assert AzureOperator.open({"function_name": "tailpipe-exports"}).deployed() is not None
