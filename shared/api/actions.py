"""Actions: what a maker asks of the PBX through us, checked first and answered in the PBX's words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.dial import dial
from shared.api.envelopes import passed_on
from shared.api.parameters import Given, check
from shared.pbx import responses as pbx_answers
from shared.pbx.operations import OPERATIONS
from shared.pbx.resources import RESOURCES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge
    from shared.pbx.operations import Operation

_LANE = "action"
_LISTS = frozenset(row.list_operation for row in RESOURCES)
# Webhooks have a face of their own: ours are not the PBX's.
ACTIONS: tuple[Operation, ...] = tuple(
    row for row in OPERATIONS if row.id not in _LISTS and not row.path.startswith("webhooks/")
)


def act(bridge: Bridge, operation: Operation, given: Given, headers: Mapping[str, str]) -> dict[str, Any]:
    """
    The PBX's envelope for an action.

    Raises Refused for input that does not fit, before the PBX is asked; the PbxError that says what went wrong
    there; BudgetExhausted; StorageUnavailable; and for a command what dial raises.
    """
    values = check(operation, given)
    if operation.command:
        return dial(bridge, operation, values, headers)
    wrapper = bridge.pbx.envelope(operation.id, lane=_LANE, **values)
    return passed_on(operation, wrapper, pbx_answers.content(operation, wrapper.get("data")))
