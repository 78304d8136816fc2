"""The AWS story: an organization is onboarded, left alone, damaged and healed.

The function runs as on AWS: its real handler in a child process, fed by AWS's own runtime client. What is checked is
the live local cloud, asked through its API, and the report; neither is believed without the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from cli.demo.runner import Lines, Stage, Step, StoryEnded, written
from cli.terminal.progress import Watcher, noting
from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.lambda_runtime import LambdaRuntime
from tailpipe_exports import CODE

HANDLER = "aws_lambda.handler.handler"
EXPORT = "tailpipe-dataexport"
TABLE = "COST_AND_USAGE_REPORT"
SILENT_DAYS = 3
STATEMENT = "TailpipeDataExports"
STATE = "state/known_accounts.json"
WRITING = ("Create", "Update", "Put", "Delete", "Tag", "Untag")
FULL_RUN: Mapping[str, Any] = {}
DRY_RUN: Mapping[str, Any] = {"dry_run": True}


@dataclass(frozen=True)
class Damage:
    """What happened to the organization: the accounts that joined, were suspended, and whose stack failed."""

    joined: str
    suspended: str
    failed: str


class AwsStory:
    """Plays in one local organization; each part is a method, so that a test can spoil one."""

    def tell(self, stage: Stage, scopes: int) -> None:
        """Play the story with so many accounts, the management account included."""
        with LocalAws(accounts=scopes) as aws:
            environment = aws.environment()
            lines = Lines()
            with LambdaRuntime(
                HANDLER, environment, aws.account, aws.region, task_root=CODE, on_line=lines.take
            ) as function:
                scene = Scene(stage, aws, function, lines)
                stage.say(f"A local AWS with {scopes} accounts answers on {aws.endpoint}.")
                stage.say("In it runs the real Lambda handler, in a process of its own,")
                stage.say("under AWS's own Lambda runtime client (awslambdaric).")
                stage.say("Each ✓ was looked up in that cloud, not only in the report.")
                self.onboard(scene)
                self.leave_alone(scene)
                damage = self.damage(scene)
                self.heal(scene, damage)
                self.fall_silent(scene)
                self.withdraw(scene)
                self.offer_again(scene)
                self.look_again(scene)

    def onboard(self, scene: Scene) -> None:
        """Run 1 creates what is missing."""
        with scene.stage.step("First run", "No export and no member role exists yet: the run creates them.") as step:
            report = scene.invoke(step, FULL_RUN)
            scene.check_covered(step, report)
            scene.check_export(step, "the export exists and is healthy")
            scene.check_statement(step, "the bucket lets exports be delivered")
            members = [account for account in scene.active() if account != scene.aws.account]
            scene.check_roles(step, "every member account has its role", members)
            remembered = scene.memory().get("scopes", {})
            everyone = set(scene.aws.accounts())
            detail = f"{len(remembered)} accounts in its state"
            step.check("the run remembers every account", everyone <= remembered.keys(), detail)

    def leave_alone(self, scene: Scene) -> None:
        """Run 2 changes nothing."""
        why = "The export has delivered its first data; there is nothing to do."
        with scene.stage.step("Second run", why) as step:
            scene.aws.deliver()
            scene.aws.clear_calls()
            report = scene.invoke(step, FULL_RUN)
            scene.check_covered(step, report)
            pending = report["scopes"]["pending"]
            step.check("what was pending is there now", pending == 0, f"{pending} accounts pending")
            step.check("the report has no write", written(report) == 0, f"{written(report)} writes")
            scene.check_no_write(step)

    def damage(self, scene: Scene) -> Damage:
        """Let the world change between two runs."""
        aws, say = scene.aws, scene.stage.event
        members = [account for account in scene.active() if account != aws.account]
        damage = Damage(joined=aws.join_account("newcomer"), suspended=members[0], failed=members[1])
        scene.stage.chapter("Meanwhile", "Things happen that nobody tells the function.")
        say(f"account {damage.joined} joins the organization")
        aws.suspend_account(damage.suspended)
        say(f"account {damage.suspended} is suspended")
        exports = aws.client("bcm-data-exports")
        for one in exports.list_exports()["Exports"]:
            exports.delete_export(ExportArn=one["ExportArn"])
            say(f"somebody deletes the export {one['ExportName']}")
        aws.remove_bucket_policy_statement(STATEMENT)
        say(f"somebody removes the statement {STATEMENT} from the bucket policy")
        aws.fail_instance(damage.failed)
        say(f"the stack with the role of account {damage.failed} fails")
        return damage

    def heal(self, scene: Scene, damage: Damage) -> None:
        """Run 3 puts all of it right."""
        with scene.stage.step("Third run", "One run has to notice and mend all five.") as step:
            report = scene.invoke(step, self.healing_request())
            scene.check_covered(step, report)
            scene.check_export(step, "the export exists again")
            scene.check_statement(step, "the statement is back")
            scene.check_roles(step, "the failed account's role is back", [damage.failed])
            scene.check_roles(step, "the new account has its role", [damage.joined])
            skipped = report["outcomes"].get("SKIP", {}).get("skipped", 0)
            active, total = report["scopes"]["active"], report["scopes"]["total"]
            detail = f"{skipped} skipped, {active} of {total} accounts active"
            step.check("the suspended account is left alone", skipped == 1 and total - active == 1, detail)
            made, mended = _accepted(report, "CREATE"), _accepted(report, "REPAIR")
            expected = made >= 1 and mended >= 2
            step.check("the report says what was healed", expected, f"{made} created, {mended} repaired")

    def healing_request(self) -> Mapping[str, Any]:
        """Return the event of the run that heals."""
        return FULL_RUN

    def fall_silent(self, scene: Scene) -> None:
        """Run 4 does not take a healthy export that delivers nothing for coverage."""
        scene.aws.deliver()
        scene.aws.silence_export(EXPORT, SILENT_DAYS)
        scene.stage.chapter("Meanwhile", "An export falls silent, and still says that it is healthy.")
        scene.stage.event(f"the export {EXPORT} has delivered nothing for {SILENT_DAYS} days")
        with scene.stage.step("Fourth run", "Every account's costs are in that export.") as step:
            report = scene.invoke(step, FULL_RUN)
            scopes, codes = report["scopes"], [one["code"] for one in report["manual"]]
            step.check("the silence is noticed", codes == ["nothing-delivered"], ", ".join(codes) or "nothing is told")
            covered = f"{scopes['covered']} of {scopes['active']} covered"
            step.check("no account that rests on the export counts as covered", scopes["covered"] == 0, covered)
            steps = [line for one in report["manual"] for line in one["steps"]]
            step.check("a person is told what to do", bool(steps), (steps or ["no step"])[0])
        scene.aws.resume_export(EXPORT)
        scene.aws.deliver()
        scene.stage.event("the export delivers again")

    def withdraw(self, scene: Scene) -> None:
        """Run 5 counts what AWS refuses as excluded, and as nothing else."""
        scene.aws.withdraw_table(TABLE)
        scene.aws.delete_export(EXPORT)
        scene.stage.event(f"AWS offers the table {TABLE} no more, and somebody deletes the export")
        with scene.stage.step("Fifth run", "What AWS refuses cannot be mended, and is not covered.") as step:
            report = scene.invoke(step, FULL_RUN)
            scopes, excluded = report["scopes"], report["excluded"]
            reasons = {one["reason"]: one["count"] for one in excluded}
            right = scopes["excluded"] == scopes["active"] and reasons == {"no-such-table": scopes["active"]}
            step.check("every account is excluded, with the reason", right, str(reasons))
            step.check("none is called covered", scopes["covered"] == 0, f"{scopes['covered']} covered")

    def offer_again(self, scene: Scene) -> None:
        """Run 6, by the name of the account, does not wait for the next look in a week."""
        scene.aws.offer_table(TABLE)
        scene.stage.event("AWS offers the table again, and the operator names the account")
        with scene.stage.step("Sixth run", "An account that is named need not wait.") as step:
            scene.invoke(step, {"scopes": [scene.aws.account]})
            scene.aws.deliver()
            report = scene.invoke(step, FULL_RUN)
            scene.check_covered(step, report)
            scene.check_export(step, "the export exists again")
            delivering = report["scopes"]["delivering"]
            step.check("every account's data arrives", delivering == len(scene.active()), f"{delivering} delivering")

    def look_again(self, scene: Scene) -> None:
        """A plan says that nothing is left to do."""
        with scene.stage.step("A plan", "A dry run looks at everything once more and writes nothing.") as step:
            scene.aws.clear_calls()
            report = scene.invoke(step, DRY_RUN)
            scene.check_covered(step, report)
            planned = sum(report["outcomes"].get(verb, {}).get("planned", 0) for verb in ("CREATE", "REPAIR", "ADOPT"))
            step.check("nothing is left to do", planned == 0, f"{planned} writes planned")
            scene.check_no_write(step)


class Scene:
    """The organization, the function in it, and what can be asked of both."""

    def __init__(self, stage: Stage, aws: LocalAws, function: LambdaRuntime, lines: Lines) -> None:
        self.stage = stage
        self._lines = lines
        self.aws = aws
        self._function = function

    def invoke(self, step: Step, event: Mapping[str, Any]) -> Mapping[str, Any]:
        """Invoke the function and return its report. Raises StoryEnded where it gives none."""
        with self.stage.watch() as watcher, self._lines.shown_by(watcher), self._calls_shown(watcher):
            invocation = self._function.invoke(event)
        error = invocation.error
        detail = f"{error.get('errorType')}: {error.get('errorMessage')}" if error else ""
        if not isinstance(invocation.payload, Mapping):
            step.check("the function answers with a report", ok=False, detail=detail or repr(invocation.payload))
            raise StoryEnded
        self.stage.ran(step, invocation.payload, invocation.duration_s)
        return invocation.payload

    def _calls_shown(self, watcher: Watcher) -> AbstractContextManager[None]:
        """Return what shows while it lasts how many calls the local AWS has answered."""
        before = self.aws.calls.count()

        def answered() -> str:
            calls = self.aws.calls.select()[before:]
            return f"{len(calls)} calls, now {calls[-1].operation}" if calls else ""

        return noting(watcher, answered)

    def active(self) -> list[str]:
        """Return the active accounts, the management account first."""
        return [account for account, state in self.aws.accounts().items() if state == "ACTIVE"]

    def memory(self) -> dict[str, Any]:
        """Return the function's state document, empty where there is none."""
        try:
            answer = self.aws.client("s3").get_object(Bucket=self.aws.deployment.bucket, Key=STATE)
        except ClientError:
            return {}
        return dict(json.loads(answer["Body"].read()))

    def check_covered(self, step: Step, report: Mapping[str, Any]) -> None:
        """Check that the run was ok and that every account which is active now is covered."""
        scopes, active = report["scopes"], len(self.active())
        step.check("the run reports ok", report["status"] == "ok", _why(report))
        well = scopes["covered"] + scopes["pending"]
        detail = f"{scopes['covered']} of {active}" + (f", {scopes['pending']} pending" if scopes["pending"] else "")
        step.check("every active account is covered, or on its way", well == scopes["active"] == active, detail)

    def check_export(self, step: Step, what: str) -> None:
        """Check that the export is there, healthy, and delivers into the bucket."""
        bucket, exports = self.aws.deployment.bucket, self.aws.client("bcm-data-exports")
        listed = {one["ExportName"]: one for one in exports.list_exports()["Exports"]}
        if EXPORT not in listed:
            step.check(what, ok=False, detail=f"the exports are: {', '.join(listed) or 'none'}")
            return
        found = exports.get_export(ExportArn=listed[EXPORT]["ExportArn"])
        status = found["ExportStatus"]["StatusCode"]
        target = found["Export"]["DestinationConfigurations"]["S3Destination"]["S3Bucket"]
        step.check(
            what,
            status == "HEALTHY" and target == bucket,
            f"{EXPORT} is {status}" + (f", but writes into {target}" if target != bucket else ""),
        )

    def check_statement(self, step: Step, what: str) -> None:
        """Check that the function's own statement is in the bucket policy."""
        sids = [one.get("Sid", "") for one in (self.aws.bucket_policy() or {}).get("Statement", [])]
        detail = f"Sid {STATEMENT}" if STATEMENT in sids else f"only {', '.join(sids) or 'an empty policy'}"
        step.check(what, STATEMENT in sids, detail)

    def check_roles(self, step: Step, what: str, accounts: list[str]) -> None:
        """Check that each account's stack instance is current and that its role can be read in the account."""
        pages = self.aws.client("cloudformation").get_paginator("list_stack_instances")
        listed = pages.paginate(StackSetName=self.aws.deployment.settings()["STACKSET_NAME"])
        status = {one["Account"]: one["Status"] for page in listed for one in page["Summaries"]}
        current = sum(status.get(account) == "CURRENT" for account in accounts)
        role, missing = self.aws.deployment.settings()["MEMBER_ROLE_NAME"], 0
        for account in accounts[:3]:
            try:
                self.aws.client("iam", account).get_role(RoleName=role)
            except ClientError:
                missing += 1
        detail = f"{current} of {len(accounts)} stack instances CURRENT" + (
            f", {missing} roles absent" if missing else ""
        )
        step.check(what, current == len(accounts) and not missing, detail)

    def check_no_write(self, step: Step) -> None:
        """Check that since the last `clear_calls` nothing was written but the function's own state and reports."""
        writes = [
            f"{call.service}:{call.operation}"
            for call in self.aws.calls.select()
            if call.operation.startswith(WRITING) and call.operation != "PutObject"
        ]
        detail = ", ".join(writes) or f"{self.aws.calls.count()} calls, only reads and its own state"
        step.check("the local AWS saw no write", not writes, detail)


def _accepted(report: Mapping[str, Any], verb: str) -> int:
    results = report["outcomes"].get(verb, {})
    return int(results.get("done", 0)) + int(results.get("pending", 0))


def _why(report: Mapping[str, Any]) -> str:
    """Return the status, and what stands behind one that is not ok."""
    troubles = [f"{one['code']}: {one['message']}" for one in report["failures"][:3]]
    return "; ".join([str(report["status"]), *troubles])
