"""The registry of clouds: one entry each. No other module of the tool depends on a cloud's name.

An entry imports its function and its local cloud only when they are used, which keeps `tailpipe-exports --help` fast.
The module is over 350 lines because all entries are in one file, where they can be compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import click

    from cli.demo.fleet import Ground
    from cli.demo.runner import Scenario
    from cli.deployment.engine import Variable
    from cli.deployment.operator import Operator, Tell
    from cli.deployment.tenants import TenantPort
    from shared.deliveries.chain import StoredDeliveries
    from shared.monitor.months import Reach
    from shared.reconcile import RunResult
    from shared.request import RunRequest
    from shared.runtime.clock import Clock
    from shared.runtime.context import RunContext
    from shared.runtime.log import Sink
    from shared.state.store import StateStore


class RunOnce(Protocol):
    """One reconcile. Raises SettingsError or RequestError before any call, and AnotherRun."""

    def __call__(
        self, request: RunRequest, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float
    ) -> RunResult: ...


class OpenState(Protocol):
    """The stored state and reports. Raises SettingsError before any call, and CloudError."""

    def __call__(self, environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]: ...


class OpenDeliveries(Protocol):
    """The stored documents of deliveries. Raises SettingsError before any call, and CloudError."""

    def __call__(
        self, environment: Mapping[str, str], sink: Sink, clock: Clock
    ) -> tuple[StoredDeliveries, RunContext]: ...


class Upload(Protocol):
    """Upload an archive and the native templates to an address, and return titled links that create the deployment.

    Raises OperatorError. The links have the `values` of the module's `variables`, without those that are sensitive.
    """

    def __call__(
        self, archive: Path, address: str, variables: Mapping[str, Variable], values: Mapping[str, Any], tell: Tell
    ) -> list[tuple[str, str]]: ...


class SupportCase(Protocol):
    """The text of a support case that requests these months, by dataset, for one scope's exports."""

    def __call__(self, scope: str, months: Mapping[str, Sequence[str]]) -> str: ...


@dataclass(frozen=True)
class Cloud:
    """One cloud.

    `scope` and `scopes` are what its users call them, one and many. `run_once` returns the function's own entry point,
    `open_state` the function that opens its stored documents for reading, `open_deliveries` that for the documents of
    deliveries, `local` the options and the body of `tailpipe-exports local <name>`, `scenario` the scenario of
    `tailpipe-exports demo`, `operator` the port for commands on a real deployment. `read_settings` returns the
    function's own reader of its settings. `own` matches the variables by which a process reaches the cloud and signs
    in, which belong to the operator and never to a deployment; `platform` matches those of the function's platform,
    which are not settings of the function. `elsewhere` says how to select another place, `remedies` how to correct the
    settings that select it. `environment` adds variables that the platform would set, from the operator's
    configuration; `demo_scopes` is the demonstration's default number of scopes. `reach` returns how far back the cloud
    can deliver months. If the function cannot request them, `support_case` returns the function that writes a support
    case, and `no_backfill` says why nothing can be done. `upload` returns the function that puts the archive and
    the native templates where the cloud reads them. `tenants` returns the port for the tenants of a deployment,
    `fleet` opens the local cloud of the demonstration of many tenants.
    """

    name: str
    title: str
    scope: str
    scopes: str
    run_once: Callable[[], RunOnce]
    open_state: Callable[[], OpenState]
    open_deliveries: Callable[[], OpenDeliveries]
    local: Callable[[], click.Command]
    scenario: Callable[[], Scenario]
    operator: Callable[[], type[Operator]]
    read_settings: Callable[[], Callable[[Mapping[str, str]], object]]
    own: re.Pattern[str]
    platform: re.Pattern[str]
    elsewhere: str
    remedies: Mapping[str, str]
    reach: Callable[[], Reach]
    tenants: Callable[[], TenantPort]
    fleet: Callable[[], AbstractContextManager[Ground]]
    environment: Callable[[Mapping[str, str]], Mapping[str, str]] = dict
    demo_scopes: int = 40
    support_case: Callable[[], SupportCase] | None = None
    no_backfill: str = ""
    upload: Callable[[], Upload] | None = None


def _aws_run_once() -> RunOnce:
    from aws_lambda.handler import run_once

    return run_once


