"""The address of a code's runbook entry on the documentation site."""

from __future__ import annotations

import re

_OURS = re.compile(r"[a-z][a-z0-9]*(?:-[a-z0-9]+)*")  # other codes are the cloud's own and have no entry


def entry_url(docs_url: str, code: str) -> str:
    """Return the address of a code's entry on the site at `docs_url`; "" without a site, and for a cloud's own code.

    `tools.site` creates the anchor of each entry.
    """
    return f"{docs_url.rstrip('/')}/docs/runbook/#{code}" if docs_url and _OURS.fullmatch(code) else ""
