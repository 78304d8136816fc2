"""The end of `tailpipe-exports demo`: the status page, and the commands that show what the functions stored."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

from cli.clouds import Cloud
from cli.demo.kept import home, kept
from cli.monitor.page import page
from cli.settings_source import Choice
from cli.terminal.console import out, say
from tailpipe_exports import NAME

PAGE = "status.html"


def show_kept(clouds: Sequence[Cloud]) -> None:
    """Write the page of the clouds with a kept demonstration, and print its location."""
    played = [cloud for cloud in clouds if kept(cloud.name)]
    if not played:
        return
    say(out())
    say(out(), ("Look at what the functions stored. The page is in this file:", "bold"))
    page(played, Choice(demo=True), home() / PAGE, show=False)
    names = played[0].name if len(played) == 1 else "all"
    # `make demo` installs no command: there the module is called.
    command = NAME if shutil.which(NAME) else f"{sys.executable} -m cli.main"
    say(out(), f"{command} status {names} --demo")
    say(out(), f"{command} history {played[0].name} --demo")
