"""`plan`, `run`, `local` and `demo` with the real Azure function: exit codes, pure JSON, and a clean end."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import pytest
from azure.core.exceptions import ResourceNotFoundError
from azure.core.pipeline.policies import SansIOHTTPPolicy
from azure.mgmt.costmanagement import CostManagementClient
from click.testing import CliRunner, Result

from cli import clouds
from cli.demo.azure import AzureScenario
from cli.demo.azure_environment import AzureEnvironment
from cli.demo.environment import DRY_RUN
from cli.demo.runner import Step
from cli.main import main
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER
from localcloud.azure.quotas import UNLIMITED
from shared.periods import month_before, month_of
from tests.cli.support.processes import TAILPIPE, LocalCloud, call, local_cloud


@pytest.fixture(scope="module")
def azure() -> Iterator[LocalAzure]:
    """Return a local tenant of four subscriptions."""
    with LocalAzure(subscriptions=4, limits=UNLIMITED) as cloud:
        yield cloud


@pytest.fixture
def operator(azure: LocalAzure, monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Set the operator's variables, and restore after the test what it damaged."""
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)
    yield monkeypatch
    azure.clear_faults()
    for subscription in azure.subscription_ids:
        azure.delete_export(subscription)
    with azure.blob_client(azure.host_account.name) as storage:
        try:
            storage.get_blob_client(STATE_CONTAINER, AzureEnvironment.state).delete_blob()
        except ResourceNotFoundError:
            return


@pytest.fixture(scope="module")
def served() -> Iterator[LocalCloud]:
    """Return a `tailpipe-exports local azure` with three subscriptions."""
    with local_cloud("azure", "--subscriptions", "3") as running:
        yield running


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def reported(result: Result) -> Any:
    """Return the document on stdout; fail the test if there is other output."""
    return json.loads(result.stdout)


