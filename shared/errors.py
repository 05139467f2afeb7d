"""
Errors that the app raises on purpose, the answer to each over HTTP, and redaction of others' words in them.

Refused is the caller's fault. Conflict, BudgetExhausted, PbxRetriable and StorageUnavailable pass with time.
Unprocessable and MediaRefused never do: a message that raises them is a dead letter at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Answer:
    """A row: the HTTP status for an error, what happened, and what to do; without that, the error's own `remedy`."""

    status: int
    title: str
    remedy: str = ""


_LATER = "Send it again later"
# The rows that Refused is raised with.
INVALID_JSON = Answer(400, "Invalid JSON", "Send a JSON object")
INVALID_FIELDS = Answer(422, "Invalid fields", "Correct the fields that are named")
INVALID_CONTINUATION = Answer(400, "Invalid continuation token", "Start again without it")
WRONG_KEY = Answer(401, "Invalid or missing key", "Send the key of this address")
NO_LENGTH = Answer(411, "Content-Length required", "Send Content-Length, not Transfer-Encoding")
BODY_TOO_LARGE = Answer(413, "Body too large", "Send at most 64 KiB")
AUDIO_TOO_LARGE = Answer(413, "Audio over 32 MiB", "Read it in ranges, or from Blob Storage")
TOO_MANY_SUBSCRIPTIONS = Answer(409, "Limit of 200 subscriptions reached", "Delete one first")
KEY_REUSED = Answer(409, "Idempotency-Key already used for another call", "Send a new one")
DIAL_UNCERTAIN = Answer(409, "The PBX did not say whether this call rang", "Ask the employee before you call again")
DIAL_IN_PROGRESS = Answer(503, "Call already in progress", "Send it again")
DIAL_LIMIT = Answer(429, "Hourly dial limit reached", _LATER)


class BridgeError(Exception):
    """The root of every error this app raises on purpose."""


class ConfigError(BridgeError):
    """The app is set up wrongly; the text names every wrong setting and what to do."""


class Refused(BridgeError):
    """A request that is refused; `answer` is the row with the reason."""

    def __init__(self, answer: Answer, text: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(text or answer.title)
        self.answer = answer
        self.retry_after = retry_after


class Invalid(Refused):
    """The body or a parameter does not fit: `fields` has dotted paths, each with a fixed reason, never the value."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__(INVALID_FIELDS, "; ".join(f"{path}: {reason}" for path, reason in fields.items()))
        self.fields = fields


class NotFound(BridgeError):
    """The thing that was asked for does not exist."""


class StorageUnavailable(BridgeError):
    """Our storage is out of reach; nothing was accepted."""

    retry_after = RETRY_AFTER_SECONDS


class Conflict(BridgeError):
    """Others kept changing the same row."""

    retry_after = 1


class Unprocessable(BridgeError):
    """A message that can never succeed, or a row whose body is gone."""


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


class PbxForbidden(PbxError):
    """Wrong key, an address outside the key's IP list, or an API method that is not granted to it."""


class PbxNotFound(PbxError):
    """The PBX says in its own wrapping that there is no such item; on a list, that nothing matches."""


class PbxRefused(PbxError):
    """The PBX did not accept a parameter; `remedy` holds its words with numbers masked."""


class PbxNotUnderstood(PbxError):
    """The answer was HTML, cut JSON, or larger than any real answer."""


class PbxRetriable(PbxError):
    """Asking again later may help; `retry_after` has the PBX's seconds, if any."""

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
    """The file is not there yet, or is incomplete: try again on the schedule."""


class MediaUnreachable(MediaError):
    """The file's server is out of reach."""


class MediaRefused(MediaError):
    """The file must not be fetched from there, or is no audio: dead letter at once."""


_NO_ITEMS = "Please make sure that items exist and check the filter fields if they're filled correctly"
# The words for PbxNotFound, PbxForbidden and PbxRefused are those of the PBX's reference.
ANSWERS: Mapping[type[BridgeError], Answer] = {
    BridgeError: Answer(500, "Internal error", "See the app's log"),
    ConfigError: Answer(500, "Invalid settings", "See the app's log for their names"),
    NotFound: Answer(404, "Not found", "Check the address and the id"),
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


def answer_to(error: BridgeError) -> Answer:
    """Return the row for an error: its own, or that of its class or of the next class above it which has one."""
    if isinstance(error, Refused):
        return error.answer
    return next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)


HIDDEN = "…"
# Anybody may send these texts, so each rule takes time in proportion to their length: a name of any length is matched
# from its first character only.
_RULES: tuple[tuple[re.Pattern[str], str], ...] = (
    # An address keeps its host: path and query hold keys.
    (re.compile(r"(?i)\b([a-z][a-z0-9+.-]{1,15}://)(?:[^\s/@]*@)?([^\s/?#\"'<>]*)[^\s\"'<>]*"), rf"\1\2/{HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|basic)\s+[^\s\"',;<>]+"), rf"\1 {HIDDEN}"),
    (
        re.compile(
            r"(?i)(?<![\w-])([\w-]*(?:key|token)|(?:[\w-]*-)?(?:code|secret|password|sig))(\"?\s*[=:]\s*)[^\s&,;]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
    # Phone numbers however they are spelled; ids look the same and go too.
    (re.compile(r"\+?\(?\d(?:[\s().\u00a0-]{0,2}\d){4,}"), HIDDEN),
)


def redact(text: str) -> str:
    """
    Return the text with secrets and numbers hidden, in time that grows as the text does.

    Masked are digit runs of five and more (also with a plus, spaces, dots, dashes or brackets inside), paths and
    queries of URLs, credentials after `Bearer`, and values after `code=`, `key=`, `token=` and the like.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    return text
