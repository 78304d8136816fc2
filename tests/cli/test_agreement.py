"""On all local clouds, a laptop reconciles as the deployed function does, and shows it on any terminal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.clouds import CLOUDS
from cli.main import main
from localcloud.aws.cloud import LocalAws
from localcloud.aws.runtime.function_code import PLACEHOLDER
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.platform.deployment import STATE_CONTAINER
from localcloud.azure.quotas import UNLIMITED
from localcloud.gcp.cloud import LocalGcp
from shared.model import Verb
from tests.cli.support.aws import LOADER
from tests.cli.support.fakes import FakeFunction, action

NAMES = ("aws", "azure", "gcp")
ACTION = ["scope", "scope_name", "kind", "name", "verb", "reason", "result", "message"]
# Times, durations, run ids, and the hash and age of a package.
PASSING = re.compile(r"\d\d:\d\d:\d\d|[\d.]+|\d{8}T\d{6}Z-\w+|.*\d{4}-\d\d-\d\dT\d\d:\d\d.*")


@dataclass
class Laptop:
    """A local cloud with a deployed function, and the variables for a laptop, none of which is a setting."""

    name: str
    cloud: Any
    variables: Mapping[str, str]
    scopes: list[str]
    usual: Mapping[str, str]

    def deploy(self, **settings: str) -> None:
        """Add settings to those of the deployed function."""
        if self.name == "aws":
            environment = {"Variables": {**self.usual, **settings}}
            client = self.cloud.client("lambda")
            client.update_function_configuration(FunctionName="tailpipe-exports", Environment=environment)
        elif self.name == "azure":
            self.cloud.site.settings = {**self.usual, **settings}
        else:
            deployment = self.cloud.deployment
            document = self.cloud.world.platform.find(deployment.function)
            settings = {"GOOGLE_CLOUD_PROJECT": deployment.project, **self.usual, **settings}
            document["serviceConfig"]["environmentVariables"] = settings

    def deny(self) -> str:
        """Revoke the permission to see the deployed function; return its name."""
        if self.name == "aws":
            self.cloud.deny("lambda:ListFunctions")
            self.cloud.deny("lambda:GetFunctionConfiguration")
            return "lambda:GetFunctionConfiguration"
        if self.name == "azure":
            self.cloud.fault("Microsoft.Web/sites/config/list/action", "AuthorizationFailed", "no", status=403)
            return "Microsoft.Web/sites/config/list/action"
        self.cloud.deny("cloudfunctions.functions.list")
        return "cloudfunctions.functions.list"

    @contextmanager
    def second(self) -> Iterator[str]:
        """Yield a second function of ours with another name."""
        name = "tailpipe-exports-two"
        if self.name == "aws":
            client = self.cloud.client("lambda")
            first = client.get_function_configuration(FunctionName="tailpipe-exports")
            client.create_function(
                FunctionName=name,
                **{key: first[key] for key in ("Runtime", "Role", "Handler")},
                Code={"ZipFile": PLACEHOLDER},
                Environment={"Variables": dict(self.usual)},
            )
            yield name
            client.delete_function(FunctionName=name)
        elif self.name == "azure":
            site = replace(self.cloud.site, name=name)
            self.cloud.world.sites[site.id.lower()] = site
            yield name
            del self.cloud.world.sites[site.id.lower()]
        else:
            platform, first = self.cloud.world.platform, self.cloud.deployment.function
            other = first.rpartition("/")[0] + f"/{name}"
            platform.add(other, {**platform.find(first), "name": other})
            yield name
            del platform.all[other]

    def hide(self, setting: str) -> None:
        """Let a setting of the deployed function refer to a secret."""
        if self.name == "azure":
            self.deploy(**{setting: "@Microsoft.KeyVault(VaultName=v;SecretName=s)"})
            return
        config = self.cloud.world.platform.find(self.cloud.deployment.function)["serviceConfig"]
        del config["environmentVariables"][setting]
        config["secretEnvironmentVariables"] = [{"key": setting, "secret": "s", "projectId": "p", "version": "1"}]

    def wrote(self, *lines: str) -> None:
        """Write lines to the deployed function's log, as its runtime does."""
        if self.name == "azure":
            self.cloud.site.lines.extend((datetime.now(UTC), one) for one in lines)
        elif self.name == "gcp":
            self.cloud.handlers["logging.entries.list"].__self__.keep("tailpipe-exports", lines)
        else:
            logs, where = self.cloud.client("logs"), {"logGroupName": "/aws/lambda/tailpipe-exports"}
            with suppress(logs.exceptions.ResourceAlreadyExistsException):
                logs.create_log_group(**where)
            where["logStreamName"] = f"{len(lines)}-{lines[0][:9].strip('{')}".replace('"', "")
            logs.create_log_stream(**where)
            now = int(datetime.now(UTC).timestamp() * 1000)
            logs.put_log_events(**where, logEvents=[{"timestamp": now, "message": one} for one in lines])

    def stored(self, run_id: str) -> Any:
        """Return the stored report of a run."""
        name = f"runs/{run_id}.json"
        if self.name == "aws":
            answer = self.cloud.client("s3").get_object(Bucket=self.cloud.deployment.bucket, Key=name)
            return json.loads(answer["Body"].read())
        if self.name == "azure":
            with self.cloud.blob_client(self.cloud.host_account.name) as storage:
                return json.loads(storage.get_blob_client(STATE_CONTAINER, name).download_blob().readall())
        bucket = self.cloud.deployment.state_bucket
        content = self.cloud.world.buckets.find(bucket).objects.get(bucket, name).content
        return json.loads(content.read_bytes() if isinstance(content, Path) else content)


