"""The function's rights on GCP, both ways: nothing is used that is not granted, nothing granted that is not used."""

from __future__ import annotations

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
from tests.gcp_function.support import DAY, HOUR, START, accounts, day_of, local_gcp, messages, run

USAGE = "standard,detailed,pricing"
Use = tuple[str, str]  # a permission, and the resource that it was needed on
Item = tuple[str, str]  # a grant's id, and one of its actions or its role


@dataclass(frozen=True)
class Told:
    """What one story needed.

    `met` are the conditions of the deployment that it was told in, `uses` each permission that a call was asked for
    with its resource, `chains` each such resource with all that is above it.
    """

    deployment: Deployment
    met: frozenset[str]
    accounts: tuple[str, ...]
    uses: frozenset[Use]
    chains: Mapping[str, tuple[str, ...]]

    def covering(self, file: Path = FILE) -> dict[Use, list[Grant]]:
        """Return which of a file's grants, each by itself, allow each use: the local IAM decides."""
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
    """Return a project with two accounts, one of which has taken the console step; its extract jobs take a while."""
    return local_gcp(accounts=2, done=1, rows=2, behavior=Behavior(extract_s=2))


def hold(cloud: LocalGcp, given: Iterable[Grant]) -> None:
    """Let the function hold these grants and nothing else."""
    cloud.iam.strip(cloud.deployment.identity)
    cloud.deployment.bind(cloud.iam, cloud.deployment.identity, given, accounts(cloud))


def used(cloud: LocalGcp) -> frozenset[Use]:
    """Return what the function's own calls needed so far."""
    calls = cloud.calls.select(identity=cloud.deployment.identity)
    return frozenset(use for call in calls for use in call.rights)


def ends(finished: RunResult, *statuses: str) -> None:
    """Hold a run's status, so that a story cannot pass by doing nothing."""
    assert finished.report["status"] in (statuses or ("ok",)), finished.report["failures"]


def onboarding(cloud: LocalGcp) -> None:
    """The first run, before any memory, and a second one when a person has taken the console step."""
    first, second = accounts(cloud)
    ends(run(cloud, EXPORTS=USAGE))
    cloud.console_step(second)
    cloud.stream(days=2, rows=2, accounts=[second])
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE))
    assert {name.split("/")[0] for name in cloud.copies()} == {first, second}
    # A call for one account, as after adding it.
    ends(run(cloud, [first], EXPORTS=USAGE))


def deliveries(cloud: LocalGcp) -> None:
    """Late rows, slow jobs, a job that fails, partitions older than the window, a table that is deleted."""
    first, second = accounts(cloud)
    cloud.advance(HOUR)
    cloud.late_data(first, day_of(1))
    cloud.late_data(first, day_of(2), "detailed")
    cloud.fail_jobs("extract", "backendError")
    ends(run(cloud, EXPORTS=USAGE, verify_all=True))
    # What is superseded is cleared up when the next state of that day is published.
    cloud.advance(HOUR)
    cloud.late_data(first, day_of(1))
    ends(run(cloud, EXPORTS=USAGE))
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE, COPY_DAYS="1", verify_all=True))
    cloud.delete_copy(first, day_of(2))
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE, verify_all=True))
    cloud.delete_table(second, "detailed")
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE), "ok", "degraded")


def damages(cloud: LocalGcp) -> None:
    """Settings that drift, foreign objects, and a destination that is lost."""
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
    ends(run(cloud, EXPORTS=USAGE, force=True))
    cloud.delete_dataset()
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE, force=True), "ok", "degraded")
    assert (cloud.project, cloud.deployment.dataset) in cloud.world.catalog.datasets


