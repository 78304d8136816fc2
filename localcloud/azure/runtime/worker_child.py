"""The child process of `AzureWorker`: indexes a v2 FunctionApp and invokes its functions for the parent.

Run as a script: `python -P worker_child.py DESCRIPTOR APP_FOLDER RUNTIME_FOLDER`. Requests and responses are lines of
JSON on the socket DESCRIPTOR, in any order; `n` matches a response to its request. Log lines go to standard output.

If RUNTIME_FOLDER contains the packages, the functions run in Azure's own worker runtime, which receives the same
protocol messages as from the platform's host; otherwise they run with only the `azure-functions` library.
"""

from __future__ import annotations

import asyncio
import base64
import importlib
import importlib.util
import inspect
import json
import logging
import socket
import sys
import traceback
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

LINE_LIMIT = 256 * 1024 * 1024  # bytes; the platform's own limit for a message is 2 GB
PROTOCOL = "azure_functions_protocol"


class FunctionFailed(Exception):
    """Indexing or invoking functions failed; `document` is the worker's error response."""

    def __init__(self, document: Mapping[str, str]) -> None:
        super().__init__(document.get("errorMessage", ""))
        self.document = dict(document)


class Worker(Protocol):
    """The process that runs the functions, identified by `name`."""

    name: str

    async def index(self, folder: str) -> list[dict[str, Any]]:
        """Return `id`, `name` and `bindings` of each function. Raises FunctionFailed."""
        ...

    async def invoke(self, function: str, binding: str, trigger: Mapping[str, Any]) -> dict[str, Any]:
        """Invoke one function and return its HTTP response, or `result` with the JSON text that it returned.

        Raises FunctionFailed.
        """
        ...


class RuntimeWorker:
    """Runs the functions in `azure-functions-runtime`, the worker of the platform."""

    def __init__(self, folder: Path) -> None:
        sys.path.append(str(folder))
        self._protos: Any = _protocol(folder)
        self._worker: Any = importlib.import_module("azure_functions_runtime")
        version = importlib.import_module("azure_functions_runtime.version").VERSION
        self.name = f"azure-functions-runtime {version}"
        self._worker.start_threadpool_executor()

    async def index(self, folder: str) -> list[dict[str, Any]]:
        protos = self._protos
        init = protos.WorkerInitRequest(host_version="4", worker_directory=folder, function_app_directory=folder)
        self._checked(await self._worker.worker_init_request(self._request(worker_init_request=init)))
        request = protos.FunctionsMetadataRequest(function_app_directory=folder)
        found = await self._worker.functions_metadata_request(self._request(functions_metadata_request=request))
        self._checked(found)
        functions = []
        for one in found.function_metadata_results:
            load = protos.FunctionLoadRequest(function_id=one.function_id, metadata=one)
            self._checked(await self._worker.function_load_request(self._request(function_load_request=load)))
            bindings = [json.loads(binding) for binding in one.raw_bindings]
            functions.append({"id": one.function_id, "name": one.name, "bindings": bindings})
        return functions

    async def invoke(self, function: str, binding: str, trigger: Mapping[str, Any]) -> dict[str, Any]:
        protos = self._protos
        document = trigger.get("timer") or trigger.get("event")
        if "durable" in trigger:
            data = protos.TypedData(json=trigger["durable"])
        elif document:
            data = protos.TypedData(json=json.dumps(document))
        else:
            data = self._http(trigger)
        inputs = {name: protos.TypedData(string=text) for name, text in trigger["inputs"].items()} | {binding: data}
        invocation = protos.InvocationRequest(
            invocation_id=trigger["invocation"],
            function_id=function,
            input_data=[protos.ParameterBinding(name=name, data=each) for name, each in inputs.items()],
        )
        answer = await self._worker.invocation_request(self._request(invocation_request=invocation))
        self._checked(answer)
        return self._answered(answer.return_value)

    def _http(self, trigger: Mapping[str, Any]) -> Any:
        protos = self._protos
        query = dict(parse_qsl(urlsplit(trigger["url"]).query))
        body = protos.TypedData(bytes=base64.b64decode(trigger["body"]))
        http = protos.RpcHttp(
            method=trigger["method"], url=trigger["url"], headers=trigger["headers"], query=query, body=body
        )
        return protos.TypedData(http=http)

    def _answered(self, value: Any) -> dict[str, Any]:
        if value.WhichOneof("data") in ("json", "string"):
            return {"result": getattr(value, value.WhichOneof("data"))}
        if value.WhichOneof("data") != "http":
            return {}
        body = value.http.body
        kind = body.WhichOneof("data")
        raw = getattr(body, kind) if kind else b""
        content = raw if isinstance(raw, bytes) else str(raw).encode()
        return _answer(int(value.http.status_code or 200), dict(value.http.headers), content)

    def _request(self, **message: Any) -> SimpleNamespace:
        """Return a message in the format that the platform's proxy sends to the runtime."""
        properties = {"host": "127.0.0.1", "protos": self._protos}
        return SimpleNamespace(request=self._protos.StreamingMessage(**message), properties=properties)

    def _checked(self, answer: Any) -> None:
        result = answer.result
        if result.status != self._protos.StatusResult.Success:
            error = result.exception
            raise FunctionFailed({"errorMessage": error.message, "stackTrace": error.stack_trace})


