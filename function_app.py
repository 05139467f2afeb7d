"""The function app: one blueprint a kind of trigger."""

import azure.functions as func

from functions import actions, lists, ops, pollers, queues, receivers, swagger

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for module in (receivers, queues, actions, lists, swagger, pollers, ops):
    app.register_functions(module.blueprint)
