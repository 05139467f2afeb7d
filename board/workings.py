"""The state of the bridge: problems, polls, queues, webhooks, dead letters and subscriptions."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from flask import Blueprint, flash, g, redirect, render_template, request, url_for
from flask_babel import gettext, ngettext

from board import access, show
from shared import subscriptions as store
from shared.api.status import cause, read_parts
from shared.api.subscribe import listed
from shared.errors import BridgeError
from shared.pbx.resources import resource
from shared.pipeline import replay as replays
from shared.storage.account import POISON, QUEUES, Storage
from shared.subscriptions import host_of
from shared.times import bare_date, day_bounds, iso, local_day, now
from shared.webhooks import HELD, MOST_WEBHOOKS

if TYPE_CHECKING:
    from werkzeug.wrappers import Response

blueprint = Blueprint("workings", __name__, url_prefix="/workings")

_LETTERS_ON_A_PAGE = 50
_SUBSCRIPTIONS_ON_A_PAGE = 10


@blueprint.get("/")
def index() -> str:
    """Show the problems, and the state of each part."""
    problems, parts = read_parts(show.here())
    return render_template(
        "workings.html",
        state=parts,
        problems=[problem.sentence(gettext) for problem in problems],
        most_webhooks=MOST_WEBHOOKS,
        methods=_methods(parts),
        cause=lambda error: cause(error).sentence(gettext),
    )


def _methods(parts: Mapping[str, Any]) -> list[tuple[str, bool]]:
    """Return the methods of the PBX that were used, True for those that the key may use."""
    lists = [
        (resource(poll["resource"]).list_operation, not poll["forbiddenSince"])
        for poll in parts["checkpoints"] or []
        if poll["lastSuccess"] or poll["forbiddenSince"]
    ]
    return lists + [("Subscribe", True)] * any(row["state"] == HELD for row in parts["webhooks"] or [])


@blueprint.get("/queues")
def queues() -> str:
    """Show the queues that have messages: approximately how many, and the time of the oldest."""
    names = [*QUEUES, *(name + POISON for name in QUEUES)]
    with ThreadPoolExecutor(len(names)) as pool:
        states = pool.map(partial(_queue, show.here().storage), names)
        return render_template("queues.html", queues=[state for state in states if state["messages"]])


def _queue(storage: Storage, name: str) -> dict[str, Any]:
    from azure.core.exceptions import ResourceNotFoundError

    client = storage.queue(name)
    try:
        count = client.get_queue_properties().approximate_message_count or 0
    except ResourceNotFoundError:
        # The host makes a poison queue once it needs one.
        count = 0
    times = (message.inserted_on for message in client.peek_messages(32) if message.inserted_on) if count else ()
    return {"queue": name, "messages": count, "oldest": min(times, default=None)}


@blueprint.get("/subscriptions")
def subscriptions() -> str:
    """Show a page of subscriptions, each of which costs a request, with the state of their deliveries."""
    offset = max(0, request.args.get("offset", 0, int))
    end, count = offset + _SUBSCRIPTIONS_ON_A_PAGE, len(list(store.subscriptions(show.here()).all()))
    page = listed(show.here(), slice(offset, end))["data"]
    following = end if end < count else None
    return render_template("subscriptions.html", subscriptions=page, following=following)


@blueprint.get("/dead-letters")
def dead_letters() -> str:
    """Show a page of dead letters."""
    query = {name: text for name in ("kind", "continuation") if (text := request.args.get(name))}
    page = replays.list_dead_letters(show.here(), query | {"limit": str(_LETTERS_ON_A_PAGE)})
    return render_template("dead_letters.html", letters=page["data"], following=page["continuation"])


@blueprint.get("/dead-letters/<kind>/<path:id>")
def dead_letter(kind: str, id: str) -> str:
    """Show a dead letter with its body."""
    letter = replays.get_dead_letter(show.here(), kind, id)
    body = letter["body"]
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, indent=2)
    return render_template("dead_letter.html", letter=letter, body=text)


@blueprint.post("/dead-letters/<kind>/<path:id>")
def act_on_dead_letter(kind: str, id: str) -> Response:
    """Retry a dead letter, or discard it with a reason."""
    bridge, back = show.here(), url_for("workings.dead_letters")
    if request.form.get("act") == "retry":
        return _done(lambda: replays.retry(bridge, kind, id, who=g.who), gettext("It is on its way again."), back)
    reason = {"reason": request.form.get("reason", "")}
    return _done(lambda: replays.discard(bridge, kind, id, reason, who=g.who), gettext("It is discarded."), back)


@blueprint.post("/subscriptions/<id>/try")
def try_now(id: str) -> Response:
    """Post a subscriber's waiting events at once."""
    text = gettext("The waiting events are being sent now.")
    return _done(lambda: replays.try_subscription(show.here(), id, who=g.who), text, url_for("workings.index"))


@blueprint.route("/subscriptions/<id>/replay", methods=["GET", "POST"])
def replay(id: str) -> str | Response:
    """Show the number of events in a replay, or start it with the admin key."""
    bridge, zone = show.here(), show.here().settings.time_zone
    since = bare_date(request.values.get("since", "")) or local_day(now(), zone)
    query = {"date_from": iso(day_bounds(since, zone)[0])}
    if request.method == "POST":
        text = gettext("It is being sent again.")
        return _done(lambda: replays.replay_events(bridge, id, query, b"", who=g.who), text, url_for("workings.index"))
    count = replays.replay_events(bridge, id, query | {"dry_run": "true"}, b"", who=g.who)
    text = ngettext("%(num)s event would be sent again.", "%(num)s events would be sent again.", count["events"])
    row = store.subscriptions(bridge).get(id)
    name = f"{row.name or host_of(row.endpoint)} · {row.event}" if row else ""
    return render_template("replay.html", name=name, since=since, count=count, text=text)


def _done(work: Callable[[], object], text: str, back: str) -> Response:
    """Check the admin key, do the work, and redirect with a notice of success or of the error."""
    try:
        access.check_admin(show.here(), request.form.get("admin_key", ""))
        work()
    except BridgeError as error:
        flash(show.reason(error), "bad")
    else:
        flash(text, "good")
    return redirect(back, 303)
