"""The Azure scenario: a tenant is onboarded, left alone, damaged, throttled and repaired, in virtual time.

The function runs as it does on Azure: the real app in a child process, in Azure's own worker runtime, triggered by a
timer and by HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cli.demo.azure_environment import COST, WITHOUT_FOCUS, AzureEnvironment, spoken
from cli.demo.environment import FULL_RUN, Lines, accepted
from cli.demo.runner import Runner, Step
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tailpipe_exports import CODE

APP = "cli.demo.azure_app"
QUOTA = 200  # Cost Management calls a minute
RIGHTS_LAG = timedelta(minutes=30)
THROTTLED_S = 45
SILENCE = timedelta(days=3)
LOG_DELAY = timedelta(minutes=10)  # documented: 3 to 20 minutes
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class Damage:
    """The subscriptions that joined, were disabled, or whose exports an operator changed."""

    joined: str
    disabled: str
    deleted: str
    paused: str
    diverted: str


class AzureScenario:
    """Runs in one local tenant; each part is a method, so that a test can break one."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Run the scenario with `scopes` subscriptions; one in ten, and at least one, has an offer without FOCUS."""
        offers = {"ea": max(1, min(scopes, 10) - 1), WITHOUT_FOCUS: 1}
        behavior = Behavior(cost_lag_s=RIGHTS_LAG.total_seconds())
        with LocalAzure(
            subscriptions=scopes, clock=VirtualClock(), agreements=offers, behavior=behavior, deliveries=True
        ) as azure:
            # This budget lets a single run check everything, so that the scenario needs no second round.
            budget = max(1000, 3 * scopes)
            variables = {**azure.environment(), "EXPORTS": "actual,focus", "CALL_BUDGET": str(budget)}
            variables["ACTIVITY_LOG_WORKSPACE"] = azure.send_activity_log()
            azure.event_faults(delay_s=LOG_DELAY.total_seconds())
            lines = Lines()
            with AzureWorker(APP, variables, task_root=CODE, on_line=lines.take) as function:
                environment = AzureEnvironment(runner, azure, function, lines)
                runner.introduce(
                    f"A local Azure with {scopes} subscriptions listens on {azure.endpoint}.",
                    "It runs the real function in its own process, triggered by a timer and by HTTP,",
                    f"under {function.worker or 'no worker, because none could be started'}.",
                    f"Time is virtual, so the quota of {QUOTA} Cost Management calls a minute costs no real time.",
                )
                self.onboard(environment)
                self.leave_alone(environment)
                damage = self.damage(environment)
                self.heal(environment, damage)
                self.cover_the_newcomer(environment, damage)
                self.hear_of_a_deletion(environment, damage)
                self.fall_silent(environment, damage)
                self.deliver_again(environment, damage)
                self.look_again(environment)
                environment.keep()

    def onboard(self, environment: AzureEnvironment) -> None:
        """Run 1, triggered by the timer, creates what is missing."""
        about = "The timer fires. No export exists yet; the run creates two for each subscription."
        with environment.runner.step("First run", about) as step:
            report = environment.tick(step)
            environment.check_covered(step, report)
            environment.check_exports(step, "every subscription has its export", environment.active())
            refusing = environment.without_focus()
            made = [one for one in refusing if len(environment.azure.exports(one)) == 1]
            kinds = {
                export["properties"]["definition"]["type"] for one in made for export in environment.azure.exports(one)
            }
            skipped = report["outcomes"].get("CREATE", {}).get("excluded", 0)
            step.check(
                "subscriptions whose agreement lacks FOCUS get a Usage export instead",
                len(made) == len(refusing) == skipped and kinds == {"Usage"},
                f"{len(made)} of {len(refusing)} have one export, of type {', '.join(sorted(kinds)) or '-'}",
            )
            others = [one for one in environment.active() if one not in refusing]
            both = sum(environment.types(one) == {"ActualCost", "FocusCost"} for one in others)
            step.check("all others also have a FOCUS export", both == len(others), f"{both} of {len(others)}")
            environment.check_quota(step)
            known = environment.memory().get("scopes", {})
            everyone = set(environment.azure.subscription_ids)
            detail = f"{len(known)} subscriptions in the state"
            step.check("the state lists every subscription", everyone <= known.keys(), detail)

    def leave_alone(self, environment: AzureEnvironment) -> None:
        """Run 2, triggered by HTTP, changes nothing."""
        about = "A day later the exports have delivered their data; there is nothing to do. HTTP triggers the run."
        with environment.runner.step("Second run", about) as step:
            environment.pass_time(DAY)
            delivered = environment.azure.deliver()
            environment.runner.event(f"{delivered} exports deliver their data")
            environment.clear_calls()
            refused = environment.function.invoke_http("POST", "/api/reconcile", FULL_RUN, key="guessed")
            step.check("an invalid function key is rejected", refused.status == 401, f"status {refused.status}")
            report = environment.invoke(step, FULL_RUN)
            environment.check_covered(step, report)
            environment.check_unwritten(step, report)
            environment.check_quota(step)

    def damage(self, environment: AzureEnvironment) -> Damage:
        """Change the tenant between two runs."""
        azure, say = environment.azure, environment.runner.event
        standard = [one for one in environment.active() if one not in environment.without_focus()]
        # The first holds the storage account and stays enabled; with few subscriptions, several changes hit the same.
        deleted, disabled, *rest = standard
        damage = Damage(azure.join_subscription("newcomer"), disabled, deleted, rest[0], rest[-1])
        environment.runner.heading("Meanwhile", "The cloud changes, and the function is not notified.")
        say(f"subscription {damage.joined} joins; its role assignments reach Cost Management in {spoken(RIGHTS_LAG)}")
        azure.suspend_subscription(damage.disabled)
        say(f"subscription {damage.disabled} is disabled")
        gone = azure.delete_export(damage.deleted)
        say(f"an operator deletes {gone} exports of subscription {damage.deleted}")
        azure.set_schedule_inactive(damage.paused)
        say(f"an operator pauses the exports of subscription {damage.paused}")
        azure.change_destination(damage.diverted, name=f"TailpipeDataExport-{damage.diverted[-6:]}", folder="elsewhere")
        say(f"an operator sends an export of subscription {damage.diverted} to another folder")
        azure.throttle(THROTTLED_S)
        say(f"other callers exhaust the tenant's quota: every call returns 429 for {THROTTLED_S} s")
        return damage

    def heal(self, environment: AzureEnvironment, damage: Damage) -> None:
        """Run 3 repairs what it can while it is throttled."""
        about = (
            "The timer fires. One run must wait out the throttling, repair everything, and defer the new subscription."
        )
        with environment.runner.step("Third run", about) as step:
            environment.clear_calls()
            report = self.run_to_heal(environment, step)
            environment.check_ok(step, report)
            refused = environment.azure.calls.count(COST, status=429)
            answered = environment.azure.calls.count(COST) - refused
            detail = f"{refused} throttled, {answered} answered"
            step.check("the run was throttled and slowed down", 0 < refused < answered, detail)
            environment.check_exports(step, "the deleted exports are back", [damage.deleted], both=True)
            environment.check_exports(step, "the paused exports are active again", [damage.paused], both=True)
            environment.check_exports(
                step, "the diverted export delivers to its folder again", [damage.diverted], both=True
            )
            left = len(environment.azure.exports(damage.disabled))
            writes = environment.writes(damage.disabled)
            step.check("the disabled subscription is left alone", left == 2 and not writes, f"{len(writes)} writes")
            deferred, exports = report["scopes"]["deferred"], len(environment.azure.exports(damage.joined))
            detail = f"{deferred} deferred, {exports} exports in it"
            step.check(
                "the new subscription is deferred until its role assignments take effect",
                deferred == 1 and not exports,
                detail,
            )
            others = len(environment.active()) - 1 - len(environment.without_focus())
            covered = report["scopes"]["covered"] + report["scopes"]["pending"]
            step.check(
                "every other subscription whose agreement offers FOCUS is covered",
                covered == others,
                f"{covered} of {others}",
            )
            created, repaired = accepted(report, "CREATE"), accepted(report, "REPAIR")
            expected = created == 2 and repaired == (2 if damage.paused == damage.diverted else 3)
            step.check("the report counts the repairs", expected, f"{created} created, {repaired} repaired")

    def run_to_heal(self, environment: AzureEnvironment, step: Step) -> Mapping[str, Any]:
        """Let the function run once more and return its report."""
        return environment.tick(step)

    def cover_the_newcomer(self, environment: AzureEnvironment, damage: Damage) -> None:
        """Run 4, triggered by the timer, covers the new subscription because its role assignments are now in effect."""
        about = "An hour later the new subscription's role assignments are in effect, and the timer fires again."
        with environment.runner.step("Fourth run", about) as step:
            environment.pass_time(HOUR)
            environment.clear_calls()
            report = environment.tick(step)
            environment.check_covered(step, report)
            environment.check_exports(step, "the new subscription has its exports", [damage.joined], both=True)
            others = [one for one in environment.azure.subscription_ids if one != damage.joined]
            elsewhere = [call for one in others for call in environment.writes(one)]
            step.check("nothing else was written", not elsewhere, f"{len(elsewhere)} writes to other subscriptions")

    def hear_of_a_deletion(self, environment: AzureEnvironment, damage: Damage) -> None:
        """Between two scheduled runs, the activity log reports deleted exports, and an event run recreates them."""
        about = "Exports are deleted long before the next scheduled run. A second timer checks for events regularly."
        with environment.runner.step("An event run", about) as step:
            environment.pass_time(LOG_DELAY)
            environment.azure.delete_export(damage.joined)
            environment.runner.event(f"the exports of subscription {damage.joined} are deleted")
            environment.pass_time(LOG_DELAY)
            environment.clear_calls()
            report = environment.tick(step, "changes_timer")
            latency = report.get("events", {}).get("latency_s") or 0
            environment.check_exports(step, "the deleted exports are back", [damage.joined], both=True)
            soon = 0 < latency < HOUR.total_seconds()
            step.check(
                "they are back before the next scheduled run",
                soon,
                f"{latency / 60:.0f} minutes after they were deleted",
            )
            others = [one for one in environment.azure.subscription_ids if one != damage.joined]
            elsewhere = [call for one in others for call in environment.writes(one)]
            step.check("nothing else was written", not elsewhere, f"{len(elsewhere)} writes to other subscriptions")

    def fall_silent(self, environment: AzureEnvironment, damage: Damage) -> None:
        """Run 5 detects exports whose runs deliver nothing while all others deliver data."""
        silent = damage.paused
        environment.azure.deliver()
        environment.runner.heading("Meanwhile", "Correctly configured exports stop delivering.")
        environment.azure.stop_data(silent)
        environment.runner.event(f"the exports of subscription {silent} finish their runs without data")
        environment.pass_time(SILENCE)
        environment.azure.deliver()
        environment.runner.event(f"{SILENCE.days} days later all others have delivered")
        with environment.runner.step("Fifth run", "An export can exist and still deliver nothing.") as step:
            report = environment.invoke(step, FULL_RUN)
            scopes, late = report["scopes"], report["deliveries"]["late"]
            step.check("both silent exports are reported as late", late == 2, f"{late} late")
            expected = len(environment.active()) - 1
            detail = f"{scopes['delivering']} of {expected}"
            step.check("all other data arrives", scopes["delivering"] == expected, detail)

    def deliver_again(self, environment: AzureEnvironment, damage: Damage) -> None:
        """Run 6 detects that data arrives again."""
        environment.azure.resume_data(damage.paused)
        environment.pass_time(DAY)
        environment.azure.world.manifest_events.waiting.clear()  # the runs have announced these
        environment.azure.event_faults()  # only the activity log was late
        environment.azure.deliver()
        environment.runner.event("a day later all exports deliver again; Event Grid reports each manifest")
        with environment.runner.step("Sixth run", "Data arrives again, and the problem is no longer reported.") as step:
            self.check_announced(environment, step)
            report = environment.tick(step)
            environment.check_covered(step, report)
            late = report["deliveries"]["late"]
            step.check("nothing is late", late == 0, f"{late} late")

    def check_announced(self, environment: AzureEnvironment, step: Step) -> None:
        """Deliver Event Grid's events to the function, and check that it published what each delivery changed."""
        before = len(environment.azure.world.published)
        accepted = environment.push_events()
        events = [one.event["data"] for one in environment.azure.world.published[before:]]
        published = all(accepted) and 0 < len(accepted) == len(events)
        step.check("each delivery is published at once", published, f"{len(events)} of {len(accepted)} events")
        deltas = [one["delta"] for one in events]
        named = all(one["added"] for one in deltas)
        first = f"{len(deltas[0]['added'])} file added, {len(deltas[0]['gone'])} gone" if deltas else "nothing"
        step.check("each says which files replace which", named, f"the first: {first}")

    def look_again(self, environment: AzureEnvironment) -> None:
        """Run a plan and expect nothing left to do."""
        with environment.runner.step("A plan", "A dry run checks everything once more and writes nothing.") as step:
            report = environment.plan_again(step)
            environment.check_covered(step, report)
            calls = environment.azure.calls.count()
            status = environment.function.invoke_http("GET", "/api/status")
            asked = environment.azure.calls.count() - calls
            shown = status.json()["scopes"] if status.status == 200 else {}
            step.check(
                "GET /api/status reports the coverage from the state alone",
                asked == 0 and shown.items() >= {k: v for k, v in report["scopes"].items() if k != "total"}.items(),
                f"{shown.get('covered')} of {shown.get('active')} covered, {asked} calls to Resource Manager",
            )
