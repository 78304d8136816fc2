"""`tailpipe-exports tenants`: the commands; each loads what it needs when it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from cli.clouds import Cloud
from cli.options import FILE, FUNCTION
from cli.terminal.command import Group
from cli.tool import CloudName

F = TypeVar("F", bound=Callable[..., Any])
CLOUD = click.argument("cloud", type=CloudName())
TENANT = click.argument("tenant", metavar="TENANT")
TENANTS = click.argument("tenants", metavar="TENANT…", nargs=-1, required=True)
JSON = click.option("--json", "as_json", is_flag=True, help="Write a JSON document to stdout and nothing else.")


def located(command: F) -> F:
    """Add the options that select the registry."""
    for decorate in reversed(
        (
            click.option(
                "--registry",
                type=click.Path(dir_okay=False, path_type=Path),
                metavar="FILE",
                help="Work on the registry in this file instead of the deployment's.",
            ),
            FUNCTION,
            click.option(
                "--settings", type=FILE, metavar="FILE", help="Take the settings from this file of NAME=value lines."
            ),
            JSON,
        )
    ):
        command = decorate(command)
    return command


@click.group(
    cls=Group,
    examples=["tailpipe-exports tenants list aws", "tailpipe-exports tenants invite aws acme"],
)
def tenants() -> None:
    """Onboard, check and pause the tenants that one deployment serves.

    A tenant is a payer account, an Entra tenant or an organization of its own. The registry names them all; the
    function only reads it.
    """


@tenants.command(
    examples=[
        "tailpipe-exports tenants add aws acme --entry role_arn=ROLE_ARN --entry external_id=SECRET_ARN",
    ]
)
@CLOUD
@click.argument("tenant", metavar="[TENANT]", default="")
@click.option("--name", default="", metavar="TEXT", help="What people call it.")
@click.option("--entry", multiple=True, metavar="NAME=VALUE", help="How to enter it; may be repeated.")
@click.option(
    "--destination", multiple=True, metavar="NAME=VALUE", help="Where its exports deliver to; may be repeated."
)
@click.option("--set", "overrides", multiple=True, metavar="NAME=VALUE", help="A setting of its own; may be repeated.")
@click.option("--label", "labels", multiple=True, metavar="NAME=VALUE", help="A label to group by; may be repeated.")
@click.option("--paused", is_flag=True, help="Leave it out of rounds until it is resumed.")
@click.option("--replace", is_flag=True, help="Replace the entry of a tenant that is in the registry.")
@click.option(
    "--from",
    "source",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
    metavar="FILE",
    help="Add the entries in this JSON file; - is the standard input.",
)
@located
@click.pass_context
def add(
    ctx: click.Context, /, cloud: Cloud, tenant: str, replace: bool, source: Path | None, paused: bool, **given: Any
) -> None:
    """Add a tenant to the registry.

    Secrets are references, never values; nothing is called in the tenant's cloud. Exit codes: 0, or 1 if nothing was
    written: every fault is shown.
    """
    from cli.tenants import actions

    pairs = {name: given.pop(name) for name in ("entry", "destination", "overrides", "labels")}
    name = given.pop("name")
    where = actions.Where(cloud, **given)
    if (source is None) == (not tenant):
        raise click.UsageError("name one TENANT, or give a file of entries with --from", ctx)
    if source is not None and (name or paused or any(pairs.values())):
        raise click.UsageError("--from FILE defines the entries: remove the options of a single one", ctx)
    if source is not None:
        ctx.exit(actions.add_file(where, source, replace=replace))
    ctx.exit(actions.add(where, tenant, name, pairs, paused=paused, replace=replace))


@tenants.command(
    "list",
    examples=["tailpipe-exports tenants list aws", "tailpipe-exports tenants list aws --discovered --json"],
)
@CLOUD
@click.option("--discovered", is_flag=True, help="Tenants that the cloud knows and the registry does not.")
@click.option("--group-by", "label", default="", metavar="LABEL", help="Group the tenants by the values of this label.")
@located
@click.pass_context
def list_(ctx: click.Context, /, cloud: Cloud, discovered: bool, label: str, **given: Any) -> None:
    """List the tenants, with the result of each one's last run.

    Exit codes: 0, or 1 if they cannot be read.
    """
    from cli.tenants import actions

    where = actions.Where(cloud, **given)
    if discovered and label:
        raise click.UsageError("--discovered cannot be combined with --group-by", ctx)
    ctx.exit(actions.discovered(where) if discovered else actions.list_tenants(where, label))


@tenants.command(examples=["tailpipe-exports tenants show aws acme"])
@CLOUD
@TENANT
@located
@click.pass_context
def show(ctx: click.Context, /, cloud: Cloud, tenant: str, **given: Any) -> None:
    """Show a tenant's entry, its faults, and the result of its last run.

    Exit codes: 0, or 1 if its entry is wrong, or not in the registry.
    """
    from cli.tenants import actions

    ctx.exit(actions.show_tenant(actions.Where(cloud, **given), tenant))


@tenants.command(examples=["tailpipe-exports tenants check aws acme", "tailpipe-exports tenants check aws --json"])
@CLOUD
@click.argument("tenants_", metavar="[TENANT]…", nargs=-1)
@located
@click.pass_context
def check(ctx: click.Context, /, cloud: Cloud, tenants_: Sequence[str], **given: Any) -> None:
    """Check whether tenants can be entered, with which rights, and that they refuse others.

    With your own credentials; nothing is written. Without a TENANT, all are checked. Exit codes: 0 no check failed, 1
    one failed.
    """
    from cli.tenants import actions

    ctx.exit(actions.check(actions.Where(cloud, **given), tenants_))


@tenants.command(
    examples=["tailpipe-exports tenants invite aws acme", "tailpipe-exports tenants invite azure acme --out acme"]
)
@CLOUD
@TENANT
@click.option(
    "--out",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Write the files of the invitation to this folder; created if it does not exist.",
)
@located
@click.pass_context
def invite(ctx: click.Context, /, cloud: Cloud, tenant: str, folder: Path | None, **given: Any) -> None:
    """Print what the tenant's owner has to accept or run, so that it can be entered.

    Exit codes: 0, or 1 if the tenant is not in the registry.
    """
    from cli.tenants import actions

    ctx.exit(actions.invite(actions.Where(cloud, **given), tenant, folder))


@tenants.command(examples=["tailpipe-exports tenants pause aws acme"])
@CLOUD
@TENANTS
@located
@click.pass_context
def pause(ctx: click.Context, /, cloud: Cloud, tenants: Sequence[str], **given: Any) -> None:
    """Leave tenants out of rounds; their exports go on delivering.

    Exit codes: 0, or 1 if nothing was written.
    """
    from cli.tenants import actions

    ctx.exit(actions.pause(actions.Where(cloud, **given), tenants, paused=True))


@tenants.command(examples=["tailpipe-exports tenants resume aws acme"])
@CLOUD
@TENANTS
@located
@click.pass_context
def resume(ctx: click.Context, /, cloud: Cloud, tenants: Sequence[str], **given: Any) -> None:
    """Include paused tenants in rounds again.

    Exit codes: 0, or 1 if nothing was written.
    """
    from cli.tenants import actions

    ctx.exit(actions.pause(actions.Where(cloud, **given), tenants, paused=False))


@tenants.command(examples=["tailpipe-exports tenants remove aws acme --yes"])
@CLOUD
@TENANTS
@click.option("--yes", is_flag=True, help="Remove without asking; required without a terminal.")
@located
@click.pass_context
def remove(ctx: click.Context, /, cloud: Cloud, tenants: Sequence[str], yes: bool, **given: Any) -> None:
    """Remove tenants from the registry; nothing in their clouds is deleted.

    Shows what stays there, and how to remove it. Exit codes: 0, or 1 if nothing was written.
    """
    from cli.tenants import actions

    ctx.exit(actions.remove(actions.Where(cloud, **given), tenants, yes=yes))
