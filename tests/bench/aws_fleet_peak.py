"""Begin a round, run one tenant and end the round in this process, and print its peak memory as JSON."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from aws_lambda.handler import handler
from localcloud.common.child_process import peak_mb_of


class _Context:
    invoked_function_arn = f"arn:aws:lambda:eu-west-1:{os.environ['BENCH_ACCOUNT']}:function:tailpipe-exports"

    def get_remaining_time_in_millis(self) -> int:
        return 900_000


def main() -> None:
    """Print {peak_mb, tenants, ok} as one line of JSON; the first argument is the tenant to run."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere:
        sys.stdout, stdout = nowhere, sys.stdout  # the function's log lines and metrics are not part of the output
        context: Any = _Context()
        begun = handler({"round": {"step": "begin"}}, context)
        row = handler({"tenant": sys.argv[1], "round": begun["round"]}, context)
        ended = handler({"round": {"step": "end", "id": begun["round"]}}, context)
        sys.stdout = stdout
    figures = {"peak_mb": peak_mb_of(os.getpid()), "tenants": len(begun["tenants"]), "ok": row["status"] == "ok"}
    sys.stdout.write(json.dumps(figures | {"total": ended["tenants"]["total"]}) + "\n")


if __name__ == "__main__":
    main()
