"""Show the parts of the bridge itself, each trouble with its next step."""

from __future__ import annotations

import json
import math
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext

from board import access, show
from shared.api.status import look
from shared.api.subscribe import listed
from shared.errors import BridgeError
from shared.once import once
from shared.pbx.resources import resource
from shared.storage.account import POISON, QUEUES, reaching_storage
from shared.times import day_bounds, iso, local_day, now, parse_time
from shared.webhooks.sync import MOST_WEBHOOKS
from shared.webhooks.table import HELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from werkzeug.wrappers import Response

    from shared.api.status import Problem
    from shared.bridge import Bridge
    from shared.storage.account import Storage

blueprint = Blueprint("workings", __name__, url_prefix="/workings")

_SHOWN = 50
_SECONDS = 15.0


@dataclass(slots=True)
class _Look:
    """The status as this process read it last."""

    at: float = -math.inf
    problems: Sequence[Problem] = ()
    parts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def sentences(self) -> list[str]:
        """Return what is wrong, the worst first, in the language of the page."""
        return [problem.said(gettext) for problem in self.problems]


@once
def _look(storage: Storage) -> _Look:
    return _Look()


def state(bridge: Bridge) -> _Look:
    """Return the status as /api/ops/status has it, at most a few seconds old: it costs requests to storage."""
    seen = _look(bridge.storage)
    if time.monotonic() - seen.at > _SECONDS:
        (seen.problems, seen.parts), seen.at = look(bridge), time.monotonic()
    return seen


@blueprint.get("/queues")
def queues() -> str:
    """Show in which queues something waits, about how many messages, and since when the oldest does."""
    names = [*QUEUES, *(name + POISON for name in QUEUES)]
    with reaching_storage(), ThreadPoolExecutor(len(names)) as pool:
        found = [queue for queue in pool.map(partial(_queue, show.here().storage), names) if queue["messages"]]
    return render_template("queues.html", queues=found)


def _queue(storage: Storage, name: str) -> dict[str, Any]:
    from azure.core.exceptions import ResourceNotFoundError

    client = storage.queue(name)
    try:
        count = client.get_queue_properties().approximate_message_count or 0
    except ResourceNotFoundError:
        # The host makes a poison queue once it needs one.
        count = 0
    times = [message.inserted_on for message in client.peek_messages(32) if message.inserted_on] if count else []
    oldest = min(times, default=None)
    return {"queue": name, "messages": count, "oldest": iso(oldest) if oldest else None}


@blueprint.get("/")
def index() -> str:
    """Show how the bridge is doing."""
    bridge = show.here()
    with ThreadPoolExecutor(1) as pool:
        subscriptions = pool.submit(listed, bridge)
        seen = state(bridge)
        everybody = subscriptions.result()["data"]
    return render_template(
        "workings.html",
        state=seen.parts,
        problems=seen.sentences,
        subscriptions=everybody,
        most_webhooks=MOST_WEBHOOKS,
        methods=methods(seen.parts),
        loss=loss(seen.parts["webhooksByDay"] or []),
    )


def methods(parts: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return the PBX's methods that are known to be granted to the key, or refused."""
    found = [
        (resource(poll["resource"]).list_operation, not poll["forbiddenSince"])
        for poll in parts["checkpoints"] or []
        if poll["lastSuccess"] or poll["forbiddenSince"]
    ]
    return found + [("Subscribe", True)] * any(row["state"] == HELD for row in parts["webhooks"] or [])


def loss(days: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the days with the height of their bars: the share of webhooks that never came, in percent."""
    return [
        {**day, "at": parse_time(day["day"]), "share": 100 * day["lost"] / (day["came"] + day["lost"])}
        for day in days
        if day["came"] + day["lost"]
    ]


@blueprint.get("/dead-letters")
def dead_letters() -> str:
    """Show what could not be used."""
    from shared.pipeline.dead_letters import list_dead_letters

    query = {"limit": str(_SHOWN)} | {
        name: text for name in ("kind", "continuation") if (text := request.args.get(name))
    }
    found = list_dead_letters(show.here(), query)
    return render_template("dead_letters.html", letters=found["data"], following=found["continuation"])


@blueprint.get("/dead-letters/<kind>/<path:id>")
def dead_letter(kind: str, id: str) -> str:
    """Show one with its body."""
    from shared.pipeline.dead_letters import get_dead_letter

    found = get_dead_letter(show.here(), kind, id)
    body = found["body"]
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    return render_template("dead_letter.html", letter=found, body=text)


@blueprint.post("/dead-letters/<kind>/<path:id>")
def act_on_dead_letter(kind: str, id: str) -> Response:
    """Send one back where it came from, or discard it with a reason."""
    from shared.pipeline import dead_letters as letters

    bridge, back = show.here(), url_for("workings.dead_letters")
    if request.form.get("act") == "retry":
        return _done(lambda: letters.retry(bridge, kind, id, who=g.who), gettext("It is on its way again."), back)
    reason = request.form.get("reason", "")
    return _done(lambda: letters.discard(bridge, kind, id, reason, who=g.who), gettext("It is discarded."), back)


@blueprint.post("/subscriptions/<id>/try")
def try_now(id: str) -> Response:
    """Post at once what waits for a subscriber."""
    from shared.pipeline.replay import try_subscription

    return _done(
        lambda: try_subscription(show.here(), id, who=g.who),
        gettext("What waits is being sent now."),
        _of_subscriptions(),
    )


@blueprint.route("/subscriptions/<id>/replay", methods=["GET", "POST"])
def replay(id: str) -> str | Response:
    """Count what a replay would send, and send it once the admin key is there."""
    from shared.pipeline.replay import replay_events

    bridge, zone = show.here(), show.here().settings.time_zone
    since = request.values.get("since") or str(local_day(now(), zone))
    begin = day_bounds(parse_time(since).date(), zone)[0]
    query = {"date_from": iso(begin)}
    if request.method == "POST":
        return _done(
            lambda: replay_events(bridge, id, query, b"", who=g.who),
            gettext("It is being sent again."),
            _of_subscriptions(),
        )
    found = next((one for one in listed(bridge)["data"] if one["id"] == id), None)
    count = replay_events(bridge, id, query | {"dry_run": "true"}, b"", who=g.who)
    text = ngettext("%(num)s event would be sent again.", "%(num)s events would be sent again.", count["events"])
    return render_template("replay.html", subscription=found, since=since, count=count, text=text)


def _of_subscriptions() -> str:
    return url_for("workings.index", _anchor="subscriptions")


def _done(work: Callable[[], object], text: str, back: str) -> Response:
    """Do what changes something, once the admin key is right, and say how it went."""
    try:
        access.check_admin(show.here(), request.form.get("admin_key", ""))
        work()
        _look(show.here().storage).at = -math.inf
    except BridgeError as error:
        flash(show.reason(error), "bad")
    else:
        flash(text, "good")
    return redirect(back, 303)
