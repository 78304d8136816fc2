"""The message that operators get after a round: the tenants whose status it changed, all in one.

A tenant's run in a round sends no message of its own: five hundred tenants would be five hundred senders. What was said
before and what is still owed is a document beside the reports of rounds, which only the end of a round writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from shared.errors import ReportedError, clean, defect
from shared.notify.delivery import Secret, deliver
from shared.notify.webhook import Sender, send
from shared.report import OK, RUNBOOK
from shared.runtime.context import RunContext
from shared.state.document import fresh
from shared.state.notices import Notice, Notices, keep
from shared.state.store import JSON
from shared.tenants.rounds import NOT_RUN
from shared.tenants.rows import FleetDocuments

MESSAGES = "messages.json"  # the name of the document
MAX_BYTES = 4 * 1024 * 1024
EXAMPLES, LINES = 5, 12  # tenants that a message names by id, and by a line of their own
EVENT = "tenants.changed"


def announce_round(
    documents: FleetDocuments,
    report: Mapping[str, Any],
    title: str,
    owner: str,
    secret: Secret | None,
    run: RunContext,
    sender: Sender = send,
) -> int:
    """Send one message about the tenants whose status a round changed, and what is owed of earlier ones.

    `report` is that of `end_round`, `title` what the cloud is called (``AWS``), and `owner` the account, tenant or
    project of the deployment. Returns how many messages are left for the next round. Never raises: a failure is logged
    as ``notify-failed``.
    """
    if secret is None:
        return 0
    try:
        now = run.clock.now()
        before = _load(documents, now)
        notices = record_round(before, report, title, owner, now)
        if notices != before:
            # Stored before it is sent: a message that is sent twice has the same id.
            documents.put(MESSAGES, msgspec.json.encode(notices), JSON)
        document = fresh(run.cloud)
        document.owner, document.notices = owner, notices
        sent, unsent = deliver(document, secret, run, sender)
        if sent and document.notices is not None:
            documents.put(MESSAGES, msgspec.json.encode(document.notices), JSON)
        return unsent
    except Exception as error:  # noqa: BLE001 - a message must not cost the round its report
        failure = error if isinstance(error, ReportedError) else defect(error)
        run.log("warning", "notify-failed", code=failure.code, reason=f"{failure.message}. {failure.remedy}")
        return 1


def record_round(before: Notices, report: Mapping[str, Any], title: str, owner: str, now: datetime) -> Notices:
    """Return the notices after a round, with one more message if the status of a tenant has changed.

    `open` maps a status to its tenants, without ``ok``. A tenant without a run in this round keeps its status; one that
    is paused or removed is forgotten. A tenant that is ok from its first run on is no news.
    """
    known = {tenant: status for status, tenants in before.open.items() for tenant in tenants}
    rows = {row["tenant"]: row for row in report["rows"]}
    now_open = {
        tenant: known.get(tenant, OK) if row["status"] == NOT_RUN else row["status"] for tenant, row in rows.items()
    }
    changed = sorted(tenant for tenant, status in now_open.items() if status != known.get(tenant, OK))
    left: dict[str, list[str]] = {}
    for tenant, status in sorted(now_open.items()):
        if status != OK:
            left.setdefault(status, []).append(tenant)
    if not changed:
        return before if left == before.open else Notices(now, left, before.box, before.digest)
    message = _message(changed, known, rows, report, title, owner, now)
    return Notices(now, left, keep([*before.box, message]), before.digest)


def _message(
    changed: Sequence[str],
    known: Mapping[str, str],
    rows: Mapping[str, Mapping[str, Any]],
    report: Mapping[str, Any],
    title: str,
    owner: str,
    now: datetime,
) -> Notice:
    # What is wrong comes first, and is what is cut last.
    ordered = sorted(changed, key=lambda tenant: (rows[tenant]["status"] == OK, tenant))
    statuses = [rows[tenant]["status"] for tenant in ordered]
    counts = [f"{statuses.count(one)} {one if one != OK else 'ok again'}" for one in dict.fromkeys(statuses)]
    lines = [_line(tenant, known.get(tenant, OK), rows[tenant]) for tenant in ordered]
    cloud = str(report["cloud"])
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"{len(lines) - LINES} more: see `tailpipe-exports history {cloud} --all-tenants`."]
    codes = {_failure(rows[tenant]).get("code", "") for tenant in ordered} - {""}
    code = codes.pop() if len(codes) == 1 else ""
    plural = "" if len(ordered) == 1 else "s"
    return Notice(
        id=hashlib.sha256("\0".join((title, owner, str(report["round"]), *ordered)).encode()).hexdigest()[:32],
        at=now,
        event=EVENT,
        title=f"{title}: {len(ordered):,} tenant{plural} changed: {', '.join(counts)}",
        lines=lines,
        code=code,
        count=len(ordered),
        examples=list(ordered[:EXAMPLES]),
        link=f"{RUNBOOK}#:~:text={code}" if code else RUNBOOK,
    )


def _line(tenant: str, before: str, row: Mapping[str, Any]) -> str:
    failure = _failure(row)
    why = f" ({failure['code']}): {failure['message']}. {failure['remedy']}" if failure and row["status"] != OK else ""
    return clean(f"{tenant}: {before} → {row['status']}{why}")


def _failure(row: Mapping[str, Any]) -> Mapping[str, str]:
    found: Sequence[Mapping[str, str]] = row["failures"]
    return found[0] if found else {}


def _load(documents: FleetDocuments, now: datetime) -> Notices:
    """Return what was said before; nothing if it is damaged: the next message then says where things stand."""
    blob = documents.load(MAX_BYTES, MESSAGES)
    try:
        return msgspec.json.decode(blob.data, type=Notices) if blob.data else Notices(now)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Notices(now)
