"""The function app: a blueprint of each module of triggers."""

import azure.functions as func

from functions import api, background, board, health, ops, people, subscriptions, webhooks
from shared.bridge import prepare

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for module in (webhooks, background, api, subscriptions, ops, people, board, health):
    app.register_functions(module.blueprint)
prepare()
