"""A small app with one function for each thing the host promises."""

import json
import logging
import os
import time
from pathlib import Path

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


def _note(name: str, entry: object) -> None:
    """Append a line to a file that the test reads."""
    with (Path(os.environ["NOTES"]) / name).open("a") as notes:
        notes.write(json.dumps(entry) + "\n")


@app.route("echo/{id:int}/{rest?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    logging.getLogger("sample").info("echoing")
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.route_params),
        "query": dict(req.params),
        "headers": dict(req.headers),
        "body": req.get_body().decode("latin-1"),
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")
