"""The operator port on AWS."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

from cli.deployment import model
from cli.deployment.aws import (
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
from cli.deployment.aws.account_kind import VARIABLE, account_kind, is_alone
from cli.deployment.aws.session import FUNCTION, Session, local_endpoint, open_session, translated
from cli.deployment.aws.stack import StackEngine
from cli.deployment.engine import Planning, StateEngine
from cli.deployment.log_lines import LogLine, LogSearch
from cli.deployment.operator import Tell


class AwsOperator:
    """Implements `cli.deployment.operator.Operator`. `sleep` waits that many seconds."""

    precious = frozenset({"aws_s3_bucket"})
    alarm = "aws_cloudwatch_metric_alarm"
    confirm_emails = True
    secrets: Sequence[tuple[str, ...]] = (("tailpipe", "externalId"),)

    def __init__(self, session: Session, sleep: Callable[[float], None]) -> None:
        self._session = session
        self._sleep = sleep
        self._kind = os.environ.get(VARIABLE, "")  # the account_kind of the deployment, "" if unknown
        self._fleet = False
        self._native = False

    @classmethod
    def open(cls, given: Mapping[str, Any], sleep: Callable[[float], None] = time.sleep) -> Self:
        return cls(open_session(given), sleep)

    @property
    def place(self) -> model.Place:
        return self._session.place

    def select(self, name: str) -> Self:
        return type(self)(replace(self._session, function=name), self._sleep)

    def detected(self, given: Mapping[str, Any]) -> dict[str, Any]:
        # Deploy with the name by which invoke and destroy find the function.
        function = self._session.function
        named = {} if function == FUNCTION else {"function_name": function}
        self._kind = account_kind(self.place, given, os.environ)
        self._fleet = bool(given.get("fleet"))
        return {"account_kind": self._kind, **named}

    @translated()
    def rights(self) -> list[model.Finding]:
        alone = is_alone(self.place, self._kind)
        return rights.rights(self._session, alone=alone, fleet=self._fleet, native=self._native)

    @translated()
    def surroundings(self, given: Mapping[str, Any]) -> list[model.Finding]:  # noqa: ARG002 - the port's signature
        return list(surroundings.surroundings(self._session))

    @translated()
    def preflight(self, given: Mapping[str, Any]) -> list[model.Finding]:
        return list(preflight.preflight(self._session, given))

    def providers(self) -> dict[str, Any]:
        aws = self._session.aws
        # A local cloud serves its buckets under one host.
        local = {"s3_use_path_style": True} if local_endpoint() else {}
        return {"aws": [{"region": aws.region, **local}, {"alias": "home", "region": aws.home, **local}]}

    def module_providers(self) -> dict[str, str]:
        return {"aws": "aws", "aws.home": "aws.home"}

    def backend(self) -> model.Backend:
        return backend.backend(self._session)

    def backend_exists(self) -> bool:
        return backend.exists(self._session)

    @translated()
    def make_backend(self, tell: Tell) -> None:
        backend.make(self._session, tell)

    def native_engine(self) -> StackEngine:
        self._native = True  # its rights are needed from here on
        return StackEngine(self._session, self._sleep)

    def to_native(self, wanted: Planning, terraform: StateEngine) -> None:  # noqa: ARG002 - the port's signature; the state is an object
        migrate.to_native(self._session, self.native_engine(), wanted)

    def to_terraform(self, wanted: Planning, terraform: StateEngine) -> None:
        migrate.to_terraform(self._session, self.native_engine(), wanted, terraform)

    @translated()
    def held_by_native(self) -> bool:
        return StackEngine(self._session, self._sleep).exists()

    def held_by_terraform(self) -> bool:
        return backend.holds_resources(self._session)

    @translated()
    def adoptions(self, changes: Sequence[model.Change], tell: Tell) -> list[model.Adoption]:  # noqa: ARG002 - the port's signature
        return list(adopt.adoptions(self._session, changes))

    def invoke(self, payload: Mapping[str, Any], tell: Tell) -> dict[str, Any]:
        return invoke.invoke(self._session, payload, tell, self._sleep)

    @translated()
    def round(self, tell: Tell) -> dict[str, Any]:
        return rounds.round_report(self._session, tell, self._sleep)

    @translated()
    def verify(self) -> list[model.Finding]:
        return list(verify.verify(self._session))

    @translated()
    def onboarding(self) -> dict[str, Any]:
        return onboarding.onboarding(self._session)

    @translated()
    def functions(self) -> list[model.Deployed]:
        return functions.functions(self._session)

    def deployed(self) -> dict[str, str] | None:
        return functions.environment_of(self._session)

    def logs(self, search: LogSearch) -> Iterator[LogLine]:
        with translated():
            yield from logs.logs(self._session, search)

    @translated()
    def stop_schedule(self, tell: Tell) -> None:
        remove.stop_schedule(self._session, tell)

    @translated()
    def clear(self, removal: model.Removal, tell: Tell) -> None:
        remove.clear(self._session, removal, tell, self._sleep)

    @translated()
    def clearing(self, removal: model.Removal) -> model.Clearing:
        return remove.clearing(self._session, removal)

    def kept(self, removal: model.Removal) -> list[model.Kept]:
        return remove.kept(self._session, removal)
