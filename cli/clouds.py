"""The clouds that the tool knows: one entry each, and nothing else in the tool asks for a cloud's name.

An entry imports its function and its local cloud only when they are used, which keeps
`tailpipe-exports --help` quick.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import click

    from cli.operate.port import Operator
    from cli.stage import Story
    from shared.clock import Clock
    from shared.log import Sink
    from shared.reconcile import Finished
    from shared.request import RunRequest


class RunOnce(Protocol):
    """One reconciliation. Raises SettingsError or RequestError before any call, and AnotherRun."""

    def __call__(
        self, request: RunRequest, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float
    ) -> Finished: ...


@dataclass(frozen=True)
class Cloud:
    """One cloud.

    `scope` and `scopes` are what its users call them, one and many. `run_once` returns the function's own entry,
    `local` the options and the body of `tailpipe-exports local <name>`, `story` what `tailpipe-exports demo` plays,
    `operator` what the commands on a real deployment need. `environment`
    fills in from the operator's own configuration what the function's platform would have set; `demo_scopes` is how
    many scopes the demonstration has unless told otherwise.
    """

    name: str
    title: str
    scope: str
    scopes: str
    run_once: Callable[[], RunOnce]
    local: Callable[[], click.Command]
    story: Callable[[], Story]
    operator: Callable[[], Operator]
    environment: Callable[[Mapping[str, str]], Mapping[str, str]] = dict
    demo_scopes: int = 40


def _aws_run_once() -> RunOnce:
    from aws_lambda.handler import run_once

    return run_once


def _aws_local() -> click.Command:
    from cli.local_aws import command

    return command


def _aws_operator() -> Operator:
    from cli.operate.aws import AwsOperator

    return AwsOperator()


def _aws_story() -> Story:
    from cli.demo_aws import AwsStory

    return AwsStory()


def _aws_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings with the region that the operator's profile names, where the environment names none.

    Raises SettingsError for a profile that does not exist.
    """
    region = environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION")
    profile = environment.get("AWS_PROFILE")
    if profile or not region:
        import botocore.session
        from botocore.exceptions import ProfileNotFound

        from shared.errors import SettingsError

        try:
            configured = botocore.session.Session(profile=profile).get_scoped_config().get("region")
        except ProfileNotFound as error:
            raise SettingsError([f"AWS_PROFILE: {error}"]) from error
        region = region or configured
    return {**environment, "AWS_REGION": region} if region else environment


def _azure_run_once() -> RunOnce:
    from azure_function.handler import run_once

    return run_once


def _azure_local() -> click.Command:
    from cli.local_azure import command

    return command


def _azure_operator() -> Operator:
    from cli.operate.azure import AzureOperator

    return AzureOperator()


def _azure_story() -> Story:
    from cli.demo_azure import AzureStory

    return AzureStory()


def _gcp_run_once() -> RunOnce:
    from gcp_function.handler import run_once

    return run_once


def _gcp_local() -> click.Command:
    from cli.local_gcp import command

    return command


def _gcp_operator() -> Operator:
    from cli.operate.gcp import GcpOperator

    return GcpOperator()


def _gcp_story() -> Story:
    from cli.demo_gcp import GcpStory

    return GcpStory()


def _gcp_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings with the project that gcloud's configuration names, where the environment names none."""
    project = environment.get("GOOGLE_CLOUD_PROJECT") or environment.get("CLOUDSDK_CORE_PROJECT")
    if not project:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        try:
            _, project = google.auth.default()
        except DefaultCredentialsError:
            # The settings' own fault names the variable that is missing.
            return environment
    return {**environment, "GOOGLE_CLOUD_PROJECT": project} if project else environment


CLOUDS: dict[str, Cloud] = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            name="aws",
            title="AWS",
            scope="account",
            scopes="accounts",
            run_once=_aws_run_once,
            local=_aws_local,
            story=_aws_story,
            operator=_aws_operator,
            environment=_aws_environment,
        ),
        Cloud(
            name="azure",
            title="Azure",
            scope="subscription",
            scopes="subscriptions",
            run_once=_azure_run_once,
            local=_azure_local,
            story=_azure_story,
            operator=_azure_operator,
        ),
        Cloud(
            name="gcp",
            title="GCP",
            scope="billing account",
            scopes="billing accounts",
            run_once=_gcp_run_once,
            local=_gcp_local,
            story=_gcp_story,
            operator=_gcp_operator,
            environment=_gcp_environment,
            demo_scopes=5,
        ),
    )
}


def known() -> str:
    """Return the names for a message."""
    return ", ".join(CLOUDS)


def many_in_demos() -> str:
    """Return how many scopes each demonstration has, for a help text."""
    return ", ".join(f"{cloud.demo_scopes} {cloud.scopes} on {cloud.title}" for cloud in CLOUDS.values())


def operator_environment(cloud: Cloud) -> Mapping[str, str]:
    """Return this process's environment as the cloud's settings."""
    return cloud.environment(dict(os.environ))
