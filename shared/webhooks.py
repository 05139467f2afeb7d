"""
Registers our webhooks at the PBX, replaces them when the address or key changes, and deletes only our own.

Table `webhooks` has a row for each webhook, and one for the sync: its lease, the last problem, and the time at which
all webhooks were deleted for good.
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
# Longer than any step: a sync renews its lease before each. After a crash the next sync waits for its end.
_LEASE = timedelta(seconds=45)
_LOOK_SECONDS = 0.2
_ELSEWHERE = "webhooks are being synced elsewhere"
# After these errors the PBX has certainly not made the webhook.
_NOT_MADE = (PbxRefused, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable, BudgetExhausted, StorageUnavailable)
# Webhooks of unknown fate for the current address; more could use up the PBX's places.
_MOST_UNCLEAR = 4
UNREACHABLE = (
    "the PBX cannot reach %(host)s, the host of PUBLIC_BASE_URL. Open a tunnel to this machine "
    "(`cloudflared tunnel --url http://localhost:7071`, or `devtunnel host -p 7071 --allow-anonymous`) and set "
    "PUBLIC_BASE_URL to its https address; until then events come from polls alone"
)
_CLEAN_UP = (
    "the PBX may have webhooks that the app does not know. In the PBX's panel, under API, WEB HOOKS, delete those that "
    "GET /api/ops/status does not show as held, then POST /api/ops/webhooks/sync?forget_orphans=true"
)
_FULL = (
    "The PBX refused the webhook for %s: %s. It holds at most 20 webhooks for all keys together. In its panel, under "
    "API, WEB HOOKS, delete unneeded ones, then sync again. GET /api/ops/status shows the app's own"
)
_SETTINGS = {
    "PUBLIC_BASE_URL": "this app's own address, such as https://<app>.azurewebsites.net",
    "PBX_WEBHOOK_KEY": "the function key of the receivers",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Webhook:
    """
    A row of table `webhooks`: a webhook that we made, or may have made.

    It is `intended` before the PBX is asked, `held` once the PBX made it, and `maybe orphaned` where its fate or its id
    is unknown. `endpoint` is a hash, because the URL contains a key.
    """

    key: str
    event: str
    state: str
    endpoint: str
    host: str
    created: str
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the webhook for answers, without its endpoint."""
        shown = self.id or (None if self.state == INTENDED else "unknown")
        return {"event": self.event, "id": shown, "state": self.state, "host": self.host, "created": self.created}


@dataclass(slots=True)
class Report:
    """The result of a sync: its changes, the webhooks held now, and the first problem."""

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


def sync_on_schedule(bridge: Bridge) -> None:
    """
    Sync for the timer, unless another sync runs; log the events whose webhooks are lost.

    After `delete_all` it only retries failed deletions. Without PUBLIC_BASE_URL it does nothing. Raises PbxRefused with
    the problem of the sync.
    """
    for event, lost in health.silent(health.days(bridge.storage, 2)).items():
        logger.warning("signal webhook_silent event=%s lost=%d", event, lost)
    try:
        with alone(bridge) as current:
            if not current.ended_since and not bridge.settings.public_base_url:
                return
            report = current.run({} if current.ended_since else _targets(bridge.settings))
    except Conflict as error:
        logger.info("%s", error)
        return
    if report.problem and (report.ended_since or not unreachable(bridge.settings)):
        raise PbxRefused("SyncWebhooks", report.problem)


def sync(bridge: Bridge, *, patience: float = 0, forget_orphans: bool = False) -> Report:
    """
    Register a webhook for every wanted event, at the address and with the key of the current settings.

    A replacement is made before the old webhook is deleted. Webhooks are wanted again after `delete_all`.
    `forget_orphans` removes the rows of those maybe orphaned, once the PBX's panel is clean. Raises ConfigError,
    StorageUnavailable, or Conflict when another sync still runs after `patience` seconds. An error of the PBX is the
    report's `problem`.
    """
    targets = _targets(bridge.settings)
    with alone(bridge, patience=patience) as current:
        current.renew(ended=None)
        return current.run(targets, forget_orphans=forget_orphans)


def delete_all(bridge: Bridge, *, patience: float = 0) -> Report:
    """Delete every webhook of ours whose id is known, and make none until the next `sync`; raises as `sync` does."""
    with alone(bridge, patience=patience) as current:
        if not current.ended_since:
            current.renew(ended=iso(now()))
        return current.run({})


def read(storage: Storage) -> tuple[list[Webhook], str | None, str | None]:
    """Return our webhooks, the time at which all were deleted for good, and the problem of the last sync."""
    entities = list(storage.table(TABLE).list_entities())
    last: Mapping[str, Any] = next((row for row in entities if row["PartitionKey"] == SYNC), {})
    names = [column.name for column in fields(Webhook)]
    ours = [Webhook(**{name: row[name] for name in names}) for row in entities if row["PartitionKey"] == PARTITION]
    return ours, last.get("ended"), last.get("problem")


