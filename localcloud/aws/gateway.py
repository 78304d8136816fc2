"""The gateway of the local AWS, in front of moto: identifies, validates, checks, answers and logs every request."""

from __future__ import annotations

import re
from contextlib import nullcontext
from functools import cache, lru_cache
from typing import Any

from moto.iam.models import iam_backends
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.sts.models import sts_backends
from werkzeug.http import http_date

from localcloud.aws import validate, wire
from localcloud.aws.arns import Where
from localcloud.aws.calls import Call
from localcloud.aws.errors import AwsError, render, unknown_key
from localcloud.aws.faults import Attempt
from localcloud.aws.iam.caller import Caller, Identity
from localcloud.aws.iam.condition_keys import context_of
from localcloud.aws.iam.required_actions import needs_of
from localcloud.aws.state import World
from localcloud.aws.wire import AwsRequest
from localcloud.common.control_api import ControlApi
from localcloud.common.http_server import Request, Response

Answer = tuple[int, dict[str, str], bytes]
_KEY = re.compile(r"^AKIALOCA(\d{12})$")
_ERROR_CODE = re.compile(rb'<Code>([^<]+)</Code>|"__type":\s*"(?:[^"#]*#)?([^"]+)"')


def access_key_of(account: str) -> str:
    """Return the access key id of an account of the local cloud."""
    return f"AKIALOCA{account}"


@cache
def _moto() -> Any:
    """Return moto's own dispatcher, which selects a backend by the request's signature.

    It is created once: its routes are the same for every local cloud, and the state is in moto's backends.
    """
    dispatcher = DomainDispatcherApplication(create_backend_app)
    # Otherwise moto would list the folders of its package for each request.
    dispatcher.get_backend_for_host = lru_cache(maxsize=256)(dispatcher.get_backend_for_host)
    return dispatcher


