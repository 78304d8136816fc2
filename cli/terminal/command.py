"""click's commands and groups, with help that fits narrow terminals and ends with examples."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

NARROWEST, WIDEST = 40, 80


class Formatter(click.HelpFormatter):
    """Wraps on narrow terminals too, where click's first column would leave no room for the texts."""

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        super().write_dl(rows, min(col_max, max(12, self.width - NARROWEST)), col_spacing)


class Context(click.Context):
    """A context whose help is written by our formatter."""

    formatter_class = Formatter


class _Exampled(click.Command):
    """Shows examples at the end of the help. A test runs each of them."""

    context_class = Context

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for one in self.examples:
                    # Not wrapped: it can be copied.
                    formatter.write(f"{'':>{formatter.current_indent}}{one}\n")


class Command(_Exampled):
    """A command with examples."""


class Group(_Exampled, click.Group):
    """A group that shows its commands' whole summaries, wrapped where the terminal is narrow."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        named = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        summaries = [(name, one.get_short_help_str(limit=1000)) for name, one in named if one and not one.hidden]
        if summaries:
            with formatter.section("Commands"):
                formatter.write_dl(summaries)
