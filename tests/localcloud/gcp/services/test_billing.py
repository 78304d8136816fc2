"""Cloud Billing accounts over REST, through Google's authorized session."""

from __future__ import annotations

from collections.abc import Callable

from localcloud.gcp.platform.names import ORGANIZATION
from tests.localcloud.gcp.conftest import Clients, Opener

Make = Callable[..., Clients]


def _names(one: Clients, **parameters: object) -> list[str]:
    names: list[str] = []
    token = ""
    while True:
        page = one.get("v1/billingAccounts", pageToken=token, **parameters).json()
        names += [account["name"] for account in page.get("billingAccounts", [])]
        token = page.get("nextPageToken", "")
        if not token:
            return names


def test_page_has_at_most_100_accounts(opened: Opener, clients: Make) -> None:
    """A larger page size is reduced to 100, and the pages together have every account once."""
    one = clients(opened(accounts=230, done=0))
    first = one.get("v1/billingAccounts", pageSize=1000).json()
    names = _names(one, pageSize=1000)
    assert len(first["billingAccounts"]) == 100
    assert len(names) == len(set(names)) == 230
    assert one.cloud.calls.count("cloudbilling.billingAccounts.list") == 4


def test_account_has_name_state_parent_and_currency(opened: Opener, clients: Make) -> None:
    """A sub-account also has its master account."""
    one = clients(opened(accounts=1, done=0))
    (master,) = one.cloud.accounts()
    sub = one.cloud.add_account(name="Sub", master=master, currency="EUR")
    one.cloud.close_account(sub)
    found = one.get(f"v1/billingAccounts/{sub}").json()
    assert found == {
        "name": f"billingAccounts/{sub}",
        "open": False,
        "displayName": "Sub",
        "masterBillingAccount": f"billingAccounts/{master}",
        "parent": f"billingAccounts/{master}",
        "currencyCode": "EUR",
    }
    assert _names(one, filter=f"master_billing_account=billingAccounts/{master}") == [f"billingAccounts/{sub}"]
    assert _names(one, parent=ORGANIZATION) == [f"billingAccounts/{master}"]
    of_organization = one.get(f"v1/{ORGANIZATION}/billingAccounts").json()
    assert [account["name"] for account in of_organization["billingAccounts"]] == [f"billingAccounts/{master}"]


def test_listing_without_permission_is_empty(opened: Opener, clients: Make) -> None:
    """An identity without permissions gets 200 and an empty object, but 403 for an account by name."""
    cloud = opened()
    stranger = clients(cloud, "stranger@example.com")
    answer = stranger.get("v1/billingAccounts")
    assert (answer.status_code, answer.json()) == (200, {})
    account = next(iter(cloud.accounts()))
    refused = stranger.get(f"v1/billingAccounts/{account}")
    assert (refused.status_code, refused.json()["error"]["status"]) == (403, "PERMISSION_DENIED")


def test_role_on_an_account_lists_it_and_its_sub_accounts(opened: Opener, clients: Make) -> None:
    """The role does not apply to any other account."""
    cloud = opened()
    account = next(iter(cloud.accounts()))
    sub = cloud.add_account(master=account)
    cloud.grant("roles/billing.viewer", f"billingAccounts/{account}", "viewer@example.com")
    assert _names(clients(cloud, "viewer@example.com")) == [f"billingAccounts/{account}", f"billingAccounts/{sub}"]


def test_test_iam_permissions_returns_the_granted_permissions(opened: Opener, clients: Make) -> None:
    """The response has those of the requested permissions that the caller has."""
    one = clients(opened())
    account = next(iter(one.cloud.accounts()))
    asked = {"permissions": ["billing.accounts.get", "billing.accounts.update"]}
    answer = one.post(f"v1/billingAccounts/{account}:testIamPermissions", asked)
    assert answer.json() == {"permissions": ["billing.accounts.get"]}


def test_invalid_request_is_refused_with_its_error(opened: Opener, clients: Make) -> None:
    """A foreign page token, an unknown filter, a malformed id and a missing account have different errors."""
    one = clients(opened(accounts=150, done=0))
    token = one.get("v1/billingAccounts").json()["nextPageToken"]
    assert one.get("v1/billingAccounts", pageToken=token, parent=ORGANIZATION).status_code == 400
    assert one.get("v1/billingAccounts", filter="open=true").status_code == 400
    assert one.get("v1/billingAccounts/my-account").status_code == 400
    cloud = one.cloud
    cloud.grant("roles/billing.viewer", "billingAccounts/AAAAAA-AAAAAA-AAAAAA")
    assert one.get("v1/billingAccounts/AAAAAA-AAAAAA-AAAAAA").status_code == 404
