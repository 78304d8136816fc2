"""Successful responses that are not from AWS: empty, truncated, gateway pages, other structures. They are Unknown."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from aws_lambda.answers import EXPECTED
from aws_lambda.clients import RATES, Clients
from aws_lambda.errors import translate
from aws_lambda.handler import run_once
from aws_lambda.secrets import WebhookSecret
from aws_lambda.settings import read_settings
from localcloud.aws.cloud import LocalAws
from shared.errors import CloudError, NotUnderstood
from shared.reconcile import RunResult
from shared.request import RunRequest
from shared.runtime.clock import VirtualClock
from shared.runtime.context import RunContext
from tests.aws_lambda.support import START, Lines, local_aws, outcome, wrote_nothing
from tests.aws_lambda.support import run as run_function
from tests.hostile_servers import RecordingServer

READ_AFTER_FAILURES = {"ListExecutions", "DescribeStackSetOperation", "HeadObject"}
PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
XML = ("s3", "iam", "sts", "cloudformation")
READS = (
    "s3.GetBucketPolicy",
    "s3.GetBucketEncryption",
    "s3.GetBucketLifecycleConfiguration",
    "s3.GetPublicAccessBlock",
    "s3.GetObjectLockConfiguration",
    "s3.ListObjectsV2",
    "bcm-data-exports.GetExport",
    "bcm-data-exports.ListExports",
    "bcm-data-exports.GetTable",
    "bcm-data-exports.ListTagsForResource",
    "cloudformation.ListStackInstances",
    "cloudformation.DescribeOrganizationsAccess",
    "iam.GetRole",
    "organizations.ListAccounts",
)
READ_WITHOUT_STATE = ("bcm-data-exports.ListExports", "bcm-data-exports.ListTagsForResource")


def corruptions(read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a response is broken."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    if read.split(".", maxsplit=1)[0] in XML:
        yield "another document", b"<?xml version='1.0'?><Answer/>"
    else:
        yield "no fields", b"{}"
        yield "another type", b"[1]"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()


def root_of(aws: LocalAws) -> str:
    """Return the id of the organization's root."""
    return str(aws.client("organizations").list_roots()["Roots"][0]["Id"])


# Reads that need particular settings or a request: the settings, and whether one account is requested.
OTHER_READS: dict[str, Callable[[LocalAws], dict[str, str]]] = {
    "organizations.ListAccountsForParent": lambda aws: {"INCLUDE_OUS": root_of(aws)},
    "organizations.ListOrganizationalUnitsForParent": lambda aws: {"INCLUDE_OUS": root_of(aws)},
    "organizations.DescribeAccount": lambda _aws: {},
}
# Covered by separate tests, below and in `test_invalid_responses_after_failures`.
TESTED_SEPARATELY = {
    "GetBillingView",
    "GetCallerIdentity",
    "GetObject",
    "GetSecretValue",
    "DescribeOrganization",
    "DescribeStackSet",
    *READ_AFTER_FAILURES,
}
# Not called in any run.
UNUSED = {"ListBillingViews", "ListRoots"}


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalAws]:
    """Return an organization in steady state, with a customer's statement and rule in its bucket."""
    with local_aws() as aws:
        run_function(aws)
        aws.deliver()
        aws.advance(600)
        assert run_function(aws).report["status"] == "ok"
        yield aws


def everything(aws: LocalAws, sink: Lines | None = None, scopes: tuple[str, ...] = (), **settings: str) -> RunResult:
    """Run once and observe every target."""
    request = RunRequest(verify_all=True, scopes=scopes)
    return run_once(
        request, {**aws.environment(), **settings}, sink or Lines(), aws.clock, 900, account=aws.account, seed=1
    )


