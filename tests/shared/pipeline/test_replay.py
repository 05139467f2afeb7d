"""Dead letters go back where they came from, and events are sent again to who asks."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from shared.deliveries.drain import drain, run
from shared.errors import Invalid, NotFound
from shared.events.receive import accept, submit
from shared.events.table import event_named
from shared.json_bodies import encode, read_body
from shared.pipeline import queues as consumers
from shared.pipeline import replay as replaying
from shared.pipeline.process import process
from shared.pipeline.replay import RETURNS, ReplayFilter, replay_dead_letters, replay_events
from shared.storage.dead_letters import dead_letter
from shared.times import now
from tests.shared.deliveries.conftest import environment, listener, sent
from tests.shared.deliveries.subscriber import FIXTURES, happen, subscription
from tests.stored import dead_letters

if TYPE_CHECKING:
    from dev.listener import Listener
    from shared.bridge import Bridge
    from tests.outbox import Outbox

__all__ = ["environment", "listener", "sent"]


def replay(bridge: Bridge, **choice: Any) -> dict[str, Any]:
    return replay_dead_letters(bridge, encode(choice))


def test_every_consumer_s_dead_letters_can_go_back() -> None:
    assert RETURNS.keys() == {row.kind for row in consumers.CONSUMERS} | {"refused"}


def test_a_delivery_that_was_given_up_is_tried_again(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    event = listener.received[0].id
    body = encode({"kind": "deliver", "subscription": one.id, "event": event})
    dead_letter(bridge.storage, kind="delivery", id=f"{one.id}-{event}", reason="the last attempt: 500", body=body)
    assert replay(bridge, kind="delivery") == {"replayed": 1, "kept": []}
    assert dead_letters(bridge.storage) == []
    for _ in range(2):
        drain(bridge, one.id)
    assert [delivery.id for delivery in listener.received] == [event, event]


def test_a_delivery_for_nobody_any_more_stays(bridge: Bridge, sent: Outbox) -> None:
    body = encode({"kind": "deliver", "subscription": "nobody", "event": "event"})
    dead_letter(bridge.storage, kind="delivery", id="nobody-event", reason="the last attempt: 500", body=body)
    assert replay(bridge, kind="delivery") == {"replayed": 0, "kept": ["nobody-event"]}


def test_an_event_that_failed_too_often_has_its_effect(bridge: Bridge, sent: Outbox) -> None:
    body = (FIXTURES / "CallRecorded.json").read_bytes()
    accept(bridge.storage, bridge.settings, event_named("CallRecorded"), body)
    (event,) = sent.take("events")
    dead_letter(
        bridge.storage, kind="event", id=event.message["id"], reason="failed too often", body=event.body, attempts=5
    )
    process(bridge, event.message)
    assert len(sent.take("media")) == 1
    assert replay(bridge, kind="event", id=event.message["id"])["replayed"] == 1
    (again,) = sent.take("events")
    process(bridge, again.message)
    assert sent.take("media") == []
    assert len(list(bridge.storage.table("feed").query_entities("RowKey lt 'n0'"))) == 1


def test_media_that_never_came_is_asked_for_from_the_start(bridge: Bridge, sent: Outbox) -> None:
    fields = {"kind": "recording", "id": 5, "action": "copy", "event": "e", "received": "2018-04-25T13:54:19Z"}
    message = fields | {"attempt": 7, "tries": {"others": 3}}
    dead_letter(bridge.storage, kind="media", id="recording-5", reason="not there", body=encode(message))
    assert replay(bridge, kind="media")["replayed"] == 1
    (again,) = sent.take("media")
    assert (again.message["attempt"], again.message["id"]) == (0, 5)
    assert "tries" not in again.message


def test_what_was_refused_is_taken_once_it_fits_and_kept_while_it_does_not(bridge: Bridge, sent: Outbox) -> None:
    good = (FIXTURES / "CallStarted.json").read_bytes()
    for number, body in enumerate((good, b'{"data": {}}')):
        dead_letter(bridge.storage, kind="refused", id=f"CallStarted-{number}", reason="did not fit", body=body)
    answer = replay(bridge)
    assert answer == {"replayed": 1, "kept": ["CallStarted-1"]}
    assert len(sent.take("events")) == 1
    assert {dead["RowKey"] for dead in dead_letters(bridge.storage)} >= {"CallStarted-1"}


def test_a_dead_letter_that_came_again_meanwhile_stays(
    bridge: Bridge, sent: Outbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode({"kind": "recording", "id": 5, "action": "copy", "received": "2018-04-25T13:54:19Z"})
    dead = {"kind": "media", "id": "recording-5-copy", "body": body}
    dead_letter(bridge.storage, reason="once", **dead)
    send_back = RETURNS["media"]

    def back_and_dead_again(bridge: Bridge, found: Any, body: bytes) -> None:
        send_back(bridge, found, body)
        dead_letter(bridge.storage, reason="again", **dead)

    monkeypatch.setattr(replaying, "RETURNS", {"media": back_and_dead_again})
    assert replay(bridge) == {"replayed": 1, "kept": []}
    assert [(one["reason"], one["attempts"]) for one in dead_letters(bridge.storage)] == [("again", 2)]


def test_a_dead_letter_of_a_kind_that_nobody_knows_stays(bridge: Bridge, sent: Outbox) -> None:
    dead_letter(bridge.storage, kind="other", id="it's", reason="why", body=b"?")
    assert replay(bridge, kind="other", id="it's") == {"replayed": 0, "kept": ["it's"]}
    assert replay(bridge, kind="' or '1' eq '1") == {"replayed": 0, "kept": []}
    assert len(dead_letters(bridge.storage)) == 1


def test_no_more_go_back_than_are_asked_for(bridge: Bridge, sent: Outbox) -> None:
    for number in range(5):
        dead_letter(bridge.storage, kind="media", id=f"recording-{number}", reason="not there", body=b'{"id": 1}')
    assert replay(bridge, limit=3)["replayed"] == 3
    assert len(dead_letters(bridge.storage)) == 2


def test_a_subscriber_is_sent_again_what_came_in_meanwhile(bridge: Bridge, sent: Outbox, listener: Listener) -> None:
    submit(bridge.storage, bridge.settings, "CallCompleted", {"callID": 1}, origin="webhook")
    submit(bridge.storage, bridge.settings, "CallStarted", {"callID": 1}, origin="webhook")
    for message in sent.take("events"):
        process(bridge, message.message)
    one = subscription(bridge, listener.url)
    happen(bridge, sent)
    drain(bridge, one.id)
    assert len(listener.received) == 1
    answer = replay_events(bridge, one.id, encode({"date_from": str(now() - timedelta(minutes=1))}))
    assert answer["subscription"] == one.id
    (look,) = [message for message in sent.take() if message.message["kind"] == "range"]
    run(bridge, look.message)
    drain(bridge, one.id)
    assert len(listener.received) == 3
    assert len({delivery.id for delivery in listener.received}) == 2


def test_nothing_is_sent_to_who_is_not_subscribed(bridge: Bridge, sent: Outbox) -> None:
    with pytest.raises(NotFound):
        replay_events(bridge, "sub-nobody", encode({"date_from": "2018-04-25T13:54:19Z"}))


@pytest.mark.parametrize(
    "body",
    [b"[]", b'{"limit": 0}', b'{"limit": 1001}', b'{"limit": "5"}', b'{"kid": "event"}', b'{"kind": 5}'],
    ids=str,
)
def test_a_choice_that_says_nothing_clear_is_refused(body: bytes) -> None:
    with pytest.raises(Invalid):
        read_body(ReplayFilter, body)
