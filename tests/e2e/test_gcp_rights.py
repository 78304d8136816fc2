"""The function is granted exactly the GCP permissions that it uses."""

from __future__ import annotations

import base64
import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from gcp_function.state_store import KEY
from localcloud.gcp.cloud import LocalGcp
from localcloud.gcp.iam.grants import FILE, Grant
from localcloud.gcp.iam.policies import ROLES, Iam
from localcloud.gcp.platform.deployment import Deployment
from localcloud.gcp.platform.names import NOTIFY_SECRET
from localcloud.gcp.state import Behavior
from shared.reconcile import RunResult
from shared.runtime.clock import VirtualClock
from tests.gcp_function.events import EventFunction
from tests.gcp_function.fleet import FleetFunction
from tests.gcp_function.support import DAY, HOUR, START, accounts, day_of, local_gcp, messages, run

pytestmark = pytest.mark.long

USAGE = "standard,detailed,pricing"
Use = tuple[str, str]  # a permission, and the resource that it was needed on
Item = tuple[str, str]  # a grant's id, and one of its actions or its role


@dataclass(frozen=True)
class Usage:
    """The permissions that one scenario used.

    `met` are the deployment's conditions, `uses` the permissions that calls required with their resources, and `chains`
    each resource with its ancestors.
    """

    deployment: Deployment
    met: frozenset[str]
    accounts: tuple[str, ...]
    uses: frozenset[Use]
    chains: Mapping[str, tuple[str, ...]]

    def covering(self, file: Path = FILE) -> dict[Use, list[Grant]]:
        """Return the grants of a file that each allow a use on their own, as the local IAM decides."""
        given = self.deployment.grants("function", self.met, file)
        found: dict[Use, list[Grant]] = {use: [] for use in self.uses}
        for grant in given:
            iam = Iam(VirtualClock(START))
            self.deployment.bind(iam, "function", [grant], self.accounts)
            for permission, resource in self.uses:
                if iam.allows("function", permission, self.chains[resource]):
                    found[permission, resource].append(grant)
        return found


def opened() -> LocalGcp:
    """Return a project with two billing accounts, one after its console step; extract jobs take two seconds."""
    return local_gcp(accounts=2, done=1, rows=2, behavior=Behavior(extract_s=2))


def hold(cloud: LocalGcp, given: Iterable[Grant]) -> None:
    """Give the function these grants and no others."""
    cloud.iam.strip(cloud.deployment.identity)
    cloud.deployment.bind(cloud.iam, cloud.deployment.identity, given, accounts(cloud))


def used(cloud: LocalGcp) -> frozenset[Use]:
    """Return the permissions that the function's own calls have required so far, but for those that tenants grant."""
    calls = cloud.calls.select(identity=cloud.deployment.identity)
    return frozenset(use for call in calls for use in call.rights if use[0] != "iam.serviceAccounts.getAccessToken")


def require_status(finished: RunResult, *statuses: str) -> None:
    """Require a run's status, so that a scenario cannot pass by doing nothing."""
    assert finished.report["status"] in (statuses or ("ok",)), finished.report["failures"]


def onboarding(cloud: LocalGcp) -> None:
    """Run first without a state, and again after the second account's console step."""
    first, second = accounts(cloud)
    require_status(run(cloud, EXPORTS=USAGE))
    cloud.console_step(second)
    cloud.stream(days=2, rows=2, accounts=[second])
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE))
    assert {name.split("/")[0] for name in cloud.copies()} == {first, second}
    # A run for one account, as after adding it.
    require_status(run(cloud, [first], EXPORTS=USAGE))


def deliveries(cloud: LocalGcp) -> None:
    """Handle late rows, slow and failed jobs, partitions older than the window, and a deleted table."""
    first, second = accounts(cloud)
    cloud.advance(HOUR)
    cloud.late_data(first, day_of(1))
    cloud.late_data(first, day_of(2), "detailed")
    cloud.fail_jobs("extract", "backendError")
    require_status(run(cloud, EXPORTS=USAGE, verify_all=True))
    # Superseded copies are deleted when the next copy of that day is published.
    cloud.advance(HOUR)
    cloud.late_data(first, day_of(1))
    require_status(run(cloud, EXPORTS=USAGE))
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE, COPY_DAYS="1", verify_all=True))
    cloud.delete_copy(first, day_of(2))
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE, verify_all=True))
    cloud.delete_table(second, "detailed")
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE), "ok", "degraded")


