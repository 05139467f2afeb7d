"""The OpenAPI 2.0 definition of the Logic Apps face, built from the tables that it is served from."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from shared.api.openapi.paths import paths
from shared.api.openapi.schemas import Schema, hoisted

BASE_PATH = "/api/v2"
VERSION = "2.0.0"
KEY = "api_key"
_INFO: Schema = {
    "title": "PBX bridge",
    "description": (
        "Calls, recordings, voicemails and contacts of a mobile virtual PBX (LMT Zvanu parvaldnieks, Tele2 Mobili "
        "stotele) for flows: any number of triggers for each event, lists that miss nothing, and actions."
    ),
    "version": VERSION,
    "contact": {"name": "The owner of this function app", "url": "https://zvanuparvaldnieks.lmt.lv"},
}
_METADATA = (
    ("Website", "https://zvanuparvaldnieks.lmt.lv"),
    ("Privacy policy", "https://www.lmt.lv/en/data-processing"),
    ("Categories", "Communication;IT Operations"),
)
_SECURITY: Schema = {
    "type": "apiKey",
    "in": "header",
    "name": "x-functions-key",
    "description": "A function key of the app.",
}


def definition(scheme: str, host: str, path: str = "") -> dict[str, Any]:
    """Return the definition of an app at `scheme://host` and a path; it has no secrets and needs no settings."""
    definitions: Schema = {}
    described = hoisted(paths(), definitions)
    return {
        "swagger": "2.0",
        "info": _INFO,
        "host": host,
        "basePath": path + BASE_PATH,
        "schemes": [scheme],
        "consumes": ["application/json"],
        "produces": ["application/json"],
        "tags": _tags(described),
        "paths": described,
        "definitions": dict(sorted(definitions.items())),
        "securityDefinitions": {KEY: _SECURITY},
        "security": [{KEY: []}],
        "x-ms-connector-metadata": [{"propertyName": name, "propertyValue": value} for name, value in _METADATA],
    }


def _tags(paths: Schema) -> list[Schema]:
    """Return the tags of all operations, each with its description."""
    operations = (part for path in paths.values() for part in path.values())
    names = sorted({name for part in operations for name in part.get("tags", ())})
    return [{"name": name, "description": f"Operations on {name.lower()}."} for name in names]


@lru_cache(maxsize=16)
def served(scheme: str, host: str, path: str = "") -> tuple[bytes, str]:
    """Return the definition as JSON, and its ETag."""
    body = json.dumps(definition(scheme, host, path), ensure_ascii=False, separators=(",", ":")).encode()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