def unreachable(settings: Settings) -> str | None:
    """Return the reason and remedy if PUBLIC_BASE_URL is private and the PBX is not; None otherwise."""
    host = urlsplit(settings.public_base_url).hostname or ""
    if not host or not _is_private(host) or _is_private(settings.pbx_host):
        return None
    return UNREACHABLE % {"host": host}


def _is_private(host: str) -> bool:
    try:
        return not is_public(ipaddress.ip_address(host))
    except ValueError:
        return "." not in host or host.endswith((".local", ".internal", ".localhost"))


def _targets(settings: Settings) -> dict[str, str]:
    """Return the URL of each wanted event, a secret; raises ConfigError for a missing setting."""
    unset = [name for name in _SETTINGS if not getattr(settings, name.lower())]
    missing = [f"{name}: missing. Set it to {_SETTINGS[name]}" for name in unset]
    if missing:
        raise ConfigError("Settings missing for registering webhooks: " + "; ".join(missing))
    key = quote(settings.pbx_webhook_key, safe="")
    events = wanted_events(settings.pbx_events)
    return {event.name: f"{settings.public_base_url}api/events/{event.name}?code={key}" for event in events}


@contextmanager
def alone(bridge: Bridge, *, patience: float = 0) -> Iterator[SyncRun]:
    """Hold the lease of the only sync; raises Conflict when another sync still runs after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        try:
            current = SyncRun(bridge)
            break
        except Conflict:
            if time.monotonic() >= deadline:
                raise
            threading.Event().wait(_LOOK_SECONDS)
    try:
        yield current
    finally:
        # After a takeover there is no lease to release.
        with suppress(Conflict):
            current.renew(release=True)


class SyncRun:
    """The only sync under way; its lease ends 45 seconds after the last renewal. It may stop after any step."""

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

    def renew(self, *, release: bool = False, **columns: str | None) -> None:
        """Renew or release the lease, and set columns; raises Conflict if another sync took over meanwhile."""
        until = now() + (timedelta() if release else _LEASE)
        row = {**(self._row or {}), "PartitionKey": SYNC, "RowKey": _LAST, "until": until, **columns}
        written = rows.swap(self._table, row, self._row.etag if self._row is not None else None)
        if written is None:
            raise Conflict(_ELSEWHERE)
        self._row = written

    def run(self, targets: Mapping[str, str], *, forget_orphans: bool = False) -> Report:
        """Delete unwanted webhooks and create missing ones; the first error of the PBX is the report's problem."""
        report = self.report
        report.ended_since = self.ended_since
        reason = unreachable(self._bridge.settings) if targets else None
        report.problem = f"No webhook is registered: {reason}" if reason else None
        wanted = {} if reason else targets
        webhooks, _, _ = read(self._bridge.storage)
        for row in webhooks:
            if forget_orphans and row.state != HELD:
                self._forget(row)
            # No other sync runs: the one that wrote the intent has died.
            elif row.state == INTENDED:
                self._save(replace(row, state=ORPHANED))
        held = [row for row in webhooks if row.state == HELD]
        steps = [partial(self._drop, row) for row in held if row.event not in wanted]
        steps += [partial(self._ensure, event, wanted, [row for row in held if row.event == event]) for event in wanted]
        for step in steps:
            try:
                step()
            except (PbxError, BudgetExhausted) as error:
                if not report.problem:
                    report.problem = str(error)
                    logger.error("%s", error)
                if _would_repeat(error):
                    break
        webhooks, _, _ = read(self._bridge.storage)
        webhooks.sort(key=lambda row: (row.event, row.created))
        report.held = [row.to_dict() for row in webhooks if row.state == HELD]
        report.maybe_orphaned = [row.to_dict() for row in webhooks if row.state != HELD]
        if report.maybe_orphaned:
            logger.warning("%d webhooks are maybe orphaned: %s", len(report.maybe_orphaned), _CLEAN_UP)
        self.renew(problem=report.problem)
        return report

    def _ensure(self, event: str, targets: Mapping[str, str], held: list[Webhook]) -> None:
        endpoint = _hash(targets[event])
        if not any(row.endpoint == endpoint for row in held):
            self._create(event, targets)
        for row in held:
            if row.endpoint != endpoint:
                self._drop(row)

    def _create(self, event: str, targets: Mapping[str, str]) -> None:
        # Unclear webhooks for an earlier address do not count: no more of them are made.
        endpoints = set(map(_hash, targets.values()))
        webhooks, _, _ = read(self._bridge.storage)
        if sum(row.state != HELD and row.endpoint in endpoints for row in webhooks) >= _MOST_UNCLEAR:
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
            # The PBX may still have it, but only its panel shows the id.
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
    """Return True if the other webhooks would fail, too; a key that may not delete webhooks may still make them."""
    if isinstance(error, PbxForbidden):
        return error.operation != "DeleteWebhookByID"
    return isinstance(error, (PbxUnreachable, PbxThrottled, BudgetExhausted))


def _hash(url: str) -> str:
    return hashlib.sha256(url.encode()).hexdigest()
