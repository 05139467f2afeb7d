"""Jobs that export or erase a phone number: requested over HTTP, run from a queue, with a receipt."""

from __future__ import annotations

import json
import logging
import re
import secrets
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Literal

from shared import audit
from shared.bridge import Bridge
from shared.errors import Invalid, NotFound
from shared.media.blobs import Part, part_of
from shared.privacy.export import export
from shared.privacy.holdings import EXPORTS, Spellings, erase
from shared.storage import rows
from shared.storage.account import Storage
from shared.storage.messages import STORAGE, decide, send
from shared.storage.rows import Allowance, Period, expire_rows
from shared.times import iso, now, parse_time
from shared.values import parse_body

Kind = Literal["export", "erase"]
Message = Mapping[str, Any]

logger = logging.getLogger(__name__)

TABLE = "privacy"
PARTITION = "job"
QUEUE = "privacy"
KEEP_EXPORTS = timedelta(days=7)
# By the second look, work that was under way has ended, and every process knows the tombstone.
_PAUSE_SECONDS, _FEWEST_LOOKS, _MOST_LOOKS = 10, 2, 20
_ID = re.compile(r"(?:export|erase)-[0-9a-f]{24}")
_OUT_OF_REACH = (
    "months that were exported as files, runs of flows and what subscribers were sent, backups outside the account, "
    "and the PBX itself"
)
_LISTED = "The PBX still lists it among contacts or other lists: delete it there, and the next poll removes it here."


def ask(bridge: Bridge, kind: Kind, body: bytes, *, who: str = audit.MASTER_KEY) -> str:
    """Queue a job for the `number` in a JSON body, and return its id; raises Refused and StorageUnavailable."""
    request = parse_body(body)
    if not isinstance(request, dict) or request.keys() != {"number"} or not isinstance(request["number"], str):
        raise Invalid({"number": "a phone number is expected, and nothing else"})
    number = Spellings(request["number"], bridge.settings.default_region).number
    id, moment = f"{kind}-{secrets.token_hex(12)}", now()
    _save(bridge.storage, id, "queued", created=moment)
    audit.record(bridge.storage, who=who, what=f"{kind} a number", count=1, result="queued", note=id)
    send(bridge.storage, QUEUE, {"id": id, "kind": kind, "number": number, "at": iso(moment)}, name=id)
    return id


def state(storage: Storage, id: str) -> dict[str, Any]:
    """Return a job's state, and its receipt with an export's `file` until that is deleted; raises NotFound."""
    row = rows.get(storage.table(TABLE), PARTITION, id) if _ID.fullmatch(id) else None
    if row is None:
        raise NotFound("no such job")
    receipt = json.loads(row.get("receipt") or "{}")
    if "file" in receipt and not storage.container(EXPORTS).get_blob_client(f"{id}.zip").exists():
        del receipt["file"], receipt["until"]
    return {"id": id, "kind": id.partition("-")[0], "state": row["state"], "created": iso(row["created"]), **receipt}


def read_file(storage: Storage, id: str, asked: str | None) -> Part:
    """Return an export's zip, or the Range in `asked`; raises NotFound, Refused, or StorageUnavailable."""
    name = f"{state(storage, id)['id']}.zip"
    part = part_of(storage, EXPORTS, name, asked)
    headers = {"Cache-Control": "no-store", "Content-Disposition": f'attachment; filename="{name}"'}
    return replace(part, content_type="application/zip", headers={**part.headers, **headers})


def run(bridge: Bridge, message: Message) -> None:
    """Run a job, or one look of an erasure; raises transient errors, while any other error fails the job."""
    id = str(message["id"])
    _save(bridge.storage, id, "running")
    try:
        if message["kind"] == "export":
            counts = export(bridge, id, message["number"])
            _finish(bridge, id, "done", counts, file=f"ops/people/{id}/file", until=iso(now() + KEEP_EXPORTS))
        else:
            _erase(bridge, id, message)
    except Exception as error:
        if decide(error).policy is STORAGE:
            raise
        logger.exception("job %s failed", id)
        _finish(bridge, id, "failed", {}, reason=f"{type(error).__name__}: the app's log has the details")


def _erase(bridge: Bridge, id: str, message: Message) -> None:
    looks, held = int(message.get("looks", 0)) + 1, set(message.get("held", ()))
    erased = erase(bridge, message["number"], parse_time(message["at"]), held)
    listed, days = erased.pop("listed", 0), max(erased.pop("softDeletedDays", 0), int(message.get("days", 0)))
    counts = Counter(message.get("counts") or {}) + erased
    # Until a look finds nothing more.
    if (erased or looks < _FEWEST_LOOKS) and looks < _MOST_LOOKS:
        again = {**message, "looks": looks, "held": sorted(held), "counts": counts, "days": days}
        send(bridge.storage, QUEUE, again, name=id, delay=_PAUSE_SECONDS)
        _save(bridge.storage, id, "running", receipt=json.dumps({"counts": counts}))
        return
    more: dict[str, Any] = {"outOfReach": _OUT_OF_REACH}
    if days:
        more["softDeletedUntil"] = iso(now() + timedelta(days=days))[:10]
    if listed:
        more |= {"listed": listed, "remaining": _LISTED}
    if held:
        kept = f"{len(held)} recordings are kept by an immutability policy or a legal hold of the storage account"
        more |= {"reason": f"{kept}: all else is erased. Erase again once it is lifted.", "kept": sorted(held)}
    _finish(bridge, id, "failed" if held else "done", counts, **more)


def _finish(bridge: Bridge, id: str, state: str, counts: Mapping[str, int], **more: Any) -> None:
    _save(bridge.storage, id, state, receipt=json.dumps({"finished": iso(now()), "counts": counts, **more}))
    what = f"{id.partition('-')[0]} a number"
    audit.record(bridge.storage, who="bridge", what=what, count=sum(counts.values()), result=state, note=id)
    logger.info("job %s is %s: %s", id, state, json.dumps(counts))


def _save(storage: Storage, id: str, state: str, **columns: Any) -> None:
    rows.merge(storage.table(TABLE), {"PartitionKey": PARTITION, "RowKey": id, "state": state, **columns})


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the receipts of jobs that were requested within a period."""
    return expire_rows(storage.table(TABLE), period.condition("created"), allowance)


def delete_old_exports(storage: Storage) -> int:
    """Delete exports that are over a week old, and return their count."""
    container, deleted = storage.container(EXPORTS), 0
    for blob in container.list_blobs():
        if blob.last_modified < now() - KEEP_EXPORTS:
            container.delete_blob(blob.name, delete_snapshots="include")
            deleted += 1
    return deleted
