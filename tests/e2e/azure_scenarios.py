"""Scenarios of the Azure function, authenticated by identity only, that use each of its permissions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from azure_function.clients import drop_clients
from azure_function.invocation import look_once
from localcloud.azure.cloud import LocalAzure
from localcloud.azure.iam.grants import RIGHTS
from localcloud.azure.iam.rights import BLOB_DATA_CONTRIBUTOR
from localcloud.azure.platform.deployment import NOTIFY_SECRET
from localcloud.azure.services.azurite import Azurite
from localcloud.azure.services.directory import made_up_id
from localcloud.azure.services.event_grid import PATH as TOPIC
from shared.model import Result, Verb
from shared.reconcile import RunResult
from tests.azure_function.support import DAY, HOUR, Lines, action, advance, local_azure, messages, outcome, run, verbs
from tests.e2e.azure_rights import Used, used
from tests.shared.notify.receiver import receiving

GROUP = "sandbox"  # contains every third subscription, but not the destination's
STATE, STATE_CONTAINER = "known_subscriptions.json", "tailpipe-state"
_IDENTITY = ("IDENTITY_ENDPOINT", "IDENTITY_HEADER")


class Tenant:
    """A tenant in which the function has exactly the permissions of a file, in storage as well."""

    def __init__(self, cloud: LocalAzure) -> None:
        self.cloud = cloud
        self.home = cloud.destinations[0].subscription
        self.ours = [one for one in cloud.subscription_ids if cloud.world.directory.subscriptions[one].group == GROUP]

    def run(self, *scopes: str, **settings: Any) -> RunResult:
        """Run the function once."""
        return run(self.cloud, scopes, **{**self.cloud.keyless(), **settings})

    def join(self, name: str, agreement: str = "ea") -> str:
        """Add a subscription to the group."""
        joined: str = self.cloud.join_subscription(name, agreement, GROUP)
        return joined

    def pass_time(self, seconds: float) -> None:
        """Let every export deliver, then advance the clock."""
        self.cloud.deliver()
        advance(self.cloud, seconds)

    def ok(self, *scopes: str, **settings: Any) -> RunResult:
        """Run once and require the status ok."""
        finished = self.run(*scopes, **settings)
        assert finished.report["status"] == "ok", (finished.report["failures"], finished.report["manual"])
        return finished

    def put(self, account: str, container: str, data: bytes) -> None:
        """Write the state's blob as another process would."""
        with self.cloud.blob_client(account) as client:
            client.get_blob_client(container, STATE).upload_blob(data, overwrite=True)

    def blobs(self) -> list[str]:
        """Return the names of the blobs in the state container."""
        with self.cloud.blob_client(self.cloud.host_account.name) as client:
            return list(client.get_container_client(STATE_CONTAINER).list_blob_names())

    def used(self) -> Used:
        """Return the permissions that the function has used so far."""
        return used(self.cloud, self.cloud.principal)


@contextmanager
def tenant(azurite: Azurite, rights: Path = RIGHTS, **options: Any) -> Iterator[Tenant]:
    """Create a tenant with nine subscriptions, three of them in scope, and the platform's identity endpoint."""
    before = {name: os.environ.get(name) for name in _IDENTITY}
    with local_azure(azurite=azurite, subscriptions=9, group=GROUP, rights=rights, **options) as cloud:
        os.environ.update({name: cloud.environment()[name] for name in _IDENTITY})
        try:
            yield Tenant(cloud)
        finally:
            drop_clients()
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def onboard(own: Tenant) -> None:
    """Onboard subscriptions that the old scripts served or listed, then run without changes."""
    old, listed, _ = own.ours
    own.cloud.create_exports([old])
    own.put(own.cloud.destinations[0].name, "dataexport", json.dumps([old, listed]).encode())
    dry = own.run(dry_run=True)
    assert len(own.cloud.exports()) == 1, "a dry run writes nothing"
    assert dry.report["dry_run"]
    own.ok()
    assert all(len(own.cloud.exports(one)) == 1 for one in own.ours)
    own.pass_time(HOUR)
    assert set(verbs(own.ok())) == {"KEEP"}


def repair(own: Tenant) -> None:
    """Restore deleted and changed exports one by one, as the guard requires, and run failed ones again."""
    first, second, third = own.ours
    cloud = own.cloud
    cloud.delete_export(first)
    own.ok(first)
    cloud.set_schedule_inactive(second)
    own.ok(second, force=True)
    assert cloud.exports(second)[0]["properties"]["schedule"]["status"] == "Active"
    cloud.fail_runs(third, times=3)
    for _ in range(3):
        cloud.deliver([third])
        advance(cloud, DAY)
    assert action(own.run(third), third).reason == "runs-failed"
    assert cloud.exports(third)[0]["properties"]["runHistory"]["value"][0]["properties"]["executionType"] == "OnDemand"
    own.pass_time(HOUR)
    own.run(BACKFILL_MONTHS="2")
    advance(cloud, DAY)
    done = own.run(BACKFILL_MONTHS="2")
    assert outcome(done, third, "backfill").action.verb is Verb.KEEP, done.report


