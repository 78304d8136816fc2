"""The text of a case at AWS Support, which is the only way to get past months delivered to a data export."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from shared.monitor.months import spans


def support_case(scope: str, months: Mapping[str, Sequence[str]]) -> str:
    """Return the text for the account `scope`; `months` are the wanted ones (``YYYY-MM``) by the export's name."""
    lines = [f"- export {name}: {', '.join(spans(wanted))}" for name, wanted in sorted(months.items())]
    return "\n".join(
        [
            f"Open the case in account {scope}: Account and billing > Billing > Data Exports, general question.",
            "",
            f"Subject: Backfill of AWS Data Exports in account {scope}",
            "",
            f"Please deliver the data of past billing periods to the following exports of account {scope}, to the",
            "destination that each export has, without a change of its configuration:",
            "",
            *lines,
        ]
    )
