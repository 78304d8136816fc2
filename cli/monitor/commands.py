"""The commands of the operator's view; each loads what it needs when it is called.

The module is over 350 lines because a command's options, help and examples stand together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.clouds import CLOUDS, Cloud, known
from cli.options import ALL, FUNCTION, TENANT, choice_of, from_deployment
from cli.terminal.command import Command
from cli.tool import CloudName

if TYPE_CHECKING:
    from cli.settings_source import Choice

EVERY = "all"
UNITS = {"m": "minutes", "h": "hours", "d": "days"}
TENANTS = click.option("--all-tenants", "tenants", is_flag=True, help="All tenants of the deployment as one.")
GROUP_BY = click.option(
    "--group-by", "label", default="", metavar="LABEL", help="With --all-tenants: group them by this label."
)
JSON = click.option("--json", "as_json", is_flag=True, help="Write a JSON document to stdout and nothing else.")
DEMO = click.option("--demo", is_flag=True, help="Read what the last demonstration on this machine stored.")


def _choice(ctx: click.Context, clouds: Sequence[Cloud], demo: bool, chosen: Mapping[str, Any]) -> Choice:
    """Return where the documents are read from. Raises UsageError for flags that exclude each other."""
    from cli.settings_source import Choice

    if demo:
        if any(chosen.values()):
            what = "--function, --settings, --tenant or --without-deployment"
            raise click.UsageError(f"--demo cannot be combined with {what}", ctx)
        return Choice(demo=True)
    if (chosen["function"] or chosen["settings"] or chosen["tenant"]) and len(clouds) != 1:
        raise click.UsageError("--function, --settings and --tenant are for one cloud: name it", ctx)
    return choice_of(ctx, **chosen)


def _choice_of_tenants(
    ctx: click.Context, clouds: Sequence[Cloud], chosen: Mapping[str, Any], refused: Mapping[str, object]
) -> Choice:
    """Return where the documents of all tenants are read from. Raises UsageError for the flags in `refused`."""
    given = [name for name, value in {**refused, "--tenant": chosen["tenant"]}.items() if value]
    if given:
        raise click.UsageError(f"--all-tenants cannot be combined with {', '.join(given)}", ctx)
    return _choice(ctx, clouds, False, chosen)


def _clouds(names: Sequence[str]) -> list[Cloud]:
    """Return the named clouds, each once; all of them for none or ``all``. Raises BadParameter."""
    unknown = [name for name in names if name not in CLOUDS and name != EVERY]
    if unknown:
        raise click.BadParameter(f"no cloud is called {unknown[0]!r}; this version knows: {known()}, {EVERY}")
    if not names or EVERY in names:
        return list(CLOUDS.values())
    return [CLOUDS[name] for name in dict.fromkeys(names)]


@click.command(
    cls=Command,
    examples=["tailpipe-exports status aws", "tailpipe-exports status aws 111122223333"],
)
@click.argument("names", nargs=-1, metavar="[CLOUD…|all] [SCOPE]")
@click.option("--watch", is_flag=True, help="Show it again every 30 seconds, until interrupted.")
@TENANTS
@GROUP_BY
@ALL
@JSON
@DEMO
@from_deployment
@click.pass_context
def status(
    ctx: click.Context,
    /,
    names: Sequence[str],
    watch: bool,
    tenants: bool,
    label: str,
    everything: bool,
    as_json: bool,
    demo: bool,
    **chosen: Any,
) -> None:
    """Show what is covered, what needs you, and what fails.

    From the function's stored documents, without calls to your accounts. With a SCOPE: everything that is known about
    it. Exit codes: 0 covered or pending, 1 something failed or could not be read, 2 a person is needed.
    """
    from cli.monitor import status as command

    scope = ""
    if len(names) > 1 and names[-1] not in CLOUDS and names[-1] != EVERY:
        *names, scope = names
        if not scope:
            raise click.UsageError("the SCOPE is empty")
    clouds = _clouds(names)
    if scope and len(clouds) != 1:
        raise click.UsageError("a SCOPE belongs to one cloud: name only that cloud")
    if watch and as_json:
        raise click.UsageError("--watch shows text: it cannot be combined with --json")
    if label and not tenants:
        raise click.UsageError("--group-by requires --all-tenants")
    if tenants:
        choice = _choice_of_tenants(ctx, clouds, chosen, {"a SCOPE": scope, "--demo": demo})
    else:
        choice = _choice(ctx, clouds, demo, chosen)

    def show() -> int:
        if tenants:
            from cli.monitor import tenants as all_tenants

            return all_tenants.status(clouds, choice, label, as_json=as_json, everything=everything)
        return command.status(clouds, choice, scope, as_json=as_json, everything=everything)

    ctx.exit(command.watch(show) if watch else show())


@click.command(
    cls=Command, examples=["tailpipe-exports history aws", "tailpipe-exports history aws --since 2026-01-31 --json"]
)
@click.argument("cloud", type=CloudName())
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]),
    metavar="DATE",
    help="The first day (or time) in UTC; default: a week ago.",
)
@click.option("--scope", default="", metavar="ID", help="Only what concerns this scope.")
@TENANTS
@ALL
@JSON
@DEMO
@from_deployment
@click.pass_context
def history(
    ctx: click.Context,
    /,
    cloud: Cloud,
    since: Any,
    scope: str,
    tenants: bool,
    everything: bool,
    as_json: bool,
    demo: bool,
    **chosen: Any,
) -> None:
    """Show the runs, and what each changed.

    From the reports that the function stored, which are kept for 90 days; with --all-tenants, those of the rounds. Exit
    codes: 0, or 1 if they cannot be read or nothing is known about the scope.
    """
    from cli.monitor.history import history as command

    if tenants:
        from cli.monitor.tenants import history as of_tenants

        choice = _choice_of_tenants(ctx, [cloud], chosen, {"--scope": scope, "--demo": demo})
        ctx.exit(of_tenants(cloud, choice, since, as_json=as_json, everything=everything))
    choice = _choice(ctx, [cloud], demo, chosen)
    ctx.exit(command(cloud, choice, since, scope, as_json=as_json, everything=everything))


@click.command(cls=Command, examples=["tailpipe-exports months azure", "tailpipe-exports months aws --missing --json"])
@click.argument("names", nargs=-1, metavar="[CLOUD…|all]")
@click.option("--scope", "scopes", multiple=True, metavar="ID", help="Only this scope; may be repeated.")
@click.option("--dataset", default="", metavar="NAME", help="Only datasets whose name contains this.")
@click.option("--missing", is_flag=True, help="Only datasets that lack months.")
@TENANTS
@ALL
@JSON
@DEMO
@from_deployment
@click.pass_context
def months(
    ctx: click.Context,
    /,
    names: Sequence[str],
    scopes: Sequence[str],
    dataset: str,
    missing: bool,
    tenants: bool,
    everything: bool,
    as_json: bool,
    demo: bool,
    **chosen: Any,
) -> None:
    """Show which months of each scope have data, and why one has none.

    From the deliveries that the function recorded, without calls to your accounts. Exit codes: 0 none is missing, 2 a
    month is lost or can be filled, 1 a cloud could not be read.
    """
    from cli.monitor.months import months as command

    clouds = _clouds(names)
    if scopes and len(clouds) != 1:
        raise click.UsageError("--scope belongs to one cloud: name only that cloud")
    if tenants:
        from cli.monitor.tenants import months as of_tenants

        choice = _choice_of_tenants(ctx, clouds, chosen, {"--scope": scopes, "--demo": demo})
        ctx.exit(of_tenants(clouds, choice, dataset, missing=missing, as_json=as_json))
    choice = _choice(ctx, clouds, demo, chosen)
    ctx.exit(command(clouds, choice, scopes, dataset, missing=missing, as_json=as_json, everything=everything))


@click.command(
    cls=Command,
    examples=[
        "tailpipe-exports backfill azure --missing --dry-run",
        "tailpipe-exports backfill aws --scope 111122223333 --month 2026-01",
    ],
)
@click.argument("cloud", type=CloudName())
@click.option("--scope", "scopes", multiple=True, metavar="ID", help="Only this scope; may be repeated.")
@click.option("--month", "wanted", multiple=True, metavar="YYYY-MM", help="This past month; may be repeated.")
@click.option("--missing", is_flag=True, help="Every month that is missing; see months --missing.")
@click.option("--dry-run", is_flag=True, help="Show what would be requested, and request nothing.")
@JSON
@from_deployment
@click.pass_context
def backfill(
    ctx: click.Context,
    /,
    cloud: Cloud,
    scopes: Sequence[str],
    wanted: Sequence[str],
    missing: bool,
    dry_run: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Request past months, or show what can be done.

    Azure: the function requests them. AWS: prints the text of a case at AWS Support. Exit codes: 0 requested, or
    nothing is missing; 2 a person has to open the case; 3 some could not be requested; 1 failed, or the cloud delivers
    none.
    """
    from cli.monitor.backfill import backfill as command

    if missing == bool(wanted):
        raise click.UsageError("name months with --month, or all missing ones with --missing", ctx)
    if wanted and not scopes:
        raise click.UsageError("--month requires --scope", ctx)
    choice = choice_of(ctx, **chosen)
    ctx.exit(command(cloud, choice, scopes, wanted, dry_run=dry_run, as_json=as_json))