def _aws_open_state() -> OpenState:
    from aws_lambda.handler import open_state

    return open_state


def _aws_open_deliveries() -> OpenDeliveries:
    from aws_lambda.handler import open_deliveries

    return open_deliveries


def _aws_settings() -> Callable[[Mapping[str, str]], object]:
    from aws_lambda.settings import read_settings

    return read_settings


def _aws_local() -> click.Command:
    from cli.local.aws import command

    return command


def _aws_operator() -> type[Operator]:
    from cli.deployment.aws.operator import AwsOperator

    return AwsOperator


def _aws_upload() -> Upload:
    from cli.deployment.aws.launch import upload

    return upload


def _gcp_upload() -> Upload:
    from cli.deployment.gcp.launch import upload

    return upload


def _aws_tenants() -> TenantPort:
    from cli.deployment.aws import tenants

    return tenants


def _aws_scenario() -> Scenario:
    from cli.demo.aws import AwsScenario

    return AwsScenario()


def _aws_fleet() -> AbstractContextManager[Ground]:
    from cli.demo.fleet_aws import aws_ground

    return aws_ground()


def _aws_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings with the region of the operator's profile if the environment has none.

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


def _aws_reach() -> Reach:
    from aws_lambda.targets import REACH

    return REACH


def _aws_support_case() -> SupportCase:
    from cli.deployment.aws.support_case import support_case

    return support_case


def _azure_reach() -> Reach:
    from azure_function.resources.backfill import REACH

    return REACH


def _gcp_reach() -> Reach:
    from gcp_function.targets import REACH

    return REACH


def _azure_run_once() -> RunOnce:
    from azure_function.invocation import run_once

    return run_once


def _azure_open_state() -> OpenState:
    from azure_function.invocation import open_state

    return open_state


def _azure_open_deliveries() -> OpenDeliveries:
    from azure_function.invocation import open_deliveries

    return open_deliveries


def _azure_settings() -> Callable[[Mapping[str, str]], object]:
    from azure_function.settings import read_settings

    return read_settings


def _azure_local() -> click.Command:
    from cli.local.azure import command

    return command


def _azure_operator() -> type[Operator]:
    from cli.deployment.azure.operator import AzureOperator

    return AzureOperator


def _azure_tenants() -> TenantPort:
    from cli.deployment.azure import tenants

    return tenants


def _azure_scenario() -> Scenario:
    from cli.demo.azure import AzureScenario

    return AzureScenario()


def _azure_fleet() -> AbstractContextManager[Ground]:
    from cli.demo.fleet_azure import azure_ground

    return azure_ground()


def _azure_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings with the operator's own token for a local cloud, if there is one."""
    token = environment.get("ARM_OPERATOR_TOKEN")
    return {**environment, "ARM_TOKEN": token} if token else environment


def _gcp_run_once() -> RunOnce:
    from cli.deployment.gcp.rest import signed_in
    from gcp_function.handler import run_once

    def run(request: RunRequest, environment: Mapping[str, str], sink: Sink, clock: Clock, seconds: float) -> RunResult:
        # The same sign-in as for the operator's commands, which is that of Terraform.
        credentials = signed_in(environment.get("HOME_PROJECT") or environment.get("GOOGLE_CLOUD_PROJECT", ""))
        return run_once(request, environment, sink, clock, seconds, credentials=credentials)

    return run


def _gcp_open_state() -> OpenState:
    from cli.deployment.gcp.rest import signed_in
    from gcp_function.handler import open_state

    def opened(environment: Mapping[str, str], sink: Sink, clock: Clock) -> tuple[StateStore, RunContext]:
        project = environment.get("HOME_PROJECT") or environment.get("GOOGLE_CLOUD_PROJECT", "")
        return open_state(environment, sink, clock, signed_in(project))

    return opened


def _gcp_open_deliveries() -> OpenDeliveries:
    from gcp_function.handler import open_deliveries

    return open_deliveries


def _gcp_settings() -> Callable[[Mapping[str, str]], object]:
    from gcp_function.settings import read_settings

    return read_settings


def _gcp_local() -> click.Command:
    from cli.local.gcp import command

    return command


def _gcp_operator() -> type[Operator]:
    from cli.deployment.gcp.operator import GcpOperator

    return GcpOperator


def _gcp_tenants() -> TenantPort:
    from cli.deployment.gcp import tenants

    return tenants


