"""List actions: stored items looked up by number, by name, and by what their list is filtered by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from shared.api.envelopes import succeeded, tidy
from shared.api.list_filters import NUMBERS
from shared.api.lists import select
from shared.api.parameters import Given, check
from shared.pbx.fields import Field
from shared.pbx.operations import Operation, Parameter, operation
from shared.pbx.resources import RESOURCES, Resource
from shared.storage.account import reaching_storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bridge import Bridge

# What makers see of an item where they pick one.
TITLE = Field("title", "string", "Name to show.")
_NAME = Parameter(
    name="name",
    title="Name",
    type="text",
    description="Part of the name, in any letter case, with or without accents.",
)
_NUMBER = Parameter(
    name="number", title="Number", type="string", description="The item's number, or one that called or was called."
)


def _action(row: Resource) -> Operation:
    listing = operation(row.list_operation)
    known = {field.name for field in listing.item}
    filters = [_NAME] if row.title else []
    filters += [_NUMBER] if known & set(NUMBERS) else []
    own = (row.id_parameter, row.cursor_parameter)
    kept = [parameter for parameter in listing.parameters if parameter.name not in own]
    what = listing.summary.partition(" ")[2]
    return Operation(
        id=row.list_action,
        path=row.name,
        parameters=(*filters, *kept),
        summary=f"Find {what}",
        description=f"Brings the {what} that fit from the app's own storage, newest first.",
        lists=True,
        item=listing.item,
    )


_RESOURCE: Mapping[str, Resource] = {row.list_action: row for row in RESOURCES}
LIST_ACTIONS: tuple[Operation, ...] = tuple(map(_action, RESOURCES))


def resource_of(row: Operation) -> Resource:
    """The resource that a list action looks up."""
    return _RESOURCE[row.id]


def find_items(bridge: Bridge, row: Operation, given: Given) -> dict[str, Any]:
    """
    The stored items that fit, newest first: `limit` (50) after `offset`; those that makers pick from with a `title`.

    Raises Invalid, or StorageUnavailable.
    """
    values, resource = check(row, given), resource_of(row)
    with reaching_storage():
        found = select(bridge, resource, values)
    return succeeded([tidy(_titled(resource, item), row.item) for item in found])


def _titled(resource: Resource, item: Mapping[str, Any]) -> Mapping[str, Any]:
    if not resource.title:
        return item
    words = [str(item[name]).strip() for name in resource.title if item.get(name)]
    return {**item, TITLE.name: " ".join(words) or str(item[resource.id_field])}