def started(name: str) -> Any:
    """Return a local cloud of three scopes with a deployed function that has not run."""
    if name == "aws":
        return LocalAws(accounts=3, package=lambda: b"")
    if name == "azure":
        return LocalAzure(subscriptions=3, limits=UNLIMITED)
    return LocalGcp(accounts=3, done=3, history_days=1, rows=2)


@pytest.fixture(scope="module", params=NAMES)
def served(request: pytest.FixtureRequest) -> Iterator[Laptop]:
    """Return one of the three local clouds."""
    with started(request.param) as cloud:
        own = CLOUDS[request.param].own
        variables = {name: value for name, value in cloud.environment().items() if own.fullmatch(name)}
        if request.param == "aws":
            scopes = sorted(cloud.accounts())
        elif request.param == "azure":
            scopes = sorted(cloud.subscription_ids)
            variables["AZURE_SUBSCRIPTION_ID"] = cloud.site.subscription
        else:
            scopes = sorted(cloud.accounts())
        usual = dict(cloud.site.settings) if request.param == "azure" else cloud.deployment.settings()
        yield Laptop(request.param, cloud, variables, scopes, usual)


@pytest.fixture
def laptop(served: Laptop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Laptop]:
    """Return the cloud with a new deployment, signed in."""
    for name in list(os.environ):
        if CLOUDS[served.name].own.fullmatch(name) and name not in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            monkeypatch.delenv(name)
    for name, value in {**served.variables, "NO_GCE_CHECK": "true"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TAILPIPE_EXPORTS_FUNCTION_NAME", raising=False)
    monkeypatch.setattr("botocore.session.create_loader", LOADER)
    served.deploy()
    yield served
    served.cloud.clear_faults()
    if served.name == "gcp":
        served.cloud.allow("cloudfunctions.functions.list")
        function = served.cloud.world.platform.find(served.cloud.deployment.function)
        function["serviceConfig"].pop("secretEnvironmentVariables", None)


def tailpipe(*arguments: str) -> Result:
    """Run the tool in this process."""
    return CliRunner().invoke(main, arguments)


def test_plan_uses_the_deployed_functions_scope_selection(laptop: Laptop) -> None:
    """The shell has no setting."""
    chosen = (
        laptop.scopes[0] if laptop.name != "aws" else next(one for one in laptop.scopes if one != laptop.cloud.account)
    )
    setting = "INCLUDE_SUBSCRIPTIONS" if laptop.name == "azure" else "INCLUDE_ACCOUNTS"
    laptop.deploy(**{setting: chosen})
    planned, ran = tailpipe("plan", laptop.name, "--json"), tailpipe("run", laptop.name, "--yes", "--json")
    assert ran.exit_code == 0, ran.output
    for report in (json.loads(planned.stdout), json.loads(ran.stdout)):
        written = {one["scope"] for one in report["actions"] if one["verb"] == "CREATE"}
        left_out = set(laptop.scopes) - {chosen, laptop.cloud.account if laptop.name == "aws" else ""}
        assert chosen in {one["scope"] for one in report["actions"]}
        assert left_out
        assert not left_out & written


def test_plan_uses_the_platforms_variables_of_the_function(laptop: Laptop, monkeypatch: pytest.MonkeyPatch) -> None:
    """This includes region and project, but not the function's credentials."""
    function = FakeFunction([action(Verb.KEEP)])
    entry = replace(CLOUDS[laptop.name], run_once=lambda: function)
    monkeypatch.setitem(CLOUDS, laptop.name, entry)
    monkeypatch.setenv("REGION_NAME", "elsewhere")
    monkeypatch.setenv("EXPORTS", "elsewhere")
    laptop.deploy(AZURE_CLIENT_SECRET="of-the-function")
    assert tailpipe("plan", laptop.name).exit_code == 0
    (environment,) = function.environments
    told = {
        "aws": lambda: {"AWS_REGION": laptop.cloud.region},
        "azure": lambda: {
            "REGION_NAME": laptop.cloud.site.location,
            "ARM_TOKEN": laptop.variables["ARM_OPERATOR_TOKEN"],
        },
        "gcp": lambda: {"GOOGLE_CLOUD_PROJECT": laptop.cloud.project},
    }[laptop.name]()
    assert {name: environment[name] for name in told} == told
    assert {name: environment[name] for name in laptop.usual} == dict(laptop.usual)
    assert environment.get("EXPORTS") != "elsewhere"
    if laptop.name == "azure":
        assert "AZURE_CLIENT_SECRET" not in environment


def test_stored_report_and_document_have_every_action(laptop: Laptop) -> None:
    """Each action has scope, name, kind, verb, reason, result and message."""
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert report["status"] == "ok", result.output
    stored = laptop.stored(report["run_id"])
    assert stored["actions"] == report["actions"]
    assert [list(one) for one in report["actions"]] == [ACTION] * len(report["actions"])
    assert len(report["actions"]) == sum(sum(one.values()) for one in report["outcomes"].values())
    names = {one["scope"]: one["scope_name"] for one in report["actions"]}
    assert all(names[one] for one in laptop.scopes)


def test_all_lists_every_action_with_scope_and_name(laptop: Laptop) -> None:
    """The terminal omits none with --all."""
    report = json.loads(tailpipe("plan", laptop.name, "--json").stdout)
    lines = tailpipe("plan", laptop.name, "--all").stdout.splitlines()
    pairs = {(one["scope"], one["scope_name"]) for one in report["actions"] if one["scope_name"]}
    for scope, name in pairs:
        number = sum(one["scope"] == scope for one in report["actions"])
        assert lines.count(f"    {scope} ({name})") >= number


@pytest.mark.parametrize("command", [["plan"], ["run", "--yes"]], ids=" ".join)
def test_invalid_or_unknown_scope_exits_with_1(laptop: Laptop, command: list[str]) -> None:
    """There is one failure with a remedy, and nothing is written."""
    unknown = {"aws": "999999999999", "azure": "0f8fad5b-d9cb-469f-a165-70867728950e", "gcp": "0F0F0F-0F0F0F-0F0F0F"}
    for scope in ("nonsense", unknown[laptop.name]):
        result = tailpipe(command[0], laptop.name, *command[1:], "--scope", scope, "--json")
        report = json.loads(result.stdout)
        assert (result.exit_code, report["status"]) == (1, "failed")
        (failure,) = report["failures"]
        assert failure["scope"] == scope
        assert scope in failure["message"]
        assert failure["remedy"]
        assert report["actions"] == []
        assert "nothing was done on" in result.stderr


def test_denied_read_of_the_deployment_names_the_permission(laptop: Laptop) -> None:
    """Without permission to read the function or its settings, nothing is done."""
    right = laptop.deny()
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["actions"]) == (1, "failed", [])
    assert right in " ".join(one["remedy"] for one in report["failures"])
    assert "Traceback" not in result.output


