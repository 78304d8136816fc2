"""The dashboards show only metrics that the functions publish, and the calls of every quota."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from aws_lambda.clients import RATES as AWS_RATES
from aws_lambda.handler import NAMESPACE, metric_name
from aws_lambda.log import SERVICE
from gcp_function.clients import RATES as GCP_RATES
from shared.metrics import CALLS_BY_QUOTA, metrics_of
from shared.runtime.clock import VirtualClock
from shared.tenants.rounds import end_round, metrics_of_round
from tests.infra import terraform
from tests.infra.planning import REPOSITORY, Workspace, stand_in_providers
from tests.infra.refused_azure import GOOD, ROOT
from tests.infra.standin.roots import Applied, apply
from tests.infra.test_standin_azure import FLEET
from tests.limits import HANG_S
from tests.shared.builders import START
from tests.shared.setting import Setting
from tests.shared.tenants.memory import RULES, MemoryDocuments, entry
from tools import modules

REQUIRED = {"covered", "missing", "excluded", "manual", "freshness_lag_hours"}


@pytest.fixture(scope="module")
def metrics() -> set[str]:
    """Return the names of all metrics that a function publishes."""
    report = Setting(1).run().report
    return {one.name for one in metrics_of(report, 0, START, START, timedelta(hours=1))}


@pytest.fixture(scope="module", params=["azure", "gcp"])
def applied(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Applied]]:
    """Yield a cloud and its applied minimal example."""
    with stand_in_providers(Workspace(tmp_path_factory.mktemp("dashboard"), request.param)) as workspace:
        yield request.param, apply(workspace, "minimal")


def test_every_metric_on_a_dashboard_is_published(metrics: set[str], applied: tuple[str, Applied]) -> None:
    """A chart of a metric that no function publishes would always be empty."""
    cloud, made = applied
    read = azure_fields if cloud == "azure" else gcp_fields
    assert read(made) - metrics == ({"status", CALLS_BY_QUOTA} if cloud == "azure" else set())
    assert read(made) >= REQUIRED


def azure_fields(made: Applied) -> set[str]:
    """Return the fields of the metrics log line that the workbook's queries use."""
    (workbook,) = made.of("azurerm_application_insights_workbook")
    document: dict[str, Any] = json.loads(workbook["data_json"])
    queries = [item["content"]["query"] for item in document["items"]]
    assert [item["content"]["title"] for item in document["items"]][-1] == "Calls by quota"
    return {name for query in queries for name in re.findall(r"\bf\.(\w+)", query)} - {"event"}


def gcp_fields(made: Applied) -> set[str]:
    """Return the log fields of the dashboard's metrics, except those of the quotas."""
    (dashboard,) = made.of("google_monitoring_dashboard")
    tiles = json.loads(dashboard["dashboard_json"])["mosaicLayout"]["tiles"]
    series = [one for tile in tiles for one in tile["widget"]["xyChart"]["dataSets"]]
    queries = " ".join(one["timeSeriesQuery"]["prometheusQuery"] for one in series)
    logged = {one["name"]: one for one in made.of("google_logging_metric")}
    named = set(re.findall(r"user_(tailpipe_exports_\w+?)(?:_sum|_count)?\{", queries))
    assert named <= set(logged)
    extracted = [one for name, one in logged.items() if name in named and one.get("value_extractor")]
    assert {one["metric_descriptor"][0]["value_type"] for one in extracted} == {"DISTRIBUTION"}
    fields = {one["value_extractor"].removeprefix("EXTRACT(jsonPayload.").removesuffix(")") for one in extracted}
    quotas = {name.partition(".")[2].strip('"') for name in fields if name.startswith(f"{CALLS_BY_QUOTA}.")}
    assert quotas == set(GCP_RATES)
    return {name for name in fields if not name.startswith(f"{CALLS_BY_QUOTA}.")}


def test_azure_workbook_shows_each_tenant_of_a_round(tmp_path: Path) -> None:
    """With `fleet`, by the fields that the end of a round logs for each tenant, and the label that groups them."""
    with stand_in_providers(Workspace(tmp_path, "azure")) as workspace:
        made = apply(workspace, ROOT | {"module": {"tailpipe_exports": GOOD | FLEET}})
    assert {step: done.code for step, done in made.steps.items()} == {"validate": 0, "apply": 0, "again": 0}
    (workbook,) = made.of("azurerm_application_insights_workbook")
    items = [one["content"] for one in json.loads(workbook["data_json"])["items"]]
    queries = {one["title"]: one["query"] for one in items}
    table = queries["Tenants of the last round"]
    assert set(re.findall(r"\bf\.(\w+)", table + queries["Tenants by status"])) <= {*logged_row(), "event"}
    assert "f.labels.group" in table


def test_gcp_dashboard_shows_each_tenant_of_a_round(tmp_path: Path) -> None:
    """With `fleet`, by the fields that the end of a round logs for each tenant, and the label that groups them."""
    with stand_in_providers(Workspace(tmp_path, "gcp")) as workspace:
        made = apply(workspace, "complete")
    assert {step: done.code for step, done in made.steps.items()} == {"validate": 0, "apply": 0, "again": 0}
    fields = set(logged_row())
    (dashboard,) = made.of("google_monitoring_dashboard")
    widgets = {
        one["widget"]["title"]: one["widget"]
        for one in json.loads(dashboard["dashboard_json"])["mosaicLayout"]["tiles"]
    }
    (metric,) = [one for one in made.of("google_logging_metric") if one["name"] == "tailpipe_exports_tenants"]
    labels = {one["key"] for one in metric["metric_descriptor"][0]["labels"]}
    assert labels == set(metric["label_extractors"])
    read = {re.fullmatch(r"EXTRACT\(jsonPayload\.(\w+).*\)", one)[1] for one in metric["label_extractors"].values()}  # type: ignore[index]  # all match
    assert read <= fields
    (series,) = widgets["Tenants of the last round"]["timeSeriesTable"]["dataSets"]
    assert "sum by (tenant_group, tenant, status)" in series["timeSeriesQuery"]["prometheusQuery"]
    assert 'jsonPayload.status!="ok"' in widgets["Tenants that are not ok"]["logsPanel"]["filter"]


