"""Write log lines with Powertools, for both Lambda functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aws_lambda_powertools import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

SERVICE = "tailpipe-exports"


class _Formatter(LambdaPowertoolsFormatter):
    """Writes an event's fields at the top level of the line; as `extra`, fields such as ``name`` would conflict."""

    def serialize(self, log: Any) -> str:
        fields = log.pop("fields", {})
        return super().serialize({**log, **fields})


# POWERTOOLS_LOG_LEVEL sets the level, INFO by default.
logger = Logger(service=SERVICE, logger_formatter=_Formatter(), location=None)
LEVELS = {"debug": logger.debug, "info": logger.info, "warning": logger.warning, "error": logger.error}


def powertools_sink(level: str, event: str, fields: Mapping[str, Any]) -> None:
    """Write one event with Powertools: its name as the message and as `event`, and its fields."""
    LEVELS.get(level, logger.info)(event, extra={"fields": {"event": event, **fields}})
