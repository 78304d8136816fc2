"""Answers of success that are not Google's: empty, cut off, a gateway's page, odd shapes. Unknown is never absent."""

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

PAGE = b"<html><head><title>502 Bad Gateway</title></head><body>502 Bad Gateway</body></html>"
WRITES = ("insert", "patch", "update", "delete", "copy", "rewrite", "setIamPolicy")
STATE = "known_billing_accounts.json"


@dataclass(frozen=True)
class Case:
    """How a read comes about on a project at rest.

    `before` makes the next run call it, `request` are arguments of that run, `status` what the local cloud's answer
    has to be turned into where the true one is an error. `begins`: a job may be started before the read. `manual`:
    a step is left in the end. `metadata`: contents, which are read by the same method, stay as they are.
    """

    before: Callable[[LocalGcp], None] = lambda _cloud: None
    request: Callable[[LocalGcp], Mapping[str, Any]] = lambda _cloud: {"verify_all": True}
    status: int | None = None
    empty_is_an_answer: bool = False
    begins: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    manual: bool = False
    metadata: bool = False


def _forget(cloud: LocalGcp) -> None:
    cloud.delete_objects(cloud.deployment.state_bucket)


def _hold_lock(cloud: LocalGcp) -> None:
    now = cloud.clock.now().isoformat()
    held = {"run_id": "r-of-somebody", "since": now, "until": "2026-11-23T00:00:00+00:00"}
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
    """Answer queries as not done yet, so that their results have to be asked for."""

    def begun(true: bytes) -> bytes:
        document = json.loads(true)
        kept = {name: document[name] for name in ("kind", "jobReference")}
        return json.dumps({**kept, "jobComplete": False}).encode()

    cloud.world.faults.spoil("bigquery.jobs.query", begun)


CASES: dict[str, Case] = {
    "storage.objects.list": Case(),
    "storage.objects.get": Case(before=_hold_lock, metadata=True),
    "storage.buckets.get": Case(),
    "bigquery.jobs.query": Case(),
    "bigquery.jobs.getQueryResults": Case(before=_slow),
    "bigquery.jobs.get": Case(before=_late, begins=True, options={"behavior": Behavior(extract_s=5)}),
    "bigquery.datasets.get": Case(),
    "bigquery.datasets.list": Case(),
    "bigquery.tables.get": Case(before=_lose_table, status=200, manual=True),
    "cloudbilling.billingAccounts.list": Case(empty_is_an_answer=True),
    "cloudbilling.billingAccounts.get": Case(request=lambda cloud: {"scopes": accounts(cloud)[:1]}),
    "cloudbilling.projects.getBillingInfo": Case(before=_forget),
    "cloudresourcemanager.projects.get": Case(),
    "serviceusage.services.batchGet": Case(),
}
# Paths as the function calls them, one for each row of the table of answers.
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
WARNINGS = {r"GET .*/versions/[^/]+:access"}  # reads whose failure is only a warning: `test_messages` breaks them


def test_every_read_whose_answer_is_proven_is_broken_here() -> None:
    """The table of answers and these cases name the same reads: a row without a case would prove nothing."""
    named = set()
    for pattern, _fields, _kind in _EXPECTED:
        verbs, path = pattern.split(" ", 1)
        verb = "GET" if "GET" in verbs else "POST" if path.endswith("/queries") else ""
        if verb and pattern not in WARNINGS:
            found = match(verb, PATHS[path.removeprefix(".*")])
            assert found is not None, pattern
            named.add(found.route.id)
    # Its empty listing is an answer, so that no row requires anything of it.
    assert named | {"cloudbilling.billingAccounts.list"} == set(CASES)


