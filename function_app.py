"""The function app: one blueprint a kind of trigger."""

import azure.functions as func

from functions import api, board, health, ops, people, pollers, queues, subscriptions, webhooks
from shared.bridge import prepare

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for module in (webhooks, queues, pollers, api, subscriptions, ops, people, board, health):
    app.register_functions(module.blueprint)
prepare()
