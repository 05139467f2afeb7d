"""The recipes of CONTRIBUTING.md step by step, for one event, one resource and one action."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# To the end of a tuple of rows, or of a page's table after the row for a name.
_ROWS = r"(?ms)^{}\b[^\n]*= \(\n.*?(?=^\)$)"
_LINE = r"(?m)^\| `?{}`? \|.*\n"


@dataclass(frozen=True)
class Step:
    """Text that is written into a file: after the first place where a pattern fits, else at its end."""

    path: str
    text: str
    after: str = ""

    def take(self, root: Path) -> None:
        """Write the text."""
        path = root / self.path
        before = path.read_text() if path.exists() else ""
        found = re.search(self.after, before) if self.after else None
        assert found or not self.after, f"{self.path} has no place for a row"
        end = found.end() if found else len(before)
        path.write_text(before[:end] + self.text + before[end:])


_EVENT = (
    Step(
        "shared/events/table.py",
        # The key is that of CallCompleted and others, so that no test may count the events that have one.
        """    Event(
        "FaxReceived",
        Model("Fax", (*_fields("callID", "contactID"), Field("pages", "integer", "Pages of the fax.")), ("callID",)),
        _CALL,
        "A fax was received.",
    ),
""",
        _ROWS.format("EVENTS"),
    ),
    Step(
        "tests/fixtures/events/FaxReceived.json",
        json.dumps({"type": "Event", "eventType": "FaxReceived", "version": "v1", "data": {"callID": 7, "pages": 2}}),
    ),
    Step(
        "README.md",
        "| `FaxReceived` | OnFaxReceived | A fax was received. | callID, contactID |\n",
        _LINE.format("VoicemailDeleted"),
    ),
)
_RESOURCE = (
    Step(
        "shared/pbx/fields.py",
        """
FAX_MACHINE: Shape = (
    Field("machineID", "integer", "Unique ID of the fax machine."),
    Field("name", "string", "Name of the machine."),
)
""",
    ),
    Step(
        "shared/pbx/operations.py",
        """    _list("GetFaxMachines", "fax_machines", "machine_id", "fax machine", shapes.FAX_MACHINE),
    _read("GetFaxMachineByID", "fax_machines", "machine_id", "fax machine", shapes.FAX_MACHINE),
""",
        _ROWS.format("OPERATIONS"),
    ),
    Step(
        "shared/settings.py",
        '    ("POLL_FAX_MACHINES_SCHEDULE", "10 0/5 * * * *", "poll fax machines"),\n',
        _ROWS.format("SCHEDULES"),
    ),
    Step(
        "shared/pbx/resources.py",
        '    _polled("fax_machines", "FaxMachine", "machineID", editable=True, title=("name",)),\n',
        _ROWS.format("RESOURCES"),
    ),
    Step("tests/fixtures/resources/fax_machines.json", json.dumps({"data": [{"machineID": 3, "name": "Birojs"}]})),
    Step(
        "README.md",
        "| fax_machines | PollFaxMachines | `POLL_FAX_MACHINES_SCHEDULE` | FaxMachineCreated, …Updated, …Removed |\n",
        _LINE.format("voip_endpoints"),
    ),
)
_ACTION = (
    Step(
        "shared/pbx/operations.py",
        """    Operation(
        id="RestartFaxMachine",
        method="POST",
        path="fax_machines/{machine_id}/restart",
        parameters=(
            Parameter(
                name="machine_id",
                title="Fax Machine ID",
                where="path",
                required=True,
                description="Unique ID of the fax machine.",
            ),
        ),
        summary="Restart a fax machine",
        description="Has the machine begin again.",
    ),
""",
        _ROWS.format("OPERATIONS"),
    ),
)
# By the headings of CONTRIBUTING.md.
RECIPES: Mapping[str, tuple[Step, ...]] = {
    "Add an event": _EVENT,
    "Add a resource": _RESOURCE,
    "Add an action": _ACTION,
}
