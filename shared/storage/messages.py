"""
Messages on our queues, bodies in blobs, and messages that fail: they are put back, or become dead letters.

A message is a JSON object in ASCII, and a pointer to a blob where it is too long to travel.

| Field | Content |
|---|---|
| `sent` | when it was first sent, as ISO 8601 |
| `mark` | its own token, kept when it is put back: a row with this token is the message's work |
| `begun` | true once it has been worked on: the work may be half done |
| `tries` | how often it was put back, by the reason (see Policy) |
| `payload` | the blob that holds the rest, in place of all other fields |
"""

from __future__ import annotations

import json
import logging
import random
import re
import secrets
import socket
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from http.client import HTTPException
from itertools import islice
from pathlib import Path
from traceback import walk_tb
from typing import TYPE_CHECKING, Any, NamedTuple

from shared import errors
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.rows import Allowance, Period, Row
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from azure.data.tables import TableEntity
    from azure.storage.blob import BlobClient, ContainerClient

# A queue takes 64 KiB.
LONGEST_MESSAGE = 63 * 1024
# Longer bodies do not fit a table's row beside its other columns.
LONGEST_IN_ROW = 32 * 1024
PAYLOADS = "payloads"
DEAD_LETTERS = "deadletters"
_POINTER = "payload"
_OUTSIDE = ("sent", "mark", "begun", "tries")
# Fields of a message with data about a person.
_PERSONAL = frozenset({"body", "record"})
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,199}")
# Queues speak XML: plain ASCII has nothing in it that XML refuses, not even half a character.
_spell = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

# The time for which a failed message is put back, and the part by which waits may be shorter, so that they spread.
LONGEST = timedelta(days=14)
JITTER = 0.2
_ROOT = Path(__file__).resolve().parents[2]
# Statuses of the SDK's errors that pass: a lost race, or None for an answer that broke off.
_PASSING = (409, 412, None)

logger = logging.getLogger(__name__)


def send(storage: Storage, queue: str, message: Mapping[str, Any], *, name: str, delay: int = 0) -> None:
    """
    Put a message on a queue, to be seen after `delay` seconds; it never expires. Raises StorageUnavailable.

    A message over 63 KiB becomes a pointer to a blob `{queue}/{name}-{mark}`. So does a delayed message about a person,
    since waiting messages cannot be searched. If the queue's answer is lost, the message may be queued twice with one
    mark.
    """
    whole = {"sent": iso(now()), "mark": secrets.token_hex(8), **message}
    text = _spell(whole)
    # XML escapes these.
    length = len(text) + 4 * text.count("&") + 3 * (text.count("<") + text.count(">"))
    if length > LONGEST_MESSAGE or (delay and not _PERSONAL.isdisjoint(whole)):
        pointer = {_POINTER: put_payload(storage, f"{queue}/{name}-{whole['mark']}", text.encode())}
        text = _spell({field: whole[field] for field in _OUTSIDE if field in whole} | pointer)
    storage.queue(queue).send_message(text, visibility_timeout=delay or None, time_to_live=-1)


def read(storage: Storage, body: bytes) -> dict[str, Any]:
    """Return the whole message in a queue's body; raise Unprocessable for anything else."""
    return fetch(storage, parse(body))


