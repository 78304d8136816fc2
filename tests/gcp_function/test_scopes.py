"""Enumeration of billing accounts, and the meaning of an empty or denied listing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from gcp_function.claims import Claims
from gcp_function.refusals import CREDENTIALS_REMEDY, RIGHTS_REMEDY, UNAUTHORIZED
from gcp_function.scopes import ASK_ONE_BY_ONE, Scopes, top_parent
from gcp_function.settings import read_settings
from localcloud.gcp.cloud import LocalGcp
from shared.errors import Denied, NotFound, RunStopped
from shared.model import Enumeration, Health, Present, ScopeState, Verb
from tests.gcp_function.support import Lines, accounts, action, local_gcp, messages, run, verbs


def failures(cloud: LocalGcp, *scopes: str) -> dict[str, str]:
    """Run once and return the report's failures: remedy by code."""
    return {one["code"]: one["remedy"] for one in run(cloud, scopes).report["failures"]}


def test_all_pages_of_accounts_are_read() -> None:
    """Every account becomes a scope, also with more than 100, the size of a page."""
    with local_gcp(accounts=230, done=0, history_days=0) as cloud:
        finished = run(cloud, COPY="off", EXPORTS="standard")
        assert finished.report["scopes"]["total"] == 230
        assert cloud.calls.count("cloudbilling.billingAccounts.list") == 3


def test_closed_account_is_skipped_and_its_copies_are_kept(covered: LocalGcp) -> None:
    """A closed account gets no writes, and the plan has the reason."""
    account = accounts(covered)[1]  # the first one pays for the project
    before = covered.copies(f"{account}/")
    covered.close_account(account)
    finished = run(covered)
    skipped = action(finished, "export", account, "standard")
    assert (skipped.verb, skipped.detail) == (Verb.SKIP, "CLOSED")
    assert covered.copies(f"{account}/") == before
    covered.open_account(account)
    assert action(run(covered), "export", account, "standard").verb is Verb.KEEP


def test_empty_listing_is_reported_as_a_missing_role(covered: LocalGcp) -> None:
    """An empty listing never means that nothing is to be done: the run is degraded and the state keeps all scopes."""
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


def test_denied_listing_is_incomplete_and_the_project_is_still_reconciled(gcp: LocalGcp) -> None:
    """If the Cloud Billing API is off, the run reports the command to enable it and repairs the project's targets."""
    gcp.disable_api("cloudbilling.googleapis.com")
    gcp.delete_bucket()
    finished = run(gcp)
    assert not finished.report["enumeration_complete"]
    assert action(finished, "bucket").verb is Verb.CREATE
    assert action(finished, "api", name="cloudbilling.googleapis.com").verb is Verb.MANUAL
    assert "gcloud services enable cloudbilling.googleapis.com --project tailpipe-dataexport" in messages(finished)


def test_accounts_are_included_and_excluded_by_id(gcp: LocalGcp) -> None:
    """INCLUDE_ACCOUNTS and EXCLUDE_ACCOUNTS select the scopes."""
    one, other, third = accounts(gcp)
    chosen = run(gcp, INCLUDE_ACCOUNTS=f"{one},{other}", EXCLUDE_ACCOUNTS=third, dry_run=True)
    assert {outcome.key.scope for outcome in chosen.outcomes} == {"tailpipe-dataexport", one, other}


def test_account_of_another_organization_is_skipped_with_the_reason(gcp: LocalGcp) -> None:
    """A visible account that is not served is reported, without a manual step."""
    outside = gcp.add_account_elsewhere("elsewhere")
    finished = run(gcp)
    (one,) = [one for one in finished.outcomes if one.key.scope == outside]
    assert (one.action.verb, one.action.reason) == (Verb.SKIP, "outside-organization")
    assert "organizations/999999999999" in one.action.detail
    assert "INCLUDE_ACCOUNTS" in one.action.detail
    assert finished.report["enumeration_complete"]
    assert not [step for step in finished.report["manual"] if step["scope"] == outside]


