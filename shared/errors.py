"""
Every error the app raises on purpose: the type says what to do next, and a row of ANSWERS what to say over HTTP.

A caller's fault is Refused, what passes is Conflict, BudgetExhausted, PbxRetriable or StorageUnavailable, and what a
message can never get over is Unprocessable, PbxFatal or MediaRefused: a dead letter at once.
"""

from __future__ import annotations

from dataclasses import dataclass

RETRY_AFTER_SECONDS = 5


class BridgeError(Exception):
    """The root of every error this app raises on purpose."""


class ConfigError(BridgeError):
    """The app is set up wrongly; the text names every wrong setting and what to do."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One field that does not fit: its dotted path and a fixed reason, never the value."""

    path: str
    reason: str


class Refused(BridgeError):
    """A caller sent what we cannot use."""


class NotJson(Refused):
    """The body is not JSON."""


class LengthRequired(Refused):
    """The body came in chunks, without its length: the host passes nothing of it on."""


class TooLarge(Refused):
    """The body is over the limit."""


class Invalid(Refused):
    """The body or a parameter does not fit; `fields` says where."""

    def __init__(self, fields: tuple[FieldError, ...]) -> None:
        super().__init__("; ".join(f"{field.path}: {field.reason}" for field in fields))
        self.fields = fields


class WrongContinuation(Refused):
    """The mark of a list's next part looks like one of ours, and is none."""


class AudioTooLarge(Refused):
    """The audio is there, and too long to be answered in one piece."""


class Unauthorized(Refused):
    """The key that the route asks for is missing or wrong."""


class NotFound(BridgeError):
    """What was asked for is not here."""


class StorageUnavailable(BridgeError):
    """Our storage is out of reach; nothing was taken."""

    retry_after = RETRY_AFTER_SECONDS


class NewerRelease(StorageUnavailable):
    """A message or row that a newer release of this app wrote; nothing was done with it."""


class Conflict(BridgeError):
    """Others kept changing the same row."""

    retry_after = 1


class DialInProgress(Conflict):
    """Somebody else is asking the PBX for the same call at this moment."""

    retry_after = 2


class DialRefused(BridgeError):
    """The call is not rung for this request."""


class DialUncertain(DialRefused):
    """The PBX was asked for this call and never said whether it rang; it is not asked again."""


class KeyReused(DialRefused):
    """The request's Idempotency-Key was used for another call."""


class DialLimit(BridgeError):
    """As many calls as an hour may have were made; `retry_after` is in seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__("this hour's calls have been made")
        self.retry_after = retry_after


class TooManySubscriptions(BridgeError):
    """There are as many subscriptions as there may be."""


class Unprocessable(BridgeError):
    """A message that can never succeed."""


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
    """No such item; on a list it means that nothing matches."""


class PbxNoItem(PbxNotFound):
    """The answer brings no item, and no 404 says that there is none: it proves nothing."""


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
    """A recording or voicemail could not be copied; `reason` is a fixed word or two."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class MediaNotReady(MediaError):
    """The file is not there yet, or came incomplete: try again on the schedule."""


class MediaUnreachable(MediaError):
    """The file's server is out of reach."""


class MediaRefused(MediaError):
    """The file must not be fetched from there, or is no audio: dead letter at once."""
