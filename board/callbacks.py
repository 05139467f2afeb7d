"""Callers who reached nobody and wait to be called back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Blueprint, render_template

from board import show
from shared.calls import lost_callers

if TYPE_CHECKING:
    from shared.bridge import Bridge
    from shared.calls.lost_callers import LostCaller

blueprint = Blueprint("callbacks", __name__)


def waiting(bridge: Bridge) -> list[LostCaller]:
    """Return the callers who wait, the longest waiting first."""
    return sorted(lost_callers.listed(bridge.storage), key=lambda one: (one.since is None, one.since))


@blueprint.get("/callbacks")
def index() -> str:
    """Show who waits."""
    return render_template("callbacks.html", waiting=waiting(show.here()))
