"""What has left the PBX's lists: an item is gone when listings lack it for long enough and the PBX does not know it."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import (
    PbxForbidden,
    PbxNoItem,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    PbxUnreachable,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import datetime

    from shared.errors import PbxError
    from shared.items.reader import Known
    from shared.polling.reading import Reading

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Proof:
    """So many complete listings, the first and the last of them this far apart."""

    listings: int
    spread: timedelta


# One item may be missing for a moment; a list that lacks most of what it had is more likely a failure of the PBX.
FEW = Proof(2, timedelta(minutes=1))
MOST = Proof(3, timedelta(hours=1))
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


def proof_for(missing: int, all_known: int) -> Proof:
    """What it takes to say that items are gone, where so many of all known ones are missing from a list."""
    return MOST if missing * 2 > all_known else FEW


def counts(known: Known, moment: datetime) -> int:
    """How many listings in a row have lacked the item, the one of this moment included; a minute apart they count."""
    again = known.missing is None or moment >= known.missing + _BETWEEN * known.missed
    return known.missed + 1 if again else known.missed


def judge(known: Mapping[int, Known], listed: Collection[int], moment: datetime) -> Missing:
    """What follows from a complete listing; nothing is gone by that alone."""
    live = {number: row for number, row in known.items() if not row.removed}
    missing = {number: row for number, row in live.items() if number not in listed}
    kept = {number: row for number, row in missing.items() if row.asked}
    proof = proof_for(len(missing) - len(kept), len(live) - len(kept))
    verdict = Missing({number: {"missed": 0} for number, row in live.items() if row.missed and number in listed})
    for number in sorted(missing.keys() - kept.keys()):
        row = missing[number]
        count, since = counts(row, moment), row.missing or moment
        if count >= proof.listings and moment - since >= proof.spread:
            verdict.due.append(number)
            continue
        verdict.open = True
        # Further listings are not counted: only the time can be missing.
        if count > row.missed and count < MOST.listings:
            verdict.changes[number] = {"missed": count, "missing": since}
    again = [number for number, row in kept.items() if row.asked and moment - row.asked >= _AGAIN]
    again.sort(key=lambda number: (kept[number].asked, number))
    verdict.open = verdict.open or len(verdict.due) > _MOST_LOOKUPS
    verdict.due = (verdict.due + again)[:_MOST_LOOKUPS]
    return verdict


def proved(
    verdict: Missing, known: Mapping[int, Known], reading: Reading, lane: str, *, all_readable: bool = True
) -> list[int]:
    """
    The ids among those due that the PBX, asked for each, does not know; `verdict.changes` get the others.

    Where the key may not ask, the lists have the last word, unless they hold items whose id cannot be read: one of
    those may be it. Raises PbxThrottled, PbxUnreachable and BudgetExhausted, and PbxUnavailable where the PBX has no
    answer for two in a row.
    """
    gone: list[int] = []
    failed = False
    for number in verdict.due:
        try:
            unknown, failed = _is_unknown(reading, number, lane, all_readable=all_readable), False
        except (PbxThrottled, PbxUnreachable):
            raise
        except PbxUnavailable as error:
            if failed:
                raise
            unknown, failed = _unclear(reading, number, error), True
        if unknown:
            gone.append(number)
        else:
            verdict.changes[number] = _still_known(known[number], reading.moment)
    return gone


def _is_unknown(reading: Reading, number: int, lane: str, *, all_readable: bool) -> bool:
    resource = reading.resource
    try:
        reading.bridge.pbx.call(resource.read_operation, lane=lane, **{resource.id_parameter: number})
    except PbxNoItem as error:
        return _unclear(reading, number, error)
    except PbxNotFound:
        return True
    except PbxForbidden:
        return all_readable
    except (PbxRefused, PbxNotUnderstood) as error:
        return _unclear(reading, number, error)
    logger.info("%s %d left the list, but the PBX still knows it", resource.name, number)
    return False


def _unclear(reading: Reading, number: int, error: PbxError) -> bool:
    """Nobody knows; the others that are missing are asked about all the same."""
    logger.warning("%s %d left the list: %s", reading.resource.name, number, error)
    return False


def _still_known(known: Known, moment: datetime) -> dict[str, Any]:
    """Columns for an item that the lists lack and that the PBX, asked for it, does not call gone."""
    return {"missed": max(known.missed, 1), "missing": known.missing or moment, "asked": moment}
