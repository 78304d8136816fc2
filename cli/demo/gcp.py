"""The GCP story: what only a person can do is told, what happens to exports and copies is noticed and healed.

The function runs as on Cloud Run: served by Google's functions-framework in a child process, called over HTTP. What is
checked is the live local cloud, asked through Google's own clients, and the report; neither is believed without the
other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cli.demo.gcp_environment import Scene
from cli.demo.runner import Lines, Stage, written
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.runtime.framework import FunctionsFramework
from tailpipe_exports import CODE

FUNCTION = "gcp_function.handler:reconcile"
FULL_RUN: Mapping[str, Any] = {}
DRY_RUN: Mapping[str, Any] = {"dry_run": True}
DAYS = 6  # of billing data
ROWS = 12  # a day in each table
LATE_ROWS = 5
# Until rows came on three days an account may be one that is billed once a month: only after that it is silent.
STALE_DAYS, OLD_DAYS = 36, 40


@dataclass(frozen=True)
class Cast:
    """Who plays: the accounts whose step is taken from the beginning, those whose is taken later, the closed one."""

    early: Sequence[str]
    later: Sequence[str]
    closed: str

    @property
    def open(self) -> list[str]:
        return [*self.early, *self.later]


@dataclass(frozen=True)
class Damage:
    """What happened: (account, day, kind) of the partition that got late rows and of the copy that was deleted.

    `stale` is the account whose data stopped, `outside` one of another organization that became visible.
    """

    moved: tuple[str, str, str]
    files_before: Sequence[str]
    lost: tuple[str, str, str]
    stale: str
    outside: str


class GcpStory:
    """Plays in one local project; each part is a method, so that a test can spoil one."""

    def tell(self, stage: Stage, scopes: int) -> None:
        """Play the story with so many billing accounts, the last of them closed."""
        early = (scopes - 1) // 2
        with LocalGcp(accounts=scopes, done=early, history_days=DAYS, rows=ROWS) as gcp:
            names = list(gcp.accounts())
            cast = Cast(early=names[:early], later=names[early:-1], closed=names[-1])
            gcp.close_account(cast.closed)
            lines = Lines()
            with (
                FunctionsFramework(FUNCTION, gcp.environment(), source=CODE, on_line=lines.take) as function,
                Scene(stage, gcp, function, lines) as scene,
            ):
                stage.say(f"A local GCP with {scopes} billing accounts, one of them closed, answers on {gcp.endpoint}.")
                stage.say("In it runs the real HTTP function, in a process of its own,")
                stage.say("served by Google's own functions-framework as on Cloud Run.")
                stage.say("Each ✓ was looked up in that cloud, not only in the report.")
                self.begin(scene, cast)
                self.leave_alone(scene, cast)
                self.take_the_step(scene, cast)
                damage = self.damage(scene, cast)
                self.heal(scene, cast, damage)
                self.close_by_itself(scene, cast, damage)
                self.look_again(scene)

    def begin(self, scene: Scene, cast: Cast) -> None:
        """Run 1 copies what is exported, and tells what only a person can do."""
        why = f"The console step is done for {len(cast.early)} accounts. Google has no API for it: a person has to."
        with scene.stage.step("First run", why) as step:
            report = scene.invoke(step, FULL_RUN)
            scene.check_ok(step, report)
            scene.check_copied(step, "every partition has its copy, each row once", cast.early)
            scene.check_told(step, report, "the others' step is told, with its link", cast.later)
            scene.show_step(report)
            copies = [name for name in scene.gcp.copies() if name.startswith(cast.closed)]
            told = [one for one in scene.told(report) if one.get("scope") == cast.closed]
            detail = f"{cast.closed} has {len(copies)} files and {len(told)} steps"
            step.check("the closed account is left alone", not copies and not told, detail)

    def leave_alone(self, scene: Scene, cast: Cast) -> None:
        """Run 2 changes nothing."""
        with scene.stage.step("Second run", "Nothing has happened; the step is still told.") as step:
            scene.gcp.clear_calls()
            report = scene.invoke(step, FULL_RUN)
            scene.check_ok(step, report)
            step.check("the report has no write", written(report) == 0, f"{written(report)} writes")
            scene.check_no_write(step)
            scene.check_told(step, report, "the same steps are told", cast.later)

    def take_the_step(self, scene: Scene, cast: Cast) -> None:
        """Run 3 notices by itself that a person was in the console."""
        gcp = scene.gcp
        scene.stage.chapter("Meanwhile", "A person follows the links.")
        for account in cast.later:
            gcp.console_step(account)
        scene.stage.event(f"the billing export of {len(cast.later)} more accounts is switched on in the console")
        gcp.stream(days=1, rows=ROWS, accounts=cast.later, kinds=["pricing"])
        scene.stage.event("their prices arrive; their usage takes Google some hours more")
        with scene.stage.step("Third run", "Nobody tells the function that the step is done.") as step:
            report = scene.invoke(step, FULL_RUN)
            scene.check_ok(step, report)
            scene.check_told(step, report, "no step is left to tell", [])
            awaiting = report["scopes"]["awaiting_first_data"]
            detail = f"{awaiting} accounts wait for their first rows"
            step.check("the new exports await their first data", awaiting == len(cast.later), detail)

    def damage(self, scene: Scene, cast: Cast) -> Damage:
        """Let the world change between two runs."""
        gcp, say = scene.gcp, scene.stage.event
        today = gcp.clock.now().date()
        # The stale one is new: from a table that was copied before, the local cloud would have to take rows back.
        account, stale = cast.early[0], cast.later[0]
        moved = (account, (today - timedelta(days=4)).isoformat(), "standard")
        lost = (account, (today - timedelta(days=2)).isoformat(), "detailed")
        outside = gcp.add_account_elsewhere("a partner's account")
        damage = Damage(moved, scene.files_of(*moved), lost, stale, outside)
        scene.stage.chapter("Meanwhile", "Things happen that nobody tells the function.")
        gcp.stream(days=DAYS, rows=ROWS, accounts=cast.later[1:])
        gcp.stream(days=OLD_DAYS, rows=ROWS, accounts=[stale])
        say(f"the first rows of the new exports arrive, for {DAYS} days, for {stale} for {OLD_DAYS}")
        gcp.late_data(account, moved[1], moved[2], rows=LATE_ROWS)
        say(f"{LATE_ROWS} late rows arrive in partition {moved[1]} of {account} ({moved[2]})")
        gone = gcp.delete_copy(account, lost[1], lost[2])
        say(f"somebody deletes the copy of {lost[1]} of {account} ({lost[2]}): {len(gone)} files")
        gcp.make_stale(stale, STALE_DAYS * 24)
        say(f"after that Google delivers nothing for account {stale}: its tables are {STALE_DAYS} days old")
        say(f"and the function gets to see {outside}, which is another organization's")
        return damage

    def heal(self, scene: Scene, cast: Cast, damage: Damage) -> None:
        """Run 4 puts right what it can, and tells the rest."""
        expected = scene.partitions_without_current_copy(cast.open)
        with scene.stage.step("Fourth run", "One run has to notice all five, and mend what can be mended.") as step:
            scene.gcp.clear_calls()
            report = scene.invoke(step, self.healing_request())
            status = str(report["status"])
            step.check("the run is degraded, for data has stopped", status == "degraded", status)
            scene.check_jobs(step, expected)
            now = scene.files_of(*damage.moved)
            detail = f"{scene.rows_named(*damage.moved)} rows named by the manifest"
            fresh = bool(now) and not set(now) & set(damage.files_before)
            step.check("the partition that moved was copied again", fresh, detail)
            there = set(scene.gcp.copies()) >= set(damage.files_before)
            detail = f"{len(damage.files_before)} files of the set before"
            step.check("who still reads the files of before can go on", there, detail)
            step.check("the deleted copy is back", bool(scene.files_of(*damage.lost)), f"{damage.lost[1]}")
            scene.check_copied(step, "every partition has its copy, each row once", cast.open)
            scene.check_told(step, report, "the stale export is told, with its link", [damage.stale])
            scopes, late = report["scopes"], report["deliveries"]["late"]
            right = late > 0 and scopes["delivering"] == len(cast.open) - 1
            step.check("whose data arrives is counted apart", right, f"{scopes['delivering']} delivering, {late} late")
            reasons = {one["reason"]: one["examples"] for one in report["excluded"]}
            right = reasons == {"outside-organization": [damage.outside]} and scopes["excluded"] == 1
            step.check("the other organization's account is excluded, with the reason", right, str(reasons))
            scene.show_step(report)

    def healing_request(self) -> Mapping[str, Any]:
        """Return the body of the call that heals."""
        return FULL_RUN

    def close_by_itself(self, scene: Scene, cast: Cast, damage: Damage) -> None:
        """Run 5 sees that Google delivers again."""
        scene.stage.chapter("Meanwhile", "Google recovers.")
        scene.gcp.resume(damage.stale)
        scene.gcp.stream(days=1, rows=ROWS, accounts=[damage.stale])
        scene.stage.event(f"rows of account {damage.stale} arrive again")
        with scene.stage.step("Fifth run", "What was told is over by itself.") as step:
            report = scene.invoke(step, FULL_RUN)
            scene.check_ok(step, report)
            scene.check_told(step, report, "no step is left to tell", [])
            scene.check_covered(step, report, cast.open, [damage.outside])
            scene.check_copied(step, "every partition has its copy, each row once", cast.open)

    def look_again(self, scene: Scene) -> None:
        """A dry run finds nothing left to do."""
        with scene.stage.step("A plan", "A dry run looks at everything once more and writes nothing.") as step:
            scene.gcp.clear_calls()
            report = scene.invoke(step, DRY_RUN)
            scene.check_ok(step, report)
            planned = sum(report["outcomes"].get(verb, {}).get("planned", 0) for verb in ("CREATE", "REPAIR", "ADOPT"))
            step.check("nothing is left to do", planned == 0, f"{planned} writes planned")
            scene.check_no_write(step)
