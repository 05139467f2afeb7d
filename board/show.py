"""Values as people read them: names, numbers, times and states, in the language and time zone of the page."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from babel.dates import format_timedelta
from flask import Flask, current_app, g, request, url_for
from flask_babel import format_date, format_datetime, format_time, get_locale, gettext, lazy_gettext

from shared.bridge import Bridge
from shared.errors import BridgeError, Invalid, PbxError, answer_to
from shared.items import store
from shared.times import event_time, local_day, now
from shared.values import e164

_LONGEST = 200
_MOST_CONTACTS = 1000

OUTCOMES: Mapping[str, Any] = {
    "answered": lazy_gettext("Answered"),
    "missed": lazy_gettext("Missed"),
    "voicemail": lazy_gettext("Left a voicemail"),
    "busy": lazy_gettext("Busy"),
    "declined": lazy_gettext("Declined"),
    "failed": lazy_gettext("Failed"),
    "unanswered": lazy_gettext("No answer"),
    "ringing": lazy_gettext("Ringing"),
    "talking": lazy_gettext("Talking"),
    "unknown": lazy_gettext("Unknown"),
}


def here() -> Bridge:
    """Return the bridge that the page belongs to."""
    return current_app.extensions["bridge"]


@dataclass(frozen=True, slots=True)
class Directory:
    """
    Names of the company's own people.

    `names` are by contactID, `numbers` by number in E.164, `present` by contactID without archived contacts.
    """

    names: Mapping[int, str]
    numbers: Mapping[str, str]
    present: Mapping[int, str]

    def named(self, text: str) -> list[int]:
        """Return the ids of the employees whose name contains all words of a text."""
        wanted = text.casefold().split()
        return [id for id, name in self.names.items() if all(word in name.casefold() for word in wanted)]


def directory() -> Directory:
    """Return the names of the contacts, read once a request."""
    if "directory" not in g:
        region, names, numbers, present = here().settings.default_region, {}, {}, {}
        for contact in islice(store.downwards(here().storage, "contacts"), _MOST_CONTACTS):
            id = int(contact["contactID"])
            words = (str(contact.get(name) or "").strip() for name in ("firstname", "lastname"))
            names[id] = " ".join(filter(None, words)) or str(id)
            if not int(contact.get("archived") or 0):
                present[id] = names[id]
            if (full := e164(contact.get("number"), region)) is not None:
                numbers[full] = names[id]
        g.directory = Directory(names, numbers, dict(sorted(present.items(), key=lambda item: item[1].casefold())))
    return g.directory


def employee(contact_id: int | None) -> str:
    """Return an employee's name, or the id where there is no name."""
    return directory().names.get(contact_id, f"#{contact_id}") if contact_id else ""


def phone(number: str | None, full: str | None = None) -> str:
    """Return a number in international format; other text as it is, and "withheld" for none."""
    from phonenumbers import PhoneNumberFormat, format_number, parse

    full = full or e164(number, here().settings.default_region)
    if full:
        return format_number(parse(full), PhoneNumberFormat.INTERNATIONAL).replace(" ", "\N{NO-BREAK SPACE}")
    return short(number) or gettext("withheld")


def party(number: str | None, full: str | None = None) -> str:
    """Return the name of the employee with a number, else the number."""
    full = full or e164(number, here().settings.default_region)
    return directory().numbers.get(full or "") or phone(number, full)


def short(text: Any) -> str:
    """Return a text on one line, at most 200 characters long."""
    flat = " ".join(str(text or "").split())
    return flat if len(flat) <= _LONGEST else flat[: _LONGEST - 1] + "…"


def when(moment: datetime | None) -> str:
    """Return the time of day, with the date unless it is today."""
    if moment is None:
        return "–"
    clock, zone = format_time(moment, "HH:mm"), here().settings.time_zone
    return clock if local_day(moment, zone) == local_day(now(), zone) else f"{day(moment)} {clock}"


def day(moment: datetime) -> str:
    """Return a date, without the year if it is this year."""
    zone = here().settings.time_zone
    date = local_day(moment, zone)
    return format_date(date, "d MMM" if date.year == local_day(now(), zone).year else "d MMM y")


def exact(moment: datetime | None) -> str:
    """Return date and time to the second."""
    return format_datetime(moment, "d MMMM y HH:mm:ss") if moment else ""


def span(seconds: float | None) -> str:
    """Return a length of time in its largest unit."""
    if seconds is None:
        return "–"
    return format_timedelta(timedelta(seconds=seconds), format="short", threshold=2, locale=get_locale())


def minutes(seconds: float | None) -> str:
    """Return the length of a call as minutes and seconds, with hours if it has any."""
    return str(timedelta(seconds=round(seconds))).removeprefix("0:") if seconds else "–"


def ago(moment: datetime | None) -> str:
    """Return the time since a moment in its largest unit."""
    if moment is None:
        return "–"
    passed = max(now() - moment, timedelta(minutes=1))
    return format_timedelta(-passed, format="short", threshold=1, add_direction=True, locale=get_locale())


def reason(error: BridgeError) -> str:
    """Return the title and remedy of an error as sentences; for Invalid, the text of each field."""
    row = answer_to(error)
    if isinstance(error, Invalid):
        return "; ".join(f"{name}: {text}" for name, text in error.fields.items())
    remedy = row.remedy or (error.remedy if isinstance(error, PbxError) else "")
    return f"{row.title}. {remedy}." if remedy else f"{row.title}."


def same_with(**values: Any) -> str:
    """Return the URL of this page with changed parameters; None and empty ones are left out."""
    query = request.args.to_dict() | values
    kept = {name: value for name, value in query.items() if value not in (None, "")}
    return url_for(request.endpoint or "today.index", **(request.view_args or {}), **kept)


def add_to(page: Flask, zone: str) -> None:
    """Add these functions to the templates."""
    files = sorted(Path(page.static_folder or "").iterdir())
    version = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    filters = (employee, phone, party, short, when, day, exact, span, minutes, ago, event_time)
    page.jinja_env.filters.update({function.__name__: function for function in filters})
    page.jinja_env.globals.update(
        asset=lambda name: url_for("static", filename=name, v=version),
        get_locale=get_locale,
        now=now,
        same_with=same_with,
        zone=zone,
        OUTCOMES=OUTCOMES,
    )
