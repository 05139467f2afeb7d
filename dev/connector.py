"""`python -m dev.connector`: writes the custom connector's files, ready for `paconn create`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from shared.api.definition import KEY, definition
from shared.api.lists import STATE
from shared.api.operations import GET_ENDED_CALLS, LISTS

DIRECTORY = Path(__file__).resolve().parents[1] / "connector"
HOST = "your-function-app.azurewebsites.net"
BRAND = "#1f6f5c"
_PUBLISHER = "The owner of this function app"


def properties_text() -> str:
    """Return apiProperties.json: the key of a connection, and the polling policy of each list."""
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
        "policyTemplateInstances": [_policy(row.id) for row in (*LISTS, GET_ENDED_CALLS)],
        "publisher": _PUBLISHER,
        "stackOwner": _PUBLISHER,
    }
    return _text({"properties": properties})


def _policy(list_operation: str) -> dict[str, Any]:
    """Return the policy that sends the state of the last answer with the next poll."""
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


def files(host: str) -> dict[str, bytes]:
    """Return the three files by name, for an app at a host."""
    return {
        "apiDefinition.swagger.json": _text(definition("https", host)).encode(),
        "apiProperties.json": properties_text().encode(),
        "icon.png": (DIRECTORY / "icon.png").read_bytes(),
    }


def main() -> None:
    """Write the files."""
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
