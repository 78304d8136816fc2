"""The status page: one HTML file that needs no network and no server."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

# What may not stand in a script element, and what older parsers take for the end of a line.
ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}

POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none';"


def render(clouds: Sequence[Mapping[str, Any]]) -> str:
    """Return the page for one overview a cloud, each with `title`, `scopes_word`, and `scopes` as rows (see
    `page_data`).

    Data is embedded as JSON and only ever shown as text; the page's policy allows no script but its own.
    """
    html, style, script = (_part(name) for name in ("page.html", "page.css", "page.js"))
    data = json.dumps({"clouds": clouds}, ensure_ascii=False, separators=(",", ":"), default=str)
    for mark, escaped in ESCAPES.items():
        data = data.replace(mark, escaped)
    # A lone half of a pair, which a name from outside may hold, cannot be written as UTF-8.
    data = data.encode("utf-8", "replace").decode("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"{POLICY} script-src 'sha256-{digest}'"
    for name, value in (("POLICY", policy), ("STYLE", style), ("SCRIPT", script), ("DATA", data)):
        html = html.replace(f"__{name}__", value, 1)
    return html


def data_of(html: str) -> list[dict[str, Any]]:
    """Return the data that a page shows, one entry a cloud. Raises ValueError for another file."""
    begin, end = '<script type="application/json" id="data">', "</script>"
    found = json.loads(html.partition(begin)[2].partition(end)[0])
    clouds = found.get("clouds") if isinstance(found, dict) else None
    if not isinstance(clouds, list) or not all(isinstance(one, dict) for one in clouds):
        raise ValueError("the page holds no data")
    return clouds


@cache
def _part(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")
