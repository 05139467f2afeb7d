"""What subscribers send as OpenAPI 2.0 schemas: the models' own fields, with words and patterns beside them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.openapi.schemas import Schema, choices, named, title
from shared.phones import NUMBER_PATTERN, PREFIX_PATTERN
from shared.subscriptions.endpoints import LONGEST, LONGEST_NAME

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEX = "[0-9A-Fa-f]"
_GROUP = f"{_HEX}{{1,4}}"
_OCTET = "(?:25[0-5]|(?:2[0-4]|1[0-9]|[1-9])?[0-9])"
_QUAD = rf"{_OCTET}(?:\.{_OCTET}){{3}}"
# What is not the internet's, of the addresses below 224.0.0.0; the last one is Azure's own.
_INSIDE = (
    r"10\.|127\.|100\.(?:6[4-9]|[7-9][0-9]|1[01][0-9]|12[0-7])\.|169\.254\.|172\.(?:1[6-9]|2[0-9]|3[01])\."
    r"|192\.(?:0\.[02]|88\.99|168)\.|198\.(?:1[89]|51\.100)\.|203\.0\.113\.|168\.63\.129\.16(?![0-9])"
)


def _rest(groups: int) -> str:
    """What follows so many groups of an IPv6 address: the others, or a gap somewhere; the last two may be IPv4."""
    left = 8 - groups
    ways = [f"(?::{_GROUP}){{{left}}}", f"(?::{_GROUP}){{{left - 2}}}:{_QUAD}", f"(?::{_GROUP}){{{left - 1}}}::"]
    for n in range(left - 2):
        ways.append(f"(?::{_GROUP}){{{n}}}::(?:(?:{_GROUP}:){{0,{left - 3 - n}}}(?:{_GROUP}(?::{_GROUP})?|{_QUAD}))?")
    ways.append(f"(?::{_GROUP}){{{left - 2}}}::(?:{_GROUP})?")
    return f"(?:{'|'.join(ways)})"


_LABEL = "[0-9A-Za-z_-]{1,63}"
_END = r"\.?(?:[/?#:]|$)"
# A name, or an address of the internet: IPv4, IPv6. Generators of texts can leave out what must not follow, but do not
# know what to do where something must.
HOSTS = (
    rf"(?![^/?#:]{{{LONGEST_NAME + 1}}})(?:{_LABEL}\.)+(?!(?:[0-9]+|0[Xx]{_HEX}*){_END}){_LABEL}\.?",
    rf"(?!{_INSIDE})(?:[1-9][0-9]?|1[0-9]{{2}}|2[01][0-9]|22[0-3])(?:\.{_OCTET}){{3}}\.?",
    rf"\[(?!200[12]:|3[Ff]{{3}}:)[23]{_HEX}{{3}}{_rest(1)}\]",
    rf"\[(?:2001:(?!0?[Dd][Bb]8:)(?:[1-9A-Fa-f]{_HEX}{{3}}|0?[2-9A-Fa-f]{_HEX}{{2}})"
    rf"|3[Ff]{{3}}:[1-9A-Fa-f]{_HEX}{{3}}){_rest(2)}\]",
)
_PORT = "(?::(?:0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]))?)?"
# The app may take more, such as loopback on a laptop, but it certainly takes these.
ENDPOINT_PATTERN = (
    rf"^(?![!-~]{{{LONGEST + 1}}})[Hh][Tt][Tt][Pp][Ss]://(?:{'|'.join(HOSTS)}){_PORT}(?:[/?][!-\x22$-\[\]-~]*)?#?$"
)
_FOUR = "[A-Za-z0-9+/]{4}"
_PADDED = "[A-Za-z0-9+/]{2}=="
SECRET_PATTERN = f"^whsec_(?:(?:{_FOUR}){{8,20}}(?:{_PADDED}|[A-Za-z0-9+/]{{3}}=)?|(?:{_FOUR}){{21}}(?:{_PADDED})?)$"

# Beside what the models say: words, and what no type says.
_WORDS: Mapping[str, tuple[str, Schema]] = {
    "endpoint": ("Address that the event is posted to.", {"pattern": ENDPOINT_PATTERN, "maxLength": LONGEST}),
    "filter": ("Which events to post; all of them without one.", {}),
    "shape": ("The PBX's own form (native), or CloudEvents 1.0.", {}),
    "secret": ("Signs what is posted; made for you if you bring none.", {"pattern": SECRET_PATTERN}),
    "direction": ("Only incoming (in) or only outgoing (out) calls.", {}),
    "contact_id": ("Only what concerns this employee.", {"format": "int64"}),
    "caller": ("Only calls from this number.", {"pattern": NUMBER_PATTERN}),
    "destination": ("Only calls to this number.", {"pattern": NUMBER_PATTERN}),
    "prefix": ("Only calls from or to numbers that begin so, as +371.", {"pattern": PREFIX_PATTERN}),
}
_KEPT = ("type", "enum", "minimum", "maximum", "minLength")


def subscribe_request() -> Schema:
    """The body of a subscription."""
    from shared.api.subscribe import SubscribeRequest

    whole = SubscribeRequest.model_json_schema()
    return _object("SubscribeRequest", whole, whole["$defs"])


def unsubscribe_request() -> Schema:
    """The body that ends all that an address is subscribed to."""
    from shared.api.subscribe import UnsubscribeRequest

    given = UnsubscribeRequest.model_json_schema()["properties"]["endpoint"]
    words = {"x-ms-summary": "Endpoint", "description": "Address that events were posted to."}
    endpoint = {name: value for name, value in given.items() if name in _KEPT} | words
    schema = {"type": "object", "properties": {"endpoint": endpoint}, "required": ["endpoint"]}
    return named("UnsubscribeRequest", schema)


def _object(name: str, given: Mapping[str, Any], others: Mapping[str, Any]) -> Schema:
    required = given.get("required", [])
    properties = {
        field: _field(field, kind, others, required=field in required) for field, kind in given["properties"].items()
    }
    schema: Schema = {"type": "object", "properties": properties}
    schema |= {"required": required} if required else {}
    schema |= {"additionalProperties": False} if given.get("additionalProperties") is False else {}
    return named(name, schema)


def _field(name: str, given: Mapping[str, Any], others: Mapping[str, Any], *, required: bool) -> Schema:
    kind = next(one for one in given.get("anyOf", [given]) if one.get("type") != "null")
    description, more = _WORDS[name]
    words: Schema = {"x-ms-summary": title(name), "description": description}
    if "$ref" in kind:
        schema = _object(f"Subscription{title(name)}", others[kind["$ref"].rpartition("/")[2]], others)
        return schema | words | {"x-nullable": True, "x-ms-visibility": "advanced"}
    schema = {key: kind[key] for key in _KEPT if key in kind} | words | more | choices(name)
    if name == "endpoint":
        return schema | {"x-ms-visibility": "internal", "x-ms-notification-url": True}
    # A choice is one of those that are named: generators take what may be null beside them for a contradiction.
    nullable = not required and "enum" not in schema
    return schema | {"x-ms-visibility": "advanced"} | ({"x-nullable": True} if nullable else {})
