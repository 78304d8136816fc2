"""Subscriptions, management groups, providers, permissions and billing, through the SDK's clients."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from azure.core.rest import HttpRequest
from azure.mgmt.costmanagement import CostManagementClient

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.function_roles import FUNCTION_ROLE
from localcloud.azure.iam.rights import role_id
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tests.localcloud.azure.helpers import NAME, Sdk, export, refusal, scope

DEPENDENT = "Microsoft.CostManagementExports"


def test_subscriptions_are_paged_and_have_every_state(clock: VirtualClock, closing: ExitStack) -> None:
    """Pages, some of them empty, have each subscription once with its state, tenant and quota id."""
    behavior = Behavior(page_size=3, empty_pages_every=2)
    cloud = closing.enter_context(LocalAzure(subscriptions=8, clock=clock, behavior=behavior))
    cloud.set_state(cloud.subscription_ids[4], "PastDue")
    cloud.set_state(cloud.subscription_ids[5], "Deleted")
    pages = [list(one) for one in Sdk(cloud, closing).subscriptions.subscriptions.list().by_page()]
    shown = [one for page in pages for one in page]
    assert [one.subscription_id for one in shown] == cloud.subscription_ids
    assert [one.state for one in shown][4:6] == ["PastDue", "Deleted"]
    assert {one.tenant_id for one in shown} == {cloud.tenant}
    assert {one.subscription_policies.quota_id for one in shown} == {"EnterpriseAgreement_2014-09-01"}
    assert [] in pages
    assert max(map(len, pages)) == 3


def test_subscription_list_is_empty_without_permissions(clock: VirtualClock, closing: ExitStack) -> None:
    """The list is 200, and a subscription by its id is 403."""
    cloud = closing.enter_context(LocalAzure(clock=clock, bare=True))
    sdk = Sdk(cloud, closing)
    assert list(sdk.subscriptions.subscriptions.list()) == []
    assert refusal(sdk.subscriptions.subscriptions.get, cloud.subscription_ids[0])[:2] == (403, "AuthorizationFailed")


def test_tenant_of_the_caller_is_listed(azure: LocalAzure, sdk: Sdk) -> None:
    """The list has one tenant."""
    assert [one.tenant_id for one in sdk.subscriptions.tenants.list()] == [azure.tenant]


def test_descendants_of_a_management_group(azure: LocalAzure, sdk: Sdk) -> None:
    """They are all groups and subscriptions below it, at any depth."""
    azure.world.directory.add_group("team", "production")
    joined = azure.join_subscription("deep", group="team")
    below = {one.name for one in sdk.groups.management_groups.get_descendants("production")}
    sandbox = {one.name for one in sdk.groups.management_groups.get_descendants("sandbox")}
    assert below == {"team", joined, *azure.subscription_ids[:2]}
    assert sandbox == {azure.subscription_ids[2]}
    assert refusal(sdk.groups.management_groups.get_descendants, "missing")[0] in (403, 404)


def test_provider_registration_takes_time(clock: VirtualClock, closing: ExitStack) -> None:
    """It is NotRegistered, then Registering for the delay, then Registered."""
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=Behavior(registration_delay_s=300)))
    first = cloud.subscription_ids[0]
    cloud.unregister_provider(first)
    providers = Sdk(cloud, closing, token=cloud.operator_token()).resources(first).providers
    states = [providers.get(DEPENDENT).registration_state, providers.register(DEPENDENT).registration_state]
    clock.advance(300)
    states.append(providers.get(DEPENDENT).registration_state)
    assert states == ["NotRegistered", "Registering", "Registered"]


def test_export_needs_the_provider_at_its_destination(clock: VirtualClock, closing: ExitStack) -> None:
    """The export is refused without the provider, 503 while it registers, and then accepted."""
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=Behavior(registration_delay_s=300)))
    sdk = Sdk(cloud, closing)
    cloud.unregister_provider(cloud.subscription_ids[0])
    status, _, message = refusal(sdk.create, 1)
    assert (status, "RP Not Registered" in message) == (400, True)
    operator = Sdk(cloud, closing, token=cloud.operator_token())
    operator.resources(cloud.subscription_ids[0]).providers.register(DEPENDENT)
    assert refusal(sdk.create, 1)[0] == 503
    clock.advance(300)
    assert sdk.create(1).name == NAME


def test_export_may_need_the_provider_in_its_subscription(azure: LocalAzure, sdk: Sdk) -> None:
    """In this mode, the export is 409 until the source subscription has registered the provider."""
    second = azure.subscription_ids[1]
    azure.demand_registration(second, "Microsoft.CostManagement")
    assert refusal(sdk.create, 1)[:2] == (409, "MissingSubscriptionRegistration")
    sdk.resources(second).providers.register("Microsoft.CostManagement")
    assert sdk.create(1).name == NAME


def test_permissions_take_effect_late_and_later_in_cost_management(clock: VirtualClock, closing: ExitStack) -> None:
    """A new subscription is 403 in Resource Manager, then 401 in Cost Management, then succeeds."""
    behavior = Behavior(rights_delay_s=300, cost_lag_s=600)
    cloud = closing.enter_context(LocalAzure(clock=clock, behavior=behavior))
    sdk = Sdk(cloud, closing)
    cloud.join_subscription("new")
    refusals = [refusal(sdk.create, 3)[:2]]
    clock.advance(300)
    refusals.append(refusal(sdk.create, 3)[:2])
    clock.advance(600)
    assert refusals == [(403, "AuthorizationFailed"), (401, "RBACAccessDenied")]
    assert sdk.create(3).name == NAME


def test_revoked_permissions_hide_a_subscription(azure: LocalAzure, sdk: Sdk, clock: VirtualClock) -> None:
    """It is not listed and refuses exports; it returns after the delay."""
    second = azure.subscription_ids[1]
    azure.revoke_rights(second)
    assert second not in [one.subscription_id for one in sdk.subscriptions.subscriptions.list()]
    assert refusal(sdk.create, 1)[:2] == (403, "AuthorizationFailed")
    assert sdk.create(0).name == NAME
    azure.grant_rights(second, delay_s=60)
    assert refusal(sdk.create, 1)[0] == 403
    clock.advance(60)
    assert sdk.create(1).name == NAME


def test_function_has_only_its_actions(azure: LocalAzure, sdk: Sdk) -> None:
    """It may write exports and register the provider, but not delete exports or change anything else."""
    sdk.create()
    group = {"location": "westeurope"}
    resources = sdk.resources(azure.subscription_ids[0])
    denied = [
        refusal(sdk.exports.delete, scope(azure), NAME),
        refusal(resources.resource_groups.create_or_update, "other", group),
        refusal(
            resources.resources.get_by_id,
            f"{scope(azure)}/resourceGroups/tailpipe-dataexport",
            api_version="2021-04-01",
        ),
    ]
    assert [one[:2] for one in denied] == [(403, "AuthorizationFailed")] * 3
    assert "Microsoft.CostManagement/exports/delete" in denied[0][2]


def test_callers_permissions_show_a_missing_role(azure: LocalAzure, sdk: Sdk) -> None:
    """The permissions at a scope have the role's actions where it is assigned, and are empty elsewhere."""
    path = f"{scope(azure, 1)}/providers/Microsoft.Authorization/permissions"
    client = sdk.client(CostManagementClient)
    held = send(client, "GET", path)["value"]
    assert "Microsoft.CostManagement/exports/write" in held[0]["actions"]
    azure.revoke_rights(azure.subscription_ids[1])
    assert send(client, "GET", path, expected=403)["error"]["code"] == "AuthorizationFailed"


