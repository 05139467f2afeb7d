"""The demonstration: what arrives in storage, printed as it happens, each with the URL to look at it."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import requests

from shared.errors import StorageUnavailable
from shared.pbx.resources import RESOURCES
from shared.polling import checkpoints
from shared.settings import Settings
from shared.storage.account import CONTAINERS, Storage, reaching_storage

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from dev.simulator import SimulatorProcess
    from dev.subscribers import Subscribers

_PATIENCE_SECONDS = 2
_LOOK_SECONDS = 0.5
_QUIET_SECONDS = 45
_MEDIA = CONTAINERS[:2]


class Demonstration:
    """Watches the data account from now on, and prints what is new until the simulated day is over and quiet."""

    def __init__(
        self,
        url: str,
        environment: Mapping[str, str],
        *,
        log: Path,
        simulator: SimulatorProcess | None,
        subscribers: Subscribers | None,
        stop: threading.Event,
    ) -> None:
        self._url = url
        self._log = log
        self._simulator = simulator
        self._subscribers = subscribers
        self._stop = stop
        self._storage = Storage(Settings.from_env(environment).storage)
        self._began = datetime.now(UTC)
        self._seen: set[str] = set()
        self._revisions: dict[str, int] = {}
        self._polled: dict[str, int] = {}
        self._sources = (self._polls, self._events, self._stories, self._media, self._sweeps, self._deliveries)
        self._log_lines = 0
        self._reached = True

    def run(self, pace: float) -> None:
        """Register our webhooks and the subscribers, then show a day with so many real seconds between its steps."""
        self._storage.create_all()
        self._revisions = {row["RowKey"]: row["revision"] for row in self._storage.table("calls").list_entities()}
        self._seen = {blob for _, blob, _ in self._blobs()}
        if self._simulator is not None:
            # So that what the day brings is new, and not what was there at the first look.
            self._first_look()
        self._sync()
        self._subscribe()
        if self._simulator is not None:
            self._simulator.control("POST", "day", name="demo", pace=pace)
        else:
            print("Webhooks, polls and recordings of your PBX are printed as they come.")
        quiet = 0.0
        while quiet < _QUIET_SECONDS and not self._stop.wait(_LOOK_SECONDS):
            fresh = self._look()
            quiet = 0.0 if fresh or self._simulator is None else quiet + _LOOK_SECONDS

    def _look(self) -> bool:
        """Print what is new; False where nothing is and storage could be asked."""
        fresh = False
        try:
            with reaching_storage():
                for line in (line for source in self._sources for line in source()):
                    print(line, flush=True)
                    fresh = True
        except StorageUnavailable:
            if self._reached:
                print("The storage emulator does not answer; looking again until it does.", flush=True)
            self._reached = False
            return True
        self._reached = True
        return fresh

    def _first_look(self) -> None:
        """Wait until each resource was read once; ask for those that the host does not run by itself at its start."""
        patience = time.monotonic() + _PATIENCE_SECONDS
        asked: set[str] = set()
        while missing := self._unread():
            if time.monotonic() > patience:
                for function in missing - asked:
                    requests.post(f"{self._url}/admin/functions/{function}", json={"input": ""}, timeout=30)
                asked |= missing
            if self._stop.wait(_LOOK_SECONDS):
                return

    def _unread(self) -> set[str]:
        read = {checkpoint.resource for checkpoint in checkpoints.read_all(self._storage) if checkpoint.started}
        return {resource.function for resource in RESOURCES if resource.name not in read}

    def _sync(self) -> None:
        answer = requests.post(f"{self._url}/api/ops/webhooks/sync", timeout=60)
        body = answer.json()
        if answer.ok:
            print(f"Webhooks          {len(body.get('held', []))} registered at the PBX", flush=True)
        else:
            print(f"Webhooks          not registered: {body.get('title')}", flush=True)

    def _subscribe(self) -> None:
        for line in self._subscribers.subscribe(self._url) if self._subscribers else ():
            print(line)
        print(flush=True)

    def _polls(self) -> Iterator[str]:
        for checkpoint in checkpoints.read_all(self._storage):
            resource, count = checkpoint.resource, checkpoint.items
            if count != self._polled.get(resource, 0):
                self._polled[resource] = count
                yield _line(None, "poll", resource, f"{count} stored", "", f"{self._url}/api/v2/trigger/{resource}")

    def _events(self) -> Iterator[str]:
        since = self._began.isoformat().replace("+00:00", "Z")
        places = f"PartitionKey eq 'feed' and RowKey lt 'n' and received ge datetime'{since}'"
        rows = self._storage.table("feed").query_entities(places)
        for row in sorted(rows, key=lambda row: row["received"]):
            if row["id"] in self._seen:
                continue
            self._seen.add(row["id"])
            who = f"{masked(row.get('caller'))} → {masked(row.get('destination'))}" if row.get("caller") else ""
            origin = "" if row["origin"] == "webhook" else f"[{row['origin']}]"
            yield _line(row["received"], "event", row["type"], who, origin, self._event_url(row))

    def _event_url(self, row: Mapping[str, Any]) -> str:
        call = row.get("callID")
        return f"{self._url}/api/v2/events?" + (f"call_id={call.value}" if call else f"type={row['type']}")

    def _stories(self) -> Iterator[str]:
        for row in self._storage.table("calls").list_entities():
            if self._revisions.get(row["RowKey"]) == row["revision"]:
                continue
            self._revisions[row["RowKey"]] = row["revision"]
            if row["outcome"] in ("ringing", "talking"):
                continue
            talked = f"{row['talkSeconds']} s" if row.get("talkSeconds") else ""
            call = row["callID"].value
            yield _line(None, "call", row["outcome"], talked, "", f"call {call}, {row['revision']} events")

    def _media(self) -> Iterator[str]:
        for container, blob, size in self._blobs():
            if blob in self._seen:
                continue
            self._seen.add(blob)
            url = self._storage.container(container).get_blob_client(blob).url
            yield _line(None, "audio", container, f"{size // 1024} KiB", "", f"{url}?{self._sas(container)}")

    def _sweeps(self) -> Iterator[str]:
        lines = self._log.read_text(errors="replace").splitlines()
        for line in lines[self._log_lines :]:
            if found := re.search(r"the sweep found (\d+) of (\w+)", line):
                yield _line(None, "sweep", found[2], f"{found[1]} found", "", "by comparing the whole day")
        self._log_lines = len(lines)

    def _deliveries(self) -> Iterator[str]:
        for event, verdict, url in self._subscribers.lines() if self._subscribers else ():
            yield f"{_line(None, 'post', event, '', '', url)}  {verdict}"

    def _blobs(self) -> Iterator[tuple[str, str, int]]:
        for container in _MEDIA:
            for blob in self._storage.container(container).list_blobs():
                if not blob.name.startswith("."):
                    yield container, blob.name, blob.size

    def _sas(self, container: str) -> str:
        """Permission to listen for a day, so that the printed URL opens; the emulator's key is public anyway."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        client = self._storage.container(container)
        sas: str = generate_container_sas(
            client.account_name or "",
            container,
            account_key=client.credential.account_key,
            permission=ContainerSasPermissions(read=True),
            expiry=self._began + timedelta(days=1),
        )
        return sas


def _line(moment: datetime | None, *columns: str) -> str:
    clock = (moment or datetime.now(UTC)).astimezone().strftime("%H:%M:%S")
    return "{}  {:<5}  {:<20} {:<11} {:<12} {}".format(clock, *columns)


def masked(number: str | None) -> str:
    """The number with all but its last two digits hidden."""
    return f"…{number[-2:]}" if number and len(number) > 4 else "…"
