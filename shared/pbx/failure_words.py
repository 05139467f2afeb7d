"""Whether words say that something failed: anywhere in them, in the languages around the Baltic Sea, unless negated."""

from __future__ import annotations

import re

# No status is longer; what is, is text about something else.
_LONGEST = 500
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
# Words for success are not documented, so only these say that something went wrong. The first may be the end of a
# longer word, the last lines count as the whole, the beginning or the end of what is said.
_FAILURE = re.compile(
    r"""\b(?:
    (?!(?:no|zero|without)errors?\b) \w* (?: errors? | failures? | exceptions? | denied | refused | rejected | timeout )
    | err | errs | erroneous | erreur | error(?!free|less)\w+
    | fail(?:s|ed|ing)? | faults? | faulty | deny | denies | refus(?:e|es|al) | reject(?:s|ion)? | forbidden
    | invalid\w* | abort(?:s|ed|ing)? | fatal | critical | crash(?:es|ed)? | panic | timed\ out | time\ out | timedout
    | \w*exceeded | \w*throttled | overload(?:ed)? | problems? | declined | nok | nack | nak | oops | wrong | incorrect
    | prohibited | malformed | illegal | insufficient | unsuccess\w* | maintenance | outage | impossible | unable
    | cannot | cant
    | un(?:available|authori[sz]ed|authenticated|processable|reachable|supported|permitted|expected|healthy|resolved
        |recogni[sz]ed|responsive) | unknown\ \w+ | too\ ?many | limit\ ?reached | try\ again
    | (?:can|could|did|does|has|have|is|are|was|were|will|would|must)(?:\ not|nt)\ (?!fail|err|need|necess|requir
        |chang|modif)\w+
    | not?\ ?(?:ok|success\w*)\b
    | not\ ?(?:found|allowed|permitted|available|authori[sz]ed|authenticated|supported|implemented|accept\w+|valid
        |possible|reachable|connected|ready|registered|granted|enabled|working|responding|done|completed|processed
        |exist\w*|sent|delivered|saved|created|enough|understood)
    | no\ (?:answer|route|connection|response|reply|permission|rights?|access|carrier|service|such\ \w+)
    | bad\ ?(?:request|gateway|parameter|credentials|key|token|method)
    | kļūd\w* | kļūm\w* | neizdev\w* | nav\ (?:atļaut|pieejam|iespējam)\w* | aizlieg\w* | noraidīt\w* | aizņemt\w*
    | klaid\w* | nepavyk\w* | nepavyko | negalim\w* | uždraust\w* | neleidžiam\w* | užimt\w*
    | (?:serveri|süsteemi|andmebaasi|sise)?viga | ebaõnnest\w* | keelat\w* | hõivat\w* | \w*virhe | (?:server)?fel
    | \w*fehler | fehlgeschlagen | échec | błąd
    | ошибк\w* | ошибок | сбой | не\ удалось | отказано | запрещ\w* | недоступ\w* | занят\w*
    )\b
    | ^(?:blocked|cancel(?:l?ed)?|ko|ng|no|false|bad)$ | ^cancel(?:l?ed)\b | ^(?:missing|busy|denied)\b
    | \b(?:busy|down|gone|lost|missing|offline|expired|locked|suspended|revoked|broken|corrupt(?:ed)?|conflict
        |disconnected|interrupted|incomplete)$
    """,
    re.VERBOSE,
)
_NONE_BEFORE = re.compile(
    r"(?:^|\ )(?:no|not|non|none|never|without|zero|0+|nil|free\ of"
    r"|bez|be|без|не|нет|ohne|keine?|sans|ilman|utan|inga|nav|ei)"
    r"(?:\ (?:any|an?|the|further|more|new|known|fatal|critical|internal|server|system|network|validation))*\ $"
)
_NONE_AFTER = re.compile(r"\ (?:free|less|0+|zero|none|nil|nav|nėra|нет|ei|puudub|puuduvad)\b")


def says_failure(text: str) -> bool:
    """Whether a text says that something failed; `no errors` and `errors: 0` do not."""
    return False in _denials(text[:_LONGEST])


def denies_failure(text: str) -> bool:
    """Whether a text says that nothing failed."""
    return set(_denials(text[:_LONGEST])) == {True}


def _denials(text: str) -> tuple[bool, ...]:
    """Of each word for a failure, whether it is negated."""
    words = " ".join(_WORDS.findall(_CAMEL.sub(" ", text.replace("'", "").replace("’", "")))).lower()
    return tuple(
        bool(_NONE_BEFORE.search(words[: match.start()]) or _NONE_AFTER.match(words, match.end()))
        for match in _FAILURE.finditer(words)
    )
