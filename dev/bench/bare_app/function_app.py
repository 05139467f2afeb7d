"""The receivers' limit: a function that only queues the body."""

import os
from functools import cache

import azure.functions as func
from azure.storage.queue import QueueClient

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)


@cache
def _queue() -> QueueClient:
    return QueueClient.from_connection_string(os.environ["DataStorage"], "bare")  # noqa: SIM112 - the app's spelling


@app.route("bare", methods=["POST"])
def bare(req: func.HttpRequest) -> func.HttpResponse:
    """Queue the body and answer 202."""
    _queue().send_message(req.get_body().decode())
    return func.HttpResponse('{"id":"bare"}', status_code=202, mimetype="application/json")
