"""How the bridge itself is doing: each part of it, and each trouble as a sentence with its next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flask import Blueprint, render_template

from board import show
from shared.api.status import status

if TYPE_CHECKING:
    from shared.bridge import Bridge

blueprint = Blueprint("workings", __name__)


def state(bridge: Bridge) -> dict[str, Any]:
    """Return the status as /api/ops/status has it."""
    return status(bridge)


@blueprint.get("/workings")
def index() -> str:
    """Show how the bridge is doing."""
    return render_template("workings.html", state=state(show.here()))
