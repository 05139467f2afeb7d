"""HTTP triggers for subscribers: one that takes every event, and those that look after subscriptions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import azure.functions as func

from functions.requests import body_of, origin
from functions.responses import as_json, refusal, reply, serve
from shared.bridge import bridge
from shared.once import later

if TYPE_CHECKING:
    from functions.responses import Work

blueprint = func.Blueprint()

KEYED, OPEN = func.AuthLevel.FUNCTION, func.AuthLevel.ANONYMOUS
# A word that no event may be spelled as: who posts there ends what an address is subscribed to.
UNSUBSCRIBE = "unsubscribe"


def _by_event(req: func.HttpRequest) -> func.HttpResponse:
    name = req.route_params["event"]
    if name.lower() == UNSUBSCRIBE:
        return as_json(later("shared.api.subscribe.unsubscribe_address")(bridge(), body_of(req)))
    subscribe = later("shared.api.subscribe.subscribe")
    envelope, headers = subscribe(bridge(), name, body_of(req), "://".join(origin(req)))
    return as_json(envelope, status=201, headers=headers)


# The host takes the first function in order of names whose route fits, however literal another one's is: no two of
# these may fit one path and method.
ROUTES: tuple[tuple[func.AuthLevel, str, str, str, Work], ...] = (
    (KEYED, "Subscribe", "POST", "v2/webhooks/{event}", _by_event),
    (OPEN, "DeleteWebhookByID", "DELETE", "v2/webhooks/{webhook_id}", reply("shared.api.subscribe.unsubscribe")),
    (KEYED, "RotateSecret", "POST", "v2/webhooks/{webhook_id}/rotate", reply("shared.api.subscribe.rotate")),
    (KEYED, "GetSubscriptions", "GET", "v2/subscriptions", reply("shared.api.subscribe.listed")),
)
for _route in ROUTES:
    serve(blueprint, *_route, render=refusal)
