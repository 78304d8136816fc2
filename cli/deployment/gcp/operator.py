"""The operator port on Google Cloud."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from cli.deployment import model
from cli.deployment.engine import Planning, StateEngine
from cli.deployment.gcp import (
    adopt,
    backend,
    functions,
    invoke,
    logs,
    migrate,
    onboarding,
    preflight,
    remove,
    rights,
    rounds,
    surroundings,
    verify,
)
from cli.deployment.gcp.infra_manager import InfraManager
from cli.deployment.gcp.session import Session, open_session, refreshed, translated
from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.operator import Tell


class GcpOperator:
    """Implements `cli.deployment.operator.Operator`.

    `sleep` waits that many seconds, `now` returns seconds since 1970.
    """

    precious = frozenset({"google_bigquery_dataset", "google_storage_bucket"})
    alarm = "google_monitoring_alert_policy"
    confirm_emails = False
    secrets: Sequence[tuple[str, ...]] = ()

    def __init__(self, session: Session, sleep: Callable[[float], None], now: Callable[[], float]) -> None:
        self._session = session
        self._sleep = sleep
        self._now = now
        self._native = False

    @classmethod
    def open(
        cls,
        given: Mapping[str, Any],
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = remove.wall_clock,
    ) -> Self:
        return cls(open_session(given, sleep), sleep, now)

    @property
    def place(self) -> model.Place:
        return self._session.place

    def select(self, name: str) -> Self:
        region, _, function = name.rpartition("/")
        given = {**self._session.given, "region": region, "function_name": function}
        session = replace(self._session, region=region, function=function, given=given)
        return type(self)(refreshed(session), self._sleep, self._now)

    @translated()
    def detected(self, given: Mapping[str, Any]) -> dict[str, Any]:
        return preflight.detected(self._session, given)

    def rights(self) -> list[model.Finding]:
        more = rights.native_rights(self._session) if self._native else ()
        return _remedied([*rights.rights(self._session), *more])

    def surroundings(self, given: Mapping[str, Any]) -> list[model.Finding]:
        return _remedied(surroundings.surroundings(self._given(given), given))

    def preflight(self, given: Mapping[str, Any]) -> list[model.Finding]:
        self._session = session = self._given(given)
        return _remedied([*preflight.preflight(session, given), *surroundings.obstacles(session, given)])

    def providers(self) -> dict[str, Any]:
        # Calls with a person's credentials count against this project, in which the APIs are enabled.
        own = {"user_project_override": True, "billing_project": self.place.id}
        return {"google": {"project": self.place.id, "region": self.place.region, **own}}

    def module_providers(self) -> dict[str, str]:
        return {}

    def native_engine(self) -> InfraManager:
        self._native = True  # its permissions are needed from here on
        return InfraManager(self._session, self._sleep)

    def held_by_native(self) -> bool:
        return InfraManager(self._session, self._sleep).held()

    @translated()
    def held_by_terraform(self) -> bool:
        return backend.holds_resources(self._session)

    def to_native(self, wanted: Planning, terraform: StateEngine) -> None:  # noqa: ARG002 - the port's signature; only the state moves
        migrate.to_native(self._session, self.native_engine(), wanted)

    def to_terraform(self, wanted: Planning, terraform: StateEngine) -> None:  # noqa: ARG002 - the port's signature, as in `to_native`
        migrate.to_terraform(self._session, self.native_engine(), wanted.tell)

    def backend(self) -> model.Backend:
        return backend.backend(self._session)

    def backend_exists(self) -> bool:
        return backend.exists(self._session)

    @translated()
    def make_backend(self, tell: Tell) -> None:
        backend.make(self._session, tell)

    @translated()
    def adoptions(self, changes: Sequence[model.Change], tell: Tell) -> list[model.Adoption]:  # noqa: ARG002 - the port's signature
        return list(adopt.adoptions(self._session, changes))

    def invoke(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        session = self._fresh()
        if set(filter(payload.get, payload)) == {"tenant"} and invoke.is_inside(session):
            return rounds.run_tenant(session, str(payload["tenant"]), tell, self._sleep, self._now())
        return invoke.invoke(session, payload, tell, self._sleep)

    def round(self, tell: Tell) -> dict[str, Any]:
        return rounds.run_round(self._fresh(), tell, self._sleep)

    def verify(self) -> list[model.Finding]:
        return _remedied(verify.verify(self._fresh()))

    @translated()
    def onboarding(self) -> dict[str, Any]:
        return onboarding.onboarding(self._fresh())

    def functions(self) -> list[model.Deployed]:
        return functions.functions(self._session)

    def deployed(self) -> dict[str, str] | None:
        return functions.environment_of(self._fresh())

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        return logs.logs(self._session, search)

    @translated()
    def stop_schedule(self, tell: Tell) -> None:
        remove.stop_schedule(self._session, tell)

    @translated()
    def clear(self, removal: model.Removal, tell: Tell) -> None:
        remove.clear(self._fresh(), removal, tell, self._sleep, self._now)

    @translated()
    def clearing(self, removal: model.Removal) -> model.Clearing:
        return remove.clearing(self._fresh(), removal)

    def kept(self, removal: model.Removal) -> list[model.Kept]:
        return remove.kept(self._session, removal)

    def _given(self, given: Mapping[str, Any]) -> Session:
        return replace(self._session, given={**self._session.given, **given})

    def _fresh(self) -> Session:
        """Return the project's current state: a deployment may have changed it since it was opened."""
        session = refreshed(self._session)
        if session.live is not None and "workload_identity_pool_id" not in session.given:
            pool = verify.pool_of(session)
            session = replace(session, given={**session.given, **({"workload_identity_pool_id": pool} if pool else {})})
        self._session = session
        return session


def _remedied(findings: Iterable[model.Finding]) -> list[model.Finding]:
    """Return the findings, without remedies for passed checks."""
    return [replace(one, remedy="") if one.ok else one for one in findings]