def memory(cloud: LocalGcp) -> None:
    """State that is lost, of an older form, no state at all, empty, or written by somebody else meanwhile."""
    bucket = cloud.deployment.state_bucket
    cloud.delete_objects(bucket, KEY)
    cloud.advance(HOUR)
    ends(run(cloud, EXPORTS=USAGE), "ok", "degraded")
    for text in ('["012345-6789AB-CDEF01"]', "{broken", ""):
        cloud.put_object(KEY, text, bucket)
        cloud.advance(DAY)
        ends(run(cloud, EXPORTS=USAGE), "ok", "degraded")
    assert any("corrupt" in name for name in cloud.objects(bucket))
    assert cloud.objects(bucket, "runs/")
    # Somebody else writes it between this run's look and its first save.
    kept = cloud.read_object(KEY, bucket)
    cloud.advance(HOUR)
    cloud.faults.before("storage.objects.insert", lambda: cloud.put_object(KEY, kept, bucket))
    ends(run(cloud, EXPORTS=USAGE), "ok", "degraded")


def linked(cloud: LocalGcp) -> None:
    """FOCUS data, which Google shares as datasets of its own."""
    first, _ = accounts(cloud)
    cloud.console_step(first, ["focus"])
    cloud.stream(days=1, rows=2, accounts=[first], kinds=["focus"])
    finished = run(cloud)
    ends(finished)
    assert finished.report["outcomes"]["SKIP"]


def named(cloud: LocalGcp) -> None:
    """Billing accounts that are named one by one, without any right on the organization."""
    finished = run(cloud, ORGANIZATION="", EXPORTS=USAGE)
    ends(finished)
    assert finished.report["scopes"]["total"] == 2


def notified(cloud: LocalGcp) -> None:
    """The webhook's secret is read, whose digest is due; a closed port stands for the receiver."""
    cloud.world.secrets[NOTIFY_SECRET] = ["http://127.0.0.1:9/hook"]
    name = f"projects/{cloud.project}/secrets/{NOTIFY_SECRET}"
    run(cloud, ORGANIZATION="", EXPORTS=USAGE, NOTIFY_URL=name, NOTIFY_DIGEST="weekly")


def events(cloud: LocalGcp) -> None:
    """An event that waits is pulled and given up; one that comes too soon is put back."""
    cloud.console_step(accounts(cloud)[1])
    cloud.stream(days=1, rows=2)
    rung = EventFunction(cloud, EXPORTS=USAGE)
    cloud.delete_table(accounts(cloud)[0])
    assert rung.deliver() == [200]
    cloud.advance(20)
    cloud.delete_table(accounts(cloud)[1])
    assert EventFunction(cloud, EXPORTS=USAGE).deliver() == [429]


STORIES: Mapping[str, tuple[frozenset[str], tuple[Callable[[LocalGcp], None], ...]]] = {
    "organization": (frozenset({"organization"}), (onboarding, deliveries, damages, memory)),
    "focus": (frozenset({"organization", "focus"}), (linked,)),
    "named accounts": (frozenset({"billing_accounts"}), (named,)),
    "events": (frozenset({"organization", "events"}), (events,)),
    "messages": (frozenset({"billing_accounts", "notify"}), (notified,)),
}


def tell(met: frozenset[str], chapters: Iterable[Callable[[LocalGcp], None]]) -> Told:
    """Tell a story to its end with exactly the rights of a deployment, each enforced."""
    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", met))
        for chapter in chapters:
            chapter(cloud)
        uses, world = used(cloud), cloud.world
        chains = {resource: world.chain(resource) for _, resource in uses}
        return Told(cloud.deployment, met, tuple(accounts(cloud)), uses, chains)


