"""The queues' consumers: what nobody could use becomes a dead letter, whatever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from shared.pipeline.queues import CONSUMERS, consume, drain

if TYPE_CHECKING:
    from shared.bridge import Bridge

EVENTS, MEDIA, _ = CONSUMERS
NUMBER = "4357a9bd-2086-40d5-b2a8-98eb830bd28e"


def letters(bridge: Bridge) -> list[dict[str, Any]]:
    return [dict(row) for row in bridge.storage.table("deadletters").list_entities()]


@pytest.mark.parametrize(
    ("body", "id"),
    [
        (b'{"id": "abc"}', "abc"),
        (b'{"kind": "recording", "id": 5}', "recording-5"),
        (b'{"kind": 1}', "1-None"),
        (b'{"kind": "a/b", "id": "c"}', NUMBER),
        (b'{"id": "a/b"}', NUMBER),
        (b'{"id": "#?"}', NUMBER),
        (b'{"id": ""}', NUMBER),
        (b'{"id": {"a": 1}}', NUMBER),
        (b'{"id": "' + b"x" * 2_000 + b'"}', NUMBER),
        (b'{"payload": ""}', NUMBER),
        (b'{"payload": "../x?y#z"}', NUMBER),
        (b"not json", NUMBER),
        (b"[]", NUMBER),
        (b"\xff\x00", NUMBER),
    ],
)
def test_what_failed_too_often_becomes_a_dead_letter_whatever_it_is(bridge: Bridge, body: bytes, id: str) -> None:
    drain(bridge, EVENTS, body, id=NUMBER, attempts=5)
    (letter,) = letters(bridge)
    assert (letter["kind"], letter["id"], letter["attempts"]) == ("event", id, 5)


@pytest.mark.parametrize("consumer", [EVENTS, MEDIA], ids=lambda row: row.queue)
def test_what_can_never_succeed_is_not_tried_again(bridge: Bridge, consumer: Any) -> None:
    consume(bridge, consumer, b'{"id": "a/b"}', id=NUMBER, attempt=1)
    (letter,) = letters(bridge)
    assert (letter["kind"], letter["id"], letter["attempts"]) == (consumer.kind, NUMBER, 1)
