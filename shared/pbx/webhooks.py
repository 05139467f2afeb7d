"""The operations that make and end webhooks at the PBX."""

from __future__ import annotations

from shared.pbx.operation import Operation, Parameter

WEBHOOK_OPERATIONS: tuple[Operation, ...] = (
    Operation(
        id="Subscribe",
        method="POST",
        path="webhooks/{event}",
        parameters=(
            Parameter(
                name="event",
                title="Event",
                where="path",
                type="string",
                required=True,
                description="Name of the event.",
            ),
            Parameter(
                name="endpoint",
                title="Endpoint",
                where="body",
                type="string",
                required=True,
                visibility="internal",
                description="Address that the event is posted to; a secret.",
            ),
        ),
        summary="Subscribe to an event",
        description="Posts the event to the endpoint whenever it happens.",
    ),
    Operation(
        id="DeleteWebhookByID",
        method="DELETE",
        path="webhooks/{webhook_id}",
        parameters=(
            Parameter(
                name="webhook_id",
                title="Webhook ID",
                where="path",
                required=True,
                visibility="",
                description="Unique ID of the webhook.",
            ),
        ),
        summary="Delete a webhook by ID",
        description="Ends a subscription.",
        visibility="internal",
    ),
)
