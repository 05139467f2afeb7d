"""Lists that cannot be read in one go: parts of them by date, read one after the other and resumed where one ended."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared.errors import PbxError, PbxForbidden, PbxRetriable, PbxThrottled, PbxUnreachable
from shared.polling.pages import pages
from shared.times import event_time, iso, parse_time

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from shared.items.reader import Item
    from shared.pbx.client import Pbx
    from shared.pbx.resources import Resource
    from shared.polling.pages import Page

# Dates on the wire are whole seconds.
_SECOND = timedelta(seconds=1)
# Each call of a list is narrowed by this one of the item's times.
_FIELD = "callStarted"
_AGAIN = 5
# Fewer may be in order by chance.
_ENOUGH = 10
# With more parts than this they are read as one.
_MOST = 60


@dataclass(frozen=True, slots=True)
class Window:
    """
    A part of a list: ids above one, calls that started within two times, from an offset on.

    `stuck` is one that the PBX does not read on and that no date can narrow.
    """

    above: int = 0
    since: datetime | None = None
    until: datetime | None = None
    offset: int = 0
    stuck: bool = False

    def filters(self, resource: Resource) -> dict[str, Any]:
        """The list's parameters for it."""
        bounds = {"date_from": self.since, "date_to": self.until} if resource.dated else {}
        return {resource.cursor_parameter: self.above, **bounds}

    def narrowed(self, moments: Sequence[datetime]) -> list[Window]:
        """
        The parts that hold what was not read yet, when these moments were, in the list's order; none where they say
        nothing.

        Of a list in order that is one part, beyond the last moment; of any other list both halves.
        """
        if not moments:
            return []
        # A few at the end are read again: one wrong time there must not hide what lies between.
        last = moments[-1 - min(_AGAIN, len(moments) // 4)]
        falls, rises = list(moments) == sorted(moments, reverse=True), list(moments) == sorted(moments)
        if falls == rises or len(moments) < _ENOUGH:
            falls = rises = False
            last = sorted(moments)[len(moments) // 2]
        earlier, later = (self.since, last + _SECOND), (last.replace(microsecond=0), self.until)
        parts = [earlier] if falls else [later] if rises else [later, earlier]
        found = [replace(self, since=since, until=until, offset=0, stuck=False) for since, until in parts]
        return found if all(self._holds(part) for part in found) else []

    def _holds(self, part: Window) -> bool:
        """Whether the part is smaller than this."""
        earlier = part.until is not None and (self.until is None or part.until < self.until)
        later = part.since is not None and (self.since is None or part.since > self.since)
        return earlier or later


def dumps(windows: Iterable[Window]) -> str:
    """The windows as text; empty for none."""
    if len(found := list(windows)) > _MOST:
        found = [Window(above=min(one.above for one in found))]
    values = [
        [one.above, one.since and iso(one.since), one.until and iso(one.until), one.offset, one.stuck] for one in found
    ]
    return json.dumps(values) if values else ""


def loads(text: str) -> list[Window]:
    """What `dumps` wrote."""
    return [
        Window(above, since and parse_time(since), until and parse_time(until), offset, stuck)
        for above, since, until, offset, stuck in json.loads(text or "[]")
    ]


@dataclass(slots=True)
class Windowed:
    """
    Reads windows of a list; `left` is what is still to be read, whenever reading ends.

    Where the PBX refuses to page on, or fails twice to, the part that was not read is narrowed by date and read next.
    Raises what Pbx.call raises, for a part that is refused from its beginning, or that cannot be narrowed; that one is
    stuck then.
    """

    pbx: Pbx
    resource: Resource
    left: list[Window]
    unreadable: list[Item] = field(default_factory=list)

    def pages(self, *, lane: str, known: int | None = None) -> Iterator[Page]:
        """The pages of all windows; `left` is what is behind each one."""
        restarted: Window | None = None
        while self.left:
            window, moments, first = self.left[0], list["datetime"](), True
            try:
                for page in pages(
                    self.pbx, self.resource, lane=lane, offset=window.offset, known=known,
                    unreadable=self.unreadable, **window.filters(self.resource),
                ):  # fmt: skip
                    first = False
                    moments += filter(None, (event_time(item.get(_FIELD)) for item in page.items.values()))
                    self.left[0] = replace(window, offset=page.next_offset, stuck=False)
                    yield page
                self.left.pop(0)
            except (PbxForbidden, PbxThrottled, PbxUnreachable):
                raise
            except PbxError as error:
                if first and restarted is None and window.offset and not window.stuck:
                    # It ended here before: what is read from its beginning says how to go on.
                    restarted, self.left[0] = window, replace(window, offset=0)
                    continue
                if first:
                    self.left[0] = restarted or window
                    raise
                if isinstance(error, PbxRetriable) and restarted is None:
                    raise
                narrowed = window.narrowed(moments) if self.resource.dated else []
                self.left[:1] = narrowed or [replace(self.left[0], stuck=True)]
                if self.left[0].stuck:
                    raise
            restarted = None