def logged_row() -> dict[str, Any]:
    """Return the fields of a tenant in the log of a round's end."""
    lines: list[tuple[str, dict[str, Any]]] = []
    documents = MemoryDocuments(VirtualClock(), entry("acme"))

    def sink(_: str, event: str, fields: Mapping[str, Any]) -> None:
        lines.append((event, dict(fields)))

    end_round(documents, RULES, "20260105T000000Z-0000002a", VirtualClock(), sink)
    return next(fields for event, fields in lines if event == "tenant-row")


def aws_dashboard(folder: Path, *, fleet: bool = False) -> dict[str, Any]:
    """Return the dashboard that Terraform renders from the module's expressions."""
    text = (REPOSITORY / "infra" / "aws" / "dashboard.tf").read_text(encoding="utf-8")
    made, _, resource = text.partition('resource "aws_cloudwatch_dashboard"')
    body = resource.partition("dashboard_body = ")[2].rstrip().removesuffix("}")
    given = {
        "namespace": NAMESPACE,
        "service": {"service": SERVICE},
        "run_seconds": 3600,
        "period": 3600,
        "region": "eu-west-1",
    }
    made = made.replace("${aws_cloudwatch_log_group.function.name}", "/aws/lambda/tailpipe-exports")
    (folder / "main.tf").write_text(f'{made}\noutput "body" {{\n  value = {body}\n}}\n', encoding="utf-8")
    variables = {"function_name": {"default": "tailpipe-exports"}, "fleet": {"default": fleet}}
    named = {"variable": variables, "locals": given}
    (folder / "given.tf.json").write_text(json.dumps(named), encoding="utf-8")
    output = ""
    for arguments in (["init", "-backend=false"], ["apply", "-auto-approve"], ["output", "-raw", "body"]):
        done = subprocess.run(
            [terraform.binary(), *arguments],
            cwd=folder, env={**os.environ, "HOME": str(folder)},
            capture_output=True, text=True, timeout=HANG_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        output = done.stdout
    found: dict[str, Any] = json.loads(output)
    return found


def test_aws_dashboard_shows_published_metrics_and_every_quota(metrics: set[str], tmp_path: Path) -> None:
    """Custom metrics have the function's namespace and dimension; the log query sums the calls of each quota."""
    widgets = aws_dashboard(tmp_path)["widgets"]
    drawn = [one for widget in widgets for one in widget["properties"].get("metrics", ())]
    own = {one[1] for one in drawn if one[0] == NAMESPACE}
    assert all(one[2:4] == ["service", SERVICE] for one in drawn if one[0] == NAMESPACE)
    assert own <= {metric_name(one) for one in metrics}
    assert own >= {metric_name(one) for one in REQUIRED}
    (query,) = (widget["properties"]["query"] for widget in widgets if widget["type"] == "log")
    assert query.startswith("SOURCE '/aws/lambda/tailpipe-exports' | ")
    assert re.findall(rf"sum\(`{CALLS_BY_QUOTA}\.([\w-]+)`\)", query) == sorted(AWS_RATES)
    places = [(one["x"], one["y"]) for one in widgets]
    assert len(places) == len(set(places)) == 5


def test_aws_dashboard_shows_each_tenant_of_a_round(tmp_path: Path) -> None:
    """The metrics are those of a round, and the query reads what its end logs for each tenant."""
    widgets = {one["properties"]["title"]: one for one in aws_dashboard(tmp_path, fleet=True)["widgets"]}
    drawn = {one[1] for one in widgets["Tenants by status"]["properties"]["metrics"]}
    documents, round_id = MemoryDocuments(VirtualClock()), "20260105T000000Z-0000002a"
    report = end_round(documents, RULES, round_id, VirtualClock(), lambda *_: None)
    assert drawn <= {metric_name(one.name) for one in metrics_of_round(report)}
    query = widgets["Tenants of the last round"]["properties"]["query"]
    read = set(re.findall(r"latest\(`?(\w+)", query))
    assert read <= set(logged_row())
    assert {"status", "labels"} <= read
    places = [(one["x"], one["y"]) for one in widgets.values()]
    assert len(places) == len(set(places)) == 7


def test_dashboard_depends_on_its_variable() -> None:
    """By default, a dashboard is created only where it is free."""
    found = {cloud: modules.read(REPOSITORY / "infra" / cloud) for cloud in ("aws", "azure", "gcp")}
    assert {cloud: one.variables["dashboard"]["default"] for cloud, one in found.items()} == {
        "aws": False,
        "azure": True,
        "gcp": True,
    }
    kinds = ("aws_cloudwatch_dashboard", "azurerm_application_insights_workbook", "google_monitoring_dashboard")
    for kind, module in zip(kinds, found.values(), strict=True):
        assert "var.dashboard" in str(module.resources[f"{kind}.this"]["count"])
