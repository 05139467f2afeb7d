"""What each error answers over HTTP: one table for replies and for the definition."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import (
    AudioTooLarge,
    BridgeError,
    BudgetExhausted,
    ConfigError,
    Conflict,
    DialInProgress,
    DialLimit,
    DialUncertain,
    Invalid,
    KeyReused,
    LengthRequired,
    NotFound,
    NotJson,
    PbxForbidden,
    PbxNotFound,
    PbxNotUnderstood,
    PbxRefused,
    PbxThrottled,
    PbxUnavailable,
    Refused,
    StorageUnavailable,
    TooLarge,
    TooManySubscriptions,
    Unauthorized,
    WrongContinuation,
)

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Answer:
    """A row: the HTTP status for an error, what happened, and what to do; without that, the error's own `remedy`."""

    status: int
    title: str
    remedy: str = ""


_LATER = "Send it again later"
_NO_ITEMS = "Please make sure that items exist and check the filter fields if they're filled correctly"
# The words for PbxNotFound, PbxForbidden and PbxRefused are those of the PBX's reference.
ANSWERS: Mapping[type[BridgeError], Answer] = {
    BridgeError: Answer(500, "Something went wrong here", "The app's log has the details"),
    ConfigError: Answer(500, "Invalid settings", "The app's log says which ones to fix"),
    Refused: Answer(400, "The request cannot be used", "Send what the definition describes"),
    NotJson: Answer(400, "The body is not JSON", "Send a JSON object"),
    LengthRequired: Answer(411, "The body came without its length", "Send Content-Length, not Transfer-Encoding"),
    TooLarge: Answer(413, "The body is too large", "Send at most 64 KiB"),
    Invalid: Answer(422, "The request does not fit", "Correct the fields that are named"),
    WrongContinuation: Answer(400, "The continuation is none that was given", "Begin again without it"),
    AudioTooLarge: Answer(413, "The audio is over 32 MiB", "Read it from Blob Storage"),
    Unauthorized: Answer(401, "The key is missing or wrong", "Send the key that is made for this address"),
    NotFound: Answer(404, "Not found", "Check the address and the id"),
    DialUncertain: Answer(409, "The PBX did not say whether this call rang", "Ask the employee before you call again"),
    KeyReused: Answer(409, "This Idempotency-Key was used for another call", "Send a new one"),
    TooManySubscriptions: Answer(409, "There are 200 subscriptions already", "End one first"),
    DialInProgress: Answer(503, "This call is being asked for already", "Send it again"),
    DialLimit: Answer(429, "As many calls as an hour may have were made", _LATER),
    StorageUnavailable: Answer(503, "Storage is out of reach", "Send it again"),
    Conflict: Answer(503, "Too many changes came at once", "Send it again"),
    BudgetExhausted: Answer(429, "The PBX's calls for this minute are used up", _LATER),
    PbxNotFound: Answer(404, "There are no items found based on the request", _NO_ITEMS),
    PbxForbidden: Answer(403, "Forbidden"),
    PbxRefused: Answer(422, "Please check if the filter values are filled out correctly"),
    PbxThrottled: Answer(429, "The PBX has had too many calls", _LATER),
    PbxUnavailable: Answer(503, "The PBX is out of reach", _LATER),
    PbxNotUnderstood: Answer(502, "The PBX's answer could not be understood", _LATER),
}


def answer_to(error: type[BridgeError]) -> Answer:
    """The row for an error: its own, or that of the next class above it which has one."""
    return next(ANSWERS[kind] for kind in error.__mro__ if kind in ANSWERS)
