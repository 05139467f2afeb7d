"""One sync of our webhooks: what is wanted is made, what is not is deleted, and each step can be the last."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from shared import health
from shared.errors import (
    BudgetExhausted,
    PbxError,
    PbxForbidden,
    PbxNotFound,
    PbxRefused,
    PbxThrottled,
    PbxUnreachable,
    StorageUnavailable,
)
from shared.times import iso, parse_time
from shared.webhooks.table import HELD, INTENDED, ORPHANED, Webhook, endpoint_hash, forget, intend, note, read_webhooks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from shared.bridge import Bridge
    from shared.errors import BridgeError
    from shared.health import Silence
    from shared.storage.leases import Lease

logger = logging.getLogger(__name__)

MOST_WEBHOOKS = 20

# The PBX acted on none of these, or was not even asked.
_NOT_MADE = (PbxRefused, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable, BudgetExhausted, StorageUnavailable)
# An event type is silent when so many came before, so many were reconciled since, and no earlier gap was as long.
_USUAL = 10
_RECONCILED = 3
_SHORTEST_SILENCE = timedelta(minutes=15)
_PATIENCE = 1.5
# So many that nobody knows to be made or not are enough for a while: each may hold one of the PBX's places.
_MOST_UNCLEAR = 4
_UNCLEAR_FOR = timedelta(days=7)
_CLEAN_UP = (
    "the PBX may have made webhooks that the app does not know. Delete there, in its panel under API, WEB HOOKS, what "
    "GET /api/ops/status does not show as held, and then POST /api/ops/webhooks/sync?forget_orphans=true"
)


@dataclass(slots=True)
class Report:
    """What a sync did, what is held now, and what stands in the way."""

    created: list[str] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    renewed: list[str] = field(default_factory=list)
    held: list[dict[str, Any]] = field(default_factory=list)
    maybe_orphaned: list[dict[str, Any]] = field(default_factory=list)
    problem: str | None = None
    ended_since: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        names = {"maybe_orphaned": "maybeOrphaned", "ended_since": "endedSince"}
        return {names.get(name, name): value for name, value in asdict(self).items()}


class Registrar:
    """Does one sync, under its lease."""

    def __init__(self, bridge: Bridge, lease: Lease, moment: datetime, ended: str | None = None) -> None:
        self._bridge = bridge
        self._lease = lease
        self._moment = moment
        self._unclear = 0
        self._addresses: set[str] = set()
        self.report = Report(ended_since=ended)

    def run(self, targets: Mapping[str, str], *, forget_orphans: bool = False) -> Report:
        """
        Bring what is held to what is wanted, as far as the PBX lets us.

        `forget_orphans` is said by somebody who has cleaned them up in the panel.
        """
        try:
            self._run(targets, forget_orphans)
        except (PbxError, BudgetExhausted) as error:
            self._note(error)
        return self._finish()

    def _run(self, targets: Mapping[str, str], forget_orphans: bool) -> None:
        self._addresses = {endpoint_hash(target) for target in targets.values()}
        rows = read_webhooks(self._bridge.storage)
        for row in rows:
            if forget_orphans and row.state != HELD:
                forget(self._bridge.storage, row)
            # Nobody else creates under our lease: whoever wrote the intent is gone.
            elif row.state == INTENDED:
                self._change(row, state=ORPHANED)
        held = [row for row in rows if row.state == HELD]
        for row in held:
            if row.event not in targets:
                self._each(partial(self._drop, row))
        silent = health.silences(self._bridge.storage, self._moment) if targets else {}
        for event, target in targets.items():
            ours = [row for row in held if row.event == event]
            self._each(partial(self._keep, event, target, ours, silent.get(event)))

    def _each(self, work: Callable[[], None]) -> None:
        """Do one webhook's work: what the PBX has against it says nothing of the others, unless it is the PBX."""
        try:
            work()
        except (PbxRefused, PbxNotFound) as error:
            self._note(error)
        except PbxForbidden as error:
            # A key that may make webhooks and not delete them still gets the new ones made.
            if error.operation != "DeleteWebhookByID":
                raise
            self._note(error)
        except (PbxUnreachable, PbxThrottled):
            raise
        except PbxError as error:
            self._unclear += 1
            if self._unclear > 1:
                raise
            self._note(error)

    def _note(self, error: BridgeError) -> None:
        if not self.report.problem:
            self.report.problem = str(error)
            logger.error("%s", error)

    def _keep(self, event: str, target: str, held: list[Webhook], silence: Silence | None) -> None:
        right = [row for row in held if row.endpoint == endpoint_hash(target)]
        # Of two, the older one was being replaced.
        right.sort(key=lambda row: row.created, reverse=True)
        renewed_for = ""
        if right and silence and self._is_silent(right[0], silence):
            renewed_for = silence.last
            seconds = int((self._moment - parse_time(renewed_for)).total_seconds())
            logger.warning("signal webhook_silent event=%s seconds=%d", event, seconds)
            self.report.renewed.append(event)
        if not right or renewed_for:
            self._check_unclear(event)
            self._create(event, target, renewed_for)
            right = []
        for row in held:
            if row not in right[:1]:
                self._drop(row)

    def _check_unclear(self, event: str) -> None:
        since = iso(self._moment - _UNCLEAR_FOR)
        # Those for another address have been replaced, and are not made again.
        rows = [row for row in read_webhooks(self._bridge.storage) if row.state != HELD and row.created >= since]
        if sum(row.endpoint in self._addresses for row in rows) >= _MOST_UNCLEAR:
            raise PbxRefused("Subscribe", f"No webhook is made for {event}: {_CLEAN_UP}")

    def _is_silent(self, row: Webhook, silence: Silence) -> bool:
        if silence.count < _USUAL or silence.lost < _RECONCILED or row.renewed_for == silence.last:
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
        intend(self._bridge.storage, row)
        try:
            webhook_id = self._bridge.pbx.subscribe(event, target)
        except _NOT_MADE as error:
            forget(self._bridge.storage, row)
            if isinstance(error, (PbxRefused, PbxForbidden)):
                raise type(error)("Subscribe", self._explained(error, event)) from error
            raise
        except PbxError:
            self._change(row, state=ORPHANED)
            raise
        self._change(row, state=HELD, id=webhook_id or "")
        self.report.created.append(event)
        logger.info("the webhook for %s was made, id %s", event, webhook_id or "unknown")

    def _drop(self, row: Webhook) -> None:
        if not row.id:
            # It may still be there, and only the panel shows it.
            self._change(row, state=ORPHANED)
            return
        self._lease.take()
        self._bridge.pbx.unsubscribe(row.id)
        forget(self._bridge.storage, row)
        self.report.deleted.append(row.event)

    def _change(self, row: Webhook, **changes: str) -> None:
        note(self._bridge.storage, replace(row, **changes))

    def _explained(self, error: PbxError, event: str) -> str:
        rows = read_webhooks(self._bridge.storage)
        held = ", ".join(f"{row.event} {row.id or 'id unknown'}" for row in rows if row.state == HELD)
        orphans = sum(row.state == ORPHANED for row in rows)
        return (
            f"The PBX refused the webhook for {event}: {error.remedy}. At most {MOST_WEBHOOKS} exist at a time for all "
            f"keys together. Delete what is not needed in the PBX's panel under API, WEB HOOKS, and sync again. "
            f"Ours are {held or 'none'}; maybe orphaned {orphans}"
        )

    def _finish(self) -> Report:
        rows = sorted(read_webhooks(self._bridge.storage), key=lambda row: (row.event, row.created))
        self.report.held = [row.to_dict() for row in rows if row.state == HELD]
        self.report.maybe_orphaned = [row.to_dict() for row in rows if row.state != HELD]
        if self.report.maybe_orphaned:
            logger.warning("%d webhooks are maybe orphaned: %s", len(self.report.maybe_orphaned), _CLEAN_UP)
        return self.report
