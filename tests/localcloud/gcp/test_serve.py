"""The local GCP as a separate process, and its control actions."""

from __future__ import annotations

import signal

import pytest

from localcloud.gcp.cloud import LocalGcp
from tests.limits import HANG_S
from tests.localcloud.common.serving import serving
from tests.localcloud.control_client import ControlClient, ControlError


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_process_serves_until_a_signal_and_exits_cleanly(number: signal.Signals) -> None:
    """It prints the environment and `ready`, answers actions, and exits with 0 and an empty stderr."""
    with serving("gcp.cloud.LocalGcp(accounts=4, history_days=2)") as (process, variables):
        remote = ControlClient(variables["GOOGLE_API_ENDPOINT"])
        accounts = remote.accounts()
        assert len(accounts) == 4
        assert len(remote.watermarks(account=next(iter(accounts)))) == 2
        assert {"BIGQUERY_EMULATOR_HOST", "STORAGE_EMULATOR_HOST", "GOOGLE_CLOUD_PROJECT"} <= set(variables)
        process.send_signal(number)
        _, errors = process.communicate(timeout=HANG_S)
        assert (process.returncode, errors) == (0, "")


def test_deployed_state_has_one_account_without_an_export() -> None:
    """All other accounts export; dataset, buckets and permissions exist."""
    with LocalGcp(accounts=3) as cloud:
        exporting = {account for account, _ in cloud.world.exports.enabled}
        assert exporting == set(list(cloud.accounts())[:2])
        assert set(cloud.world.buckets.all) == {cloud.deployment.bucket, cloud.deployment.state_bucket}


def test_bare_cloud_has_only_a_project() -> None:
    """The project has permissions, but no dataset, bucket or account."""
    with LocalGcp(bare=True) as cloud:
        assert (cloud.accounts(), cloud.world.catalog.datasets, cloud.world.buckets.all) == ({}, {}, {})
        assert "EXPORT_BUCKET" not in cloud.environment()


def test_invalid_action_is_refused_with_the_reason() -> None:
    """This covers an unknown action, a missing argument and a missing account."""
    with LocalGcp(accounts=1) as cloud:
        remote = ControlClient(cloud.endpoint)
        with pytest.raises(ControlError, match="no action 'explode'"):
            remote.explode()
        with pytest.raises(ControlError, match="account"):
            remote.close_account()
        with pytest.raises(ControlError, match="KeyError"):
            remote.close_account(account="missing")
        with pytest.raises(ControlError, match="cannot be advanced"):
            remote.advance(seconds=1)


def test_two_clouds_in_one_process_are_independent() -> None:
    """A change in one cloud is not visible in the other."""
    with LocalGcp(accounts=1) as one, LocalGcp(accounts=2) as other:
        one.put_object(name="a", text="x")
        assert (len(one.accounts()), len(other.accounts())) == (1, 2)
        assert (one.copies(), other.copies()) == (["a"], [])
