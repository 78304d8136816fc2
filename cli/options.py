"""Arguments and options that several commands of the command line share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.tool import CloudName

if TYPE_CHECKING:
    from cli.settings_source import Choice

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
FOLDER = click.Path(file_okay=False, path_type=Path)
F = TypeVar("F", bound=Callable[..., Any])

FUNCTION = click.option(
    "--function",
    default="",
    metavar="NAME",
    help="The deployed function, where there are several; REGION/NAME for one of another region.",
)
TENANT = click.option(
    "--tenant", default="", metavar="ID", help="A tenant of the deployment's registry, instead of its own cloud."
)
SHOW_SECRET = click.option("--show-secret", is_flag=True, help="Print secrets as well; on AWS the External ID.")
ALL = click.option("--all", "everything", is_flag=True, help="Print whole lists instead of their first entries.")
ONBOARDING_FILE = click.option(
    "--onboarding-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the whole onboarding document to this file, which only you can read.",
)


def reconciling(command: F) -> F:
    """Add the argument and the options that `plan` and `run` share."""
    for decorate in reversed(
        (
            click.argument("cloud", type=CloudName()),
            click.option("--scope", "scopes", multiple=True, metavar="ID", help="Only this scope; may be repeated."),
            click.option("--json", "as_json", is_flag=True, help="Write the report to stdout and nothing else."),
            click.option("--all", "everything", is_flag=True, help="Show what is kept and skipped, and every row."),
            click.option("--force", is_flag=True, help="Recreate targets even if the guard refuses."),
            click.option("--verify-all", is_flag=True, help="Read every configuration, regardless of the call budget."),
            from_deployment,
        )
    ):
        command = decorate(command)
    return command


def from_deployment(command: F) -> F:
    """Add the options that select the source of the settings."""
    for decorate in reversed(
        (
            FUNCTION,
            click.option(
                "--settings", type=FILE, metavar="FILE", help="Take the settings from this file of NAME=value lines."
            ),
            click.option(
                "--without-deployment",
                is_flag=True,
                help="Where nothing is deployed: take the settings from the environment.",
            ),
            TENANT,
        )
    ):
        command = decorate(command)
    return command


def choice_of(
    ctx: click.Context, function: str, settings: Path | None, without_deployment: bool, tenant: str = ""
) -> Choice:
    """Return the source of the settings. Raises UsageError for flags that exclude each other."""
    from cli.settings_source import Choice

    if settings and (without_deployment or function):
        raise click.UsageError("--settings FILE cannot be combined with --function or --without-deployment", ctx)
    if function and without_deployment:
        raise click.UsageError("--function cannot be combined with --without-deployment", ctx)
    return Choice(function, settings, without_deployment, tenant=tenant)