def repairs(cloud: LocalGcp) -> None:
    """Handle changed settings, foreign objects, and a deleted bucket and dataset."""
    first, _ = accounts(cloud)
    bucket = cloud.world.buckets.find(cloud.deployment.bucket).document
    bucket.pop("lifecycle")
    bucket["iamConfiguration"] = {
        "uniformBucketLevelAccess": {"enabled": False},
        "publicAccessPrevention": "inherited",
    }
    manifest = f"{first}/{day_of(1)}/standard/manifest.json"
    cloud.put_object(manifest, "not a manifest")
    cloud.advance(HOUR)
    finished = run(cloud, EXPORTS=USAGE)
    assert "public access prevention" in messages(finished)
    assert cloud.world.buckets.find(cloud.deployment.bucket).document["lifecycle"]["rule"]
    cloud.delete_bucket()
    cloud.advance(HOUR)
    run(cloud, EXPORTS=USAGE)
    require_status(run(cloud, EXPORTS=USAGE, force=True))
    cloud.delete_dataset()
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE, force=True), "ok", "degraded")
    assert (cloud.project, cloud.deployment.dataset) in cloud.world.catalog.datasets


def states(cloud: LocalGcp) -> None:
    """Handle a state that is deleted, legacy, corrupt, empty, or written concurrently."""
    bucket = cloud.deployment.state_bucket
    cloud.delete_objects(bucket, KEY)
    cloud.advance(HOUR)
    require_status(run(cloud, EXPORTS=USAGE), "ok", "degraded")
    for text in ('["012345-6789AB-CDEF01"]', "{broken", ""):
        cloud.put_object(KEY, text, bucket)
        cloud.advance(DAY)
        require_status(run(cloud, EXPORTS=USAGE), "ok", "degraded")
    assert any("corrupt" in name for name in cloud.objects(bucket))
    assert cloud.objects(bucket, "runs/")
    # Another process writes it between this run's load and its first save.
    kept = cloud.read_object(KEY, bucket)
    cloud.advance(HOUR)
    cloud.faults.before("storage.objects.insert", lambda: cloud.put_object(KEY, kept, bucket))
    require_status(run(cloud, EXPORTS=USAGE), "ok", "degraded")


def linked(cloud: LocalGcp) -> None:
    """Read FOCUS data, which Google shares in linked datasets."""
    first, _ = accounts(cloud)
    cloud.console_step(first, ["focus"])
    cloud.stream(days=1, rows=2, accounts=[first], kinds=["focus"])
    finished = run(cloud)
    require_status(finished)
    assert finished.report["outcomes"]["SKIP"]


def named(cloud: LocalGcp) -> None:
    """List billing accounts by id, without any permission on the organization."""
    finished = run(cloud, ORGANIZATION="", EXPORTS=USAGE)
    require_status(finished)
    assert finished.report["scopes"]["total"] == 2


def notified(cloud: LocalGcp) -> None:
    """Send the weekly digest, which requires the webhook's secret; a closed port replaces the receiver."""
    cloud.world.secrets[NOTIFY_SECRET] = ["http://127.0.0.1:9/hook"]
    name = f"projects/{cloud.project}/secrets/{NOTIFY_SECRET}"
    run(cloud, ORGANIZATION="", EXPORTS=USAGE, NOTIFY_URL=name, NOTIFY_DIGEST="weekly")


def events(cloud: LocalGcp) -> None:
    """Pull and acknowledge a waiting event; return one that arrives too soon."""
    cloud.console_step(accounts(cloud)[1])
    cloud.stream(days=1, rows=2)
    function = EventFunction(cloud, EXPORTS=USAGE)
    cloud.delete_table(accounts(cloud)[0])
    assert function.deliver() == [200]
    cloud.advance(20)
    cloud.delete_table(accounts(cloud)[1])
    assert EventFunction(cloud, EXPORTS=USAGE).deliver() == [429]


