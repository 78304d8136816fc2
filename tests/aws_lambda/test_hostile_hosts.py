"""Servers in AWS's place: redirects are not followed, and secrets in quoted requests are redacted."""

from __future__ import annotations

import json

import pytest

from aws_lambda.handler import run_once
from aws_lambda.settings import ENDPOINT_SERVICES
from localcloud.aws.cloud import LocalAws
from shared.errors import CloudError
from shared.request import RunRequest
from tests.aws_lambda.support import HOUR, Lines, run
from tests.hostile_servers import REDIRECTS, QuotingServer, RecordingServer, RedirectingServer, on_screen

TOKEN = "IQoJb3JpZ2luX2VjEJrPLANTED/session+token/that/nobody+may/see=="
SECRET = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf"
TOPIC = "arn:aws:sns:eu-west-1:111122223333:deliveries.fifo"
XML = ("CLOUDFORMATION", "IAM", "S3", "SNS", "STS")

# The SDK closes a connection that it abandoned within a response only when the connection is garbage-collected. The
# fixture collects it here, so that the warning does not appear in another test.
pytestmark = [
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.usefixtures("collected"),
]


def all_output(aws: LocalAws, endpoints: dict[str, str], account: str | None) -> str:
    """Run once and return all output: log, report, terminal, stored state and reports, or the error."""
    lines = Lines()
    if "AWS_ENDPOINT_URL_SECRETS_MANAGER" in endpoints:
        aws.deny("bcm-data-exports:CreateExport")  # a failure, so that a message is due and its secret is read
    environment = {**aws.environment(), "AWS_SESSION_TOKEN": TOKEN, "NOTIFY_URL": SECRET, **endpoints}
    if "AWS_ENDPOINT_URL_SNS" in endpoints:
        run(aws)
        aws.advance(HOUR)
        aws.deliver()  # so that an event is due
        environment |= {"DELTAS": "1", "DELIVERY_TOPIC": TOPIC}
    try:
        report = run_once(
            RunRequest(verify_all=True), environment, lines, aws.clock, 900, account=account, seed=1
        ).report
    except CloudError as error:
        return f"{lines.text()} {error} {error.message} {error.remedy}"
    assert report["status"] in ("ok", "degraded", "failed")
    s3, bucket = aws.client("s3"), f"tailpipe-dataexport-{aws.account}"
    kept = [one["Key"] for one in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
    kept = [key for key in kept if key.startswith(("state/", "runs/"))]
    stored = [s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode(errors="replace") for key in kept]
    return " ".join([lines.text(), json.dumps(report), on_screen(report), *stored])


@pytest.mark.parametrize("service", ENDPOINT_SERVICES)
def test_redirect_to_another_host_is_not_followed(aws: LocalAws, service: str) -> None:
    """Whatever the status, the other host receives neither a call nor a credential."""
    with RecordingServer() as elsewhere:
        for status in REDIRECTS if service == "S3" else (302, 307):
            with RedirectingServer(elsewhere.url, status) as redirecting:
                account = None if service == "STS" else aws.account
                url = redirecting.url.replace("localhost", "127.0.0.1")
                all_output(aws, {f"AWS_ENDPOINT_URL_{service}": url}, account)
                assert redirecting.seen, service
        assert elsewhere.seen == []


@pytest.mark.parametrize("service", ENDPOINT_SERVICES)
def test_error_that_quotes_the_request_shows_no_secret(aws: LocalAws, service: str) -> None:
    """Session token, signature and key id appear nowhere: log, report, terminal, state, error."""
    form = "xml" if service in XML else "json"
    for status, shape in ((403, form), (200, "page")):
        with QuotingServer(shape, status) as proxy:
            account = None if service == "STS" else aws.account
            said = all_output(aws, {f"AWS_ENDPOINT_URL_{service}": proxy.url}, account)
            secrets = proxy.secrets() | {TOKEN, TOKEN[:30]}
            assert len(secrets) > 2, service
            assert [one for one in secrets if one in said] == [], f"{service} {status}"
