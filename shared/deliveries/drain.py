"""Posting an outbox: a batch at a time, under a lease, until nothing is due or the time is over."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import lru_cache, partial
from http import HTTPStatus
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from shared import people
from shared.deliveries.fanout import end, set_disabled
from shared.deliveries.outbox import DEAD_LETTER, EPOCH, Outbox
from shared.errors import Conflict, Unprocessable
from shared.events import store
from shared.events.event import row_envelope
from shared.http import AddressRefused, ending_by, guarded_session, retry_after
from shared.storage import rows
from shared.storage.account import Storage, once
from shared.storage.messages import dead_letter
from shared.subscriptions.store import subscriptions
from shared.subscriptions.subscription import is_workflow_host
from shared.times import iso, now
from shared.values import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.deliveries.outbox import Place, State
    from shared.subscriptions.subscription import Subscription

logger = logging.getLogger(__name__)

BATCH = 8
# No batch is begun later: a function that runs for long is in the way of others, and of a deployment.
RUN_SECONDS = 20.0
# What is due in a moment is due: the message for it may be seen a little early by this instance's clock.
_SKEW = timedelta(seconds=1)
_RACES = 16
# Seconds before each further try of an event that is refused while others succeed; then it is a dead letter.
SCHEDULE = (5, 60, 300, 1800, 7200, 18_000, 36_000, 86_400)
# Answers about an event, not about its subscriber: it has its schedule also while the subscriber is down.
REFUSED = ("400", "413", "415", "422")
# So many events whose first try fails, with no success in between, and the subscriber is down.
DOWN_AFTER = 5
# It is left alone for so long then, twice as long each time, up to the longest.
FIRST_WAIT, LONGEST_WAIT = 10.0, 3600.0
# A subscription is disabled after so long without a success, and still tried for so long.
DISABLED_AFTER, TRIED_FOR = timedelta(days=5), timedelta(days=35)
NEVER = datetime(2100, 1, 1, tzinfo=EPOCH.tzinfo)
JITTER = 0.1
# A post gets so many seconds, whatever its host's name leads to, and an answer is read to so many bytes.
CONNECT_SECONDS, TOTAL_SECONDS = 5, 20
LONGEST_ANSWER = 4096
# A subject is written to logs on the way: ids only, never a number.
_SUBJECTS = ("callID", "recordingID", "voicemailID", "contactID")
# Types under a domain turned round, as CloudEvents advises: the service whose events these are.
_TYPE = "lv.zvanuparvaldnieks"
_session = once(guarded_session)
_reading = tuple(Lock() for _ in range(32))

# The row of an event, and its envelope.
Stored = tuple["Mapping[str, Any]", dict[str, Any]]
Results = Sequence[tuple["Place", "Outcome"]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a post: a status or a word, its duration, and the seconds that the subscriber asks to wait."""

    verdict: Literal["delivered", "failed", "gone", "lost"]
    result: str
    seconds: float
    wait: int = 0

    @property
    def pause(self) -> int:
        """The seconds that the subscriber asks to have no posts at all."""
        return self.wait if self.result == str(HTTPStatus.TOO_MANY_REQUESTS.value) else 0


@dataclass(slots=True)
class Ruling:
    """The consequences of a batch's answers: the new state, and the places that are finished or tried again."""

    state: State
    # Each with the result that its marker keeps, and with the reason for a dead letter.
    delivered: list[tuple[Place, str]] = field(default_factory=list)
    dead: list[tuple[Place, str]] = field(default_factory=list)
    again: list[Place] = field(default_factory=list)
    # The status of an answer that ends the subscription.
    gone: str = ""
    disable: bool = False
    recover: bool = False


def drain(bridge: Bridge, id: str) -> None:
    """Post what is due in an outbox, unless somebody else does; drop that of a subscription that is gone."""
    known, outbox, until = subscriptions(bridge), Outbox(bridge.storage, id), time.monotonic() + RUN_SECONDS
    if known.get(id) is None:
        if not outbox.drop(RUN_SECONDS):
            outbox.wake(now())
        return
    with ThreadPoolExecutor(BATCH) as pool:
        # Each batch begins with a look at what is due, also after the last one: nothing that comes meanwhile is missed.
        while (one := known.get(id)) and one.readable and _post_batch(bridge, one, outbox, pool):
            if time.monotonic() > until:
                outbox.wake(now())
                return


def wake_waiting(bridge: Bridge) -> None:
    """
    Wake the outboxes that have something due, for those whose message got lost.

    Secrets that are sealed by an older key are sealed by the newest on the way.
    """
    known = subscriptions(bridge)
    known.reseal()
    for one in known.all():
        outbox, moment = Outbox(bridge.storage, one.id), now()
        state, places = outbox.due(moment, 1)
        if places and not (state.holder and state.until > moment):
            outbox.wake()


