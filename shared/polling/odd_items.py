"""Items that nobody can use: each is kept as a dead letter once, and keeps nothing else from being read."""

from __future__ import annotations

import hashlib
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import Conflict, Invalid, StorageUnavailable
from shared.json_bodies import encode
from shared.once import once
from shared.storage.account import reaching_storage
from shared.storage.dead_letters import dead_letter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from shared.storage.account import Storage

    Odd = tuple[str, Mapping[str, Any]]

Part = TypeVar("Part")
Done = TypeVar("Done")
KIND = "polled"
_AT_ONCE = 8
# A list brings an odd item at every poll: what this process has kept already costs no storage again.
_MOST_REMEMBERED = 10_000


@once
def _kept(storage: Storage) -> set[str]:
    return set()


def keep(storage: Storage, name: str, reason: str, item: Mapping[str, Any]) -> None:
    """Make a dead letter of an item; its key is made of its content, so that it is there once."""
    body, kept = encode(dict(item)), _kept(storage)
    key = f"{name}-{hashlib.sha256(body).hexdigest()[:32]}"
    if key in kept:
        return
    dead_letter(storage, kind=KIND, id=key, reason=reason, body=body)
    if len(kept) >= _MOST_REMEMBERED:
        kept.clear()
    kept.add(key)


def each(storage: Storage, name: str, work: Callable[[Part, list[Odd]], Done], parts: Sequence[Part]) -> list[Done]:
    """What `work` makes of each part, several at once where there are many; then what it said is odd is kept."""
    odd = list["Odd"]()
    with ThreadPoolExecutor(_AT_ONCE if len(parts) > _AT_ONCE else 1) as pool:
        done = list(pool.map(lambda part: work(part, odd), parts))
    # Here: the host drops what threads log that it does not know.
    for reason, item in odd:
        keep(storage, name, reason, item)
    return done


@contextmanager
def set_aside(item: Mapping[str, Any], odd: list[Odd]) -> Iterator[None]:
    """
    Have an item that nobody can use stop no other: the reason and the item are added to what is `odd`, for `keep`.

    Raises StorageUnavailable and Conflict.
    """
    try:
        with reaching_storage():
            yield
    except (StorageUnavailable, Conflict):
        raise
    except Invalid as error:
        odd.append((str(error), item))
    except Exception as error:  # noqa: BLE001 - one item that nobody foresaw stops no other
        # The text of the error may hold what was being read.
        frames = traceback.extract_tb(error.__traceback__)
        place = f"{PurePath(frames[-1].filename).name}:{frames[-1].lineno}"
        odd.append((f"{type(error).__name__} at {place}", item))
