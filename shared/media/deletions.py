"""Media that the PBX has deleted: our copies are marked or deleted, whichever of copy and deletion comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.storage import rows
from shared.storage.expiry import expire_rows
from shared.times import iso, now, parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.media.table import Media
    from shared.storage.account import Storage
    from shared.storage.expiry import Allowance, Expired, Period

# One row a voicemail, and none a recording: the name of its blob, and when we heard that the PBX has deleted it.
TABLE = "media"
_DELETED = "deletedAtPbx"
_INFERRED = "inferred"


def note_copy(storage: Storage, media: Media, id: int, blob: str) -> None:
    """Note where a copy is going to be: once it is deleted at the PBX, its date is known nowhere else."""
    row = {"PartitionKey": media.name, "RowKey": rows.row_key(id), "at": now(), "blob": blob}
    # Merged by the service, so that a deletion at the same time keeps its columns.
    rows.merge(storage.table(TABLE), row)


def is_deleted(storage: Storage, media: Media, id: int) -> bool:
    """Whether we heard that the PBX has deleted this one."""
    return _DELETED in _row(storage, media, id)


def may_delete(storage: Storage, media: Media, id: int) -> bool:
    """Whether the PBX itself said that this one is deleted: what was only inferred never deletes audio."""
    row = _row(storage, media, id)
    return _DELETED in row and not row.get(_INFERRED)


def withdraw(storage: Storage, media: Media, id: int, *, when: str, delete: bool, inferred: bool = False) -> None:
    """
    Note that the PBX has deleted this one, then mark our copies in their metadata, or delete them.

    The note comes first: whoever is copying it looks for the note once the blob is there. What is `inferred` from
    lists only marks.
    """
    columns = {"at": now(), _DELETED: parse_time(when), _INFERRED: inferred}

    def note(row: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
        # What the PBX said, before or meanwhile, stands.
        return None if inferred and row and _DELETED in row else {**(row or {}), **columns}

    noted = rows.change(storage.table(TABLE), media.name, rows.row_key(id), note) or _row(storage, media, id)
    if not (blob := noted.get("blob")):
        return
    client = storage.container(media.container)
    for found in client.list_blobs(name_starts_with=str(blob).rpartition(".")[0] + ".", include=["metadata"]):
        metadata = found.metadata or {}
        if delete and not inferred:
            client.delete_blob(found.name, delete_snapshots="include")
        elif _DELETED not in metadata:
            client.get_blob_client(found.name).set_blob_metadata({**metadata, _DELETED: when})


def withdraw_copy(storage: Storage, media: Media, id: int, *, delete: bool) -> bool:
    """Withdraw a copy that was just made where the PBX has deleted this one meanwhile; whether it is deleted again."""
    row = _row(storage, media, id)
    if _DELETED not in row:
        return False
    inferred = bool(row.get(_INFERRED))
    withdraw(storage, media, id, when=iso(row[_DELETED]), delete=delete, inferred=inferred)
    return delete and not inferred


def expire(storage: Storage, period: Period, allowance: Allowance) -> Expired:
    """Delete what was noted of media within a period; the audio itself goes by the rules of its account."""
    return expire_rows(storage.table(TABLE), period.condition("at"), allowance)


def _row(storage: Storage, media: Media, id: int) -> Mapping[str, Any]:
    found = rows.get(storage.table(TABLE), media.name, rows.row_key(id)) if media.deletable else None
    return found or {}
