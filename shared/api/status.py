"""The state of the bridge in one answer: what is wrong first, in words, and then what each part looks like."""

from __future__ import annotations

import logging
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
from shared.webhooks.table import ended_since, read_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime

    from shared.bridge import Bridge

logger = logging.getLogger(__name__)

_MOST_COUNTED = 1000
# Of anything that is listed: nobody reads a longer page, and a part that went wrong may hold far more.
_MOST = 100

Parts = dict[str, Any]


def status(bridge: Bridge) -> dict[str, Any]:
    """
    As JSON, without secrets and without people; raises StorageUnavailable.

    `problems` are sentences that say what is wrong and what to do, none where all is well. A part that cannot be shown
    is null, and a problem.
    """
    moment, parts = now(), Parts()
    broken: list[str] = []
    for name, read in PARTS.items():
        try:
            with reaching_storage():
                parts[name] = read(bridge, moment)
        except StorageUnavailable:
            raise
        except Exception as error:
            logger.exception("the state of %s cannot be shown", name)
            parts[name] = None
            broken.append(f"{name} cannot be shown ({type(error).__name__}): the app's log has the details.")
    found = [problem for name, find in PROBLEMS if parts[name] is not None for problem in find(parts[name], moment)]
    return {"problems": [*broken, *found][:_MOST], **parts}


def _dead_letters(bridge: Bridge, moment: datetime) -> dict[str, Any]:
    kinds = dead_letters.kinds(bridge.storage, _MOST_COUNTED + 1)
    return {"kinds": dict(kinds), "more": kinds.total() > _MOST_COUNTED}


# What the page shows, in this order. One more is a row here, and one below where it can be wrong.
PARTS: Mapping[str, Callable[[Bridge, datetime], Any]] = {
    "checkpoints": lambda bridge, moment: [
        checkpoints.describe(checkpoint, moment) for checkpoint in islice(checkpoints.read_all(bridge.storage), _MOST)
    ],
    "pbx": lambda bridge, moment: checkpoints.describe_pbx(checkpoints.read_all(bridge.storage)),
    "health": lambda bridge, moment: health.today(bridge.storage, moment),
    "webhooks": lambda bridge, moment: [row.to_dict() for row in islice(read_webhooks(bridge.storage), _MOST)],
    "webhooksEndedSince": lambda bridge, moment: ended_since(bridge.storage),
    "deadLetters": _dead_letters,
    "budget": lambda bridge, moment: budget.state(bridge.storage, bridge.settings.pbx_host),
    "subscriptionKeys": lambda bridge, moment: subscriptions(bridge).described(),
}


def _stale(polls: list[Mapping[str, Any]], moment: datetime) -> Iterator[str]:
    for poll in polls:
        last = parse_time(poll["lastSuccess"]) if poll["lastSuccess"] else None
        if poll["lastError"] or (last and is_stale(poll["resource"], last, moment)):
            ago = f"last succeeded {(moment - last) // timedelta(minutes=1)} minutes ago" if last else ""
            when = ago or "has not succeeded yet"
            yield f"Polling {poll['resource']} {when}: {poll['lastError'] or 'it has not run since'}."
        if poll["sweepError"]:
            yield f"Calls that never ended cannot be looked up by id: {poll['sweepError']}."
        if poll["unreadable"]:
            yield f"{poll['unreadable']} items of {poll['resource']} cannot be read: see the dead letters."


def _lost(webhooks: list[Mapping[str, Any]], moment: datetime) -> Iterator[str]:
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


def _given_up(found: Mapping[str, Any], moment: datetime) -> Iterator[str]:
    if found["kinds"]:
        kinds = ", ".join(f"{count} of {kind}" for kind, count in sorted(found["kinds"].items())[:_MOST])
        total = f"Over {_MOST_COUNTED}" if found["more"] else f"{sum(found['kinds'].values())}"
        yield f"Dead letters: {total} ({kinds}). POST /api/ops/deadletters/replay tries them again."


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


# The worst first.
PROBLEMS: tuple[tuple[str, Callable[[Any, datetime], Iterator[str]]], ...] = (
    ("pbx", lambda pbx, moment: filter(None, [pbx["problem"]])),
    ("webhooksEndedSince", _ended),
    ("subscriptionKeys", _unreadable),
    ("webhooks", _lost),
    ("checkpoints", _stale),
    ("deadLetters", _given_up),
    ("budget", _spent),
)
