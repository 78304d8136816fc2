"""The deployed Lambda handler, on the local AWS's virtual clock instead of the machine's.

The hour between two scheduled runs then takes no real time.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aws_lambda import handler as deployed
from localcloud.common.remote_clock import RemoteClock

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

# One per process: the process is reused for later invocations.
_clock = RemoteClock(os.environ["AWS_ENDPOINT_URL"])


def handler(event: Any, context: LambdaContext) -> dict[str, Any]:
    """Run once for an event and return the report."""
    return deployed.handler(event, context, clock=_clock.sync())
