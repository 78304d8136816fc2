"""`tailpipe-exports doctor`: each right that deploying and removing needs, present or missing, with its remedy."""

from __future__ import annotations

from cli.clouds import Cloud
from cli.console import say
from cli.operate.invoke import print_document
from cli.operate.words import show_findings
from cli.operate.workbench import FAILED, OK, guarded, opened


def doctor(cloud: Cloud, as_json: bool) -> int:
    """Look at the rights. Returns 0 if none is known to be missing, else 1."""

    def command() -> int:
        bench = opened(cloud, {})
        found = bench.operator.rights(bench.place)
        if as_json:
            rights = [
                {"right": one.what, "present": one.ok, "detail": one.detail, "remedy": one.remedy} for one in found
            ]
            print_document(
                {"cloud": cloud.name, "place": bench.place.id, "caller": bench.place.caller, "rights": rights}
            )
        else:
            show_findings(bench.screen, found)
        missing = sum(one.ok is False for one in found)
        unknown = sum(one.ok is None for one in found)
        say(
            bench.screen,
            f"{len(found) - missing - unknown} present, {missing} missing"
            + (f", {unknown} could not be looked at" if unknown else ""),
        )
        return FAILED if missing else OK

    return guarded(f"tailpipe-exports: the rights on {cloud.title} could not be looked at", command)
