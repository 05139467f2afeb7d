"""The demonstration: play a simulated day, and print a line for each event."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests

from dev.listener import Answer, Listener
from dev.server import Request
from dev.signatures import verify
from dev.simulator import SimulatorProcess

if TYPE_CHECKING:
    import threading

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 90
_PAGE = 200
# STEADY accepts every completed call. SHAKY refuses its first event.
STEADY, SHAKY = "/steady", "/shaky"
_SUBSCRIPTIONS = ((STEADY, "CallCompleted"), (SHAKY, "CallStarted"))


class Subscribers(Listener):
    """A local listener with two subscriptions at the app."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self._secrets: dict[str, str] = {}
        self._refused = ""
        self._is_shown = False

    def subscribe(self, app: App) -> None:
        """Make both subscriptions at the app."""
        for path, event in _SUBSCRIPTIONS:
            answer = app.ask("POST", f"/api/v2/webhooks/{event}", json={"endpoint": self.origin + path})
            answer.raise_for_status()
            self._secrets[path] = answer.json()["secret"]

    def news(self) -> str:
        """Return a line once the refused event is posted again and its signature is verified; else an empty text."""
        retries = [request for request in self.on(SHAKY) if request.id == self._refused][1:]
        if self._is_shown or not retries:
            return ""
        self._is_shown = True
        verify(retries[0].headers, retries[0].body, [self._secrets[SHAKY]], time.time())
        return "A subscriber that was down got its event at the second try, signed"

    def _answer(self, received: Request) -> Answer:
        if received.path == SHAKY and not self._refused:
            self._refused = received.id
            return HTTPStatus.SERVICE_UNAVAILABLE, {}
        return HTTPStatus.OK, {}


class App:
    """The running app, over HTTP."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def ask(self, method: str, path: str, **options: Any) -> requests.Response:
        """Send a request below the app's address."""
        return self._session.request(method, self.url + path, timeout=60, **options)

    def poll_once(self, stop: threading.Event) -> None:
        """Read each list of the PBX for the first time, so that all items of the day are new."""
        names = [row["name"] for row in self.ask("GET", "/admin/functions").json()]
        polls = {name for name in names if name.startswith("Poll")}
        for name in polls:
            self.ask("POST", f"/admin/functions/{name}", json={"input": ""})
        while not stop.wait(0.2):
            host = self.ask("GET", "/admin/host/status").json()
            if polls <= host["executed"].keys() and not host["running"]:
                return

    def register(self) -> str:
        """Have the app register its webhooks at the PBX; return the result in words."""
        answer = self.ask("POST", "/api/ops/webhooks/sync")
        body = answer.json()
        if answer.ok:
            return f"{len(body.get('held', []))} registered at the PBX"
        return f"not registered: {body.get('problem') or body.get('detail') or body.get('title') or answer.text}"

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield the newest 200 events in ascending order."""
        # `data` is null while storage is out of reach.
        yield from reversed(self.ask("GET", "/api/v2/events", params={"limit": _PAGE}).json()["data"] or ())

    def problems(self) -> list[str]:
        """Return the problems in the app's status."""
        return [str(problem) for problem in self.ask("GET", "/api/ops/status").json().get("problems", [])]


