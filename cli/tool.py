"""The tool as a click group: clouds as arguments, a subcommand for each local cloud, and one way to report errors."""

from __future__ import annotations

import json
import shutil
from typing import Any, NoReturn

import click
from click.shell_completion import CompletionItem

from cli.clouds import CLOUDS, Cloud, known
from cli.terminal.command import NARROWEST, WIDEST, Group
from tailpipe_exports import NAME, PACKAGES

INTERRUPTED = 130
_CLOUD = "tailpipe_exports.cloud"  # key of the given cloud's name in a context's `meta`
_GIVEN = "tailpipe_exports.given"  # key of all command-line arguments
_JSON = "--json"


class CloudName(click.ParamType[Cloud | str]):
    """A cloud's name → its entry; one of `more` is returned as it is."""

    name = "cloud"

    def __init__(self, *more: str) -> None:
        self._more = more

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Cloud | str:
        if isinstance(value, Cloud) or value in self._more:
            return value  # type: ignore[no-any-return]  # one of the two
        if value not in CLOUDS:
            names = ", ".join((known(), *self._more))
            self.fail(f"no cloud is called {value!r}; this version knows: {names}", param, ctx)
        if ctx is not None:
            ctx.meta[_CLOUD] = value
        return CLOUDS[value]

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - click's signature
        incomplete: str,
    ) -> list[CompletionItem]:
        named = {one.name: one.title for one in CLOUDS.values()} | {one: one for one in self._more}
        return [CompletionItem(name, help=title) for name, title in named.items() if name.startswith(incomplete)]


class Tool(Group):
    """The whole tool. Usage errors end with 1: in `plan`, 2 means that there is something to write."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        columns = shutil.get_terminal_size().columns
        extra.setdefault("terminal_width", min(max(columns, NARROWEST), WIDEST) - 2)
        given = tuple(args)
        try:
            made = super().make_context(info_name, args, parent, **extra)
        except click.UsageError as error:
            error.show()
            raise click.exceptions.Exit(1) from error
        made.meta[_GIVEN] = given
        return made

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            self._end(ctx, error, error.ctx.command if error.ctx else None)
        except ModuleNotFoundError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            self._end(ctx, click.ClickException(_missing(error, ctx)), command)
        except KeyboardInterrupt:
            click.echo("interrupted", err=True)
            ctx.exit(INTERRUPTED)

    def _end(self, ctx: click.Context, error: click.ClickException, command: click.Command | None) -> NoReturn:
        """Show the error, also as a document if one was requested, and exit with 1."""
        error.show()
        if _JSON in ctx.meta[_GIVEN] and command is not None and _has_flag(command):
            remedy = f"See {NAME} {command.name} --help." if isinstance(error, click.UsageError) else ""
            # The form of cli.deployment.output.with_error, which cannot be imported if modules are missing.
            problem = {"what": error.format_message(), "remedy": remedy}
            click.echo(json.dumps({"error": {"problems": [problem]}}, indent=2))
        ctx.exit(1)


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


def _has_flag(command: click.Command) -> bool:
    """Return whether `--json` is a flag of the command; that of `demo` names a file."""
    return any(isinstance(one, click.Option) and one.is_flag and _JSON in one.opts for one in command.params)


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