def test_two_deployments_need_the_function_option(laptop: Laptop) -> None:
    """The error lists both."""
    with laptop.second() as name:
        unclear, chosen = tailpipe("plan", laptop.name), tailpipe("plan", laptop.name, "--function", name, "--json")
        wrong = tailpipe("plan", laptop.name, "--function", "tailpipe-nowhere")
    assert (unclear.exit_code, wrong.exit_code) == (1, 1)
    assert name in unclear.stderr
    assert "--function NAME" in unclear.stderr
    assert name in wrong.stderr
    assert chosen.exit_code in (0, 2), chosen.stderr
    assert f"{name}," in next(line for line in chosen.stderr.splitlines() if line.startswith("  deployment: "))


def test_setting_that_refers_to_a_secret_is_reported(laptop: Laptop) -> None:
    """The command ends with the setting, the location of its value, and the remedy."""
    if laptop.name == "aws":
        return  # variables of Lambda cannot refer to secrets
    setting = "DESTINATION_CONTAINER" if laptop.name == "azure" else "STATE_BUCKET"
    laptop.hide(setting)
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["actions"]) == (1, [])
    (failure,) = report["failures"]
    assert setting in failure["message"]
    assert "secret" in failure["message"]
    assert "--settings FILE" in failure["remedy"]