def fetch(storage: Storage, message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole message, with the payload that it points to; raise Unprocessable if that is gone."""
    whole = dict(message)
    if _POINTER in message:
        whole = {**parse(get_payload(storage, str(whole.pop(_POINTER)))), **whole}
    return whole


def parse(body: bytes) -> dict[str, Any]:
    """Return the object in a body, a pointer as it is; raise Unprocessable for anything else."""
    try:
        message = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise errors.Unprocessable("the message is not JSON") from error
    if not isinstance(message, dict):
        raise errors.Unprocessable("the message is not an object")
    return message


def delete_payload(storage: Storage, message: Mapping[str, Any]) -> None:
    """Delete the blob that a message points to, once its work is done."""
    if _POINTER in message:
        delete_versions(storage.container(PAYLOADS), str(message[_POINTER]))


def put_payload(storage: Storage, name: str, body: bytes, *, first: bool = False) -> str:
    """Store a long body as a blob of container `payloads` and return its name; `first` keeps a blob that exists."""
    from azure.core.exceptions import ResourceExistsError

    # Raised with `first` only.
    with suppress(ResourceExistsError):
        storage.container(PAYLOADS).upload_blob(name, body, overwrite=not first)
    return name


def get_payload(storage: Storage, name: str) -> bytes:
    """Return the body that put_payload stored; raise Unprocessable if it is gone, or was never there."""
    from azure.core.exceptions import ResourceNotFoundError

    if not all(map(is_name, name.split("/"))):
        raise errors.Unprocessable("the message points to no payload")
    try:
        return read_blob(storage.container(PAYLOADS).get_blob_client(name))
    except ResourceNotFoundError as error:
        raise PayloadGone("the message points to a payload that is gone") from error


class PayloadGone(errors.Unprocessable):
    """The blob that a message or a row points to is deleted."""


def is_name(value: Any) -> bool:
    """Return True if a value from a message can name a row or a blob."""
    return isinstance(value, str) and _NAME.fullmatch(value) is not None


def read_blob(blob: BlobClient, offset: int | None = None, length: int | None = None) -> bytes:
    """Return the bytes of a blob, or of a part of it; raises the SDK's ResourceNotFoundError."""
    from azure.core.exceptions import AzureError, ResourceNotFoundError

    try:
        return blob.download_blob(offset, length).readall()
    except ResourceNotFoundError:
        raise
    except AzureError as error:
        # The body is read outside of the transport, which raises StorageUnavailable for all else.
        raise errors.StorageUnavailable("a blob broke off") from error


def delete_versions(container: ContainerClient, stem: str) -> int:
    """Delete the blobs whose names begin with a stem, and all their versions; return the number of both."""
    deleted = 0
    # A deleted blob becomes a version, and only then can it be deleted by its version's id.
    for blob in container.list_blobs(name_starts_with=stem):
        container.delete_blob(blob.name, delete_snapshots="include")
        deleted += 1
    for blob in container.list_blobs(name_starts_with=stem, include=["versions"]):
        if blob.version_id:
            container.delete_blob(blob.name, version_id=blob.version_id)
            deleted += not blob.is_current_version
    return deleted


class Crashed(Exception):
    """The queue has delivered the message several times, and no run of it has ended."""


@dataclass(frozen=True, slots=True)
class Policy:
    """A row: a reason to put a message back, and its waits in seconds; `for_days` repeats the last until LONGEST."""

    name: str
    waits: tuple[int, ...]
    for_days: bool = True

    def wait(self, tries: int) -> float:
        """Return the seconds before the next try, by the number of earlier tries."""
        return self.waits[min(tries, len(self.waits) - 1)] * random.uniform(1 - JITTER, 1)  # noqa: S311 - jitter


STORAGE = Policy("storage", (1, 2, 4, 8, 15, 30, 60))
BUDGET = Policy("budget", (5, 15, 60, 120, 300))
OTHERS = Policy("others", (5, 15, 60, 300, 900, 1800, 3600))
UNFORESEEN = Policy("unforeseen", (60, 300, 900, 2340), for_days=False)
# A queue's count of deliveries grows also while nothing can be put back, and with deliveries that never ran. So a
# message first gets a new count, and is given up only after several such counts without a run in between that ended.
CRASHES = Policy("crashes", (1, 60, 300), for_days=False)
# Of several errors the first of these counts.
_BY_WORTH = (STORAGE, BUDGET, OTHERS, UNFORESEEN, CRASHES, None)

_KINDS: tuple[tuple[Policy | None, tuple[type[Exception], ...]], ...] = (
    (None, (errors.Unprocessable, errors.Refused, errors.MediaRefused)),
    (STORAGE, (errors.StorageUnavailable, errors.Conflict)),
    (BUDGET, (errors.BudgetExhausted,)),
    (OTHERS, (errors.PbxRetriable, errors.PbxForbidden, errors.PbxNotUnderstood)),
    (OTHERS, (errors.MediaUnreachable, errors.ConfigError)),
    (OTHERS, (ConnectionError, TimeoutError, HTTPException, socket.gaierror, ssl.SSLError)),
    (CRASHES, (Crashed,)),
)


class Verdict(NamedTuple):
    """The policy to wait by, or None if another try is of no use; the reason; and the least seconds to wait."""

    policy: Policy | None
    reason: str
    least: float = 0.0


def handle_failure(
    storage: Storage, queue: str, message: Mapping[str, Any], error: BaseException, keep: Callable[[str, int], None]
) -> None:
    """
    Put a failed message back, or have `keep` make a dead letter of it, with a reason and its number of tries.

    If the dead letter cannot be kept, the message is put back too, unless it is empty because it could not be read.
    Raises StorageUnavailable if that fails as well: then the queue itself delivers the message again.
    """
    policy, reason, least = decide(error)
    if not message:
        keep(reason, 1)
        return
    counts = message.get("tries")
    tries = {name: n for name, n in counts.items() if isinstance(n, int)} if isinstance(counts, dict) else {}
    if policy is not CRASHES:
        # This run has ended, so earlier crashes no longer count.
        tries.pop(CRASHES.name, None)
    total = sum(tries.values()) + 1
    if policy is None or _is_over(policy, tries, message.get("sent")):
        try:
            keep(f"for {LONGEST.days} days: {reason}" if policy and policy.for_days else reason, total)
            return
        except errors.StorageUnavailable:
            policy = STORAGE
    before = tries.get(policy.name, 0)
    delay = max(1, round(max(policy.wait(before), least)))
    again = {**message, "begun": True, "tries": tries | {policy.name: before + 1}}
    send(storage, queue, again, name="again", delay=delay)
    logger.info("a message of queue %s is tried again in %d s, try %d: %s", queue, delay, total, reason)


def decide(error: BaseException) -> Verdict:
    """
    Return the verdict on an error, or on the error of a group that is most worth waiting for.

    `reason` contains no value: it is the text of an error of ours, or another error's type and place.
    """
    if isinstance(error, BaseExceptionGroup):
        return min(map(decide, error.exceptions), key=lambda verdict: _BY_WORTH.index(verdict.policy))
    policy = _policy(error)
    if policy is None or policy is CRASHES:
        return Verdict(policy, str(error) or type(error).__name__)
    if policy is UNFORESEEN:
        return Verdict(policy, f"{type(error).__name__} at {line_of(error)}")
    asked = 0 if policy is STORAGE else getattr(error, "retry_after", None) or 0
    return Verdict(policy, type(error).__name__, float(min(asked, policy.waits[-1])))


def _policy(error: BaseException) -> Policy | None:
    import requests
    import urllib3
    from azure.core.exceptions import AzureError

    for policy, kinds in _KINDS:
        if isinstance(error, kinds):
            return policy
    if isinstance(error, AzureError):
        return STORAGE if getattr(error, "status_code", None) in _PASSING else UNFORESEEN
    theirs = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return OTHERS if isinstance(error, (*theirs, urllib3.exceptions.HTTPError)) else UNFORESEEN


def line_of(error: BaseException) -> str:
    """Return the last file and line of our own code in an error's traceback."""
    for frame, line in reversed(list(walk_tb(error.__traceback__))):
        file = Path(frame.f_code.co_filename)
        if file.is_relative_to(_ROOT) and not {"site-packages", ".venv"} & set(file.parts):
            return f"{file.relative_to(_ROOT).as_posix()}:{line}"
    return "an unknown place"


def _is_over(policy: Policy, tries: dict[str, int], sent: Any) -> bool:
    if not policy.for_days:
        return tries.get(policy.name, 0) >= len(policy.waits)
    try:
        return now() - parse_time(sent) > LONGEST
    except (ValueError, AttributeError):
        return False


def dead_letter(storage: Storage, *, kind: str, id: str, reason: str, body: bytes, attempts: int = 1) -> None:
    """
    Keep a body that could not be used: one row for each (kind, id), with reason, attempts, first and last time.

    `id` names the work, so that two pieces of work never share a row. The body is in the row, or in a blob of
    container `payloads` where it is over 32 KiB or no UTF-8. Another dead letter of the same work adds its
    attempts and keeps the first time. Raises StorageUnavailable.
    """
    moment = now()
    columns: dict[str, Any] = {"kind": kind, "id": id, "reason": reason, "last": moment, "size": len(body)}
    text = body.decode(errors="replace")
    if len(body) > LONGEST_IN_ROW or text.encode() != body:
        columns["payload"] = put_payload(storage, f"{DEAD_LETTERS}/{kind}/{id}", body)
    else:
        columns["body"] = text

    def added(before: Row | None) -> Mapping[str, Any]:
        earlier: Mapping[str, Any] = before or {"first": moment, "attempts": 0}
        return {**columns, "first": earlier["first"], "attempts": earlier["attempts"] + attempts}

    rows.change(storage.table(DEAD_LETTERS), kind, id, added)
    logger.warning("signal dead_letter kind=%s id=%s reason=%s attempts=%d", kind, id, reason, attempts)


def dead_letters(
    storage: Storage, *, kind: str | None = None, id: str | None = None, start: str = "", limit: int
) -> list[TableEntity]:
    """Return the rows of dead letters of a kind and id, or of any; at most `limit`, from `start` (a kind/id) on."""
    conditions = ["PartitionKey ne ''"]
    if kind is not None:
        conditions.append("PartitionKey eq @kind")
    if id is not None:
        conditions.append("RowKey eq @id")
    if start:
        # The SDK recognises a parameter by the blanks around it.
        conditions.append("( PartitionKey gt @first or PartitionKey eq @first and RowKey ge @rest )")
    first, _, rest = start.partition("/")
    values = {"kind": kind or "", "id": id or "", "first": first, "rest": rest}
    table = storage.table(DEAD_LETTERS)
    found = table.query_entities(" and ".join(conditions), parameters=values, results_per_page=limit)
    return list(islice(found, limit))


def remove_dead_letter(storage: Storage, dead: TableEntity) -> None:
    """Delete a dead letter, unless it has been added to since it was listed."""
    rows.delete(storage.table(DEAD_LETTERS), dead["PartitionKey"], dead["RowKey"], etag=dead.metadata["etag"])


def count_dead_letters(storage: Storage, limit: int) -> Counter[str]:
    """Return the number of dead letters of each kind, among the first `limit`."""
    found = storage.table(DEAD_LETTERS).list_entities(select=["PartitionKey"])
    return Counter(row["PartitionKey"] for row in islice(found, limit))


def expire_dead_letters(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the dead letters that were last added to within a period."""
    return rows.expire_rows(storage.table(DEAD_LETTERS), period.condition("last"), allowance)