class Gateway:
    """Parses, validates and logs each request, applies faults, and answers it or forwards it to moto."""

    def __init__(self, world: World, control: ControlApi) -> None:
        self._world = world
        self._moto = _moto()
        self._control = control

    def __call__(self, request: Request) -> Response:
        """Answer one request."""
        if self._control.owns(request):
            return self._control.answer(request)
        status, headers, body = self._answer(request)
        if request.method == "HEAD":
            return Response(status, headers)
        return Response(status, {n: value for n, value in headers.items() if n.lower() != "content-length"}, body)

    def _answer(self, request: Request) -> Answer:
        request_id = wire.new_request_id()
        aws_request = wire.read(request)
        attempt = Attempt(Identity("", ""), aws_request.service, aws_request.operation, (), {}, aws_request.headers, {})
        try:
            attempt = self._resolve(aws_request)
            self._world.faults.apply(attempt)
            if aws_request.service in validate.CHECKED:
                validate.check(aws_request)
            self._world.enforcement.check(attempt)
            answer = self._serve(aws_request, attempt, request_id)
        except AwsError as error:
            answer = render(error, aws_request.protocol, aws_request.service, request_id)
        self._world.call_events.record(attempt, aws_request.region, self._log(attempt, answer))
        corruption = self._world.faults.corruption_of(f"{aws_request.service}.{aws_request.operation}")
        if corruption is not None:
            headers = {**answer[1], **corruption.headers}
            answer = (corruption.status or answer[0], headers, corruption.change(answer[2]))
        # From the local clock, like the times in response bodies: clients may compare the two.
        headers = {name: value for name, value in answer[1].items() if name.lower() != "date"}
        return answer[0], {**headers, "Date": http_date(self._world.clock.now())}, answer[2]

    def _resolve(self, aws_request: AwsRequest) -> Attempt:
        """Return the caller and the operation. Raises AwsError for unknown credentials or operations."""
        identity = self._identify(aws_request)
        service, operation = aws_request.service, aws_request.operation
        if not operation and service in validate.CHECKED:
            raise AwsError("UnknownOperationException", "The operation is not known to the service.", 404)
        if operation and wire.known(service):
            wire.parse(aws_request)
        with self._world.lock:
            if identity.session is not None or service in ("iam", "sts"):
                self._world.roles.materialize(identity.account)
            place = Where(identity.account, aws_request.region)
            needs = needs_of(service, operation, aws_request.params, place, self._world.arns)
        context = context_of(aws_request, identity, self._world.partition)
        return Attempt(identity, service, operation, needs, aws_request.params, aws_request.headers, context)

    def _identify(self, aws_request: AwsRequest) -> Identity:
        """Return the identity of a request's credentials."""
        partition = self._world.partition.name
        account_key = _KEY.match(aws_request.access_key)
        if account_key:
            return Identity(account_key[1], f"arn:{partition}:iam::{account_key[1]}:user/local")
        if not aws_request.access_key:
            raise AwsError("MissingAuthenticationToken", "Request is missing Authentication Token", 403)
        for account in list(dict.keys(iam_backends)):
            key = iam_backends[account][partition].access_keys.get(aws_request.access_key)
            if key is None:
                continue
            role = getattr(key, "role_arn", None)
            if role is None:
                return Identity(account, f"arn:{partition}:iam::{account}:user/{key.user_name}")
            session = sts_backends[account][partition].get_assumed_role_from_access_key(aws_request.access_key)
            return Identity(account, str(role), session)
        raise unknown_key(aws_request.service)

    def _serve(self, aws_request: AwsRequest, attempt: Attempt, request_id: str) -> Answer:
        world = self._world
        environ = aws_request.raw.environ
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = attempt.account
        if (aws_request.service, aws_request.operation) == ("lambda", "Invoke"):
            # Never hold the lock here: the running function calls this cloud itself.
            return world.lambda_api.invoke(aws_request, attempt, request_id)
        handler = world.handler(aws_request.service, aws_request.operation)
        if handler is not None:
            checked = aws_request.service in validate.ANSWERED
            try:
                caller = Caller(attempt.account, aws_request.region, attempt.principal, aws_request.access_key)
                with nullcontext() if world.calls_back(aws_request.service, aws_request.operation) else world.lock:
                    result = handler(caller, aws_request.params)
            except AwsError as error:
                if checked:
                    validate.check_refusal(aws_request, error)
                raise
            if checked:
                validate.check_answer(aws_request, result)
            return wire.write(aws_request, result, request_id)
        if world.owns(aws_request.service):
            raise AwsError("NotImplemented", f"the local cloud does not offer {aws_request.operation}", 501)
        with world.lock:
            if aws_request.service == "s3":
                world.s3.before(aws_request, environ, attempt)
            if aws_request.operation == "AssumeRole":
                world.roles.check_trust(attempt)
        with world.corrected(aws_request, attempt), world.s3.serialized(aws_request):
            answer = self._forward_to_moto(environ)
            if aws_request.service == "s3":
                world.s3.after(aws_request, attempt, answer[0], world.enforcement)
        return answer

    def _forward_to_moto(self, environ: dict[str, Any]) -> Answer:
        started: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _exc_info: Any = None) -> Any:
            started[:] = [int(status.split(maxsplit=1)[0]), dict(headers)]
            return lambda _data: None

        try:
            chunks = self._moto(environ, start_response)
        except NotImplementedError as error:
            raise AwsError("NotImplemented", str(error), 501) from error
        try:
            body = b"".join(chunks)
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()
        return started[0], started[1], body

    def _log(self, attempt: Attempt, answer: Answer) -> str | None:
        """Log the call, and return the code it was refused with, if any."""
        code = None
        if answer[0] >= 400:
            match = _ERROR_CODE.search(answer[2])
            code = (match[1] or match[2]).decode() if match else str(answer[0])
        identity = attempt.identity
        self._world.calls.add(
            Call(
                self._world.clock.now(),
                identity.account,
                identity.principal,
                attempt.service,
                attempt.operation,
                attempt.needs,
                answer[0],
                code,
            )
        )
        return code
