"""
Errors that the app raises on purpose, and a row of ANSWERS for each that is answered over HTTP.

Refused is the caller's fault. Conflict, BudgetExhausted, PbxRetriable and StorageUnavailable pass with time.
Unprocessable and MediaRefused never do: a message that raises them is a dead letter at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

RETRY_AFTER_SECONDS = 5


class BridgeError(Exception):
    """The root of every error this app raises on purpose."""


class ConfigError(BridgeError):
    """The app is set up wrongly; the text names every wrong setting and what to do."""


class Refused(BridgeError):
    """A caller sent what we cannot use."""


class NotJson(Refused):
    """The body is not JSON."""


class LengthRequired(Refused):
    """The body came in chunks, without its length: the host passes nothing of it on."""


class TooLarge(Refused):
    """The body is over the limit."""


class Invalid(Refused):
    """The body or a parameter does not fit: `fields` has dotted paths, each with a fixed reason, never the value."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("; ".join(f"{path}: {reason}" for path, reason in fields.items()))
        self.fields = fields


class WrongContinuation(Refused):
    """The continuation token is invalid."""


class AudioTooLarge(Refused):
    """The audio is there, and too long to be answered in one piece."""


class Unauthorized(Refused):
    """The key that the route asks for is missing or wrong."""


class NotFound(BridgeError):
    """What was asked for is not here."""


class StorageUnavailable(BridgeError):
    """Our storage is out of reach; nothing was taken."""

    retry_after = RETRY_AFTER_SECONDS


class Conflict(BridgeError):
    """Others kept changing the same row."""

    retry_after = 1


class DialInProgress(Conflict):
    """Somebody else is asking the PBX for the same call at this moment."""

    retry_after = 2


class DialUncertain(BridgeError):
    """The PBX was asked for this call and never said whether it rang; it is not asked again."""


class KeyReused(BridgeError):
    """The request's Idempotency-Key was used for another call."""


class DialLimit(BridgeError):
    """The hourly dial limit is reached; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("this hour's calls have been made")
        self.retry_after = retry_after


class TooManySubscriptions(BridgeError):
    """There are as many subscriptions as there may be."""


class Unprocessable(BridgeError):
    """A message that can never succeed."""


class PayloadMissing(Unprocessable):
    """The blob that holds the body of a row or message is gone."""


class BudgetExhausted(BridgeError):
    """No PBX call is left in this minute's budget; `retry_after` is in seconds."""

    def __init__(self, retry_after: int = RETRY_AFTER_SECONDS) -> None:
        super().__init__("the PBX's budget of calls is used up for now")
        self.retry_after = retry_after


class PbxError(BridgeError):
    """The PBX answered badly or not at all; `operation` is the operationId that was asked."""

    def __init__(self, operation: str, remedy: str) -> None:
        super().__init__(f"{operation}: {remedy}")
        self.operation = operation
        self.remedy = remedy


class PbxFatal(PbxError):
    """Asking again will not help."""


class PbxForbidden(PbxFatal):
    """Wrong key, an address outside the key's IP list, or an API method that is not granted to it."""


class PbxNotFound(PbxFatal):
    """The PBX says in its own wrapping that there is no such item; on a list, that nothing matches."""


class PbxRefused(PbxFatal):
    """The PBX did not accept a parameter; `remedy` holds its words with numbers masked."""


class PbxNotUnderstood(PbxFatal):
    """The answer was HTML, cut JSON, or larger than any real answer."""


class PbxRetriable(PbxError):
    """Asking again later may help; `retry_after` is in seconds where the PBX said."""

    def __init__(self, operation: str, remedy: str, retry_after: int | None = None) -> None:
        super().__init__(operation, remedy)
        self.retry_after = retry_after


class PbxThrottled(PbxRetriable):
    """The PBX answered 429."""


class PbxUnavailable(PbxRetriable):
    """The PBX is out of reach, slow, or answers 5xx."""


class PbxUnreachable(PbxUnavailable):
    """No connection was made: the PBX cannot have acted."""


class MediaError(BridgeError):
    """A recording or voicemail could not be copied; its text is a fixed word or two."""


class MediaNotReady(MediaError):
    """The file is not there yet, or came incomplete: try again on the schedule."""


class MediaUnreachable(MediaError):
    """The file's server is out of reach."""


class MediaRefused(MediaError):
    """The file must not be fetched from there, or is no audio: dead letter at once."""


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
    BridgeError: Answer(500, "Internal error", "See the app's log"),
    ConfigError: Answer(500, "Invalid settings", "See the app's log for their names"),
    Refused: Answer(400, "Invalid request", "Send what the definition describes"),
    NotJson: Answer(400, "Invalid JSON", "Send a JSON object"),
    LengthRequired: Answer(411, "Content-Length required", "Send Content-Length, not Transfer-Encoding"),
    TooLarge: Answer(413, "Body too large", "Send at most 64 KiB"),
    Invalid: Answer(422, "Invalid fields", "Correct the fields that are named"),
    WrongContinuation: Answer(400, "Invalid continuation token", "Start again without it"),
    AudioTooLarge: Answer(413, "Audio over 32 MiB", "Read it in ranges, or from Blob Storage"),
    Unauthorized: Answer(401, "Invalid or missing key", "Send the key of this address"),
    NotFound: Answer(404, "Not found", "Check the address and the id"),
    DialUncertain: Answer(409, "The PBX did not say whether this call rang", "Ask the employee before you call again"),
    KeyReused: Answer(409, "Idempotency-Key already used for another call", "Send a new one"),
    TooManySubscriptions: Answer(409, "Limit of 200 subscriptions reached", "Delete one first"),
    DialInProgress: Answer(503, "Call already in progress", "Send it again"),
    DialLimit: Answer(429, "Hourly dial limit reached", _LATER),
    StorageUnavailable: Answer(503, "Storage unavailable", "Send it again"),
    Conflict: Answer(503, "Too many simultaneous changes", "Send it again"),
    BudgetExhausted: Answer(429, "PBX call budget exhausted", _LATER),
    PbxNotFound: Answer(404, "There are no items found based on the request", _NO_ITEMS),
    PbxForbidden: Answer(403, "Forbidden"),
    PbxRefused: Answer(422, "Please check if the filter values are filled out correctly"),
    PbxThrottled: Answer(429, "PBX rate limit reached", _LATER),
    PbxUnavailable: Answer(503, "PBX unavailable", _LATER),
    PbxNotUnderstood: Answer(502, "Invalid answer from the PBX", _LATER),
}


def answer_to(error: type[BridgeError]) -> Answer:
    """Return the row for an error: its own, or that of the next class above it which has one."""
    return next(ANSWERS[kind] for kind in error.__mro__ if kind in ANSWERS)
