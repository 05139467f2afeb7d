"""ASP.NET route templates."""

from __future__ import annotations

import pytest

from dev.host.http import Routes, first_match
from dev.host.settings import HostError
from dev.host.worker import Function


def function(name: str, route: str, *methods: str) -> Function:
    trigger = {"type": "httpTrigger", "name": "req", "route": route, "methods": list(methods)}
    return Function(name=name, trigger=trigger, bindings=(trigger,), disabled=False)


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("a/{x}", "a", None),
        ("a/{x?}", "a", {}),
        ("a/{*rest}", "a", {}),
        ("a/{*rest}", "a/b//c/", {"rest": "b//c/"}),
        ("a/{*rest}", "a//b", None),
        ("a/{x}", "a/1/", {"x": "1"}),
        ("a/{x}", "a/1//", None),
        ("a/{x:regex(^(in|out)$)}", "a/IN", {"x": "IN"}),
        ("a/{x:int}", "a/-7", {"x": "-7"}),
        ("a/{x:length(4)}", "a/12345", None),
        ("A/b", "a/B", {}),
    ],
)
def test_a_template_matches_as_in_asp_net(template: str, path: str, expected: dict[str, str] | None) -> None:
    found = Routes([function("one", template)], "api").find("GET", f"/api/{path}")
    assert (found[1] if found else None) == expected


@pytest.mark.parametrize(
    ("routes", "path", "name"),
    [
        ({"b": "x/y", "a": "x/{any}"}, "x/y", "a"),
        ({"a": "x/y", "b": "x/{any}"}, "x/z", "b"),
        # Letters count in upper case: B goes before c, and an underscore after every letter.
        ({"c": "x/{any}", "B": "x/y"}, "x/y", "B"),
        ({"a_": "x/{any}", "ab": "x/y"}, "x/y", "ab"),
        ({"a": "x/{any:length(32)}", "b": "x/y"}, "x/y", "b"),
        ({"a": "x/{any}", "b": "x/y"}, "X/%79", "a"),
    ],
)
def test_routes_are_tried_in_order_of_names_only(routes: dict[str, str], path: str, name: str | None) -> None:
    functions = [function(each, route) for each, route in routes.items()]
    assert first_match(functions, "GET", f"/api/{path}") == name


@pytest.mark.parametrize("route", ["{", "x/{a:nonsense}", "runtimes", "administrators/x"])
def test_an_invalid_route_is_refused(route: str) -> None:
    with pytest.raises(HostError, match="function one"):
        Routes([function("one", route)], "api")
