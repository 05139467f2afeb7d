"""ASP.NET route templates."""

from __future__ import annotations

import pytest

from dev.host.errors import HostError
from dev.host.routes import Routes, decoded
from dev.host.worker import Function


def function(name: str, route: str, methods: list[str] | None = None) -> Function:
    trigger = {"type": "httpTrigger", "name": "req", "route": route, "methods": methods}
    return Function(
        name=name, id=name, kind="httpTrigger", parameter="req", trigger=trigger, bindings=(trigger,), disabled=False
    )


@pytest.mark.parametrize(
    ("template", "path", "expected"),
    [
        ("a/{x}", "a/1", {"x": "1"}),
        ("a/{x}", "a", None),
        ("a/{x?}", "a", {}),
        ("a/{x=5}", "a", {"x": "5"}),
        ("a/{x:int?}", "a", {}),
        ("a/{x:int?}", "a/b", None),
        ("a/{*rest}", "a/b/c", {"rest": "b/c"}),
        ("a/{**rest}", "a", {}),
        ("a/{x}.{kind}", "a/b.mp3", {"x": "b", "kind": "mp3"}),
        ("a/{x}-{y:int}/z", "a/b-7/z", {"x": "b", "y": "7"}),
        ("a/{x:long}", "a/99999999999", {"x": "99999999999"}),
        ("a/{x:int}", "a/2147483647", {"x": "2147483647"}),
        ("a/{x:int}", "a/2147483648", None),
        ("a/{x:int}", "a/-2147483648", {"x": "-2147483648"}),
        ("a/{x:bool}", "a/True", {"x": "True"}),
        ("a/{x:alpha}", "a/b1", None),
        ("a/{x:decimal}", "a/1.5", {"x": "1.5"}),
        ("a/{x:length(2,3)}", "a/1234", None),
        ("a/{x:length(4)}", "a/1234", {"x": "1234"}),
        ("a/{x:minlength(3):maxlength(4)}", "a/123", {"x": "123"}),
        ("a/{x:range(1,9)}", "a/10", None),
        ("a/{x:min(1)}", "a/10", {"x": "10"}),
        ("a/{x:regex(^\\d{{2}}$)}", "a/12", {"x": "12"}),
        ("a/{x:regex(^\\d{{2}}$)}", "a/123", None),
        ("a/{x:datetime}", "a/2026-01-02", {"x": "2026-01-02"}),
        ("A/b", "a/B", {}),
    ],
)
def test_a_template_matches_as_in_asp_net(template: str, path: str, expected: dict[str, str] | None) -> None:
    found = Routes([function("one", template)], "api").find("GET", f"/api/{path}")
    assert (found[1] if found else None) == expected


def test_the_most_precise_route_wins_whatever_the_order() -> None:
    templates = ["{*all}", "x/{any}", "x/{id:int}", "x/{a}.{b}", "x/y", "x/{*rest}"]
    routes = Routes([function(f"f{number}", template) for number, template in enumerate(templates)], "")
    answers = {"x/y": "f4", "x/a.b": "f3", "x/1": "f2", "x/z": "f1", "x/y/z": "f5", "q": "f0"}
    found = {path: match[0].function.name for path in answers if (match := routes.find("GET", f"/{path}"))}
    assert found == answers


def test_one_path_can_belong_to_two_functions_with_different_methods() -> None:
    routes = Routes([function("get", "x", ["get"]), function("put", "x", ["PUT"])], "api")
    found = routes.find("PUT", "/api/x")
    assert found
    assert found[0].function.name == "put"
    assert routes.find("POST", "/api/x") is None


@pytest.mark.parametrize("route", ["{", "x/{a:nonsense}", "runtimes", "administrators/x", "{a:int(}"])
def test_a_route_that_cannot_be_is_refused(route: str) -> None:
    with pytest.raises(HostError, match="function one"):
        Routes([function("one", route)], "api")


@pytest.mark.parametrize(
    ("raw", "path"),
    [("/a%20b", "/a b"), ("/a%2fb", "/a%2Fb"), ("/%C4%81", "/ā"), ("/a+b", "/a+b"), ("/a%2525", "/a%25")],
)
def test_a_path_is_decoded_once_and_keeps_encoded_slashes(raw: str, path: str) -> None:
    assert decoded(raw) == path
