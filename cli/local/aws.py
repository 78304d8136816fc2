"""`tailpipe-exports local aws`: the options of the local AWS, and its start."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click

from cli.local.options import (
    SECONDS,
    clear_errors,
    empty_pages_every,
    env_file,
    event_faults,
    latency,
    page_size,
    port,
    serve,
)
from cli.terminal.command import Command


@click.command(
    "aws",
    cls=Command,
    examples=["tailpipe-exports local aws --env-file aws.env", "source aws.env  # in another shell"],
)
@click.option("--accounts", type=click.IntRange(1), default=5, show_default=True, help="Total number of accounts.")
@port()
@click.option("--bare", is_flag=True, help="An account without an organization or a deployment.")
@click.option(
    "--kind",
    type=click.Choice(["management", "delegated", "standalone", "member"]),
    default="management",
    show_default=True,
    help="Whose credentials are printed.",
)
@click.option("--partition", default="aws", show_default=True, help="aws, aws-us-gov, aws-cn or aws-eusc.")
@click.option("--region", help="Region of the bucket and the StackSet; default: the partition's usual one.")
@click.option(
    "--stackset-delay", "stackset_delay_s", type=SECONDS, default=0, help="Seconds a StackSet operation runs."
)
@click.option(
    "--policy-delay", "policy_delay_s", type=SECONDS, default=0, help="Seconds until a bucket policy takes effect."
)
@click.option(
    "--close-delay", "close_delay_s", type=SECONDS, default=0, help="Seconds an account stays PENDING_CLOSURE."
)
@page_size
@empty_pages_every
@click.option("--throttle", "throttle_per_second", type=SECONDS, default=0, help="Calls per second of each operation.")
@latency
@event_faults
@env_file
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Serve a local AWS on 127.0.0.1 until interrupted.

    Prints `export NAME=value` lines, then `ready`. With --env-file the lines go to a file, and `source FILE` in another
    shell lets the AWS CLI, boto3 and `tailpipe-exports plan aws` talk to this AWS.
    """
    from localcloud.aws.cloud import LocalAws

    with clear_errors(ctx, options):
        package = None if options["bare"] else _package
        ctx.exit(serve(LocalAws, options | {"package": package}))


def _package() -> bytes:
    """Return the function's package for this machine's Python, built from this checkout."""
    from cli.packaging import Target, build

    with tempfile.TemporaryDirectory(prefix="tailpipe-") as folder:
        return build("aws", Path(folder), Target.host()).path.read_bytes()
