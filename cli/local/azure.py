"""`tailpipe-exports local azure`: the options of the local Azure, and its start."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

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
from tailpipe_exports import CODE

if TYPE_CHECKING:
    from localcloud.azure.runtime.worker import AzureWorker

APP = "azure_function.handler"


@click.command(
    "azure",
    cls=Command,
    examples=["tailpipe-exports local azure --env-file azure.env", "source azure.env  # in another shell"],
)
@click.option(
    "--subscriptions", type=click.IntRange(1), default=3, show_default=True, help="Total number of subscriptions."
)
@port("Resource Manager's port")
@click.option("--bare", is_flag=True, help="A tenant without a deployment, in which the function has no permissions.")
@click.option(
    "--agreements",
    default="ea",
    show_default=True,
    help="Offers, assigned to the subscriptions in turn: ea,ea,webdirect.",
)
@click.option(
    "--storage-accounts",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Number of destinations, one per subscription.",
)
@click.option("--identity-exports", is_flag=True, help="Destinations without key access; exports use an identity.")
@click.option(
    "--blind-updates",
    type=click.Choice(["refused", "accepted"]),
    default="refused",
    show_default=True,
    help="Whether an export may be overwritten without its eTag.",
)
@click.option("--activity-log", is_flag=True, help="The function reads the activity log, from a workspace.")
@click.option("--deliveries", is_flag=True, help="The function announces deliveries; push_events brings it the events.")
@click.option(
    "--customers",
    type=click.IntRange(0, 999),
    default=0,
    show_default=True,
    help="Other Entra tenants that admitted the application; the function is deployed with `fleet`.",
)
@click.option(
    "--customer-subscriptions",
    type=click.IntRange(1),
    default=2,
    show_default=True,
    help="Number of subscriptions of each customer.",
)
@click.option("--rights-delay", "rights_delay_s", type=SECONDS, default=0, help="Seconds until a role takes effect.")
@click.option(
    "--registration-delay", "registration_delay_s", type=SECONDS, default=0, help="Seconds a registration takes."
)
@click.option("--run-delay", "run_delay_s", type=SECONDS, default=0, help="Seconds from an execution to its data.")
@page_size
@empty_pages_every
@latency
@event_faults
@env_file
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Serve a local Azure on 127.0.0.1 until interrupted.

    It is Resource Manager, and Azurite for the blobs. Prints `export NAME=value` lines, then `ready`. With
    --env-file the lines go to a file, and `source FILE` in another shell lets the SDKs and `tailpipe-exports run
    azure` talk to this Azure. Any bearer token is accepted, and each is an app with a quota of its own. The
    deployed function is there too: `tailpipe-exports invoke azure` runs it, in Azure's own worker runtime. With
    --customers, `tailpipe-exports tenants list azure --discovered` lists the tenants to add to the registry.
    """
    from localcloud.azure.cloud import LocalAzure
    from localcloud.azure.services.azurite import AzuriteError
    from localcloud.azure.state import Behavior

    with clear_errors(ctx, options):
        try:
            offers = Counter(one.strip() for one in options["agreements"].split(",") if one.strip())
            ctx.exit(
                serve(
                    LocalAzure,
                    options | {"agreements": offers, "start": _start, "fleet": options["customers"] > 0},
                    Behavior,
                )
            )
        except AzuriteError as error:
            raise click.ClickException(str(error)) from error


def _start(environment: Mapping[str, str]) -> AzureWorker:
    """Run the function's code as it is in this checkout."""
    from localcloud.azure.runtime.worker import AzureWorker

    return AzureWorker(APP, environment, task_root=CODE)
