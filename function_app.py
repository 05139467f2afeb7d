"""The function app: one blueprint a kind of trigger."""

import azure.functions as func

from functions import actions, feed, lists, media, ops, pollers, queues, receivers, replays, subscriptions, swagger

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for module in (receivers, queues, actions, lists, subscriptions, feed, media, swagger, pollers, ops, replays):
    app.register_functions(module.blueprint)
