"""The functions of an app: indexed and invoked by Microsoft's worker library."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as library

from dev.host import protos
from dev.host.errors import HostError
from dev.host.settings import disabled

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

logger = logging.getLogger(__name__)

_THREADS = "PYTHON_THREADPOOL_THREAD_COUNT"
_LOCAL_THREADS = 16
TRIGGERS = ("httpTrigger", "queueTrigger", "timerTrigger")
_current: ContextVar[str] = ContextVar("function", default="")


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """An indexed function and its trigger's binding, as the worker gave them."""

    name: str
    id: str
    kind: str
    parameter: str
    trigger: Mapping[str, Any]
    bindings: tuple[Mapping[str, Any], ...]
    disabled: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """How an invocation ended, and what the function returned."""

    succeeded: bool
    returned: protos.TypedData | None = None


@contextmanager
def _silenced(log: logging.Logger) -> Iterator[None]:
    # What it says about a failure is in the answer, which is printed once.
    log.disabled = True
    try:
        yield
    finally:
        log.disabled = False


class Worker:
    """Runs the functions of one app directory; sync functions in the library's thread pool."""

    def __init__(self) -> None:
        self.functions: tuple[Function, ...] = ()
        self._running: dict[str, str] = {}
        self.executed: Counter[str] = Counter()

    async def load(self, directory: Path, only: Iterable[str] = ()) -> None:
        """Import and index the app; HostError with the real error's text when that fails."""
        os.environ.setdefault(_THREADS, str(_LOCAL_THREADS))
        sys.path.insert(0, str(directory))
        os.chdir(directory)
        library.start_threadpool_executor()
        init = protos.Message(capabilities={}, function_app_directory=str(directory))
        request = protos.Message(
            request=protos.Message(worker_init_request=init), properties={"host": "127.0.0.1", "protos": protos}
        )
        with _silenced(logging.getLogger("azure.functions")):
            response = await library.worker_init_request(request)
        if response.result.status != protos.StatusResult.Success:
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
        """How many invocations have not ended."""
        return len(self._running)

    def function_of(self) -> str:
        """The name of the function that the caller's thread or task runs, or an empty text."""
        name = _current.get()
        return name or self._running.get(library.invocation_id_cv.get() or "", "")

    async def invoke(
        self, function: Function, data: protos.TypedData, metadata: Mapping[str, protos.TypedData]
    ) -> Outcome:
        """Call the function once with `data` for its trigger's parameter; its exception is logged, never raised."""
        invocation = str(uuid.uuid4())
        call = protos.InvocationRequest(
            invocation_id=invocation,
            function_id=function.id,
            input_data=(protos.ParameterBinding(name=function.parameter, data=data),),
            trigger_metadata=metadata,
        )
        self._running[invocation] = function.name
        self.executed[function.name] += 1
        token = _current.set(function.name)
        started = time.perf_counter()
        try:
            response = await library.invocation_request(
                protos.Message(request=protos.Message(invocation_request=call), properties={})
            )
        finally:
            _current.reset(token)
            del self._running[invocation]
        succeeded = response.result.status == protos.StatusResult.Success
        logger.debug(
            "Executed %s (%s, id=%s, %d ms)",
            function.name,
            "succeeded" if succeeded else "failed",
            invocation,
            (time.perf_counter() - started) * 1000,
        )
        if not succeeded:
            problem = response.result.exception
            logger.error("Executed %s (failed): %s\n%s", function.name, problem.message, problem.stack_trace.rstrip())
            return Outcome(succeeded=False)
        return Outcome(succeeded=True, returned=response.return_value)


def _indexing_failure(problem: protos.RpcException) -> str:
    # The library wraps an import error in a second one that has only advice to add.
    trace = problem.stack_trace.split("\n\nDuring handling of the above")[0].rstrip()
    reason = trace.rsplit("\n", 1)[-1] if trace else problem.message
    return f"the app cannot be indexed: {reason}\n{trace}".rstrip()


def functions_of(app: Any) -> tuple[Function, ...]:
    """The functions of an `azure.functions.FunctionApp` that is not run; it can be asked once only."""
    return tuple(
        _function(function.get_function_name(), function.get_function_name(), function.get_raw_bindings())
        for function in app.get_functions()
    )


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