def handle_events(own: Tenant) -> None:
    """Re-create a deleted export from the activity log, between two runs."""
    first, cloud = own.ours[0], own.cloud
    log = {"ACTIVITY_LOG_WORKSPACE": cloud.send_activity_log()}
    cloud.delete_export(first)
    advance(cloud, 60)
    done = look_once({**cloud.environment(), **cloud.keyless(), **log}, Lines(), cloud.clock, seed=1)
    assert done is not None, "the activity log was not read"
    assert len(cloud.exports(first)) == 1


def announce_deliveries(own: Tenant) -> None:
    """Store and publish the deliveries of all exports."""
    own.pass_time(HOUR)
    own.ok(DELTAS="1", DELIVERY_TOPIC=f"{own.cloud.endpoint}{TOPIC}")
    assert {one.event["data"]["scope"] for one in own.cloud.world.published} >= set(own.ours)


def lose_destination(own: Tenant) -> None:
    """Restore the container; report lifecycle rules that lose data, disabled keys and a missing account."""
    cloud = own.cloud
    cloud.delete_container()
    assert outcome(own.run(), own.home, "container").result is Result.DONE
    assert outcome(own.run(), own.home, "registration").action.verb is Verb.KEEP
    own.pass_time(HOUR)
    own.ok()
    cloud.set_shared_key(False)
    assert "EXPORT_IDENTITY=system" in messages(own.run())
    cloud.set_shared_key(True)
    cloud.hold_container("legal-hold")
    assert "a legal hold" in messages(own.run())
    cloud.hold_container("")
    cloud.expire_blobs(7)
    assert "deletes blobs after 7 days" in messages(own.run())
    cloud.expire_blobs(None)
    accounts, account = dict(cloud.world.accounts), cloud.destinations[0]
    del cloud.world.accounts[account.name]
    try:
        assert f"{account.name} of DESTINATION does not exist" in messages(own.run(DESTINATION=account.id))
    finally:
        cloud.world.accounts.clear()
        cloud.world.accounts.update(accounts)


def notify(own: Tenant) -> None:
    """Send the weekly digest to the webhook whose URL is in the key vault."""
    with receiving() as receiver:
        own.cloud.world.secrets[NOTIFY_SECRET] = receiver.url
        vault = own.cloud.world.vault.rpartition("/")[2]
        own.run(NOTIFY_URL=f"https://{vault}.vault.azure.net/secrets/{NOTIFY_SECRET}", NOTIFY_DIGEST="weekly")
        assert receiver.got, "the secret was not read"


def add_subscriptions(own: Tenant) -> None:
    """Add subscriptions that need a provider registration, refuse applications, or grant access an hour later."""
    cloud = own.cloud
    asks, payg, closed = own.join("asks"), own.join("payg", "payg"), own.join("closed")
    cloud.demand_registration(asks)
    cloud.revoke_rights(closed)
    own.run()
    own.run(closed)
    advance(cloud, HOUR + 60)
    assert "does not allow applications" in messages(own.run())
    cloud.grant_rights(closed)
    advance(cloud, HOUR + 60)
    own.run()
    assert cloud.exports(asks)
    assert cloud.exports(closed)
    cloud.remove_subscription(payg)


def lose_state(own: Tenant) -> None:
    """Recover from a state that is corrupt, deleted with its container, or written concurrently."""
    cloud, host = own.cloud, own.cloud.host_account.name
    own.put(host, STATE_CONTAINER, b"garbage")
    own.run()
    assert any("corrupt" in name for name in own.blobs())
    cloud.delete_container(host, STATE_CONTAINER)
    own.run()
    assert STATE in own.blobs()
    assert any(name.startswith("runs/") for name in own.blobs())
    conflict = cloud.faults.add("*/blobs/write", "ConditionNotMet", status=412, times=1, resource=f"*{STATE}")
    own.pass_time(HOUR)
    own.ok()
    assert conflict.left == 0


def export_enrollment_account(own: Tenant) -> None:
    """Export an enrollment account as a whole, with a billing role and no further Resource Manager permission."""
    own.cloud.add_billing_account("1234567", children={"7654321": [own.ours[0]]})
    own.cloud.grant_billing()
    own.pass_time(HOUR)
    own.run(BILLING_SCOPES="auto")
    assert [one["name"] for one in own.cloud.exports() if "/billingAccounts/" in one["id"]] == ["TailpipeAllSubs"]


def with_identities(own: Tenant) -> None:
    """Give identity-based exports their role on the container, and remove the role they had elsewhere."""
    own.ok()
    assert all(len(own.cloud.exports(one)) == 1 for one in own.ours)
    first, second, _ = own.ours
    rights = own.cloud.world.rights
    own.pass_time(HOUR)
    own.cloud.change_destination(first, container="elsewhere")
    who = own.cloud.exports(first)[0]["identity"]["principalId"]
    account = own.cloud.destinations[0].id
    place = f"{account}/blobServices/default/containers/elsewhere"
    rights.assign(place, who, BLOB_DATA_CONTRIBUTOR, made_up_id("left behind"))
    own.ok(first, force=True)
    assert [one.scope.rsplit("/", 1)[1] for one in rights.of(who)] == ["dataexport"]
    own.cloud.delete_export(second)
    own.ok(second)


def with_keys(own: Tenant) -> None:
    """Run the whole scenario of a deployment whose exports write with account keys."""
    for step in (
        onboard,
        notify,
        repair,
        handle_events,
        announce_deliveries,
        lose_destination,
        add_subscriptions,
        lose_state,
        export_enrollment_account,
    ):
        step(own)
