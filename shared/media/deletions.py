"""Marks or deletes our copies of media deleted at the PBX, whichever of copy and deletion comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.storage.messages import delete_versions
from shared.storage.rows import expire_rows
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from shared.media.blobs import Media
    from shared.storage.account import Storage
    from shared.storage.rows import Allowance, Period

# One row a voicemail, and none a recording: the name of its blob, and when we heard that the PBX has deleted it.
TABLE = "media"
_DELETED = "deletedAtPbx"
_INFERRED = "inferred"
# An inferred deletion never deletes audio.
REPORTED, INFERRED = "reported", "inferred"
# A filter has fifteen comparisons at most, three of them for the range.
_IN_FILTER = 12


def note_copy(storage: Storage, media: Media, id: int, blob: str) -> None:
    """Store the name of a coming copy: once it is deleted at the PBX, nothing else has its date."""
    row = {"PartitionKey": media.name, "RowKey": rows.row_key(id), "at": now(), "blob": blob}
    # Merged by the service, so that a deletion at the same time keeps its columns.
    rows.merge(storage.table(TABLE), row)


def state(storage: Storage, media: Media, id: int) -> str:
    """Return REPORTED where the PBX itself said that it has deleted this one, INFERRED where lists did, else ""."""
    row = _row(storage, media, id)
    return (INFERRED if row.get(_INFERRED) else REPORTED) if _DELETED in row else ""


def withdraw(storage: Storage, media: Media, id: int, *, when: str, delete: bool, inferred: bool = False) -> None:
    """
    Store that the PBX has deleted this one, then mark our copies in their metadata, or delete them.

    The row comes first: a copier looks for it once the blob is there. A deletion `inferred` from lists only marks.
    """
    columns = {"at": now(), _DELETED: parse_time(when), _INFERRED: inferred}

    def deleted(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        # The PBX's own report, before or meanwhile, counts.
        return None if inferred and row and _DELETED in row else {**(row or {}), **columns}

    known = rows.change(storage.table(TABLE), media.name, rows.row_key(id), deleted) or _row(storage, media, id)
    if not (blob := known.get("blob")):
        return
    container, stem = storage.container(media.container), str(blob).rpartition(".")[0] + "."
    if delete and not inferred:
        delete_versions(container, stem)
        return
    for found in container.list_blobs(name_starts_with=stem, include=["metadata"]):
        metadata = found.metadata or {}
        if _DELETED not in metadata:
            container.get_blob_client(found.name).set_blob_metadata({**metadata, _DELETED: when})


def withdraw_copy(storage: Storage, media: Media, id: int, *, delete: bool) -> bool:
    """Withdraw a new copy of what the PBX has deleted meanwhile, and return True if the copy is deleted again."""
    row = _row(storage, media, id)
    if _DELETED not in row:
        return False
    inferred = bool(row.get(_INFERRED))
    withdraw(storage, media, id, when=iso(row[_DELETED]), delete=delete, inferred=inferred)
    return delete and not inferred


def expire(storage: Storage, period: Period, allowance: Allowance) -> int:
    """Delete the rows of a period; the audio itself goes by the rules of its account."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)


def _row(storage: Storage, media: Media, id: int) -> Mapping[str, Any]:
    found = rows.get(storage.table(TABLE), media.name, rows.row_key(id)) if media.deletable else None
    return found or {}


def copies(storage: Storage, media: Media, ids: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Return what is known of copies by id: `blob` once one is on its way, `deletedAtPbx` once the PBX deleted it."""
    found: dict[int, Mapping[str, Any]] = {}
    for start in range(0, len(ids), _IN_FILTER):
        keys = sorted(map(rows.row_key, ids[start : start + _IN_FILTER]))
        chosen = " or ".join(f"RowKey eq '{key}'" for key in keys)
        span = f"PartitionKey eq '{media.name}' and RowKey ge '{keys[0]}' and RowKey le '{keys[-1]}'"
        for row in storage.table(TABLE).query_entities(f"{span} and ({chosen})"):
            found[int(row["RowKey"])] = row
    return found
