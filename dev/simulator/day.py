"""Scripted days of calls, as rows that a clock then plays."""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Mapping

    from dev.simulator.simulator import Simulator

_MAIN_LINE = "67021234"
_WATCH_SECONDS = 0.1
_CLIENTS = ("+37129411870", "26188902", "+37122004716", "29330145", "+37120177453", "27771153")


def empty(_: Simulator) -> None:
    """Nobody calls."""


def demo(pbx: Simulator) -> None:
    """
    Two hours that bring each of the ten events, a long call that only a sweep finds, and one lost webhook.

    The last call ends about now, so that no time lies in the future.
    """
    now = pbx.clock.now()
    pbx.clock.set(now - timedelta(minutes=125))
    anna = pbx.add_contact("Anna", "Bērziņa", "26550101", current_callerid=_MAIN_LINE)
    janis = pbx.add_contact("Jānis", "Kalniņš", "26550102", current_callerid=_MAIN_LINE)
    liga = pbx.add_contact("Līga", "Ozola", "26550103", current_callerid=_MAIN_LINE)
    pbx.add_group("Pārdošana", [anna, janis])
    box = pbx.add_voicemail_box("Klientu centrs")
    pbx.add_audio_prompt("Sveiciens darba laikā")
    pbx.add_voip_endpoint("Birojs 2. stāvs", employee_id=liga)
    late = {"ready_tries": 1}
    minute = 60
    long_call: dict[str, Any] = {"contact_id": liga, "rings": 8, "talks": 118 * minute}
    pbx.call(_CLIENTS[0], _MAIN_LINE, at=0, **long_call)
    pbx.call(_CLIENTS[1], _MAIN_LINE, at=4 * minute, contact_id=anna, rings=6, talks=95, recorded=True)
    pbx.call(_CLIENTS[2], _MAIN_LINE, at=12 * minute, group=[anna, janis], rings=20, talks=0)
    message = pbx.call(
        _CLIENTS[2], _MAIN_LINE, at=21 * minute, contact_id=janis, rings=25, talks=0, voicemail=True, box_id=box
    )
    pbx.call(
        _CLIENTS[3], _MAIN_LINE, at=34 * minute, contact_id=anna, transferred_to=janis, rings=7, talks=240,
        recorded=True, audio=late,
    )  # fmt: skip
    pbx.call("26550102", _CLIENTS[2], at=47 * minute, contact_id=janis, direction="out", rings=11, talks=64)
    pbx.call("", _MAIN_LINE, at=63 * minute, contact_id=anna, rings=9, talks=31)
    lost_webhook = pbx.call(_CLIENTS[4], _MAIN_LINE, at=80 * minute, contact_id=janis, rings=5, talks=42, recorded=True)
    pbx.clock.at(lost_webhook.ended - timedelta(seconds=1), lambda: _drop_next(pbx, "CallCompleted"))
    pbx.clock.at(
        message.ended + timedelta(minutes=80), lambda: pbx.delete_voicemail(message.voicemail_id or 0, keep_file=True)
    )


def _drop_next(pbx: Simulator, event: str) -> None:
    pbx.hooks.faults.add("drop", event, times=1)


def long_calls(pbx: Simulator, count: int = 60, seed: int = 7) -> list[int]:
    """A day from the clock's present on, of calls from 5 s to 6 h long; returns their ids in order of start."""
    draw = random.Random(seed)  # noqa: S311 - repeatable, not secret
    contact = pbx.add_contact("Ieva", "Liepiņa", "26550104")
    ids = []
    for number in range(count):
        length = 5 * (6 * 3600 / 5) ** draw.random()
        start = number * 18 * 3600 / count + draw.random() * 60
        call = pbx.call(
            _CLIENTS[number % len(_CLIENTS)], _MAIN_LINE, at=start, contact_id=contact, rings=3, talks=length,
            recorded=number % 5 == 0,
        )  # fmt: skip
        ids.append(call.id)
    return ids


DAYS: Mapping[str, Callable[[Simulator], object]] = {"demo": demo, "empty": empty, "long-calls": long_calls}


def play(pbx: Simulator, name: str, pace: float, webhooks: int, stop: threading.Event) -> None:
    """Waits for so many subscriptions, plays the day a step each `pace` real seconds, and goes back to real time."""
    while len(pbx.webhooks) < webhooks:
        if stop.wait(_WATCH_SECONDS):
            return
    DAYS[name](pbx)
    if pace > 0:
        pbx.clock.play(pace, stop.wait)
    pbx.settle()
    pbx.clock.release()