@pytest.mark.parametrize("read", READS)
def test_invalid_response_changes_nothing(steady: LocalAws, read: str) -> None:
    """Nothing is written for an invalid response; the run reports the call, with a remedy."""
    for name, body in corruptions(read):
        steady.advance(90_000)  # the remembered columns expire
        steady.deliver()
        if read in READ_WITHOUT_STATE:
            bucket = f"tailpipe-dataexport-{steady.account}"
            steady.client("s3").delete_object(Bucket=bucket, Key="state/known_accounts.json")
        steady.calls.clear()
        corruption = steady.faults.corrupt(read, body)
        lines = Lines()
        finished = everything(steady, lines)
        steady.faults.restore()
        assert wrote_nothing(steady), f"{read} {name}: {finished.report}"
        assert corruption.hits, f"{read} was not called"
        # botocore treats a response of S3 that is not XML as status 500.
        output = json.dumps([finished.report, lines.lines], default=str)
        assert "not-understood" in output or "service-unavailable" in output, f"{read} {name}: {output}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    assert everything(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b"<GetCallerIdentityResponse/>"])
def test_invalid_identity_is_retried(steady: LocalAws, body: bytes) -> None:
    """GetCallerIdentity is retried first; if it stays invalid, the error has a remedy."""
    once = steady.faults.corrupt("sts.GetCallerIdentity", body, times=1)
    environment = steady.environment()
    assert run_once(RunRequest(), environment, Lines(), steady.clock, 900, seed=1).report["status"] == "ok"
    assert once.hits == 1
    always = steady.faults.corrupt("sts.GetCallerIdentity", body)
    with pytest.raises(CloudError) as refused:
        run_once(RunRequest(), environment, Lines(), steady.clock, 900, seed=1)
    steady.faults.restore()
    assert refused.value.code == "answer-not-understood"
    assert refused.value.remedy
    assert always.hits > 1


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_state_damaged_in_transit_is_read_again(steady: LocalAws, body: bytes) -> None:
    """One invalid response to the read of the state does not set it aside."""
    corruption = steady.faults.corrupt("s3.GetObject", body, times=1)
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert corruption.hits == 1
    assert finished.report["status"] == "ok"
    assert "state-corrupt" not in lines.text()


def test_failed_listing_of_deliveries_is_reported(steady: LocalAws) -> None:
    """The export is read singly; its unknown deliveries are a warning and defer it."""
    corruption = steady.faults.corrupt("s3.ListObjectsV2", b"", status=503)
    lines = Lines()
    finished = everything(steady, lines)
    steady.faults.restore()
    assert outcome(finished, "export").code == "deliveries-unread"
    assert finished.report["scopes"]["covered"] == 0
    assert corruption.hits
    (said,) = [fields for _, event, fields in lines.lines if event == "deliveries-unread"]
    assert said["kind"] == "export"
    assert said["code"]
    assert said["reason"]
    assert finished.report["scopes"]["failed"] == 0


def test_each_read_of_the_function_is_tested() -> None:
    """A new read needs a test with invalid responses."""
    reads = {name for name in EXPECTED if name.startswith(("Get", "List", "Describe", "Head"))}
    tried = {read.partition(".")[2] for read in (*READS, *OTHER_READS)} | TESTED_SEPARATELY | UNUSED
    assert reads == tried


def test_each_called_operation_has_expected_fields(steady: LocalAws) -> None:
    """Every called operation has an entry in EXPECTED."""
    steady.calls.clear()
    everything(steady)
    assert {call.operation for call in steady.calls.select()} - EXPECTED.keys() == set()


@pytest.mark.parametrize("read", OTHER_READS)
def test_invalid_response_to_a_rare_read_changes_nothing(steady: LocalAws, read: str) -> None:
    """OUs and single accounts never count as empty or gone."""
    scopes = (steady.account,) if read.endswith("DescribeAccount") else ()
    settings = OTHER_READS[read](steady)
    for name, body in corruptions(read):
        steady.calls.clear()
        corruption = steady.faults.corrupt(read, body)
        finished = everything(steady, None, scopes, **settings)
        steady.faults.restore()
        assert corruption.hits, f"{read} was not called"
        assert wrote_nothing(steady), f"{read} {name}: {finished.report}"
        assert "not-understood" in json.dumps(finished.report) or "not understood" in json.dumps(finished.report), name
        assert not finished.report["enumeration_complete"], f"{read} {name}"
        assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
    assert everything(steady).report["status"] == "ok"


