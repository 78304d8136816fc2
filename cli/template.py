"""`tailpipe-exports template`: prints a cloud's launch template, or the link that opens it in the cloud's console."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlencode

import click

from cli.clouds import Cloud
from cli.packaging import PackagingError, build
from tailpipe_exports import FILES

_PORTAL = "https://portal.azure.com/#create/Microsoft.Template"
_SHELL, _TUTORIAL = "https://shell.cloud.google.com/cloudshell/editor", "infra/gcp/tutorial.md"
_ADDRESS = re.compile(r"https://[^\s/?#]+(/[^\s?#]*)?")


def _azure_link(base: str, template: str, form: str) -> str:
    # "Use a deployment button to deploy remote templates", Microsoft Learn.
    where, asked = (quote(f"{base.rstrip('/')}/{name}", safe="") for name in (template, form))
    return f"{_PORTAL}/uri/{where}/createUIDefinitionUri/{asked}"


def _shell_link(repository: str) -> str:
    # "Open in Cloud Shell", Google Cloud documentation.
    query = {"cloudshell_git_repo": repository.rstrip("/"), "cloudshell_tutorial": _TUTORIAL}
    return f"{_SHELL}?{urlencode(query, safe='/:')}"


@dataclass(frozen=True)
class Template:
    """A launch template below `infra/`: its file, the form of the console ("" for none), and what makes its link."""

    file: str
    form: str = ""
    link: Callable[[str, str, str], str] | None = None


# By cloud and name; the first one is the default.
TEMPLATES: Mapping[str, Mapping[str, Template]] = {
    # The second one forwards events to the function's region, from the region where the partition reports them.
    "aws": {"deployment": Template("template.yaml"), "home-events": Template("home-events.yaml")},
    "azure": {
        "subscription": Template("template.json", "createUiDefinition.json", _azure_link),
        "management-group": Template("management-group.json", "management-group.form.json", _azure_link),
    },
}


def _write_blueprint(folder: Path, package: bytes) -> None:
    from cli.deployment.gcp import blueprint

    blueprint.write(folder, blueprint.files(package))


# By cloud: what writes a template that is a folder with the function's package inside. Raises OSError.
FOLDERS: Mapping[str, Callable[[Path, bytes], None]] = {"gcp": _write_blueprint}
# What makes the link to their tutorial, from the address of the repository.
TUTORIALS: Mapping[str, Callable[[str], str]] = {"gcp": _shell_link}


def write(cloud: Cloud, name: str, out: Path | None, link: str) -> int:
    """Print or write a template, or print its link; returns the exit code."""
    if link and not _ADDRESS.fullmatch(link):
        click.echo(f"--link {link[:100]!r} is not an https address. Write --link https://HOST/PATH.", err=True)
        return 1
    if cloud.name in FOLDERS and not name:
        if not link:
            return _write_folder(cloud, out)
        click.echo(TUTORIALS[cloud.name](link))
        return 0
    known = TEMPLATES.get(cloud.name, {})
    chosen = known.get(name or next(iter(known), ""))
    if chosen is None:
        names = f"Name one of {', '.join(known)}." if known else f"Use: tailpipe-exports deploy {cloud.name}."
        click.echo(f"{cloud.title} has no launch template {name}".rstrip() + f". {names}", err=True)
        return 1
    if link:
        if chosen.link is None:
            upload = f"package {cloud.name} --upload ADDRESS" if cloud.upload else "--out FILE"
            click.echo(f"{cloud.title}'s console opens no template by such a link. Use {upload}.", err=True)
            return 1
        click.echo(chosen.link(link, chosen.file, chosen.form))
        return 0
    text = (FILES / "infra" / cloud.name / chosen.file).read_text(encoding="utf-8")
    if out is None:
        click.echo(text, nl=False)
        return 0
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        click.echo(f"{out} cannot be written: {error.strerror}. Name a file in a folder that exists.", err=True)
        return 1
    click.echo(out)
    return 0


def _write_folder(cloud: Cloud, out: Path | None) -> int:
    """Write a template that is a folder, with the package, which is built for it."""
    if out is None:
        click.echo(f"{cloud.title}'s template is a folder with the function's package. Name it: --out DIR.", err=True)
        return 1
    try:
        with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
            FOLDERS[cloud.name](out, build(cloud.name, Path(folder)).path.read_bytes())
    except PackagingError as error:
        click.echo(f"{cloud.title}'s function is not packaged: {'; '.join(error.problems)}", err=True)
        return 1
    except OSError as error:
        click.echo(f"{out} cannot be written: {error.strerror}. Name a folder that you may write to.", err=True)
        return 1
    click.echo(out)
    return 0