def test_included_account_is_served_in_any_organization(gcp: LocalGcp) -> None:
    """INCLUDE_ACCOUNTS takes precedence over ORGANIZATION."""
    outside = gcp.add_account_elsewhere("elsewhere")
    everything = run(gcp, ORGANIZATION="", dry_run=True)
    assert action(everything, "export", outside, "standard").reason == "console-step"
    finished = run(gcp, INCLUDE_ACCOUNTS=f"{outside},{accounts(gcp)[0]}")
    assert action(finished, "export", outside, "standard").reason == "console-step"


def test_account_without_a_visible_organization_is_served(gcp: LocalGcp) -> None:
    """This includes accounts without a parent and a reseller's sub-accounts whose master account is hidden."""
    alone = gcp.add_account_elsewhere("never moved into the organization", parent="")
    reseller = gcp.add_account("the reseller's", parent="organizations/999999999999")
    below = gcp.add_account("a customer's", master=reseller)
    gcp.grant("roles/billing.viewer", f"billingAccounts/{below}")
    finished = run(gcp)
    assert {action(finished, "export", one, "standard").reason for one in (alone, below)} == {"console-step"}
    assert reseller not in {one.key.scope for one in finished.outcomes}
    assert finished.report["status"] == "ok"


def test_listing_with_only_other_organizations_is_reported_as_a_missing_role(gcp: LocalGcp) -> None:
    """If no visible account belongs to ORGANIZATION, the enumeration is incomplete and the role is named."""
    gcp.add_account_elsewhere("elsewhere")
    gcp.revoke("roles/billing.viewer", "organizations/*")
    finished = run(gcp)
    assert not finished.report["enumeration_complete"]
    assert [one["code"] for one in finished.report["failures"]] == ["no-billing-accounts"]


@pytest.mark.parametrize(("close", "words"), [(False, "gcloud billing projects link"), (True, "is closed")])
def test_project_without_open_billing_account_fails_the_run(covered: LocalGcp, close: bool, words: str) -> None:
    """The manual step says how to link or reopen the billing account, and does not suggest a role."""
    if close:
        covered.close_account(accounts(covered)[0])
    else:
        covered.unlink_billing()
    finished = run(covered)
    assert finished.report["status"] == "failed"
    text = messages(finished)
    assert "project-without-billing" in text
    assert "Grant the function's service account" not in text
    assert words in text or "reopen it" in text


def test_request_for_one_account_reads_only_that_account(covered: LocalGcp) -> None:
    """The run lists no accounts, and also observes the project's targets that the account depends on."""
    account = accounts(covered)[1]
    finished = run(covered, [account])
    assert covered.calls.count("cloudbilling.billingAccounts.list") == 0
    assert covered.calls.count("cloudbilling.billingAccounts.get") == 1
    assert {one.key.scope for one in finished.outcomes} == {account, "tailpipe-dataexport"}
    assert finished.report["status"] == "ok"


@pytest.mark.parametrize(
    ("account", "code"), [("012345-6789ab-cdef01", "account-malformed"), ("012345-6789AB-CDEF01", "account-not-found")]
)
def test_invalid_or_unknown_account_is_reported_with_a_remedy(gcp: LocalGcp, account: str, code: str) -> None:
    """The other requested accounts are still reconciled."""
    found = failures(gcp, account, accounts(gcp)[0])
    assert found[code]


def test_project_pending_deletion_ends_the_run(covered: LocalGcp) -> None:
    """The remedy is to undelete the project or to choose another one."""
    covered.delete_project()
    finished = run(covered)
    assert finished.report["status"] == "failed"
    assert "undelete" in messages(finished)
    covered.undelete_project()
    assert run(covered).report["status"] == "ok"


def test_nonexistent_project_ends_the_run(gcp: LocalGcp) -> None:
    """The failure names the setting to correct, and nothing is created."""
    finished = run(gcp, GOOGLE_CLOUD_PROJECT="no-such-project-1", STATE_BUCKET="tailpipe-state-tailpipe-dataexport")
    assert finished.report["status"] == "failed"
    assert "GOOGLE_CLOUD_PROJECT" in messages(finished)
    assert gcp.calls.count("bigquery.datasets.insert") == 0


