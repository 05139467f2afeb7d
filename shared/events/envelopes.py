"""What stands around an event's data, read in every form that it was seen or may well come in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.errors import FieldError, Invalid, NotJson
from shared.json_bodies import parse_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.events.data import Data

_TEXTS = ("type", "eventType", "version")
_KNOWN = frozenset((*_TEXTS, "data"))
# An envelope in an envelope in a list, each as text: no sender wraps deeper by mistake.
_DEEPEST = 6


def read_envelope(value: Any, model: type[Data]) -> dict[str, Any]:
    """
    The envelope with an object as `data`, however it is wrapped; all other fields are as they were sent.

    An envelope or its data may come as JSON in a text, as the only item of a list, or once more inside `data`; the
    data may also stand in the envelope's place. Raises Invalid where there is no object.
    """
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    envelope = _object(value)
    if envelope is None:
        raise Invalid((FieldError("body", "an object is expected"),))
    if envelope.get("data") is None and required <= envelope.keys():
        return {"data": {name: part for name, part in envelope.items() if name not in _TEXTS}} | {
            name: envelope[name] for name in _TEXTS if name in envelope
        }
    if "data" not in envelope:
        raise Invalid((FieldError("data", "an object is expected"),))
    data = _object(envelope["data"])
    for _ in range(_DEEPEST):
        if data is None or required <= data.keys() or "data" not in data:
            break
        # Once more around itself: what the inner envelope says of the event counts where the outer one is silent.
        envelope = {**{name: data[name] for name in _TEXTS if name in data}, **envelope}
        data = _object(data["data"])
    if data is None:
        raise Invalid((FieldError("data", "an object is expected"),))
    return {**envelope, "data": data}


def envelope_drift(envelope: Mapping[str, Any]) -> set[str]:
    """Names of an envelope's fields that the PBX's reference does not know, or that are no text."""
    odd = {name for name in _TEXTS if not isinstance(envelope.get(name), str | int | float | None)}
    return odd | (envelope.keys() - _KNOWN)


def _object(value: Any) -> dict[str, Any] | None:
    for _ in range(_DEEPEST):
        if isinstance(value, dict):
            return value
        if isinstance(value, list) and len(value) == 1:
            value = value[0]
        elif isinstance(value, str):
            try:
                value = parse_body(value.encode(), odd_numbers=True)
            except NotJson:
                return None
        else:
            return None
    return None
