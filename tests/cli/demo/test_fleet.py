"""`demo fleet`: what it shows is checked, and a fleet that is not as promised is found out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.demo.fleet import play_fleet
from cli.main import main
from cli.terminal.console import console
from localcloud import Unavailable

REFUSED = {"code": "tenant-unreachable", "message": "denied", "remedy": "Accept the invitation."}


class Imagined:
    """A cloud in memory. `mistake` changes what it does in its second round."""

    scopes = "accounts"

    def __init__(self, title: str, mistake: Callable[[Imagined], None] = lambda _: None) -> None:
        self.title, self.mistake, self.rounds = title, mistake, 0
        self.tenants: Sequence[str] = [f"{title}-{number}" for number in range(4)]
        self.gone: set[str] = set()
        self.slow = self.reported = ""
        self.made = dict.fromkeys(self.tenants, 0)
        self.written = dict.fromkeys(self.tenants, 0)
        self.seen: set[str] = set()

    def round(self) -> Mapping[str, Any]:
        """Serve every tenant that lets the deployment in."""
        self.rounds += 1
        for one in self.tenants:
            if one not in self.gone and not self.made[one]:
                self.made[one], self.written[one] = 2, 2
        if self.rounds == 2:
            self.mistake(self)
        rows = [self.row(one) for one in self.tenants]
        statuses = [row["status"] for row in rows]
        return {
            "round": f"r-{self.rounds}",
            "status": "ok" if set(statuses) == {"ok"} else "degraded",
            "tenants": {"total": len(rows), **{one: statuses.count(one) for one in statuses}},
            "calls": {"sts": 4},
            "duration_s": 4.0,
            "rows": rows,
        }

    def row(self, tenant: str) -> dict[str, Any]:
        """Return the row of a tenant."""
        gone = tenant in self.gone
        took = 90.0 if tenant == self.slow else 1.0
        status, failures = ("unreachable", [REFUSED]) if gone else ("ok", [])
        return {"tenant": f"{self.reported}{tenant}", "status": status, "duration_s": took, "failures": failures}

    def withdraw(self, tenant: str) -> None:
        self.gone.add(tenant)

    def throttle(self, tenant: str, seconds: float) -> None:
        assert seconds > 0
        self.slow = tenant

    def exports(self, tenant: str) -> int:
        return self.made[tenant]

    def writes(self, tenant: str) -> int:
        return self.written[tenant]

    def forget_calls(self) -> None:
        self.written = dict.fromkeys(self.tenants, 0)

    def strangers(self, tenant: str) -> int:
        return int(tenant in self.seen)


def played(*grounds: Imagined, json_file: Path | None = None) -> tuple[int, str]:
    """Play the demonstration on imagined clouds; return the exit code and what was shown."""

    def opened(ground: Imagined) -> Any:
        @contextmanager
        def open_() -> Iterator[Imagined]:
            yield ground

        return open_

    stream = StringIO()
    return play_fleet([opened(one) for one in grounds], json_file, console(stream)), stream.getvalue()


def test_three_clouds_as_promised_meet_every_expectation(tmp_path: Path) -> None:
    """The dead, the throttled and the revoked tenant are on different clouds; the results are also in a file."""
    file = tmp_path / "fleet.json"
    code, text = played(Imagined("one"), Imagined("two"), Imagined("three"), json_file=file)
    assert code == 0, text
    assert "12 tenants on one, two, three" in text
    assert "one-1 on one was invited" in text
    assert "three-3 on three withdraws its consent" in text
    document = json.loads(file.read_text(encoding="utf-8"))["fleet"]
    assert document["ok"]
    assert all(check["ok"] for step in document["steps"] for check in step["checks"])


def second_export(ground: Imagined) -> None:
    """Make one export more."""
    ground.made[ground.tenants[0]] += 1


def needless_write(ground: Imagined) -> None:
    """Write though nothing has to be."""
    ground.written[ground.tenants[0]] = 1


def foreign_credentials(ground: Imagined) -> None:
    """Show another tenant's credentials."""
    ground.seen.add(ground.tenants[0])


def lost_tenant(ground: Imagined) -> None:
    """Lose a tenant that was well."""
    ground.withdraw(ground.tenants[0])


def forgotten_tenant(ground: Imagined) -> None:
    """Leave a tenant out of the report."""
    ground.reported = "no "


@pytest.mark.parametrize(
    ("mistake", "found"),
    [
        (second_export, "no export is gone or doubled"),
        (needless_write, "no other tenant's cloud received a write"),
        (foreign_credentials, "no tenant's cloud saw credentials of another"),
        (lost_tenant, "every other tenant is ok"),
        (forgotten_tenant, "reports every tenant"),
    ],
)
def test_fleet_that_breaks_a_promise_is_found_out(mistake: Callable[[Imagined], None], found: str) -> None:
    """The exit code is 1, and the end names the expectation."""
    code, text = played(Imagined("one"), Imagined("two", mistake), Imagined("three"))
    assert code == 1
    assert found in text.rpartition("expectations not met")[2]


def test_cloud_that_cannot_run_is_left_out() -> None:
    """The others are shown; without any, the demonstration fails."""

    def missing() -> Any:
        raise Unavailable("Azurite needs Node")

    stream = StringIO()
    assert play_fleet([missing], None, console(stream)) == 1
    assert "Azurite needs Node" in stream.getvalue()


def test_number_of_scopes_belongs_to_one_cloud() -> None:
    """It is refused for the fleet."""
    result = CliRunner().invoke(main, ["demo", "fleet", "--scopes", "12"])
    assert (result.exit_code, "is for a demonstration of one cloud" in result.stderr) == (1, True)


@pytest.mark.slow
def test_fleet_on_the_local_clouds_meets_every_expectation(tmp_path: Path) -> None:
    """Twelve tenants on three local clouds, in two rounds."""
    file = tmp_path / "fleet.json"
    result = CliRunner().invoke(main, ["demo", "fleet", "--json", str(file)])
    assert result.exit_code == 0, result.output
    steps = json.loads(file.read_text(encoding="utf-8"))["fleet"]["steps"]
    assert [len(step["checks"]) for step in steps] == [8, 9]
