"""
Actions: requests that are checked, passed on to the PBX, and answered with its envelope.

A repeated request does not ring a call that rang, or may have rung. Costly numbers are not dialled at all.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from shared import people
from shared.api.envelopes import passed_on
from shared.api.parameters import Request, check, is_number
from shared.bridge import Bridge
from shared.calls import dials
from shared.errors import (
    BridgeError,
    Conflict,
    Invalid,
    PbxNotUnderstood,
    PbxUnavailable,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.pbx.client import content
from shared.pbx.operations import Operation
from shared.values import e164

if TYPE_CHECKING:
    from phonenumbers import PhoneNumber

logger = logging.getLogger(__name__)

KEY_HEADER = "Idempotency-Key"
KEY_PATTERN = r"[!-~]{1,255}"
KEEP = timedelta(hours=1)
# Without a key and a workflow's run, the same call within this time is a retry.
RETRY_WINDOW = timedelta(seconds=60)
# Headers of Logic Apps that are the same in all retries of an action, and differ between actions, runs and loop
# iterations. Its x-ms-client-request-id differs between retries.
_RUN_HEADERS = ("x-ms-workflow-run-id", "x-ms-client-tracking-id")
_ACTION_HEADERS = ("x-ms-workflow-operation-name", "x-ms-action-tracking-id")

# Digits of the longest short number, in-house or of an operator; it has no plus.
_LONGEST_SHORT = 6
# Country codes of Inmarsat, satellites and international networks.
_SATELLITES = (870, 881, 882, 883)
EMERGENCY = "emergency numbers are not dialled: dial them by hand"
PREMIUM = "premium-rate numbers are not dialled"
SATELLITE = "numbers of satellites and of international networks are not dialled"
IMPOSSIBLE = "no phone number has this many digits; write it with a plus and the country code"
ABROAD = "only numbers in the countries of DIAL_COUNTRIES are dialled"


def act(bridge: Bridge, operation: Operation, request: Request) -> dict[str, Any]:
    """
    Pass an action on to the PBX, and return its envelope; a repeated command returns the first answer.

    Raises Refused for invalid input and for a command that is not allowed, both before a call to the PBX; PbxError;
    BudgetExhausted; StorageUnavailable.
    """
    values = check(operation, request, zone=bridge.settings.time_zone)
    return _once(bridge, operation, values, request.headers) if operation.command else _ask(bridge, operation, values)


def _ask(bridge: Bridge, operation: Operation, values: Mapping[str, Any]) -> dials.Answer:
    envelope = bridge.pbx.envelope(operation.id, lane="action", **values)
    data = envelope.get("data")
    # A command has rung unless the PBX refused it, even if the answer is empty.
    return passed_on(operation, envelope, data if operation.command else content(operation, data))


def _once(bridge: Bridge, operation: Operation, values: Mapping[str, Any], headers: Mapping[str, str]) -> dials.Answer:
    """
    Pass a command on to the PBX, unless the same request was claimed before.

    A claim is released if the PBX refused the command or was not reached: nothing has rung, and a retry may ring.
    """
    storage, settings = bridge.storage, bridge.settings
    numbers = {row.name: values[row.name] for row in operation.parameters if is_number(row) and row.name in values}
    region, countries = settings.default_region, settings.dial_countries
    reasons = {name: refused(number, region, countries) for name, number in numbers.items()}
    if wrong := {name: reason for name, reason in reasons.items() if reason}:
        logger.warning("signal dial_limit operation=%s reason=%s", operation.id, next(iter(wrong.values())))
        raise Invalid(wrong)
    request = _request(bridge, operation, values, numbers, headers)
    if (before := dials.claim(storage, request, settings.dial_per_hour)) is not None:
        return before
    try:
        answer = _ask(bridge, operation, values)
    except BridgeError as error:
        with _outcome():
            if isinstance(error, (PbxUnavailable, PbxNotUnderstood)) and not isinstance(error, PbxUnreachable):
                dials.complete(storage, request, None)
            else:
                dials.release(storage, request)
        raise
    with _outcome():
        dials.complete(storage, request, answer)
    return answer


@contextmanager
def _outcome() -> Iterator[None]:
    """Keep the claim if the outcome cannot be stored, so that nothing rings twice."""
    try:
        yield
    except (StorageUnavailable, Conflict):
        logger.warning("a dial's outcome could not be stored; its claim stays", exc_info=True)


def _request(
    bridge: Bridge,
    operation: Operation,
    values: Mapping[str, Any],
    numbers: Mapping[str, str],
    headers: Mapping[str, str],
) -> dials.Request:
    """
    Return the request with the id that its repeats share.

    The id is made of the `Idempotency-Key`; or of the call with Logic Apps' headers for the workflow's run and action;
    or of the call alone. The first two count for an hour, the last one for a minute. Raises Invalid for a key that is
    empty, too long or not ASCII.
    """
    region = bridge.settings.default_region

    def digest(*parts: str) -> str:
        return people.digest(bridge.storage, json.dumps(parts))

    # All spellings of a number make the same call.
    normalized = {**values, **{name: e164(number, region) or number for name, number in numbers.items()}}
    call = digest("call", operation.id, json.dumps(normalized, sort_keys=True))
    same: tuple[str, ...]
    if (key := headers.get(KEY_HEADER)) is not None:
        if not re.fullmatch(KEY_PATTERN, key):
            raise Invalid({KEY_HEADER: "1 to 255 letters, digits and signs are expected"})
        same, keep = ("key", key), KEEP
    elif run := next((headers[name] for name in _RUN_HEADERS if headers.get(name)), None):
        same, keep = ("run", run, *(headers.get(name) or "" for name in _ACTION_HEADERS), call), KEEP
    else:
        same, keep = ("soon", call), RETRY_WINDOW
    subjects = tuple(people.number(number, region) for number in numbers.values())
    return dials.Request(id=digest(*same), call=call, subjects=subjects, keep=keep)


def refused(number: str, region: str, countries: tuple[str, ...]) -> str | None:
    """
    Return the reason why a number is not dialled in `region`, or None if it may be dialled.

    A stolen key must not run up a bill: a number is refused if any reading of it is costly. Short numbers of up to six
    digits belong to `region`.
    """
    import phonenumbers

    # As written, and as an international number with a lost plus or extra zeros.
    readings: list[PhoneNumber] = []
    for text in (number, "+" + number.lstrip("+0")):
        with suppress(phonenumbers.NumberParseException):
            readings.append(phonenumbers.parse(text, region))
    # A single zero is a national prefix, not a lost plus.
    certain = readings[:1] if re.match("0[1-9]", number) else readings
    valid = next(filter(phonenumbers.is_valid_number, certain), None)
    if _is_emergency(number, region, valid):
        return EMERGENCY
    # Networks ignore zeros after a country code.
    bare = [phonenumbers.PhoneNumber(read.country_code, national_number=read.national_number) for read in readings]
    for parsed in [valid] if valid else [*readings, *bare]:
        if reason := _costly(parsed, region):
            return reason
    exact = valid or next(filter(phonenumbers.is_possible_number, readings), None)
    if exact is None and (len(number) > _LONGEST_SHORT or number[0] in "+0"):
        return IMPOSSIBLE
    country = phonenumbers.region_code_for_number(exact) if exact else region
    return ABROAD if countries and country not in countries else None


def _is_emergency(number: str, region: str, valid: PhoneNumber | None) -> bool:
    """Return True if an emergency service would answer; `valid` is the parsed number if it is an ordinary one."""
    import phonenumbers

    if phonenumbers.connects_to_emergency_number(number, region):
        # In some countries ordinary numbers begin with the digits of an emergency number.
        usual = phonenumbers.format_number(valid, phonenumbers.PhoneNumberFormat.NATIONAL) if valid else ""
        return re.sub("[^0-9]", "", usual) != number
    code, bare = str(phonenumbers.country_code_for_region(region)), number.lstrip("+0")
    spellings = {number.lstrip("+"), bare, bare.removeprefix(code).lstrip("0")}
    short = (text for text in spellings if len(text) <= _LONGEST_SHORT)
    return not valid and any(phonenumbers.connects_to_emergency_number(text, region) for text in short)


def _costly(parsed: PhoneNumber, region: str) -> str | None:
    """Return the reason why a number is costly, or None; surplus digits do not hide it."""
    import phonenumbers

    whole = phonenumbers.PhoneNumber()
    whole.merge_from(parsed)
    phonenumbers.truncate_too_long_number(whole)
    cost, kind = phonenumbers.expected_cost_for_region(parsed, region), phonenumbers.number_type(whole)
    if cost == phonenumbers.ShortNumberCost.PREMIUM_RATE or kind == phonenumbers.PhoneNumberType.PREMIUM_RATE:
        return PREMIUM
    is_short = phonenumbers.is_possible_number_with_reason(parsed) == phonenumbers.ValidationResult.TOO_SHORT
    return SATELLITE if parsed.country_code in _SATELLITES and not is_short else None
