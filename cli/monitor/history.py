"""`tailpipe-exports history`: the runs, and what each of them changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import groupby
from typing import Any

import msgspec

from cli.clouds import Cloud
from cli.deployment.model import OperatorError
from cli.deployment.session import OK, guarded
from cli.monitor.status import moment, show_changes
from cli.monitor.stored import read, unknown_scope
from cli.settings_source import Choice
from cli.terminal.console import clean, out, print_document, say
from shared.monitor.history import all_changes
from tailpipe_exports import NAME

DEFAULT = timedelta(days=7)
LISTED = 10  # changes of one run that are shown without --all


def history(
    cloud: Cloud, choice: Choice, since: datetime | None, scope: str, *, as_json: bool, everything: bool
) -> int:
    """Show the runs from `since` on (UTC; None: for a week) and what each changed, the newest first.

    With `scope`, only changes to that scope are shown. Returns 0, or 1 if the reports cannot be read or nothing is
    known about the scope.
    """

    def command() -> int:
        stored = read(cloud, choice, without_state=True)
        first = since.replace(tzinfo=UTC) if since else stored.now() - DEFAULT
        bound = f"{first.year:04d}{first:%m%dT%H%M%SZ}"
        reports = stored.reports(stored.report_ids(bound))
        wanted = scope.lower()
        changes = [one for one in all_changes(reports) if one.run_id >= bound and wanted in ("", one.scope.lower())]
        known = {one.lower() for one in stored.document.scopes} | {one.scope.lower() for one in changes}
        if wanted and wanted not in known:
            raise OperatorError(unknown_scope(stored, scope))
        runs = [one for one in reversed(reports) if one.run_id >= bound]
        by_run = {run_id: list(group) for run_id, group in groupby(changes, key=lambda one: one.run_id)}
        documents: list[dict[str, Any]] = [
            {
                "run_id": run.run_id,
                "started_at": run.started_at,
                "status": run.status,
                "trigger": run.trigger,
                "dry_run": run.dry_run,
                "changes": [msgspec.structs.asdict(one) for one in by_run.get(run.run_id, ())],
            }
            for run in runs
        ]
        if as_json:
            print_document({"cloud": cloud.name, "runs": documents})
            return OK
        target = out()
        if stored.demo:
            say(target, (stored.title, "bold"))
        if not documents:
            say(target, f"No run since {first:%Y-%m-%d %H:%M} UTC is stored on {cloud.title}.")
        for one in documents:
            dry = " · dry run" if one["dry_run"] else ""
            quiet = "" if one["changes"] else " · no change"
            what = f" · {one['status']} · {one['trigger']}{dry}{quiet} · run {clean(one['run_id'])}"
            say(target, (moment(one["started_at"]), "bold"), what, hang=4)
            shown = one["changes"] if everything else one["changes"][:LISTED]
            show_changes(target, shown)
            if len(one["changes"]) > len(shown):
                say(target, (f"… and {len(one['changes']) - len(shown):,} more; --all shows them", "dim"), indent=4)
        return OK

    return guarded(f"{NAME}: no history of {cloud.title}", command, as_json=as_json)
