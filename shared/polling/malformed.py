"""Malformed items: each is kept as a dead letter once, and keeps no other from being read."""

from __future__ import annotations

import hashlib
import traceback
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from shared.errors import Conflict, Invalid, StorageUnavailable
from shared.json_bodies import encode
from shared.once import once
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.storage.account import Storage

    Malformed = tuple[str, Mapping[str, Any]]

KIND = "polled"
# A list has a malformed item at every poll: what this process has kept already costs no storage again.
_MOST_REMEMBERED = 10_000


@once
def _kept(storage: Storage) -> set[str]:
    return set()


def keep(storage: Storage, resource: str, reason: str, item: Mapping[str, Any]) -> None:
    """Store an item as a dead letter; its key is made of its content, so that it is there once."""
    body, kept = encode(dict(item)), _kept(storage)
    key = f"{resource}-{hashlib.sha256(body).hexdigest()[:32]}"
    if key in kept:
        return
    dead_letter(storage, kind=KIND, id=key, reason=reason, body=body)
    if len(kept) >= _MOST_REMEMBERED:
        kept.clear()
    kept.add(key)


@contextmanager
def set_aside(item: Mapping[str, Any], found: list[Malformed]) -> Iterator[None]:
    """
    Have an item that nobody can use stop no other: the reason and the item are appended to `found`, for `keep`.

    Raises StorageUnavailable and Conflict.
    """
    try:
        with reaching_storage():
            yield
    except (StorageUnavailable, Conflict):
        raise
    except Invalid as error:
        found.append((str(error), item))
    except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
        # The text of the error may hold what was being read.
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}"
        found.append((f"{type(error).__name__} at {place}", item))
