"""`deploy` and `destroy` in processes of their own: each answer broken once, each call their last one; then repeated.

Terraform is a double that keeps a state; everything else of the commands is real. The second command must succeed, and
end in the world in which one that nothing disturbed ends.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from azure_function.targets import DESCRIPTION
from cli.local.gcp import runtime
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.quotas import UNLIMITED
from localcloud.common.local_cloud import LocalCloud
from localcloud.common.wire_faults import WireFault
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.platform.deployment import OPERATOR
from tests.cli.support.terraform_double import TerraformDouble, change
from tests.crash.breakages import Form, breakages
from tests.crash.kills import WAYS as KILLS
from tests.crash.kills import Victim
from tests.crash.stage import World
from tests.crash.stages import STAGES
from tests.crash.trial import Case, Verdict, differences, secrets_in

MODULE_STATE = {
    "azure": ["azurerm_resource_group.this", "azurerm_storage_account.host"],
    "gcp": ["google_cloud_scheduler_job.this", "google_storage_bucket.export", "google_storage_bucket.state"],
}
EXITS = frozenset({0, 1, 2, 3})  # of the documented contract


@dataclass
class Bench:
    """A local cloud that is deployed, a Terraform, and the environment of the operator."""

    cloud: Any
    terraform: TerraformDouble
    folder: Path
    environment: dict[str, str]


@dataclass(frozen=True)
class Command:
    """A command, what is there before it, and what must be there after it."""

    cloud: str
    open: Callable[[], LocalCloud]
    prepare: Callable[[Bench], None]
    arguments: Callable[[Bench], list[str]]
    world: Callable[[Bench], World]
    ways: tuple[str, ...] = ()  # all of them without it


def _azure() -> LocalAzure:
    return LocalAzure(subscriptions=2, limits=UNLIMITED)


def _exports(bench: Bench) -> None:
    """An export of ours in the first subscription, and one of the customer in the second."""
    cloud: LocalAzure = bench.cloud
    first, second = cloud.subscription_ids
    cloud.create_exports([first], name=f"TailpipeDataExport-{first[-6:]}")
    for export in cloud.world.exports.at(f"/subscriptions/{first}"):
        body = export.body()
        body["properties"]["exportDescription"] = DESCRIPTION
        body["properties"]["deliveryInfo"]["destination"]["rootFolderPath"] = f"tailpipe/subscriptions/{first}"
        export.stored = msgspec.json.encode(body)
    cloud.create_exports([second], name="Finance")
    bench.terraform.hold(MODULE_STATE["azure"])


def _azure_world(bench: Bench) -> World:
    return {
        "held": bench.terraform.held(),
        "exports": sorted(one["name"] for one in bench.cloud.exports()),
        "accounts": sorted(bench.cloud.world.accounts),
    }


def _gcp() -> LocalGcp:
    return LocalGcp(accounts=1, done=1, history_days=1, rows=2, kinds=("standard",))


def _gcp_with_function() -> LocalGcp:
    return LocalGcp(accounts=1, done=1, history_days=1, rows=2, kinds=("standard",), runtime=runtime)


def _copies(bench: Bench) -> None:
    """Copies in the bucket, and everything in the state of Terraform."""
    bench.cloud.put_object("copies/1.parquet", "x")
    bench.terraform.hold(MODULE_STATE["gcp"])


def _planned(bench: Bench) -> None:
    """A first deployment: Terraform has no state, and plans what exists and what does not."""
    deployment = bench.cloud.deployment
    # A call by address returns at once; for a call by schedule, the command waits for the report.
    bench.cloud.set_ingress("ALLOW_ALL")
    bench.terraform.plan(
        [
            change("google_storage_bucket.export", name=deployment.bucket, project=bench.cloud.project),
            change("google_bigquery_dataset.export", dataset_id="billing_export", project=bench.cloud.project),
            change("google_monitoring_notification_channel.email", display_name="new", project=bench.cloud.project),
        ]
    )
    (bench.folder / "given.zip").write_bytes(b"PK")


def _kinds(names: list[str]) -> list[str]:
    """Return the names of objects without what differs from run to run."""
    return sorted({re.sub(r"\d{8}T[\dZ.]+-\w+|[0-9a-f]{8,}", "…", one) for one in names})


def _gcp_world(bench: Bench) -> World:
    cloud: LocalGcp = bench.cloud
    schedules = [cloud.resource(one).get("state") for one in cloud.resources("/jobs/")]
    return {
        "held": bench.terraform.held(),
        "buckets": {name: _kinds(one.objects.names("")) for name, one in cloud.world.buckets.all.items()},
        "tables": cloud.tables(),
        "schedules": schedules,
    }


def _deploy_arguments(bench: Bench) -> list[str]:
    values = {
        "environment": "prod",
        "tailpipe_tenant": "tenant-of-this-machine",
        "tailpipe_issuer": bench.cloud.world.issuer,
        "tailpipe_audience": "https://audience.example.com",
        "package": str(bench.folder / "given.zip"),
    }
    given = [part for name, value in values.items() for part in ("--var", f"{name}={value}")]
    return ["deploy", "gcp", "--yes", *given]


COMMANDS: Mapping[str, Command] = {
    "azure/destroy": Command(
        "azure",
        _azure,
        _exports,
        lambda bench: [
            *("destroy", "azure", "--delete-exports", "--keep-identity", "--confirm", bench.cloud.tenant),
            *("--local-state", str(bench.folder / "state")),
        ],
        _azure_world,
    ),
    "gcp/destroy": Command(
        "gcp",
        _gcp,
        _copies,
        lambda bench: [
            *("destroy", "gcp", "--delete-exports", "--delete-data", "--confirm", bench.cloud.project),
            *("--local-state", str(bench.folder / "state")),
        ],
        _gcp_world,
    ),
    "gcp/deploy": Command(
        # It calls the function, in the real runtime, which takes seconds.
        "gcp",
        _gcp_with_function,
        _planned,
        _deploy_arguments,
        _gcp_world,
        ("lost", "login page", "503", *KILLS),
    ),
}


class OperatorTrials:
    """The trials of one command, each with a cloud of its own; a context manager through `opened`."""

    def __init__(self, name: str, victim: Victim) -> None:
        self._command, self._story, self._victim = COMMANDS[name], name.partition("/")[2], victim
        self.calls: list[str] = []
        self.expected: World = {}

    def rehearse(self) -> list[str]:
        """Run the command without a fault; return its calls by name."""
        with self._bench() as bench:
            bench.cloud.faults.wire.begin()
            _, code, said = self._run(bench)
            assert code == 0, said
            self.calls = [self._name(bench, one) for one in bench.cloud.faults.wire.seen]
            self.expected = self._command.world(bench)
        return self.calls

    def cases(self) -> Iterator[Case]:
        """Yield a case for every way of breaking every call that takes no real waiting, and for each kill."""
        with self._bench() as bench:
            ways = breakages(self._form(bench))
        for way in self._command.ways or (*(name for name, one in ways.items() if not one.slow), *KILLS):
            for number, name in enumerate(self.calls, 1):
                yield Case(self._command.cloud, self._story, number, way, name)

    def play(self, case: Case) -> Verdict:
        """Break one call of the command, and repeat the command."""
        with self._bench() as bench:
            wire = bench.cloud.faults.wire
            wire.begin(self._fault(bench, case))
            killed, code, said = self._run(bench)
            seen, hits = list(wire.seen), wire.hits
            wire.end()
            verdict = Verdict(case, "killed" if killed else f"exit {code}")
            if not hits:
                verdict.wrong.append("the call was not made")
            if not killed and (code not in EXITS or "Traceback (most recent call last)" in said):
                verdict.wrong.append(f"the command ended with {code}: {said[-1500:]}")
            # The token of the local GCP's operator is the operator's address, which commands show.
            if any(one in said for one in secrets_in(seen) - {OPERATOR}):
                verdict.wrong.append("the command's output contains a credential")
            if code:  # what has succeeded need not be repeated
                _, code, said = self._run(bench)
                verdict.runs = 1
            found = differences(self.expected, self._command.world(bench))
            if code or found:
                verdict.wrong.append(f"the last command ended with {code}: {'; '.join(found)}: {said[-1500:]}")
        return verdict

    def _fault(self, bench: Bench, case: Case) -> WireFault:
        if case.way in KILLS:
            return self._victim.fault(case.way, case.call)
        way = breakages(self._form(bench))[case.way]
        return WireFault(range(case.call, case.call + 1), way.before, way.after)

    def _form(self, bench: Bench) -> Form:
        stage = STAGES[self._command.cloud]()
        stage.cloud, stage.environment = bench.cloud, bench.cloud.environment()
        return stage.form

    def _name(self, bench: Bench, request: Any) -> str:
        stage = STAGES[self._command.cloud]()
        stage.cloud = bench.cloud
        return re.sub(r"\d{6,}|[0-9a-f-]{36}", "…", stage.call_name(request))

    def _run(self, bench: Bench) -> tuple[bool, int, str]:
        payload = {"arguments": self._command.arguments(bench), "environment": bench.environment}
        killed, said = self._victim.call(payload, "")
        found = re.search(r"exit=(\d+)$", said)
        return killed, int(found[1]) if found else -1, said

    @contextmanager
    def _bench(self) -> Iterator[Bench]:
        with tempfile.TemporaryDirectory(prefix="crash-") as name, self._command.open() as cloud:
            folder = Path(name)
            terraform = TerraformDouble(folder / "bin")
            environment = {one: value for one, value in cloud.environment().items() if not one.startswith("TF_VAR_")}
            environment |= {"PATH": terraform.path, "HOME": name, "XDG_CACHE_HOME": str(folder / "cache")}
            bench = Bench(cloud, terraform, folder, environment)
            self._command.prepare(bench)
            yield bench


@contextmanager
def opened(name: str) -> Iterator[OperatorTrials]:
    """Yield the trials of a command, ``azure/destroy``."""
    with Victim("cli", {}) as victim:
        yield OperatorTrials(name, victim)
