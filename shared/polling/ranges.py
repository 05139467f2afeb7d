"""Reading a range of a list: to its end, compared with what is stored."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import BudgetExhausted, PbxError, PbxForbidden
from shared.items import store
from shared.polling.compare import Comparison
from shared.polling.pages import pages

if TYPE_CHECKING:
    from shared.polling.pages import Page
    from shared.polling.reading import Reading


def read_list(reading: Reading) -> None:
    """Compare a whole list with what is stored, and note the success."""
    comparison = compare_whole(reading)
    count = sum(not row.removed for row in comparison.known.values())
    changes = reading.note_unreadable(comparison.unreadable) | comparison.changes() | {"items": count}
    started = reading.checkpoint.started or comparison.failure is None
    conclude(reading, comparison.failure, started=started, **changes)


def compare_whole(reading: Reading) -> Comparison:
    """
    Compare a whole list with all that is stored, and remove what it lacks and the PBX does not know.

    What is stored is read first, so that an older reading does not undo what a newer one found. The comparison has the
    failure that kept the list from being read to its end; what was read of it is written all the same.
    """
    known = store.stored(reading.bridge.storage, reading.resource.name)
    comparison = Comparison(reading, known, is_whole=True)
    try:
        read_range(comparison)
        comparison.failure = comparison.remove()
    except PbxForbidden:
        raise
    except (PbxError, BudgetExhausted) as error:
        comparison.failure = error
    return comparison


def conclude(reading: Reading, failure: PbxError | BudgetExhausted | None, **changes: Any) -> Reading:
    """Return the reading once its success is noted; raises its failure, with what was read noted all the same."""
    if failure is None:
        return reading.advance(**changes | ({"looked": reading.moment} if reading.is_thorough else {}))
    reading.keep(**changes)
    raise failure


def read_range(comparison: Comparison, *, again: bool = True, **filters: Any) -> None:
    """
    Compare a range of a list, read to its end, and write what has changed, also where the reading fails.

    Offsets move while a list grows: a range of more than one page in which something was new is read once more.
    """
    try:
        if _read(comparison, filters) and again:
            _read(comparison, filters)
    finally:
        comparison.finish()


def _read(comparison: Comparison, filters: dict[str, Any]) -> bool:
    """Compare the pages of a range; return True where there were several, and something new."""
    reading, found, count = comparison.reading, False, 0
    for page in pages(
        reading.bridge.pbx, reading.resource,
        lane=reading.lane, deadline=reading.deadline, unreadable=comparison.unreadable, **filters,
    ):  # fmt: skip
        count += 1
        is_new = comparison.take(page)
        found |= is_new
        if count == 1 and not reading.is_thorough and _is_all(page, comparison, is_new=is_new):
            break
    return found and count > 1


def _is_all(page: Page, comparison: Comparison, *, is_new: bool) -> bool:
    """
    True if an ordinary run needs no second page: the PBX has given larger ones, or the newest of a list are known.

    A thorough run takes nothing for granted.
    """
    if page.whole and page.size < comparison.reading.checkpoint.page:
        return True
    live = sum(not row.removed for row in comparison.known.values()) if comparison.is_whole else 0
    return page.is_newest_first and not is_new and len(page.items) >= live
