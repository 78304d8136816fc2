"""`tailpipe-exports package`: prints the path or the launch links to standard output, the rest to standard error."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from cli.clouds import Cloud
from cli.deployment.model import OperatorError, Problem
from cli.deployment.session import guarded
from cli.deployment.terraform.workspace import values_given
from cli.packaging import Package, PackagingError, build


def write(cloud: Cloud, out: Path) -> int:
    """Write a cloud's archive into `out`; returns the exit code."""
    made = _built(cloud, out)
    if made is None:
        return 1
    click.echo(made.path)
    return 0


def upload(cloud: Cloud, out: Path | None, address: str, pairs: Sequence[str], files: Sequence[Path]) -> int:
    """Write a cloud's archive, upload it with the native templates, and print the links; returns the exit code."""

    def command() -> int:
        if cloud.upload is None:
            raise OperatorError(
                Problem(
                    f"there is nothing to upload for {cloud.title}: its templates do not read the package from there",
                    f"Use: tailpipe-exports deploy {cloud.name}, or package {cloud.name} --out DIR.",
                )
            )
        variables, values = values_given(cloud.name, pairs, files)
        with tempfile.TemporaryDirectory(prefix="tailpipe-package-") as folder:
            made = _built(cloud, out or Path(folder))
            if made is None:
                return 1
            links = cloud.upload()(made.path, address, variables, values, lambda line: click.echo(line, err=True))
        for title, link in links:
            click.echo(
                f"To {title}, open:" if title.startswith("create") else f"{title[:1].upper()}{title[1:]}:", err=True
            )
            click.echo(link)
        return 0

    return guarded(f"{cloud.title}'s package is not uploaded", command)


def _built(cloud: Cloud, out: Path) -> Package | None:
    """Return the archive that is written into `out`, or None after its problems are shown."""
    try:
        made = build(cloud.name, out)
    except PackagingError as error:
        click.echo(f"{cloud.title}'s function is not packaged:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
        return None
    size = made.path.stat().st_size / 1_000_000
    click.echo(f"{size:.1f} MB, {len(made.files)} files, sha256 {made.sha256}", err=True)
    return made
