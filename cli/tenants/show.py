"""How tenants, findings and invitations are shown to people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from rich.console import Console
from rich.text import Text

from cli.clouds import Cloud
from cli.deployment.model import Finding
from cli.deployment.output import show_findings
from cli.deployment.tenants import Invitation
from cli.tenants.rows import Standing
from cli.terminal.console import clean, clean_keep_spaces, say, show, table
from cli.terminal.rounds import MARGIN, age, counted, covered_of, show_row_failure, status_counts, style_of
from tailpipe_exports import NAME

LABELS = 3  # shown in a line


def table_of(target: Console, cloud: Cloud, found: Sequence[Standing], now: datetime) -> None:
    """Print tenants, one a line."""
    if not found:
        return
    listed = table("tenant", "status", "covered", "last run", "name", "labels")
    for one in found:
        status = one.status
        labels = [f"{clean(label)}={clean(value)}" for label, value in list(one.tenant.labels.items())[:LABELS]]
        more = ", …" if len(one.tenant.labels) > LABELS else ""
        listed.add_row(
            clean(one.tenant.id),
            Text(f"{status}{f' ({code_of(one)})' if code_of(one) else ''}", style=style_of(status)),
            covered_of(one.row.scopes if one.row else {}),
            age(one.age_s(now)),
            clean(one.tenant.name) or "-",
            ", ".join(labels) + more or "-",
        )
    show(target, listed)
    say(target, f"{counted(len(found))} on {cloud.title}: {status_counts(Counter(one.status for one in found))}")


def code_of(one: Standing) -> str:
    """Return the code of a tenant's first failure, "" if nothing fails."""
    failures = one.row.failures if one.row and not one.faults else ()
    return clean(failures[0].get("code", "")) if failures else ""


def tenant(target: Console, cloud: Cloud, found: Standing, entry: Mapping[str, Any], now: datetime) -> None:
    """Print one tenant: its entry, the faults of it, and its newest row."""
    name = f" ({clean(found.tenant.name)})" if found.tenant.name else ""
    say(target, (f"{clean(found.tenant.id)}{name}  ", "bold"), (found.status, style_of(found.status)))
    for fault in found.faults:
        say(target, ("✗ ", "bold red"), clean(fault), indent=2, hang=2)
    for part in ("entry", "destination", "settings", "labels"):
        values = entry.get(part)
        if isinstance(values, Mapping) and values:
            say(target, (part, "bold"), indent=2)
            for key, value in values.items():
                say(target, f"{clean(key)}: {clean(value)}", indent=MARGIN, hang=2)
    row = found.row
    if row is None:
        return
    say(target, ("last run", "bold"), f"  {row.status} since {clean(row.since)} · {age(found.age_s(now))}", indent=2)
    counts = ", ".join(f"{number:,} {clean(name)}" for name, number in row.scopes.items() if number)
    calls = f" · {sum(row.calls.values()):,} calls · {row.duration_s:.1f} s"
    say(target, f"{counts or f'no {cloud.scope} known'}{calls} · run {clean(row.run_id) or '-'}", indent=MARGIN, hang=2)
    for failure in row.failures:
        show_row_failure(target, failure)
    say(target, f"→ {NAME} status {cloud.name} --tenant {clean(found.tenant.id)}", indent=2)


def findings(target: Console, tenant_id: str, found: Sequence[Finding]) -> None:
    """Print the findings about one tenant."""
    failed = sum(one.ok is False for one in found)
    say(
        target,
        (clean(tenant_id), "bold"),
        f"  {failed} of {len(found)} checks failed" if failed else "  can be entered",
    )
    show_findings(target, found)


def proposals(target: Console, cloud: Cloud, found: Sequence[Mapping[str, Any]], known: int) -> None:
    """Print tenants that the cloud knows and the registry does not, as entries that can be added."""
    more = f"; {known:,} more are registered" if known else ""
    say(target, (f"{cloud.title} knows {counted(len(found))} that the registry does not{more}", "bold"))
    for one in found:
        say(target, json.dumps(one, ensure_ascii=False), indent=2, hang=2)
    if found:
        add = f"{NAME} tenants add {cloud.name} --from FILE"
        say(target, f"Write them to a file (--json), complete their entries, and add them: {add}", hang=2)


def remaining(target: Console, stays: Mapping[str, Sequence[str]]) -> None:
    """Print what stays of tenants that are removed from the registry."""
    for tenant_id, lines in stays.items():
        say(target, (f"{clean(tenant_id)}: ", "bold"), "only its entry is removed. What stays, and how to remove it:")
        for line in lines:
            say(target, f"- {clean(line)}", indent=2, hang=2)


def invitation(target: Console, found: Invitation, written: Sequence[str], check: str) -> None:
    """Print an invitation; files that were not written are printed whole."""
    say(target, found.text)
    if found.link:
        say(target)
        say(target, found.link)
    for name, content in ({} if written else found.files).items():
        say(target)
        say(target, (name, "bold"))
        for line in content.splitlines():
            # Not wrapped: it can be copied.
            target.print(Text(clean_keep_spaces(line)), overflow="ignore", no_wrap=True, crop=False)
    for path in written:
        say(target, f"written: {path}")
    say(target)
    say(target, f"→ When it is done: {check}")
