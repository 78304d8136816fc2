"""Which accounts take part, and what an empty or refused listing means."""

from __future__ import annotations

import pytest

from localcloud.gcp.cloud import LocalGcp
from shared.model import Verb
from tests.gcp_function.support import accounts, action, local_gcp, messages, run, verbs


def failures(cloud: LocalGcp, *scopes: str) -> dict[str, str]:
    """Run once and return the report's failures: remedy by code."""
    return {one["code"]: one["remedy"] for one in run(cloud, scopes).report["failures"]}


def test_every_page_is_read() -> None:
    """With more accounts than a page holds (100) all of them take part."""
    with local_gcp(accounts=230, done=0, history_days=0) as cloud:
        finished = run(cloud, COPY="off", EXPORTS="standard")
        assert finished.report["scopes"]["total"] == 230
        assert cloud.calls.count("cloudbilling.billingAccounts.list") == 3


def test_a_closed_account_is_skipped_and_its_copies_stay(covered: LocalGcp) -> None:
    """An account that was closed gets no writes and loses nothing; its reason is in the plan."""
    account = accounts(covered)[0]
    before = covered.copies(f"{account}/")
    covered.close_account(account)
    finished = run(covered)
    skipped = action(finished, "export", account, "standard")
    assert (skipped.verb, skipped.detail) == (Verb.SKIP, "CLOSED")
    assert covered.copies(f"{account}/") == before
    covered.open_account(account)
    assert action(run(covered), "export", account, "standard").verb is Verb.KEEP


def test_a_sub_account_is_an_account_of_its_own(gcp: LocalGcp) -> None:
    """A sub-account has its own exports, and says which account it is below."""
    master = accounts(gcp)[0]
    sub = gcp.add_account("below", master=master)
    finished = run(gcp)
    assert action(finished, "export", sub, "standard").verb is Verb.MANUAL
    assert finished.report["enumeration_complete"]


def test_an_empty_listing_means_that_a_right_is_missing(covered: LocalGcp) -> None:
    """No visible account is never "nothing to do": the run is degraded with the right to grant, and forgets nothing."""
    covered.revoke("roles/billing.viewer")
    finished = run(covered)
    assert finished.report["status"] == "degraded"
    assert not finished.report["enumeration_complete"]
    (failure,) = finished.report["failures"]
    assert failure["code"] == "no-billing-accounts"
    assert "roles/billing.viewer" in failure["remedy"]
    covered.grant("roles/billing.viewer", "organizations/123456789012")
    covered.advance(600)
    assert verbs(run(covered)).get("CREATE") is None


def test_a_refused_listing_is_incomplete_and_the_project_is_still_looked_after(gcp: LocalGcp) -> None:
    """Where Cloud Billing is off, the run says with which command to enable it, and heals the project's own targets."""
    gcp.disable_api("cloudbilling.googleapis.com")
    gcp.delete_bucket()
    finished = run(gcp)
    assert not finished.report["enumeration_complete"]
    assert action(finished, "bucket").verb is Verb.CREATE
    assert action(finished, "api", name="cloudbilling.googleapis.com").verb is Verb.MANUAL
    assert "gcloud services enable cloudbilling.googleapis.com --project tailpipe-dataexport" in messages(finished)


def test_accounts_are_included_and_excluded_by_id(gcp: LocalGcp) -> None:
    """INCLUDE_ACCOUNTS and EXCLUDE_ACCOUNTS choose; who is not chosen is no scope."""
    one, other, third = accounts(gcp)
    chosen = run(gcp, INCLUDE_ACCOUNTS=f"{one},{other}", EXCLUDE_ACCOUNTS=third, dry_run=True)
    assert {outcome.key.scope for outcome in chosen.outcomes} == {"tailpipe-dataexport", one, other}


def test_accounts_of_another_organisation_are_left_out(gcp: LocalGcp) -> None:
    """With ORGANIZATION only the accounts below it are listed; an empty one is named in the problem."""
    stranger = gcp.add_account("elsewhere", parent="organizations/999")
    gcp.grant("roles/billing.viewer", f"billingAccounts/{stranger}")
    assert stranger not in {one.key.scope for one in run(gcp, dry_run=True).outcomes}
    everything = run(gcp, ORGANIZATION="", dry_run=True)
    assert stranger in {one.key.scope for one in everything.outcomes}


def test_a_request_for_one_account_asks_for_that_one(covered: LocalGcp) -> None:
    """A run limited to an account lists nothing, and looks at what the account rests on too."""
    account = accounts(covered)[1]
    finished = run(covered, [account])
    assert covered.calls.count("cloudbilling.billingAccounts.list") == 0
    assert covered.calls.count("cloudbilling.billingAccounts.get") == 1
    assert {one.key.scope for one in finished.outcomes} == {account, "tailpipe-dataexport"}
    assert finished.report["status"] == "ok"


@pytest.mark.parametrize(
    ("account", "code"), [("012345-6789ab-cdef01", "account-malformed"), ("012345-6789AB-CDEF01", "account-not-found")]
)
def test_an_account_that_cannot_be_is_named_with_the_remedy(gcp: LocalGcp, account: str, code: str) -> None:
    """An id of another form, or one that nobody sees, is a failure with its remedy; the others go on."""
    found = failures(gcp, account, accounts(gcp)[0])
    assert found[code]


def test_a_project_pending_deletion_stops_the_run(covered: LocalGcp) -> None:
    """Nothing is done in a project that is going: undelete it or choose another."""
    covered.delete_project()
    finished = run(covered)
    assert finished.report["status"] == "failed"
    assert "undelete" in messages(finished)
    covered.undelete_project()
    assert run(covered).report["status"] == "ok"


def test_a_wrong_project_stops_the_run(gcp: LocalGcp) -> None:
    """A project that does not exist ends the run with the setting to correct; nothing is made."""
    finished = run(gcp, GOOGLE_CLOUD_PROJECT="no-such-project-1", STATE_BUCKET="tailpipe-state-tailpipe-dataexport")
    assert finished.report["status"] == "failed"
    assert "GOOGLE_CLOUD_PROJECT" in messages(finished)
    assert gcp.calls.count("bigquery.datasets.insert") == 0


def test_state_of_another_organisation_is_refused(covered: LocalGcp) -> None:
    """Memory that belongs to another owner is neither used nor overwritten."""
    before = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    finished = run(covered, ORGANIZATION="organizations/555")
    assert finished.report["status"] == "failed"
    assert {one["code"] for one in finished.report["failures"]} >= {"state-foreign"}
    after = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    assert after == before
