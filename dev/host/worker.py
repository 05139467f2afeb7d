"""Index and invoke the functions of an app with Microsoft's worker library."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
import uuid
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import azure_functions_runtime as library
from azure_functions_runtime import handle_event, loader
from azure_functions_runtime.native_invocation import invocation_request_native

from dev.host.settings import HostError, disabled

if TYPE_CHECKING:
    from azure_functions_runtime.bindings.datumdef import Datum

_TRIGGERS = ("httpTrigger", "queueTrigger", "timerTrigger")
# The part of the worker's protocol that indexing needs: the directions of bindings.
_PROTOCOL = SimpleNamespace(BindingInfo=SimpleNamespace(out=1, inout=2, undefined=0))


@dataclass(frozen=True, kw_only=True, slots=True)
class Function:
    """An indexed function; `bindings` include the trigger."""

    name: str
    trigger: Mapping[str, Any]
    bindings: tuple[Mapping[str, Any], ...]
    disabled: bool


class Worker:
    """Runs the functions of one app folder, sync ones in the library's thread pool.

    `executed` counts the runs by function; `running` has the function's name by invocation id.
    """

    def __init__(self) -> None:
        self.functions: tuple[Function, ...] = ()
        self.executed: Counter[str] = Counter()
        self.running: dict[str, str] = {}
        self._ids: dict[str, str] = {}

    def load(self, directory: Path, only: Collection[str] = ()) -> None:
        """Import and index the app, and keep all functions or those in `only`; HostError if that fails."""
        os.environ.setdefault("PYTHON_THREADPOOL_THREAD_COUNT", "64")
        sys.path.insert(0, str(directory))
        os.chdir(directory)
        library.start_threadpool_executor()
        handle_event.load_binding_registry()
        wanted = {name.lower() for name in only}
        # HostError has the traceback that the library would log.
        logging.getLogger("azure.functions").disabled = True
        try:
            indexed = loader.index_function_app(str(directory / "function_app.py"))
            chosen = [function for function in indexed if not wanted or function.get_function_name().lower() in wanted]
            for function in chosen:
                info = handle_event._functions.add_indexed_function(function, _PROTOCOL)
                self._ids[info.name] = info.function_id
        except Exception as error:  # noqa: BLE001 - an app may raise anything while it is imported
            # The library wraps an import error in another one that only adds advice.
            trace = "".join(traceback.format_exception(error.__context__ or error, chain=False))
            raise HostError(f"the app cannot be indexed:\n{trace}") from None
        logging.getLogger("azure.functions").disabled = False
        self.functions = tuple(map(described, chosen))
        if unknown := wanted - {function.name.lower() for function in self.functions}:
            raise HostError(f"the app has no function {', '.join(sorted(unknown))}")

    def current(self) -> str:
        """Return the name of the function that the current thread or task runs, or an empty text."""
        return self.running.get(library.invocation_id_cv.get() or "", "")

    async def invoke(self, function: Function, data: Datum, metadata: Mapping[str, Datum]) -> tuple[bool, Datum | None]:
        """Run a function with `data` as its trigger input; return True and its return value.

        The library logs an exception of the function; the result is then False.
        """
        invocation, id = str(uuid.uuid4()), self._ids[function.name]
        self.running[invocation] = function.name
        self.executed[function.name] += 1
        token = library.invocation_id_cv.set(invocation)
        try:
            inputs = [(function.trigger["name"], data)]
            succeeded, returned, *_ = await invocation_request_native(invocation, id, inputs, metadata)
        finally:
            library.invocation_id_cv.reset(token)
            del self.running[invocation]
        return succeeded, returned


def described(indexed: Any) -> Function:
    """Return the description of a function of a FunctionApp; HostError for a trigger that this host lacks."""
    name = indexed.get_function_name()
    bindings = tuple(json.loads(text) for text in indexed.get_raw_bindings())
    trigger = next((binding for binding in bindings if binding["type"] in _TRIGGERS), None)
    if trigger is None:
        raise HostError(f"function {name}: this host has no {bindings[0]['type']}")
    return Function(name=name, trigger=trigger, bindings=bindings, disabled=disabled(name))
