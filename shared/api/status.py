"""The state of the bridge in one answer: each trouble as a sentence with its next step, then each part."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any

from shared import health
from shared.errors import StorageUnavailable
from shared.pbx import budget
from shared.polling import checkpoints
from shared.polling.checkpoints import is_stale
from shared.storage import dead_letters
from shared.storage.account import reaching_storage
from shared.subscriptions.store import subscriptions
from shared.times import now, parse_time
from shared.webhooks import sync, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

_SECONDS = 4.5
_MOST_COUNTED = 1000
# An end that its subscriber has asked for is a problem for so long.
_SAID_FOR = timedelta(days=7)
# Of anything that is listed: nobody reads a longer page, and a part that went wrong may hold far more.
_MOST = 100
_MOST_DAYS = 5
_NO_KEY = (
    "PBX_API_KEY is missing: put the key from the PBX's panel into it. Until then nothing is polled, dialled or "
    "registered; webhooks, lists and this page work."
)
# What can be done with a dead letter of each kind.
_STEPS: Mapping[str, str] = {
    "event": "their processing starts again",
    "media": "their audio is asked for again",
    "delivery": "they are posted again",
    "refused": "their bodies are read again, which helps where a newer release understands them",
}

Parts = dict[str, Any]


def status(bridge: Bridge) -> dict[str, Any]:
    """
    Return the state as JSON, without secrets and without people, within five seconds.

    `problems` are sentences that say what is wrong and what to do, none where all is well. A part that cannot be read
    is null, and a problem. Raises StorageUnavailable where no part can be read.
    """
    moment = now()
    pool = ThreadPoolExecutor(len(PARTS))
    reads = {name: pool.submit(_read, read, bridge, moment) for name, read in PARTS.items()}
    wait(reads.values(), _SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    parts, broken, away = Parts(), list[str](), 0
    for name, future in reads.items():
        error = future.exception() if future.done() else TimeoutError()
        parts[name] = None if error else future.result()
        if isinstance(error, (StorageUnavailable, TimeoutError)):
            away += 1
            broken.append(f"{name} could not be read in time: storage is slow or out of reach. Look again in a minute.")
        elif error:
            logger.error("the state of %s cannot be shown", name, exc_info=error)
            broken.append(f"{name} cannot be shown ({type(error).__name__}): the app's log has the details.")
    if away == len(PARTS):
        raise StorageUnavailable("storage is out of reach")
    found = [problem for name, find in PROBLEMS if parts[name] is not None for problem in find(parts[name], moment)]
    missing = [] if bridge.settings.pbx_api_key else [_NO_KEY]
    return {"problems": [*missing, *broken, *found][:_MOST], **parts}


def _read(read: Callable[[Bridge, datetime], Any], bridge: Bridge, moment: datetime) -> Any:
    with reaching_storage():
        return read(bridge, moment)


def _dead_letters(bridge: Bridge, moment: datetime) -> dict[str, Any]:
    kinds = dead_letters.kinds(bridge.storage, _MOST_COUNTED + 1)
    return {"kinds": dict(kinds), "more": kinds.total() > _MOST_COUNTED}


# The page's parts, in this order. One more is a row here, and one below where it can be wrong.
PARTS: Mapping[str, Callable[[Bridge, datetime], Any]] = {
    "checkpoints": lambda bridge, moment: [
        checkpoints.describe(checkpoint, moment) for checkpoint in islice(checkpoints.read_all(bridge.storage), _MOST)
    ],
    "pbx": lambda bridge, moment: checkpoints.describe_pbx(checkpoints.read_all(bridge.storage)),
    "health": lambda bridge, moment: health.today(bridge.storage, moment),
    "webhooks": lambda bridge, moment: [row.to_dict() for row in islice(table.read_webhooks(bridge.storage), _MOST)],
    "webhooksMissing": lambda bridge, moment: sync.missing(bridge),
    "webhooksLost": lambda bridge, moment: health.silent(bridge.storage),
    "webhooksEndedSince": lambda bridge, moment: table.ended_since(bridge.storage),
    "failedTimers": lambda bridge, moment: health.failed_timers(bridge.storage),
    "deadLetters": _dead_letters,
    "budget": lambda bridge, moment: budget.state(bridge.storage, bridge.settings.pbx_host),
    "subscriptionKeys": lambda bridge, moment: subscriptions(bridge).described(),
    "subscriptionsEnded": lambda bridge, moment: subscriptions(bridge).ended()[:_MOST],
}


def _stale(polls: list[Mapping[str, Any]], moment: datetime) -> Iterator[str]:
    for poll in polls:
        last = parse_time(poll["lastSuccess"]) if poll["lastSuccess"] else None
        if poll["lastError"] or (last and is_stale(poll["resource"], last, moment)):
            ago = f"last succeeded {(moment - last) // timedelta(minutes=1)} minutes ago" if last else ""
            when = ago or "has not succeeded yet"
            yield f"Polling {poll['resource']} {when}: {poll['lastError'] or 'it has not run since'}."
        if poll["daysLeft"] and not poll["lastError"]:
            yield f"Days of {poll['resource']} are still to be read: {', '.join(poll['daysLeft'][:_MOST_DAYS])}."
        if poll["unreadable"]:
            yield f"{poll['unreadable']} items of {poll['resource']} cannot be read: see the dead letters."


def _not_held(missing: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    reason = (missing["reason"] or "no sync has made one yet").rstrip(".")
    events = ", ".join(missing["events"])
    yield f"The PBX has no webhook for {events}: {reason}. POST /api/ops/webhooks/sync tries again."


def _silent(lost: Mapping[str, int], moment: datetime) -> Iterator[str]:
    for event, count in sorted(lost.items()):
        yield (
            f"{count} webhooks for {event} never came since yesterday, more than came; polls brought what they could. "
            "DELETE /api/ops/webhooks, then POST /api/ops/webhooks/sync registers them anew."
        )


def _orphaned(webhooks: list[Mapping[str, Any]], moment: datetime) -> Iterator[str]:
    orphans = [row["event"] for row in webhooks if row["state"] == "maybe orphaned"]
    if orphans:
        events = ", ".join(sorted(set(orphans)))
        yield (
            f"The PBX may have {len(orphans)} webhooks that the app does not know ({events}): delete them in the PBX's "
            "panel, then POST /api/ops/webhooks/sync?forget_orphans=true."
        )


def _ended(since: str | None, moment: datetime) -> Iterator[str]:
    if since:
        yield f"No webhooks are registered since {since}: POST /api/ops/webhooks/sync registers them again."


def _failed(timers: list[Mapping[str, str]], moment: datetime) -> Iterator[str]:
    for row in timers:
        # What stands in the way of webhooks has a sentence of its own.
        if row["timer"] != "LookAfter (webhooks)":
            yield f"{row['timer']} failed at {row['at']}: {row['error'].rstrip('.')}. It runs again on its schedule."


def _given_up(found: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    for kind, count in sorted(found["kinds"].items())[:_MOST]:
        number = f"Over {_MOST_COUNTED}" if found["more"] else f"{count}"
        step = _STEPS.get(kind)
        can = f"POST /api/ops/deadletters/replay: {step}" if step else "they cannot be tried again, read what they hold"
        letters = "dead letter" if number == "1" else "dead letters"
        yield f"{number} {letters} of kind {kind}. {can[0].upper()}{can[1:]}."


def _spent(calls: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    if calls["restsUntil"]:
        yield f"The PBX asked for a rest until {calls['restsUntil']}: no call is made before."
    elif calls["used"] >= calls["limit"]:
        yield f"All {calls['limit']} PBX calls of this minute are used: polls and actions wait."


def _unreadable(keys: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    if keys["unreadable"]:
        yield (
            f"{len(keys['unreadable'])} rows of subscriptions cannot be read with SUBSCRIPTION_KEYS: put the key back "
            "that was there before. What is due to them waits."
        )


def _left(ended: list[Mapping[str, Any]], moment: datetime) -> Iterator[str]:
    for one in ended:
        if parse_time(one["ended"]) > moment - _SAID_FOR:
            name = f" {one['name']}" if one["name"] else ""
            what = f"The subscription{name} of {one['host']} to {one['event']} ended on {one['ended'][:10]}"
            yield f"{what}, as it was answered {one['answer']}: save the flow again, or subscribe again, if wanted."


# The worst first.
PROBLEMS: tuple[tuple[str, Callable[[Any, datetime], Iterator[str]]], ...] = (
    ("pbx", lambda pbx, moment: filter(None, [pbx["problem"]])),
    ("webhooksEndedSince", _ended),
    ("subscriptionKeys", _unreadable),
    ("webhooksMissing", _not_held),
    ("webhooks", _orphaned),
    ("webhooksLost", _silent),
    ("subscriptionsEnded", _left),
    ("checkpoints", _stale),
    ("failedTimers", _failed),
    ("deadLetters", _given_up),
    ("budget", _spent),
)