def announced(cloud: LocalGcp) -> None:
    """Announce new copies and, after late rows, what changed; store and publish a document for each."""
    topic = cloud.announce_deliveries()
    settings = {"EXPORTS": USAGE, "DELTAS": "1", "DELIVERY_TOPIC": topic}
    require_status(run(cloud, ORGANIZATION="", environment=settings))
    cloud.advance(HOUR)
    cloud.late_data(accounts(cloud)[0], day_of(1))
    require_status(run(cloud, ORGANIZATION="", environment=settings))
    assert {json.loads(base64.b64decode(one["data"]))["data"]["sequence"] for one in cloud.published()} == {1, 2}


def rounds(cloud: LocalGcp) -> None:
    """Begin a round before there is a registry, then run one over a tenant to its end."""
    function = FleetFunction(cloud, {"acme": {}})
    cloud.delete_objects(cloud.deployment.registry_bucket)
    assert function.call({"round": {"step": "begin"}})[0] == 400
    function.register()
    assert function.round()["tenants"]["not_run"] == 0


SCENARIOS: Mapping[str, tuple[frozenset[str], tuple[Callable[[LocalGcp], None], ...]]] = {
    "organization": (frozenset({"organization"}), (onboarding, deliveries, repairs, states)),
    "focus": (frozenset({"organization", "focus"}), (linked,)),
    "named accounts": (frozenset({"billing_accounts"}), (named,)),
    "events": (frozenset({"organization", "events"}), (events,)),
    "deliveries": (frozenset({"billing_accounts", "delivery_events"}), (announced,)),
    "tenants": (frozenset({"billing_accounts", "tenants"}), (rounds,)),
    "messages": (frozenset({"billing_accounts", "notify"}), (notified,)),
}


def run_scenario(met: frozenset[str], steps: Iterable[Callable[[LocalGcp], None]]) -> Usage:
    """Run a scenario while exactly the deployment's permissions are enforced."""
    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", met))
        for step in steps:
            step(cloud)
        uses, world = used(cloud), cloud.world
        chains = {resource: world.chain(resource) for _, resource in uses}
        return Usage(cloud.deployment, met, tuple(accounts(cloud)), uses, chains)


def problems(usages: Iterable[Usage], file: Path = FILE) -> list[str]:
    """Return the permissions that a file lacks, that it grants unused, and that it grants too widely."""
    found: set[str] = set()
    needed: set[Item] = set()
    granted: set[Item] = set()
    places: dict[Item, set[str]] = defaultdict(set)
    for usage in usages:
        for grant in usage.deployment.grants("function", usage.met, file):
            granted |= {(grant.id, item) for item in grant.actions or (grant.role,)}
        for (permission, resource), covering in usage.covering(file).items():
            if not covering:
                found.add(f"missing in {file.name}: {permission} on {_kind(resource)}, such as {resource}")
            # A use that two grants allow does not show that either is needed.
            elif len(covering) == 1:
                needed.add((covering[0].id, permission if covering[0].actions else covering[0].role))
            for one in covering:
                if one.scope == "project":
                    places[one.id, permission].add(_home(usage.deployment, resource))
    for (name, item), homes in places.items():
        if len(homes) == 1 and (home := homes.pop()):
            found.add(f"too wide in {file.name}: {item} of grant {name} is used in the {home} only")
    found |= {f"superfluous in {file.name}: {item} of grant {name}" for name, item in granted - needed}
    return sorted(found)


def _home(deployment: Deployment, resource: str) -> str:
    """Return the part of the deployment that contains a resource; "" for the project and anything outside."""
    homes = {
        "dataset": f"projects/{deployment.project}/datasets/{deployment.dataset}",
        "export bucket": f"buckets/{deployment.bucket}",
        "state bucket": f"buckets/{deployment.state_bucket}",
    }
    return next((home for home, start in homes.items() if f"{resource}/".startswith(f"{start}/")), "")


def _kind(resource: str) -> str:
    parts = resource.split("/")
    return parts[-2].removesuffix("s") if parts[0] != "buckets" or len(parts) < 4 else "object"


