"""Exports all data of a phone number as a zip: JSON, a workbook, audio, and a page that describes them."""

from __future__ import annotations

import html
import json
import tempfile
import zipfile
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.api.calls import as_item, event_item
from shared.api.sheets import WORKBOOK, add_sheet, cell
from shared.bridge import Bridge
from shared.errors import Unprocessable
from shared.privacy.holdings import EXPORTS, RESOURCES, Holdings, Place, Spellings, plain, pointed, scanned
from shared.storage.account import Storage
from shared.storage.messages import get_payload
from shared.times import iso, now

# The parts of an export, each with its title and the columns of its sheet.
_PARTS: Mapping[str, tuple[str, str]] = {
    "calls": (
        "Calls, each with its story",
        "callID started connected ended talkSeconds outcome direction callerE164 destinationE164 answeredBy",
    ),
    "events": ("Events of the PBX and of this app", "id type origin received happened callID"),
    "lost_callers": (
        "Calls that nobody answered, until they were returned",
        "callerid destination open since first last attempts",
    ),
    "contacts": ("Entries of the company's own directory and lists", "resource id"),
    "items": ("The same calls, recordings and voicemails as the PBX lists them", "resource id"),
    "others": ("All else with the number, such as dead letters and dialled calls", "table id reason"),
}


def export(bridge: Bridge, id: str, number: str) -> dict[str, int]:
    """Write the export of a number to container `exports`, and return its counts; raises StorageUnavailable."""
    storage, region = bridge.storage, bridge.settings.default_region
    spellings = Spellings(number, region)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "export.zip"
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            writer = _Writer(storage, Path(folder), archive)
            for holdings in pointed(storage, spellings, region, now()):
                writer.add(holdings)
            writer.add(scanned(storage, spellings, now()))
            writer.close(spellings.number)
        with target.open("rb") as file:
            storage.container(EXPORTS).upload_blob(f"{id}.zip", file, overwrite=True, max_concurrency=1)
    return dict(writer.counts)


class _Writer:
    """Writes holdings as they are read: rows to files and a workbook on disk, audio straight into the archive."""

    def __init__(self, storage: Storage, folder: Path, archive: zipfile.ZipFile) -> None:
        from xlsxwriter import Workbook

        self.counts: Counter[str] = Counter()
        self._storage, self._folder, self._archive = storage, folder, archive
        self._seen: set[tuple[str, ...]] = set()
        self._book = Workbook(str(folder / "export.xlsx"), WORKBOOK)
        self._sheets: dict[str, Any] = {}
        for name, (_, columns) in _PARTS.items():
            self._sheets[name] = add_sheet(self._book, columns.split(), name.replace("_", " "))
        self._files = {name: (folder / f"{name}.json").open("w", encoding="utf-8") for name in _PARTS}

    def add(self, holdings: Holdings) -> None:
        """Write the rows and audio that were not written yet."""
        for place in [place for place in holdings.rows if place not in self._seen]:
            self._seen.add(place)
            self._write(place, holdings.rows[place])
        for container, stem in sorted(holdings.stems - self._seen):
            self._seen.add((container, stem))
            for blob in self._storage.container(container).list_blobs(name_starts_with=stem):
                with self._archive.open(f"audio/{container}/{blob.name}", "w", force_zip64=True) as file:
                    self._storage.container(container).download_blob(blob.name, max_concurrency=1).readinto(file)
                self.counts["audio"] += 1

    def _write(self, place: Place, row: Mapping[str, Any]) -> None:
        table, resource, _ = place
        if table == "media":
            return
        part = {"calls": "calls", "feed": "events", "lostcallers": "lost_callers"}.get(table, "others")
        item = as_item(row) if part == "calls" else event_item(self._storage, row) if part == "events" else plain(row)
        if part not in ("calls", "events") and row.get("payload"):
            with suppress(Unprocessable):
                item = {**item, "payload": get_payload(self._storage, row["payload"]).decode(errors="replace")}
        if table == "resources":
            part = "items" if resource in RESOURCES.values() else "contacts"
            item = {**item, "resource": resource, "id": str(item.get("id", 0))}
        self._files[part].write((",\n" if self.counts[part] else "[\n") + json.dumps(item, ensure_ascii=False))
        self.counts[part] += 1
        for column, name in enumerate(_PARTS[part][1].split()):
            if (value := {"table": table, **item}.get(name)) not in (None, ""):
                self._sheets[part].write_string(self.counts[part], column, cell(str(value)))

    def close(self, number: str) -> None:
        """Finish the workbook and the parts, and write the page about them."""
        self._book.close()
        self._archive.write(self._folder / "export.xlsx", "export.xlsx")
        lines = []
        for name, (title, _) in _PARTS.items():
            self._files[name].write("\n]\n" if self.counts[name] else "[]\n")
            self._files[name].close()
            self._archive.write(self._folder / f"{name}.json", f"{name}.json")
            lines.append((f"{name}.json", title, self.counts[name]))
        lines.append(("audio/", "Audio; export.xlsx has the other parts as a workbook", self.counts["audio"]))
        table = "".join(f"<tr><td>{name}</td><td>{title}</td><td>{count}</td></tr>" for name, title, count in lines)
        head = '<!doctype html><html lang="en"><meta charset="utf-8"><title>Export</title>'
        about = f"<h1>Stored data of {html.escape(number)}</h1><p>As of {iso(now())}. Times are in UTC.</p>"
        self._archive.writestr("index.html", f"{head}{about}<table>{table}</table></html>\n")
