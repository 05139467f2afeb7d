"""The functions of an app: indexed and invoked by Microsoft's worker library."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as library

from dev.host.settings import HostError, disabled

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

TRIGGERS = ("httpTrigger", "queueTrigger", "timerTrigger")
_current: ContextVar[str] = ContextVar("function", default="")


class Message(SimpleNamespace):
    """A message of the worker protocol, which the library takes from its host; it carries what it is made with."""

    def WhichOneof(self, oneof: str) -> str | None:  # noqa: N802 - protobuf's name
        """Return the name of the field that is set; a binding's value is always its `data`."""
        if oneof == "rpc_data":
            return "data"
        return next((name for name, value in vars(self).items() if value is not None), None)


class StatusResult(Message):
    """The end of a request to the worker."""

    Failure, Success = 0, 1


class BindingInfo(Message):
    """A binding of a function."""

    out, inout, undefined = 1, 2, 0


class RpcHttpCookie(Message):
    """A cookie that a function sets; scopes have their spelling in a `Set-Cookie` header."""

    SameSite = SimpleNamespace(Lax="lax", Strict="strict", ExplicitNone="none", **{"None": ""})


_PLAIN = (
    "FunctionMetadataResponse", "InvocationResponse", "NullableBool", "NullableDouble", "NullableString",
    "NullableTimestamp", "ParameterBinding", "RpcException", "RpcFunctionMetadata", "RpcHttp", "RpcRetryOptions",
    "Timestamp", "TypedData", "WorkerInitResponse", "WorkerMetadata",
)  # fmt: skip
_PROTOS = SimpleNamespace(
    BindingInfo=BindingInfo, RpcHttpCookie=RpcHttpCookie, StatusResult=StatusResult, **dict.fromkeys(_PLAIN, Message)
)
_NO_TRACE = Message(trace_parent="", trace_state="", attributes={})
_NO_RETRY = Message(retry_count=0, max_retry_count=0, exception=None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """An indexed function and its trigger's binding, as the worker returned them."""

    name: str
    id: str
    kind: str
    parameter: str
    trigger: Mapping[str, Any]
    bindings: tuple[Mapping[str, Any], ...]
    disabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The end of an invocation, and what the function returned."""

    succeeded: bool
    returned: Message | None = None


class Worker:
    """Runs the functions of one app folder; sync functions in the library's thread pool."""

    def __init__(self) -> None:
        self.functions: tuple[Function, ...] = ()
        self.executed: Counter[str] = Counter()
        self._running: dict[str, str] = {}

    async def load(self, directory: Path, only: Iterable[str] = ()) -> None:
        """Import and index the app; HostError with the real error's text when that fails."""
        os.environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "16")
        sys.path.insert(0, str(directory))
        os.chdir(directory)
        library.start_threadpool_executor()
        init = Message(capabilities={}, function_app_directory=str(directory))
        request = Message(
            request=Message(worker_init_request=init), properties={"host": "127.0.0.1", "protos": _PROTOS}
        )
        # What the library logs about a failure is in its answer, which is printed once.
        logging.getLogger("azure.functions").disabled = True
        response = await library.worker_init_request(request)
        logging.getLogger("azure.functions").disabled = False
        if response.result.status != StatusResult.Success:
            raise HostError(_indexing_failure(response.result.exception))
        indexed = (await library.functions_metadata_request(request)).function_metadata_results
        if indexed is None:
            raise HostError(f"no functions found in {directory}")
        wanted = {name.lower() for name in only}
        self.functions = tuple(
            _function(row.name, row.function_id, row.raw_bindings)
            for row in indexed
            if not wanted or row.name.lower() in wanted
        )
        if unknown := wanted - {function.name.lower() for function in self.functions}:
            raise HostError(f"the app has no function {', '.join(sorted(unknown))}")

    @property
    def running(self) -> int:
        """The number of invocations that have not ended."""
        return len(self._running)

    def function_of(self) -> str:
        """Return the name of the function that the caller's thread or task runs, or an empty text."""
        return _current.get() or self._running.get(library.invocation_id_cv.get() or "", "")

    async def invoke(self, function: Function, data: Message, metadata: Mapping[str, Message]) -> Outcome:
        """Call the function once with `data` for its trigger's parameter; its exception is logged, never raised."""
        invocation = str(uuid.uuid4())
        call = Message(
            invocation_id=invocation,
            function_id=function.id,
            input_data=(Message(name=function.parameter, data=data),),
            trigger_metadata=metadata,
            trace_context=_NO_TRACE,
            retry_context=_NO_RETRY,
        )
        self._running[invocation] = function.name
        self.executed[function.name] += 1
        token = _current.set(function.name)
        started = time.perf_counter()
        try:
            request = Message(request=Message(invocation_request=call), properties={})
            response = await library.invocation_request(request)
        finally:
            _current.reset(token)
            del self._running[invocation]
        if response.result.status != StatusResult.Success:
            problem = response.result.exception
            logger.error("Executed %s (failed): %s\n%s", function.name, problem.message, problem.stack_trace.rstrip())
            return Outcome(succeeded=False)
        logger.debug("Executed %s (%d ms)", function.name, (time.perf_counter() - started) * 1000)
        return Outcome(succeeded=True, returned=response.return_value)


def functions_of(app: Any) -> tuple[Function, ...]:
    """Return the functions of an `azure.functions.FunctionApp` that is not run; it can be asked once only."""
    return tuple(
        _function(function.get_function_name(), function.get_function_name(), function.get_raw_bindings())
        for function in app.get_functions()
    )


def _indexing_failure(problem: Message) -> str:
    # The library wraps an import error in a second one that has only advice to add.
    trace = problem.stack_trace.split("\n\nDuring handling of the above")[0].rstrip()
    reason = trace.rsplit("\n", 1)[-1] if trace else problem.message
    return f"the app cannot be indexed: {reason}\n{trace}".rstrip()


def _function(name: str, id: str, raw_bindings: Iterable[str]) -> Function:
    bindings = tuple(json.loads(text) for text in raw_bindings)
    trigger = next((binding for binding in bindings if binding["type"].lower().endswith("trigger")), None)
    if trigger is None:
        raise HostError(f"function {name} has no trigger")
    if trigger["type"] not in TRIGGERS:
        raise HostError(f"function {name}: this host has no {trigger['type']}")
    other = [binding["type"] for binding in bindings if binding is not trigger and binding["type"] != "http"]
    if other:
        raise HostError(f"function {name}: this host has no binding {other[0]}")
    return Function(
        name=name,
        id=id,
        kind=trigger["type"],
        parameter=trigger["name"],
        trigger=trigger,
        bindings=bindings,
        disabled=disabled(name),
    )
