"""Rounds of tenants through the local cloud's schedule, queue and IAM, with kills, refusals and exact permissions."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import google.auth.transport.requests
import pytest
import requests
from click.testing import CliRunner
from google.oauth2.credentials import Credentials

from cli.deployment.gcp.operator import GcpOperator
from cli.local.gcp import runtime
from cli.main import main
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.control.tenants import TOKEN_CREATOR
from localcloud.gcp.runtime.framework import FunctionsFramework
from shared.runtime.clock import VirtualClock
from tailpipe_exports import CODE
from tests.gcp_function.fleet import InProcess, Killed, deployed
from tests.limits import HANG_S

FEW = {"history_days": 1, "rows": 1, "kinds": ("standard", "detailed", "pricing", "focus")}
Opener = Callable[..., LocalGcp]


@pytest.fixture
def opened() -> Iterator[Opener]:
    """Open deployments with tenants, and close them after the test."""
    with ExitStack() as stack:

        def opener(*tenants: str, **settings: Any) -> LocalGcp:
            return stack.enter_context(deployed(dict.fromkeys(tenants, FEW), **settings))

        yield opener


def call(cloud: LocalGcp, identity: str, path: str, body: Any = None) -> requests.Response:
    """Call a REST method of the local cloud as an identity: POST with a body, else GET."""
    credentials = Credentials(token=identity)  # type: ignore[no-untyped-call]  # google-auth is only partly typed
    with google.auth.transport.requests.AuthorizedSession(credentials) as session:  # type: ignore[no-untyped-call]  # google-auth is only partly typed
        verb = "POST" if body is not None else "GET"
        url = f"{cloud.endpoint}/{path}"
        answer: requests.Response = session.request(verb, url, json=body, timeout=HANG_S)  # type: ignore[no-untyped-call]  # google-auth is only partly typed
        return answer


def begin(cloud: LocalGcp) -> dict[str, Any]:
    """Call the function as the schedule of rounds does, and return its answer."""
    job = cloud.resource(cloud.resources("/jobs/tailpipe-exports-tenants")[0])
    functions = cloud.task_delivery.send.__self__  # type: ignore[attr-defined]  # the function of this cloud
    headers = {
        "user-agent": "Google-Cloud-Scheduler",
        "x-cloudscheduler": "true",
        "x-cloudscheduler-scheduletime": f"{cloud.clock.now():%Y-%m-%dT%H:%M:%SZ}",
    }
    uri = job["httpTarget"]["uri"]
    answer = functions.inside(uri, uri, cloud.deployment.tenants_caller, b'{"round": {"step": "begin"}}', headers)
    found: dict[str, Any] = json.loads(answer.body)
    assert answer.status == 200, found
    return found


def finish(cloud: LocalGcp, round_id: str) -> dict[str, Any]:
    """Dispatch the tasks of a round until its end, and return its report."""
    for _ in range(2000):
        if not any(one.tasks for one in cloud.world.tasks.queues.values()):
            break
        if not cloud.task_delivery.deliver():
            cloud.advance(10)
    name = f"runs/rounds/{round_id}.json"
    report: dict[str, Any] = json.loads(cloud.read_object(name, cloud.deployment.state_bucket))
    return report


def statuses(report: dict[str, Any]) -> dict[str, str]:
    """Return the status of each tenant of a round."""
    return {row["tenant"]: row["status"] for row in report["rows"]}


def test_a_dead_a_throttled_and_a_revoked_tenant_are_rows_among_the_others(opened: Opener) -> None:
    """Half way, one tenant takes its grant away; another one's project is throttled, a third one's is deleted."""
    cloud = opened("acme", "bolt", "coal", "dune")
    first = finish(cloud, begin(cloud)["round"])
    assert "unreachable" not in statuses(first).values()
    cloud.advance(3600)
    cloud.delete_project("bolt-exports")
    cloud.faults.throttle("bigquery.*", per_second=5, burst=1)
    begun = begin(cloud)
    cloud.task_delivery.deliver()
    cloud.refuse_entry("coal")
    cloud.advance(3600)
    cloud.faults.clear()
    second = finish(cloud, begin(cloud)["round"])
    assert begun["enqueued"] == 4
    found = statuses(second)
    assert found["coal"] == "unreachable"
    assert found["bolt"] in ("failed", "degraded", "unreachable")
    assert found["acme"] == statuses(first)["acme"]
    assert found["dune"] == statuses(first)["dune"]
    assert second["tenants"]["not_run"] == 0
    assert all(one["remedy"] for row in second["rows"] for one in row["failures"])


@pytest.mark.parametrize("killed_at", ["rows/", "known_billing_accounts.json", "manifest.json", "runs/tenants/"])
def test_a_round_killed_at_any_write_resumes_without_a_second_copy(
    opened: Opener, monkeypatch: pytest.MonkeyPatch, killed_at: str
) -> None:
    """The instance dies right after that write; the queue repeats the task, and nothing is made twice."""
    from gcp_function.resources.objects import Objects

    cloud = opened("acme", "bolt")
    real, armed = Objects.write, [True]

    def write(objects: Objects, name: str, *given: Any, **more: Any) -> int:
        written = real(objects, name, *given, **more)
        if killed_at in name and "acme" in f"{objects.bucket}/{name}" and armed:
            armed.clear()
            raise Killed
        return written

    monkeypatch.setattr(Objects, "write", write)
    monkeypatch.setattr("tests.gcp_function.fleet.InProcess.invoke", _surviving())
    report = finish(cloud, begin(cloud)["round"])
    assert not armed
    assert report["tenants"]["not_run"] == 0
    assert {row["run_complete"] for row in report["rows"]} == {True}
    for tenant in ("acme", "bolt"):
        jobs = [one for one in cloud.world.jobs.of(f"{tenant}-exports") if one.kind == "extract"]
        copies = cloud.objects(f"tailpipe-billing-export-{tenant}-exports")
        assert len(jobs) == sum(one.endswith("manifest.json") for one in copies) > 0


def _surviving() -> Callable[..., Any]:
    """Return the invocation of a function whose instance may die: the platform then answers 500 without a body."""
    from tests.gcp_function.fleet import Answered, InProcess

    real = InProcess.invoke

    def invoke(runner: InProcess, *given: Any, **more: Any) -> Answered:
        try:
            return real(runner, *given, **more)
        except Killed:
            return Answered(500, b"", error="the instance was killed")

    return invoke


@pytest.mark.parametrize("permission", ["storage.objects.get", "cloudtasks.tasks.create", "iam.serviceAccounts.actAs"])
def test_each_permission_of_rounds_is_needed(opened: Opener, permission: str) -> None:
    """Without any one of what `fleet` grants, the begin is refused and enqueues nothing."""
    cloud = opened("acme")
    where = f"buckets/{cloud.deployment.registry_bucket}" if permission.startswith("storage") else "*"
    assert cloud.revoke(permission, where) == 1
    with pytest.raises(AssertionError, match="message"):
        begin(cloud)
    assert not [name for name in cloud.world.tasks.queue(cloud.deployment.tenants_queue).tasks if "acme" in name]


def test_the_function_and_the_caller_of_rounds_may_do_nothing_else(opened: Opener) -> None:
    """The function writes no registry and changes no queue; the account of its tasks calls the function only."""
    cloud = opened("acme")
    names, own = cloud.deployment, cloud.deployment.identity
    queue, registry = names.tenants_queue, names.registry_bucket
    upload = f"upload/storage/v1/b/{registry}/o?uploadType=media&name=tenants.json"
    task = {"task": {"httpRequest": {"url": "https://example.com"}}}
    acting = {"url": "https://example.com", "oidcToken": {"serviceAccountEmail": names.scheduler}}
    refused = [
        (own, upload, {}),
        (own, f"v2/{queue}:pause", {}),
        (own, f"v2/{queue}/tasks", None),
        (own, f"v2/{queue}/tasks", {"task": {"httpRequest": acting}}),
        (names.tenants_caller, f"v2/{queue}/tasks", task),
        (names.tenants_caller, f"storage/v1/b/{registry}/o/tenants.json", None),
        (names.tenants_caller, f"storage/v1/b/{names.state_bucket}/o", None),
    ]
    assert [call(cloud, *one).status_code for one in refused] == [403] * len(refused)
    assert call(cloud, own, f"storage/v1/b/{registry}/o/tenants.json").status_code == 200


def test_the_function_impersonates_only_accounts_that_admitted_it(opened: Opener) -> None:
    """Neither a tenant's account nor the account of rounds can enter another tenant."""
    cloud = opened("acme", "bolt")
    own = cloud.deployment.identity
    accounts = {tenant: f"tailpipe-function@{tenant}-exports.iam.gserviceaccount.com" for tenant in ("acme", "bolt")}
    body = {"scope": ["https://www.googleapis.com/auth/cloud-platform"]}

    def enter(caller: str, account: str) -> int:
        return call(cloud, caller, f"v1/projects/-/serviceAccounts/{account}:generateAccessToken", body).status_code

    assert [enter(own, one) for one in accounts.values()] == [200, 200]
    assert enter(accounts["acme"], accounts["bolt"]) == 403
    assert enter(cloud.deployment.tenants_caller, accounts["acme"]) == 403
    assert enter(own, cloud.deployment.connector) == 403
    cloud.revoke(TOKEN_CREATOR, f"projects/bolt-exports/serviceAccounts/{accounts['bolt']}")
    assert [enter(own, one) for one in accounts.values()] == [200, 403]
    bucket = "storage/v1/b/tailpipe-billing-export-{}-exports/o"
    assert call(cloud, accounts["acme"], bucket.format("acme")).status_code == 200
    assert call(cloud, accounts["acme"], bucket.format("bolt")).status_code == 403