def stable_words(text: str) -> list[str]:
    """Return the words of an output, except those that differ between calls."""
    return sorted(word for word in text.split() if not PASSING.fullmatch(word.strip("(),")))


@pytest.mark.parametrize("command", [["plan"], ["plan", "--all"], ["run", "--dry-run"], ["doctor"]], ids=" ".join)
def test_words_are_not_broken_on_a_narrow_terminal(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """At 60 and 80 columns, only a word that is longer than a line exceeds it."""
    arguments = [command[0], laptop.name, *command[1:]]
    wide = tailpipe(*arguments)
    assert wide.stdout or wide.stderr
    for width in (60, 80):
        monkeypatch.setattr("cli.terminal.console.PLAIN_WIDTH", width)
        narrow = tailpipe(*arguments)
        assert narrow.exit_code == wide.exit_code
        assert stable_words(narrow.stdout) == stable_words(wide.stdout)
        assert stable_words(narrow.stderr) == stable_words(wide.stderr)
        for line in (narrow.stdout + narrow.stderr).splitlines():
            assert len(line) <= width or len(line.split()) == 1, line
            assert line == line.rstrip()


def test_logs_have_the_same_columns_on_all_clouds(laptop: Laptop) -> None:
    """They are level, event, scope, code and reason; --run and --scope filter."""
    assert logged(laptop) == []
    level = "severity" if laptop.name == "gcp" else "level"
    odd = 'b "c'
    lines = [
        {level: "INFO", "event": "run-started", "run_id": "r-1"},
        {level: "WARNING", "event": "deferred", "run_id": "r-1", "scope": "a", "code": "quota", "reason": "later"},
        {level: "ERROR", "event": "write-failed", "run_id": "r-2", "scope": odd, "code": "no", "reason": 'why "so"'},
    ]
    laptop.wrote(*map(json.dumps, lines))
    shown = tailpipe("logs", laptop.name)
    assert shown.exit_code == 0, shown.output
    assert [one[22:] for one in shown.stdout.splitlines()] == [
        "INFO     run-started",
        "WARNING  deferred · a · quota · later",
        'ERROR    write-failed · b "c · no · why "so"',
    ]
    assert [one["event"] for one in logged(laptop, "--run", "r-1")] == ["run-started", "deferred"]
    assert [one["event"] for one in logged(laptop, "--scope", odd)] == ["write-failed"]
    assert logged(laptop, "--run", "r-1", "--scope", odd) == []


def logged(laptop: Laptop, *arguments: str) -> list[dict[str, Any]]:
    """Return the lines that `logs` writes as JSON."""
    return [json.loads(one) for one in tailpipe("logs", laptop.name, "--json", *arguments).stdout.splitlines()]


def test_denied_read_of_the_log_names_the_permission(laptop: Laptop) -> None:
    """The exit code is 1."""
    right = {"aws": "logs:FilterLogEvents", "azure": "Log Analytics Reader", "gcp": "roles/logging.viewer"}[laptop.name]
    if laptop.name == "azure":
        action = "Microsoft.OperationalInsights/workspaces/query/read"
        laptop.cloud.fault(action, "AuthorizationFailed", "no", status=403)
    else:
        laptop.cloud.deny("logs:FilterLogEvents" if laptop.name == "aws" else "logging.logEntries.list")
    result = tailpipe("logs", laptop.name)
    if laptop.name == "gcp":
        laptop.cloud.allow("logging.logEntries.list")
    assert (result.exit_code, result.stdout) == (1, "")
    assert right in result.stderr