def test_role_assignments_can_be_created_listed_and_deleted(azure: LocalAzure, closing: ExitStack) -> None:
    """The list of a principal includes inherited assignments."""
    admin = Sdk(azure, closing, token="whoever-runs-this").client(CostManagementClient)
    base = f"{scope(azure, 1)}/providers/Microsoft.Authorization/roleAssignments"
    path = f"{base}/{made_up_id('mine')}"
    body = {"properties": {"roleDefinitionId": role_id(FUNCTION_ROLE), "principalId": made_up_id("assignee")}}
    made = send(admin, "PUT", path, body, expected=201)
    assert made["properties"]["principalId"] == made_up_id("assignee")
    assert send(admin, "PUT", path, body) == made  # as when a template is deployed again
    again = f"{base}/{made_up_id('another name')}"
    assert send(admin, "PUT", again, body, expected=409)["error"]["code"] == "RoleAssignmentExists"
    other = {"properties": {**body["properties"], "principalId": made_up_id("someone else")}}
    assert send(admin, "PUT", path, other, expected=400)["error"]["code"] == "RoleAssignmentUpdateNotPermitted"
    inherited = send(admin, "GET", base, query=f"&$filter=assignedTo('{azure.principal}')")["value"]
    assert [one["properties"]["roleDefinitionId"][-36:] for one in inherited] == [FUNCTION_ROLE]
    send(admin, "DELETE", path)
    assert send(admin, "GET", path, expected=404)["error"]["code"] == "RoleAssignmentNotFound"