def faults(told: Iterable[Told], file: Path = FILE) -> list[str]:
    """Return what the rights of a file lack, and what they have or reach beyond what was used, each with the file."""
    found: set[str] = set()
    needed: set[Item] = set()
    granted: set[Item] = set()
    places: dict[Item, set[str]] = defaultdict(set)
    for story in told:
        for grant in story.deployment.grants("function", story.met, file):
            granted |= {(grant.id, item) for item in grant.actions or (grant.role,)}
        for (permission, resource), covering in story.covering(file).items():
            if not covering:
                found.add(f"missing in {file.name}: {permission} on {_kind(resource)}, such as {resource}")
            # What two grants allow proves neither of them.
            elif len(covering) == 1:
                needed.add((covering[0].id, permission if covering[0].actions else covering[0].role))
            for one in covering:
                if one.scope == "project":
                    places[one.id, permission].add(_home(story.deployment, resource))
    for (name, item), homes in places.items():
        if len(homes) == 1 and (home := homes.pop()):
            found.add(f"too wide in {file.name}: {item} of grant {name} is used in the {home} only")
    found |= {f"superfluous in {file.name}: {item} of grant {name}" for name, item in granted - needed}
    return sorted(found)


def _home(deployment: Deployment, resource: str) -> str:
    """Return which part of the deployment a resource is or lies in; "" for the project and what is outside."""
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
def told() -> list[Told]:
    """Return what each story needed."""
    return [tell(met, chapters) for met, chapters in STORIES.values()]


def test_the_function_uses_what_it_is_granted_and_nothing_else(told: list[Told]) -> None:
    """Every permission that any call needed is granted where it was needed, and every one granted was needed."""
    assert faults(told) == []


def changed(folder: Path, change: Callable[[list[dict[str, Any]]], None]) -> Path:
    """Return a copy of the rights' file after somebody changed the function's grants by hand."""
    document = yaml.safe_load(FILE.read_text(encoding="utf-8"))
    change(document["function"])
    copy = folder / FILE.name
    copy.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
    return copy


def without(grant: str, item: str) -> Callable[[list[dict[str, Any]]], None]:
    """Return the change that takes one action out of a grant, or the grant itself where it is a role."""

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
def test_a_right_that_is_taken_away_is_missed(told: list[Told], tmp_path: Path, grant: str, item: str) -> None:
    """Whichever right is removed by hand, the comparison names it, with the file it is missing in."""
    missed = faults(told, changed(tmp_path, without(grant, item)))
    assert missed
    permissions = {item} if not item.startswith("roles/") else ROLES[item]
    assert all(line.startswith("missing in rights.yaml: ") and line.split()[3] in permissions for line in missed)


@pytest.mark.parametrize(
    ("grant", "action"),
    [
        ("SeeProject", "serviceusage.services.list"),
        ("RecreateDestination", "bigquery.datasets.update"),
        ("ReadExports", "bigquery.tables.updateData"),
        ("KeepExportBucket", "storage.buckets.setIamPolicy"),
        ("WriteCopies", "storage.objects.update"),
        ("KeepState", "storage.buckets.get"),
        # Granted elsewhere for a narrower place.
        ("SeeDatasets", "bigquery.tables.getData"),
        ("RunJobs", "storage.objects.get"),
    ],
)
def test_a_right_that_is_added_is_superfluous(told: list[Told], tmp_path: Path, grant: str, action: str) -> None:
    """Whichever right is added by hand, the comparison names it, its grant and the file."""

    def add(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == grant)["actions"].append(action)

    assert f"superfluous in rights.yaml: {action} of grant {grant}" in faults(told, changed(tmp_path, add))


def test_a_grant_that_reaches_too_far_is_named(told: list[Told], tmp_path: Path) -> None:
    """A right on the whole project that is only ever used in the dataset is told to be too wide."""

    def widen(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == "ReadExports")["scope"] = "project"

    found = faults(told, changed(tmp_path, widen))
    assert "too wide in rights.yaml: bigquery.tables.getData of grant ReadExports is used in the dataset only" in found


