"""Events on Google Cloud: what audit logs say, and the run that looks at what waits."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from gcp_function.events import LARGEST_EVENT, METHODS, hint_of
from gcp_function.handler import NO_CALLS
from gcp_function.settings import read_settings
from localcloud.gcp.cloud import LocalGcp
from shared.hints import EventRefused, Hint
from shared.reconcile import RunResult
from shared.request import RunRequest
from tests.gcp_function.events import EventFunction
from tests.gcp_function.support import accounts, local_gcp, run, settings_of
from tests.limits import examples

ACCOUNT = "012345-6789AB-CDEF01"
AT = "2026-11-23T09:00:00Z"
OTHER = "event-of-another-resource"
PREFIX = "google.cloud.bigquery.v2."
COPIES = {"COPY": "off"}
HALF_AN_HOUR = timedelta(minutes=30)
SETTINGS = read_settings({"GOOGLE_CLOUD_PROJECT": "tailpipe-dataexport"})


@pytest.fixture
def cloud() -> Iterator[LocalGcp]:
    """Return a local cloud with two accounts, covered by a first run."""
    with local_gcp(accounts=2, done=2) as opened:
        assert run(opened, environment=COPIES).report["status"] == "ok"
        opened.world.pubsub.subscriptions[opened.deployment.subscription].messages.clear()
        opened.world.pubsub.subscriptions[f"{opened.deployment.subscription}-push"].messages.clear()
        opened.advance(600)
        yield opened


def entry(method: str, resource: str, **fields: Any) -> bytes:
    """Return an audit log's entry."""
    payload = {"methodName": method, "resourceName": resource, "serviceName": "any", **fields}
    return json.dumps({"protoPayload": payload, "timestamp": AT}).encode()


def waiting(cloud: LocalGcp) -> int:
    """Return how many messages wait to be pulled."""
    return len(cloud.world.pubsub.subscriptions[cloud.deployment.subscription].messages)


@pytest.mark.parametrize(
    ("method", "resource", "scope", "kind"),
    [
        (f"{PREFIX}DatasetService.DeleteDataset", "projects/{p}/datasets/{d}", "", ""),
        (f"{PREFIX}DatasetService.PatchDataset", "projects/{p}/datasets/{d}", "{p}", ""),
        (
            f"{PREFIX}TableService.DeleteTable",
            "projects/{p}/datasets/{d}/tables/gcp_billing_export_v1_012345_6789AB_CDEF01",
            ACCOUNT,
            "export",
        ),
        (
            f"{PREFIX}TableService.DeleteTable",
            "projects/{p}/datasets/{d}/tables/gcp_billing_export_resource_v1_012345_6789AB_CDEF01",
            ACCOUNT,
            "export",
        ),
        (f"{PREFIX}TableService.DeleteTable", "projects/{p}/datasets/{d}/tables/cloud_pricing_export", "", "export"),
        ("storage.buckets.delete", "projects/_/buckets/{b}", "", ""),
        ("storage.buckets.update", "projects/_/buckets/{s}", "{p}", ""),
        ("storage.objects.delete", f"projects/_/buckets/{{b}}/objects/{ACCOUNT}/2026-11-01/x", ACCOUNT, "copy"),
        ("CreateBillingAccount", f"billingAccounts/{ACCOUNT}", ACCOUNT, ""),
        ("SetIamPolicy", f"billingAccounts/{ACCOUNT}", ACCOUNT, ""),
        ("DisableResourceBilling", "projects/{p}", "{p}", "billing"),
        ("DeleteProject", "projects/{p}", "{p}", ""),
        ("google.api.serviceusage.v1.ServiceUsage.DisableService", "projects/{p}/services/x", "{p}", ""),
    ],
)
def test_an_entry_names_a_scope_and_perhaps_a_kind(
    cloud: LocalGcp, method: str, resource: str, scope: str, kind: str
) -> None:
    """Each method that the sink lets through is understood."""
    settings = settings_of(cloud)
    names = {"p": settings.project, "d": settings.dataset, "b": settings.bucket, "s": settings.state_bucket}
    found = hint_of(entry(method, resource.format(**names)), settings)
    assert found == Hint(scope.format(**names), kind, datetime.fromisoformat(AT))


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "event-malformed", id="nothing"),
        pytest.param(b"\xff\x00", "event-malformed", id="bytes"),
        pytest.param(b"[" * 100_000, "event-malformed", id="deep"),
        pytest.param(b"[]", "event-malformed", id="a list"),
        pytest.param(b'{"protoPayload": []}', "event-malformed", id="a payload of another type"),
        pytest.param(entry("x", "y")[:-9], "event-malformed", id="cut off"),
        pytest.param(b'{"x":"' + b"a" * LARGEST_EVENT + b'"}', "event-too-large", id="huge"),
        pytest.param(entry("storage.objects.get", "projects/_/buckets/b"), "event-unknown", id="a read"),
        pytest.param(
            entry("storage.buckets.delete", "projects/_/buckets/other"),
            OTHER,
            id="another bucket",
        ),
        pytest.param(
            entry(f"{PREFIX}DatasetService.DeleteDataset", "projects/other/datasets/billing_export"),
            OTHER,
            id="a dataset of another project",
        ),
        pytest.param(entry("CreateBillingAccount", "billingAccounts/../x"), OTHER, id="no billing account"),
        pytest.param(entry("DeleteProject", "projects/other"), OTHER, id="another project"),
    ],
)
def test_any_other_entry_is_refused_by_name(cloud: LocalGcp, data: bytes, code: str) -> None:
    """Forged, foreign and malformed entries have a code each."""
    with pytest.raises(EventRefused) as caught:
        hint_of(data, settings_of(cloud))
    assert caught.value.code == code


