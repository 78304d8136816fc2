"""`tailpipe-exports local aws`: the options of the local AWS, and its start."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import click

SECONDS = click.FloatRange(min=0)


@click.command("aws")
@click.option("--accounts", type=click.IntRange(1), default=5, show_default=True, help="Accounts in all.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port on 127.0.0.1; a free one unless given.")
@click.option("--bare", is_flag=True, help="An account with neither organisation nor anything deployed.")
@click.option(
    "--kind",
    type=click.Choice(["management", "delegated", "standalone", "member"]),
    default="management",
    show_default=True,
    help="Whose credentials are printed.",
)
@click.option("--partition", default="aws", show_default=True, help="aws, aws-us-gov, aws-cn or aws-eusc.")
@click.option("--region", help="Region of the bucket and the StackSet; the partition's usual one unless given.")
@click.option(
    "--stackset-delay", "stackset_delay_s", type=SECONDS, default=0, help="Seconds a StackSet operation runs."
)
@click.option("--policy-delay", "policy_delay_s", type=SECONDS, default=0, help="Seconds until a bucket policy counts.")
@click.option(
    "--close-delay", "close_delay_s", type=SECONDS, default=0, help="Seconds an account stays PENDING_CLOSURE."
)
@click.option("--page-size", type=click.IntRange(1), default=1000, show_default=True, help="Most items on any page.")
@click.option("--empty-pages-every", type=click.IntRange(0), default=3, show_default=True, help="0: no empty pages.")
@click.option("--throttle", "throttle_per_second", type=SECONDS, default=0, help="Calls a second of each operation.")
@click.option("--latency", "latency_s", type=SECONDS, default=0, help="Seconds before each answer.")
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Serve a local AWS on 127.0.0.1 until interrupted.

    In another shell: eval "$(tailpipe-exports local aws ...)" does not return, so paste the export lines, or read them
    from a file up to `ready`. Then the AWS CLI, boto3, and `tailpipe-exports run aws` all speak to it.
    """
    from localcloud.aws.serve import serve

    try:
        ctx.exit(serve(**options, package=None if options["bare"] else _package))
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from error
    except OSError as error:
        taken = f"port {options['port']} is taken; choose another, or leave it out for a free one"
        raise click.ClickException(taken if error.errno == errno.EADDRINUSE else str(error)) from error
    except SystemExit as error:
        # werkzeug's server prints what is wrong with the port by itself and leaves.
        ctx.exit(error.code if isinstance(error.code, int) else 1)


def _package() -> bytes:
    """Return the function's package for this machine's Python, built from this checkout."""
    from cli.packaging import Target, build

    with tempfile.TemporaryDirectory(prefix="tailpipe-") as folder:
        return build("aws", Path(folder), Target.host()).path.read_bytes()
