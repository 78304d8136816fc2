"""Successful responses that are not Google's: empty, truncated, gateway pages, other structures. They are Unknown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gcp_function.answers import _EXPECTED
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.discovery import match
from localcloud.gcp.state import Behavior
from tests.gcp_function.support import HOUR, Lines, accounts, day_of, local_gcp, run

pytestmark = pytest.mark.long

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
WRITES = ("insert", "patch", "update", "delete", "copy", "rewrite", "setIamPolicy")
STATE = "known_billing_accounts.json"


@dataclass(frozen=True)
class Case:
    """How to provoke one read in a steady project.

    `before` prepares the project so that the next run makes the read; `request` returns that run's arguments. `status`
    replaces an error status of the local cloud. `starts_job` allows the run to start a job before the read. `manual`
    says that the last run reports a manual step. `metadata` corrupts only the metadata of an object: the same method
    also returns its content.
    """

    before: Callable[[LocalGcp], None] = lambda _cloud: None
    request: Callable[[LocalGcp], Mapping[str, Any]] = lambda _cloud: {"verify_all": True}
    status: int | None = None
    empty_is_valid: bool = False
    starts_job: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    manual: bool = False
    metadata: bool = False


def _forget(cloud: LocalGcp) -> None:
    cloud.delete_objects(cloud.deployment.state_bucket)


def _hold_lock(cloud: LocalGcp) -> None:
    now = cloud.clock.now().isoformat()
    held = {"run_id": "another-run", "since": now, "until": "2026-11-23T00:00:00+00:00"}
    document = json.loads(cloud.read_object(STATE, cloud.deployment.state_bucket)) | {"running": held}
    cloud.put_object(STATE, json.dumps(document), cloud.deployment.state_bucket)


def _lose_table(cloud: LocalGcp) -> None:
    dataset = cloud.world.catalog.dataset(cloud.project, "billing_export")
    name = f"gcp_billing_export_v1_{accounts(cloud)[0].replace('-', '_')}"
    if name in dataset.tables:
        cloud.delete_table(accounts(cloud)[0])


def _late(cloud: LocalGcp) -> None:
    cloud.late_data(accounts(cloud)[0], day_of(1))


def _slow(cloud: LocalGcp) -> None:
    """Return queries as incomplete, so that the function must ask for their results."""

    def incomplete(true: bytes) -> bytes:
        document = json.loads(true)
        kept = {name: document[name] for name in ("kind", "jobReference")}
        return json.dumps({**kept, "jobComplete": False}).encode()

    cloud.world.faults.corrupt("bigquery.jobs.query", incomplete)


CASES: dict[str, Case] = {
    "storage.objects.list": Case(),
    "storage.objects.get": Case(before=_hold_lock, metadata=True),
    "storage.buckets.get": Case(),
    "bigquery.jobs.query": Case(),
    "bigquery.jobs.getQueryResults": Case(before=_slow),
    "bigquery.jobs.get": Case(before=_late, starts_job=True, options={"behavior": Behavior(extract_s=5)}),
    "bigquery.datasets.get": Case(),
    "bigquery.datasets.list": Case(),
    "bigquery.tables.get": Case(before=_lose_table, status=200, manual=True),
    "cloudbilling.billingAccounts.list": Case(empty_is_valid=True),
    "cloudbilling.billingAccounts.get": Case(request=lambda cloud: {"scopes": accounts(cloud)[:1]}),
    "cloudbilling.projects.getBillingInfo": Case(before=_forget),
    "cloudresourcemanager.projects.get": Case(),
    "serviceusage.services.batchGet": Case(),
}
# A path of each call in the table of expected responses.
PATHS = {
    r"/storage/v1/b/[^/]+": "/storage/v1/b/bucket",
    r"/storage/v1/b/[^/]+/o": "/storage/v1/b/bucket/o",
    r"/storage/v1/b/[^/]+/o/[^/]+": "/storage/v1/b/bucket/o/object",
    r"/bigquery/v2/projects/[^/]+/datasets": "/bigquery/v2/projects/p/datasets",
    r"/bigquery/v2/projects/[^/]+/datasets(/[^/]+)?": "/bigquery/v2/projects/p/datasets/d",
    r"/datasets/[^/]+/tables/[^/]+": "/bigquery/v2/projects/p/datasets/d/tables/t",
    r"/bigquery/v2/projects/[^/]+/queries": "/bigquery/v2/projects/p/queries",
    r"/bigquery/v2/projects/[^/]+/queries/[^/]+": "/bigquery/v2/projects/p/queries/j",
    r"/bigquery/v2/projects/[^/]+/jobs(/[^/]+)?": "/bigquery/v2/projects/p/jobs/j",
    r"/v3/projects/[^/]+": "/v3/projects/p",
    r"/services:batchGet": "/v1/projects/p/services:batchGet",
    r"/v1/billingAccounts/[^/]+": "/v1/billingAccounts/000000-000000-000000",
    r"/v1/projects/[^/]+/billingInfo": "/v1/projects/p/billingInfo",
}
WARNINGS = {r"GET .*/versions/[^/]+:access"}  # their failure is only a warning; `test_messages` covers them


def test_cases_cover_every_read_with_an_expected_response() -> None:
    """The table of expected responses and these cases contain the same reads."""
    named = set()
    for pattern, _fields, _kind in _EXPECTED:
        verbs, path = pattern.split(" ", 1)
        verb = "GET" if "GET" in verbs else "POST" if path.endswith("/queries") else ""
        if verb and pattern not in WARNINGS:
            found = match(verb, PATHS[path.removeprefix(".*")])
            assert found is not None, pattern
            named.add(found.route.id)
    # The expected response has no required field, because an empty listing is valid.
    assert named | {"cloudbilling.billingAccounts.list"} == set(CASES)


def corruptions(case: Case, read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a response is corrupted."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    yield "another type", b"[1]"
    if not case.empty_is_valid:
        yield "no fields", b"{}"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()
    yield from ((f"wrong type of {name}", _retyped(name)) for name in required(read))


def required(read: str) -> list[str]:
    """Return the top-level fields of a response whose type is verified."""
    rows = [
        fields
        for pattern, fields, _kind in _EXPECTED
        if (path := PATHS.get(pattern.split(" ", 1)[1].removeprefix(".*")))
        and (found := match("POST" if pattern.startswith("POST") else "GET", path))
        and found.route.id == read
    ]
    return sorted({name for fields in rows for name in fields if "." not in name})


def _of_metadata(body: bytes | Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Apply a corruption only to responses that describe an object."""
    change = body if callable(body) else lambda _true: body
    return lambda true: change(true) if b'"storage#object"' in true else true


