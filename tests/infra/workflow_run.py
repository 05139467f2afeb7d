"""Runs a workflow definition on one delivery; returns its calls in order and the result of each action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.infra.expressions import ExpressionError, evaluate

if TYPE_CHECKING:
    from tests.infra.expressions import Function

# An answer's status and body; None for a timeout.
Answer = tuple[int, Any] | None
SUCCEEDED, FAILED, SKIPPED = "Succeeded", "Failed", "Skipped"


@dataclass
class Run:
    """A run of a workflow. `answers` returns the answer to an action's call; by default a bare 200."""

    definition: Mapping[str, Any]
    parameters: Mapping[str, Any]
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)
    answers: Callable[[str, Mapping[str, Any]], Answer] = lambda name, inputs: (200, {})
    statuses: dict[str, str] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    calls: dict[str, Mapping[str, Any]] = field(default_factory=dict)

    def go(self) -> Run:
        """Run all actions; returns itself."""
        self._actions(self.definition["actions"])
        return self

    @property
    def scope(self) -> Mapping[str, Function]:
        """Return the functions that depend on the run."""
        return {
            "triggerBody": lambda: self.body,
            "triggerOutputs": lambda: {"headers": self.headers, "body": self.body},
            "parameters": self._parameter,
            "outputs": lambda name: self._known(name) and self.outputs.get(name),
            "body": lambda name: ((self._known(name) and self.outputs.get(name)) or {}).get("body"),
        }

    def _parameter(self, name: str) -> Any:
        if name not in self.parameters:
            raise ExpressionError(f"no parameter {name}")
        return self.parameters[name]

    def _known(self, name: str) -> bool:
        if name not in self.statuses:
            raise ExpressionError(f"{name} is not before this action")
        return True

    def _actions(self, actions: Mapping[str, Any]) -> str:
        waiting = dict(actions)
        while waiting:
            ready = [name for name, action in waiting.items() if action["runAfter"].keys() <= self.statuses.keys()]
            assert ready, f"these wait for each other: {list(waiting)}"
            for name in ready:
                self._action(name, waiting.pop(name))
        leaves = [name for name in actions if not any(name in other["runAfter"] for other in actions.values())]
        return FAILED if any(self.statuses[name] == FAILED for name in leaves) else SUCCEEDED

    def _action(self, name: str, action: Mapping[str, Any]) -> None:
        if any(self.statuses[before] not in wanted for before, wanted in action["runAfter"].items()):
            self._skip(name, action)
            return
        try:
            run = {"If": self._if, "Compose": self._compose}.get(action["type"], self._call)
            self.statuses[name] = run(name, action)
        except ExpressionError:
            for inner in action.get("actions", {}), action.get("else", {}).get("actions", {}):
                for title, each in inner.items():
                    self._skip(title, each)
            self.statuses[name] = FAILED

    def _skip(self, name: str, action: Mapping[str, Any]) -> None:
        self.statuses.setdefault(name, SKIPPED)
        for inner in action.get("actions", {}), action.get("else", {}).get("actions", {}):
            for title, each in inner.items():
                self._skip(title, each)

    def _compose(self, name: str, action: Mapping[str, Any]) -> str:
        self.outputs[name] = evaluate(action["inputs"], self.scope)
        return SUCCEEDED

    def _if(self, name: str, action: Mapping[str, Any]) -> str:
        chosen, other = action["actions"], action["else"]["actions"]
        if not self._holds(action["expression"]):
            chosen, other = other, chosen
        for title, each in other.items():
            self._skip(title, each)
        return self._actions(chosen)

    def _holds(self, condition: Mapping[str, Any]) -> bool:
        ((name, value),) = condition.items()
        if name in ("and", "or"):
            return (all if name == "and" else any)(self._holds(each) for each in value)
        if name == "not":
            return not self._holds(value)
        assert name == "equals"
        one, other = (evaluate(each, self.scope) for each in value)
        return type(one) is type(other) and bool(one == other)

    def _call(self, name: str, action: Mapping[str, Any]) -> str:
        inputs = evaluate(action["inputs"], self.scope)
        self.calls[name] = inputs
        answer = self.answers(name, inputs)
        if answer is None:
            return "TimedOut"
        self.outputs[name] = {"statusCode": answer[0], "body": answer[1]}
        return SUCCEEDED if answer[0] < 400 else FAILED
