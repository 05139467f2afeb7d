"""How the simulator writes items on the wire: times, absent values, numbers, ids and answers, each selectable."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from dev.simulator.audio import AudioFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dev.simulator.resources import Item

_LOCAL = timezone(timedelta(hours=3))  # Latvia in summer


def _clipped(moment: datetime, unit: str) -> str:
    return moment.isoformat(timespec=unit)[:-6]


TIME_FORMATS: Mapping[str, Callable[[datetime], str]] = {
    "offset": lambda moment: f"{_clipped(moment, 'seconds')}+0000",
    "z": lambda moment: f"{_clipped(moment, 'seconds')}Z",
    "colon": lambda moment: f"{_clipped(moment, 'seconds')}+00:00",
    "fraction": lambda moment: f"{_clipped(moment, 'milliseconds')}+0000",
    "fraction-z": lambda moment: f"{_clipped(moment, 'microseconds')}Z",
    "local": lambda moment: f"{moment.astimezone(_LOCAL):%Y-%m-%dT%H:%M:%S%z}",
}


@dataclass
class Options:
    """
    What may differ between PBXs, or changes without notice; every field can be set at any time.

    `times`: a key of TIME_FORMATS or `mixed`. `absent`: `null`, `empty` or `omit`. `numbers`: `as-given`,
    `national` or `e164`. `ids` of new items: `clock` (callID is the start in microseconds), `small` or `huge`
    (just below 2**63). `order`: `newest`, `oldest`, `random` (one shuffle of the whole list) or `shuffled-page`.
    `empty`: `data` or `404`. `spelling` of eventType: `subscription`, `event`, `reference`, `lower` or `upper`.
    """

    times: str = "offset"
    absent: str = "null"
    numbers: str = "as-given"
    ids: str = "clock"
    order: str = "newest"
    empty: str = "data"
    page_cap: int = 1000
    default_limit: int = 100
    offset_cap: int | None = None  # a greater offset is refused with 422
    gzip: bool = True
    refused: set[str] = field(default_factory=set)  # operationIds that the key may not call
    rate_limit: int | None = None  # calls in 60 s, then 429
    webhook_cap: int = 20
    webhook_status: int = 200
    webhook_location: str = "absolute"  # absolute, relative or none
    webhook_data: str = "string"  # number, string, object or none
    spelling: str = "subscription"
    event_version: str = "v1"
    extra_fields: bool = False
    file_needs_key: bool = False
    media_base: str = ""  # another base URL for audio links
    dial_rings: float = 1.0
    dial_talks: float = 2.0


class Writer:
    """Turns items into JSON values by the options of the moment."""

    def __init__(self, options: Options, base_url: Callable[[], str]) -> None:
        self.options = options
        self._base_url = base_url
        self._turn = itertools.count()

    def moment(self, value: datetime) -> str:
        """The time in the format chosen."""
        names = self.options.times
        if names == "mixed":
            names = tuple(TIME_FORMATS)[next(self._turn) % len(TIME_FORMATS)]
        return TIME_FORMATS[names](value.astimezone(UTC))

    def number(self, value: str) -> str:
        """A Latvian number in the form chosen; any other text as it is."""
        if self.options.numbers == "national":
            return value.removeprefix("+371")
        if self.options.numbers == "e164" and len(value) == 8 and value.isdigit():
            return f"+371{value}"
        return value

    def item(self, item: Item) -> Item:
        """The item as the PBX shows it: no inner fields, values in their wire format."""
        shown: Item = {}
        for name, value in item.items():
            if name[0] == "_":
                continue
            if value is None:
                if self.options.absent != "omit":
                    shown[name] = "" if self.options.absent == "empty" else None
            elif isinstance(value, datetime):
                shown[name] = self.moment(value)
            elif isinstance(value, AudioFile):
                shown[name] = f"{self.options.media_base or self._base_url()}/files/{value.token}"
            elif name in ("caller", "destination", "sender", "callerid"):
                shown[name] = self.number(value)
            elif isinstance(value, (tuple, list)):
                shown[name] = [self.item(part) if isinstance(part, dict) else part for part in value]
            else:
                shown[name] = value
        if self.options.extra_fields:
            shown["queueName"] = "Pārdošana"
        return shown


def encode(value: object) -> bytes:
    """JSON bytes as the PBX sends them."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def envelope(status: int, message: str, data: Any = None) -> dict[str, Any]:
    """The wrapping of every answer."""
    return {
        "version": "v2",
        "status": "success" if status < 400 else "error",
        "statusCode": status,
        "message": message,
        "data": data,
    }


def read_time(text: str) -> datetime:
    """A time that a caller sent, in UTC; ValueError where it is none."""
    moment = datetime.fromisoformat(text.replace(" ", "+"))
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