def _post_batch(bridge: Bridge, one: Subscription, outbox: Outbox, pool: ThreadPoolExecutor) -> bool:
    """Post the next events that are due; return False where there are none, or somebody else posts."""
    moment = now()
    state, places = outbox.due(moment + _SKEW, BATCH)
    if not places or (state.holder and state.until > moment):
        return False
    # Read before the lease is taken: what fails here has posted nothing and holds up nobody.
    events = list(pool.map(partial(read_event, bridge.storage), [place.event for place in places]))
    if not outbox.take(state):
        return False
    outcomes = pool.map(partial(_post, bridge, one), events)
    _complete(bridge, one, outbox, state, list(zip(places, outcomes, strict=True)))
    return True


def _post(bridge: Bridge, one: Subscription, event: Stored | str) -> Outcome:
    if isinstance(event, str):
        return Outcome("lost", event, 0.0)
    try:
        outcome = send_event(bridge, one, event)
    except Exception as error:
        logger.exception("an event could not be sent")
        outcome = Outcome("failed", type(error).__name__, 0.0)
    logger.info("delivery of %s to %s: %s", event[0]["RowKey"], one.id, outcome.result)
    return outcome


def _complete(bridge: Bridge, one: Subscription, outbox: Outbox, state: State, results: Results) -> None:
    """
    Write down what follows from the answers, unless the outbox was taken over meanwhile.

    What has to be done before that is harmless twice.
    """
    holder = state.holder
    for _ in range(_RACES):
        ruling = judge(state, results, now(), one)
        finished = ruling.delivered.copy()
        for place, reason in ruling.dead:
            _dead_letter(bridge, one, place, reason)
            finished.append((place, DEAD_LETTER))
        if ruling.disable or ruling.recover:
            set_disabled(bridge, one, ruling.disable)
        # A message for each time at which something is due again; LookAfter finds it where the subscriber is down.
        for place in ruling.again:
            if place.is_replay or not ruling.state.rounds:
                outbox.wake(place.due)
        if state.resume < ruling.state.resume < NEVER:
            outbox.wake(ruling.state.resume)
        if outbox.complete(ruling.state, finished, ruling.again):
            if ruling.gone:
                end(bridge, one.id, answer=ruling.gone)
            return
        state = outbox.state()
        if state.holder != holder:
            logger.info("the outbox of %s was taken over", one.id)
            return
    raise Conflict(f"the outbox of {one.id} kept changing")


def read_event(storage: Storage, id: str) -> Stored | str:
    """Return the row of an event and its envelope, or why there are none."""
    # Many subscribers ask for an event at the same moment: the first one reads it for all.
    with _reading[hash(id) % len(_reading)]:
        try:
            return _read_event(storage, id)
        except Unprocessable as error:
            return str(error)


@lru_cache(maxsize=256)
def _read_event(storage: Storage, id: str) -> Stored:
    row = store.get(storage, id)
    if row is None:
        raise Unprocessable("the event is gone")
    return row, row_envelope(storage, row)


def send_event(bridge: Bridge, one: Subscription, event: Stored) -> Outcome:
    """
    Post an event to a subscriber, signed with today's secrets.

    The body is the PBX's own form, or CloudEvents 1.0 in structured mode where the subscriber asked for that.
    """
    row, envelope = event
    content_type, body = "application/json", envelope
    if one.shape == "cloudevents":
        content_type = "application/cloudevents+json"
        body = {
            "specversion": "1.0",
            "id": row["id"],
            "source": bridge.settings.public_base_url or "/api/v2",
            "type": f"{_TYPE}.{row['type']}",
            "time": iso(row["happened"]),
            "datacontenttype": "application/json",
            "data": envelope["data"],
        }
        if subject := next((name for name in _SUBJECTS if name in row), None):
            body["subject"] = f"{subject}/{rows.value_of(row[subject])}"
    sent = encode(body)
    headers = one.signed(row["id"], int(time.time()), sent)
    headers |= {"Content-Type": content_type, "User-Agent": "pbx-azure-bridge"}
    return post(one.endpoint, sent, headers, allow_loopback=bridge.settings.allow_loopback_callbacks)


def post(
    url: str, body: bytes, headers: Mapping[str, str], *, allow_loopback: bool, seconds: float = TOTAL_SECONDS
) -> Outcome:
    """
    Post a body; nothing is followed, and `seconds` are all it gets, connecting and answer included.

    Nothing is raised for what the other side does. No text of the outcome holds the address.
    """
    import requests

    start = time.monotonic()
    try:
        session: requests.Session = _session(allow_loopback=allow_loopback)
        request = session.prepare_request(requests.Request("POST", url, data=body, headers=dict(headers)))
        timeout = (min(CONNECT_SECONDS, seconds), seconds)
        with (
            ending_by(start + seconds),
            session.send(request, timeout=timeout, stream=True, allow_redirects=False) as response,
        ):
            _finish(response)
            status, asked = int(response.status_code), response.headers.get("Retry-After")
    except AddressRefused:
        word = "address refused"
    except requests.exceptions.SSLError:
        word = "no trusted TLS"
    except (requests.exceptions.Timeout, TimeoutError):
        word = "timeout"
    except (requests.RequestException, OSError):
        word = "out of reach"
    except ValueError:
        word = "not an answer"
    else:
        seconds = time.monotonic() - start
        if 200 <= status < 300:
            return Outcome("delivered", str(status), seconds)
        is_gone = status == HTTPStatus.GONE or (status == HTTPStatus.NOT_FOUND and is_workflow_host(url))
        return Outcome("gone" if is_gone else "failed", str(status), seconds, retry_after(asked) or 0)
    return Outcome("failed", word, time.monotonic() - start)