class LibraryWorker:
    """Runs the functions with the `azure-functions` library, without a worker runtime."""

    def __init__(self) -> None:
        from importlib.metadata import version

        self.name = f"azure-functions {version('azure-functions')} (library only, not the worker runtime)"
        self._functions: dict[str, Any] = {}
        self._threads = ThreadPoolExecutor()

    async def index(self, folder: str) -> list[dict[str, Any]]:
        import azure.functions as func

        try:
            module = importlib.import_module("function_app")
            (app,) = (one for one in vars(module).values() if isinstance(one, func.FunctionApp))
            self._functions = {str(one.get_function_name()): one for one in app.get_functions()}
        except Exception as error:
            raise FunctionFailed(_error_document(error)) from error
        return [
            {"id": name, "name": name, "bindings": [json.loads(binding) for binding in one.get_raw_bindings()]}
            for name, one in self._functions.items()
        ]

    async def invoke(self, function: str, binding: str, trigger: Mapping[str, Any]) -> dict[str, Any]:
        import azure.functions as func
        from azure.functions.eventgrid import EventGridEventInConverter
        from azure.functions.meta import Datum
        from azure.functions.timer import TimerRequest

        given: Any
        if "durable" in trigger:
            # An orchestrator reads its context from the text; an activity gets the decoded input.
            given = trigger["durable"] if binding == "context" else json.loads(trigger["durable"])
        elif "timer" in trigger:
            given = TimerRequest(past_due=bool(trigger["timer"]["IsPastDue"]))
        elif "event" in trigger:
            given = EventGridEventInConverter.decode(Datum(json.dumps(trigger["event"]), "json"), trigger_metadata=None)
        else:
            query = dict(parse_qsl(urlsplit(trigger["url"]).query))
            body = base64.b64decode(trigger["body"])
            given = func.HttpRequest(
                trigger["method"], trigger["url"], headers=trigger["headers"], params=query, body=body
            )
        call = self._functions[function].get_user_function()
        arguments = {**trigger["inputs"], binding: given}
        try:
            if inspect.iscoroutinefunction(call):
                answer = await call(**arguments)
            else:
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, lambda: call(**arguments))
        except Exception as error:
            raise FunctionFailed(_error_document(error)) from error
        if "durable" in trigger:
            return {"result": answer if isinstance(answer, str) else json.dumps(answer)}
        if not isinstance(answer, func.HttpResponse):
            return {}
        headers = {"content-type": f"{answer.mimetype}; charset={answer.charset}", **dict(answer.headers)}
        return _answer(answer.status_code, headers, answer.get_body())


def _protocol(folder: Path) -> ModuleType:
    """Import the protocol's messages under a unique name, because they are in a package named `tests`."""
    place = folder / "tests" / "protos"
    spec = importlib.util.spec_from_file_location(
        PROTOCOL, place / "__init__.py", submodule_search_locations=[str(place)]
    )
    if spec is None or spec.loader is None:
        raise ImportError(f"{place} is not a package")
    module = importlib.util.module_from_spec(spec)
    sys.modules[PROTOCOL] = module
    spec.loader.exec_module(module)
    return module


def _answer(status: int, headers: Mapping[str, str], body: bytes) -> dict[str, Any]:
    return {"status": status, "headers": dict(headers), "body": base64.b64encode(body).decode()}


def _error_document(error: BaseException) -> dict[str, str]:
    trace = "".join(traceback.format_exception(error))
    return {"errorMessage": f"{type(error).__name__}: {error}", "stackTrace": trace}


def _chosen(folder: Path) -> Worker:
    """Return Azure's runtime if it starts, otherwise the library; the reason is written to standard error."""
    if (folder / "azure_functions_runtime").is_dir():
        try:
            return RuntimeWorker(folder)
        except Exception as error:  # noqa: BLE001 - fall back to the library, whatever the failure
            sys.stderr.write(f"Azure's worker runtime failed to start: {type(error).__name__}: {error}\n")
    return LibraryWorker()


async def _serve(descriptor: int, folder: str, runtime: Path) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor), limit=LINE_LIMIT)

    def send(document: Mapping[str, Any]) -> None:
        sys.stdout.flush()  # deliver an invocation's output before its response
        writer.write(json.dumps(document).encode() + b"\n")

    async def work(worker: Worker, request: Mapping[str, Any]) -> None:
        try:
            answer = await worker.invoke(request["function"], request["binding"], request["trigger"])
        except FunctionFailed as error:
            send({"n": request["n"], "error": error.document})
        except Exception as error:  # noqa: BLE001 - the parent waits for a response to every request
            send({"n": request["n"], "error": _error_document(error)})
        else:
            send({"n": request["n"], "answer": answer})
        await writer.drain()

    worker = _chosen(runtime)
    try:
        functions = await worker.index(folder)
    except FunctionFailed as error:
        send({"n": 0, "worker": worker.name, "error": error.document})
        await writer.drain()
        return
    send({"n": 0, "worker": worker.name, "functions": functions})
    tasks: set[asyncio.Task[None]] = set()
    while line := await reader.readline():
        task = asyncio.create_task(work(worker, json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


class _Lines(logging.Handler):
    """Write the functions' log records as plain lines; skip the worker's own messages below WARNING."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("azure.functions") and record.levelno < logging.WARNING:
            return
        sys.stdout.write(self.format(record) + "\n")
        sys.stdout.flush()


def main() -> None:
    """Serve until the parent closes its end of the socket."""
    descriptor, folder, runtime = int(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    sys.path.insert(0, folder)
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.addHandler(_Lines())
    asyncio.run(_serve(descriptor, folder, runtime))


if __name__ == "__main__":
    main()
