"""The status of the bridge: each problem as a sentence with its next step, then the state of each part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from shared import health, webhooks
from shared.bridge import Bridge
from shared.errors import StorageUnavailable
from shared.events.table import wanted_events
from shared.pbx import budget
from shared.polling.run import FORBIDDEN, Checkpoint, checkpoints, forbidden_since, is_stale
from shared.storage.messages import count_dead_letters
from shared.subscriptions import subscriptions
from shared.times import iso, now, parse_time

logger = logging.getLogger(__name__)

_SECONDS = 4.5
_MOST_COUNTED = 1000
# Time for which a subscription that its subscriber ended is a problem.
_SHOWN_FOR = timedelta(days=7)
# Entries of a list; after a failure there may be far more than anybody reads.
_MOST = 100
_MOST_DAYS = 5
_DAYS = 14
# The worst problem is first. The page translates each sentence.
SENTENCES: Mapping[str, str] = {
    "no key": "PBX_API_KEY is missing: set it to the key from the PBX's panel. Until then nothing is polled, dialled "
    "or registered; webhooks, lists and this page work.",
    "away": "%(part)s could not be read in time: storage is slow or out of reach. Look again in a minute.",
    "broken": "%(part)s cannot be shown (%(error)s): the app's log has the details.",
    "forbidden": FORBIDDEN,
    "ended": "All webhooks were deleted at %(since)s: POST /api/ops/webhooks/sync registers them again.",
    "unreadable": "Subscriptions that no key in SUBSCRIPTION_KEYS opens: %(count)s. Add the previous key again; until "
    "then their deliveries wait.",
    "missing": "The PBX has no webhook for %(events)s: %(reason)s. POST /api/ops/webhooks/sync tries again.",
    "orphans": "The PBX may have webhooks that the app does not know (%(events)s): delete them in the PBX's panel, "
    "then POST /api/ops/webhooks/sync?forget_orphans=true.",
    "lost": "Webhooks for %(event)s that were lost since yesterday: %(count)s, more than arrived; polls restored what "
    "they could. DELETE /api/ops/webhooks and then POST /api/ops/webhooks/sync register them anew.",
    "left": "The subscription %(name)s to %(event)s ended on %(day)s: %(host)s answered %(answer)s. If it is still "
    "wanted, save the flow again, or subscribe again.",
    "stale": "Polling %(list)s last succeeded %(minutes)s minutes ago: %(reason)s.",
    "never polled": "Polling %(list)s has not succeeded yet: %(reason)s.",
    "days": "Days of %(list)s are still to be read: %(days)s.",
    "items": "Items of %(list)s that cannot be read: %(count)s. See the dead letters.",
    "timer": "%(timer)s failed at %(at)s: %(reason)s. It runs again on its schedule.",
    "dead letters": "Dead letters of kind %(kind)s: %(count)s. %(step)s.",
    "rest": "The PBX asked for a pause until %(until)s: it gets no calls before.",
    "spent": "All %(limit)s PBX calls of this minute are used: polls and actions wait.",
    # The next step for each kind of dead letter.
    "step event": "POST /api/ops/deadletters/replay starts their processing again",
    "step media": "POST /api/ops/deadletters/replay asks for their audio again",
    "step delivery": "POST /api/ops/deadletters/replay posts them again",
    "step refused": "POST /api/ops/deadletters/replay reads their bodies again, which helps if a newer release "
    "understands them",
    "step other": "They cannot be tried again; read what they contain",
    # The reason of a failure by the error's type; `words` are its message.
    "cause did not run": "it has not run since then",
    "cause never synced": "no sync has registered one yet",
    "cause unreachable": webhooks.UNREACHABLE,
    "cause refused": "the answer was “%(words)s”",
    "cause BudgetExhausted": "the budget of calls to the PBX is used up for now",
    "cause ConfigError": "a setting is wrong: %(words)s",
    "cause Conflict": "others kept changing the same row",
    "cause PbxForbidden": "the PBX does not let this app in; check the key and its API methods",
    "cause PbxNotFound": "the PBX has no such list",
    "cause PbxNotUnderstood": "the PBX's answer cannot be read",
    "cause PbxRefused": "the PBX refused the request: %(words)s",
    "cause PbxThrottled": "the PBX asks for fewer calls",
    "cause PbxUnavailable": "the PBX is slow, fails, or is out of reach",
    "cause PbxUnreachable": "no connection to the PBX; check the network and PBX_BASE_URL",
    "cause StorageUnavailable": "storage is slow or out of reach",
    "cause unforeseen": "%(name)s; the app's log has the details",
}


class Problem(NamedTuple):
    """The name of a sentence, and the values in it: texts or other problems."""

    name: str
    values: Mapping[str, Any] = {}

    def sentence(self, translate: Callable[[str], str] = str) -> str:
        """Return the sentence with its values, in the language of `translate`."""
        values = {
            key: part.sentence(translate) if isinstance(part, Problem) else part for key, part in self.values.items()
        }
        return translate(SENTENCES[self.name]) % values


def cause(error: str) -> Problem:
    """Return the reason of a failure, from an error stored as `type: message`."""
    name, _, words = error.partition(": ")
    known = f"cause {name}" in SENTENCES
    return Problem(f"cause {name if known else 'unforeseen'}", {"name": name, "words": words.rstrip(".")})


def status(bridge: Bridge) -> dict[str, Any]:
    """
    Return the status as JSON, without secrets and personal data, within five seconds.

    `problems` are sentences with the next step, none if all is well. A part that cannot be read is null, and a problem.
    Raises StorageUnavailable if no part can be read.
    """
    problems, parts = read_parts(bridge)
    return {"problems": [problem.sentence() for problem in problems], **parts}


def read_parts(bridge: Bridge) -> tuple[list[Problem], dict[str, Any]]:
    """Return the problems, worst first, and the parts, which are read side by side; raises StorageUnavailable."""
    moment, away = now(), 0
    problems, parts = list[Problem](), dict[str, Any]()
    if not bridge.settings.pbx_api_key:
        problems.append(Problem("no key"))
    pool = ThreadPoolExecutor(len(READS))
    reads = {names: pool.submit(read, bridge, moment) for names, read in READS.items()}
    wait(reads.values(), _SECONDS)
    pool.shutdown(wait=False, cancel_futures=True)
    for names, future in reads.items():
        error = future.exception() if future.done() else TimeoutError()
        if error is None:
            *values, own_problems = future.result()
            parts |= zip(names, values, strict=True)
            problems += own_problems
            continue
        parts |= dict.fromkeys(names)
        if isinstance(error, (StorageUnavailable, TimeoutError)):
            away += 1
            problems.append(Problem("away", {"part": names[0]}))
        else:
            logger.error("the state of %s cannot be shown", names[0], exc_info=error)
            problems.append(Problem("broken", {"part": names[0], "error": type(error).__name__}))
    if away == len(READS):
        raise StorageUnavailable("storage is out of reach")
    worst_first = list(SENTENCES)
    return sorted(problems, key=lambda problem: worst_first.index(problem.name))[:_MOST], parts


def _polls(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    polled = checkpoints(bridge.storage)
    since = forbidden_since(polled)
    pbx = {"state": "allowed", "since": None, "problem": None}
    problems = list[Problem]()
    if since:
        pbx = {"state": "forbidden", "since": iso(since), "problem": FORBIDDEN}
        problems.append(Problem("forbidden"))
    for row in polled:
        of_list, last = {"list": row.resource}, row.last_success
        if row.last_error or (last and is_stale(row.resource, last, moment)):
            values = of_list | {"reason": cause(row.last_error) if row.last_error else Problem("cause did not run")}
            minutes = {"minutes": (moment - last) // timedelta(minutes=1)} if last else {}
            problems.append(Problem("stale" if last else "never polled", values | minutes))
        if row.days_left and not row.last_error:
            problems.append(Problem("days", of_list | {"days": ", ".join(sorted(row.days_left)[:_MOST_DAYS])}))
        if row.unreadable:
            problems.append(Problem("items", of_list | {"count": row.unreadable}))
    return [_poll(row, moment) for row in polled], pbx, problems


def _poll(checkpoint: Checkpoint, moment: datetime) -> dict[str, Any]:
    is_paused = checkpoint.is_paused(moment)
    return {
        "resource": checkpoint.resource,
        "state": "paused" if is_paused else "following" if checkpoint.started else "first reading",
        "items": checkpoint.items,
        "unreadable": checkpoint.unreadable,
        "complete": checkpoint.started and not checkpoint.left and not checkpoint.history,
        "daysLeft": sorted(checkpoint.days_left),
        "historyBefore": _iso(checkpoint.history),
        "lagSeconds": checkpoint.lag,
        "lastSuccess": _iso(checkpoint.last_success),
        "lastError": checkpoint.last_error or None,
        "pausedUntil": _iso(checkpoint.paused_until) if is_paused else None,
        "forbiddenSince": _iso(checkpoint.forbidden_since),
    }


def _iso(moment: datetime | None) -> str | None:
    return iso(moment) if moment else None


def _health(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    days = health.days(bridge.storage, _DAYS)
    lost, by_day = health.silent(days), []
    for day, counts in days.items():
        kinds = {kind: health.of_kind(counts, kind).total() for kind in (health.CAME, health.LOST)}
        by_day.append({"day": day, **kinds})
    problems = [Problem("lost", {"event": event, "count": count}) for event, count in sorted(lost.items())]
    return health.of_day(days, moment), lost, by_day, problems


def _webhooks(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    known, ended, refusal = webhooks.read(bridge.storage)
    settings, missing = bridge.settings, None
    problems = [Problem("ended", {"since": ended})] if ended else []
    held = {row.event for row in known if row.state == webhooks.HELD}
    events = [event.name for event in wanted_events(settings.pbx_events) if event.name not in held]
    if events and settings.public_base_url and not ended:
        reason = Problem("cause refused", {"words": refusal.rstrip(".")}) if refusal else Problem("cause never synced")
        unreachable = webhooks.unreachable(settings)
        if unreachable:
            reason = Problem("cause unreachable", {"host": urlsplit(settings.public_base_url).hostname})
        missing = {"events": events, "reason": unreachable or refusal}
        problems.append(Problem("missing", {"events": ", ".join(events), "reason": reason}))
    orphans = sorted({row.event for row in known if row.state == webhooks.ORPHANED})
    if orphans:
        problems.append(Problem("orphans", {"events": ", ".join(orphans)}))
    return [row.to_dict() for row in known], missing, ended, problems


def _timers(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    failed = health.failed_timers(bridge.storage)
    # Problems of webhooks have sentences of their own.
    others = [row for row in failed if row["timer"] != "LookAfter (webhooks)"]
    return failed, [Problem("timer", {**row, "reason": cause(row["error"])}) for row in others]


def _dead_letters(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    kinds, problems = count_dead_letters(bridge.storage, _MOST_COUNTED + 1), []
    is_more = kinds.total() > _MOST_COUNTED
    for kind, count in sorted(kinds.items()):
        step = Problem(f"step {kind if f'step {kind}' in SENTENCES else 'other'}")
        shown = f"> {_MOST_COUNTED}" if is_more else count
        problems.append(Problem("dead letters", {"kind": kind, "count": shown, "step": step}))
    return {"kinds": dict(kinds), "more": is_more}, problems


def _budget(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    calls = budget.state(bridge.storage, bridge.settings.pbx_host)
    if calls["restsUntil"]:
        return calls, [Problem("rest", {"until": calls["restsUntil"]})]
    return calls, [Problem("spent", {"limit": calls["limit"]})] if calls["used"] >= calls["limit"] else []


def _subscriptions(bridge: Bridge, moment: datetime) -> tuple[Any, ...]:
    known = subscriptions(bridge)
    keys, ended = known.described(), known.ended()[:_MOST]
    problems = [Problem("unreadable", {"count": len(keys["unreadable"])})] if keys["unreadable"] else []
    for row in ended:
        if parse_time(row["ended"]) > moment - _SHOWN_FOR:
            problems.append(Problem("left", {**row, "name": row["name"] or row["id"], "day": row["ended"][:10]}))
    return keys, ended, problems


# The answer's parts, in this order, and the function that returns their values, then their problems.
READS: Mapping[tuple[str, ...], Callable[[Bridge, datetime], tuple[Any, ...]]] = {
    ("checkpoints", "pbx"): _polls,
    ("health", "webhooksLost", "webhooksByDay"): _health,
    ("webhooks", "webhooksMissing", "webhooksEndedSince"): _webhooks,
    ("failedTimers",): _timers,
    ("deadLetters",): _dead_letters,
    ("budget",): _budget,
    ("subscriptionKeys", "subscriptionsEnded"): _subscriptions,
}