def _finish(response: Any) -> None:
    """Read a short answer to its end, so that the connection can serve again; cut off one that is long or slow."""
    import urllib3

    left = LONGEST_ANSWER
    try:
        while left and (part := response.raw.read1(left)):
            left -= len(part)
        if not left:
            response.raw.close()
    except (urllib3.exceptions.HTTPError, OSError):
        # The status has decided about the delivery already.
        response.raw.close()


def judge(state: State, results: Results, moment: datetime, one: Subscription) -> Ruling:
    """
    Return what follows from the answers to a batch, from values alone.

    A failed event gets a schedule of its own. Where nothing gets through, five events are enough for the subscriber to
    count as down: then it waits as a whole, and its events stay as they are, but for those that it refuses: they would
    be in the way of all others. Replays leave its state alone.
    """
    ruling, tried, failed = Ruling(replace(state, holder="")), 0, []
    for place, outcome in results:
        if outcome.verdict == "gone":
            ruling.gone = outcome.result
        elif outcome.verdict == "lost":
            ruling.dead.append((place, outcome.result))
        else:
            if outcome.verdict == "delivered":
                ruling.delivered.append((replace(place, tries=place.tries + 1), outcome.result))
            elif place.is_replay:
                _retry(ruling, place, outcome, moment)
            else:
                failed.append((place, outcome))
            if not place.is_replay:
                tried += 1
                ruling.state.result, ruling.state.at, ruling.state.attempt = outcome.result, moment, place.tries + 1
                ruling.state.milliseconds = round(outcome.seconds * 1000)
    if tried:
        _judge_subscriber(ruling, failed, moment, one, is_reached=len(failed) < tried)
    return ruling


def _judge_subscriber(
    ruling: Ruling, failed: Results, moment: datetime, one: Subscription, *, is_reached: bool
) -> None:
    state, pause, least, is_down = ruling.state, 0, 0, False
    for place, outcome in failed:
        pause, least = max(pause, outcome.pause), max(least, outcome.wait)
        state.streak += not place.tries
    if is_reached:
        state.delivered, state.failing, state.streak, state.rounds, state.failures = moment, None, 0, 0, 0
        state.resume = moment + timedelta(seconds=pause) if pause else EPOCH
        ruling.recover = one.disabled is not None
    else:
        state.failing = state.failing or moment
        state.failures += len(failed)
        is_down = one.disabled is not None or state.rounds > 0 or state.streak >= DOWN_AFTER
        if is_down or pause:
            # The wait that it asks for is believed once.
            wait = 0 if pause and not state.rounds else min(FIRST_WAIT * 2 ** min(state.rounds, 20), LONGEST_WAIT)
            state.resume = moment + _wait(wait, least)
            state.rounds += 1
        if not one.disabled:
            ruling.disable = state.failing <= moment - DISABLED_AFTER
        elif state.failing <= moment - TRIED_FOR:
            state.resume = NEVER
    for place, outcome in failed:
        if not outcome.pause and (not is_down or outcome.result in REFUSED):
            _retry(ruling, place, outcome, moment)


def _retry(ruling: Ruling, place: Place, outcome: Outcome, moment: datetime) -> None:
    """
    Give an event its next try, or give it up after the last.

    Where nothing has succeeded since its first try the event may not be at fault: it waits an hour at most and is not
    given up. A replay is.
    """
    tries, delivered = place.tries + 1, ruling.state.delivered
    is_alone = not place.is_replay and not (delivered and place.tries and delivered > place.first)
    if tries > len(SCHEDULE) and not is_alone:
        ruling.dead.append((replace(place, tries=tries), f"the last attempt: {outcome.result}"))
        return
    wait = min(SCHEDULE[min(tries, len(SCHEDULE)) - 1], LONGEST_WAIT if is_alone else SCHEDULE[-1])
    due = moment + _wait(wait, outcome.wait)
    ruling.again.append(replace(place, tries=tries, first=place.first if place.tries else moment, due=due))


def _wait(seconds: float, least: int) -> timedelta:
    return timedelta(seconds=max(seconds * random.uniform(1 - JITTER, 1 + JITTER), least))  # noqa: S311 - jitter


def _dead_letter(bridge: Bridge, one: Subscription, place: Place, reason: str) -> None:
    body = encode({"kind": "deliver", "subscription": one.id, "event": place.event})
    name = f"{one.id}-{place.event}"
    row = store.get(bridge.storage, place.event, select=["caller", "destination"])
    people.add_dead_letter(bridge.storage, bridge.settings.default_region, "delivery", name, row)
    dead_letter(bridge.storage, kind="delivery", id=name, reason=reason, body=body, attempts=place.tries)
    logger.warning("signal delivery_failed subscription=%s event=%s attempts=%d", one.id, place.event, place.tries)