def _retyped(name: str) -> Callable[[bytes], bytes]:
    return lambda true: json.dumps({**json.loads(true), name: {"of": ["another", "type"]}}).encode()


@pytest.mark.parametrize("read", CASES)
def test_invalid_response_changes_nothing(read: str) -> None:
    """Nothing is written for an invalid response; the run reports the call, with a remedy."""
    case = CASES[read]
    with local_gcp(accounts=2, done=2, history_days=2, kinds=("standard", "pricing"), **case.options) as cloud:
        environment = {"EXPORTS": "standard,pricing,focus", "COPY": "standard"}
        assert run(cloud, environment=environment).report["status"] == "ok"
        for name, body in corruptions(case, read):
            cloud.advance(600)
            case.before(cloud)
            cloud.clear_calls()
            corruption = cloud.world.faults.corrupt(
                read, _of_metadata(body) if case.metadata else body, status=case.status
            )
            lines = Lines()
            finished = run(cloud, sink=lines, environment=environment, **case.request(cloud))
            cloud.world.faults.restore()
            written = [
                call.method
                for call in cloud.calls.select()
                if call.method.rpartition(".")[2] in WRITES
                and "tailpipe-state" not in call.path
                and not (case.starts_job and call.method == "bigquery.jobs.insert")
            ]
            assert written == [], f"{read} {name}"
            assert corruption.hits, f"{read} was not called"
            output = lines.text() + json.dumps(finished.report)
            assert [one for one in ("not-understood", "internal-error") if one in output] == ["not-understood"], name
            assert all(one["remedy"] for one in finished.report["failures"]), f"{read} {name}"
        cloud.advance(12 * HOUR)
        last = run(cloud, environment=environment)
        assert last.report["status"] == "ok"
        assert bool(last.report["manual"]) == case.manual


