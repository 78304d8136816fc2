"""`tailpipe-exports package`: prints the archive's path to standard output, its description to standard error."""

from __future__ import annotations

from pathlib import Path

import click

from cli.clouds import Cloud
from cli.packaging import PackagingError, build


def write(cloud: Cloud, out: Path) -> int:
    """Write a cloud's archive into `out`; returns the exit code."""
    try:
        made = build(cloud.name, out)
    except PackagingError as error:
        click.echo(f"{cloud.title}'s function is not packaged:", err=True)
        for problem in error.problems:
            click.echo(f"  {problem}", err=True)
        return 1
    size = made.path.stat().st_size / 1_000_000
    click.echo(f"{size:.1f} MB, {len(made.files)} files, sha256 {made.sha256}", err=True)
    click.echo(made.path)
    return 0