@click.command(cls=Command, examples=["tailpipe-exports page aws --out status.html"])
@click.argument("names", nargs=-1, metavar="[CLOUD…|all]")
@click.option(
    "--out",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("tailpipe-exports.html"),
    show_default=True,
    metavar="FILE",
    help="The file that is written; only you can read it.",
)
@click.option("--open", "show", is_flag=True, help="Open it in your browser.")
@click.option("--published", is_flag=True, help="Show what the last run published, instead of building the page.")
@TENANTS
@GROUP_BY
@DEMO
@from_deployment
@click.pass_context
def page(
    ctx: click.Context,
    /,
    names: Sequence[str],
    file: Path,
    show: bool,
    published: bool,
    tenants: bool,
    label: str,
    demo: bool,
    **chosen: Any,
) -> None:
    """Write the status page: one HTML file for all clouds.

    It works from disk and loads nothing from the network. Exit codes: 0, or 1 if a cloud could not be read.
    """
    from cli.monitor.page import page as command

    clouds = _clouds(names)
    if label and not tenants:
        raise click.UsageError("--group-by requires --all-tenants")
    if tenants:
        choice = _choice_of_tenants(ctx, clouds, chosen, {"--published": published, "--demo": demo})
    else:
        choice = _choice(ctx, clouds, demo, chosen)
    ctx.exit(command(clouds, choice, file, show=show, published=published, tenants=tenants, label=label))


