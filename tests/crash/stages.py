"""The stages of the three clouds by name."""

from __future__ import annotations

from collections.abc import Mapping

from tests.crash.aws import AwsStage
from tests.crash.azure import AzureStage
from tests.crash.gcp import GcpStage
from tests.crash.stage import Stage

STAGES: Mapping[str, type[Stage]] = {one.name: one for one in (AwsStage, AzureStage, GcpStage)}


def open_stage(cloud: str) -> Stage:
    """Return the stage of a cloud, which the caller opens."""
    return STAGES[cloud]()
