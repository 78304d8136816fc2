"""The GCP scenario: manual steps are reported, changes to exports and copies are detected and repaired.

The function runs as it does on Cloud Run: served by Google's functions-framework in a child process and called over
HTTP. Every expectation is checked against the live local cloud, through Google's own clients, and against the report.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cli.demo.environment import FULL_RUN, Lines
from cli.demo.gcp_environment import GcpEnvironment
from cli.demo.runner import Runner
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework
from shared.runtime.clock import SystemClock, VirtualClock
from tailpipe_exports import CODE

FUNCTION = "cli.demo.gcp_app:reconcile"
DAYS = 6  # of billing data
ROWS = 12  # a day in each table
LATE_ROWS = 5
# An account counts as silent only after rows arrived on three days; before that, it may be billed monthly.
STALE_DAYS, OLD_DAYS = 36, 40


@dataclass(frozen=True)
class Cast:
    """The billing accounts: console step done from the start, console step done later, and closed."""

    early: Sequence[str]
    later: Sequence[str]
    closed: str

    @property
    def open(self) -> list[str]:
        return [*self.early, *self.later]


@dataclass(frozen=True)
class Damage:
    """The changes: (account, day, kind) of the partition with late rows (`moved`) and of the deleted copy (`lost`).

    `stale` is the account whose data stopped, `outside` an account of another organization that became visible.
    """

    moved: tuple[str, str, str]
    files_before: Sequence[str]
    lost: tuple[str, str, str]
    stale: str
    outside: str


class GcpScenario:
    """Runs in one local project; each part is a method, so that a test can break one."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Run the scenario with `scopes` billing accounts, the last of them closed."""
        early = (scopes - 1) // 2
        # Virtual time starts early today, so that every run falls on the same day as the data.
        clock = VirtualClock(SystemClock().now().replace(hour=6, minute=0, second=0))
        with LocalGcp(accounts=scopes, done=early, history_days=DAYS, rows=ROWS, clock=clock) as gcp:
            names = list(gcp.accounts())
            cast = Cast(early=names[:early], later=names[early:-1], closed=names[-1])
            gcp.close_account(cast.closed)
            variables = {**gcp.environment(), "DELTAS": "1", "DELIVERY_TOPIC": gcp.announce_deliveries()}
            lines = Lines()
            with (
                FunctionsFramework(FUNCTION, variables, source=CODE, on_line=lines.take) as function,
                GcpEnvironment(runner, gcp, function, lines) as environment,
            ):
                runner.introduce(
                    f"A local GCP with {scopes} billing accounts, one of them closed, listens on {gcp.endpoint}.",
                    "It runs the real HTTP function in its own process,",
                    "served by Google's own functions-framework as on Cloud Run.",
                    "Time is virtual, so the hour between two runs takes no real time.",
                )
                self.begin(environment, cast)
                self.leave_alone(environment, cast)
                self.take_the_step(environment, cast)
                damage = self.damage(environment, cast)
                self.heal(environment, cast, damage)
                self.close_by_itself(environment, cast, damage)
                self.heal_by_event(environment, cast)
                self.look_again(environment)
                environment.keep()

    def begin(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Run 1 copies what is exported, and reports the manual steps."""
        why = f"The console step is done for {len(cast.early)} accounts. Google has no API for it: it is manual."
        with environment.runner.step("First run", why) as step:
            report = environment.invoke(step, FULL_RUN)
            environment.check_ok(step, report)
            environment.check_copied(step, "every partition has its copy, each row once", cast.early)
            environment.check_manual(
                step, report, "the manual step of all other accounts is reported, with its link", cast.later
            )
            environment.show_step(report)
            copies = [name for name in environment.gcp.copies() if name.startswith(cast.closed)]
            steps = [one for one in environment.manual_steps(report) if one.get("scope") == cast.closed]
            detail = f"{cast.closed} has {len(copies)} files and {len(steps)} steps"
            step.check("the closed account is left alone", not copies and not steps, detail)

    def leave_alone(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Run 2 changes nothing."""
        with environment.runner.step("Second run", "Nothing has changed; the manual step is still reported.") as step:
            environment.clear_calls()
            report = environment.invoke(step, FULL_RUN)
            environment.check_ok(step, report)
            environment.check_unwritten(step, report)
            environment.check_manual(step, report, "the same steps are reported", cast.later)

    def take_the_step(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Run 3 detects that an operator enabled exports in the console."""
        gcp = environment.gcp
        environment.runner.heading("Meanwhile", "An operator follows the links.")
        for account in cast.later:
            gcp.console_step(account)
        environment.runner.event(f"the billing export of {len(cast.later)} more accounts is enabled in the console")
        gcp.stream(days=1, rows=ROWS, accounts=cast.later, kinds=["pricing"])
        environment.runner.event("their pricing data arrives; usage data takes Google a few more hours")
        with environment.runner.step("Third run", "The function detects that the step is done.") as step:
            report = environment.invoke(step, FULL_RUN)
            environment.check_ok(step, report)
            environment.check_manual(step, report, "no manual step is left", [])
            awaiting = report["scopes"]["awaiting_first_data"]
            detail = f"{awaiting} accounts await their first rows"
            step.check("the new exports await their first data", awaiting == len(cast.later), detail)

    def damage(self, environment: GcpEnvironment, cast: Cast) -> Damage:
        """Change billing data, copies and visible accounts between two runs."""
        gcp, say = environment.gcp, environment.runner.event
        today = gcp.clock.now().date()
        # The stale account is a new one: making an already copied table stale would require removing rows from it.
        account, stale = cast.early[0], cast.later[0]
        moved = (account, (today - timedelta(days=4)).isoformat(), "standard")
        lost = (account, (today - timedelta(days=2)).isoformat(), "detailed")
        outside = gcp.add_account_elsewhere("a partner's account")
        damage = Damage(moved, environment.files_of(*moved), lost, stale, outside)
        environment.runner.heading("Meanwhile", "The cloud changes, and the function is not notified.")
        gcp.stream(days=DAYS, rows=ROWS, accounts=cast.later[1:])
        gcp.stream(days=OLD_DAYS, rows=ROWS, accounts=[stale])
        say(f"the first rows of the new exports arrive: {OLD_DAYS} days for {stale}, {DAYS} days for all others")
        gcp.late_data(account, moved[1], moved[2], rows=LATE_ROWS)
        say(f"{LATE_ROWS} late rows arrive in partition {moved[1]} of {account} ({moved[2]})")
        gone = gcp.delete_copy(account, lost[1], lost[2])
        say(f"an operator deletes the copy of {lost[1]} of {account} ({lost[2]}): {len(gone)} files")
        gcp.make_stale(stale, STALE_DAYS * 24)
        say(f"then Google delivers nothing more for account {stale}: its tables are {STALE_DAYS} days old")
        say(f"account {outside} of another organization becomes visible to the function")
        return damage

    def heal(self, environment: GcpEnvironment, cast: Cast, damage: Damage) -> None:
        """Run 4 repairs what it can, and reports the rest."""
        expected = environment.partitions_without_current_copy(cast.open)
        with environment.runner.step(
            "Fourth run", "One run must detect all five changes and repair what can be repaired."
        ) as step:
            environment.clear_calls()
            environment.deliveries()
            report = environment.invoke(step, self.healing_request())
            status = str(report["status"])
            step.check("the run is degraded because data stopped arriving", status == "degraded", status)
            environment.check_jobs(step, expected)
            now = environment.files_of(*damage.moved)
            detail = f"{environment.rows_named(*damage.moved)} rows named by the manifest"
            fresh = bool(now) and not set(now) & set(damage.files_before)
            step.check("the partition that changed was copied again", fresh, detail)
            kept = set(environment.gcp.copies()) >= set(damage.files_before)
            detail = f"{len(damage.files_before)} files of the previous copy"
            step.check("readers of the previous copy can continue", kept, detail)
            changed = environment.changes_of(*damage.moved)
            right = changed == [(sorted(now), sorted(damage.files_before))]
            detail = ", ".join(f"{len(added)} files added and {len(gone)} gone" for added, gone in changed)
            step.check("one delivery event says what changed in that partition", right, detail or "no event")
            step.check("the deleted copy is back", bool(environment.files_of(*damage.lost)), f"{damage.lost[1]}")
            environment.check_copied(step, "every partition has its copy, each row once", cast.open)
            environment.check_manual(step, report, "the stale export is reported, with its link", [damage.stale])
            scopes, late = report["scopes"], report["deliveries"]["late"]
            right = late > 0 and scopes["delivering"] == len(cast.open) - 1
            step.check(
                "accounts that receive data are counted separately",
                right,
                f"{scopes['delivering']} delivering, {late} late",
            )
            reasons = {one["reason"]: one["examples"] for one in report["excluded"]}
            right = reasons == {"outside-organization": [damage.outside]} and scopes["excluded"] == 1
            step.check("the other organization's account is excluded, with the reason", right, str(reasons))
            environment.show_step(report)

    def healing_request(self) -> Mapping[str, Any]:
        """Return the body of the call that repairs."""
        return FULL_RUN

    def close_by_itself(self, environment: GcpEnvironment, cast: Cast, damage: Damage) -> None:
        """Run 5 detects that Google delivers again."""
        environment.runner.heading("Meanwhile", "Google recovers.")
        environment.gcp.resume(damage.stale)
        environment.gcp.stream(days=1, rows=ROWS, accounts=[damage.stale])
        environment.runner.event(f"rows of account {damage.stale} arrive again")
        with environment.runner.step("Fifth run", "Data arrives again, and the problem is no longer reported.") as step:
            report = environment.invoke(step, FULL_RUN)
            environment.check_ok(step, report)
            environment.check_manual(step, report, "no manual step is left", [])
            environment.check_covered(step, report, cast.open, [damage.outside])
            environment.check_copied(step, "every partition has its copy, each row once", cast.open)

    def heal_by_event(self, environment: GcpEnvironment, cast: Cast) -> None:
        """Run 6 is triggered by an event and restores the deleted copy before the next scheduled run."""
        gcp, runner, account = environment.gcp, environment.runner, cast.early[0]
        day = (gcp.clock.now().date() - timedelta(days=1)).isoformat()
        runner.heading("Meanwhile", "A copy is deleted in a project with Data Access audit logs.")
        gcp.log_data_access()
        gone = gcp.delete_copy(account, day)
        runner.event(f"an operator deletes the copy of {day} of {account}: {len(gone)} files")
        runner.event("the audit log's entries go to Pub/Sub, which pushes them to the function")
        why = "The events identify what changed, and a run checks only that, without waiting for the schedule."
        with runner.step("An event", why) as step:
            report = environment.deliver_events(step)
            events = report.get("events") or {}
            detail = f"{events.get('count')} events, {events.get('latency_s')} s after the first"
            step.check("the events triggered one run", report["trigger"] == "event", detail)
            checked = {one["scope"] for one in report["actions"]} - {gcp.project, "*"}
            step.check("the run checks only that account", checked == {account}, ", ".join(sorted(checked)))
            back = bool(environment.files_of(account, day, "standard"))
            step.check("the copy is back before the next scheduled run", back, day)
            environment.check_copied(step, "every partition has its copy, each row once", cast.open)

    def look_again(self, environment: GcpEnvironment) -> None:
        """Run a plan and expect nothing left to do."""
        with environment.runner.step("A plan", "A dry run checks everything once more and writes nothing.") as step:
            report = environment.plan_again(step)
            environment.check_ok(step, report)
