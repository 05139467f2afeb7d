"""Our webhooks at the PBX: registered, replaced when address or key change, and deleted only when they are ours."""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

from shared import health
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
from shared.times import iso, now
from shared.webhooks import table
from shared.webhooks.table import HELD, INTENDED, ORPHANED, Webhook, endpoint_hash, leased, read_webhooks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.bridge import Bridge
    from shared.settings import Settings
    from shared.webhooks.table import Lease

logger = logging.getLogger(__name__)

MOST_WEBHOOKS = 20
# The PBX acted on none of these, or was not even asked.
_NOT_MADE = (PbxRefused, PbxForbidden, PbxNotFound, PbxThrottled, PbxUnreachable, BudgetExhausted, StorageUnavailable)
# So many that nobody knows to be made or not are enough for a while: each may hold one of the PBX's places.
_MOST_UNCLEAR = 4
UNREACHABLE = (
    "No webhook is registered: the PBX cannot reach %(host)s, which PUBLIC_BASE_URL names. Open a tunnel to this "
    "machine (`cloudflared tunnel --url http://localhost:7071`, or `devtunnel host -p 7071 --allow-anonymous`) and "
    "put its https address into PUBLIC_BASE_URL; until then polls alone bring events"
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
    Sync as a timer does: another sync that runs is enough, and what the PBX has against it is raised as PbxRefused.

    Once all webhooks were deleted for good it makes no new ones, and deletes those that the PBX would not delete then.
    Without PUBLIC_BASE_URL none are wanted. Types whose webhooks are lost are logged.
    """
    for event, lost in health.silent(health.days(bridge.storage, 2)).items():
        logger.warning("signal webhook_silent event=%s lost=%d", event, lost)
    try:
        with leased(bridge.storage) as lease:
            ended = lease.ended_since
            if not ended and not bridge.settings.public_base_url:
                return
            report = _Registrar(bridge, lease).run({} if ended else _targets(bridge.settings))
    except Conflict:
        logger.info("webhooks are being synced elsewhere")
        return
    if report.problem and (ended or not unreachable(bridge.settings)):
        raise PbxRefused("SyncWebhooks", report.problem)


def sync(bridge: Bridge, *, patience: float = 0, forget_orphans: bool = False) -> Report:
    """
    Make the PBX post every wanted event to us, at the address and with the key of today's settings.

    A replacement is made before the old one is deleted. Ends what `delete_all` began. `forget_orphans` drops what was
    maybe orphaned, once the panel is clean. Raises ConfigError, StorageUnavailable, or Conflict when another sync still
    runs after `patience` seconds; what the PBX refuses is the report's `problem`.
    """
    targets = _targets(bridge.settings)
    with leased(bridge.storage, patience=patience) as lease:
        lease.note(ended=None)
        return _Registrar(bridge, lease).run(targets, forget_orphans=forget_orphans)


def delete_all(bridge: Bridge, *, patience: float = 0) -> Report:
    """Delete every webhook of ours whose id is known, and keep none until the next `sync`; raises as sync does."""
    with leased(bridge.storage, patience=patience) as lease:
        if not lease.ended_since:
            lease.note(ended=iso(now()))
        return _Registrar(bridge, lease).run({})


def unreachable(settings: Settings) -> str | None:
    """Return why the PBX cannot reach PUBLIC_BASE_URL and what to do, or None; a PBX on this machine reaches it."""
    host = urlsplit(settings.public_base_url).hostname or ""
    if not host or not _is_inside(host) or _is_inside(settings.pbx_host):
        return None
    return UNREACHABLE % {"host": host}


def missing(settings: Settings, webhooks: Iterable[Webhook], problem: str | None) -> dict[str, Any] | None:
    """Return the events that webhooks are wanted for and not held, and why; None where there are none."""
    if not settings.public_base_url:
        return None
    held = {row.event for row in webhooks if row.state == HELD}
    events = [event.name for event in wanted_events(settings.pbx_events) if event.name not in held]
    return {"events": events, "reason": unreachable(settings) or problem} if events else None


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


class _Registrar:
    """One sync, alone; each of its steps can be the last."""

    def __init__(self, bridge: Bridge, lease: Lease) -> None:
        self._bridge = bridge
        self._storage = bridge.storage
        self._lease = lease
        self.report = Report(ended_since=lease.ended_since)

    def run(self, targets: Mapping[str, str], *, forget_orphans: bool = False) -> Report:
        """Bring what is held to what is wanted, as far as the PBX lets us."""
        report = self.report
        report.problem = unreachable(self._bridge.settings) if targets else None
        wanted = {} if report.problem else targets
        rows = read_webhooks(self._storage)
        for row in rows:
            if forget_orphans and row.state != HELD:
                table.forget(self._storage, row)
            # Nobody else creates meanwhile: whoever wrote the intent is gone.
            elif row.state == INTENDED:
                table.save(self._storage, replace(row, state=ORPHANED))
        held = [row for row in rows if row.state == HELD]
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
        rows = sorted(read_webhooks(self._storage), key=lambda row: (row.event, row.created))
        report.held = [row.to_dict() for row in rows if row.state == HELD]
        report.maybe_orphaned = [row.to_dict() for row in rows if row.state != HELD]
        if report.maybe_orphaned:
            logger.warning("%d webhooks are maybe orphaned: %s", len(report.maybe_orphaned), _CLEAN_UP)
        self._lease.note(problem=report.problem)
        return report

    def _keep(self, event: str, targets: Mapping[str, str], held: list[Webhook]) -> None:
        right = endpoint_hash(targets[event])
        if not any(row.endpoint == right for row in held):
            self._create(event, targets)
        for row in held:
            if row.endpoint != right:
                self._drop(row)

    def _create(self, event: str, targets: Mapping[str, str]) -> None:
        # Those for another address have been replaced, and are not made again.
        addresses = set(map(endpoint_hash, targets.values()))
        unclear = [row for row in read_webhooks(self._storage) if row.state != HELD and row.endpoint in addresses]
        if len(unclear) >= _MOST_UNCLEAR:
            raise PbxRefused("Subscribe", f"No webhook is made for {event}: {_CLEAN_UP}")
        self._lease.note()
        row = Webhook(
            key=uuid4().hex, event=event, state=INTENDED, endpoint=endpoint_hash(targets[event]),
            host=urlsplit(targets[event]).netloc, created=iso(now()),
        )  # fmt: skip
        try:
            table.save(self._storage, row)
            webhook_id = self._bridge.pbx.subscribe(event, targets[event])
        except _NOT_MADE as error:
            table.forget(self._storage, row)
            if isinstance(error, PbxForbidden):
                raise PbxForbidden("Subscribe", f"No webhook is made for {event}: {error.remedy}") from error
            if isinstance(error, PbxRefused):
                raise PbxRefused("Subscribe", _FULL % (event, error.remedy)) from error
            raise
        except PbxError:
            table.save(self._storage, replace(row, state=ORPHANED))
            raise
        table.save(self._storage, replace(row, state=HELD, id=webhook_id or ""))
        self.report.created.append(event)
        logger.info("the webhook for %s was made, id %s", event, webhook_id or "unknown")

    def _drop(self, row: Webhook) -> None:
        if not row.id:
            # It may still be there, and only the panel shows it.
            table.save(self._storage, replace(row, state=ORPHANED))
            return
        self._lease.note()
        self._bridge.pbx.unsubscribe(row.id)
        table.forget(self._storage, row)
        self.report.deleted.append(row.event)


def _would_repeat(error: PbxError | BudgetExhausted) -> bool:
    """Return True if the other webhooks would fail, too; a key that may not delete them still makes the new ones."""
    if isinstance(error, PbxForbidden):
        return error.operation != "DeleteWebhookByID"
    return isinstance(error, (PbxUnreachable, PbxThrottled, BudgetExhausted))
