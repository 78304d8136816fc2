"""`--tenant` gives a command the environment of one tenant's run, `invoke --all` makes a round over all of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from cli import clouds
from cli.deployment.model import OperatorError, Problem
from cli.deployment.operator import Tell
from cli.main import main
from shared.model import Verb
from shared.runtime.clock import Clock
from shared.runtime.context import RunContext
from shared.runtime.log import Sink
from shared.settings import EngineSettings
from shared.state.document import ScopeRecord, dump, fresh
from shared.state.store import StateStore
from tests.cli.support.fakes import FUNCTION, FakeFunction, FakeOperator, action, finished
from tests.cli.tenants.support import ROLE, SECRET, entry, serve
from tests.inmemory import InMemoryStore

NOW = datetime.now(UTC).replace(microsecond=0)


class Coordinated(FakeOperator):
    """The operator of a deployment with a coordinator: it answers with `report`, or raises it."""

    report: Any = None
    payloads: tuple[Mapping[str, Any], ...] = ()

    def invoke(self, payload: Mapping[str, Any], _tell: Tell) -> dict[str, Any]:
        """Return the report of a run that kept an export."""
        type(self).payloads = (*self.payloads, payload)
        return finished([action(Verb.KEEP)], dry_run=False).report

    def round(self, tell: Tell) -> dict[str, Any]:
        """Return the report of a round."""
        tell("2 of 3 tenants are done")
        if isinstance(self.report, Exception):
            raise self.report
        return cast("dict[str, Any]", self.report)


def coordinate(monkeypatch: pytest.MonkeyPatch, report: Any = None, kind: type[FakeOperator] = Coordinated) -> None:
    """Let the tool's AWS entry have a deployment whose coordinator ends a round with `report`."""
    operator = kind([FUNCTION], {"EXPORTS": "cur2"})
    monkeypatch.setattr(Coordinated, "report", report)
    monkeypatch.setattr(Coordinated, "payloads", ())
    entry_ = replace(clouds.CLOUDS["aws"], operator=lambda: cast("Any", operator))
    monkeypatch.setitem(clouds.CLOUDS, "aws", entry_)


def called(*arguments: str) -> Result:
    """Return the tool's result."""
    return CliRunner().invoke(main, list(arguments))


def round_report(status: str, **counts: int) -> dict[str, Any]:
    """Return the report of a round with so many tenants of each status."""
    rows = [
        {
            "tenant": f"{name}-{number}",
            "status": name,
            "failures": [{"code": "Denied", "message": "no", "remedy": "Ask."}],
        }
        for name, many in counts.items()
        for number in range(many)
    ]
    tenants = {"total": sum(counts.values()), **counts}
    calls = {"calls": {"sts": 3}, "duration_s": 61.0, "round": "20260105T000000Z-0000002a"}
    return {"status": status, "tenants": tenants, "scopes": {"active": 30, "covered": 20}, **calls, "rows": rows}


def test_run_uses_the_environment_of_the_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry is laid over the deployment's settings, the request names the tenant, and only a run leaves a row."""
    function = FakeFunction([action(Verb.CREATE)])
    port = serve(monkeypatch, entry("acme", 1, settings={"CALLS_AT_ONCE": "3"}), entry("other", 2), function=function)
    result = called("run", "aws", "--tenant", "acme", "--yes", "--json")
    assert result.exit_code == 0, result.output
    assert function.requests[0].tenant == "acme"
    found = function.environments[0]
    assert {name: found[name] for name in ("TENANT", "TENANT_ROLE", "TENANT_SECRET", "EXPORTS", "CALLS_AT_ONCE")} == {
        "TENANT": "acme",
        "TENANT_ROLE": ROLE.format("000000000001"),
        "TENANT_SECRET": SECRET.format("acme"),
        "EXPORTS": "cur2",
        "CALLS_AT_ONCE": "3",
    }
    assert [*port.stored.stored] == ["rows/acme.json"]
    assert called("plan", "aws", "--tenant", "other").exit_code == 2
    assert [*port.stored.stored] == ["rows/acme.json"]
    assert called("plan", "aws").exit_code == 2
    assert [one.tenant for one in function.requests] == ["acme", "other", ""]
    assert "TENANT" not in function.environments[-1]


