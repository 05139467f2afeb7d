"""Messages that their queue could not take: kept as blobs of container `payloads`, and queued once it can."""

from __future__ import annotations

import logging
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared.errors import StorageUnavailable, Unprocessable
from shared.json_bodies import encode
from shared.storage.account import QUEUES, reaching_storage
from shared.storage.dead_letters import dead_letter
from shared.storage.deadline import within
from shared.storage.messages import PAYLOADS, new_message, parse, put_payload, send
from shared.times import now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.storage.account import Storage

logger = logging.getLogger(__name__)

PREFIX = "waiting"
# Whoever sends an event waits for the answer: the queue's share of five seconds, and that of the blob.
_QUEUE_SECONDS, _BLOB_SECONDS = 2.2, 1.4
# A run ends before the next one begins; many more than a queue takes in that time are not looked at.
_RUN_SECONDS = 45.0
_PART, _WORKERS = 64, 8


def send_or_keep(storage: Storage, queue: str, message: Mapping[str, Any], *, name: str) -> None:
    """
    Put a message on a queue, or keep it until `queue_waiting` does; raises StorageUnavailable where neither works.

    Takes five seconds at most, however storage fails. A message whose answer got lost is there twice.
    """
    whole = new_message(message)
    # Loading the SDK may take as long on a cold start, and is no sign of an outage.
    storage.queue(queue)
    try:
        with within(_QUEUE_SECONDS):
            send(storage, queue, whole, name=name)
    except StorageUnavailable:
        # Names sort by time, so that the oldest is queued first.
        blob = f"{PREFIX}/{queue}/{now():%Y%m%dT%H%M%S%f}-{name}"
        with within(_BLOB_SECONDS), reaching_storage():
            put_payload(storage, blob, encode(whole))
        logger.warning("signal queue_unavailable queue=%s: a message waits in container %s", queue, PAYLOADS)


def queue_waiting(storage: Storage) -> int:
    """
    Queue what waits, the oldest first, and count it; ends quietly where the queue is still out of reach.

    Each message is on its queue before its blob is deleted: dying in between, or running twice, leaves a repeat.
    """
    until, queued = time.monotonic() + _RUN_SECONDS, 0
    try:
        with reaching_storage(), ThreadPoolExecutor(_WORKERS) as pool:
            names = storage.container(PAYLOADS).list_blob_names(name_starts_with=f"{PREFIX}/")
            while time.monotonic() < until and (part := list(islice(names, _PART))):
                queued += sum(pool.map(partial(_queue, storage), part))
    except StorageUnavailable:
        logger.info("what waits for a queue goes on waiting")
    return queued


def _queue(storage: Storage, blob: str) -> bool:
    from azure.core.exceptions import ResourceNotFoundError

    container, queue = storage.container(PAYLOADS), blob.split("/")[1]
    try:
        body = container.download_blob(blob).readall()
    except ResourceNotFoundError:
        return False
    name = blob.rpartition("/")[2]
    try:
        if queue not in QUEUES:
            raise Unprocessable("not a queue of the app")
        send(storage, queue, parse(body), name=name)
    except Unprocessable as error:
        dead_letter(storage, kind=PREFIX, id=name, reason=str(error), body=body)
    # Gone already where the answer to a delete was lost, or another run was faster.
    with suppress(ResourceNotFoundError):
        container.delete_blob(blob)
    return True
