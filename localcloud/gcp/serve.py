"""`tailpipe-exports local gcp`: a local GCP in the foreground, for Google's clients and tools or anything else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from localcloud.common.foreground import announced, until_signalled
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.functions import Runtime
from localcloud.gcp.state import Behavior


def serve(
    accounts: int = 5,
    port: int = 0,
    bare: bool = False,
    done: int | None = None,
    history_days: int = 3,
    rows: int = 20,
    location: str = "US",
    seed: int = 0,
    table_delay_s: float = 0,
    extract_s: float = 0,
    page_size: int = 1000,
    propagation_s: float = 0,
    latency_s: float = 0,
    throttle_per_second: float = 0,
    out: TextIO | None = None,
    env_file: Path | None = None,
    runtime: Runtime | None = None,
) -> int:
    """Print `export NAME=value` lines and `ready`, then serve until SIGINT or SIGTERM; returns the exit code.

    With `env_file` the lines go to this file, see `announced`.

    `done`: for how many accounts the console step is taken (default: all but one). `throttle_per_second` limits every
    method to so many calls a second (0: no limit). `runtime` serves the deployed function. Must be called on the main
    thread, because it takes the two signals. Raises what `LocalGcp` raises, and OSError when the port is taken.
    """
    behavior = Behavior(
        page_size=page_size, table_delay_s=table_delay_s, extract_s=extract_s, propagation_s=propagation_s
    )
    with (
        until_signalled() as stop,
        LocalGcp(
            accounts,
            port,
            seed=seed,
            bare=bare,
            done=done,
            history_days=history_days,
            rows=rows,
            location=location,
            behavior=behavior,
            runtime=runtime,
        ) as cloud,
    ):
        if throttle_per_second:
            cloud.faults.throttle("*", per_second=throttle_per_second, burst=max(1.0, throttle_per_second))
        if latency_s:
            cloud.faults.latency(latency_s)
        with announced(cloud.environment(), out or sys.stdout, env_file):
            stop.wait()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `serve`."""
    parser = argparse.ArgumentParser(prog="local gcp", description="Serve a local GCP on 127.0.0.1.")
    parser.add_argument("--accounts", type=int, default=5, help="billing accounts (default 5)")
    parser.add_argument("--port", type=int, default=0, help="port (default: a free one)")
    parser.add_argument("--bare", action="store_true", help="start with an empty project")
    parser.add_argument(
        "--done", type=int, default=None, help="accounts whose console step is taken (default: all but 1)"
    )
    parser.add_argument("--history-days", type=int, default=3, metavar="DAYS", help="days of data (default 3)")
    parser.add_argument("--rows", type=int, default=20, help="rows a day and table (default 20)")
    parser.add_argument("--location", default="US", help="of the dataset and the buckets (default US)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table-delay", type=float, default=0, dest="table_delay_s", metavar="SECONDS")
    parser.add_argument("--extract-time", type=float, default=0, dest="extract_s", metavar="SECONDS")
    parser.add_argument("--page-size", type=int, default=1000, help="most items on any page")
    parser.add_argument("--propagation", type=float, default=0, dest="propagation_s", metavar="SECONDS")
    parser.add_argument("--latency", type=float, default=0, dest="latency_s", metavar="SECONDS")
    parser.add_argument("--throttle", type=float, default=0, dest="throttle_per_second", metavar="CALLS/S")
    return serve(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
