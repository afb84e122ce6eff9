"""Paths of google.api.http: the grammar, what a path leads to, and that every value survives its path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.gateway import library

from multimail_server.gateway import bindings, http_rule
from multimail_server.gateway.http_rule import MalformedPathError, Table, Variable, parse


def encoded(value: str, *, keep_slash: bool = False) -> str:
    """A value as a client puts it into a path: all but the unreserved characters percent-encoded."""
    kept = b"-_.~" + (b"/" if keep_slash else b"")
    return "".join(
        chr(octet) if (octet < 128 and chr(octet).isalnum()) or octet in kept else f"%{octet:02X}"
        for octet in value.encode()
    )


def table(*rules: str) -> Table[str]:
    """A table that leads to the rules themselves, each `METHOD template`."""
    made: Table[str] = Table()
    for rule in rules:
        method, template = rule.split()
        made.add(method, parse(template), rule)
    return made


def test_a_template_is_read() -> None:
    """Segments, variables of one and of many segments, and the verb come out as they stand in the grammar."""
    found = parse("/v1/{a.b=shelves/*}/x/{rest=**}:verb")
    assert ("v1", "shelves", "*", "x", "**") == found.segments
    assert (Variable("a.b", 1, 3, many=True), Variable("rest", 4, None, many=True)) == found.variables
    assert "verb" == found.verb
    assert (Variable("id", 1, 2, many=False),) == parse("/v1/{id}").variables == parse("/v1/{id=*}").variables


@pytest.mark.parametrize(
    "text",
    [
        *("", "v1", "/", "/v1//x", "/v1/", "/{a", "/a}", "/{}", "/{1a}", "/{a=}", "/{a=b/}", "/{a}/{a}", "/**/x"),
        *("/{a=**}/x", "/x:", "/{a.}", "/a{b}", "/{a}b", "/a b", "/{a=*:v}"),
    ],
)
def test_what_is_no_template_is_refused(text: str) -> None:
    """Every departure from the grammar is a ValueError, so that it cannot pass unseen."""
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


@pytest.mark.parametrize(
    ("path", "rule", "values"),
    [
        ("/v1/contacts/by-email/a%2Fb%2Bc%25@x.test", "GET /v1/contacts/by-email/{email}", {"email": "a/b+c%@x.test"}),
        ("/v1/contacts/a+b@x.test", "GET /v1/contacts/{id}", {"id": "a+b@x.test"}),
        ("/v1/contacts/by-email", "GET /v1/contacts/{id}", {"id": "by-email"}),
        ("/v1/contacts:count", "GET /v1/contacts:count", {}),
        ("/v1/contacts/x:unknown", "GET /v1/contacts/{id}", {"id": "x:unknown"}),
        ("/v1/contacts/x:y:cancel", "GET /v1/contacts/{id}:cancel", {"id": "x:y"}),
        ("/v1/contacts/%E2%82%AC", "GET /v1/contacts/{id}", {"id": "€"}),
        ("/v1/%63ontacts/x", "GET /v1/contacts/{id}", {"id": "x"}),
        ("/v1/files/a/b%2Fc/%C3%A9", "GET /v1/files/{name=**}", {"name": "a/b%2Fc/é"}),
        ("/v1/files", "GET /v1/files/{name=**}", {"name": ""}),
        ("/v1/contacts/", None, {}),
        ("/v1/contacts", None, {}),
        ("/v1/contacts/a/b", None, {}),
        ("v1/contacts/a", None, {}),
        ("*", None, {}),
    ],
)
def test_what_a_path_leads_to(path: str, rule: str | None, values: dict[str, str]) -> None:
    """A literal goes before a variable and a verb before a name; values are decoded, `%2F` stays between segments."""
    found = table(
        "GET /v1/contacts/{id}", "GET /v1/contacts/by-email/{email}", "GET /v1/contacts:count",
        "GET /v1/contacts/{id}:cancel", "GET /v1/files/{name=**}",
    ).find("GET", path)  # fmt: skip
    assert (rule, values) == ((found.target, found.values) if found else (None, {}))


def test_the_order_of_rules_does_not_matter() -> None:
    """Whichever rule came first, the more special one is meant; a dead end on its way leads back to the general one."""
    rules = ["GET /a/{x}/c", "GET /a/b/{y}", "GET /a/{rest=**}"]
    for some in (rules, rules[::-1]):
        found = [table(*some).find("GET", path) for path in ("/a/b/c", "/a/z/c", "/a/b/c/d", "/a/z")]
        assert ["GET /a/b/{y}", "GET /a/{x}/c", "GET /a/{rest=**}", "GET /a/{rest=**}"] == [
            each.target for each in found if each
        ]


def test_methods_of_a_path() -> None:
    """A path tells its methods; a known verb is no part of a name; one call cannot stand for two things."""
    made = table("GET /a/{id}", "POST /a/{id}:go", "* /b")
    assert (["GET"], ["POST"], ["*"], []) == tuple(map(made.methods, ("/a/x", "/a/x:go", "/b", "/c")))
    assert made.find("GET", "/a/x:go") is None
    assert made.find("DELETE", "/b") is not None
    with pytest.raises(ValueError, match="two things"):
        made.add("GET", parse("/a/{other}"), "again")


@pytest.mark.parametrize("path", ["/v1/%", "/v1/%2", "/v1/%zz", "/v1/%ff", "/v1/%C3", "/v1/%ED%A0%80"])
def test_what_is_no_text_is_refused(path: str) -> None:
    """Half an escape and what is no UTF-8 is an error of its own, never a guess."""
    with pytest.raises(MalformedPathError):
        table("GET /v1/{id}").find("GET", path)


@given(st.lists(st.text(min_size=1), min_size=2, max_size=2), st.text(), st.booleans())
def test_every_value_survives_its_path(values: list[str], rest: str, everything: bool) -> None:  # noqa: FBT001
    """What a client encodes is what the call gets, whatever characters; behind `**` slashes are kept apart."""
    made = table("GET /x/{a}/{b}/y", "GET /z/{rest=**}:verb")
    x, y = ("%78", "%79") if everything else ("x", "y")
    path = f"/{x}/{encoded(values[0])}/{encoded(values[1])}/{y}"
    found = made.find("GET", path)
    assert found is not None
    assert {"a": values[0], "b": values[1]} == found.values
    deep = made.find("GET", f"/z/{encoded(rest, keep_slash=True)}:verb")
    assert deep is not None
    assert rest == deep.values["rest"]


@given(st.text(alphabet="/{}*=.:ab%$ "))
def test_any_text_is_a_template_or_a_value_error(text: str) -> None:
    """Nothing but a ValueError comes out of reading a template, and what is read can be matched."""
    try:
        template = parse(text)
    except ValueError:
        return
    made: Table[str] = Table()
    made.add("GET", template, "x")
    verb = f":{template.verb}" if template.verb else ""
    path = "/" + "/".join("a" if each in "**" else each for each in template.segments) + verb
    try:
        assert made.find("GET", path) is not None
    except MalformedPathError:
        assert "%" in text


@pytest.mark.parametrize(
    ("name", "rule", "said"),
    [
        ("odd1", {"get": "/x/{nothing}"}, "no field nothing"),
        ("odd2", {"get": "/x/{author}"}, "cannot stand in a path"),
        ("odd3", {"get": "/x/{tags}"}, "cannot stand in a path"),
        ("odd4", {"post": "/x", "body": "nothing"}, "no field nothing"),
        ("odd5", {"get": "/x", "response_body": "nothing"}, "no field nothing"),
        ("odd6", {"body": "*"}, "no path"),
        ("odd7", {"get": "/x/{name.first}"}, "has no fields"),
    ],
)
def test_a_rule_that_makes_no_sense_is_refused_at_once(name: str, rule: dict[str, str], said: str) -> None:
    """A rule that names what is not there, or cannot stand there, ends the start and not a call."""
    with pytest.raises(ValueError, match=said):
        bindings.bindings_of([library.describe(name, **rule)])


def test_no_two_of_our_rules_are_one_call() -> None:
    """The bindings of our own services make one table, and each is found by its own path."""
    from multimail_server.gateway.parts import SERVICES

    all_of_them = bindings.bindings_of(SERVICES)
    made = bindings.table_of(all_of_them)
    for each in all_of_them:
        path = "/" + "/".join("x" if segment == http_rule.ANY else segment for segment in each.template.segments)
        found = made.find(each.http_method, path + (f":{each.template.verb}" if each.template.verb else ""))
        assert found is not None
        assert each == found.target