class Since(click.ParamType[datetime]):
    """A day, a time in UTC, or how long ago (``30m``, ``12h``, ``7d``) → the moment in UTC."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        ago = re.fullmatch(r"([0-9]{1,5})([mhd])", str(value))
        try:
            if ago:
                return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: int(ago[1])})
            found = datetime.fromisoformat(str(value))
        except (ValueError, OverflowError):
            self.fail(
                f"{value!r} is neither a date or time such as 2026-01-31T12:00 nor an age such as 12h", param, ctx
            )
        return found.replace(tzinfo=found.tzinfo or UTC)


@click.command(
    cls=Command,
    examples=["tailpipe-exports logs aws --since 2h", "tailpipe-exports logs aws --scope 111122223333 --json"],
)
@click.argument("cloud", type=CloudName())
@click.option("--run", "run_id", default="", metavar="ID", help="Only lines of this run.")
@click.option("--scope", default="", metavar="ID", help="Only lines about this scope.")
@click.option(
    "--since",
    type=Since(),
    metavar="WHEN",
    help="A day or time in UTC, or an age: 30m, 12h, 7d. Default: the run's start, else a day ago.",
)
@TENANT
@click.option("--follow", is_flag=True, help="Show new lines as they arrive, until interrupted.")
@click.option("--json", "as_json", is_flag=True, help="Write each line as a JSON object to stdout and nothing else.")
@FUNCTION
@click.pass_context
def logs(
    ctx: click.Context,
    cloud: Cloud,
    run_id: str,
    scope: str,
    since: datetime | None,
    tenant: str,
    follow: bool,
    as_json: bool,
    function: str,
) -> None:
    """Show the log of the deployed function.

    From CloudWatch Logs, Log Analytics, or Cloud Logging, with your own credentials. Exit codes: 0, or 1 if it cannot
    be read.
    """
    from cli.deployment.log_lines import LogSearch
    from cli.monitor import logs as command

    start = since or command.since_of(run_id, follow=follow, now=datetime.now(UTC))
    search = LogSearch(max(start, command.EPOCH), run_id, scope, tenant)
    ctx.exit(command.logs(cloud, function, search, follow=follow, as_json=as_json))


@click.command(
    cls=Command,
    examples=["tailpipe-exports deliveries aws --since 7d", "tailpipe-exports deliveries azure --follow --json"],
)
@click.argument("cloud", type=CloudName())
@click.option("--scope", default="", metavar="ID", help="Only deliveries of this scope.")
@click.option("--dataset", default="", metavar="NAME", help="Only datasets whose name contains this.")
@click.option(
    "--since",
    type=Since(),
    default="1d",
    show_default=True,
    metavar="WHEN",
    help="A day or time in UTC, or an age: 30m, 12h, 7d.",
)
@click.option("--follow", is_flag=True, help="Show further deliveries as they come, until interrupted.")
@ALL
@click.option("--json", "as_json", is_flag=True, help="Write each one as a JSON object to stdout and nothing else.")
@from_deployment
@click.pass_context
def deliveries(
    ctx: click.Context,
    /,
    cloud: Cloud,
    scope: str,
    dataset: str,
    since: datetime,
    follow: bool,
    everything: bool,
    as_json: bool,
    **chosen: Any,
) -> None:
    """Show what was delivered, and which files each delivery changed.

    From the documents that the function stored beside the data. Exit codes: 0, or 1 where they cannot be read.
    """
    from cli.monitor import deliveries as command

    search = command.Search(since, scope, dataset)
    choice = choice_of(ctx, **chosen)
    ctx.exit(command.deliveries(cloud, choice, search, follow=follow, everything=everything, as_json=as_json))


@click.command(cls=Command, examples=["tailpipe-exports explain state-foreign"])
@click.argument("code")
@JSON
@click.pass_context
def explain(ctx: click.Context, code: str, as_json: bool) -> None:
    """Show the runbook's entry for a code or an event.

    What it means and what to do. Exit codes: 0, or 1 without such an entry.
    """
    from cli.monitor.explain import explain as command

    ctx.exit(command(code, as_json=as_json))


COMMANDS = (status, history, months, deliveries, backfill, page, logs, explain)
