"""`tailpipe-exports local azure`: a local Azure in the foreground, for the SDKs, curl or anything else."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from localcloud.azure.cloud import LocalAzure
from localcloud.azure.runtime.function_app import Start
from localcloud.azure.state import AnswerShape, Behavior, BlindUpdates
from localcloud.common.foreground import announced, until_signalled

_TICK_S = 0.5


def serve(
    subscriptions: int = 3,
    port: int = 0,
    bare: bool = False,
    agreements: str = "ea",
    storage_accounts: int = 1,
    identity_exports: bool = False,
    blind_updates: BlindUpdates = "refused",
    rights_delay_s: float = 0,
    registration_delay_s: float = 0,
    run_delay_s: float = 0,
    page_size: int = 1000,
    empty_pages_every: int = 0,
    latency_s: float = 0,
    container_deletion_s: float = 0,
    answers: AnswerShape = "documented",
    start: Start | None = None,
    out: TextIO | None = None,
    env_file: Path | None = None,
) -> int:
    """Print `export NAME=value` lines and `ready`, then serve until SIGINT or SIGTERM; returns the exit code.

    With `env_file` the lines go to this file, see `announced`.

    `agreements` names offers, separated by commas, that the subscriptions take in turn. `start` runs the code of the
    function app; without it the app is there, but empty. Must be called on the main
    thread, because it takes the two signals. Raises what `LocalAzure` raises.
    """
    behavior = Behavior(
        blind_updates=blind_updates,
        page_size=page_size,
        empty_pages_every=empty_pages_every,
        rights_delay_s=rights_delay_s,
        registration_delay_s=registration_delay_s,
        run_delay_s=run_delay_s,
        container_deletion_s=container_deletion_s,
        answers=answers,
    )
    names = [name.strip() for name in agreements.split(",") if name.strip()]
    with (
        until_signalled() as stop,
        LocalAzure(
            subscriptions=subscriptions,
            port=port,
            bare=bare,
            agreements={name: names.count(name) for name in names},
            storage_accounts=storage_accounts,
            identity_exports=identity_exports,
            behavior=behavior,
            start=start,
        ) as cloud,
    ):
        if latency_s:
            cloud.faults.latency(latency_s)
        with announced(cloud.environment(), out or sys.stdout, env_file):
            # Runs on demand deliver by themselves, even while nobody calls.
            while not stop.wait(_TICK_S):
                cloud.settle()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of `serve`."""
    parser = argparse.ArgumentParser(prog="local azure", description="Serve a local Azure on 127.0.0.1.")
    parser.add_argument("--subscriptions", type=int, default=3)
    parser.add_argument("--port", type=int, default=0, help="Resource Manager's port (default: a free one)")
    parser.add_argument("--bare", action="store_true", help="start with nothing deployed and without rights")
    parser.add_argument("--agreements", default="ea", help="offers in turn, such as ea,ea,webdirect (default ea)")
    parser.add_argument("--storage-accounts", type=int, default=1)
    parser.add_argument("--identity-exports", action="store_true", help="destinations have their keys off")
    parser.add_argument("--blind-updates", choices=("refused", "accepted"), default="refused")
    parser.add_argument("--rights-delay", type=float, default=0, dest="rights_delay_s", metavar="SECONDS")
    parser.add_argument("--registration-delay", type=float, default=0, dest="registration_delay_s", metavar="SECONDS")
    parser.add_argument("--run-delay", type=float, default=0, dest="run_delay_s", metavar="SECONDS")
    parser.add_argument("--page-size", type=int, default=1000, help="most items on any page")
    parser.add_argument("--empty-pages-every", type=int, default=0, help="0: no empty pages")
    parser.add_argument("--latency", type=float, default=0, dest="latency_s", metavar="SECONDS")
    parser.add_argument("--container-deletion", type=float, default=0, dest="container_deletion_s", metavar="SECONDS")
    parser.add_argument(
        "--answers",
        choices=("documented", "recorded"),
        default="documented",
        help="shapes of Cost Management's answers: as documented, or as recorded with API 2021-10-01",
    )
    return serve(**vars(parser.parse_args(argv)))


if __name__ == "__main__":
    sys.exit(main())
