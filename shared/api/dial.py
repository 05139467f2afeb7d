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
from uuid import uuid4

from shared.api.envelopes import passed_on
from shared.errors import (
    BridgeError,
    DialInProgress,
    DialUncertain,
    FieldError,
    Invalid,
    KeyReused,
    PbxNotUnderstood,
    PbxUnavailable,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.pbx.operations import operation
from shared.phones import e164
from shared.storage.account import reaching_storage
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from azure.data.tables import TableClient

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

TABLE = "dials"
OPERATION = "Dial"
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
_TRIES = 4

# What Logic Apps sends alike with every retry of one action, and differently with every action, run and
# repetition of a loop. Its x-ms-client-request-id is another one for each retry.
_RUN_HEADERS = ("x-ms-workflow-run-id", "x-ms-client-tracking-id")
_ACTION_HEADERS = ("x-ms-workflow-operation-name", "x-ms-action-tracking-id")

Answer = dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """One request for a call: the row it claims, how long a ring is remembered, and whom it is for (hashed)."""

    row: str
    keep: timedelta
    call: str


def request_of(headers: Mapping[str, str], destination: str, contact_id: int, region: str) -> Request:
    """
    What makes two requests the same one.

    The `Idempotency-Key`, for an hour; else the workflow's run and action that Logic Apps names, with the call,
    for an hour; else the call alone, for a minute. Raises Invalid for a key that is empty, too long or not ASCII.
    """
    call = _hash("call", e164(destination, region) or destination, str(contact_id))
    key = headers.get(KEY_HEADER)
    if key is not None:
        if not re.fullmatch(KEY_PATTERN, key):
            raise Invalid((FieldError(KEY_HEADER, "1 to 255 letters, digits and signs are expected"),))
        return Request(row=_hash("key", key), keep=KEEP, call=call)
    run = next((headers[name] for name in _RUN_HEADERS if headers.get(name)), None)
    if run is not None:
        action = [headers.get(name) or "" for name in _ACTION_HEADERS]
        return Request(row=_hash("run", run, *action, call), keep=KEEP, call=call)
    return Request(row=_hash("soon", call), keep=RETRY_WINDOW, call=call)


def _hash(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def dial(bridge: Bridge, values: Mapping[str, Any], headers: Mapping[str, str]) -> Answer:
    """
    Have the PBX ring the employee `contactID` and connect `destination`; returns the PBX's envelope.

    The request is claimed in table `dials` before the PBX is asked, so it rings at most once: a repeat gets the
    first one's answer. A PBX that said no, or that no
    connection was made to, did not ring and may be asked again. Raises DialUncertain where it is
    not known whether it rang (the PBX did not answer, or the process died), DialInProgress while another process
    is asking, KeyReused for a key that was used for another call, and what the PBX's client raises.
    """
    region = bridge.settings.default_region
    request = request_of(headers, values["destination"], values["contactID"], region)
    with _turn(request.row), reaching_storage():
        table = bridge.storage.table(TABLE)
        before = _claim(table, request)
        if before is not None:
            return before
        return _ring(table, request, lambda: bridge.pbx.envelope(OPERATION, lane="action", **values))


def _ring(table: TableClient, request: Request, ask: Callable[[], Mapping[str, Any]]) -> Answer:
    try:
        wrapper = ask()
        answer = passed_on(operation(OPERATION), wrapper, wrapper.get("data"))
    except BridgeError as error:
        if isinstance(error, (PbxUnavailable, PbxNotUnderstood)) and not isinstance(error, PbxUnreachable):
            _note(lambda: table.upsert_entity(_row(request, "uncertain", max(request.keep, UNCERTAIN_WINDOW))))
        else:
            _note(lambda: table.delete_entity(request.row[:2], request.row))
        raise
    _note(lambda: table.upsert_entity(_row(request, "rang", request.keep) | {"answer": json.dumps(answer)}))
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
    from azure.core import MatchConditions
    from azure.core.exceptions import ResourceExistsError, ResourceModifiedError, ResourceNotFoundError

    # A claim outlives its window: whoever dies while ringing leaves it behind.
    fresh = _row(request, "ringing", max(request.keep, UNCERTAIN_WINDOW)) | {"owner": uuid4().hex}
    for _ in range(_TRIES):
        try:
            table.create_entity(fresh)
            return None
        except ResourceExistsError:
            logger.debug("this dial was asked for before")
        try:
            row = table.get_entity(request.row[:2], request.row)
            # The SDK may have sent the claim twice, and the first one got through.
            if row.get("owner") == fresh["owner"]:
                return None
            if row["until"] > now():
                return _outcome(row, request)
            etag = row.metadata["etag"]
            table.update_entity(fresh, etag=etag, match_condition=MatchConditions.IfNotModified)
            return None
        except (ResourceModifiedError, ResourceNotFoundError):
            continue
    raise DialInProgress("others are asking for this call")


def _outcome(row: Mapping[str, Any], request: Request) -> Answer:
    if row["call"] != request.call:
        raise KeyReused("the key was used for another call")
    if row["state"] == "rang":
        answer: Answer = json.loads(row["answer"])
        return answer
    since: datetime = row["since"]
    if row["state"] == "ringing" and now() - since < _RINGING:
        raise DialInProgress("another process is asking for this call")
    raise DialUncertain("it is not known whether the call rang")


_turns: dict[str, tuple[Lock, int]] = {}
_turns_lock = Lock()


@contextmanager
def _turn(row: str) -> Iterator[None]:
    """Let the threads of this process ask for the same call one after another."""
    with _turns_lock:
        lock, waiting = _turns.get(row, (Lock(), 0))
        _turns[row] = (lock, waiting + 1)
    held = lock.acquire(timeout=_TURN_SECONDS)
    try:
        if not held:
            raise DialInProgress("another thread is asking for this call")
        yield
    finally:
        if held:
            lock.release()
        with _turns_lock:
            lock, waiting = _turns[row]
            if waiting > 1:
                _turns[row] = (lock, waiting - 1)
            else:
                del _turns[row]