@pytest.mark.parametrize("body", [b"", PAGE, b"{}", b"[1]"])
def test_invalid_organization_does_not_make_the_account_standalone(steady: LocalAws, body: bytes) -> None:
    """If accounts cannot be listed, only a valid response decides which kind of account this is."""
    steady.faults.deny("organizations:ListAccounts")
    corruption = steady.faults.corrupt("organizations.DescribeOrganization", body)
    steady.calls.clear()
    finished = everything(steady)
    steady.faults.restore()
    steady.faults.allow("organizations:ListAccounts")
    assert corruption.hits
    assert wrote_nothing(steady)
    assert finished.report["status"] == "failed"
    assert all(one["remedy"] for one in finished.report["failures"])


@pytest.mark.parametrize("body", [b"", PAGE, b"<?xml version='1.0'?><Answer/>"])
def test_invalid_stackset_is_neither_absent_nor_foreign(steady: LocalAws, body: bytes) -> None:
    """Without state the StackSet is read; an invalid response leaves it unknown, and no instance is created."""
    bucket = f"tailpipe-dataexport-{steady.account}"
    steady.client("s3").delete_object(Bucket=bucket, Key="state/known_accounts.json")
    corruption = steady.faults.corrupt("cloudformation.DescribeStackSet", body)
    steady.calls.clear()
    finished = everything(steady)
    steady.faults.restore()
    assert corruption.hits
    assert wrote_nothing(steady, "cloudformation", "bcm-data-exports")
    assert "not-understood" in json.dumps(finished.report)
    assert everything(steady).report["status"] == "ok"


def test_account_with_an_invalid_id_is_skipped_and_reported(steady: LocalAws) -> None:
    """Broken characters, spaces or control characters in an id affect that account; the enumeration is incomplete."""
    for odd in ("11112222\ud800", " 111122229999", "1111\x002222"):

        def changed(true: bytes, odd: str = odd) -> bytes:
            document = json.loads(true)
            document["Accounts"].append({**document["Accounts"][-1], "Id": odd})
            return json.dumps(document).encode()

        steady.faults.corrupt("organizations.ListAccounts", changed)
        steady.calls.clear()
        finished = everything(steady)
        steady.faults.restore()
        assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"], repr(odd)
        assert finished.report["failures"][0]["remedy"]
        assert not finished.report["enumeration_complete"]
        assert finished.report["scopes"]["covered"] == 4
        assert wrote_nothing(steady)


@pytest.mark.parametrize(
    "body", [b"", PAGE, b"{}", b"[1]", b'{"ARN": 1, "VersionId": "v"}', b'{"SecretString": "canary']
)
def test_invalid_secret_is_not_understood(body: bytes) -> None:
    """A secret is used only from a valid response of Secrets Manager, and no error quotes an invalid one."""
    arn = "arn:aws:secretsmanager:eu-west-1:111122223333:secret:webhook-AbCdEf"

    class Server(RecordingServer):
        def answer(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes]:
            del method, path, headers
            return 200, {"Content-Type": "application/json"}, body

    with Server() as server:
        environment = {
            "AWS_REGION": "eu-west-1",
            "AWS_ACCESS_KEY_ID": "AKIATEST",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_ENDPOINT_URL_SECRETS_MANAGER": server.url,
            "NOTIFY_URL": arn,
        }
        settings = read_settings(environment)
        clients = Clients(settings, environment)
        context = RunContext("aws", settings.engine, Lines(), VirtualClock(START), 60, RATES, translate, seed=1)
        with closing(clients), pytest.raises(NotUnderstood) as caught:
            WebhookSecret(settings, clients, context).read(again=False)
        assert "canary" not in "".join(traceback.format_exception(caught.value))
