"""A laptop reconciles what the deployed function does, on the three local clouds, and shows it on any terminal."""

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
from localcloud.gcp.cloud import LocalGcp
from shared.model import Verb
from tests.cli.support.aws import LOADER
from tests.cli.support.fakes import FakeFunction, action

NAMES = ("aws", "azure", "gcp")
ACTION = ["scope", "scope_name", "kind", "name", "verb", "reason", "result", "message"]
# Times of day, durations, run ids, and the hash and age of a package.
PASSING = re.compile(r"\d\d:\d\d:\d\d|[\d.]+|\d{8}T\d{6}Z-\w+|.*\d{4}-\d\d-\d\dT\d\d:\d\d.*")


@dataclass
class Laptop:
    """A local cloud with a deployed function, and the variables by which a laptop reaches it: none is a setting."""

    name: str
    cloud: Any
    variables: Mapping[str, str]
    scopes: list[str]
    usual: Mapping[str, str]

    def deploy(self, **settings: str) -> None:
        """Give the deployed function settings beside its own."""
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
        """Take the right to see the deployed function away; returns the right's name."""
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
        """Have a second function of ours deployed beside the first, under another name, which is yielded."""
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
        """Have a setting of the deployed function refer to a secret."""
        if self.name == "azure":
            self.deploy(**{setting: "@Microsoft.KeyVault(VaultName=v;SecretName=s)"})
            return
        config = self.cloud.world.platform.find(self.cloud.deployment.function)["serviceConfig"]
        del config["environmentVariables"][setting]
        config["secretEnvironmentVariables"] = [{"key": setting, "secret": "s", "projectId": "p", "version": "1"}]

    def wrote(self, *lines: str) -> None:
        """Put lines of the deployed function into its log, as its runtime does."""
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
        """Return the report of a run as it is stored."""
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
    """Return a local cloud of three scopes, whose function is deployed and never called."""
    if name == "aws":
        return LocalAws(accounts=3, package=lambda: b"")
    if name == "azure":
        return LocalAzure(subscriptions=3)
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
    """Return it with a fresh deployment and this process signed in to it."""
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


def test_a_selection_of_the_deployed_function_is_the_laptops_too(laptop: Laptop) -> None:
    """With no setting in the shell, a scope that the deployed function leaves out is not planned for."""
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


def test_what_the_platform_sets_for_the_function_reaches_the_laptop(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Region and project are the function's, whatever the shell says; its settings come whole, without its sign-in."""
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


def test_the_stored_report_and_the_document_hold_every_action(laptop: Laptop) -> None:
    """Each action stands in both with scope, name, kind, verb, reason, result and message, and none is left out."""
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert report["status"] == "ok", result.output
    stored = laptop.stored(report["run_id"])
    assert stored["actions"] == report["actions"]
    assert [list(one) for one in report["actions"]] == [ACTION] * len(report["actions"])
    assert len(report["actions"]) == sum(sum(one.values()) for one in report["outcomes"].values())
    names = {one["scope"]: one["scope_name"] for one in report["actions"]}
    assert all(names[one] for one in laptop.scopes)


def test_all_shows_every_action_with_its_scope_and_name(laptop: Laptop) -> None:
    """--all leaves none out on the terminal."""
    report = json.loads(tailpipe("plan", laptop.name, "--json").stdout)
    lines = tailpipe("plan", laptop.name, "--all").stdout.splitlines()
    pairs = {(one["scope"], one["scope_name"]) for one in report["actions"] if one["scope_name"]}
    for scope, name in pairs:
        number = sum(one["scope"] == scope for one in report["actions"])
        assert lines.count(f"    {scope} ({name})") >= number


@pytest.mark.parametrize("command", [["plan"], ["run", "--yes"]], ids=" ".join)
def test_a_wrong_scope_ends_alike(laptop: Laptop, command: list[str]) -> None:
    """A malformed or unknown id ends with 1 and one failure with a remedy, and nothing is written."""
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


def test_a_deployment_that_may_not_be_seen_is_reported_with_the_right(laptop: Laptop) -> None:
    """Without the right to look at the function or its settings nothing is done, and the right is named."""
    right = laptop.deny()
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["status"], report["actions"]) == (1, "failed", [])
    assert right in " ".join(one["remedy"] for one in report["failures"])
    assert "Traceback" not in result.output


def test_of_two_deployments_one_is_chosen_by_its_name(laptop: Laptop) -> None:
    """Two functions of ours in one place are both named, and --function takes one of them."""
    with laptop.second() as name:
        unclear, chosen = tailpipe("plan", laptop.name), tailpipe("plan", laptop.name, "--function", name, "--json")
        wrong = tailpipe("plan", laptop.name, "--function", "tailpipe-nowhere")
    assert (unclear.exit_code, wrong.exit_code) == (1, 1)
    assert name in unclear.stderr
    assert "--function NAME" in unclear.stderr
    assert name in wrong.stderr
    assert chosen.exit_code in (0, 2), chosen.stderr
    assert f"{name}," in next(line for line in chosen.stderr.splitlines() if line.startswith("  deployment: "))


def test_a_setting_that_is_a_secret_is_reported_and_not_guessed(laptop: Laptop) -> None:
    """A setting whose value lies in a vault ends it, with the setting, where its value lies, and the way out."""
    if laptop.name == "aws":
        return  # Lambda's variables cannot refer to secrets
    setting = "DESTINATION_CONTAINER" if laptop.name == "azure" else "STATE_BUCKET"
    laptop.hide(setting)
    result = tailpipe("run", laptop.name, "--yes", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["actions"]) == (1, [])
    (failure,) = report["failures"]
    assert setting in failure["message"]
    assert "secret" in failure["message"]
    assert "--settings FILE" in failure["remedy"]


def words(text: str) -> list[str]:
    """Return the words of an output without those that differ from call to call."""
    return sorted(word for word in text.split() if not PASSING.fullmatch(word.strip("(),")))


@pytest.mark.parametrize("command", [["plan"], ["plan", "--all"], ["run", "--dry-run"], ["doctor"]], ids=" ".join)
def test_nothing_is_broken_or_cropped_on_a_narrow_terminal(
    laptop: Laptop, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """At 60 and 80 columns each word of the wide output stands in one piece; only a long word passes the edge."""
    arguments = [command[0], laptop.name, *command[1:]]
    wide = tailpipe(*arguments)
    assert wide.stdout or wide.stderr
    for width in (60, 80):
        monkeypatch.setattr("cli.terminal.console.PLAIN_WIDTH", width)
        narrow = tailpipe(*arguments)
        assert narrow.exit_code == wide.exit_code
        assert words(narrow.stdout) == words(wide.stdout)
        assert words(narrow.stderr) == words(wide.stderr)
        for line in (narrow.stdout + narrow.stderr).splitlines():
            assert len(line) <= width or len(line.split()) == 1, line
            assert line == line.rstrip()


def test_the_log_of_the_deployed_function_reads_alike(laptop: Laptop) -> None:
    """Level, event, scope, code and reason of each line; --run and --scope choose, whatever is in their values."""
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


def test_a_log_that_may_not_be_read_names_the_right(laptop: Laptop) -> None:
    """Exit code 1, and the right or role that is missing."""
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