def test_bucket_rights_end_at_their_bucket() -> None:
    """No right on a bucket holds on one whose name begins alike, on the other bucket, or on the project."""
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
            strangers = {f"{own}-copy", own[:-1], "other", *buckets.values()} - {own}
            for permission in grant.actions or ROLES[grant.role]:
                places = (
                    (f"buckets/{own}/objects/o", f"buckets/{own}") if "objects" in permission else (f"buckets/{own}",)
                )
                assert all(iam.allows(holder, permission, (one, f"buckets/{own}", project)) for one in places)
                for name in strangers:
                    for one in (
                        f"buckets/{name}",
                        f"buckets/{name}/objects/o",
                        f"buckets/{name}/objects/{own}/objects/o",
                    ):
                        assert not iam.allows(holder, permission, (one, f"buckets/{name}", project)), (grant.id, one)
                assert not iam.allows(holder, permission, (project,))
    assert seen == 4


def thrice(cloud: LocalGcp) -> RunResult:
    """Run as often as a refused right is waited out, an hour apart; return the last run."""
    for _ in range(2):
        run(cloud, EXPORTS=USAGE)
        cloud.advance(HOUR)
    return run(cloud, EXPORTS=USAGE)


def no_copies(cloud: LocalGcp) -> None:
    """Nothing is copied, and three runs later the right is named."""
    finished = thrice(cloud)
    assert not [name for name in cloud.copies() if name.endswith("manifest.json")]
    assert finished.report["status"] != "ok" or finished.report["manual"]


def no_memory(cloud: LocalGcp) -> None:
    """The run says that it could not use its memory."""
    run(cloud, EXPORTS=USAGE)
    cloud.advance(HOUR)
    finished = run(cloud, EXPORTS=USAGE)
    assert {one["code"] for one in finished.report["failures"]} & {"state-forbidden", "state-unsaved"}


def no_accounts(cloud: LocalGcp) -> None:
    """No account is seen, which is told as a missing right."""
    finished = run(cloud, EXPORTS=USAGE)
    assert {one["code"] for one in finished.report["failures"]} == {"no-billing-accounts"}


def no_tiers(cloud: LocalGcp) -> None:
    """The bucket's tiers stay lost."""
    document = cloud.world.buckets.find(cloud.deployment.bucket).document
    document.pop("lifecycle")
    run(cloud, EXPORTS=USAGE)
    assert "lifecycle" not in cloud.world.buckets.find(cloud.deployment.bucket).document


def no_dataset(cloud: LocalGcp) -> None:
    """The dataset stays lost."""
    run(cloud, EXPORTS=USAGE)
    cloud.delete_dataset()
    run(cloud, EXPORTS=USAGE, force=True)
    assert (cloud.project, cloud.deployment.dataset) not in cloud.world.catalog.datasets


def no_sight(cloud: LocalGcp) -> None:
    """Whether the APIs are on is told as unreadable."""
    finished = thrice(cloud)
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
        ("KeepState", "storage.objects.get", no_memory),
        ("KeepState", "storage.objects.list", no_memory),
        ("KeepState", "storage.objects.delete", no_memory),
        ("KeepExportBucket", "storage.buckets.update", no_tiers),
        ("RecreateDestination", "bigquery.datasets.create", no_dataset),
        ("SeeProject", "serviceusage.services.get", no_sight),
        ("ListBillingAccounts", "roles/billing.viewer", no_accounts),
    ],
)
def test_without_a_right_the_function_fails(
    tmp_path: Path, grant: str, item: str, broken: Callable[[LocalGcp], None]
) -> None:
    """A right that is taken away is really refused: what it was for does not happen, and no run hides it."""
    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", {"organization"}, changed(tmp_path, without(grant, item))))
        broken(cloud)


def test_a_dataset_that_is_lost_is_seen_by_a_right_on_the_project(tmp_path: Path) -> None:
    """Rights on a dataset go with it: seeing that it is gone needs the right on the project, as granted."""

    def narrow(given: list[dict[str, Any]]) -> None:
        next(one for one in given if one["id"] == "SeeDatasets")["scope"] = "dataset"

    with opened() as cloud:
        hold(cloud, cloud.deployment.grants("function", {"organization"}, changed(tmp_path, narrow)))
        no_dataset(cloud)
