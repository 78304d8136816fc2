"""The AWS scenario: an organization is onboarded, left alone, damaged and repaired.

The function runs as it does on AWS: the real handler in a child process, driven by AWS's own runtime client. Every
expectation is checked against the live local cloud, through its API, and against the report.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cli.demo.aws_environment import EXPORT, STATEMENT, AwsEnvironment
from cli.demo.environment import FULL_RUN, Lines, accepted
from cli.demo.runner import Runner
from localcloud.aws.cloud import LocalAws
from localcloud.aws.platform.deployment import PREFIX
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from shared.runtime.clock import SystemClock, VirtualClock
from tailpipe_exports import CODE

HANDLER = "cli.demo.aws_app.handler"
TABLE = "COST_AND_USAGE_REPORT"
SILENT_DAYS = 3


@dataclass(frozen=True)
class Damage:
    """The accounts that joined, were suspended, or whose stack failed."""

    joined: str
    suspended: str
    failed: str


class AwsScenario:
    """Runs in one local organization; each part is a method, so that a test can break one."""

    def run(self, runner: Runner, scopes: int) -> None:
        """Run the scenario with `scopes` accounts, including the management account."""
        # Virtual time starts now because the local S3 dates its objects by the machine's clock.
        with LocalAws(accounts=scopes, clock=VirtualClock(SystemClock().now()), deliveries=True) as aws:
            variables = aws.environment()
            lines = Lines()
            with LambdaRuntime(
                HANDLER, variables, aws.account, aws.region, task_root=CODE, on_line=lines.take
            ) as function:
                environment = AwsEnvironment(runner, aws, function, lines)
                runner.introduce(
                    f"A local AWS with {scopes} accounts listens on {aws.endpoint}.",
                    "It runs the real Lambda handler in its own process,",
                    "under AWS's own Lambda runtime client (awslambdaric).",
                    "Time is virtual, so the hour between two runs takes no real time.",
                )
                self.onboard(environment)
                self.leave_alone(environment)
                damage = self.damage(environment)
                self.heal(environment, damage)
                self.fall_silent(environment)
                self.withdraw(environment)
                month = self.offer_again(environment)
                self.heal_by_event(environment)
                self.announce(environment, month)
                self.look_again(environment)
                environment.keep()

    def onboard(self, environment: AwsEnvironment) -> None:
        """Run 1 creates what is missing."""
        with environment.runner.step(
            "First run", "No export and no member role exists yet; the run creates them."
        ) as step:
            report = environment.invoke(step, FULL_RUN)
            environment.check_covered(step, report)
            environment.check_export(step, "the export exists and is healthy")
            environment.check_statement(step, "the bucket policy allows export delivery")
            members = [account for account in environment.active() if account != environment.aws.account]
            environment.check_roles(step, "every member account has its role", members)
            known = environment.memory().get("scopes", {})
            everyone = set(environment.aws.accounts())
            detail = f"{len(known)} accounts in the state"
            step.check("the state lists every account", everyone <= known.keys(), detail)

    def leave_alone(self, environment: AwsEnvironment) -> None:
        """Run 2 changes nothing."""
        why = "The export has delivered its first data; there is nothing to do."
        with environment.runner.step("Second run", why) as step:
            environment.aws.deliver()
            environment.clear_calls()
            report = environment.invoke(step, FULL_RUN)
            environment.check_covered(step, report)
            pending = report["scopes"]["pending"]
            step.check("no account is pending any more", pending == 0, f"{pending} accounts pending")
            environment.check_unwritten(step, report)

    def damage(self, environment: AwsEnvironment) -> Damage:
        """Change the organization between two runs."""
        aws, say = environment.aws, environment.runner.event
        members = [account for account in environment.active() if account != aws.account]
        damage = Damage(joined=aws.join_account("newcomer"), suspended=members[0], failed=members[1])
        environment.runner.heading("Meanwhile", "The cloud changes, and the function is not notified.")
        say(f"account {damage.joined} joins the organization")
        aws.suspend_account(damage.suspended)
        say(f"account {damage.suspended} is suspended")
        exports = aws.client("bcm-data-exports")
        for one in exports.list_exports()["Exports"]:
            exports.delete_export(ExportArn=one["ExportArn"])
            say(f"an operator deletes the export {one['ExportName']}")
        aws.remove_bucket_policy_statement(STATEMENT)
        say(f"an operator removes the statement {STATEMENT} from the bucket policy")
        aws.fail_instance(damage.failed)
        say(f"the stack with the role of account {damage.failed} fails")
        return damage

    def heal(self, environment: AwsEnvironment, damage: Damage) -> None:
        """Run 3 repairs all of it."""
        with environment.runner.step("Third run", "One run must detect and repair all five changes.") as step:
            report = environment.invoke(step, self.healing_request())
            environment.check_covered(step, report)
            environment.check_export(step, "the export exists again")
            environment.check_statement(step, "the statement is back")
            environment.check_roles(step, "the failed account's role is back", [damage.failed])
            environment.check_roles(step, "the new account has its role", [damage.joined])
            skipped = report["outcomes"].get("SKIP", {}).get("skipped", 0)
            active, total = report["scopes"]["active"], report["scopes"]["total"]
            detail = f"{skipped} skipped, {active} of {total} accounts active"
            step.check("the suspended account is left alone", skipped == 1 and total - active == 1, detail)
            created, repaired = accepted(report, "CREATE"), accepted(report, "REPAIR")
            expected = created >= 1 and repaired >= 2
            step.check("the report counts the repairs", expected, f"{created} created, {repaired} repaired")

    def healing_request(self) -> Mapping[str, Any]:
        """Return the event of the run that repairs."""
        return FULL_RUN

    def fall_silent(self, environment: AwsEnvironment) -> None:
        """Run 4 does not count a healthy export that delivers nothing as coverage."""
        environment.aws.deliver()
        environment.aws.silence_export(EXPORT, SILENT_DAYS)
        environment.runner.heading("Meanwhile", "An export stops delivering but still reports HEALTHY.")
        environment.runner.event(f"the export {EXPORT} has delivered nothing for {SILENT_DAYS} days")
        with environment.runner.step("Fourth run", "That export holds the costs of all accounts.") as step:
            report = environment.invoke(step, FULL_RUN)
            scopes, codes = report["scopes"], [one["code"] for one in report["manual"]]
            step.check(
                "the missing delivery is reported", codes == ["nothing-delivered"], ", ".join(codes) or "no manual step"
            )
            covered = f"{scopes['covered']} of {scopes['active']} covered"
            step.check("no account that depends on the export counts as covered", scopes["covered"] == 0, covered)
            steps = [line for one in report["manual"] for line in one["steps"]]
            step.check("the manual step says what to do", bool(steps), (steps or ["no step"])[0])
        environment.aws.resume_export(EXPORT)
        environment.aws.deliver()
        environment.runner.event("the export delivers again")

    def withdraw(self, environment: AwsEnvironment) -> None:
        """Run 5 counts accounts whose export AWS rejects as excluded, not as covered."""
        environment.aws.withdraw_table(TABLE)
        environment.aws.delete_export(EXPORT)
        environment.runner.event(f"AWS no longer offers the table {TABLE}, and an operator deletes the export")
        with environment.runner.step(
            "Fifth run", "An export that AWS rejects cannot be repaired and covers nothing."
        ) as step:
            report = environment.invoke(step, FULL_RUN)
            scopes, excluded = report["scopes"], report["excluded"]
            reasons = {one["reason"]: one["count"] for one in excluded}
            right = scopes["excluded"] == scopes["active"] and reasons == {"no-such-table": scopes["active"]}
            step.check("every account is excluded, with the reason", right, str(reasons))
            step.check("no account counts as covered", scopes["covered"] == 0, f"{scopes['covered']} covered")

    def offer_again(self, environment: AwsEnvironment) -> str:
        """Run 6 names the account and so does not wait for the next weekly check. Returns the delivered month."""
        environment.aws.offer_table(TABLE)
        environment.runner.event("AWS offers the table again, and the operator names the account")
        with environment.runner.step("Sixth run", "A run that names an account checks it immediately.") as step:
            environment.invoke(step, {"scopes": [environment.aws.account]})
            month = f"{environment.now():%Y-%m}"
            environment.aws.deliver(billing_period=month)
            report = environment.invoke(step, FULL_RUN)
            environment.check_covered(step, report)
            environment.check_export(step, "the export exists again")
            delivering = report["scopes"]["delivering"]
            step.check(
                "every account's data arrives", delivering == len(environment.active()), f"{delivering} delivering"
            )
        return month

    def heal_by_event(self, environment: AwsEnvironment) -> None:
        """Run 7 is started by an event, and repairs what was lost before the next scheduled run."""
        aws, runner = environment.aws, environment.runner
        runner.heading("Meanwhile", "The export is deleted again, and this time an event reports it.")
        environment.open_events()
        exports = aws.client("bcm-data-exports")
        for one in exports.list_exports()["Exports"]:
            exports.delete_export(ExportArn=one["ExportArn"])
            runner.event(f"an operator deletes the export {one['ExportName']}")
        runner.event("CloudTrail's event goes through EventBridge to the queue, and is collected for a minute")
        why = "The schedule is not awaited: the event names the export, and a run looks at just that."
        with runner.step("An event", why) as step:
            report = environment.deliver_events(step)
            events = report.get("events") or {}
            detail = f"{events.get('count')} event, {events.get('latency_s')} s after it"
            step.check("the event started the run", report["trigger"] == "event", detail)
            looked = {one["scope"] for one in report["actions"]}
            step.check("the run looks at one account", looked == {aws.account}, ", ".join(sorted(looked)))
            environment.check_export(step, "the export exists again before the next scheduled run")

    def announce(self, environment: AwsEnvironment, month: str) -> None:
        """Announce another delivery of a month by S3's event, without a run."""
        aws, runner = environment.aws, environment.runner
        runner.heading("Meanwhile", "A reader has subscribed its queue to the topic of deliveries.")
        environment.open_deliveries()
        # Not the current month: after an export's last delivery, the days of the scenario may have begun another one.
        aws.deliver(billing_period=month)
        runner.event("AWS delivers the month again; S3's event of the manifest goes through EventBridge to the queue")
        with runner.step("A delivery", "No run is awaited: the collector reads the manifest and publishes.") as step:
            published = environment.announce_deliveries()
            data = published[0]["data"] if published else {}
            detail = (
                f"{data.get('dataset')}, {data.get('period')}, number {data.get('sequence')}" if data else "no event"
            )
            step.check("one event is published at once", len(published) == 1, detail)
            delta = data.get("delta", {})
            replaced = delta.get("replaced", [])
            step.check("it says which files replace which", bool(replaced), f"{len(replaced)} replaced")
            stored = environment.stored(f"{PREFIX}/{data.get('document')}")
            same = stored is not None and json.loads(stored) == published[0]
            step.check("the connector may read the same document", same, str(data.get("document")))

    def look_again(self, environment: AwsEnvironment) -> None:
        """Run a plan and expect nothing left to do."""
        with environment.runner.step("A plan", "A dry run checks everything once more and writes nothing.") as step:
            report = environment.plan_again(step)
            environment.check_covered(step, report)
