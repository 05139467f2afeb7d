"""The state of the bridge in one answer: each trouble as a sentence with its next step, then each part."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

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
_DAYS = 14
# The board says each of them in other languages, too.
SENTENCES: Mapping[str, str] = {
    "no key": "PBX_API_KEY is missing: put the key from the PBX's panel into it. Until then nothing is polled, dialled "
    "or registered; webhooks, lists and this page work.",
    "away": "%(part)s could not be read in time: storage is slow or out of reach. Look again in a minute.",
    "broken": "%(part)s cannot be shown (%(error)s): the app's log has the details.",
    "forbidden": checkpoints.FORBIDDEN_SENTENCE,
    "ended": "No webhooks are registered since %(since)s: POST /api/ops/webhooks/sync registers them again.",
    "unreadable": "Rows of subscriptions that cannot be read with SUBSCRIPTION_KEYS: %(count)s. Put the key back that "
    "was there before. What is due to them waits.",
    "missing": "The PBX has no webhook for %(events)s: %(reason)s. POST /api/ops/webhooks/sync tries again.",
    "never synced": "no sync has made one yet",
    "orphans": "The PBX may have webhooks that the app does not know (%(events)s): delete them in the PBX's panel, "
    "then POST /api/ops/webhooks/sync?forget_orphans=true.",
    "lost": "Webhooks for %(event)s that never came since yesterday: %(count)s, more than came; polls brought what "
    "they could. DELETE /api/ops/webhooks, then POST /api/ops/webhooks/sync registers them anew.",
    "left": "The subscription %(name)s of %(host)s to %(event)s ended on %(day)s, as it was answered %(answer)s: save "
    "the flow again, or subscribe again, if wanted.",
    "stale": "Polling %(list)s last succeeded %(minutes)s minutes ago: %(reason)s.",
    "never polled": "Polling %(list)s has not succeeded yet: %(reason)s.",
    "did not run": "it has not run since",
    "days": "Days of %(list)s are still to be read: %(days)s.",
    "items": "Items of %(list)s that cannot be read: %(count)s. See the dead letters.",
    "timer": "%(timer)s failed at %(at)s: %(reason)s. It runs again on its schedule.",
    "dead letters": "Dead letters of kind %(kind)s: %(count)s. %(step)s.",
    "rest": "The PBX asked for a rest until %(until)s: no call is made before.",
    "spent": "All %(limit)s PBX calls of this minute are used: polls and actions wait.",
    # What can be done with dead letters of each kind.
    "event": "POST /api/ops/deadletters/replay: their processing starts again",
    "media": "POST /api/ops/deadletters/replay: their audio is asked for again",
    "delivery": "POST /api/ops/deadletters/replay: they are posted again",
    "refused": "POST /api/ops/deadletters/replay: their bodies are read again, which helps where a newer release "
    "understands them",
    "other": "They cannot be tried again, read what they hold",
}

Parts = dict[str, Any]


class Problem(NamedTuple):
    """A sentence of SENTENCES, by its name, and what its blanks are filled with: texts, or other such sentences."""

    name: str
    values: Mapping[str, Any] = {}

    def said(self, translate: Callable[[str], str] = str) -> str:
        """Return the sentence in the language of a translation."""
        values = {key: one.said(translate) if isinstance(one, Problem) else one for key, one in self.values.items()}
        return translate(SENTENCES[self.name]) % values


def status(bridge: Bridge) -> dict[str, Any]:
    """
    Return the state as JSON, without secrets and without people, within five seconds.

    `problems` are sentences that say what is wrong and what to do, none where all is well. A part that cannot be read
    is null, and a problem. Raises StorageUnavailable where no part can be read.
    """
    problems, parts = look(bridge)
    return {"problems": [problem.said() for problem in problems], **parts}


def look(bridge: Bridge) -> tuple[list[Problem], Parts]:
    """Return what is wrong, the worst first, and the parts; each table is read once, all of them side by side."""
    moment = now()
    pool = ThreadPoolExecutor(len(READS))
    reads = {names: pool.submit(_read, read, bridge, moment) for names, read in READS.items()}
    wait(reads.values(), _SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    parts, broken, away = Parts(), list[Problem](), 0
    for names, future in reads.items():
        error = future.exception() if future.done() else TimeoutError()
        parts |= dict(zip(names, [None] * len(names) if error else future.result(), strict=True))
        if isinstance(error, (StorageUnavailable, TimeoutError)):
            away += 1
            broken.append(Problem("away", {"part": names[0]}))
        elif error:
            logger.error("the state of %s cannot be shown", names[0], exc_info=error)
            broken.append(Problem("broken", {"part": names[0], "error": type(error).__name__}))
    if away == len(READS):
        raise StorageUnavailable("storage is out of reach")
    found = [problem for name, find in PROBLEMS if parts[name] is not None for problem in find(parts[name], moment)]
    missing = [] if bridge.settings.pbx_api_key else [Problem("no key")]
    return [*missing, *broken, *found][:_MOST], parts


def _read(read: Callable[[Bridge, datetime], Any], bridge: Bridge, moment: datetime) -> Any:
    with reaching_storage():
        return read(bridge, moment)


def _checkpoints(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    found = checkpoints.read_all(bridge.storage)
    return [checkpoints.describe(one, moment) for one in found[:_MOST]], checkpoints.describe_pbx(found)


def _health(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    found = health.days(bridge.storage, _DAYS)
    by_day = [{"day": day, "came": tally.came.total(), "lost": tally.lost.total()} for day, tally in found.items()]
    return health.of_day(found, moment), health.silent(found), by_day


def _webhooks(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    found, ended, problem = table.read(bridge.storage)
    missing = None if ended else sync.missing(bridge.settings, found, problem)
    return [row.to_dict() for row in islice(found, _MOST)], missing, ended


def _dead_letters(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    kinds = dead_letters.kinds(bridge.storage, _MOST_COUNTED + 1)
    return ({"kinds": dict(kinds), "more": kinds.total() > _MOST_COUNTED},)


# The answer's parts, in this order, by what is read for them. One more is a row here, and one below where it can be
# wrong.
READS: Mapping[tuple[str, ...], Callable[[Bridge, datetime], tuple[Any, ...]]] = {
    ("checkpoints", "pbx"): _checkpoints,
    ("health", "webhooksLost", "webhooksByDay"): _health,
    ("webhooks", "webhooksMissing", "webhooksEndedSince"): _webhooks,
    ("failedTimers",): lambda bridge, moment: (health.failed_timers(bridge.storage),),
    ("deadLetters",): _dead_letters,
    ("budget",): lambda bridge, moment: (budget.state(bridge.storage, bridge.settings.pbx_host),),
    ("subscriptionKeys",): lambda bridge, moment: (subscriptions(bridge).described(),),
    ("subscriptionsEnded",): lambda bridge, moment: (subscriptions(bridge).ended()[:_MOST],),
}


def _forbidden(pbx: Mapping[str, Any], moment: datetime) -> Iterator[Problem]:
    if pbx["problem"]:
        yield Problem("forbidden")


def _stale(polls: list[Mapping[str, Any]], moment: datetime) -> Iterator[Problem]:
    for poll in polls:
        last, of_list = parse_time(poll["lastSuccess"]) if poll["lastSuccess"] else None, {"list": poll["resource"]}
        if poll["lastError"] or (last and is_stale(poll["resource"], last, moment)):
            reason = {"reason": poll["lastError"] or Problem("did not run")}
            if last:
                yield Problem("stale", of_list | reason | {"minutes": (moment - last) // timedelta(minutes=1)})
            else:
                yield Problem("never polled", of_list | reason)
        if poll["daysLeft"] and not poll["lastError"]:
            yield Problem("days", of_list | {"days": ", ".join(poll["daysLeft"][:_MOST_DAYS])})
        if poll["unreadable"]:
            yield Problem("items", of_list | {"count": poll["unreadable"]})


def _not_held(missing: Mapping[str, Any], moment: datetime) -> Iterator[Problem]:
    reason = (missing["reason"] or "").rstrip(".") or Problem("never synced")
    yield Problem("missing", {"events": ", ".join(missing["events"]), "reason": reason})


def _silent(lost: Mapping[str, int], moment: datetime) -> Iterator[Problem]:
    for event, count in sorted(lost.items()):
        yield Problem("lost", {"event": event, "count": count})


def _orphaned(webhooks: list[Mapping[str, Any]], moment: datetime) -> Iterator[Problem]:
    orphans = {row["event"] for row in webhooks if row["state"] == table.ORPHANED}
    if orphans:
        yield Problem("orphans", {"events": ", ".join(sorted(orphans))})


def _ended(since: str | None, moment: datetime) -> Iterator[Problem]:
    if since:
        yield Problem("ended", {"since": since})


def _failed(timers: list[Mapping[str, str]], moment: datetime) -> Iterator[Problem]:
    for row in timers:
        # What stands in the way of webhooks has a sentence of its own.
        if row["timer"] != "LookAfter (webhooks)":
            yield Problem("timer", {"timer": row["timer"], "at": row["at"], "reason": row["error"].rstrip(".")})


def _given_up(found: Mapping[str, Any], moment: datetime) -> Iterator[Problem]:
    for kind, count in sorted(found["kinds"].items())[:_MOST]:
        step = Problem(kind if kind in ("event", "media", "delivery", "refused") else "other")
        number = f"> {_MOST_COUNTED}" if found["more"] else count
        yield Problem("dead letters", {"kind": kind, "count": number, "step": step})


def _spent(calls: Mapping[str, Any], moment: datetime) -> Iterator[Problem]:
    if calls["restsUntil"]:
        yield Problem("rest", {"until": calls["restsUntil"]})
    elif calls["used"] >= calls["limit"]:
        yield Problem("spent", {"limit": calls["limit"]})


def _unreadable(keys: Mapping[str, Any], moment: datetime) -> Iterator[Problem]:
    if keys["unreadable"]:
        yield Problem("unreadable", {"count": len(keys["unreadable"])})


def _left(ended: list[Mapping[str, Any]], moment: datetime) -> Iterator[Problem]:
    for one in ended:
        if parse_time(one["ended"]) > moment - _SAID_FOR:
            values = {"name": one["name"] or one["id"], "day": one["ended"][:10]}
            yield Problem("left", {name: one[name] for name in ("host", "event", "answer")} | values)


# The worst first.
PROBLEMS: tuple[tuple[str, Callable[[Any, datetime], Iterator[Problem]]], ...] = (
    ("pbx", _forbidden),
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
