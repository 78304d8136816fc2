"""Which accounts take part, and what an empty or refused listing means."""

from __future__ import annotations

import pytest

from localcloud.gcp.cloud import LocalGcp
from shared.model import Verb
from tests.gcp_function.support import Lines, accounts, action, local_gcp, messages, run, verbs


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
    account = accounts(covered)[1]  # the first one pays for the project
    before = covered.copies(f"{account}/")
    covered.close_account(account)
    finished = run(covered)
    skipped = action(finished, "export", account, "standard")
    assert (skipped.verb, skipped.detail) == (Verb.SKIP, "CLOSED")
    assert covered.copies(f"{account}/") == before
    covered.open_account(account)
    assert action(run(covered), "export", account, "standard").verb is Verb.KEEP


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


def test_an_account_of_another_organization_is_named_with_the_reason(gcp: LocalGcp) -> None:
    """What the function can see and does not serve is told, never left out silently; nothing is asked of anybody."""
    stranger = gcp.add_account_elsewhere("elsewhere")
    finished = run(gcp)
    (one,) = [one for one in finished.outcomes if one.key.scope == stranger]
    assert (one.action.verb, one.action.reason) == (Verb.SKIP, "outside-organization")
    assert "organizations/999999999999" in one.action.detail
    assert "INCLUDE_ACCOUNTS" in one.action.detail
    assert finished.report["enumeration_complete"]
    assert not [step for step in finished.report["manual"] if step["scope"] == stranger]


def test_including_an_account_wins_over_the_organization(gcp: LocalGcp) -> None:
    """An account that is named in INCLUDE_ACCOUNTS is served wherever it belongs."""
    stranger = gcp.add_account_elsewhere("elsewhere")
    everything = run(gcp, ORGANIZATION="", dry_run=True)
    assert action(everything, "export", stranger, "standard").reason == "console-step"
    finished = run(gcp, INCLUDE_ACCOUNTS=f"{stranger},{accounts(gcp)[0]}")
    assert action(finished, "export", stranger, "standard").reason == "console-step"


def test_an_account_that_shows_no_organization_takes_part(gcp: LocalGcp) -> None:
    """An account without a parent, and a reseller's sub-account whose master is hidden, are served like any other."""
    alone = gcp.add_account_elsewhere("never moved into the organization", parent="")
    reseller = gcp.add_account("the reseller's", parent="organizations/999999999999")
    below = gcp.add_account("a customer's", master=reseller)
    gcp.grant("roles/billing.viewer", f"billingAccounts/{below}")
    finished = run(gcp)
    assert {action(finished, "export", one, "standard").reason for one in (alone, below)} == {"console-step"}
    assert reseller not in {one.key.scope for one in finished.outcomes}
    assert finished.report["status"] == "ok"


def test_only_accounts_of_other_organizations_mean_that_a_right_is_missing(gcp: LocalGcp) -> None:
    """Where none of the visible accounts belongs to ORGANIZATION, nothing is forgotten, and the right is named."""
    gcp.add_account_elsewhere("elsewhere")
    gcp.revoke("roles/billing.viewer", "organizations/*")
    finished = run(gcp)
    assert not finished.report["enumeration_complete"]
    assert [one["code"] for one in finished.report["failures"]] == ["no-billing-accounts"]


@pytest.mark.parametrize(("close", "words"), [(False, "gcloud billing projects link"), (True, "is closed")])
def test_a_project_that_nobody_pays_for_is_told_with_the_step(covered: LocalGcp, close: bool, words: str) -> None:
    """Without an open billing account the run fails with the step that helps, and never asks for a right."""
    if close:
        covered.close_account(accounts(covered)[0])
    else:
        covered.unlink_billing()
    finished = run(covered)
    assert finished.report["status"] == "failed"
    told = messages(finished)
    assert "project-without-billing" in told
    assert "Grant the right" not in told
    assert words in told or "reopen it" in told


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


def test_an_owner_that_was_changed_on_purpose_begins_anew(covered: LocalGcp) -> None:
    """What the remedy says works: with the state moved away, the next run copies nothing again and is ok."""
    state = "tailpipe-state-tailpipe-dataexport"
    covered.put_object("moved.json", covered.read_object("known_billing_accounts.json", state), state)
    covered.delete_objects(state, "known_billing_accounts.json")
    finished = run(covered, ORGANIZATION="")
    assert finished.report["status"] == "ok"
    assert covered.calls.count("bigquery.jobs.insert") == 0


def test_state_of_another_organization_is_refused(covered: LocalGcp) -> None:
    """Memory that belongs to another owner is neither used nor overwritten."""
    before = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    finished = run(covered, ORGANIZATION="organizations/555")
    assert finished.report["status"] == "failed"
    assert {one["code"] for one in finished.report["failures"]} >= {"state-foreign"}
    assert "If the owner was changed on purpose, move the state object to another name" in messages(finished)
    after = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    assert after == before


def test_a_closed_account_is_told_as_gone_once(covered: LocalGcp) -> None:
    """After three runs that found it closed the log says so, never again, and its return is told once, too."""
    account = accounts(covered)[1]
    covered.close_account(account)
    lines = Lines()
    for _ in range(8):
        covered.stream(days=1, rows=1)
        run(covered, sink=lines)
        covered.advance(3600)
    told = [(event, fields["scope"]) for _, event, fields in lines.lines if event.startswith("scope-")]
    assert told == [("scope-gone", account)]
    covered.open_account(account)
    again = Lines()
    for _ in range(2):
        run(covered, sink=again)
    assert [event for _, event, _ in again.lines if event.startswith("scope-")] == ["scope-returned"]
