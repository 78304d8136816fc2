"""`tailpipe-exports invoke`: call the deployed function once, and show its report."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from typing import Any

from cli.clouds import Cloud
from cli.deployment.model import OperatorError, Showing
from cli.deployment.session import EXITS, FAILED, Bench, guarded, opened
from cli.terminal.render import show_report
from shared.errors import RequestError
from shared.request import parse_request


def invoke(cloud: Cloud, payload: Mapping[str, Any], as_json: bool) -> int:
    """Call the function. Returns 0 ok, 3 degraded, 1 failed."""

    def command() -> int:
        try:
            parse_request(payload)
        except RequestError as error:
            from cli.deployment.model import Fault

            raise OperatorError(*(Fault(fault) for fault in error.faults)) from error
        bench = opened(cloud, {})
        report = call(bench, payload, quiet=as_json)
        if as_json:
            print_document(report)
        return EXITS.get(str(report.get("status")), FAILED)

    return guarded(f"tailpipe-exports: the function on {cloud.title} gave no report", command)


def onboarding(cloud: Cloud, showing: Showing) -> int:
    """Show what Tailpipe needs to connect. Returns 0, or 1 where nothing is deployed or it could not be shown."""
    from cli.deployment.commands.onboarding import show_onboarding

    def command() -> int:
        show_onboarding(opened(cloud, {}), showing)
        return 0

    return guarded(f"tailpipe-exports: not all that Tailpipe needs on {cloud.title} could be shown", command)


def call(bench: Bench, payload: Mapping[str, Any], quiet: bool = False) -> dict[str, Any]:
    """Call the function, waiting while another run is under way, and show its report unless `quiet`."""
    report = bench.operator.invoke(bench.place, payload, bench.tell)
    if not quiet:
        show_report(bench.screen, bench.cloud.scopes, report)
    return report


def print_document(document: Mapping[str, Any]) -> None:
    """Write a document to standard output, which holds nothing else."""
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False, default=str) + "\n")
    sys.stdout.flush()
