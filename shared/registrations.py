"""Our webhooks at the PBX: registered, replaced when they change or fall silent, deleted only when they are ours."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urlsplit
from uuid import uuid4

from shared import health
from shared.errors import (
    BudgetExhausted,
    Conflict,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxRefused,
    PbxThrottled,
    StorageUnavailable,
)
from shared.leases import leased
from shared.storage import reaching_storage
from shared.times import iso, now, parse_time
from shared.webhooks import (
    HELD,
    INTENDED,
    ORPHANED,
    PARTITION,
    TABLE,
    Webhook,
    endpoint,
    endpoint_hash,
    read_webhooks,
    wanted_events,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.health import Silence
    from shared.leases import Lease

logger = logging.getLogger(__name__)

MOST_WEBHOOKS = 20

# The PBX acted on none of these, or was not even asked.
_NOT_CREATED = (PbxRefused, PbxForbidden, PbxNotFound, PbxThrottled, BudgetExhausted, StorageUnavailable)
# An event type is silent when so many came before, so many were made good since, and no earlier gap was as long.
_USUAL = 10
_MADE_GOOD = 3
_SHORTEST_SILENCE = timedelta(minutes=15)
_PATIENCE = 1.5


@dataclass(slots=True)
class Report:
    """What a sync did, what is held now, and what stands in the way."""

    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    maybe_orphaned: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None

    def told(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "created": self.created,
            "deleted": self.deleted,
            "renewed": self.renewed,
            "held": self.held,
            "maybeOrphaned": self.maybe_orphaned,
            "problem": self.problem,
        }


def keep(bridge: Bridge) -> None:
    """Sync as a timer does: another sync that runs already is enough, and a problem is raised as PbxRefused."""
    try:
        report = sync(bridge)
    except Conflict:
        logger.info("webhooks are being synced elsewhere")
        return
    if report.problem:
        raise PbxRefused("Subscribe", report.problem)


def sync(bridge: Bridge, *, at: datetime | None = None) -> Report:
    """
    Make the PBX post every wanted event to us, at the address and with the key of today's settings.

    A replacement is made before the old one is deleted, and an event type that has gone silent is replaced once.
    Raises ConfigError, StorageUnavailable, or Conflict while another sync runs; what the PBX refuses is told in
    the report's `problem`.
    """
    targets = {event.name: endpoint(bridge.settings, event) for event in wanted_events(bridge.settings)}
    with reaching_storage(), leased(bridge.storage, TABLE, "sync") as lease:
        work = _Sync(bridge, lease, at or now())
        try:
            work.run(targets)
        except (PbxError, BudgetExhausted) as error:
            work.report.problem = work.report.problem or str(error)
        return work.finish()


def delete_all(bridge: Bridge) -> Report:
    """Delete every webhook that we made and know the id of; raises as sync does."""
    with reaching_storage(), leased(bridge.storage, TABLE, "sync") as lease:
        work = _Sync(bridge, lease, now())
        try:
            work.run({})
        except (PbxError, BudgetExhausted) as error:
            work.report.problem = str(error)
        return work.finish()


class _Sync:
    """One sync under its lease."""

    def __init__(self, bridge: Bridge, lease: Lease, moment: datetime) -> None:
        self._bridge = bridge
        self._lease = lease
        self._moment = moment
        self._table = bridge.storage.table(TABLE)
        self.report = Report()

    def run(self, targets: Mapping[str, str]) -> None:
        """Bring what is held to what is wanted."""
        rows = read_webhooks(self._bridge.storage)
        for row in rows:
            # Nobody else creates under our lease: whoever wrote the intent is gone.
            if row.state == INTENDED:
                self._change(row, state=ORPHANED)
        held = [row for row in rows if row.state == HELD]
        for row in held:
            if row.event not in targets:
                self._drop(row)
        silent = health.silences(self._bridge.storage, self._moment) if targets else {}
        for event, target in targets.items():
            self._keep(event, target, [row for row in held if row.event == event], silent.get(event))

    def _keep(self, event: str, target: str, held: list[Webhook], silence: Silence | None) -> None:
        right = [row for row in held if row.endpoint == endpoint_hash(target)]
        renew = bool(right) and self._is_silent(right[0], silence)
        if renew and silence:
            seconds = int((self._moment - parse_time(silence.last)).total_seconds())
            logger.warning("signal webhook_silent event=%s seconds=%d", event, seconds)
            self.report.renewed.append(event)
        if not right or renew:
            self._create(event, target, renewed_for=silence.last if renew and silence else "")
            right = []
        for row in held:
            if row not in right[:1]:
                self._drop(row)

    def _is_silent(self, row: Webhook, silence: Silence | None) -> bool:
        if not silence or silence.count < _USUAL or silence.lost < _MADE_GOOD or row.renewed_for == silence.last:
            return False
        longest = max(timedelta(seconds=silence.longest * _PATIENCE), _SHORTEST_SILENCE)
        return self._moment - parse_time(silence.last) > longest

    def _create(self, event: str, target: str, renewed_for: str) -> None:
        self._lease.take()
        host = urlsplit(target).netloc
        row = Webhook(
            key=uuid4().hex, event=event, state=INTENDED, endpoint=endpoint_hash(target), host=host,
            created=iso(self._moment), renewed_for=renewed_for,
        )  # fmt: skip
        self._table.create_entity(row.row())
        try:
            webhook_id = self._bridge.pbx.subscribe(event, target)
        except _NOT_CREATED as error:
            self._table.delete_entity(PARTITION, row.key)
            if isinstance(error, PbxRefused):
                self._explain(error, event)
            raise
        except PbxError:
            self._change(row, state=ORPHANED)
            raise
        self._change(row, state=HELD, id=webhook_id or "")
        self.report.created.append(event)
        logger.info("the webhook for %s was made, id %s", event, webhook_id or "unknown")

    def _drop(self, row: Webhook) -> None:
        if not row.id:
            # It may still be there, and only the panel can tell.
            self._change(row, state=ORPHANED)
            return
        self._lease.take()
        self._bridge.pbx.unsubscribe(row.id)
        self._table.delete_entity(PARTITION, row.key)
        self.report.deleted.append(row.event)

    def _change(self, row: Webhook, **changes: str) -> None:
        self._table.upsert_entity(replace(row, **changes).row())

    def _explain(self, error: PbxRefused, event: str) -> NoReturn:
        rows = read_webhooks(self._bridge.storage)
        held = ", ".join(f"{row.event} {row.id or 'id unknown'}" for row in rows if row.state == HELD)
        orphans = sum(row.state == ORPHANED for row in rows)
        problem = (
            f"The PBX refused the webhook for {event}: {error.remedy}. At most {MOST_WEBHOOKS} exist at a time for all "
            f"keys together. Delete what is not needed in the PBX's panel under API, WEB HOOKS, and sync again. "
            f"Ours are {held or 'none'}; maybe orphaned {orphans}"
        )
        logger.error("%s", problem)
        raise PbxRefused("Subscribe", problem) from error

    def finish(self) -> Report:
        """The report, with what is held now."""
        rows = sorted(read_webhooks(self._bridge.storage), key=lambda row: (row.event, row.created))
        self.report.held = [row.told() for row in rows if row.state == HELD]
        self.report.maybe_orphaned = [row.told() for row in rows if row.state != HELD]
        if self.report.maybe_orphaned:
            logger.warning("%d webhooks are maybe orphaned at the PBX", len(self.report.maybe_orphaned))
        return self.report