def test_plan_announces_the_run_and_the_next_plan_is_empty(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """Plan and run have the same hash."""
    planned, ran, after = (
        tailpipe("plan", "azure", "--json"),
        tailpipe("run", "azure", "--yes", "--json"),
        tailpipe("plan", "azure"),
    )
    assert (planned.exit_code, ran.exit_code, after.exit_code) == (2, 0, 0)
    assert reported(planned)["plan_hash"] == reported(ran)["plan_hash"] != ""
    assert "nothing to write" in after.stdout
    assert len(azure.exports()) == 4


def test_dry_run_writes_nothing(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """`run --dry-run` has the exit code of a run, and sends Resource Manager only reads.

    Azure reads an app's settings, and answers Resource Graph's queries, by POST.
    """
    azure.calls.clear()
    result = tailpipe("run", "azure", "--dry-run", "--json")
    assert (result.exit_code, reported(result)["dry_run"]) == (0, True)
    read_by_post = ("Microsoft.Web/sites/config/list/action", "Microsoft.ResourceGraph/resources/read")
    assert {one.method for one in azure.calls if one.action not in read_by_post} == {"GET"}


def test_scope_limits_the_plan(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """Only the subscription given by --scope is planned."""
    report = reported(tailpipe("plan", "azure", "--scope", azure.subscription_ids[-1], "--json"))
    assert report["scopes"]["total"] == 1
    assert report["outcomes"]["CREATE"]["planned"] == 1


def test_partly_failed_run_exits_with_3(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """One subscription's export is refused permanently, and the others have theirs."""
    odd = azure.subscription_ids[2]
    azure.fault("*exports/write", "BadRequest", "the export is odd", status=400, times=None, resource=f"*{odd}*")
    as_json, as_text = tailpipe("run", "azure", "--yes", "--json"), tailpipe("run", "azure", "--yes")
    report = reported(as_json)
    assert (as_json.exit_code, report["status"]) == (3, "degraded")
    assert [failure["scope"] for failure in report["failures"]] == [odd]
    assert as_text.exit_code == 3
    assert "the export is odd" in as_text.stdout
    assert len(azure.exports()) == 3


def test_all_invalid_settings_are_reported_before_any_call(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """One message lists them all."""
    operator.setenv("EXPORTS", "cur2")
    operator.setenv("DESTINATION", "data")
    operator.setenv("CALLS_AT_ONCE", "many")
    azure.calls.clear()
    result = tailpipe("run", "azure", "--yes", "--without-deployment", "--json")
    assert result.exit_code == 1
    messages = [failure["message"] for failure in reported(result)["failures"]]
    assert {message.partition(":")[0] for message in messages} == {"EXPORTS", "DESTINATION", "CALLS_AT_ONCE"}
    assert all(message in result.stderr for message in messages)
    assert azure.calls.count() == 0


def test_past_months_are_requested_on_this_machine_with_settings_from_a_file(
    operator: pytest.MonkeyPatch, azure: LocalAzure, tmp_path: Path
) -> None:
    """The month that is named is requested of that export alone, once; a dry run announces it and requests nothing."""
    file, own = tmp_path / "settings.env", clouds.CLOUDS["azure"].own
    settings = {name: value for name, value in azure.environment().items() if not own.fullmatch(name)}
    file.write_text(
        "".join(f"{name}={quote(value)}\n" for name, value in {**settings, "BACKFILL_MONTHS": "0"}.items()),
        encoding="utf-8",
    )
    scope, month = azure.subscription_ids[1], month_before(month_of(azure.clock.now()), 5)
    arguments = ("backfill", "azure", "--scope", scope, "--month", month, "--settings", str(file), "--json")
    made = tailpipe("run", "azure", "--yes", "--settings", str(file))
    assert made.exit_code == 0, made.output

    def requests() -> list[str]:
        return [one.resource for one in azure.calls if one.action.endswith("exports/run/action")]

    azure.calls.clear()
    announced = reported(tailpipe(*arguments, "--dry-run"))
    assert announced["runs"][0]["outcomes"]["REPAIR"] == {"planned": 1}
    assert requests() == []
    done = tailpipe(*arguments)
    assert (done.exit_code, len(requests())) == (0, 1), done.stderr
    assert scope in requests()[0]
    assert reported(done)["runs"][0]["outcomes"]["REPAIR"] == {"pending": 1}
    assert "settings: " in done.stderr
    assert tailpipe(*arguments).exit_code == 0
    assert len(requests()) == 1


def test_expired_credentials_are_reported_as_one_failure(operator: pytest.MonkeyPatch, azure: LocalAzure) -> None:
    """The report says what to renew, without a traceback."""
    operator.delenv("ARM_OPERATOR_TOKEN")
    azure.break_identity("expired")
    try:
        result = tailpipe("plan", "azure", "--json")
    finally:
        azure.break_identity("well")
    report = reported(result)
    assert (result.exit_code, report["status"]) == (1, "failed")
    assert [failure["code"] for failure in report["failures"]] == ["credentials"]
    assert "Traceback" not in result.output


def test_printed_variables_are_sufficient(served: LocalCloud) -> None:
    """With only these variables, the SDK damages an export, a plan announces the repair, and a run makes it."""
    variables = served.variables
    assert served.last_line == "ready"
    assert [value for value in variables.values() if value == variables["ARM_ENDPOINT"]] == [variables["ARM_ENDPOINT"]]

    def tool(*arguments: str) -> tuple[int, Any]:
        answer = call([TAILPIPE, *arguments, "--json"], variables)
        assert answer.stdout, answer.stderr
        return answer.returncode, json.loads(answer.stdout)

    code, report = tool("run", "azure", "--yes")
    assert (code, report["scopes"]["covered"]) == (0, 3)
    subscription = variables["DESTINATION"].split("/")[2]
    scope, name = f"/subscriptions/{subscription}", f"TailpipeDataExport-{subscription[-6:]}"
    with _client(variables) as client:
        client.exports.delete(scope, name)
        code, report = tool("plan", "azure")
        assert (code, report["outcomes"]["CREATE"]["planned"]) == (2, 1)
        assert tool("run", "azure", "--yes")[0] == 0
        assert client.exports.get(scope, name).name == name


def _client(variables: Mapping[str, str]) -> CostManagementClient:
    """Return Azure's client for another caller with its own token."""
    headers: Any = SansIOHTTPPolicy()
    headers.on_request = lambda request: request.http_request.headers.update({"Authorization": "Bearer another-caller"})
    return CostManagementClient(object(), base_url=variables["ARM_ENDPOINT"], authentication_policy=headers)  # type: ignore[arg-type]  # a policy sends the token instead of a credential


def test_azurite_ends_with_its_local_cloud() -> None:
    """The port of the blob service is free again."""
    with local_cloud("azure", "--subscriptions", "1") as running:
        blobs = running.variables["BLOB_ENDPOINT"]
        assert running.end(signal.SIGTERM) == 0
    port = blobs.rpartition(":")[2]
    with local_cloud("azure", "--port", port) as second:
        assert second.variables["ARM_ENDPOINT"] == f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("arguments", [("--agreements", "gold"), ("--storage-accounts", "4")])
def test_invalid_options_are_reported(arguments: tuple[str, ...]) -> None:
    """An unknown offer, or more destinations than subscriptions, exits with 1 and one message."""
    answer = call([TAILPIPE, "local", "azure", *arguments], {})
    assert answer.returncode == 1
    assert arguments[1] in answer.stderr
    assert "Traceback" not in answer.stderr


class Forgetful(AzureScenario):
    """A scenario whose repairing run is a dry run, so that nothing is repaired."""

    def run_to_heal(self, environment: AzureEnvironment, step: Step) -> Mapping[str, Any]:
        """Request a dry run."""
        return environment.invoke(step, DRY_RUN)


class Mistaken(AzureScenario):
    """A scenario that sends a request which the function refuses."""

    def run_to_heal(self, environment: AzureEnvironment, step: Step) -> Mapping[str, Any]:
        """Send an unknown key."""
        return environment.invoke(step, {"dryrun": True})


def test_every_expectation_of_the_scenario_is_met(tmp_path: Path) -> None:
    """A few subscriptions in Azure's worker runtime; the results are written to the file."""
    file = tmp_path / "demo.json"
    result = tailpipe("demo", "azure", "--scopes", "6", "--json", str(file))
    assert result.exit_code == 0, result.output
    assert "✗" not in result.output
    assert "under azure-functions-runtime" in result.output
    document = json.loads(file.read_text(encoding="utf-8"))
    steps = document["azure"]["steps"]
    look = "An event run"
    names = ["First run", "Second run", "Third run", "Fourth run", look, "Fifth run", "Sixth run", "A plan"]
    assert [step["name"] for step in steps] == names
    assert all(check["ok"] for step in steps for check in step["checks"])
    assert all(step["report"]["cloud"] == "azure" for step in steps)
    assert steps[1]["report"]["outcomes"].keys().isdisjoint({"CREATE", "REPAIR", "ADOPT"})


@pytest.mark.slow
def test_demo_without_a_repair_exits_with_1(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The live cloud shows each unmet expectation by name."""
    monkeypatch.setitem(clouds.CLOUDS, "azure", _with_story(Forgetful))
    file = tmp_path / "demo.json"
    result = tailpipe("demo", "azure", "--scopes", "5", "--json", str(file))
    assert result.exit_code == 1
    healing = json.loads(file.read_text(encoding="utf-8"))["azure"]["steps"][2]
    unmet = {check["what"] for check in healing["checks"] if not check["ok"]}
    assert {
        "the deleted exports are back",
        "the paused exports are active again",
        "the diverted export delivers to its folder again",
    } <= unmet


def test_refused_call_ends_the_demo_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """The response is the detail of a failed check."""
    monkeypatch.setitem(clouds.CLOUDS, "azure", _with_story(Mistaken))
    result = tailpipe("demo", "azure", "--scopes", "4")
    assert result.exit_code == 1
    assert "the function returns a report" in result.output
    assert "dryrun" in result.output
    assert "A plan" not in result.output


def _with_story(story: type[AzureScenario]) -> clouds.Cloud:
    from dataclasses import replace

    return replace(clouds.CLOUDS["azure"], scenario=story)
