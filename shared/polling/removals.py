"""What has left the PBX's lists: an item is gone when listings lack it for long enough and the PBX does not know it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import (
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
)
from shared.items import reader as items
from shared.items.intake import row_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from shared.items.intake import Intake, Row
    from shared.items.reader import Item, Known
    from shared.polling.reading import Reading

logger = logging.getLogger(__name__)

# So many complete listings, the first and the last of them this far apart: one item may be missing for a moment, and a
# list that lacks most of what it had is more likely a failure of the PBX.
_FEW = 2, timedelta(minutes=1)
_MOST = 3, timedelta(hours=1)
# Listings count once in this time.
_BETWEEN = timedelta(minutes=1)
# What left the lists and is still known to the PBX is asked for again after this time.
_AGAIN = timedelta(hours=1)
# Items that one run asks the PBX for.
_MOST_LOOKUPS = 25


@dataclass(slots=True)
class Missing:
    """
    What a complete listing says of the items that it lacks.

    `changes` are columns for the stored rows, by id; `due` are the ids to ask the PBX for, those of which nothing is
    known yet first; `open` says that another listing has to be waited for.
    """

    changes: dict[int, dict[str, Any]] = field(default_factory=dict)
    due: list[int] = field(default_factory=list)
    open: bool = False


def judge(known: Mapping[int, Known], listed: Collection[int], moment: datetime) -> Missing:
    """What follows from a complete listing; nothing is gone by that alone."""
    live = {number: row for number, row in known.items() if not row.removed}
    missing = {number: row for number, row in live.items() if number not in listed}
    kept = {number: row for number, row in missing.items() if row.asked}
    listings, spread = _MOST if (len(missing) - len(kept)) * 2 > len(live) - len(kept) else _FEW
    verdict = Missing({number: {"missed": 0} for number, row in live.items() if row.missed and number in listed})
    for number in sorted(missing.keys() - kept.keys()):
        row = missing[number]
        since = row.missing or moment
        count = row.missed + (row.missing is None or moment >= row.missing + _BETWEEN * row.missed)
        if count >= listings and moment - since >= spread:
            verdict.due.append(number)
            continue
        verdict.open = True
        # Further listings are not counted: only the time can be missing.
        if row.missed < count < _MOST[0]:
            verdict.changes[number] = {"missed": count, "missing": since}
    again = [number for number, row in kept.items() if row.asked and moment - row.asked >= _AGAIN]
    again.sort(key=lambda number: (kept[number].asked, number))
    verdict.open = verdict.open or len(verdict.due) > _MOST_LOOKUPS
    verdict.due = (verdict.due + again)[:_MOST_LOOKUPS]
    return verdict


def gone(
    reading: Reading, intake: Intake, known: Mapping[int, Known], listed: Collection[int], *, all_readable: bool
) -> tuple[list[Row], dict[int, Item], bool]:
    """
    What is gone, as rows and as it was seen last, by id; and whether that is not settled yet for some.

    That is what the PBX, asked by id, does not know. Where the key may not ask, the lists have the last word, unless
    they hold items whose id cannot be read: one of those may be it. The others are noted. Raises PbxThrottled,
    PbxUnreachable and BudgetExhausted, and PbxUnavailable where the PBX has no answer for two in a row.
    """
    verdict, storage, name = judge(known, listed, reading.moment), reading.bridge.storage, reading.resource.name
    found, failed = dict[int, "Item"](), False
    for number in verdict.due:
        unknown, failed = _is_unknown(reading, number, failed=failed, all_readable=all_readable)
        if unknown:
            found[number] = items.stored(storage, name, number) or {}
        else:
            row, moment = known[number], reading.moment
            verdict.changes[number] = {"missed": max(row.missed, 1), "missing": row.missing or moment, "asked": moment}
    intake.note(verdict.changes)
    return [row_of(number, item, known[number], removed=True) for number, item in found.items()], found, verdict.open


def _is_unknown(reading: Reading, number: int, *, failed: bool, all_readable: bool) -> tuple[bool, bool]:
    """Whether the PBX does not know an item, and whether it had no answer; raises that where it `failed` before."""
    resource = reading.resource
    try:
        reading.bridge.pbx.call(resource.read_operation, lane=reading.lane, **{resource.id_parameter: number})
    except (PbxThrottled, PbxUnreachable):
        raise
    except (PbxRefused, PbxNotUnderstood, PbxUnavailable) as error:
        is_silent = isinstance(error, PbxUnavailable)
        if failed and is_silent:
            raise
        # Nobody knows; the others that are missing are asked about all the same.
        logger.warning("%s %d left the list: %s", resource.name, number, error)
        return False, is_silent
    except PbxNotFound:
        return True, False
    except PbxForbidden:
        return all_readable, False
    logger.info("%s %d left the list, but the PBX still knows it", resource.name, number)
    return False, False
