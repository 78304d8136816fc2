"""The tool as a click group: a cloud as its commands' argument, one local cloud a subcommand, one way to fail."""

from __future__ import annotations

import shutil
from typing import Any

import click
from click.shell_completion import CompletionItem

from cli.clouds import CLOUDS, Cloud, known
from cli.terminal.command import NARROWEST, WIDEST, Group
from tailpipe_exports import NAME, PACKAGES

INTERRUPTED = 130
_CLOUD = "tailpipe_exports.cloud"  # key of the given cloud's name in a context's `meta`


class CloudName(click.ParamType[Cloud]):
    """A cloud's name → its entry."""

    name = "cloud"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cloud:
        if isinstance(value, Cloud):
            return value
        if value not in CLOUDS:
            self.fail(f"no cloud is called {value!r}; this version knows: {known()}", param, ctx)
        if ctx is not None:
            ctx.meta[_CLOUD] = value
        return CLOUDS[value]

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        return [CompletionItem(one.name, help=one.title) for one in CLOUDS.values() if one.name.startswith(incomplete)]


class Tool(Group):
    """The whole tool. Usage errors end with 1: in `plan`, 2 means that there is something to write."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        columns = shutil.get_terminal_size().columns
        kwargs.setdefault("terminal_width", min(max(columns, NARROWEST), WIDEST) - 2)
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(1) from error

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            error.show()
            ctx.exit(1)
        except ModuleNotFoundError as error:
            raise click.ClickException(_missing(error, ctx)) from error
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)


class LocalClouds(Group):
    """One subcommand for each cloud, with the options of its own local server."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(CLOUDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in CLOUDS:
            return None
        ctx.meta[_CLOUD] = cmd_name
        return CLOUDS[cmd_name].local()

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not ctx.resilient_parsing and not args[0].startswith("-") and args[0] not in CLOUDS:
            ctx.fail(f"no cloud is called {args[0]!r}; this version knows: {known()}")
        return super().resolve_command(ctx, args)


def _missing(error: ModuleNotFoundError, ctx: click.Context) -> str:
    """Return why a module is missing, and the command that installs it."""
    module = error.name or str(error)
    command = str(ctx.invoked_subcommand)
    if module.partition(".")[0] in PACKAGES or command not in ("demo", "local"):
        return f"the installation is incomplete: it has no {module}. Install {NAME} again."
    what = " ".join(filter(None, (command, ctx.meta.get(_CLOUD))))
    return (
        f"`{NAME} {what}` needs the module {module} of the extra `local`, which is not installed. Run in a clone, with"
        " uv tool, pipx or pip, as you installed the command: pip install '.[local]'"
    )