@pytest.fixture(scope="module")
def usages() -> list[Usage]:
    """Return the permissions that each scenario used."""
    return [run_scenario(met, steps) for met, steps in SCENARIOS.values()]


def test_function_is_granted_exactly_the_permissions_it_uses(usages: list[Usage]) -> None:
    """Every permission that a call required is granted there, and every granted one was required."""
    assert problems(usages) == []


def changed(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Return a copy of rights.yaml in which the function's grants were changed."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(document["function"])
    copy = folder / FILE.name
    copy.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return copy


def without(grant: str, item: str) -> Callable[[list[dict[str, Any]]], None]:
    """Return the change that removes an action from a grant, or the grant itself if it is a role or becomes empty."""

    def change(given: list[dict[str, Any]]) -> None:
        (found,) = [one for one in given if one["id"] == grant]
        if item in found.get("actions", ()):
            found["actions"].remove(item)
        if not found.get("actions"):
            given.remove(found)

    return change


ITEMS = [
    (grant["id"], item)
    for grant in yaml.safe_load(FILE.read_text(encoding="utf-8"))["function"]
    for item in grant.get("actions", [grant.get("role")])
]


@pytest.mark.parametrize(("grant", "item"), ITEMS)
def test_removed_permission_is_reported(usages: list[Usage], tmp_path: Path, grant: str, item: str) -> None:
    """The comparison names the permission and the file that lacks it."""
    reported = problems(usages, changed(tmp_path, without(grant, item)))
    assert reported
    permissions = {item} if not item.startswith("roles/") else ROLES[item]
    assert all(line.startswith("missing in rights.yaml: ") and line.split()[3] in permissions for line in reported)


@pytest.mark.parametrize(
    ("grant", "action"),
    [
        ("SeeProject", "serviceusage.services.list"),
        ("RecreateDestination", "bigquery.datasets.update"),
        ("ReadExports", "bigquery.tables.updateData"),
        ("KeepExportBucket", "storage.buckets.setIamPolicy"),
        ("WriteCopies", "storage.objects.update"),
        ("KeepState", "storage.buckets.get"),
        # Granted elsewhere with a narrower scope.
        ("SeeDatasets", "bigquery.tables.getData"),
        ("RunJobs", "storage.objects.get"),
    ],
)
def test_unused_permission_is_reported(usages: list[Usage], tmp_path: Path, grant: str, action: str) -> None:
    """The comparison names the permission, its grant and the file."""

    def add(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == grant)["actions"].append(action)

    assert f"superfluous in rights.yaml: {action} of grant {grant}" in problems(usages, changed(tmp_path, add))


def test_grant_with_too_wide_a_scope_is_reported(usages: list[Usage], tmp_path: Path) -> None:
    """A permission on the whole project that is used only in the dataset is too wide."""

    def widen(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == "ReadExports")["scope"] = "project"

    found = problems(usages, changed(tmp_path, widen))
    assert "too wide in rights.yaml: bigquery.tables.getData of grant ReadExports is used in the dataset only" in found


def test_bucket_permissions_end_at_their_bucket() -> None:
    """They apply neither to buckets with similar names, nor to the other bucket, nor to the project."""
    deployment = Deployment()
    buckets = {"export_bucket": deployment.bucket, "state_bucket": deployment.state_bucket}
    project = f"projects/{deployment.project}"
    seen = 0
    for holder in ("function", "connector"):
        for grant in deployment.grants(holder):
            if grant.scope not in buckets:
                continue
            seen += 1
            own = buckets[grant.scope]
            iam = Iam(VirtualClock(START))
            deployment.bind(iam, holder, [grant])
            other_buckets = {f"{own}-copy", own[:-1], "other", *buckets.values()} - {own}
            for permission in grant.actions or ROLES[grant.role]:
                places = (
                    (f"buckets/{own}/objects/o", f"buckets/{own}") if "objects" in permission else (f"buckets/{own}",)
                )
                assert all(iam.allows(holder, permission, (one, f"buckets/{own}", project)) for one in places)
                for name in other_buckets:
                    for one in (
                        f"buckets/{name}",
                        f"buckets/{name}/objects/o",
                        f"buckets/{name}/objects/{own}/objects/o",
                    ):
                        assert not iam.allows(holder, permission, (one, f"buckets/{name}", project)), (grant.id, one)
                assert not iam.allows(holder, permission, (project,))
    assert seen == 4


def run_three_times(cloud: LocalGcp) -> RunResult:
    """Run three times, an hour apart, until a refused permission is reported; return the last run."""
    for _ in range(2):
        run(cloud, EXPORTS=USAGE)
        cloud.advance(HOUR)
    return run(cloud, EXPORTS=USAGE)


def no_copies(cloud: LocalGcp) -> None:
    """Require that nothing is copied, and that three runs later a failure or a manual step says so."""
    finished = run_three_times(cloud)
    assert not [name for name in cloud.copies() if name.endswith("manifest.json")]
    assert finished.report["status"] != "ok" or finished.report["manual"]


def no_state(cloud: LocalGcp) -> None:
    """Require that the run reports an unreadable or unsaved state."""
    run(cloud, EXPORTS=USAGE)
    cloud.advance(HOUR)
    finished = run(cloud, EXPORTS=USAGE)
    assert {one["code"] for one in finished.report["failures"]} & {"state-forbidden", "state-unsaved"}


def no_accounts(cloud: LocalGcp) -> None:
    """Require that no account is found, and that the missing permission is reported."""
    finished = run(cloud, EXPORTS=USAGE)
    assert {one["code"] for one in finished.report["failures"]} == {"no-billing-accounts"}


def no_tiers(cloud: LocalGcp) -> None:
    """Require that the bucket's deleted lifecycle rules are not restored."""
    document = cloud.world.buckets.find(cloud.deployment.bucket).document
    document.pop("lifecycle")
    run(cloud, EXPORTS=USAGE)
    assert "lifecycle" not in cloud.world.buckets.find(cloud.deployment.bucket).document


def no_dataset(cloud: LocalGcp) -> None:
    """Require that the deleted dataset is not restored."""
    run(cloud, EXPORTS=USAGE)
    cloud.delete_dataset()
    run(cloud, EXPORTS=USAGE, force=True)
    assert (cloud.project, cloud.deployment.dataset) not in cloud.world.catalog.datasets


def no_service_status(cloud: LocalGcp) -> None:
    """Require that the unreadable state of the APIs is reported."""
    finished = run_three_times(cloud)
    assert "serviceusage" in messages(finished)


@pytest.mark.parametrize(
    ("grant", "item", "broken"),
    [
        ("ReadExports", "bigquery.tables.export", no_copies),
        ("ReadExports", "bigquery.tables.getData", no_copies),
        ("ReadExports", "bigquery.routines.list", no_copies),
        ("RunJobs", "bigquery.jobs.create", no_copies),
        ("WriteCopies", "storage.objects.create", no_copies),
        ("WriteCopies", "storage.objects.list", no_copies),
        ("KeepState", "storage.objects.get", no_state),
        ("KeepState", "storage.objects.list", no_state),
        ("KeepState", "storage.objects.delete", no_state),
        ("KeepExportBucket", "storage.buckets.update", no_tiers),
        ("RecreateDestination", "bigquery.datasets.create", no_dataset),
        ("SeeProject", "serviceusage.services.get", no_service_status),
        ("ListBillingAccounts", "roles/billing.viewer", no_accounts),
    ],
)
def test_missing_permission_breaks_its_feature_and_is_reported(
    tmp_path: Path, grant: str, item: str, broken: Callable[[LocalGcp], None]
) -> None:
    """The permission is really enforced: its feature does not work, and no run hides that."""
    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", {"organization"}, changed(tmp_path, without(grant, item))))
        broken(cloud)


def test_deleted_dataset_requires_a_permission_on_the_project_to_be_detected(tmp_path: Path) -> None:
    """Permissions on a dataset are deleted with it, so the grant must be on the project."""

    def narrow(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == "SeeDatasets")["scope"] = "dataset"

    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", {"organization"}, changed(tmp_path, narrow)))
        no_dataset(cloud)
