"""What a filter that can be read asks of a contact, and what is said when it asks for what no contact has."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.unit.filters import refusal

from multimail_server.contacts import filter_map, filter_text
from multimail_server.contacts.conditions import And, Not, Or, Since
from multimail_server.contacts.contact import FOREVER, NEVER
from multimail_server.errors import DomainError

NOW = datetime(2026, 6, 1, 12, 30, tzinfo=UTC)
DAY = datetime(2026, 3, 20, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


def checked(text: str) -> Any:
    """The condition a filter asks for."""
    return filter_text.condition_of(text, NOW)


def mapped(filters: dict[str, Any]) -> Any:
    """The condition a map asks for."""
    return filter_map.condition_of(filters, NOW)


@pytest.mark.parametrize(
    ("text", "filters"),
    [
        ("", {}),
        ("metadata.plan = pro", {"metadata.plan": "pro"}),
        ('metadata.plan:"pro"', {"metadata.plan": "pro"}),
        ("metadata.n = 2", {"metadata.n": 2.0}),
        ('metadata.n = "2"', {"metadata.n": "2"}),
        ("metadata.n = 007", {"metadata.n": "007"}),
        ("metadata.n = -3.5e1", {"metadata.n": -35}),
        ("metadata.on = true", {"metadata.on": True}),
        ("metadata.on = 'true'", {"metadata.on": "true"}),
        ("metadata.on = null", {"metadata.on": None}),
        ("metadata.plan != pro", {"metadata.plan": {"ne": "pro"}}),
        ("NOT metadata.plan = pro", {"metadata.plan": {"ne": "pro"}}),
        ("-metadata.plan:pro", {"metadata.plan": {"ne": "pro"}}),
        ("metadata.n > 2", {"metadata.n": {"gt": 2}}),
        ("metadata.n >= 2", {"metadata.n": {"gte": 2}}),
        ("metadata.day < '2027-01-01'", {"metadata.day": {"lt": "2027-01-01"}}),
        ("metadata.day <= 2027-01-01", {"metadata.day": {"lte": "2027-01-01"}}),
        ("metadata.plan:*", {"metadata.plan": {"exists": True}}),
        ('metadata.plan:"*"', {"metadata.plan": {"exists": True}}),
        ("metadata:plan", {"metadata.plan": {"exists": True}}),
        ('metadata:"a.b"', {'metadata."a.b"': {"exists": True}}),
        ("-metadata.plan:*", {"metadata.plan": {"exists": False}}),
        ('metadata.plan = "pro*"', {"metadata.plan": {"prefix": "pro"}}),
        ("metadata.plan:pro*", {"metadata.plan": {"prefix": "pro"}}),
        ("metadata.plan = *", {"metadata.plan": {"prefix": ""}}),
        (r'metadata.plan = "pro\*"', {"metadata.plan": "pro*"}),
        ("metadata.plan = (pro OR free OR 3)", {"metadata.plan": {"in": ["pro", "free", 3]}}),
        ("metadata.plan = pro OR metadata.plan = free", {"metadata.plan": {"in": ["pro", "free"]}}),
        ("metadata.tags:(a AND b)", {"metadata.tags": "a", "metadata.tags ": "b"}),
        ('metadata."a.b"."$x".c = 1', {'metadata."a.b".$x.c': 1}),
        ("last_contacted < 2026-03-20", {"last_contacted_before": "2026-03-20"}),
        ('last_contacted >= "2026-03-20T09:30:00+02:00"', {"last_contacted_after": "2026-03-20T07:30:00Z"}),
        ("last_inbound < -30d", {"last_inbound_before": "2026-05-02T12:30:00Z"}),
        ("created >= '-90m'", {"created_after": "2026-06-01T11:00:00Z"}),
        ("create_time >= -2h", {"created_after": "-2h"}),
        ("update_time < -1w", {"updated_before": "2026-05-25T12:30:00Z"}),
        ("never_contacted", {"never_contacted": True}),
        ("never_contacted()", {"never_contacted": True}),
        ("never_contacted = false", {"never_contacted": False}),
        ("-awaiting_reply", {"awaiting_reply": False}),
        ("has_open_thread:true", {"has_open_thread": True}),
        ("metadata.a = 1 metadata.b = 2 never_contacted", {"metadata.a": 1, "metadata.b": 2, "never_contacted": True}),
    ],
)
def test_text_and_map_are_one(text: str, filters: dict[str, Any]) -> None:
    """The same condition, written as text or in the map, is the same tree."""
    found = mapped({key.strip(): value for key, value in filters.items()} if "metadata.tags " not in filters else {})
    if "metadata.tags " in filters:
        found = And((mapped({"metadata.tags": "a"}), mapped({"metadata.tags": "b"})))
    assert found == checked(text)


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("ana", "name:ana"),
        ("ana lopez", 'name = "ÁNA, López"'),
        ('"ana lopez"', "name:(ana lopez)"),
        ("ana*", "name:ana*"),
        ("acme.com", "domain = ACME.com"),
        ("x@acme.com", "email = ' X@acme.com'"),
        ('"acme.com"', "domain:acme.com"),
        ('"never_contacted"', "name:(never contacted)"),
        ("domain = (a.test OR b.test)", "a.test OR b.test"),
        ("domain != a.test", "NOT a.test"),
        ("last_contacted:*", "NOT never_contacted"),
        ("a (b c)", "a b c"),
        ("NOT (a OR b)", "-(a OR b)"),
    ],
)
def test_words_mean_what_query_means(text: str, same: str) -> None:
    """A word alone is an address, a domain or a word of the name, as in `query`; quoted it is never a field."""
    assert checked(same) == checked(text)


@pytest.mark.parametrize(
    ("text", "column", "said"),
    [
        ("plan = pro", 1, "write metadata.plan"),
        ("lastcontacted < -30d", 1, "did you mean last_contacted?"),
        ("email.x = 1", 1, "there is no field 'email.x'"),
        ("metadata.plan", 1, "compared with nothing"),
        ("metadata", 1, "compared with nothing"),
        ('"a*b"', 1, "only at the end"),
        ("metadata.day < -30d", 16, "the service's own times"),
        ("a email", 3, "compared with nothing"),
        ("a and b", 3, "write AND in capitals"),
        ("never_contated", 1, "did you mean never_contacted?"),
        ("a *b", 3, "only at the end"),
        ("a && b", 3, "no word"),
        ("metadata = 3", 12, "metadata.plan = pro"),
        ("metadata:*", 10, "metadata:plan"),
        ("metadata.n > true", 14, "must be a text or a number"),
        ("metadata.n > a*", 14, r"write \*"),
        ("metadata.n = a*b", 14, "only at the end"),
        ("metadata.n = 1e999", 14, "not a number"),
        ("metadata.n > '" + "x" * 257 + "'", 14, "longer than 256 bytes"),
        ("last_contacted < yesterday", 18, "must be a time"),
        ("last_contacted < 30d", 18, "-30d for thirty days ago"),
        ("last_contacted < -999999999d", 18, "must be a time"),
        ("last_contacted < 2026-02-30", 18, "must be a time"),
        ("last_contacted < '2026-03-20T09:30:00'", 18, "must be a time"),
        ("last_contacted = 2026-03-20", 18, "compared with < <= > >="),
        ("last_contacted != 2026-03-20", 19, "compared with < <= > >="),
        ("created < now()", 11, "no function gives a value"),
        ("never_contacted > true", 19, "= true or = false"),
        ("never_contacted = 1", 19, "= true or = false"),
        ("never_contacted(1)", 1, "no such function"),
        ("sum(metadata.a)", 1, "no such function"),
        ("metadata.tags(a)", 1, "no such function"),
        ("awaiting_reply() = true", 1, "not compared"),
        ("email = nobody", 9, "is not an e-mail address"),
        ("email = *@acme.com", 9, r"write \*"),
        ("email > a@b.test", 9, "= != or :"),
        ("domain = acme", 10, "is not a domain"),
        ("domain = 'é*'", 10, "ASCII"),
        ("domain = *.com", 10, "only at the end"),
        ("name < a", 8, "= != or :"),
        ("name = '?'", 8, "no word"),
        (" OR ".join(["a"] * 101), 1, "at most 100"),
        ("name = '" + "a " * 33 + "'", 8, "at most 32"),
    ],
)
def test_what_a_contact_does_not_have_is_named(text: str, column: int, said: str) -> None:
    """A filter that can be read but not asked of a contact is refused with its column and what to write instead."""
    violation = refusal(text, checked)
    assert violation.description.startswith(f"column {column}: ")
    assert said in violation.description


def test_all_that_is_wrong_is_said_at_once() -> None:
    """A filter with several wrong conditions is refused once, naming each."""
    with pytest.raises(DomainError) as refused:
        checked("plan = 1 AND (email = x OR NOT created = -1d) metadata.n > (true OR null OR 3)")
    columns = [int(each.description.split(":")[0].split()[1]) for each in refused.value.violations]
    assert [1, 23, 42, 61, 69] == columns
    with pytest.raises(DomainError) as refused:
        checked("a=1 " * 1_000)
    assert 16 == len(refused.value.violations)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("last_contacted < 2026-03-20", Not(Since("last_contacted_at", DAY))),
        ("last_contacted >= 2026-03-20", Since("last_contacted_at", DAY)),
        ("last_contacted > 2026-03-20", Since("last_contacted_at", DAY + MILLISECOND)),
        ("last_contacted <= 2026-03-20", Not(Since("last_contacted_at", DAY + MILLISECOND))),
        ("created > '2026-03-20T00:00:00.0004Z'", Since("create_time", DAY + MILLISECOND)),
        ("created >= '2026-03-20T00:00:00.0004Z'", Since("create_time", DAY + MILLISECOND)),
        ("last_contacted >= 0001-01-01", Since("last_contacted_at", NEVER + MILLISECOND)),
        ("last_contacted > 9999-12-31", Since("last_contacted_at", FOREVER + MILLISECOND)),
        ("last_contacted > 9999-12-31T23:59:59.999999Z", Since("last_contacted_at", FOREVER + MILLISECOND)),
        ("never_contacted", Not(Since("last_contacted_at", NEVER + MILLISECOND))),
        ("awaiting_reply", Since("awaiting_since", NEVER + MILLISECOND)),
        ("has_open_thread", Since("open_until", NOW + MILLISECOND)),
        (
            "created < -1d OR -awaiting_reply",
            Or((Not(Since("create_time", NOW - timedelta(days=1))), Not(Since("awaiting_since", NEVER + MILLISECOND)))),
        ),
    ],
)
def test_times_are_one_bound_each(text: str, expected: Any) -> None:
    """Every condition on a time is one bound in whole milliseconds; "never" is before every time, and after none."""
    assert expected == checked(text)
