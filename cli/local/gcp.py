"""`tailpipe-exports local gcp`: the options of the local GCP, and its start."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import click

from cli.local.options import SECONDS, clear_errors, env_file, event_faults, latency, page_size, port, serve
from cli.terminal.command import Command
from tailpipe_exports import CODE

if TYPE_CHECKING:
    from localcloud.gcp.runtime.framework import FunctionsFramework

FUNCTION = "gcp_function.handler:reconcile"


def runtime(environment: Mapping[str, str]) -> AbstractContextManager[FunctionsFramework]:
    """Return the function of this checkout, served as Cloud Run does."""
    from localcloud.gcp.runtime.framework import FunctionsFramework

    return FunctionsFramework(FUNCTION, environment, source=CODE, timeout_s=1800, grace_s=2)


@click.command(
    "gcp",
    cls=Command,
    examples=["tailpipe-exports local gcp --env-file gcp.env", "source gcp.env  # in another shell"],
)
@click.option("--accounts", type=click.IntRange(0), default=5, show_default=True, help="Billing accounts.")
@port()
@click.option("--bare", is_flag=True, help="A project with permissions but without resources.")
@click.option("--done", type=click.IntRange(0), help="Accounts whose console step is done; default: all but one.")
@click.option(
    "--history-days", type=click.IntRange(0), default=3, show_default=True, help="Days of initial billing data."
)
@click.option("--rows", type=click.IntRange(1), default=20, show_default=True, help="Rows per day in each table.")
@click.option("--location", default="US", show_default=True, help="Location of the dataset and the buckets.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same accounts and rows.")
@click.option(
    "--table-delay", "table_delay_s", type=SECONDS, default=0, help="Seconds from the console step to the first table."
)
@click.option("--extract-time", "extract_s", type=SECONDS, default=0, help="Seconds an extract job runs.")
@click.option(
    "--propagation", "propagation_s", type=SECONDS, default=0, help="Seconds until a granted role takes effect."
)
@page_size
@click.option("--throttle", "throttle_per_second", type=SECONDS, default=0, help="Calls per second of each method.")
@latency
@event_faults
@env_file
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Serve a local GCP on 127.0.0.1 until interrupted.

    Prints `export NAME=value` lines, then `ready`. With --env-file the lines go to a file, and `source FILE` in
    another shell lets Google's own clients and `tailpipe-exports plan gcp` talk to this GCP. POST /_local/ACTION
    does what people and Google do, such as console_step, late_data or make_stale. The deployed function is there
    too: its schedule and `tailpipe-exports invoke gcp` run it, from this installation, in Google's own
    functions-framework.
    """
    from localcloud.gcp.cloud import LocalGcp
    from localcloud.gcp.state import Behavior

    with clear_errors(ctx, options):
        ctx.exit(serve(LocalGcp, options | {"runtime": runtime}, Behavior))
