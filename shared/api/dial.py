"""Dialling once: a call that rang, or may have rung, is not rung again for the same request."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from threading import Lock
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from shared.api.tolls import PARTITION as LIMIT
from shared.api.tolls import TollRules
from shared.errors import (
    BridgeError,
    DialInProgress,
    DialUncertain,
    Invalid,
    KeyReused,
    PbxNotUnderstood,
    PbxUnavailable,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.phones import e164
from shared.storage import rows
from shared.storage.account import reaching_storage
from shared.storage.expiry import expire_rows
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from azure.data.tables import TableClient

    from shared.bridge import Bridge
    from shared.pbx.operations import Operation
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period

logger = logging.getLogger(__name__)

TABLE = "dials"
KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"
KEEP = timedelta(hours=1)
# Without a key and without a workflow's run, the same call asked for again this soon is a retry.
RETRY_WINDOW = timedelta(seconds=60)
# Four retries, each after two minutes of waiting and 45 s of rest, fit into this.
UNCERTAIN_WINDOW = timedelta(minutes=15)
# A claim this old without an outcome belongs to a process that is gone.
_RINGING = timedelta(seconds=90)
_TURN_SECONDS = 20

# What Logic Apps sends alike with every retry of one action, and differently with every action, run and
# repetition of a loop. Its x-ms-client-request-id is another one for each retry.
_RUN_HEADERS = ("x-ms-workflow-run-id", "x-ms-client-tracking-id")
_ACTION_HEADERS = ("x-ms-workflow-operation-name", "x-ms-action-tracking-id")

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request for a call: the row it claims, how long a ring is remembered, and what is asked for (hashed)."""

    row: str
    keep: timedelta
    call: str


def request_of(row: Operation, values: Mapping[str, Any], headers: Mapping[str, str], region: str) -> Request:
    """
    What makes two requests the same one.

    The `Idempotency-Key`, for an hour; else the workflow's run and action that Logic Apps names, with the call,
    for an hour; else the call alone, for a minute. Raises Invalid for a key that is empty, too long or not ASCII.
    """
    # A number is the same one however it is spelled.
    asked = {name: e164(value, region) or value if isinstance(value, str) else value for name, value in values.items()}
    call = _hash("call", row.id, json.dumps(asked, sort_keys=True))
    key = headers.get(KEY_HEADER)
    if key is not None:
        if not re.fullmatch(KEY_PATTERN, key):
            raise Invalid({KEY_HEADER: "1 to 255 letters, digits and signs are expected"})
        return Request(row=_hash("key", key), keep=KEEP, call=call)
    run = next((headers[name] for name in _RUN_HEADERS if headers.get(name)), None)
    if run is not None:
        action = [headers.get(name) or "" for name in _ACTION_HEADERS]
        return Request(row=_hash("run", run, *action, call), keep=KEEP, call=call)
    return Request(row=_hash("soon", call), keep=RETRY_WINDOW, call=call)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def dial(
    bridge: Bridge,
    row: Operation,
    values: Mapping[str, Any],
    headers: Mapping[str, str],
    ask: Callable[[], Answer],
) -> Answer:
    """
    Have the PBX make the call that a command asks for, by `ask`; returns the PBX's envelope.

    The numbers have to be ones that may be called. The request is claimed in table `dials` before the PBX is asked, so
    it rings at most once: a repeat gets the first one's answer. A PBX that said no, or that no connection was made to,
    did not ring and may be asked again. Raises Invalid for a number that may not be called, DialLimit, DialUncertain
    where the PBX did not say whether it rang (or the process died), DialInProgress while another process is asking,
    KeyReused for a key that was used for another call, and what the PBX's client raises.
    """
    table = bridge.storage.table(TABLE)
    rules = TollRules(table, bridge.settings, keep=KEEP)
    request = request_of(row, values, headers, bridge.settings.default_region)
    rules.check(row, values)
    with _turn(request.row), reaching_storage():
        before = _claim(table, request)
        return _ring(table, request, rules, ask) if before is None else before


def _ring(table: TableClient, request: Request, rules: TollRules, ask: Callable[[], Answer]) -> Answer:
    try:
        rules.count()
        answer = ask()
    except BridgeError as error:
        if isinstance(error, (PbxUnavailable, PbxNotUnderstood)) and not isinstance(error, PbxUnreachable):
            _note(lambda: rows.put(table, _row(request, "uncertain", max(request.keep, UNCERTAIN_WINDOW))))
        else:
            _note(rules.give_back)
            _note(lambda: rows.delete(table, request.row[:2], request.row))
        raise
    _note(lambda: rows.put(table, _row(request, "rang", request.keep) | {"answer": json.dumps(answer)}))
    return answer


def _note(write: Callable[[], Any]) -> None:
    """Write the outcome down; where that fails the claim stays and nothing rings twice."""
    try:
        with reaching_storage():
            write()
    except StorageUnavailable:
        logger.warning("a dial's outcome could not be kept; its claim stays", exc_info=True)


def _row(request: Request, state: str, keep: timedelta) -> dict[str, Any]:
    moment = now()
    keys = {"PartitionKey": request.row[:2], "RowKey": request.row}
    return keys | {"call": request.call, "state": state, "since": moment, "until": moment + keep}


def _claim(table: TableClient, request: Request) -> Answer | None:
    """Claim the request; None when it is ours to ring, or the answer that it got before."""
    # A claim outlives its window: whoever dies while ringing leaves it behind.
    fresh = _row(request, "ringing", max(request.keep, UNCERTAIN_WINDOW))
    if rows.insert(table, fresh):
        return None
    before: Answer | None = None

    def renew(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        nonlocal before
        if row is None or row["until"] <= now():
            return fresh
        before = _outcome(row, request)
        return None

    rows.change(table, request.row[:2], request.row, renew)
    return before


def _outcome(row: Mapping[str, Any], request: Request) -> Answer:
    if row["call"] != request.call:
        raise KeyReused("the key was used for another call")
    if row["state"] == "rang":
        return dict(json.loads(row["answer"]))
    if row["state"] == "ringing" and now() - row["since"] < _RINGING:
        raise DialInProgress("another process is asking for this call")
    raise DialUncertain("the PBX did not say whether the call rang")


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete the claims that no repeat needs any more and that were made for calls within a period."""
    query = f"PartitionKey ne '{LIMIT}' and {period.condition('until')}"
    return expire_rows(storage.table(TABLE), query, allowance)


_turns: WeakValueDictionary[str, Lock] = WeakValueDictionary()
_turns_lock = Lock()


@contextmanager
def _turn(row: str) -> Iterator[None]:
    """Let the threads of this process ask for the same call one after another."""
    with _turns_lock:
        lock = _turns.setdefault(row, Lock())
    if not lock.acquire(timeout=_TURN_SECONDS):
        raise DialInProgress("another thread is asking for this call")
    try:
        yield
    finally:
        lock.release()