def _gcp_scenario() -> Scenario:
    from cli.demo.gcp import GcpScenario

    return GcpScenario()


def _gcp_fleet() -> AbstractContextManager[Ground]:
    from cli.demo.fleet_gcp import gcp_ground

    return gcp_ground()


def _gcp_environment(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the settings with the project of gcloud's configuration if the environment has none."""
    project = environment.get("GOOGLE_CLOUD_PROJECT") or environment.get("CLOUDSDK_CORE_PROJECT")
    if not project:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError

        try:
            _, project = google.auth.default()
        except DefaultCredentialsError:
            # The settings' own error names the missing variable.
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
            open_state=_aws_open_state,
            open_deliveries=_aws_open_deliveries,
            local=_aws_local,
            scenario=_aws_scenario,
            operator=_aws_operator,
            read_settings=_aws_settings,
            own=re.compile(r"AWS_\w+"),
            platform=re.compile(r"POWERTOOLS_\w+"),
            elsewhere="set AWS_REGION, AWS_PROFILE",
            remedies={
                "AWS_REGION": "Run: export AWS_REGION=REGION, with the region that the function is deployed in; or "
                "give the profile one: aws configure set region REGION.",
                "AWS_PROFILE": "Set AWS_PROFILE to one that `aws configure list-profiles` shows, or unset it.",
            },
            environment=_aws_environment,
            fleet=_aws_fleet,
            reach=_aws_reach,
            support_case=_aws_support_case,
            tenants=_aws_tenants,
            upload=_aws_upload,
        ),
        Cloud(
            name="azure",
            title="Azure",
            scope="subscription",
            scopes="subscriptions",
            run_once=_azure_run_once,
            open_state=_azure_open_state,
            open_deliveries=_azure_open_deliveries,
            local=_azure_local,
            scenario=_azure_scenario,
            operator=_azure_operator,
            read_settings=_azure_settings,
            # The first are the SDK's, the others point to a local cloud or identify a machine in Azure.
            own=re.compile(
                r"AZURE_(?!FUNCTIONS_)\w+|ARM_\w+|BLOB_(ENDPOINT|KEY)|(GRAPH|FUNCTION|VAULT|AUTHORITY)_ENDPOINT|(IDENTITY|MSI)_\w+"
            ),
            platform=re.compile(
                r"AZURE_FUNCTIONS_\w+|AzureWebJobs\w+|(FUNCTIONS|WEBSITE|SCM|APPLICATIONINSIGHTS|PYTHON)_\w+|(EVENT_)?SCHEDULE"
            ),
            elsewhere="set AZURE_SUBSCRIPTION_ID, or sign in to another tenant",
            remedies={
                "AZURE_TENANT_ID": "Correct AZURE_TENANT_ID in this shell's environment, or unset it and run: az login."
            },
            environment=_azure_environment,
            fleet=_azure_fleet,
            reach=_azure_reach,
            tenants=_azure_tenants,
        ),
        Cloud(
            name="gcp",
            title="GCP",
            scope="billing account",
            scopes="billing accounts",
            run_once=_gcp_run_once,
            open_state=_gcp_open_state,
            open_deliveries=_gcp_open_deliveries,
            local=_gcp_local,
            scenario=_gcp_scenario,
            operator=_gcp_operator,
            tenants=_gcp_tenants,
            read_settings=_gcp_settings,
            own=re.compile(r"GOOGLE_\w+|GCE_METADATA_\w+|CLOUDSDK_\w+|(BIGQUERY|STORAGE)_EMULATOR_HOST"),
            platform=re.compile(r"K_\w+|LOG_EXECUTION_ID|CLOUD_RUN_\w+"),
            elsewhere="set GOOGLE_CLOUD_PROJECT",
            remedies={
                "GOOGLE_CLOUD_PROJECT": "Run: export GOOGLE_CLOUD_PROJECT=PROJECT, with the id of the project that the "
                "function is deployed in; or: gcloud config set project PROJECT.",
            },
            environment=_gcp_environment,
            fleet=_gcp_fleet,
            reach=_gcp_reach,
            upload=_gcp_upload,
            no_backfill="Google delivers past months only the first time that an export is switched on, back to the "
            "start of the month before, and only to a multi-region dataset (US or EU).",
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
