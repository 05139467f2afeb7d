"""Reads Bicep files: what they declare, what they refer to, and literal values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tree_sitter_bicep
from tree_sitter import Language, Node, Parser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INFRA = Path(__file__).parents[2] / "infra"
BICEP_FILES = tuple(sorted(INFRA.rglob("*.bicep")))
PARAMETER_FILES = tuple(sorted(INFRA.glob("*.bicepparam")))

_PARSER = Parser(Language(tree_sitter_bicep.language()))
_KINDS = {
    "parameter_declaration": "param",
    "variable_declaration": "var",
    "resource_declaration": "resource",
    "module_declaration": "module",
    "output_declaration": "output",
}
_ESCAPES = {r"\'": "'", r"\n": "\n", r"\\": "\\", r"\$": "$"}


@dataclass(frozen=True)
class Declaration:
    """One param, var, resource, module or output."""

    kind: str
    name: str
    node: Node
    decorators: dict[str, Any]

    @property
    def text(self) -> str:
        """The source of the declaration."""
        return text(self.node)

    @property
    def type(self) -> str:
        """The declared type of a param or output."""
        return text(next(child for child in self.node.named_children if child.type == "type"))

    @property
    def value(self) -> Node | None:
        """The default of a param, the value of a var or output, the body of a resource or module."""
        last = self.node.named_children[-1]
        return None if last.type in ("type", "identifier") else last

    @property
    def target(self) -> str:
        """The type and version of a resource, or the path of a module."""
        return str(literal(self.node.named_children[1]))

    @property
    def existing(self) -> bool:
        """Whether a resource is only referred to."""
        return any(child.type == "existing" for child in self.node.children)

    @property
    def body(self) -> Node:
        """The object that describes a resource or module, inside its condition or loop."""
        return next(node for node in walk(self.node) if node.type == "object")


@dataclass(frozen=True)
class Template:
    """A Bicep file."""

    path: Path
    root: Node
    declarations: tuple[Declaration, ...]

    def of(self, kind: str) -> dict[str, Declaration]:
        """The declarations of a kind, by name."""
        return {declaration.name: declaration for declaration in self.declarations if declaration.kind == kind}

    def value(self, name: str) -> Any:
        """The literal value of a var, or of a param's default."""
        found = self.of("var").get(name) or self.of("param")[name]
        return literal(found.value)


class Expression(str):
    """A value that is only known when deployed: its source."""

    __slots__ = ()


def text(node: Node) -> str:
    """The source of a node."""
    return (node.text or b"").decode()


def walk(node: Node) -> Iterator[Node]:
    """The node and all nodes in it."""
    yield node
    for child in node.children:
        yield from walk(child)


def literal(node: Node | None) -> Any:
    """A Python value for a literal; an Expression for anything else."""
    if node is None:
        return None
    read_literal = _LITERALS.get(node.type)
    return read_literal(node) if read_literal else Expression(text(node))


def _string(node: Node) -> str:
    source = text(node)
    if any(child.type == "interpolation" for child in node.named_children):
        return Expression(source)
    if source.startswith("'''"):
        return source[3:-3].removeprefix("\n")
    return re.sub(r"\\.", lambda match: _ESCAPES[match[0]], source[1:-1])


_LITERALS: dict[str, Callable[[Node], Any]] = {
    "null": lambda _: None,
    "string": _string,
    "number": lambda node: int(text(node)),
    "boolean": lambda node: text(node) == "true",
    "array": lambda node: [literal(child) for child in node.named_children if child.type != "comment"],
    "object": lambda node: {key(child): literal(child.named_children[1]) for child in properties(node)},
}


def properties(node: Node) -> list[Node]:
    """The properties of an object."""
    return [child for child in node.named_children if child.type == "object_property"]


def key(node: Node) -> str:
    """The name of a property."""
    name = node.named_children[0]
    return str(_string(name)) if name.type == "string" else text(name)


def get(node: Node, name: str) -> Node | None:
    """The value of a property of an object."""
    return next((child.named_children[1] for child in properties(node) if key(child) == name), None)


def references(node: Node) -> Iterator[str]:
    """Names of params, vars, resources and modules that an expression refers to, locals of loops and lambdas too."""
    for found in walk(node):
        if found.type == "identifier" and not _names_something(found):
            yield text(found)


def _names_something(node: Node) -> bool:
    parent = node.parent
    if parent is None:
        return False
    if parent.type == "object_property":
        return bool(parent.named_children[0] == node)
    if parent.type == "call_expression":
        return bool(parent.child_by_field_name("function") == node)
    if parent.type in _KINDS:
        return bool(parent.named_children[0] == node and parent.named_child_count > 1)
    return False


def locals_of(node: Node) -> set[str]:
    """Names that loops and lambdas in a node bring in."""
    found: set[str] = set()
    for inner in walk(node):
        if inner.type in ("loop_variable", "loop_enumerator"):
            found.add(text(inner))
        elif inner.type == "for_statement" and (start := inner.child_by_field_name("initializer")) is not None:
            found.add(text(start))
        elif inner.type == "lambda_expression":
            found.update(re.findall(r"\w+", text(inner).split("=>")[0]))
    return found


@cache
def read(path: Path) -> Template:
    """Parse a file. Raises ValueError with the line where it is not Bicep."""
    source = path.read_text()
    if path.suffix == ".bicepparam":
        source = re.sub(r"^using .*$", "", re.sub(r"^param ", "var ", source, flags=re.M), flags=re.M)
    root = _PARSER.parse(source.encode()).root_node
    for node in walk(root):
        if node.type == "ERROR" or node.is_missing:
            raise ValueError(f"{path.name}:{node.start_point.row + 1}: not Bicep: {text(node)[:60]!r}")
    return Template(path=path, root=root, declarations=tuple(_declarations(root)))


def _declarations(root: Node) -> Iterator[Declaration]:
    decorators: dict[str, Any] = {}
    for child in root.named_children:
        if child.type == "decorators":
            decorators = dict(_decorator(node) for node in child.named_children if node.type == "decorator")
        elif child.type in _KINDS:
            yield Declaration(_KINDS[child.type], text(child.named_children[0]), child, decorators)
            decorators = {}


def _decorator(node: Node) -> tuple[str, Any]:
    call = node.named_children[0]
    arguments = call.child_by_field_name("arguments")
    values = [literal(child) for child in arguments.named_children] if arguments else []
    function = call.child_by_field_name("function")
    return text(function) if function else text(call), values[0] if values else True
