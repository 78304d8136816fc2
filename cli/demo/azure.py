"""The Azure story: a tenant is onboarded, left alone, damaged, throttled and healed, in the local Azure's own time.

The function runs as on Azure: its real app in a child process, in Azure's own worker runtime, by timer and by HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cli.demo.azure_environment import COST, WITHOUT_FOCUS, Lines, Scene, spoken, why
from cli.demo.runner import Stage, Step, written
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.worker import AzureWorker
from localcloud.azure.state import Behavior
from shared.runtime.clock import VirtualClock
from tailpipe_exports import CODE

APP = "cli.demo.azure_app"
FULL_RUN: Mapping[str, Any] = {}
DRY_RUN: Mapping[str, Any] = {"dry_run": True}
QUOTA = 200  # Cost Management calls a minute
RIGHTS_LAG = timedelta(minutes=30)
THROTTLED_S = 45
SILENCE = timedelta(days=3)
DAY, HOUR = timedelta(days=1), timedelta(hours=1)


@dataclass(frozen=True)
class Damage:
    """What happened to the tenant: subscriptions that joined, were disabled, or whose exports somebody changed."""

    joined: str
    disabled: str
    deleted: str
    paused: str
    diverted: str


class AzureStory:
    """Plays in one local tenant; each part is a method, so that a test can spoil one."""

    def tell(self, stage: Stage, scopes: int) -> None:
        """Play the story with so many subscriptions; every tenth (one at least) has an offer without FOCUS."""
        offers = {"ea": max(1, min(scopes, 10) - 1), WITHOUT_FOCUS: 1}
        behavior = Behavior(cost_lag_s=RIGHTS_LAG.total_seconds())
        with LocalAzure(subscriptions=scopes, clock=VirtualClock(), agreements=offers, behavior=behavior) as azure:
            # With this budget one run looks at everything: the story does not wait for a second round.
            budget = max(1000, 3 * scopes)
            environment = {**azure.environment(), "EXPORTS": "actual,focus", "CALL_BUDGET": str(budget)}
            lines = Lines()
            with AzureWorker(APP, environment, task_root=CODE, on_line=lines.take) as function:
                scene = Scene(stage, azure, function, lines)
                stage.say(f"A local Azure with {scopes} subscriptions answers on {azure.endpoint}.")
                stage.say("In it runs the real function, by its timer and by HTTP, in a process of its own,")
                stage.say(f"under {function.worker or 'nothing: it does not start'}.")
                stage.say(f"Its time is virtual, so {QUOTA} Cost Management calls a minute cost nobody a minute.")
                stage.say("Each ✓ was looked up in that cloud, not only in the report.")
                self.onboard(scene)
                self.leave_alone(scene)
                damage = self.damage(scene)
                self.heal(scene, damage)
                self.cover_the_newcomer(scene, damage)
                self.fall_silent(scene, damage)
                self.deliver_again(scene, damage)
                self.look_again(scene)

    def onboard(self, scene: Scene) -> None:
        """Run 1, by the timer, creates what is missing."""
        about = "The timer ticks. No export exists yet: the run creates two for each subscription."
        with scene.stage.step("First run", about) as step:
            report = scene.tick(step)
            scene.check_covered(step, report)
            scene.check_exports(step, "every subscription has its export", scene.active())
            refusing = scene.without_focus()
            made = [one for one in refusing if len(scene.azure.exports(one)) == 1]
            kinds = {export["properties"]["definition"]["type"] for one in made for export in scene.azure.exports(one)}
            skipped = report["outcomes"].get("CREATE", {}).get("excluded", 0)
            step.check(
                "where the agreement offers no FOCUS, it is skipped and Usage taken instead",
                len(made) == len(refusing) == skipped and kinds == {"Usage"},
                f"{len(made)} of {len(refusing)} have one export, of type {', '.join(sorted(kinds)) or '-'}",
            )
            others = [one for one in scene.active() if one not in refusing]
            both = sum(scene.types(one) == {"ActualCost", "FocusCost"} for one in others)
            step.check("all others have FOCUS too", both == len(others), f"{both} of {len(others)}")
            scene.check_quota(step)
            remembered = scene.memory().get("scopes", {})
            everyone = set(scene.azure.subscription_ids)
            detail = f"{len(remembered)} subscriptions in its state"
            step.check("the run remembers every subscription", everyone <= remembered.keys(), detail)

    def leave_alone(self, scene: Scene) -> None:
        """Run 2, by HTTP, changes nothing."""
        about = "A day later the exports have delivered their data; there is nothing to do. Somebody asks by HTTP."
        with scene.stage.step("Second run", about) as step:
            scene.pass_time(DAY)
            delivered = scene.azure.deliver()
            scene.stage.event(f"{delivered} exports deliver their data")
            scene.azure.calls.clear()
            refused = scene.function.invoke_http("POST", "/api/reconcile", FULL_RUN, key="guessed")
            step.check("a wrong function key is refused", refused.status == 401, f"status {refused.status}")
            report = scene.post(step, FULL_RUN)
            scene.check_covered(step, report)
            step.check("the report has no write", written(report) == 0, f"{written(report)} writes")
            scene.check_no_write(step)
            scene.check_quota(step)

    def damage(self, scene: Scene) -> Damage:
        """Let the world change between two runs."""
        azure, say = scene.azure, scene.stage.event
        standard = [one for one in scene.active() if one not in scene.without_focus()]
        # The first holds the storage account and stays; few subscriptions have to share the damage.
        deleted, disabled, *rest = standard
        damage = Damage(azure.join_subscription("newcomer"), disabled, deleted, rest[0], rest[-1])
        scene.stage.chapter("Meanwhile", "Things happen that nobody tells the function.")
        say(f"subscription {damage.joined} joins; Cost Management will know of its rights in {spoken(RIGHTS_LAG)}")
        azure.suspend_subscription(damage.disabled)
        say(f"subscription {damage.disabled} is disabled")
        gone = azure.delete_export(damage.deleted)
        say(f"somebody deletes {gone} exports of subscription {damage.deleted}")
        azure.set_schedule_inactive(damage.paused)
        say(f"somebody pauses the exports of subscription {damage.paused}")
        azure.change_destination(damage.diverted, name=f"TailpipeDataExport-{damage.diverted[-6:]}", folder="elsewhere")
        say(f"somebody sends an export of subscription {damage.diverted} to another folder")
        azure.throttle(THROTTLED_S)
        say(f"and others use up the tenant's quota: everybody gets 429 for {THROTTLED_S} s")
        return damage

    def heal(self, scene: Scene, damage: Damage) -> None:
        """Run 3 puts right what it can, throttled as it is."""
        about = "The timer ticks. One run has to wait out the burst, mend all of it, and leave the newcomer for later."
        with scene.stage.step("Third run", about) as step:
            scene.azure.calls.clear()
            report = self.run_to_heal(scene, step)
            step.check("the run reports ok", report["status"] == "ok", why(report))
            refused = scene.azure.calls.count(COST, status=429)
            answered = scene.azure.calls.count(COST) - refused
            detail = f"{refused} refused, {answered} answered"
            step.check("it met the burst, and slowed down", 0 < refused < answered, detail)
            scene.check_exports(step, "the deleted exports are back", [damage.deleted], both=True)
            scene.check_exports(step, "the paused exports run again", [damage.paused], both=True)
            scene.check_exports(step, "the diverted export delivers to its folder again", [damage.diverted], both=True)
            left = len(scene.azure.exports(damage.disabled))
            writes = scene.writes(damage.disabled)
            step.check("the disabled subscription is left alone", left == 2 and not writes, f"{len(writes)} writes")
            deferred, seen = report["scopes"]["deferred"], len(scene.azure.exports(damage.joined))
            detail = f"{deferred} deferred, {seen} exports in it"
            step.check("the newcomer is deferred, for its rights are not there yet", deferred == 1 and not seen, detail)
            others = len(scene.active()) - 1 - len(scene.without_focus())
            covered = report["scopes"]["covered"] + report["scopes"]["pending"]
            step.check(
                "everybody else whose agreement offers FOCUS is covered", covered == others, f"{covered} of {others}"
            )
            made, mended = _accepted(report, "CREATE"), _accepted(report, "REPAIR")
            expected = made == 2 and mended == (2 if damage.paused == damage.diverted else 3)
            step.check("the report says what was healed", expected, f"{made} created, {mended} repaired")

    def run_to_heal(self, scene: Scene, step: Step) -> Mapping[str, Any]:
        """Let the function run once more and return its report."""
        return scene.tick(step)

    def cover_the_newcomer(self, scene: Scene, damage: Damage) -> None:
        """Run 4, by the timer, finds the newcomer's rights."""
        about = "An hour later the newcomer's rights have spread, and the timer ticks again."
        with scene.stage.step("Fourth run", about) as step:
            scene.pass_time(HOUR)
            scene.azure.calls.clear()
            report = scene.tick(step)
            scene.check_covered(step, report)
            scene.check_exports(step, "the newcomer has its exports", [damage.joined], both=True)
            others = [one for one in scene.azure.subscription_ids if one != damage.joined]
            elsewhere = [call for one in others for call in scene.writes(one)]
            step.check("nothing else was written", not elsewhere, f"{len(elsewhere)} writes to others")

    def fall_silent(self, scene: Scene, damage: Damage) -> None:
        """Run 5 sees exports whose runs bring nothing, while all others deliver."""
        silent = damage.paused
        scene.azure.deliver()
        scene.stage.chapter("Meanwhile", "Exports that are as they should be bring nothing any more.")
        scene.azure.stop_data(silent)
        scene.stage.event(f"the exports of subscription {silent} end their runs without data")
        scene.pass_time(SILENCE)
        scene.azure.deliver()
        scene.stage.event(f"{SILENCE.days} days later all others have delivered")
        with scene.stage.step("Fifth run", "An export that exists is not one that delivers.") as step:
            report = scene.post(step, FULL_RUN)
            scopes, late = report["scopes"], report["deliveries"]["late"]
            step.check("both silent exports are told as late", late == 2, f"{late} late")
            expected = len(scene.active()) - 1
            detail = f"{scopes['delivering']} of {expected}"
            step.check("everybody else's data arrives", scopes["delivering"] == expected, detail)

    def deliver_again(self, scene: Scene, damage: Damage) -> None:
        """Run 6 sees that the data is back."""
        scene.azure.resume_data(damage.paused)
        scene.pass_time(DAY)
        scene.azure.deliver()
        scene.stage.event("a day later all exports deliver again")
        with scene.stage.step("Sixth run", "What was told is over by itself.") as step:
            report = scene.tick(step)
            scene.check_covered(step, report)
            late = report["deliveries"]["late"]
            step.check("nothing is late", late == 0, f"{late} late")

    def look_again(self, scene: Scene) -> None:
        """A plan says that nothing is left to do."""
        with scene.stage.step("A plan", "A dry run looks at everything once more and writes nothing.") as step:
            scene.azure.calls.clear()
            report = scene.post(step, DRY_RUN)
            scene.check_covered(step, report)
            planned = sum(report["outcomes"].get(verb, {}).get("planned", 0) for verb in ("CREATE", "REPAIR", "ADOPT"))
            step.check("nothing is left to do", planned == 0, f"{planned} writes planned")
            scene.check_no_write(step)
            calls = scene.azure.calls.count()
            status = scene.function.invoke_http("GET", "/api/status")
            asked = scene.azure.calls.count() - calls
            told = status.json()["scopes"] if status.status == 200 else {}
            step.check(
                "GET /api/status tells the coverage from memory alone",
                asked == 0 and told.items() >= {k: v for k, v in report["scopes"].items() if k != "total"}.items(),
                f"{told.get('covered')} of {told.get('active')} covered, {asked} calls to Resource Manager",
            )


def _accepted(report: Mapping[str, Any], verb: str) -> int:
    results = report["outcomes"].get(verb, {})
    return int(results.get("done", 0)) + int(results.get("pending", 0))
