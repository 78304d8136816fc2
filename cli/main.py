"""The command line. Modules of clouds and slow imports are loaded by the commands that need them.

The module is over 350 lines because a command's options, help and examples stand together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from cli.clouds import CLOUDS, Cloud, many_in_demos
from cli.monitor.commands import COMMANDS
from cli.options import ALL, FILE, FOLDER, FUNCTION, ONBOARDING_FILE, SHOW_SECRET, TENANT, choice_of, reconciling
from cli.tenants.commands import tenants
from cli.tool import CloudName, LocalClouds, Tool
from tailpipe_exports import NAME


def _show_version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from tailpipe_exports import commit, version

        click.echo(f"tailpipe-exports {version()} (commit {commit()})")
        ctx.exit()


@click.group(
    NAME,
    cls=Tool,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=["tailpipe-exports demo aws", "tailpipe-exports doctor aws", "tailpipe-exports deploy aws --dry-run"],
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show version and commit.",
)
def main() -> None:
    """Keep cloud cost exports alive: deploy, plan, run, and try it on this machine."""
    from cli.terminal.console import forgive_encoding, quiet_sdks

    forgive_encoding()
    quiet_sdks()


@main.group(cls=LocalClouds, examples=["tailpipe-exports local aws --env-file aws.env"])
def local() -> None:
    """Serve a local cloud on loopback until interrupted.

    It is in the state after a deployment. Prints `export NAME=value` lines, or writes them to a file, then prints
    `ready`.
    """


@main.command(examples=["tailpipe-exports plan aws", "tailpipe-exports plan aws --all --json"])
@reconciling
@click.option(
    "--out",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Also write the plan to this file, for `run --plan`.",
)
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    cloud: Cloud,
    scopes: Sequence[str],
    as_json: bool,
    everything: bool,
    force: bool,
    verify_all: bool,
    file: Path | None,
    **chosen: Any,
) -> None:
    """Show what a run would do, and why; nothing is written.

    The settings are those of the deployed function, the credentials your own. Exit codes: 0 nothing to write, 2
    something to create, repair or adopt, 1 error.
    """
    from cli import reconcile

    request = {"scopes": list(scopes), "force": force, "verify_all": verify_all}
    ctx.exit(reconcile.plan(cloud, request, choice_of(ctx, **chosen), reconcile.View(as_json, everything), file))


@main.command(examples=["tailpipe-exports run aws --dry-run", "tailpipe-exports run aws --yes"])
@reconciling
@click.option("--dry-run", is_flag=True, help="Plan and report, write nothing.")
@click.option("--yes", is_flag=True, help="Write without asking; required without a terminal to ask on.")
@click.option("--plan", "file", type=FILE, metavar="FILE", help="Make exactly the writes of the plan in this file.")
@click.pass_context
def run(
    ctx: click.Context,
    /,
    cloud: Cloud,
    scopes: Sequence[str],
    as_json: bool,
    everything: bool,
    force: bool,
    verify_all: bool,
    dry_run: bool,
    yes: bool,
    file: Path | None,
    **chosen: Any,
) -> None:
    """Reconcile now, with your own credentials.

    The settings are those of the deployed function. Shows what would be written, and asks; with --plan, it makes
    exactly the writes of that plan, or none if something has changed. Exit codes: 0 ok, 3 degraded, 1 failed or
    declined.
    """
    from cli import reconcile

    if file is not None:
        if scopes or force or verify_all or dry_run:
            raise click.UsageError("--plan FILE defines the writes: remove the other options", ctx)
        ctx.exit(reconcile.run_planned(cloud, choice_of(ctx, **chosen), reconcile.View(as_json, everything), file))
    request = {"dry_run": dry_run, "scopes": list(scopes), "force": force, "verify_all": verify_all}
    view = reconcile.View(as_json, everything)
    ctx.exit(reconcile.run(cloud, request, choice_of(ctx, **chosen), view, yes=yes))


@main.command(
    examples=[
        "tailpipe-exports deploy aws --var environment=prod --dry-run",
        "tailpipe-exports deploy aws --var environment=prod",
    ]
)
@click.argument("cloud", type=CloudName())
@click.option("--var", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable of the module; may be repeated.")
@click.option("--var-file", "files", multiple=True, type=FILE, help="A file of variables; may be repeated.")
@click.option("--yes", is_flag=True, help="Apply the plan without asking.")
@click.option("--dry-run", is_flag=True, help="Check, package and plan; change nothing.")
@click.option(
    "--with",
    "engine",
    type=click.Choice(["terraform", "native"]),
    default="terraform",
    show_default=True,
    help="What creates the resources: Terraform, or the cloud's own service (CloudFormation on AWS).",
)
@click.option("--local-state", type=FOLDER, metavar="DIR", help="Keep Terraform's state in this folder.")
@click.option(
    "--alarm-email",
    "alarm_emails",
    multiple=True,
    metavar="ADDRESS",
    help="An e-mail address that alarms notify; may be repeated.",
)
@SHOW_SECRET
@ALL
@ONBOARDING_FILE
@click.pass_context
def deploy(
    ctx: click.Context,
    cloud: Cloud,
    pairs: Sequence[str],
    files: Sequence[Path],
    yes: bool,
    dry_run: bool,
    engine: str,
    local_state: Path | None,
    alarm_emails: Sequence[str],
    show_secret: bool,
    everything: bool,
    onboarding_file: Path | None,
) -> None:
    """Deploy the function, run it once, and verify it.

    Uses Terraform unless --with says otherwise, and prints what Tailpipe needs to connect, without secrets. Run it
    again to update a deployment, or to continue an interrupted one. Secret variables are best given as TF_VAR_name or
    in a file. Exit codes: 0 ok, 3 deployed and the first run degraded, 1 failed.
    """
    from cli.deployment.commands.deploy import Wanted
    from cli.deployment.commands.deploy import deploy as command
    from cli.deployment.model import Showing

    showing = Showing(show_secret, everything, onboarding_file)
    wanted = Wanted(pairs, files, yes, dry_run, local_state, alarm_emails, showing, engine)
    ctx.exit(command(cloud, wanted))


@main.command(examples=["tailpipe-exports doctor aws"])
@click.argument("cloud", type=CloudName())
@click.option("--json", "as_json", is_flag=True, help="Write the findings to stdout and nothing else.")
@FUNCTION
@click.pass_context
def doctor(ctx: click.Context, cloud: Cloud, as_json: bool, function: str) -> None:
    """Show which of the required permissions are present or missing.

    Each missing one has the command that grants it. Exit codes: 0 none is missing, 1 some are.
    """
    from cli.deployment.commands.doctor import doctor as command

    ctx.exit(command(cloud, as_json, function))


@main.command(
    examples=[
        "tailpipe-exports invoke aws --dry-run",
        "tailpipe-exports invoke aws",
        "tailpipe-exports invoke aws --tenant acme",
    ]
)
@click.argument("cloud", type=CloudName())
@click.option("--dry-run", is_flag=True, help="Plan and report, write nothing.")
@click.option("--scope", "scopes", multiple=True, metavar="ID", help="Only this scope; may be repeated.")
@click.option("--force", is_flag=True, help="Recreate targets even if the guard refuses.")
@click.option("--json", "as_json", is_flag=True, help="Write the report to stdout and nothing else.")
@TENANT
@click.option("--all", "everyone", is_flag=True, help="A round over all tenants, which the coordinator makes.")
@FUNCTION
@click.pass_context
def invoke(
    ctx: click.Context,
    cloud: Cloud,
    dry_run: bool,
    scopes: Sequence[str],
    force: bool,
    as_json: bool,
    tenant: str,
    everyone: bool,
    function: str,
) -> None:
    """Call the deployed function now and print its report.

    For instance after adding accounts. Waits while another run is in progress; with --all, until the round is over.
    Exit codes: 0 ok, 3 degraded (a round: some tenants failed), 1 failed.
    """
    from cli.deployment.commands.invoke import invoke as command
    from cli.deployment.commands.invoke import invoke_all

    if everyone:
        if dry_run or scopes or force or tenant:
            raise click.UsageError("--all is a round over all tenants: remove the other options", ctx)
        ctx.exit(invoke_all(cloud, as_json, function))
    payload = {"dry_run": dry_run, "scopes": list(scopes), "force": force, **({"tenant": tenant} if tenant else {})}
    ctx.exit(command(cloud, payload, as_json, function))


@main.command(examples=["tailpipe-exports onboarding aws", "tailpipe-exports onboarding aws --all"])
@click.argument("cloud", type=CloudName())
@SHOW_SECRET
@ALL
@ONBOARDING_FILE
@FUNCTION
@click.pass_context
def onboarding(
    ctx: click.Context,
    cloud: Cloud,
    show_secret: bool,
    everything: bool,
    onboarding_file: Path | None,
    function: str,
) -> None:
    """Print what Tailpipe needs to connect, as JSON.

    Secrets and long lists are left out; if there are any, the whole document is written to a file that only you can
    read.
    """
    from cli.deployment.commands.onboarding import onboarding as command
    from cli.deployment.model import Showing

    ctx.exit(command(cloud, Showing(show_secret, everything, onboarding_file), function))


@main.command(examples=["tailpipe-exports destroy aws --dry-run", "tailpipe-exports destroy aws --keep-identity"])
@click.argument("cloud", type=CloudName())
@click.option("--keep-identity", is_flag=True, help="Keep the identity that Tailpipe reads with.")
@click.option("--delete-exports", is_flag=True, help="Also delete the exports that are marked as ours.")
@click.option("--delete-data", is_flag=True, help="Also delete the delivered data, permanently.")
@click.option(
    "--confirm", metavar="ID", help="The account, tenant or project id, typed out; required without a terminal."
)
@click.option("--local-state", type=FOLDER, metavar="DIR", help="Terraform's state is in this folder.")
@click.option("--dry-run", is_flag=True, help="Show what would be removed and kept; change nothing.")
@FUNCTION
@click.pass_context
def destroy(
    ctx: click.Context,
    cloud: Cloud,
    keep_identity: bool,
    delete_exports: bool,
    delete_data: bool,
    confirm: str | None,
    local_state: Path | None,
    dry_run: bool,
    function: str,
) -> None:
    """Remove a deployment; exports and data are kept unless you request their deletion.

    The schedule is stopped first. The command may be called again after an interruption. Exit codes: 0 removed, 1
    not, or not all; with --dry-run as for plan: 0 nothing to remove, 2 something, 1 error.
    """
    from cli.deployment.commands.destroy import destroy as command
    from cli.deployment.model import Removal

    removal = Removal(keep_identity, delete_exports, delete_data)
    ctx.exit(command(cloud, removal, confirm, local_state, dry_run, function))


@main.command(examples=["tailpipe-exports migrate aws --to native --var environment=prod"])
@click.argument("cloud", type=CloudName())
@click.option("--to", type=click.Choice(["terraform", "native"]), required=True, help="What manages it from now on.")
@click.option("--var", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable of the module; may be repeated.")
@click.option("--var-file", "files", multiple=True, type=FILE, help="A file of variables; may be repeated.")
@click.option("--yes", is_flag=True, help="Move it without asking.")
@click.pass_context
def migrate(ctx: click.Context, cloud: Cloud, to: str, pairs: Sequence[str], files: Sequence[Path], yes: bool) -> None:
    """Move a deployment from Terraform to the cloud's own service, or back.

    No resource is deleted or replaced. Give the same variables as for `deploy`. The command may be called again after
    an interruption. Exit codes: 0 moved, 1 not, or not wholly.
    """
    from cli.deployment.commands.migrate import migrate as command

    ctx.exit(command(cloud, to, pairs, files, yes))


@main.command(
    examples=[
        "tailpipe-exports package aws --out dist",
        "tailpipe-exports package aws --upload s3://my-bucket/tailpipe-exports/",
    ]
)
@click.argument("cloud", type=CloudName())
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder for the archive; created if it does not exist.",
)
@click.option(
    "--upload",
    "address",
    metavar="ADDRESS",
    help="Upload archive and native templates, and print the links or commands that deploy them: s3://BUCKET/FOLDER/ "
    "on AWS, gs://BUCKET/FOLDER/ on Google Cloud.",
)
@click.option(
    "--var", "pairs", multiple=True, metavar="NAME=VALUE", help="A variable to fill in on the links; may be repeated."
)
@click.option("--var-file", "files", multiple=True, type=FILE, help="A file of such variables; may be repeated.")
@click.pass_context
def package(
    ctx: click.Context,
    cloud: Cloud,
    out: Path | None,
    address: str | None,
    pairs: Sequence[str],
    files: Sequence[Path],
) -> None:
    """Write the function's archive and print its path.

    It contains only what the function imports; the same version produces the same bytes. Wheels come from your
    configured package index. With --upload, the links or commands that deploy it are printed instead, without
    secrets. Exits with 1 if no archive is made or uploaded.
    """
    from cli.package import upload, write

    if address is not None:
        ctx.exit(upload(cloud, out, address, pairs, files))
    if out is None:
        raise click.UsageError("name the folder for the archive: --out DIR", ctx)
    if pairs or files:
        raise click.UsageError("--var and --var-file fill in links: add --upload ADDRESS", ctx)
    ctx.exit(write(cloud, out))


@main.command(examples=["tailpipe-exports template aws", "tailpipe-exports template azure --name management-group"])
@click.argument("cloud", type=CloudName())
@click.option("--name", default="", metavar="NAME", help="Which one, if the cloud has several; default: the first.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="Write it to this file; on gcp, folder.")
@click.option("--link", default="", metavar="URL", help="Print the console's link to it, published at this address.")
@click.pass_context
def template(ctx: click.Context, cloud: Cloud, name: str, out: Path | None, link: str) -> None:
    """Print the template that deploys without Terraform.

    The cloud's own service deploys it, from its console or command line: CloudFormation, Azure Resource Manager, or
    Infrastructure Manager, whose template is a folder with the function's package: --out names it.
    Azure has one for a subscription and one for a management group. --link takes the address below which Azure's
    templates are published, or that of your copy of this repository for the tutorial in Cloud Shell. On aws,
    package --upload publishes them and prints the links. Exits with 1 without a template.
    """
    from cli.template import write

    ctx.exit(write(cloud, name, out, link))


@main.command(examples=["tailpipe-exports demo aws --scopes 12", "tailpipe-exports demo fleet"])
@click.argument("cloud", type=CloudName("fleet"), metavar="[CLOUD|fleet]", required=False)
@click.option(
    "--scopes", type=click.IntRange(4, 5000), help=f"How many scopes there are; unless given: {many_in_demos()}."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Also write all results to this file."
)
@click.pass_context
def demo(ctx: click.Context, cloud: Cloud | str | None, scopes: int | None, json_file: Path | None) -> None:
    """Watch the function onboard and heal a cloud on this machine.

    Every expectation is checked. Without a cloud's name, all clouds are shown; `fleet` shows many tenants on all of
    them. The documents that the functions stored are kept and shown on a page; status, history and page read them with
    --demo. Exits with 1 if an expectation is not met.
    """
    import moto  # noqa: F401 - where the extra `local` is missing, that is reported instead of a scenario that breaks

    from cli.demo.play import play
    from cli.monitor.demo import show_kept

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise click.BadParameter(f"the folder of {json_file} does not exist", param_hint="--json")
    if isinstance(cloud, str):
        from cli.demo.fleet import play_fleet

        if scopes is not None:
            raise click.UsageError("--scopes is for a demonstration of one cloud", ctx)
        ctx.exit(play_fleet([one.fleet for one in CLOUDS.values()], json_file))
    clouds = [cloud] if cloud else list(CLOUDS.values())
    code = play(clouds, scopes, json_file)
    show_kept(clouds)
    ctx.exit(code)


@main.command(examples=["source <(tailpipe-exports completion bash)", "tailpipe-exports completion fish | source"])
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    It completes commands, options and clouds. Add the line of your shell to its startup file: for bash and zsh the
    first of the examples, with the shell's name.
    """
    from click.shell_completion import BashComplete, FishComplete, ZshComplete

    completers = {"bash": BashComplete, "fish": FishComplete, "zsh": ZshComplete}
    click.echo(completers[shell](main, {}, NAME, f"_{NAME.upper().replace('-', '_')}_COMPLETE").source())


for _command in (*COMMANDS, tenants):
    main.add_command(_command)

if __name__ == "__main__":
    sys.exit(main())