def test_run_with_a_new_owner_starts_fresh_once_the_state_is_moved(covered: LocalGcp) -> None:
    """As the remedy says: with the state object moved away, the next run succeeds and copies nothing again."""
    state = "tailpipe-state-tailpipe-dataexport"
    covered.put_object("moved.json", covered.read_object("known_billing_accounts.json", state), state)
    covered.delete_objects(state, "known_billing_accounts.json")
    finished = run(covered, ORGANIZATION="")
    assert finished.report["status"] == "ok"
    assert covered.calls.count("bigquery.jobs.insert") == 0


def test_state_of_another_owner_ends_the_run(covered: LocalGcp) -> None:
    """The run neither uses nor overwrites it."""
    before = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    finished = run(covered, ORGANIZATION="organizations/555")
    assert finished.report["status"] == "failed"
    assert {one["code"] for one in finished.report["failures"]} >= {"state-foreign"}
    assert "If the owner was changed on purpose, move the state object to another name" in messages(finished)
    after = covered.read_object("known_billing_accounts.json", "tailpipe-state-tailpipe-dataexport")
    assert after == before


def test_closed_account_is_logged_once_as_gone_and_once_as_returned(covered: LocalGcp) -> None:
    """The log has one event after three runs that found it closed, and one when it is open again."""
    account = accounts(covered)[1]
    covered.close_account(account)
    lines = Lines()
    for _ in range(8):
        covered.stream(days=1, rows=1)
        run(covered, sink=lines)
        covered.advance(3600)
    events = [(event, fields["scope"]) for _, event, fields in lines.lines if event.startswith("scope-")]
    assert events == [("scope-gone", account)]
    covered.open_account(account)
    again = Lines()
    for _ in range(2):
        run(covered, sink=again)
    assert [event for _, event, _ in again.lines if event.startswith("scope-")] == ["scope-returned"]


# --- enumeration alone ---------------------------------------------------------------------------

PROJECT = "tailpipe-dataexport"
HOME, ELSEWHERE = "organizations/1", "organizations/2"
ONE, TWO, THREE = (f"{number:06X}-000000-000000" for number in range(1, 4))


def account(identifier: str, **fields: Any) -> dict[str, Any]:
    """Return an account as the API does: open, in our organization."""
    return {"name": f"billingAccounts/{identifier}", "parent": HOME, "open": True, **fields}


