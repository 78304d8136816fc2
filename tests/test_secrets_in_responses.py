"""Secrets in successful responses: run histories, job errors and stack instances contain foreign text."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stderr
from typing import Any

import pytest
from rich.console import Console

from cli.terminal.render import show_finished
from localcloud.aws.cloud import LocalAws
from localcloud.azure.cloud import LocalAzure
from shared.reconcile import RunResult
from shared.runtime.log import json_sink
from tests.aws_lambda.support import local_aws
from tests.aws_lambda.support import run as run_aws
from tests.azure_function.support import advance, local_azure
from tests.azure_function.support import run as run_azure
from tests.gcp_function.support import local_gcp
from tests.gcp_function.support import run as run_gcp

DAY = 86_400.0
PLANTED = "Zm9vYmFyYmF6cXV4MTIzQWJDZEVm"
QUOTES = (
    f"SENTINEL Authorization: Bearer {PLANTED}",
    f"SENTINEL https://a.blob.core.windows.net/c?sig={PLANTED}&se=2026",
    f"SENTINEL X-Amz-Security-Token: {PLANTED}",
)


class Output:
    """Everything that some runs show, log or store."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {"terminal": "", "log": "", "report": "", "state": ""}

    def add(self, finished: RunResult, log: str, stored: list[str]) -> None:
        screen = io.StringIO()
        show_finished(Console(file=screen, width=200), "scopes", finished, everything=True)
        self.places["terminal"] += screen.getvalue()
        self.places["log"] += log
        self.places["report"] += json.dumps(finished.report) + json.dumps(finished.answer())
        self.places["state"] += "\n".join(stored)

    def check(self, *arrived: str) -> None:
        """Assert that the sentinel appears in these outputs, and the secret in none."""
        for place, text in self.places.items():
            assert PLANTED not in text, f"{place}: {text[max(0, text.index(PLANTED) - 200) :][:300]}"
            assert PLANTED.lower() not in text.lower(), place
        assert all("SENTINEL" in self.places[place] for place in arrived)


def run_with_log(run: Callable[[Any], RunResult]) -> tuple[RunResult, str]:
    """Return the result of a run, and its log as the function writes it."""
    stream = io.StringIO()
    with redirect_stderr(stream):
        finished = run(json_sink(stream))
    return finished, stream.getvalue()


def stored_by_aws(cloud: LocalAws) -> list[str]:
    """Return the stored state and reports."""
    s3, bucket = cloud.client("s3"), f"tailpipe-dataexport-{cloud.account}"
    names = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket)["Contents"]]
    chosen = [name for name in names if name.endswith(".json") and name.startswith(("state", "runs"))]
    assert chosen
    return [s3.get_object(Bucket=bucket, Key=name)["Body"].read().decode() for name in chosen]


def stored_by_azure(cloud: LocalAzure) -> list[str]:
    """Return the stored state and reports."""
    with cloud.blob_client(cloud.host_account.name) as client:
        container = client.get_container_client("tailpipe-state")
        return [container.download_blob(blob.name).readall().decode() for blob in container.list_blobs()]


def edit_json(change: Callable[[dict[str, Any]], None]) -> Callable[[bytes], bytes]:
    """Return a function that changes a JSON response in transit."""

    def rewrite(true: bytes) -> bytes:
        document = json.loads(true)
        change(document)
        return json.dumps(document).encode()

    return rewrite


def test_aws_status_reasons_are_redacted() -> None:
    """This covers the reasons of an export, of its executions and of a stack instance."""
    output, quote = Output(), " ".join(QUOTES)

    def unhealthy(document: dict[str, Any]) -> None:
        document["ExportStatus"] |= {"StatusCode": "UNHEALTHY", "StatusReason": f"KMS_KEY {quote}"}

    def failed(true: bytes) -> bytes:
        reason = f"<StatusReason>{quote.replace('&', '&amp;')}</StatusReason>"
        shown = true.replace(b"SUCCEEDED", b"FAILED").replace(b"<Status>CURRENT", b"<Status>OUTDATED")
        return shown.replace(b"</member>", reason.encode() + b"</member>")

    with local_aws() as aws:
        run_aws(aws)
        aws.advance(600)
        run_aws(aws)
        aws.faults.corrupt("bcm-data-exports.GetExport", edit_json(unhealthy))
        instances = aws.faults.corrupt("cloudformation.ListStackInstances", failed)
        for _ in range(5):
            aws.advance(2 * DAY)
            finished, log = run_with_log(lambda sink: run_aws(aws, sink=sink))
            output.add(finished, log, stored_by_aws(aws))
        assert instances.hits
    output.check("terminal", "report", "state")


def test_azure_run_history_is_redacted() -> None:
    """This covers the errors of an export's last runs."""
    output, quote = Output(), " ".join(QUOTES)
    with local_azure(subscriptions=1) as azure:
        run_azure(azure)
        azure.fail_runs(times=1000, code="SENTINEL", message=quote)
        for _ in range(6):
            advance(azure, DAY)
            azure.deliver()
            finished, log = run_with_log(lambda sink: run_azure(azure, sink=sink))
            output.add(finished, log, stored_by_azure(azure))
    output.check("terminal", "report", "state")


@pytest.mark.parametrize(("reason", "quote"), [*zip(("invalid", "backendError", "accessDenied"), QUOTES, strict=True)])
def test_gcp_job_errors_are_redacted(reason: str, quote: str) -> None:
    """A failed BigQuery job is a response with status 200 that has an errorResult."""
    output = Output()
    with local_gcp(accounts=1, done=1, history_days=1) as gcp:
        gcp.world.faults.fail_jobs("extract", reason, quote, times=None)
        finished, log = run_with_log(lambda sink: run_gcp(gcp, sink=sink))
        bucket = gcp.deployment.state_bucket
        output.add(finished, log, [gcp.read_object(name, bucket) for name in gcp.objects(bucket)])
    output.check("report", "state")  # the terminal does not list deferred outcomes
