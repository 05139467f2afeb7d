"""`python -m dev.connector`: writes the custom connector's files, ready for `paconn create`."""

from __future__ import annotations

import argparse
import json
import math
import struct
import zlib
from pathlib import Path
from typing import Any

from shared.api.calls import ENDED
from shared.api.lists import LISTS, STATE
from shared.api.openapi.definition import KEY, definition

DIRECTORY = Path(__file__).resolve().parents[1] / "connector"
HOST = "your-function-app.azurewebsites.net"
BRAND = "#1f6f5c"
_SIDE = 160
_SAMPLES = 3
_PUBLISHER = "The owner of this function app"


def definition_text(host: str) -> str:
    """apiDefinition.swagger.json for an app at this host."""
    return _text(definition("https", host))


def properties_text() -> str:
    """apiProperties.json: the key that a connection asks for, and how each list polls."""
    key = {
        "type": "securestring",
        "uiDefinition": {
            "displayName": "Function key",
            "description": "A function key of the app (Azure portal: App keys, or the key made for connectors)",
            "tooltip": "Paste the key without any word before it",
            "constraints": {"tabIndex": 2, "clearText": False, "required": "true"},
        },
    }
    properties = {
        "connectionParameters": {KEY: key},
        "iconBrandColor": BRAND,
        "capabilities": [],
        "policyTemplateInstances": [_policy(row.id) for row in (*LISTS, ENDED)],
        "publisher": _PUBLISHER,
        "stackOwner": _PUBLISHER,
    }
    return _text({"properties": properties})


def _policy(list_operation: str) -> dict[str, Any]:
    """The next poll of a list asks for what arrived after the state in the last answer."""
    return {
        "templateId": "pollingtrigger",
        "title": f"{list_operation} polls by the state of the last answer",
        "type": "PollingTrigger",
        "parameters": {
            "x-ms-apimTemplateParameter.triggerConfig": {STATE: f"@{{triggerBody().{STATE}}}"},
            "x-ms-apimTemplateParameter.triggerDataPath": "@triggerBody().data",
            "x-ms-apimTemplate-operationName": [list_operation],
        },
    }


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2) + "\n"


def _covered(x: float, y: float) -> bool:
    """Whether a point of the unit square lies on the receiver: an arc with two ends, tilted as a phone is held."""
    tilt = math.radians(45)
    x, y = x - 0.5, y - 0.5
    across, along = x * math.cos(tilt) + y * math.sin(tilt), y * math.cos(tilt) - x * math.sin(tilt)
    across -= 0.06
    arc = abs(math.hypot(across - 0.28, along) - 0.42) < 0.055 and abs(along) < 0.3 and across < 0.28
    ends = abs(abs(along) - 0.255) < 0.085 and abs(across - 0.03) < 0.105
    return arc or ends


def icon() -> bytes:
    """A PNG of a telephone receiver, white on the brand colour."""
    ground = tuple(bytes.fromhex(BRAND[1:]))
    rows = bytearray()
    for row in range(_SIDE):
        rows.append(0)
        for column in range(_SIDE):
            share = _share(column, row)
            rows += bytes(round(base + (255 - base) * share) for base in ground)
    header = struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(rows), 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)


def _share(column: int, row: int) -> float:
    """How much of a pixel the receiver covers."""
    steps = [(step + 0.5) / _SAMPLES for step in range(_SAMPLES)]
    points = [((column + right) / _SIDE, (row + down) / _SIDE) for right in steps for down in steps]
    return sum(_covered(*point) for point in points) / len(points)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def files(host: str) -> dict[str, bytes]:
    """The three files by name, for an app at this host."""
    return {
        "apiDefinition.swagger.json": definition_text(host).encode(),
        "apiProperties.json": properties_text().encode(),
        "icon.png": icon(),
    }


def main() -> None:
    """Write the files for the host that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m dev.connector", description=__doc__)
    parser.add_argument("--host", default=HOST, help=f"where the app is reached (default {HOST})")
    parser.add_argument("--to", type=Path, default=DIRECTORY, help="directory to write to")
    arguments = parser.parse_args()
    arguments.to.mkdir(parents=True, exist_ok=True)
    for name, body in files(arguments.host).items():
        (arguments.to / name).write_bytes(body)
        print(arguments.to / name)


if __name__ == "__main__":
    main()
