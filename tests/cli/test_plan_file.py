"""A plan in a file is applied exactly as it was reviewed, or not at all."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from cli import plan_file
from cli.main import main
from shared.model import Key
from shared.reconcile import RunResult, reconcile
from shared.request import RunRequest
from shared.runtime.clock import Clock
from shared.runtime.log import Sink
from tests.cli.support.fakes import FakeFunction, install
from tests.inmemory import InMemoryCloud, Thing
from tests.shared.setting import Setting


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """Yield an in-memory cloud that the tool's AWS entry reconciles with the real engine."""
    made = Setting(2)

    class Function(FakeFunction):
        def __call__(
            self, request: RunRequest, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float
        ) -> RunResult:
            run = made.new_run()
            return reconcile(InMemoryCloud(made.world, run), made.store, request, run)

    install(monkeypatch, Function())
    return made


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def test_plan_file_is_applied_as_reviewed(setting: Setting, tmp_path: Path) -> None:
    """The file is private, and the run needs neither a prompt nor a terminal."""
    file = tmp_path / "plan.json"
    assert called("plan", "aws", "--out", str(file)).exit_code == 2
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert setting.world.written == []
    done = called("run", "aws", "--plan", str(file))
    assert done.exit_code == 0, done.output
    assert setting.covered()


def test_plan_file_is_refused_if_the_cloud_has_changed(setting: Setting, tmp_path: Path) -> None:
    """The difference is shown, and nothing is written."""
    file = tmp_path / "plan.json"
    called("plan", "aws", "--out", str(file))
    setting.world.things[Key("s00001", "export", "daily")] = Thing({"format": "csv", "destination": "data"})
    done = called("run", "aws", "--plan", str(file))
    assert done.exit_code == 1
    assert "no longer: CREATE export daily of s00001" in done.stderr
    assert "plan-changed" in done.output
    assert setting.world.written == []


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"version": 2}, "is of version 2, this command reads 1"),
        ({"cloud": "gcp"}, "was made for gcp, not aws"),
        ({"place": "999988887777"}, "was made for 999988887777; you are in management account 111122223333"),
        ({"writes": 7}, "is not a plan"),
    ],
)
def test_plan_file_of_another_version_cloud_or_account_is_refused(
    setting: Setting, tmp_path: Path, change: Mapping[str, object], why: str
) -> None:
    """A damaged file is refused too, each with one sentence."""
    file = tmp_path / "plan.json"
    called("plan", "aws", "--out", str(file))
    file.write_text(json.dumps({**json.loads(file.read_bytes()), **change}))
    done = called("run", "aws", "--plan", str(file))
    assert done.exit_code == 1
    assert why in " ".join(done.stderr.split())
    assert setting.world.written == []


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"\xff", b"[" * 100_000, b"{}"], ids=["empty", "list", "binary", "deep", "bare"]
)
def test_file_that_is_not_a_plan_is_refused(setting: Setting, tmp_path: Path, damage: bytes) -> None:
    """The message says how to create one."""
    file = tmp_path / "plan.json"
    file.write_bytes(damage)
    done = called("run", "aws", "--plan", str(file))
    assert done.exit_code == 1
    assert "is not a plan" in done.stderr
    assert "plan aws --out" in " ".join(done.stderr.split())
    assert setting.world.written == []


def test_plan_file_excludes_other_selections(setting: Setting, tmp_path: Path) -> None:
    """The file defines what is written, so other options are refused."""
    file = tmp_path / "plan.json"
    called("plan", "aws", "--out", str(file))
    done = called("run", "aws", "--plan", str(file), "--scope", "s00001")
    assert done.exit_code == 1
    assert "--plan FILE defines the writes" in done.stderr
    assert plan_file.load(file, "aws").version == plan_file.VERSION
