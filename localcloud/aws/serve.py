"""`tailpipe-exports local aws`: a local AWS in the foreground, for the AWS CLI, boto3 or anything else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from localcloud.aws.cloud import Kind, LocalAws
from localcloud.common.foreground import announced, until_signalled


def serve(
    accounts: int = 5,
    port: int = 0,
    bare: bool = False,
    kind: Kind = "management",
    partition: str = "aws",
    region: str | None = None,
    stackset_delay_s: float = 0,
    policy_delay_s: float = 0,
    close_delay_s: float = 0,
    page_size: int = 1000,
    empty_pages_every: int = 3,
    throttle_per_second: float = 0,
    latency_s: float = 0,
    package: Callable[[], bytes] | None = None,
    out: TextIO | None = None,
    env_file: Path | None = None,
) -> int:
    """Print `export NAME=value` lines and `ready`, then serve until SIGINT or SIGTERM; returns the exit code.

    With `env_file` the lines go to this file, see `announced`.

    `throttle_per_second` limits every operation to so many calls a second (0: no limit), with a burst of one second's
    worth. Must be called on the main thread, because it takes the two signals. Raises what `LocalAws` raises, and
    OSError when the port is taken.
    """
    with (
        until_signalled() as stop,
        LocalAws(
            accounts=accounts,
            port=port,
            bare=bare,
            kind=kind,
            partition=partition,
            region=region,
            stackset_delay_s=stackset_delay_s,
            policy_delay_s=policy_delay_s,
            close_delay_s=close_delay_s,
            page_size=page_size,
            empty_pages_every=empty_pages_every,
            package=package,
        ) as cloud,
    ):
        if throttle_per_second:
            cloud.faults.throttle("*", "*", per_second=throttle_per_second, burst=max(1.0, throttle_per_second))
        if latency_s:
            cloud.faults.latency(latency_s)
        with announced(cloud.environment(), out or sys.stdout, env_file):
            stop.wait()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `serve`."""
    parser = argparse.ArgumentParser(prog="local aws", description="Serve a local AWS on 127.0.0.1.")
    parser.add_argument("--accounts", type=int, default=5, help="accounts in all (default 5)")
    parser.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    parser.add_argument("--bare", action="store_true", help="start with an empty account and no organization")
    parser.add_argument("--kind", choices=("management", "delegated", "standalone", "member"), default="management")
    parser.add_argument("--partition", default="aws")
    parser.add_argument("--region", default=None)
    parser.add_argument("--stackset-delay", type=float, default=0, dest="stackset_delay_s", metavar="SECONDS")
    parser.add_argument("--policy-delay", type=float, default=0, dest="policy_delay_s", metavar="SECONDS")
    parser.add_argument("--close-delay", type=float, default=0, dest="close_delay_s", metavar="SECONDS")
    parser.add_argument("--page-size", type=int, default=1000, help="most items on any page")
    parser.add_argument("--empty-pages-every", type=int, default=3, help="0: no empty pages of accounts")
    parser.add_argument("--throttle", type=float, default=0, dest="throttle_per_second", metavar="CALLS/S")
    parser.add_argument("--latency", type=float, default=0, dest="latency_s", metavar="SECONDS")
    return serve(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