@pytest.mark.parametrize(
    ("tenant", "message"),
    [
        ("nothing", "tenant 'nothing' is not in the registry for aws"),
        ("paused", "tenant 'paused' is paused; resume it first"),
        ("wrong", "role_arn is required"),
        ("slow", "tenant slow: CALLS_AT_ONCE: 'x' is not a whole number"),
        ("Not!", "'tenant' is 'Not!', not the id of a tenant"),
    ],
)
def test_tenant_that_cannot_be_entered_is_refused(tenant: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing runs, and the reason has a remedy."""
    function = FakeFunction()
    wrong, slow = {"id": "wrong", "cloud": "aws"}, entry("slow", 3, settings={"CALLS_AT_ONCE": "x"})
    serve(monkeypatch, entry("paused", 1, paused=True), wrong, slow, function=function)
    result = called("run", "aws", "--tenant", tenant, "--yes", "--json")
    assert result.exit_code == 1
    assert message in result.stderr
    assert json.loads(result.stdout)["failures"][0]["remedy"]
    assert function.requests == []


def test_plan_of_a_tenant_is_applied_to_that_tenant_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file names its tenant; without it, or with another one, nothing is written."""
    function = FakeFunction([action(Verb.CREATE)])
    serve(monkeypatch, entry("acme", 1), entry("other", 2), function=function)
    file = str(tmp_path / "plan.json")
    assert called("plan", "aws", "--tenant", "acme", "--out", file).exit_code == 2
    for options in ((), ("--tenant", "other")):
        result = called("run", "aws", "--plan", file, *options)
        assert (result.exit_code, "Add --tenant acme." in result.stderr) == (1, True)
    assert called("run", "aws", "--plan", file, "--tenant", "acme").exit_code == 0
    assert [(one.tenant, one.dry_run) for one in function.requests] == [("acme", True), ("acme", False)]


def test_view_reads_the_documents_of_the_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Status and history of a tenant have its id in the title."""
    serve(monkeypatch, entry("acme", 1))
    store, opened = InMemoryStore(), list[str]()

    def open_state(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
        opened.append(environment.get("TENANT", ""))
        return store, RunContext("aws", EngineSettings(), sink, clock, 60.0, {}, lambda error: error)  # type: ignore[arg-type,return-value]  # no call uses it

    monkeypatch.setitem(clouds.CLOUDS, "aws", replace(clouds.CLOUDS["aws"], open_state=lambda: open_state))
    document = fresh("aws")
    document.scopes = {"111122223333": ScopeRecord(at=NOW, coverage="covered")}
    store.save(dump(document, NOW), None)
    result = called("status", "aws", "--tenant", "acme")
    assert "AWS · tenant acme" in result.stdout
    result = called("status", "aws", "999999999999", "--tenant", "acme")
    assert "plan aws --tenant acme --scope 999999999999" in result.stderr
    assert called("history", "aws", "--tenant", "acme").exit_code == 0
    assert opened == ["acme"] * 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "--tenant", "acme"), "are for one cloud"),
        (("status", "aws", "--demo", "--tenant", "acme"), "--demo cannot be combined"),
        (("invoke", "aws", "--all", "--tenant", "acme"), "remove the other options"),
        (("invoke", "aws", "--all", "--dry-run"), "remove the other options"),
        (("invoke", "aws", "--tenant", "Not!"), "not the id of a tenant"),
    ],
)
def test_options_that_exclude_each_other_are_refused(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is called."""
    serve(monkeypatch, entry("acme", 1))
    coordinate(monkeypatch, round_report("ok", ok=1))
    result = called(*arguments)
    assert (result.exit_code, message in result.stderr) == (1, True)
    assert Coordinated.payloads == ()


def test_invoke_names_the_tenant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The function receives its id."""
    serve(monkeypatch, entry("acme", 1))
    coordinate(monkeypatch)
    assert called("invoke", "aws", "--tenant", "acme", "--json").exit_code == 0
    assert Coordinated.payloads == ({"dry_run": False, "scopes": [], "force": False, "tenant": "acme"},)


@pytest.mark.parametrize(
    ("status", "counts", "code"),
    [
        ("ok", {"ok": 3, "paused": 1}, 0),
        ("degraded", {"ok": 2, "unreachable": 1}, 3),
        ("failed", {"failed": 2}, 1),
    ],
)
def test_round_ends_with_its_report_and_status(
    status: str, counts: dict[str, int], code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Progress and the report are shown; with --json, the report alone is on standard output."""
    coordinate(monkeypatch, round_report(status, **counts))
    result = called("invoke", "aws", "--all")
    assert result.exit_code == code
    assert "2 of 3 tenants are done" in result.stderr
    assert f"{status}  {sum(counts.values())} tenants: " in result.stderr
    assert "20 of 30 accounts covered · 3 calls · 61.0 s" in result.stderr
    assert ("unreachable  unreachable-0" in result.stderr) == ("unreachable" in counts)
    document = json.loads(called("invoke", "aws", "--all", "--json").stdout)
    assert document == round_report(status, **counts)


@pytest.mark.parametrize(
    "prepare",
    [
        lambda patch: coordinate(patch, kind=FakeOperator),
        lambda patch: coordinate(patch, OperatorError(Problem("the coordinator is off", "Deploy it."))),
    ],
    ids=["cloud without one", "deployment without one"],
)
def test_round_without_a_coordinator_is_an_error(
    prepare: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error is in the document too."""
    prepare(monkeypatch)
    result = called("invoke", "aws", "--all", "--json")
    assert (result.exit_code, "coordinator" in result.stderr) == (1, True)
    assert json.loads(result.stdout)["error"]["problems"]
