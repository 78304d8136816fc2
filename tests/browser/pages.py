"""Pages of any size, for the tests and the benchmark of the status page."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from shared.monitor.months import Reach, columns, rows
from shared.monitor.overview import overview, page_data
from shared.monitor.page import render
from shared.periods import Period, months_between
from shared.state.deliveries import Ledger
from shared.state.document import RunNote, ScopeRecord, StateDocument, fresh
from shared.target_state import LastError, TargetState

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
BROKEN = LastError("storage-firewall", "the firewall refuses the service", "Let trusted services in.", "failed")
STEP = LastError(
    "console-step",
    what="The billing export is not switched on.",
    steps=["Open the link.", "Choose Edit settings, then Save."],
    url="https://example.com/export",
    result="manual",
)
HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>\u202egro\x00"


def document(scopes: int) -> StateDocument:
    """Return a state with a number of scopes: most covered, some failed or manual, one with a hostile name."""
    made = fresh("azure")
    made.owner, made.updated_at = "62687bb7-99bc-50de-8efe-5651ed7e8ce7", NOW
    for number in range(scopes):
        coverage, error = "covered", None
        if number % 997 == 1:
            coverage, error = "failed", BROKEN
        elif number % 997 == 2:
            coverage, error = "manual", STEP
        delivered = NOW - timedelta(hours=number % 40)
        target = TargetState(at=NOW, present=True, delivered_at=delivered, error=error)
        made.scopes[f"199a0d3e-ce28-5f29-9eba-{number:012d}"] = ScopeRecord(
            at=NOW,
            name=HOSTILE if number == 3 else f"subscription team-{number}",
            coverage=coverage,
            data="delivering",
            targets={"export/daily": target},
            labels={
                "management group": f"Landing zones / Corp-{number % 7}",
                "state": "Enabled",
                "tag env": ("prod", "test")[number % 2],
                "tag owner": f"{HOSTILE if number == 3 else 'owner'}-{number // 4}@example.com",
            },
        )
    made.runs = [
        RunNote(
            f"run-{hour}",
            NOW - timedelta(hours=hour),
            "ok",
            12.5,
            active=scopes,
            covered=scopes - hour,
            writes=hour,
            freshness_lag_h=20.0 + hour / 2,
            calls={"arm-read": 900, "storage": 1700},
            log_bytes=900,
            report_bytes=9_000,
        )
        for hour in range(30)
    ]
    return made


def ledger(document_: StateDocument) -> Ledger:
    """Return 36 months of one dataset for every scope; every tenth scope has one lost month."""
    made = Ledger("azure", document_.owner)
    known = {month: Period(2, 4096, NOW, NOW) for month in months_between("2023-04", "2026-03")}
    lost = {**known, "2025-11": Period(0, first=NOW)}
    for number, scope in enumerate(document_.scopes):
        made.note(scope, "daily", known if number % 10 else lost, NOW)
    return made


def page(scopes: int) -> str:
    """Return the page of a large and a small cloud."""
    shown = []
    for title, word, size in (("Azure", "subscriptions", scopes), ("AWS", "accounts", 12)):
        made = document(size)
        kept = ledger(made)
        names = columns(kept, NOW)
        found = rows(made, kept, names, NOW, Reach())
        shown.append(page_data(overview(made, [], NOW), made, title, word, names, found))
    return render(shown)
