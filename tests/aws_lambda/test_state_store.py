"""The state store: compare-and-swap on S3, and errors where the state cannot be used."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator

import pytest

from aws_lambda.clients import RATES, warm_clients
from aws_lambda.errors import translate
from aws_lambda.settings import read_settings
from aws_lambda.state_store import KEY, S3Store
from localcloud.aws.cloud import LocalAws
from shared.errors import Denied, NotFound
from shared.runtime.context import RunContext
from shared.state.store import Blob, Conflict
from tests.aws_lambda.support import Lines, local_aws, messages, run


def store_of(cloud: LocalAws, **settings: str) -> S3Store:
    """Return the store of a run in the local cloud."""
    environment = {**cloud.environment(), **settings}
    read = read_settings(environment)
    one = RunContext("aws", read.engine, Lines(), cloud.clock, 900, RATES, translate, seed=1)
    return S3Store(read, cloud.account, warm_clients(read, environment), one)


@pytest.fixture(scope="module")
def shared_aws() -> Iterator[LocalAws]:
    """Return one standalone account for all tests here."""
    with local_aws(accounts=1, kind="standalone") as cloud:
        yield cloud


@pytest.fixture
def cloud(shared_aws: LocalAws) -> LocalAws:
    """Return the account without state in its bucket and without faults."""
    shared_aws.clear_faults()
    shared_aws.client("s3").delete_object(Bucket=shared_aws.deployment.bucket, Key=KEY)
    return shared_aws


def test_missing_blob_is_empty(cloud: LocalAws) -> None:
    """Missing is neither corrupt nor denied."""
    assert store_of(cloud).load(1000) == Blob()


def test_saved_blob_is_loaded_with_its_version(cloud: LocalAws) -> None:
    """The next save needs the version."""
    store = store_of(cloud)
    version = store.save(b"one", None)
    assert store.load(1000) == Blob(b"one", version, 3)
    assert store.save(b"two", version) != version


def test_second_initial_save_is_a_conflict(cloud: LocalAws) -> None:
    """If-None-Match: two cold starts do not overwrite each other."""
    store_of(cloud).save(b"one", None)
    with pytest.raises(Conflict):
        store_of(cloud).save(b"two", None)
    assert store_of(cloud).load(1000).data == b"one"


def test_save_with_an_old_version_is_a_conflict(cloud: LocalAws) -> None:
    """If-Match: another run's write is not lost."""
    store = store_of(cloud)
    version = store.save(b"one", None)
    store.save(b"two", version)
    with pytest.raises(Conflict):
        store.save(b"three", version)


@pytest.mark.parametrize(("code", "status"), [("ConditionalRequestConflict", 409), ("PreconditionFailed", 412)])
def test_both_conflict_codes_of_s3_are_conflicts(cloud: LocalAws, code: str, status: int) -> None:
    """S3 answers 412 for an old version and 409 for a concurrent write."""
    cloud.faults.add("s3", "PutObject", code, status=status)
    with pytest.raises(Conflict):
        store_of(cloud).save(b"one", None)


def test_blob_deleted_before_the_save_is_a_conflict(cloud: LocalAws) -> None:
    """If-Match on a missing object: S3 answers NoSuchKey, and the run merges with an empty state."""
    store = store_of(cloud)
    version = store.save(b"one", None)
    cloud.client("s3").delete_object(Bucket=cloud.deployment.bucket, Key=KEY)
    with pytest.raises(Conflict):
        store.save(b"two", version)


def test_blob_beyond_the_limit_is_not_read(cloud: LocalAws) -> None:
    """Its size is returned, and its data is not loaded into memory."""
    store = store_of(cloud)
    version = store.save(b"x" * 2000, None)
    assert store.load(1000) == Blob(b"", version, 2000)


def test_inaccessible_blob_is_denied_with_a_remedy(cloud: LocalAws) -> None:
    """Denied is not missing: the run must not start with an empty state."""
    cloud.deny("s3:GetObject")
    with pytest.raises(Denied) as caught:
        store_of(cloud).load(1000)
    assert "BUCKET_NAME" in caught.value.remedy


def test_missing_bucket_has_no_blob_and_accepts_none(cloud: LocalAws) -> None:
    """The run continues, creates the bucket, and saves then."""
    store = store_of(cloud, BUCKET_NAME="tailpipe-not-there")
    assert store.load(1000) == Blob()
    with pytest.raises(NotFound):
        store.save(b"one", None)