class Day:
    """Prints the events from now on; the phone numbers of a real PBX are masked."""

    def __init__(
        self,
        app: App,
        *,
        pbx: SimulatorProcess | None,
        subscribers: Subscribers | None,
        stop: threading.Event,
    ) -> None:
        self._app, self._pbx, self._subscribers, self._stop = app, pbx, subscribers, stop
        self._seen = {event["id"] for event in app.events()}
        self._names: dict[int, str] = {}
        # By call: True if it was answered.
        self._calls: dict[int, bool] = {}
        self._restored: set[int] = set()
        self._voicemails = 0

    def run(self, pace: float) -> None:
        """Play the day, its steps `pace` real seconds apart, and print it; with a real PBX, print until stopped."""
        if self._pbx is not None:
            self._pbx.control("POST", "day", pace=pace)
            self._names = self._contacts(self._pbx)
        waited = 0.0
        while not self._stop.wait(_LOOK_SECONDS):
            fresh = self._look()
            if self._pbx is None or not self._pbx.control("GET", "day")["done"]:
                continue
            waited += _LOOK_SECONDS
            if waited > _PATIENCE_SECONDS or (not fresh and len(self._calls) >= self._happened() and waited > 2):
                self._count(self._happened())
                return

    def _happened(self) -> int:
        assert self._pbx is not None
        return int(self._pbx.control("GET", "counts")["call_history"])

    def _contacts(self, pbx: SimulatorProcess) -> dict[int, str]:
        headers = {"Authorization": f"Bearer {pbx.api_key}"}
        contacts: list[dict[str, Any]] = []
        while not contacts and not self._stop.wait(0.1):
            answer = requests.get(f"{pbx.base_url}trigger/contacts?initial_contact_id=0", headers=headers, timeout=10)
            contacts = answer.json()["data"] or []
        return {row["contactID"]: f"{row['firstname']} {row['lastname']}" for row in contacts}

    def _look(self) -> bool:
        """Print new events and deliveries; False where there are none."""
        fresh = [event for event in self._app.events() if event["id"] not in self._seen]
        for event in fresh:
            self._seen.add(event["id"])
            if line := self._line(event, event["data"]):
                _say(line)
        if self._subscribers and (line := self._subscribers.news()):
            _say(line)
        return bool(fresh)

    def _line(self, event: dict[str, Any], data: dict[str, Any]) -> str:
        """Return the line of an event; an empty text if it adds nothing to earlier lines."""
        caller, employee = self._number(data.get("caller")), self._name(data.get("contactID"))
        match event["type"]:
            case "CallCompleted":
                return self._call(event, data, caller, employee)
            case "CallTransfered":
                return f"{self._name(data.get('previous_contactID'))} hands {caller} over to {employee}"
            case "LostCallerAdded":
                return f"{self._number(data.get('callerid'))} reached nobody and waits to be called back"
            case "LostCallerRemoved":
                return f"{self._number(data.get('callerid'))} was called back"
            case "VoicemailCreated":
                self._voicemails += 1
                return f"{self._number(data.get('sender'))} left a voicemail of {_length(data.get('length'))}"
        return ""

    def _name(self, contact: int | None) -> str:
        return self._names.get(contact or 0, "An employee")

    def _call(self, event: dict[str, Any], data: dict[str, Any], caller: str, employee: str) -> str:
        call, seconds = event["callID"], data.get("connectionTime") or 0
        if call in self._calls and (self._calls[call] or not seconds):
            return ""
        self._calls[call] = bool(seconds)
        line = f"{caller} called {employee}, who did not answer"
        if seconds:
            line = f"{employee} answered {caller}: talked {_length(seconds)}"
            if data.get("direction") == "out":
                line = f"{employee} called {self._number(data.get('destination'))}: talked {_length(seconds)}"
        if event["origin"] == "webhook":
            return line
        self._restored.add(call)
        return f"{line}  (no webhook came: restored by a poll)"

    def _number(self, number: Any) -> str:
        text = str(number or "")
        if self._pbx is None:
            return masked(text)
        digits = text.removeprefix("+371")
        return f"+371 {digits[:4]} {digits[4:]}" if digits.isdecimal() and len(digits) == 8 else text or "Hidden number"

    def _count(self, happened: int) -> None:
        answered, lost = sum(self._calls.values()), happened - len(self._calls)
        missed = len(self._calls) - answered
        parts = [
            f"{len(self._calls)} call{'s' * (len(self._calls) != 1)}",
            f"{answered} answered",
            f"{missed} missed",
            f"{self._voicemails} voicemail{'s' * (self._voicemails != 1)}",
            f"{len(self._restored)} restored",
            f"{lost} lost" if lost > 0 else "nothing lost",
        ]
        print(f"\nThe day: {', '.join(parts)}.")
        for problem in self._app.problems():
            print(f"Status: {problem}")


def _say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)


def _length(seconds: Any) -> str:
    minutes, rest = divmod(int(seconds or 0), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{value} {unit}" for value, unit in parts if value) or "0 s"


def masked(number: str | None) -> str:
    """Return the number with all but its last two digits hidden."""
    return f"…{number[-2:]}" if number and len(number) > 4 else "…"


def is_public(url: str) -> bool:
    """True if the host may be reached from the internet."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith((".local", ".localhost", ".internal"))
