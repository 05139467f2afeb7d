"""The processor: each event has its effect once, however often and in any order its message comes."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import health
from shared.calls.cases import settled
from shared.calls.parts import involved_alone
from shared.deliveries.fanout import fan_out
from shared.events import parties, store
from shared.events.event import ReceivedEvent, event_of
from shared.pipeline.repeats import add_to_story, complete, finished
from shared.storage.messages import send
from shared.times import iso

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

# A voicemail names no call: it waits for the call that began in the same second, seconds each time.
_LINK_DELAYS = (5, 30, 120, 600, 3600)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class FollowUp:
    """
    A row: something that an event sets off.

    `run` returns False when it has to be tried again later. What it does must be harmless when done twice; where that
    costs the next in line work, it returns True, and the event's row remembers that it is done. The others leave their
    own mark, under a key made of the event's id.
    """

    name: str
    run: Callable[[Bridge, ReceivedEvent, Row], bool | None]
    applies: Callable[[ReceivedEvent], bool] = lambda event: True


def _belongs_to_a_call(event: ReceivedEvent) -> bool:
    is_dated_voicemail = hasattr(event.data, "voicemailID") and getattr(event.data, "callStarted", None) is not None
    return is_dated_voicemail or getattr(event.data, "callID", None) is not None


def _ask_for_media(bridge: Bridge, event: ReceivedEvent, row: Row) -> bool:
    kind = event.type.announces or event.type.withdraws
    message = {
        "kind": kind,
        "id": getattr(event.data, f"{kind}ID"),
        "action": "copy" if event.type.announces else "withdraw",
        "event": event.id,
        "callID": getattr(event.data, "callID", None),
        "record": event.envelope["data"],
        "inferred": event.origin != "webhook",
        "received": iso(event.received),
        "first": iso(event.received),
        "attempt": 0,
    }
    send(bridge.storage, "media", message, name=event.id)
    return True


def _note_parties(bridge: Bridge, event: ReceivedEvent, row: Row) -> None:
    """Note whom an event has to do with that belongs to no call, or not yet; a call's story does it for the others."""
    parties.add(bridge.storage, involved_alone(event, bridge.settings.default_region))


# What others wait for comes first; the story, which many may be changing at once, holds up none of it.
FOLLOW_UPS: tuple[FollowUp, ...] = (
    FollowUp("feed", lambda bridge, event, row: store.publish(bridge.storage, row)),
    FollowUp("deliveries", lambda bridge, event, row: fan_out(bridge, event) or None),
    FollowUp("media", _ask_for_media, lambda event: bool(event.type.announces or event.type.withdraws)),
    FollowUp("parties", _note_parties, lambda event: getattr(event.data, "callID", None) is None),
    FollowUp("story", lambda bridge, event, row: None if add_to_story(bridge, event) else False, _belongs_to_a_call),
)


def process(bridge: Bridge, message: Mapping[str, Any]) -> None:
    """
    Give the event in a message of queue `events` its effect: once, as docs/decisions/0001-exactly-one-effect.md says.

    Raises what failed, for the message to be put back, once all that could be done is done.
    """
    event = settled(bridge.storage, event_of(message), bridge.settings.default_region)
    row = event.row(bridge.storage, bridge.settings.default_region)
    mark = str(message.get("mark", ""))
    if store.insert(bridge.storage, row, mark):
        health.note(bridge.storage, event, repeat=False)
    else:
        stored = _other(bridge, event, message, mark)
        if stored is None:
            health.note(bridge.storage, event, repeat=True)
            logger.info("repeat of %s %s", event.type.name, event.id)
            return
        row = stored
    _follow_up(bridge, event, row, message)
    finished(bridge.storage).add(event)


def _other(bridge: Bridge, event: ReceivedEvent, message: Mapping[str, Any], mark: str) -> Row | None:
    """The row of an event that is there already, where its follow-ups are this message's to do; None for a repeat."""
    if not message.get("begun") and event in finished(bridge.storage):
        return None
    stored = store.get(bridge.storage, event.id)
    own = stored is not None and stored.get("message") == mark
    if stored is not None and not own:
        stored = complete(bridge, event, stored)
        if event.type.withdraws and event.origin == "webhook" != stored["origin"]:
            # What the PBX itself says deletes audio; what was concluded from its lists did not.
            _ask_for_media(bridge, event, stored)
    if not message.get("begun") and not own:
        finished(bridge.storage).add(event)
        return None
    return stored or event.row(bridge.storage, bridge.settings.default_region)


def _follow_up(bridge: Bridge, event: ReceivedEvent, row: Row, message: Mapping[str, Any]) -> None:
    """Do each step that is not done; one that fails keeps no other from being done, and none is done again for it."""
    before = set(filter(None, str(row.get("done", "")).split(",")))
    done, recorded, later, errors = set(before), set(before), [], []
    for step in FOLLOW_UPS:
        if step.name in before or not step.applies(event):
            continue
        try:
            outcome = step.run(bridge, event, row)
        except Exception as error:  # noqa: BLE001 - raised below, once the other steps are done
            errors.append(error)
            continue
        if outcome is False:
            later.append(step.name)
            continue
        done.add(step.name)
        if outcome:
            recorded.add(step.name)
    if errors or later:
        recorded = done
    if recorded != before:
        store.update(bridge.storage, event.id, {"done": ",".join(sorted(recorded))})
    if errors:
        raise ExceptionGroup("follow-ups failed", errors)
    if later:
        _resume_later(bridge, event, message, later)


def _resume_later(bridge: Bridge, event: ReceivedEvent, message: Mapping[str, Any], steps: list[str]) -> None:
    resumed = int(message.get("resume", 0))
    if resumed >= len(_LINK_DELAYS):
        logger.info("%s %s stays without %s", event.type.name, event.id, ", ".join(steps))
        return
    again = {**message, "begun": True, "resume": resumed + 1}
    send(bridge.storage, "events", again, name=event.id, delay=_LINK_DELAYS[resumed])