def test_corrupt_blob_is_set_aside(cloud: LocalAws) -> None:
    """The copy has another name under the same prefix, which the connector cannot read."""
    store = store_of(cloud)
    store.save(b"\xff\xfe", None)
    spare = store.set_aside(store.load(1000))
    assert re.fullmatch(r"state/known_accounts\.corrupt-[0-9a-f]{16}\.json", spare)
    answer = cloud.client("s3").get_object(Bucket=cloud.deployment.bucket, Key=spare)
    assert answer["Body"].read() == b"\xff\xfe"


def test_reports_are_stored_beside_the_state(cloud: LocalAws) -> None:
    """They are under runs/, where the lifecycle rule expires them."""
    where = store_of(cloud).put_report("r1", b"{}")
    assert where == f"s3://{cloud.deployment.bucket}/runs/r1.json"


HOSTILE = {
    "invalid UTF-8": b"\xff\xfe\x00",
    "deep": b"[" * 200_000,
    "wrong types": b'{"version": 2, "cloud": "aws", "runs": 7, "scopes": []}',
    "no JSON": b"known accounts: all",
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_state_is_set_aside_and_rebuilt(cloud: LocalAws, case: str) -> None:
    """The function still covers the account, and the invalid state is kept for analysis."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    s3.put_object(Bucket=bucket, Key=KEY, Body=HOSTILE[case])
    finished = run(cloud)
    assert finished.report["status"] == "ok", messages(finished)
    listed = s3.list_objects_v2(Bucket=bucket, Prefix="state/known_accounts.corrupt-")["Contents"]
    assert any(s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() == HOSTILE[case] for one in listed)


def test_inaccessible_state_fails_the_run_before_any_write(cloud: LocalAws) -> None:
    """Without its state the function creates nothing."""
    cloud.deny("s3:GetObject")
    cloud.calls.clear()
    finished = run(cloud)
    assert finished.report["status"] == "failed"
    assert all(call.operation.startswith(("Get", "List", "Describe")) for call in cloud.calls.select())


def test_conflicting_save_is_merged(cloud: LocalAws) -> None:
    """A concurrent write of another run costs one more try, and both are kept."""
    cloud.conflict_conditional_writes(times=1)
    assert run(cloud).report["status"] == "ok"


def test_tampered_facts_are_not_trusted(cloud: LocalAws) -> None:
    """Facts of the right type with wrong values cost a listing; they never crash a run or reach another export."""
    s3, bucket = cloud.client("s3"), cloud.deployment.bucket
    run(cloud)
    state = json.loads(s3.get_object(Bucket=bucket, Key=KEY)["Body"].read())
    facts = state["scopes"][cloud.account]["targets"]["export/tailpipe-dataexport"]["facts"]
    facts |= {"arn": "../../x", "marked": 7, "columns": "all", "columns_at": "yesterday", "permission_repaired_at": []}
    s3.put_object(Bucket=bucket, Key=KEY, Body=json.dumps(state).encode())
    finished = run(cloud)
    assert finished.report["status"] == "ok", messages(finished)
    assert finished.report["outcomes"].keys() == {"KEEP"}


@pytest.mark.parametrize(
    "use",
    [
        lambda store: store.save(b"other", None),
        lambda store: store.put("status.html", b"page", "text/html"),
        lambda store: store.put_report("20260105T000000Z-00000001", b"{}"),
        lambda store: store.load(1000),
        lambda store: store.age(),
        lambda store: store.set_aside(Blob(b"broken", "1", 6)),
        lambda store: store.set_aside(Blob(b"", "1", 2000)),
    ],
    ids=["save", "put", "put_report", "load", "age", "set_aside", "set_aside_unread"],
)
def test_bucket_of_another_account_is_neither_read_nor_written(
    cloud: LocalAws, use: Callable[[S3Store], object]
) -> None:
    """Names of buckets can be guessed: each call says whose bucket it expects, and S3 refuses any other."""
    store_of(cloud).save(b"one", None)
    environment = cloud.environment()
    read = read_settings(environment)
    one = RunContext("aws", read.engine, Lines(), cloud.clock, 900, RATES, translate, seed=1)
    other = S3Store(read, "999999999999", warm_clients(read, environment), one)
    other._bucket = store_of(cloud)._bucket
    with pytest.raises(Denied):
        use(other)
    assert store_of(cloud).load(1000).data == b"one"
