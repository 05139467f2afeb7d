"""
Our webhooks at the PBX: registered, replaced when address or key change, and deleted only when they are ours.

Table `webhooks` has a row for each, and one for the sync: who runs it, how the last one ended, and whether all webhooks
were deleted for good.
"""

from __future__ import annotations

import hashlib
import ipaddress
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from shared import health
from shared.bridge import Bridge
from shared.errors import (
    BudgetExhausted,
    ConfigError,
    Conflict,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxRefused,
    PbxThrottled,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.events.table import wanted_events
from shared.http import is_public
from shared.settings import Settings
from shared.storage import rows
from shared.storage.account import Storage
from shared.times import iso, now

logger = logging.getLogger(__name__)

TABLE = "webhooks"
PARTITION = "webhook"
INTENDED, HELD, ORPHANED = "intended", "held", "maybe orphaned"
MOST_WEBHOOKS = 20
SYNC, _LAST = "sync", "last"
# A sync renews its lease before each step; none takes so long. One whose process died keeps others waiting as long.
_LEASE = timedelta(seconds=45)
_LOOK_SECONDS = 0.2
_ELSEWHERE = "webhooks are being synced elsewhere"
# The PBX acted on none of these, or was not even asked.
_NOT_MADE = (PbxRefused, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable, BudgetExhausted, StorageUnavailable)
# Each webhook that may have been made may hold one of the PBX's places: no more are tried for an address.
_MOST_UNCLEAR = 4
UNREACHABLE = (
    "the PBX cannot reach %(host)s, the host of PUBLIC_BASE_URL. Open a tunnel to this machine "
    "(`cloudflared tunnel --url http://localhost:7071`, or `devtunnel host -p 7071 --allow-anonymous`) and set "
    "PUBLIC_BASE_URL to its https address; until then events come from polls alone"
)
_CLEAN_UP = (
    "the PBX may have made webhooks that the app does not know. Delete there, in its panel under API, WEB HOOKS, what "
    "GET /api/ops/status does not show as held, and then POST /api/ops/webhooks/sync?forget_orphans=true"
)
_FULL = (
    "The PBX refused the webhook for %s: %s. At most 20 exist at a time for all keys together. Delete what is not "
    "needed in the PBX's panel under API, WEB HOOKS, and sync again. GET /api/ops/status shows which are ours"
)
_SETTINGS = {
    "PUBLIC_BASE_URL": "this app's own address, such as https://<app>.azurewebsites.net",
    "PBX_WEBHOOK_KEY": "the function key of the receivers",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """
    A row: one webhook that we made, or may have made; `endpoint` is a hash of its URL, which holds a key.

    It is `intended` before the PBX is asked, `held` afterwards, and `maybe orphaned` where nobody knows whether
    the PBX made it, or under which id.
    """

    key: str
    event: str
    state: str
    endpoint: str
    host: str
    created: str
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for people to read."""
        known = self.id or (None if self.state == INTENDED else "unknown")
        return {"event": self.event, "id": known, "state": self.state, "host": self.host, "created": self.created}


@dataclass(slots=True)
class Report:
    """The result of a sync: its changes, the webhooks held now, and the problem in the way."""

    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    maybe_orphaned: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    ended_since: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        names = {"maybe_orphaned": "maybeOrphaned", "ended_since": "endedSince"}
        return {names.get(name, name): value for name, value in asdict(self).items()}


def keep(bridge: Bridge) -> None:
    """
    Sync as a timer does; another sync that runs is enough. Raises PbxRefused with what the PBX has against it.

    Once all webhooks were deleted for good it makes no new ones, and deletes those that the PBX would not delete then.
    Without PUBLIC_BASE_URL none are wanted. Types whose webhooks are lost are logged.
    """
    for event, lost in health.silent(health.days(bridge.storage, 2)).items():
        logger.warning("signal webhook_silent event=%s lost=%d", event, lost)
    try:
        with alone(bridge) as one:
            if not one.ended_since and not bridge.settings.public_base_url:
                return
            report = one.run({} if one.ended_since else _targets(bridge.settings))
    except Conflict as error:
        logger.info("%s", error)
        return
    if report.problem and (report.ended_since or not unreachable(bridge.settings)):
        raise PbxRefused("SyncWebhooks", report.problem)


def sync(bridge: Bridge, *, patience: float = 0, forget_orphans: bool = False) -> Report:
    """
    Make the PBX post every wanted event to us, at the address and with the key of today's settings.

    A replacement is made before the old one is deleted. Ends what `delete_all` began. `forget_orphans` drops what was
    maybe orphaned, once the panel is clean. Raises ConfigError, StorageUnavailable, or Conflict when another sync still
    runs after `patience` seconds; what the PBX refuses is the report's `problem`.
    """
    targets = _targets(bridge.settings)
    with alone(bridge, patience=patience) as one:
        one.renew(ended=None)
        return one.run(targets, forget_orphans=forget_orphans)


def delete_all(bridge: Bridge, *, patience: float = 0) -> Report:
    """Delete every webhook of ours whose id is known, and keep none until the next `sync`; raises as sync does."""
    with alone(bridge, patience=patience) as one:
        if not one.ended_since:
            one.renew(ended=iso(now()))
        return one.run({})


def read(storage: Storage) -> tuple[list[Webhook], str | None, str | None]:
    """Return our webhooks, the time all were deleted for good, and what stood in the way of the last sync."""
    found = list(storage.table(TABLE).list_entities())
    last: Mapping[str, Any] = next((row for row in found if row["PartitionKey"] == SYNC), {})
    names = [column.name for column in fields(Webhook)]
    own = [Webhook(**{name: row[name] for name in names}) for row in found if row["PartitionKey"] == PARTITION]
    return own, last.get("ended"), last.get("problem")


def unreachable(settings: Settings) -> str | None:
    """Return why the PBX cannot reach PUBLIC_BASE_URL and what to do, or None; a PBX on this machine reaches it."""
    host = urlsplit(settings.public_base_url).hostname or ""
    if not host or not _is_inside(host) or _is_inside(settings.pbx_host):
        return None
    return UNREACHABLE % {"host": host}


def _is_inside(host: str) -> bool:
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _targets(settings: Settings) -> dict[str, str]:
    """Return the URL, a secret, that the PBX posts each wanted event to; raises ConfigError for a missing setting."""
    empty = [
        f"{name}: missing. Set it to {what}" for name, what in _SETTINGS.items() if not getattr(settings, name.lower())
    ]
    if empty:
        raise ConfigError("Settings missing for registering webhooks: " + "; ".join(empty))
    key = quote(settings.pbx_webhook_key, safe="")
    events = wanted_events(settings.pbx_events)
    return {event.name: f"{settings.public_base_url}api/events/{event.name}?code={key}" for event in events}


class SyncRun:
    """One sync, alone: its lease ends 45 seconds after the last renewal. Each of its steps can be the last."""

    def __init__(self, bridge: Bridge) -> None:
        self._bridge = bridge
        self._table = bridge.storage.table(TABLE)
        self._row = rows.get(self._table, SYNC, _LAST)
        if self._row is not None and self._row["until"] > now():
            raise Conflict(_ELSEWHERE)
        self.renew()
        self.report = Report()

    @property
    def ended_since(self) -> str | None:
        """The time at which all webhooks were deleted for good."""
        return self._row.get("ended") if self._row is not None else None

    def renew(self, *, over: bool = False, **columns: str | None) -> None:
        """Go on for 45 seconds, or end, and set columns; raises Conflict where another sync took over meanwhile."""
        until = now() + (timedelta() if over else _LEASE)
        row = {**(self._row or {}), "PartitionKey": SYNC, "RowKey": _LAST, "until": until, **columns}
        written = rows.swap(self._table, row, self._row.etag if self._row is not None else None)
        if written is None:
            raise Conflict(_ELSEWHERE)
        self._row = written

    def run(self, targets: Mapping[str, str], *, forget_orphans: bool = False) -> Report:
        """Bring what is held to what is wanted, as far as the PBX lets us."""
        report = self.report
        report.ended_since = self.ended_since
        reason = unreachable(self._bridge.settings) if targets else None
        report.problem = f"No webhook is registered: {reason}" if reason else None
        wanted = {} if reason else targets
        found, _, _ = read(self._bridge.storage)
        for row in found:
            if forget_orphans and row.state != HELD:
                self._forget(row)
            # Nobody else creates meanwhile: whoever wrote the intent is gone.
            elif row.state == INTENDED:
                self._save(replace(row, state=ORPHANED))
        held = [row for row in found if row.state == HELD]
        steps = [partial(self._drop, row) for row in held if row.event not in wanted]
        steps += [partial(self._keep, event, wanted, [row for row in held if row.event == event]) for event in wanted]
        for step in steps:
            try:
                step()
            except (PbxError, BudgetExhausted) as error:
                if not report.problem:
                    report.problem = str(error)
                    logger.error("%s", error)
                if _would_repeat(error):
                    break
        found, _, _ = read(self._bridge.storage)
        found.sort(key=lambda row: (row.event, row.created))
        report.held = [row.to_dict() for row in found if row.state == HELD]
        report.maybe_orphaned = [row.to_dict() for row in found if row.state != HELD]
        if report.maybe_orphaned:
            logger.warning("%d webhooks are maybe orphaned: %s", len(report.maybe_orphaned), _CLEAN_UP)
        self.renew(problem=report.problem)
        return report

    def _keep(self, event: str, targets: Mapping[str, str], held: list[Webhook]) -> None:
        right = _hash(targets[event])
        if not any(row.endpoint == right for row in held):
            self._create(event, targets)
        for row in held:
            if row.endpoint != right:
                self._drop(row)

    def _create(self, event: str, targets: Mapping[str, str]) -> None:
        # Unclear webhooks for another address do not count: they are not made again.
        addresses = set(map(_hash, targets.values()))
        found, _, _ = read(self._bridge.storage)
        if sum(row.state != HELD and row.endpoint in addresses for row in found) >= _MOST_UNCLEAR:
            raise PbxRefused("Subscribe", f"No webhook is made for {event}: {_CLEAN_UP}")
        self.renew()
        target = targets[event]
        row = Webhook(
            key=uuid4().hex, event=event, state=INTENDED, endpoint=_hash(target), host=urlsplit(target).netloc,
            created=iso(now()),
        )  # fmt: skip
        try:
            self._save(row)
            webhook_id = self._bridge.pbx.subscribe(event, target)
        except _NOT_MADE as error:
            self._forget(row)
            if isinstance(error, PbxForbidden):
                raise PbxForbidden("Subscribe", f"No webhook is made for {event}: {error.remedy}") from error
            if isinstance(error, PbxRefused):
                raise PbxRefused("Subscribe", _FULL % (event, error.remedy)) from error
            raise
        except PbxError:
            self._save(replace(row, state=ORPHANED))
            raise
        self._save(replace(row, state=HELD, id=webhook_id or ""))
        self.report.created.append(event)
        logger.info("the webhook for %s was made, id %s", event, webhook_id or "unknown")

    def _drop(self, row: Webhook) -> None:
        if not row.id:
            # It may still be there, and only the panel shows it.
            self._save(replace(row, state=ORPHANED))
            return
        self.renew()
        self._bridge.pbx.unsubscribe(row.id)
        self._forget(row)
        self.report.deleted.append(row.event)

    def _save(self, row: Webhook) -> None:
        rows.put(self._table, {"PartitionKey": PARTITION, "RowKey": row.key, **asdict(row)})

    def _forget(self, row: Webhook) -> None:
        rows.delete(self._table, PARTITION, row.key)


def _would_repeat(error: PbxError | BudgetExhausted) -> bool:
    """Return True if the other webhooks would fail, too; a key that may not delete them still makes the new ones."""
    if isinstance(error, PbxForbidden):
        return error.operation != "DeleteWebhookByID"
    return isinstance(error, (PbxUnreachable, PbxThrottled, BudgetExhausted))


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()


@contextmanager
def alone(bridge: Bridge, *, patience: float = 0) -> Iterator[SyncRun]:
    """Run the only sync within; raises Conflict when another one still runs after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            one = SyncRun(bridge)
            break
        except Conflict:
            if time.monotonic() >= deadline:
                raise
            threading.Event().wait(_LOOK_SECONDS)
    try:
        yield one
    finally:
        # Where somebody else has it, there is nothing to end.
        with suppress(Conflict):
            one.renew(over=True)