@pytest.mark.parametrize(
    ("read", "path"),
    [
        ("storage.buckets.get", "lifecycle"),
        ("storage.buckets.get", "lifecycle.rule"),
        ("storage.buckets.get", "iamConfiguration"),
        ("storage.buckets.get", "retentionPolicy"),
        ("storage.buckets.get", "softDeletePolicy"),
        ("storage.objects.list", "items"),
        ("bigquery.datasets.get", "access"),
        ("bigquery.datasets.get", "defaultEncryptionConfiguration"),
        ("bigquery.datasets.list", "datasets"),
        ("bigquery.jobs.query", "rows"),
        ("bigquery.jobs.query", "errors"),
        ("cloudbilling.billingAccounts.list", "billingAccounts"),
        ("cloudbilling.billingAccounts.list", "nextPageToken"),
        ("cloudbilling.projects.getBillingInfo", "billingAccountName"),
        ("cloudbilling.projects.getBillingInfo", "billingEnabled"),
        ("serviceusage.services.batchGet", "services"),
    ],
)
def test_optional_field_of_another_type_is_reported_with_a_remedy(read: str, path: str) -> None:
    """The run reports no internal error and does not repair the bucket."""
    with local_gcp(accounts=1, done=1, history_days=1, kinds=("standard",)) as cloud:
        environment = {"EXPORTS": "standard,focus", "COPY": "standard"}
        run(cloud, environment=environment)
        for invalid in (7, "text", [7], [["text"]], {"rule": "text"}):
            cloud.advance(600)
            CASES[read].before(cloud)
            cloud.clear_calls()

            def changed(true: bytes, invalid: object = invalid) -> bytes:
                document = place = json.loads(true)
                *parts, last = path.split(".")
                for part in parts:
                    place = place.setdefault(part, {})
                place[last] = invalid
                return json.dumps(document).encode()

            if isinstance(invalid, str) and path in ("nextPageToken", "billingAccountName"):
                continue
            cloud.world.faults.corrupt(read, changed)
            finished = run(cloud, environment=environment, verify_all=True)
            cloud.world.faults.restore()
            output = json.dumps(finished.report)
            assert "internal-error" not in output, f"{invalid}: {output}"
            assert all(one["remedy"] for one in finished.report["failures"])
            deleted = [call for call in cloud.calls.select() if call.method in ("storage.buckets.patch",)]
            assert deleted == [], invalid


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalGcp]:
    """Return a project after one successful run."""
    with local_gcp() as cloud:
        assert run(cloud).report["status"] == "ok"
        cloud.advance(600)
        yield cloud


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_state_damaged_in_transit_is_read_again(steady: LocalGcp, body: bytes) -> None:
    """One invalid response to the read does not set the state aside."""
    corruption = steady.world.faults.corrupt("storage.objects.get", body, times=1)
    lines = Lines()
    finished = run(steady, sink=lines)
    steady.world.faults.restore()
    assert corruption.hits == 1
    assert finished.report["status"] == "ok", finished.report
    assert "state-corrupt" not in lines.text()


@pytest.mark.parametrize("invalid", ["01\ud80023", " 012345-6789AB-CDEF01", "01\u000023"])
def test_account_with_an_invalid_id_is_skipped_and_reported(steady: LocalGcp, invalid: str) -> None:
    """The listing counts as incomplete; all other accounts are covered."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["billingAccounts"].append({**document["billingAccounts"][-1], "name": f"billingAccounts/{invalid}"})
        return json.dumps(document).encode()

    steady.advance(600)
    steady.world.faults.corrupt("cloudbilling.billingAccounts.list", changed)
    finished = run(steady)
    steady.world.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert finished.report["failures"][0]["remedy"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3
