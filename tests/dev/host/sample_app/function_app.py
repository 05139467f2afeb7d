"""A small app with one function for each promise of the host."""

import asyncio
import base64
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


def _seen(req: func.HttpRequest) -> func.HttpResponse:
    seen = {
        "method": req.method,
        "url": req.url,
        "params": dict(req.route_params),
        "query": dict(req.params),
        "headers": dict(req.headers),
        "body": base64.b64encode(req.get_body()).decode(),
    }
    return func.HttpResponse(json.dumps(seen), mimetype="application/json")


def _answering(name: str, route: str, level: func.AuthLevel = func.AuthLevel.ANONYMOUS) -> None:
    """Add a function that answers with its name."""

    def answer(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(name)

    app.function_name(name)(app.route(route, methods=["GET"], auth_level=level)(answer))


_answering("asleep", "asleep", func.AuthLevel.FUNCTION)
_answering("code", "code/{code:length(4)}")
_answering("word", "code/{word:regex(^(begin|end)$)}")
_answering("first", "order/{any}")
_answering("second", "order/literal")
_answering("guarded", "guarded", func.AuthLevel.FUNCTION)
_answering("locked", "locked", func.AuthLevel.ADMIN)


@app.route("echo/{id:int}/{rest?}", methods=["GET", "POST"])
def echo(req: func.HttpRequest) -> func.HttpResponse:
    logging.getLogger("sample").info("echoing %s", req.route_params["id"])
    return _seen(req)


@app.route("files/{*path}", methods=["GET", "PUT"])
def files(req: func.HttpRequest) -> func.HttpResponse:
    return _seen(req)


@app.route()
def anything(req: func.HttpRequest) -> func.HttpResponse:
    return _seen(req)


@app.route("size", methods=["POST"])
def size(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(str(len(req.get_body())))


@app.route("reply", methods=["GET"])
def reply(req: func.HttpRequest) -> func.HttpResponse:
    answer = func.HttpResponse(bytes(range(256)), status_code=201, mimetype="audio/mpeg", headers={"X-One": "1"})
    answer.headers.add("Set-Cookie", "a=1; Path=/; HttpOnly")
    answer.headers.add("Set-Cookie", "b=2; Max-Age=60; SameSite=Lax; Secure")
    return answer


@app.route("part", methods=["GET"])
def part(req: func.HttpRequest) -> func.HttpResponse:
    headers = {"Content-Length": "2", "Content-Range": "bytes 2-3/10", "ETag": '"e"'}
    return func.HttpResponse(b"cd", status_code=206, headers=headers)


@app.route("empty", methods=["GET"])
def empty(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(status_code=204)


@app.route("text", methods=["GET"])
def text(req: func.HttpRequest) -> str:
    return "plain"


@app.route("boom", methods=["GET"])
def boom(req: func.HttpRequest) -> func.HttpResponse:
    raise ValueError("a secret reason")


@app.route("slow/{seconds}", methods=["GET"])
def slow(req: func.HttpRequest) -> func.HttpResponse:
    time.sleep(float(req.route_params["seconds"]))
    logging.getLogger("sample").info("slow has ended")
    return func.HttpResponse("done")


@app.route("later", methods=["GET"])
async def later(req: func.HttpRequest) -> func.HttpResponse:
    logging.getLogger("sample").warning("from a coroutine")
    await asyncio.sleep(0)
    return func.HttpResponse("later")


@app.queue_trigger("msg", "%JOBS%", "Queues")
def work(msg: func.QueueMessage) -> None:
    """Fail as often, and take as long, as the message says."""
    job = msg.get_json()
    times = {name: getattr(msg, name).isoformat() for name in ("insertion_time", "expiration_time") if msg.id}
    _note("started", {"job": job, "id": msg.id, "tries": msg.dequeue_count, **times})
    time.sleep(job.get("seconds", 0))
    if (msg.dequeue_count or 0) <= job.get("fails", -1):
        raise RuntimeError("as asked")
    _note("ended", {"job": job})


@app.queue_trigger("msg", "%JOBS%-poison", "Queues")
def poisoned(msg: func.QueueMessage) -> None:
    _note("poisoned", {"body": msg.get_body().decode(), "tries": msg.dequeue_count})
    if b"again" in msg.get_body():
        raise RuntimeError("as asked")


@app.timer_trigger("timer", "%TICKS%")
def tick(timer: func.TimerRequest) -> None:
    _note("ticks", {"at": time.time(), "past_due": timer.past_due, "status": timer.schedule_status})
    time.sleep(float(os.environ.get("TICK_SECONDS", "0")))
    _note("ticks", {"ended": time.time()})


@app.timer_trigger("timer", "%UNMONITORED%", use_monitor=False)
def untracked(timer: func.TimerRequest) -> None:
    _note("untracked", {"past_due": timer.past_due, "status": timer.schedule_status})
