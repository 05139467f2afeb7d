"""Actions: what a maker asks of the PBX through us, checked first and answered in the PBX's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.dial import dial
from shared.api.envelopes import passed_on
from shared.api.parameters import Request, check
from shared.pbx.responses import content

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.pbx.operations import Operation


def act(bridge: Bridge, operation: Operation, given: Request, headers: Mapping[str, str]) -> dict[str, Any]:
    """
    Ask the PBX for an action, and return its envelope.

    Raises Refused for input that does not fit, before the PBX is asked; the PbxError that names what went wrong there;
    BudgetExhausted; StorageUnavailable; and for a command what `dial` raises.
    """
    values = check(operation, given)

    def ask() -> dict[str, Any]:
        wrapper = bridge.pbx.envelope(operation.id, lane="action", **values)
        data = wrapper.get("data")
        # A command that the PBX did not refuse has rung, also where its answer is empty.
        return passed_on(operation, wrapper, data if operation.command else content(operation, data))

    if not operation.command:
        return ask()
    return dial(bridge, operation, values, headers, ask)