def test_limit_of_role_assignments_refuses_identity_exports(clock: VirtualClock, closing: ExitStack) -> None:
    """An identity export needs an assignment in the destination's subscription, which has at most 4,000."""
    cloud = closing.enter_context(LocalAzure(clock=clock, identity_exports=True))
    sdk = Sdk(cloud, closing)
    cloud.fill_role_assignments(cloud.subscription_ids[0], left=1)
    made = sdk.exports.create_or_update(scope(cloud), NAME, export(cloud, identity=True))
    assert str(UUID(made.identity.principal_id)) == made.identity.principal_id
    again = sdk.exports.create_or_update(scope(cloud), NAME, export(cloud, tag=made.e_tag, identity=True))
    assert again.identity.principal_id == made.identity.principal_id
    status, code, _ = refusal(sdk.exports.create_or_update, scope(cloud, 1), NAME, export(cloud, 1, identity=True))
    assert (status, code) == (400, "RoleAssignmentLimitExceeded")


@pytest.mark.parametrize("agreement", ["EnterpriseAgreement", "MicrosoftCustomerAgreement"])
def test_billing_accounts_are_hidden_from_callers_without_a_role(
    azure: LocalAzure, sdk: Sdk, closing: ExitStack, agreement: str
) -> None:
    """Without a billing role the list is empty with 200; with it, all accounts and children are listed."""
    first, second, third = azure.subscription_ids
    azure.add_billing_account("account-1", agreement, {"one": [first], "two": [second, third]})
    assert list(sdk.billing.billing_accounts.list()) == []
    azure.grant_billing()
    billing = sdk.billing
    assert [one.name for one in billing.billing_accounts.list()] == ["account-1"]
    if agreement == "EnterpriseAgreement":
        children = [one.name for one in billing.enrollment_accounts.list_by_billing_account("account-1")]
        paid = list(billing.billing_subscriptions.list_by_enrollment_account("account-1", "two"))
    else:
        children = [one.name for one in billing.billing_profiles.list_by_billing_account("account-1")]
        paid = list(billing.billing_subscriptions.list_by_billing_profile("account-1", "two"))
    assert children == ["one", "two"]
    assert [one.properties.subscription_id for one in paid] == [second, third]
    payer = Sdk(azure, closing, token=azure.operator_token()).billing.billing_property.get()
    assert payer.properties.billing_account_agreement_type == agreement


def test_customer_agreements_refuse_apps_at_billing_scopes(azure: LocalAzure, sdk: Sdk, closing: ExitStack) -> None:
    """A billing profile refuses apps with NoHttpContext; an enrollment account needs a role."""
    azure.add_billing_account("customer", "MicrosoftCustomerAgreement", {"profile": [azure.subscription_ids[0]]})
    azure.add_billing_account("enterprise", "EnterpriseAgreement", {"enrollment": [azure.subscription_ids[1]]})
    root = "/providers/Microsoft.Billing/billingAccounts"
    profile, enrollment = f"{root}/customer/billingProfiles/profile", f"{root}/enterprise/enrollmentAccounts/enrollment"
    status, code, message = refusal(sdk.exports.create_or_update, profile, "TailpipeAllSubs", export(azure))
    assert (status, code, "NoHttpContext" in message) == (401, "RBACAccessDenied", True)
    assert refusal(sdk.exports.list, enrollment)[:2] == (401, "BillingAccessDenied")
    azure.grant_billing()
    assert refusal(sdk.exports.list, profile)[1] == "RBACAccessDenied"
    assert sdk.exports.create_or_update(enrollment, "TailpipeAllSubs", export(azure)).name == "TailpipeAllSubs"
    assert Sdk(azure, closing, token=azure.token(user=True)).exports.list(profile).value == []


def send(
    client: CostManagementClient, method: str, path: str, body: Any = None, expected: int = 200, query: str = ""
) -> Any:
    """Send a request to Resource Manager that no SDK client supports; return the JSON."""
    answer = client.send_request(HttpRequest(method, f"{path}?api-version=2022-04-01{query}", json=body))
    assert answer.status_code == expected, answer.text()
    return answer.json()