def test_a_refused_operation_changed_nothing(cloud: LocalGcp) -> None:
    """Somebody without the right tried to delete the bucket: there is nothing to look at."""
    bucket = f"projects/_/buckets/{cloud.deployment.bucket}"
    assert hint_of(entry("storage.buckets.delete", bucket, status={"code": 7}), settings_of(cloud)) is None


NAMES = ["protoPayload", "methodName", "resourceName", "status", "code", "timestamp"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20) | st.sampled_from([*METHODS, "billingAccounts/x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["protoPayload", "methodName", "resourceName", "status", "code", "timestamp"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@hypothesis.given(JSON | st.fixed_dictionaries({"protoPayload": JSON, "timestamp": JSON}))
@hypothesis.settings(max_examples=examples(300))
def test_no_document_raises_anything_but_a_refusal(document: Any) -> None:
    """What a topic's other publishers send never ends the function."""
    with contextlib.suppress(EventRefused):
        hint_of(json.dumps(document).encode(), SETTINGS)


def test_a_deleted_dataset_is_back_before_the_next_schedule(cloud: LocalGcp) -> None:
    """The audit log entry starts one run, which recreates the dataset, and the message is acknowledged."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    assert waiting(cloud) == 1
    assert function.deliver() == [200]
    (report,) = function.reports
    assert report["trigger"] == "event"
    assert report["events"]["count"] == 1
    created = [one["kind"] for one in report["actions"] if one["verb"] == "CREATE"]
    assert created == ["dataset"]
    assert waiting(cloud) == 0
    assert function.deliver() == []


def test_our_own_writes_do_not_ring(cloud: LocalGcp) -> None:
    """The dataset that the function makes again is in the audit log, and the sink leaves it out."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    before = cloud.world.pubsub.published
    function.deliver()
    own = [one for one in cloud.world.audit.entries if _principal(one) == cloud.deployment.identity]
    assert own
    assert cloud.world.pubsub.published == before


def test_a_new_billing_account_is_looked_at_alone(cloud: LocalGcp) -> None:
    """Its manual step is reported at once; the other accounts are not asked for."""
    function = EventFunction(cloud, COPY="off")
    added = cloud.add_account("new")
    assert function.deliver() == [200]
    (report,) = function.reports
    assert {one["scope"] for one in report["manual"]} == {added}
    assert report["scopes"]["active"] == 1


def test_a_storm_is_one_run_and_nothing_is_lost(cloud: LocalGcp) -> None:
    """The first notification starts a run for all events; the later ones need no run and hardly a call."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    for number in range(1500):
        cloud.world.audit.write(_table_of(accounts(cloud)[number % 2], cloud))
    assert waiting(cloud) == 1501
    statuses = function.deliver()
    assert (statuses.count(200), statuses.count(429)) == (1, 1500)
    assert function.reports[0]["events"]["count"] == 1501
    cloud.advance(90)
    assert set(function.deliver()) == {200}
    assert len(function.reports) == 1
    assert waiting(cloud) == 0
    pulls = [call for call in cloud.calls.select() if call.method.endswith("subscriptions.pull")]
    assert len(pulls) == 4


def test_what_comes_within_a_minute_waits_and_is_pushed_again(cloud: LocalGcp) -> None:
    """A later event is answered 429 without a call; Pub/Sub pushes it again, and the next run takes it."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    assert function.deliver() == [200]
    cloud.advance(40)
    cloud.delete_dataset()
    before = len(cloud.calls.select())
    assert function.deliver() == [429]
    assert len(cloud.calls.select()) == before
    assert waiting(cloud) == 1
    statuses = []
    for _ in range(4):
        cloud.advance(30)
        statuses += function.deliver()
    assert statuses[-1] == 200
    assert len(function.reports) == 2
    assert "CREATE" not in run(cloud, environment=COPIES).report["outcomes"]


def test_a_cold_instance_learns_the_gap_from_the_state(cloud: LocalGcp) -> None:
    """Without memory, the state says when the last run for events began, and the messages are put back."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    function.deliver()
    cloud.advance(20)
    cloud.delete_dataset()
    cold = EventFunction(cloud, COPY="off")
    assert cold.deliver() == [429]
    assert waiting(cloud) == 1
    assert cold.reports == []
    cloud.advance(60)
    assert cold.deliver() == [200]


@pytest.mark.parametrize("answered", ["fail", "lost"])
def test_messages_stay_where_the_run_could_not_look(cloud: LocalGcp, answered: str) -> None:
    """A run that failed puts its messages back; they are pushed and pulled again once the cloud answers."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    if answered == "fail":
        cloud.fail("storage.objects.get", 503, "backendError", None)
    else:
        cloud.fail("pubsub.projects.subscriptions.pull", 503, "backendError", None)
    assert function.deliver() == [500]
    assert waiting(cloud) == 1
    cloud.faults.clear()
    cloud.advance(900)
    function = EventFunction(cloud, COPY="off")
    assert function.deliver() == [200]
    assert waiting(cloud) == 0


def test_forged_and_foreign_messages_are_given_up(cloud: LocalGcp) -> None:
    """They are logged by code, start no run, and are acknowledged."""
    function = EventFunction(cloud, COPY="off")
    for text in ("no JSON", entry("storage.buckets.delete", "projects/_/buckets/other").decode(), "[1]"):
        cloud.emit_event(text)
    assert function.deliver() == [200, 429, 429]
    cloud.advance(90)
    assert function.deliver() == [200, 200]
    assert sorted(set(function.codes("event-refused"))) == ["event-malformed", OTHER]
    assert (function.reports, waiting(cloud)) == ([], 0)


def test_the_report_counts_the_calls_to_pubsub(cloud: LocalGcp) -> None:
    """Two pulls, of which the second finds nothing, and the acknowledgment that follows the report."""
    function = EventFunction(cloud, COPY="off")
    cloud.delete_dataset()
    cloud.clear_calls()
    assert function.deliver() == [200]
    made = [call.method.rpartition(".")[2] for call in cloud.calls.select("pubsub.")]
    assert made == ["pull", "pull", "acknowledge"]
    assert function.reports[0]["calls"]["pubsub"] == len(made)


def test_messages_are_acknowledged_after_a_run_of_half_an_hour(cloud: LocalGcp) -> None:
    """The run may take all the time of the invocation: its events are not pushed and pulled again for that."""

    class Slow(EventFunction):
        def run(self, request: RunRequest, calls: Mapping[str, int] = NO_CALLS) -> RunResult:
            finished = super().run(request, calls)
            self.cloud.advance(HALF_AN_HOUR.total_seconds())
            return finished

    function = Slow(cloud, COPY="off")
    cloud.world.pubsub.subscriptions[cloud.deployment.subscription].ack_deadline = 2 * HALF_AN_HOUR
    cloud.delete_dataset()
    assert function.deliver() == [200]
    assert (len(function.reports), waiting(cloud)) == (1, 0)


def test_duplicates_and_any_order_make_the_same_run(cloud: LocalGcp) -> None:
    """A message that comes twice counts once; a later event that arrives first is as good."""
    function = EventFunction(cloud, COPY="off")
    cloud.event_faults(copies=2, delay_s=1)
    cloud.delete_table(accounts(cloud)[0])
    cloud.event_faults(copies=2)
    cloud.delete_dataset()
    cloud.advance(1)
    assert function.deliver().count(200) == 1
    assert function.reports[0]["events"]["count"] == 2
    cloud.advance(90)
    assert set(function.deliver()) == {200}
    assert len(function.reports) == 1
    assert waiting(cloud) == 0


def test_a_lost_event_costs_latency_and_nothing_else(cloud: LocalGcp) -> None:
    """The next scheduled run heals what no event named."""
    function = EventFunction(cloud, COPY="off")
    cloud.event_faults(loss=1)
    cloud.delete_dataset()
    assert function.deliver() == []
    assert run(cloud, environment=COPIES).report["outcomes"]["CREATE"] == {"done": 1}


def test_without_a_subscription_a_push_is_refused(cloud: LocalGcp) -> None:
    """A deployment without events does not pull, and says why."""
    function = EventFunction(cloud, COPY="off")
    function.environment["EVENTS_SUBSCRIPTION"] = ""
    cloud.delete_dataset()
    assert function.deliver() == [200]
    assert function.codes("event-refused") == ["event-unexpected"]


def _principal(one: Mapping[str, Any]) -> str:
    return str(one["protoPayload"]["authenticationInfo"]["principalEmail"])


def _table_of(account: str, cloud: LocalGcp) -> Any:
    from localcloud.gcp.platform.audit_log import table_deleted

    table = f"gcp_billing_export_v1_{account.replace('-', '_')}"
    return table_deleted(cloud.project, cloud.deployment.dataset, table)
