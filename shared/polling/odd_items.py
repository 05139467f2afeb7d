"""Items that nobody can use: each is kept as a dead letter once, and keeps nothing else from being read."""

from __future__ import annotations

import hashlib
import traceback
from pathlib import PurePath
from threading import Lock
from typing import TYPE_CHECKING, Any

from shared.json_bodies import encode
from shared.once import once
from shared.storage.dead_letters import dead_letter

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.pbx.resources import Resource
    from shared.storage.account import Storage

KIND = "polled"
# A list brings an odd item at every poll: what this process has kept already costs no storage again.
_MOST_REMEMBERED = 10_000
# Of a list in which nothing can be read, so many say what is wrong.
_MOST_KEPT = 20


class _Kept:
    def __init__(self) -> None:
        self.keys: set[str] = set()
        self.lock = Lock()


@once
def _kept(storage: Storage) -> _Kept:
    return _Kept()


def keep_unreadable(storage: Storage, resource: Resource, items: Iterable[Mapping[str, Any]]) -> None:
    """Keep items of a list that have no id."""
    for item in list(items)[:_MOST_KEPT]:
        keep(storage, resource.name, f"{resource.id_field}: it cannot be read as an identifier", item)


def keep(storage: Storage, name: str, reason: str, item: Mapping[str, Any]) -> None:
    """Make a dead letter of an item; its key is made of its content, so that it is there once."""
    body = encode(dict(item))
    key = f"{name}-{hashlib.sha256(body).hexdigest()[:32]}"
    kept = _kept(storage)
    with kept.lock:
        if key in kept.keys:
            return
    dead_letter(storage, kind=KIND, id=key, reason=reason, body=body)
    with kept.lock:
        if len(kept.keys) >= _MOST_REMEMBERED:
            kept.keys.clear()
        kept.keys.add(key)


def place_of(error: Exception) -> str:
    """The type of an error that nobody foresaw and where it was raised; its text may hold what was being read."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "unknown"
    return f"{type(error).__name__} at {place}"