@pytest.mark.slow
def test_a_process_killed_in_the_middle_of_a_task_is_replaced_and_writes_nothing_twice() -> None:
    """SIGKILL during a tenant's first extract job, and during another's first manifest; each task arrives twice.

    The write takes effect and its response is lost. The function is that of the archive, in Google's own
    framework and over HTTP, on the local cloud's clock.
    """
    started: list[FunctionsFramework] = []

    def timed(environment: Mapping[str, str]) -> FunctionsFramework:
        started.append(
            FunctionsFramework("cli.demo.gcp_app:reconcile", environment, source=CODE, timeout_s=HANG_S, grace_s=2)
        )
        return started[-1]

    killed: list[str] = []

    def kill() -> None:
        killed.append("killed")
        started[-1].kill()

    with LocalGcp(0, clock=VirtualClock(), done=0, runtime=timed) as cloud:
        entries = [cloud.add_tenant(tenant, **FEW) for tenant in ("acme", "bolt")]
        cloud.enable_tenants()
        cloud.write_registry(entries)
        cloud.task_faults(copies=2)
        cloud.faults.before("bigquery.jobs.insert", kill, path="*/acme-exports/*")
        cloud.faults.before("storage.objects.insert", kill, path="*billing-export-bolt-exports*")
        round_id = begin(cloud)["round"]
        answers: list[int | None] = []
        while cloud.world.tasks.queue(cloud.deployment.tenants_queue).tasks:
            done = cloud.task_delivery.deliver()
            answers += [status for name, status in done if "-end-" not in name]
            if not done:
                cloud.advance(10)
        report = json.loads(cloud.read_object(f"runs/rounds/{round_id}.json", cloud.deployment.state_bucket))
        assert len(killed) == 2
        assert answers.count(503) == 2
        assert set(answers) == {503, 409, 200}  # 409: the lock of the killed run
        assert report["tenants"]["not_run"] == 0
        assert {row["run_complete"] for row in report["rows"]} == {True}
        for tenant in ("acme", "bolt"):
            jobs = [one for one in cloud.world.jobs.of(f"{tenant}-exports") if one.kind == "extract"]
            copies = cloud.objects(f"tailpipe-billing-export-{tenant}-exports")
            assert len(jobs) == sum(one.endswith("manifest.json") for one in copies) > 0


