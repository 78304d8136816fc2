"""`tailpipe-exports invoke`: call the deployed function once, and show its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Cloud
from cli.deployment.session import EXITS, FAILED, Session, guarded, open_deployed
from cli.deployment.tenants import StartsRounds
from cli.terminal.console import print_document
from cli.terminal.render import show_report
from cli.terminal.rounds import show_round
from shared.errors import RequestError
from shared.request import parse_request


def invoke(cloud: Cloud, payload: Mapping[str, Any], as_json: bool, function: str = "") -> int:
    """Call the function. Returns 0 ok, 3 degraded, 1 failed."""

    def command() -> int:
        try:
            parse_request(payload)
        except RequestError as error:
            raise OperatorError(*(Problem(fault) for fault in error.problems)) from error
        session = open_deployed(cloud, function)
        report = call(session, payload, quiet=as_json)
        if as_json:
            print_document(report)
        return EXITS.get(str(report.get("status")), FAILED)

    return guarded(f"tailpipe-exports: the function on {cloud.title} gave no report", command, as_json=as_json)


def invoke_all(cloud: Cloud, as_json: bool, function: str = "") -> int:
    """Make a round over all tenants. Returns 0 if all are ok, 3 if some are not, 1 if the round failed."""

    def command() -> int:
        session = open_deployed(cloud, function)
        if not isinstance(session.operator, StartsRounds):
            raise OperatorError(Problem(f"a deployment on {cloud.title} has no coordinator of rounds"))
        report = session.operator.round(session.tell)
        if as_json:
            print_document(report)
        else:
            show_round(session.screen, cloud.scopes, report)
        return EXITS.get(str(report.get("status")), FAILED)

    return guarded(f"tailpipe-exports: no round on {cloud.title}", command, as_json=as_json)


def call(session: Session, payload: Mapping[str, Any], quiet: bool = False) -> dict[str, Any]:
    """Call the function, wait while another run is in progress, and show its report unless `quiet`."""
    report = session.operator.invoke(payload, session.tell)
    if not quiet:
        show_report(session.screen, session.cloud.scopes, report)
    return report