def breaks(case: Case, read: str) -> Iterator[tuple[str, bytes | Callable[[bytes], bytes]]]:
    """Yield the ways in which a read's answer is broken."""
    yield "empty", b""
    yield "page", PAGE
    yield "cut off", lambda true: true[: len(true) // 2]
    yield "another type", b"[1]"
    if not case.empty_is_an_answer:
        yield "no fields", b"{}"
        yield "null fields", lambda true: json.dumps(dict.fromkeys(json.loads(true))).encode()
    yield from ((f"wrong type of {name}", _retyped(name)) for name in required(read))


def required(read: str) -> list[str]:
    """Return the fields at the top of a read's answer that have to have a type."""
    rows = [
        fields
        for pattern, fields, _kind in _EXPECTED
        if (path := PATHS.get(pattern.split(" ", 1)[1].removeprefix(".*")))
        and (found := match("POST" if pattern.startswith("POST") else "GET", path))
        and found.route.id == read
    ]
    return sorted({name for fields in rows for name in fields if "." not in name})


def _of_metadata(body: bytes | Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """Return the change for answers that describe an object."""
    change = body if callable(body) else lambda _true: body
    return lambda true: change(true) if b'"storage#object"' in true else true


def _retyped(name: str) -> Callable[[bytes], bytes]:
    return lambda true: json.dumps({**json.loads(true), name: {"of": ["another", "type"]}}).encode()


@pytest.mark.parametrize("read", CASES)
def test_an_answer_that_is_not_understood_concludes_nothing(read: str) -> None:
    """Whatever a read is answered with, nothing is written; the run says what was not understood, with a remedy."""
    case = CASES[read]
    with local_gcp(accounts=2, done=2, history_days=2, kinds=("standard", "pricing"), **case.options) as cloud:
        environment = {"EXPORTS": "standard,pricing,focus", "COPY": "standard"}
        assert run(cloud, environment=environment).report["status"] == "ok"
        for name, body in breaks(case, read):
            cloud.advance(600)
            case.before(cloud)
            cloud.clear_calls()
            order = cloud.world.faults.spoil(read, _of_metadata(body) if case.metadata else body, status=case.status)
            lines = Lines()
            finished = run(cloud, sink=lines, environment=environment, **case.request(cloud))
            cloud.world.faults.restore()
            written = [
                call.method
                for call in cloud.calls.select()
                if call.method.rpartition(".")[2] in WRITES
                and "tailpipe-state" not in call.path
                and not (case.begins and call.method == "bigquery.jobs.insert")
            ]
            assert written == [], f"{read} {name}"
            assert order.hits, f"{read} was not called"
            told = lines.text() + json.dumps(finished.report)
            assert [one for one in ("not-understood", "internal-error") if one in told] == ["not-understood"], name
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
def test_a_field_of_another_type_is_not_understood_wherever_it_is_read(read: str, path: str) -> None:
    """What an answer may leave out must still be what it is where it is there: no defect, no write, a remedy."""
    with local_gcp(accounts=1, done=1, history_days=1, kinds=("standard",)) as cloud:
        environment = {"EXPORTS": "standard,focus", "COPY": "standard"}
        run(cloud, environment=environment)
        for odd in (7, "text", [7], [["text"]], {"rule": "text"}):
            cloud.advance(600)
            CASES[read].before(cloud)
            cloud.clear_calls()

            def changed(true: bytes, odd: object = odd) -> bytes:
                document = place = json.loads(true)
                *parts, last = path.split(".")
                for part in parts:
                    place = place.setdefault(part, {})
                place[last] = odd
                return json.dumps(document).encode()

            if isinstance(odd, str) and path in ("nextPageToken", "billingAccountName"):
                continue
            cloud.world.faults.spoil(read, changed)
            finished = run(cloud, environment=environment, verify_all=True)
            cloud.world.faults.restore()
            told = json.dumps(finished.report)
            assert "internal-error" not in told, f"{odd}: {told}"
            assert all(one["remedy"] for one in finished.report["failures"])
            deleted = [call for call in cloud.calls.select() if call.method in ("storage.buckets.patch",)]
            assert deleted == [], odd


@pytest.fixture(scope="module")
def steady() -> Iterator[LocalGcp]:
    """Return a project at rest."""
    with local_gcp() as cloud:
        assert run(cloud).report["status"] == "ok"
        cloud.advance(600)
        yield cloud


@pytest.mark.parametrize("body", [b"", PAGE, b'{"version": 2, "scopes": {'])
def test_a_state_that_was_damaged_on_its_way_is_read_again(steady: LocalGcp, body: bytes) -> None:
    """One bad answer to the state's read sets nothing aside."""
    order = steady.world.faults.spoil("storage.objects.get", body, times=1)
    lines = Lines()
    finished = run(steady, sink=lines)
    steady.world.faults.restore()
    assert order.hits == 1
    assert finished.report["status"] == "ok", finished.report
    assert "state-corrupt" not in lines.text()


@pytest.mark.parametrize("odd", ["01\ud80023", " 012345-6789AB-CDEF01", "01\u000023"])
def test_an_account_with_an_id_that_cannot_be_one_is_left_out_and_told(steady: LocalGcp, odd: str) -> None:
    """Half a character, blanks or control characters in an id cost that account; the listing is incomplete."""

    def changed(true: bytes) -> bytes:
        document = json.loads(true)
        document["billingAccounts"].append({**document["billingAccounts"][-1], "name": f"billingAccounts/{odd}"})
        return json.dumps(document).encode()

    steady.advance(600)
    steady.world.faults.spoil("cloudbilling.billingAccounts.list", changed)
    finished = run(steady)
    steady.world.faults.restore()
    assert [one["code"] for one in finished.report["failures"]] == ["scope-id-odd"]
    assert finished.report["failures"][0]["remedy"]
    assert not finished.report["enumeration_complete"]
    assert finished.report["scopes"]["covered"] == 3