@pytest.mark.slow
def test_the_guide_for_google_cloud_takes_a_provider_to_the_second_tenant(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command of docs/fleet.md but `deploy`, in its order, on a local cloud whose tenants have its names."""
    text = (repository / "docs" / "fleet.md").read_text(encoding="utf-8").partition("### The same on Google Cloud")[2]
    blocks = re.findall(r"```\n(.*?)```", text.partition("\n## ")[0], re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    calls = [shlex.split(line)[1:] for line in lines]
    assert [one[0] for one in calls] == ["deploy", "tenants", "tenants", "tenants", "invoke", "status"]
    second = [[word.replace("acme", "globex").replace("0001", "0002") for word in one] for one in calls[1:4]]
    runner = InProcess()
    monkeypatch.chdir(tmp_path)
    with LocalGcp(0, done=0, runtime=runner) as cloud:
        runner.cloud = cloud
        for tenant in ("acme", "globex"):
            cloud.add_tenant(tenant, **FEW)
        cloud.enable_tenants()
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        for arguments in [*calls[1:], *second, ["invoke", "gcp", "--all"], ["status", "gcp", "--all-tenants"]]:
            result = CliRunner().invoke(main, arguments)
            assert result.exit_code in ((0, 2, 3) if arguments[0] != "tenants" else (0,)), (arguments, result.output)
        assert {row["run_complete"] for row in cloud.rows().values()} == {True}
        assert list(cloud.rows()) == ["acme", "globex"]
    assert (tmp_path / "invitation" / "admit.sh").read_text(encoding="utf-8").startswith("#!/usr/bin/env bash")


@pytest.mark.slow
def test_a_round_through_the_packaged_runtime(monkeypatch: pytest.MonkeyPatch) -> None:
    """Real processes of the function, called by the queue in real time, two tenants at once."""
    with LocalGcp(0, done=0, runtime=runtime) as cloud:
        entries = [cloud.add_tenant(tenant, **FEW) for tenant in ("acme", "bolt", "coal")]
        cloud.enable_tenants(parallel=2, seconds=300)
        cloud.write_registry(entries)
        cloud.refuse_entry("coal")
        for name, value in cloud.environment().items():
            monkeypatch.setenv(name, value)
        told: list[str] = []
        report = GcpOperator.open({}).round(told.append)
        assert {tenant: one != "unreachable" for tenant, one in statuses(report).items()} == {
            "acme": True,
            "bolt": True,
            "coal": False,
        }
        assert report["tenants"]["not_run"] == 0
        assert told[-1] == "3 tenants have a result"
        assert {row["invocations"] for row in report["rows"]} == {1}