class Listing:
    """Cloud Billing with these accounts, or with an error; it records the calls."""

    def __init__(
        self,
        *found: dict[str, Any],
        error: Exception | None = None,
        page: int = 100,
        claims: Claims | None = None,
        read_project: Callable[[], None] = lambda: None,
    ) -> None:
        self.found, self.error, self.page, self.claims = found, error, page, claims or Claims()
        self.read_project = read_project
        self.calls: list[tuple[str, str]] = []
        self.beats = 0
        self.scopes: Scopes

    def get(self, service: str, path: str, parameters: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the response to a GET."""
        self.calls.append((service, path))
        if self.error:
            raise self.error
        if parameters is None:
            for one in self.found:
                if path == f"v1/{one['name']}":
                    return one
            raise NotFound("not-found", "no such account")
        assert parameters["pageSize"] == 100
        begin = int(parameters.get("pageToken", 0))
        end = begin + self.page
        listed = {"billingAccounts": self.found[begin:end]} if self.found[begin:end] else {}
        return {**listed, "nextPageToken": str(end)} if end < len(self.found) else listed

    def enumerate(self, *requested: str, **settings: str) -> Enumeration:
        """Enumerate with these settings."""
        made = read_settings({"GOOGLE_CLOUD_PROJECT": PROJECT, "ORGANIZATION": HOME, **settings})
        work: Any = SimpleNamespace(calls=lambda _, call, *arguments: call(*arguments), heartbeat=self._beat)
        clients: Any = self
        self.scopes = Scopes(made, clients, self.read_project, work, self.claims)
        return self.scopes.enumerate(requested)

    def _beat(self) -> None:
        self.beats += 1


def ids(found: Enumeration) -> list[str]:
    """Return the ids of the accounts among the scopes."""
    assert found.scopes[0].id == PROJECT
    return [one.id for one in found.scopes[1:]]


def test_project_is_the_first_scope_and_is_not_counted() -> None:
    """The accounts follow in order, with their names and what they are."""
    found = Listing(
        account(TWO, displayName="Two"),
        account(ONE, masterBillingAccount=f"billingAccounts/{TWO}"),
        account(THREE, open=False),
    ).enumerate()
    assert ids(found) == [ONE, TWO, THREE]
    own, one, two, three = found.scopes
    assert (own.name, own.traits, own.counted) == (PROJECT, {"standing": "project"}, False)
    assert one.traits == {"standing": "sub-account", "master": TWO}
    assert (two.name, two.traits, two.state, two.reason) == ("Two", {"standing": "account"}, ScopeState.ACTIVE, "")
    assert (three.name, three.state, three.reason) == ("", ScopeState.INACTIVE, "CLOSED")
    assert (found.owner, found.complete, found.problems) == (HOME, True, ())


def test_listing_goes_on_after_a_short_page() -> None:
    """Only a page without a token ends it."""
    cloud = Listing(account(ONE), account(TWO), account(THREE), page=1)
    assert ids(cloud.enumerate()) == [ONE, TWO, THREE]
    assert cloud.calls == [("cloudbilling", "v1/billingAccounts")] * 3


@pytest.mark.parametrize(
    ("requested", "calls"),
    [
        ([PROJECT], 0),
        ([ONE, PROJECT], 1),
        ([f"{number:06X}-000000-000000" for number in range(ASK_ONE_BY_ONE)], ASK_ONE_BY_ONE),
        ([f"{number:06X}-000000-000000" for number in range(ASK_ONE_BY_ONE + 1)], 1),
    ],
)
def test_few_requested_accounts_are_read_one_by_one(requested: Sequence[str], calls: int) -> None:
    """For more of them, the listing costs fewer calls; it never lists more than was requested."""
    cloud = Listing(*(account(f"{number:06X}-000000-000000") for number in range(30)))
    found = cloud.enumerate(*requested)
    assert ids(found) == sorted(set(requested) - {PROJECT})
    assert (len(cloud.calls), found.complete) == (calls, False)
    assert cloud.beats == calls


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [ONE, TWO, THREE]),
        ({"INCLUDE_ACCOUNTS": f"{ONE},{TWO}"}, [ONE, TWO]),
        ({"EXCLUDE_ACCOUNTS": ONE}, [TWO, THREE]),
        ({"INCLUDE_ACCOUNTS": f"{ONE},{TWO}", "EXCLUDE_ACCOUNTS": THREE}, [ONE, TWO]),
    ],
)
def test_listed_accounts_are_selected_by_the_settings(settings: dict[str, str], expected: list[str]) -> None:
    """One that is excluded is never a scope."""
    assert ids(Listing(account(ONE), account(TWO), account(THREE)).enumerate(**settings)) == expected


@pytest.mark.parametrize(
    ("fields", "settings", "code"),
    [
        ({"parent": ELSEWHERE}, {}, "outside-organization"),
        ({"parent": "folders/7"}, {}, "outside-organization"),
        ({"parent": ELSEWHERE}, {"INCLUDE_ACCOUNTS": ONE}, ""),
        ({"parent": ELSEWHERE}, {"ORGANIZATION": ""}, ""),
        ({"parent": ""}, {}, ""),
        ({"parent": None}, {}, ""),
        ({"parent": HOME}, {}, ""),
        ({"masterBillingAccount": f"billingAccounts/{TWO}"}, {}, "outside-organization"),
        ({"masterBillingAccount": f"billingAccounts/{THREE}"}, {}, ""),
    ],
)
def test_account_is_served_unless_it_is_known_to_be_in_another_organization(
    fields: dict[str, Any], settings: dict[str, str], code: str
) -> None:
    """A sub-account is where its master account is; THREE is not visible, TWO is elsewhere."""
    cloud = Listing(account(ONE, **fields), account(TWO, parent=ELSEWHERE), account("000009-000000-000000"))
    found = {one.id: one for one in cloud.enumerate(**settings).scopes}
    assert (found[ONE].traits["standing"] == "outside") is bool(code)
    if code:
        why = cloud.scopes.outside(ONE)
        assert isinstance(why, Present)
        assert (why.health, why.code) == (Health.INACTIVE, code)
        assert f"account {ONE} belongs to {fields.get('parent', ELSEWHERE)}, not to {HOME}" in why.detail


@pytest.mark.parametrize(
    ("claims", "settings", "taken"),
    [
        (Claims(accounts={ONE: "acme"}), {}, True),
        (Claims(accounts={TWO: "acme"}), {}, False),
        (Claims(accounts={ONE: "acme"}), {"INCLUDE_ACCOUNTS": ONE}, False),
        (Claims(organizations={HOME: "acme"}), {}, False),
        (Claims(organizations={HOME: "acme"}), {"ORGANIZATION": ""}, True),
        (Claims(organizations={ELSEWHERE: "acme"}), {"ORGANIZATION": ""}, False),
    ],
)
def test_account_of_another_tenant_is_not_served(claims: Claims, settings: dict[str, str], taken: bool) -> None:
    """The closer name wins: the account's own, then that of its organization."""
    cloud = Listing(account(ONE), claims=claims)
    (found,) = cloud.enumerate(**settings).scopes[1:]
    assert (found.traits["standing"] == "outside") is taken
    if taken:
        why = cloud.scopes.outside(ONE)
        assert isinstance(why, Present)
        assert (why.health, why.code) == (Health.INACTIVE, "other-tenant")
        assert f"{ONE} belongs to tenant acme" in why.detail


@pytest.mark.parametrize(
    ("organization", "words"), [(HOME, f"no billing account below {HOME}, which"), ("", "no billing account, which")]
)
def test_listing_without_an_account_is_incomplete(organization: str, words: str) -> None:
    """A permission may be missing, so nothing may be concluded from it."""
    found = Listing().enumerate(ORGANIZATION=organization)
    assert not found.complete
    (problem,) = found.problems
    assert problem.code == "no-billing-accounts"
    assert words in problem.message
    assert "roles/billing.viewer" in problem.remedy


@pytest.mark.parametrize(("remedy", "shown"), [("Grant it.", "Grant it."), ("", RIGHTS_REMEDY)])
def test_refused_listing_is_incomplete_and_has_a_remedy(remedy: str, shown: str) -> None:
    """The project's targets are still reconciled."""
    found = Listing(error=Denied("denied", "no", remedy)).enumerate()
    assert (ids(found), found.complete) == ([], False)
    (problem,) = found.problems
    assert (problem.code, problem.remedy) == ("accounts-not-listed", shown)
    assert problem.message.endswith(": no")


def test_invalid_credentials_end_the_run() -> None:
    """Every other call would be refused as well."""
    with pytest.raises(RunStopped) as stopped:
        Listing(error=Denied(UNAUTHORIZED, "who are you")).enumerate()
    assert (stopped.value.code, stopped.value.message) == ("credentials", "who are you")
    assert stopped.value.remedy == CREDENTIALS_REMEDY


def test_missing_project_ends_the_run_before_accounts_are_listed() -> None:
    """Without it there is nowhere to deliver to."""

    def missing() -> None:
        raise RunStopped("project-missing", "no such project", "Create it.")

    cloud = Listing(account(ONE), read_project=missing)
    with pytest.raises(RunStopped, match="no such project"):
        cloud.enumerate()
    assert cloud.calls == []


def test_requested_account_that_is_malformed_or_unknown_is_a_problem_of_its_own() -> None:
    """The others are still read; a malformed one costs no call."""
    cloud = Listing(account(ONE))
    found = cloud.enumerate("x" * 50, TWO, ONE)
    assert ids(found) == [ONE]
    malformed, unknown = found.problems
    assert (malformed.code, malformed.scope) == ("account-malformed", "x" * 40)
    assert (unknown.code, unknown.scope) == ("account-not-found", TWO)
    assert [path for _, path in cloud.calls] == [f"v1/billingAccounts/{one}" for one in (TWO, ONE)]


def test_top_parent_is_that_of_the_master_account() -> None:
    """It is not known if the master account is not visible."""
    below = {"masterBillingAccount": "billingAccounts/M", "parent": "billingAccounts/M"}
    assert top_parent(below, {"billingAccounts/M": HOME}) == HOME
    assert top_parent(below, {}) == ""
    assert top_parent({"parent": HOME}, {}) == HOME
    assert top_parent({}, {}) == ""
