"""Windows: what is left of a list comes back as it was, and each narrowing makes it smaller and loses nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from shared.polling.windows import Window, dumps, loads

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
MOMENTS = st.integers(0, 10**6).map(lambda seconds: BEGIN + timedelta(seconds=seconds))
BOUNDS = st.none() | MOMENTS
WINDOWS = st.builds(
    Window, above=st.integers(0, 2**63 - 1), since=BOUNDS, until=BOUNDS, offset=st.integers(0, 10**6),
    stuck=st.booleans(),
)  # fmt: skip


@given(st.lists(WINDOWS, max_size=20))
def test_windows_come_back(windows: list[Window]) -> None:
    assert loads(dumps(windows)) == windows


def test_too_many_are_read_as_one() -> None:
    windows = [Window(above=number, until=BEGIN) for number in range(7, 100)]
    assert loads(dumps(windows)) == [Window(above=7)]


def inside(moment: datetime, window: Window) -> bool:
    return (window.since is None or moment >= window.since) and (window.until is None or moment <= window.until)


@given(st.lists(MOMENTS, min_size=1), st.data())
def test_what_was_not_read_stands_in_what_is_left(moments: list[datetime], data: st.DataObject) -> None:
    order = data.draw(st.sampled_from(["newest", "oldest", "any"]))
    if order != "any":
        moments.sort(reverse=order == "newest")
    read = data.draw(st.integers(1, len(moments)))
    seen = moments[:read]
    assume(order != "any" or seen not in (sorted(seen), sorted(seen, reverse=True)) or read < 10)
    narrowed = Window().narrowed(seen)
    for moment in moments[read:]:
        assert not narrowed or any(inside(moment, window) for window in narrowed)


@given(st.lists(MOMENTS, min_size=1), BOUNDS, BOUNDS)
def test_narrowing_ends(moments: list[datetime], since: datetime | None, until: datetime | None) -> None:
    window = Window(since=since, until=until)
    for _ in range(100):
        seen = [moment for moment in moments if inside(moment, window)]
        narrowed = window.narrowed(seen)
        if not narrowed:
            return
        window = narrowed[-1]
    raise AssertionError("it went on for ever")
