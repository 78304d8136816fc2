"""What the commands `tailpipe-exports local <cloud>` share: options, and errors as one sentence."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from localcloud.common.local_cloud import LocalCloud

F = TypeVar("F", bound=Callable[..., Any])

env_file = click.option(
    "--env-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the variables to this file, for `source` or a tool's --env-file, and remove it at the end.",
)


SECONDS = click.FloatRange(min=0)

page_size = click.option(
    "--page-size", type=click.IntRange(1), default=1000, show_default=True, help="Maximum number of items per page."
)
empty_pages_every = click.option(
    "--empty-pages-every", type=click.IntRange(0), default=3, show_default=True, help="0: no empty pages."
)
latency = click.option("--latency", "latency_s", type=SECONDS, default=0, help="Seconds before each response.")


def event_faults(command: F) -> F:
    """Add the options of `EventFaults`; the parameters are called as its fields, after `event_`."""
    options = (
        click.option("--event-delay", "event_delay_s", type=SECONDS, default=0, help="Seconds until an event arrives."),
        click.option(
            "--event-spread",
            "event_spread_s",
            type=SECONDS,
            default=0,
            help="Up to this many additional seconds, at random, so that events overtake each other.",
        ),
        click.option(
            "--event-copies",
            type=click.IntRange(1),
            default=1,
            show_default=True,
            help="How often each event arrives.",
        ),
        click.option(
            "--event-loss", type=click.FloatRange(0, 1), default=0, help="Fraction of the events that never arrive."
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def port(served: str = "Port") -> Callable[[F], F]:
    """Return the option for the port of what is `served`."""
    return click.option(
        "--port", type=click.IntRange(0, 65535), default=0, help=f"{served} on 127.0.0.1; default: a free one."
    )


@contextmanager
def clear_errors(ctx: click.Context, options: Mapping[str, Any]) -> Iterator[None]:
    """Turn what keeps a local cloud from serving into click's errors: bad options, ports and files."""
    from cli.packaging import PackagingError
    from localcloud.common.foreground import check_file

    try:
        if options["env_file"] is not None:
            check_file(options["env_file"])
        yield
    except ValueError as error:
        raise click.UsageError(str(error), ctx) from error
    except PackagingError as error:
        raise click.ClickException("\n  ".join(("the function is not packaged:", *error.problems))) from error
    except OSError as error:
        raise click.ClickException(_reason(error, options["port"])) from error


def serve(cloud: Callable[..., LocalCloud], options: Mapping[str, Any], behavior: type[Any] | None = None) -> int:
    """Open a local cloud with a command's options and serve it until a signal; returns the exit code.

    Options that `behavior`, a dataclass, has as fields are given to the cloud as one of it.
    """
    from localcloud.common import local_cloud
    from localcloud.common.event_faults import EventFaults

    how = {name: value for name, value in options.items() if name in ("env_file", "latency_s", "throttle_per_second")}
    faults = {one.name: f"event_{one.name}" for one in fields(EventFaults)}
    tuned = {one.name for one in fields(behavior)} & options.keys() if behavior else set()
    apart = {*how, *tuned, *faults.values()}
    given = {name: value for name, value in options.items() if name not in apart}
    if behavior:
        given["behavior"] = behavior(**{name: options[name] for name in tuned})
    events = EventFaults(**{field: options[name] for field, name in faults.items()})
    return local_cloud.serve(cloud(**given), events=events, **how)


def _reason(error: OSError, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} is in use; choose another, or omit --port for a free one"
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if error.errno in (errno.EACCES, errno.EPERM):
        return f"port {port} cannot be opened: {error.strerror}; choose one above 1023"
    return str(error)
