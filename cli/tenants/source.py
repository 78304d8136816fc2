"""The environment of a tenant's run on this machine: the deployment's own, with the tenant's entry laid over it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from cli.clouds import Cloud
from cli.deployment.model import OperatorError, Problem
from cli.settings_source import Choice, Source, settings_faults, source_of
from cli.tenants.fleet import Fleet, explained, open_in
from cli.tenants.rows import open_documents
from shared.errors import RegistryError, RequestError
from shared.tenants.registry import environment_of
from tailpipe_exports import NAME


def tenant_source(cloud: Cloud, choice: Choice) -> Source:
    """Return what to run with for the tenant of `choice`, if it names one, else for the deployment's own cloud.

    Raises OperatorError, SettingsError.
    """
    source = source_of(cloud, choice)
    if not choice.tenant:
        return source
    with explained(cloud):
        fleet = open_in(cloud, source.environment)
        return replace(source, environment=environment_in(fleet, choice.tenant), rows=open_documents(fleet))


def environment_in(fleet: Fleet, tenant_id: str) -> Mapping[str, str]:
    """Return the environment of a tenant's run. Raises OperatorError if it is unknown, paused, or its entry wrong."""
    cloud = fleet.cloud
    try:
        tenant = fleet.registry().tenant(tenant_id)
    except (RequestError, RegistryError) as error:
        remedy = f"See {NAME} tenants list {cloud.name}."
        raise OperatorError(*(Problem(one, remedy) for one in error.problems)) from error
    environment = environment_of(tenant, fleet.environment, fleet.port.RULES)
    faults, _ = settings_faults(cloud, environment)
    if faults:
        entry = f"{NAME} tenants show {cloud.name} {tenant.id}"
        remedy = f"Correct its entry ({entry}), or deploy with fleet = true: {NAME} deploy {cloud.name}."
        raise OperatorError(*(Problem(f"tenant {tenant.id}: {fault}", remedy) for fault in faults))
    return environment
