"""What the clients put on the wire and take from it: every RPC, every field, a request id with every change."""

from __future__ import annotations

import asyncio
import dataclasses
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from tests.clients.forms import FORMS, Following, InThreads

import multimail
from multimail._words import word
from multimail.v1 import (
    contact_pb2,
    contact_service_pb2,
    error_reason_pb2,
    mail_pb2,
    mail_service_pb2,
    mail_service_pb2_grpc,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

METHODS = {
    name: method
    for module in (contact_service_pb2, mail_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for name, method in service.methods_by_name.items()
}
WHEN = datetime(2026, 3, 20, tzinfo=UTC)
BEFORE_TIME = datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))


class Recorder(grpc.GenericRpcHandler):
    """A scripted peer that answers every call with an empty reply and keeps the requests."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, Any]] = []

    def service(self, details: Any) -> Any:
        """How one call is answered."""
        method = METHODS[details.method.rpartition("/")[2]]
        asked, answer = GetMessageClass(method.input_type), GetMessageClass(method.output_type)

        async def unary(request: Any, context: Any) -> Any:
            self.seen.append((method.name, request))
            return answer()

        async def stream(request: Any, context: Any) -> AsyncIterator[Any]:
            self.seen.append((method.name, request))
            yield answer(**({"seq": 1} if "seq" in answer.DESCRIPTOR.fields_by_name else {}))

        async def each(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
            async for request in requests:
                self.seen.append((method.name, request))
                yield answer(row=request.row)

        form = {"request_deserializer": asked.FromString, "response_serializer": answer.SerializeToString}
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(each, **form)
        if method.server_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, **form)
        return grpc.unary_unary_rpc_method_handler(unary, **form)


@pytest.fixture
async def recorder() -> AsyncIterator[tuple[Recorder, str]]:
    """The scripted peer and its address."""
    handler, server = Recorder(), grpc.aio.server()
    server.add_generic_rpc_handlers((handler,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    yield handler, f"127.0.0.1:{port}"
    await server.stop(None)


async def everything(client: Any) -> None:
    """Makes every call with every argument there is."""
    known = {"name": "n", "metadata": {"plan": "pro"}, "last_contacted": WHEN}
    await client.get_caller()
    await client.contacts.create(email="a@b.test", upsert=True, **known)
    await client.contacts.upsert(email="a@b.test", **known)
    await client.contacts.upsert_many([{"email": "a@b.test", **known}])
    await Following(await client.contacts.import_([{"email": "a@b.test", **known}] * 2, "i")).rest()
    await client.contacts.get_many(["a@b.test", "contact_1"])
    chosen = {
        "query": "q", "email": "a@b.test", "domain": "b.test", "name": "n", "filters": {"metadata.n": 2},
        "filter": "metadata.n > 1",
    }  # fmt: skip
    await client.contacts.search(**chosen, order_by="name", explain=True)
    await client.contacts.count(**chosen)
    await Following(await client.contacts.export(**chosen)).rest()
    await client.contacts.watch(**chosen, only_new=True)
    for who in ({"email": "a@b.test"}, {"id": "contact_1"}):
        await client.contacts.get(**who)
        await client.contacts.update(
            **who, name="n", metadata={"a": 1}, replace_metadata=True, set={"b": 1}, unset=["c"], rename={"d": "e"},
            increment={"f": 1}, add_to_set={"g": 1}, remove={"h": 1}, etag="e",
        )  # fmt: skip
        await client.contacts.delete(**who, etag="e")
        await client.contacts.interactions(**who)
        await client.contacts.context(**who, max_characters=500)
    guard = multimail.Guard(timedelta(days=3), True, "W1", True, {"metadata.plan": "pro"}, "k")
    files = [multimail.OutgoingAttachment("a.txt", b"x", "text/plain")]
    bodies = {"body": "b", "html_body": "<p>b", "markdown_body": "*b*"}
    rules = {
        "display_name": "d", "oversight_mode": "gated_send", "hold_first_contact": True, "allow_list": ["b.test"],
        "approval_ttl": timedelta(hours=2), "in_doubt_policy": "hold",
    }  # fmt: skip
    await client.mailboxes.create(email="a@b.test", **rules)
    await client.mailboxes.list()
    for box in ("mbx_1", "box@b.test"):
        await client.mailboxes.get(box)
        await client.mailboxes.update(box, etag="e", **rules)
        await client.mailboxes.delete(box, etag="e")
        await client.send_email(
            from_mailbox=box, to=["a@b.test"], subject="s", oversight_mode="monitored", cc="c@b.test", bcc="d@b.test",
            reply_to="e@b.test", attachments=files, send_time=WHEN, guard=guard, list_unsubscribe=True,
            validate_only=True, **bodies,
        )  # fmt: skip
        await client.check_sends(from_mailbox=box, to="a@b.test", guard=guard, oversight_mode="monitored")
        await client.list_held_emails(mailbox=box)
        await client.ingest_email(mailbox=box, raw=b"x", envelope_from="f@b.test", envelope_to="box+1@b.test")
        for contact in ("contact_1", "a@b.test"):
            await client.list_emails(
                mailbox=box, contact=contact, direction="inbound", states=["sent", "held"], thread_id="t", unread=True
            )
            await client.threads.list(mailbox=box, contact=contact, awaiting_reply_before=WHEN, unanswered=True)
        await client.notifications.list(after_seq=3, types="email_held", mailbox=box)
        await client.notifications.watch(only_new=True, types=["email_held"], mailbox=box)
    await client.reply_email(
        "email_1", subject="s", oversight_mode="monitored", attachments=files, send_time=WHEN, reply_all=True,
        validate_only=True, **bodies,
    )  # fmt: skip
    await client.cancel_email("email_1")
    await client.update_email("email_1", subject="s", content_sha256="h", **bodies)
    await client.approve_emails([("email_1", "h")], reason="r")
    await client.reject_emails([("email_1", "h")], reason="r")
    await client.resolve_email("email_1", "send_again")
    about = {"address": "a@b.test", "time": WHEN, "permanent": True, "detail": "550"}
    await client.ingest_event("bounced", email_id="email_1", **about)
    await client.ingest_event("bounced", message_id="<1@b.test>", **about)
    await client.suppressions.list(address="a@b.test")
    await client.suppressions.add("a@b.test")
    await client.suppressions.remove("a@b.test")
    await client.get_email("email_1")
    await client.get_attachment("email_1", 2)
    await client.threads.get("thread_1")


async def recorded(recorder: tuple[Recorder, str], form: str) -> list[tuple[str, Any]]:
    """All requests one of the clients makes."""
    handler, target = recorder
    handler.seen.clear()
    if form == "async":
        async with multimail.AsyncClient(api_key="k", target=target) as client:
            await everything(client)
    else:
        with multimail.Client(api_key="k", target=target) as sync:
            await everything(InThreads(sync))
    return list(handler.seen)


@pytest.mark.parametrize("form", FORMS)
async def test_every_call_and_field_can_be_sent(recorder: tuple[Recorder, str], form: str) -> None:
    """The client reaches every RPC of both services and every field of their requests, but the token paging adds."""
    seen = await recorded(recorder, form)
    assert set(METHODS) == {name for name, _ in seen}
    sent: dict[str, set[str]] = {name: {"page_token"} for name in METHODS}
    for name, request in seen:
        sent[name] |= {field.name for field, _ in request.ListFields()}
    # A watch begins at a number or now; the tests of watches send the other one. An address becomes an id before it.
    sent["WatchNotifications"] |= {"after_seq", "mailbox_email"}
    sent["WatchContacts"] |= {"after_seq"}
    sent["ExportContacts"] |= {"after_id"}  # which going on after a cut adds
    unsent = {name: set(METHODS[name].input_type.fields_by_name) - sent[name] for name in METHODS}
    assert {} == {name: fields for name, fields in unsent.items() if fields}


@pytest.mark.parametrize("form", FORMS)
async def test_every_change_has_a_request_id_of_its_own(recorder: tuple[Recorder, str], form: str) -> None:
    """Every changing call mints a request id, and no two calls share one."""
    changing = {name for name, method in METHODS.items() if "request_id" in method.input_type.fields_by_name}
    ids = [(name, each.request_id) for name, each in await recorded(recorder, form) if name in changing]
    assert (changing, len(ids)) == ({name for name, _ in ids}, len({minted for _, minted in ids}))
    assert all(minted for _, minted in ids)


async def test_both_forms_send_the_same(recorder: tuple[Recorder, str]) -> None:
    """The same arguments become the same requests from either client, request ids aside."""
    told = []
    for form in FORMS:
        seen = await recorded(recorder, form)
        for _, request in seen:
            if "request_id" in request.DESCRIPTOR.fields_by_name:
                request.request_id = ""
        told.append(seen)
    assert told[0] == told[1]


@pytest.mark.parametrize(
    ("message", "shown", "more"),
    [
        (mail_pb2.Email, multimail.Email, {"duplicate"}),
        (mail_pb2.Recipient, multimail.Recipient, set()),
        (mail_pb2.Attachment, multimail.Attachment, {"content"}),
        (mail_pb2.Decision, multimail.Decision, set()),
        (mail_pb2.AuthenticationResults, multimail.AuthenticationResults, set()),
        (mail_pb2.DeliveryEvent, multimail.DeliveryEvent, set()),
        (mail_pb2.Mailbox, multimail.Mailbox, set()),
        (mail_pb2.Thread, multimail.Thread, {"emails"}),
        (mail_pb2.Notification, multimail.Notification, set()),
        (mail_pb2.Suppression, multimail.Suppression, set()),
        (mail_service_pb2.HeldEmail, multimail.HeldEmail, set()),
        (mail_service_pb2.HeldPerson, multimail.HeldPerson, set()),
        (mail_service_pb2.DecisionOutcome, multimail.DecisionOutcome, set()),
        (mail_service_pb2.SendCheck, multimail.SendCheck, set()),
        (mail_service_pb2.SendGuard, multimail.Guard, set()),
        (mail_service_pb2.OutgoingAttachment, multimail.OutgoingAttachment, set()),
        (error_reason_pb2.Refusal, multimail.Refusal, set()),
        (contact_pb2.Contact, multimail.Contact, {"outcome"}),
        (contact_pb2.Interaction, multimail.Interaction, set()),
        (contact_pb2.Erasure, multimail.Erasure, set()),
        (contact_service_pb2.SearchPlan, multimail.SearchPlan, set()),
        (contact_service_pb2.ContactContext, multimail.ContactContext, set()),
        (contact_service_pb2.WatchContactsResponse, multimail.ContactChange, set()),
        (contact_service_pb2.UpsertedContact, multimail.RowOutcome, {"row", "error"}),
    ],
)
def test_every_field_is_shown(message: Any, shown: Any, more: set[str]) -> None:
    """What callers get has every field the API has, under the API's name."""
    names = {"from_" if name == "from" else name for name in message.DESCRIPTOR.fields_by_name}
    assert names | more == {field.name for field in dataclasses.fields(shown)}


def test_values_of_a_newer_service_are_no_error() -> None:
    """An enum value this client does not know is shown by its number; the known ones are plain words."""
    enum = mail_pb2.EmailState
    assert ("held", "unknown_77") == (word(enum, mail_pb2.EMAIL_STATE_HELD), word(enum, 77))


@pytest.mark.parametrize(
    ("field", "arguments"),
    [
        ("send_time", {"send_time": datetime(2026, 1, 1)}),  # noqa: DTZ001  that is what is refused
        ("guard.not_contacted_within", {"guard": multimail.Guard(not_contacted_within=3)}),  # type: ignore[arg-type]
        ('guard.filters["metadata.n"]', {"guard": multimail.Guard(filters={"metadata.n": 2**60})}),
    ],
)
async def test_values_that_mean_nothing_are_refused_here(field: str, arguments: dict[str, Any]) -> None:
    """A time without a zone, a span that is none and a number that would lose digits are refused by their path."""
    client = InThreads(multimail.Client(api_key="k", target="127.0.0.1:1"))
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await client.send_email(from_mailbox="mbx_1", to="a@b.test", **arguments)
    assert [field] == [violation.field for violation in refused.value.violations]


HALF = "\ud800"  # of a surrogate pair: no character, and nothing UTF-8 can carry
GUARD = multimail.Guard(dedupe_key=HALF)


@pytest.mark.parametrize(
    ("field", "call"),
    [
        ("id", lambda client: client.contacts.get(id=HALF)),
        ("name", lambda client: client.contacts.upsert(email="a@b.test", name=HALF)),
        ("metadata.a", lambda client: client.contacts.upsert(email="a@b.test", metadata={"a": [HALF]})),
        ("metadata", lambda client: client.contacts.upsert(email="a@b.test", metadata={HALF: 1})),
        ("unset", lambda client: client.contacts.update(id="contact_1", unset=[HALF])),
        ("set", lambda client: client.contacts.update(id="contact_1", set={HALF: 1})),
        ('filters["metadata.a"].in', lambda client: client.contacts.search(filters={"metadata.a": {"in": [HALF]}})),
        ("filter", lambda client: client.contacts.count(filter=HALF)),
        ("query", lambda client: client.contacts.export(query=HALF)),
        ("after_seq", lambda client: client.contacts.watch(after_seq=2**63)),
        ("max_characters", lambda client: client.contacts.context(id="contact_1", max_characters=2**31)),
        ("id", lambda client: client.contacts.get_many([HALF])),
        ("to", lambda client: client.send_email(from_mailbox="mbx_1", to=["a@b.test", HALF])),
        (
            "dedupe_key",
            lambda client: client.check_sends(from_mailbox="m", to="a", guard=multimail.Guard(dedupe_key=HALF)),
        ),
        ("entries", lambda client: client.mailboxes.update("mbx_1", allow_list=[HALF])),
        ("email_id", lambda client: client.approve_emails([(HALF, "")])),
        ("index", lambda client: client.get_attachment("email_1", 2**31)),
        ("after_seq", lambda client: client.notifications.list(after_seq=2**63)),
        ("after_seq", lambda client: client.notifications.watch(after_seq=-(2**64))),
        ("send_time", lambda client: client.send_email(from_mailbox="m", to="a", send_time=BEFORE_TIME)),
    ],
)
@pytest.mark.parametrize("form", FORMS)
async def test_what_cannot_travel_is_refused_by_its_name(form: str, field: str, call: Any) -> None:
    """Texts that are none and numbers beyond a field's range are refused here, by the name of the field."""
    made: dict[str, str] = {"api_key": "k", "target": "127.0.0.1:1"}
    client = multimail.AsyncClient(**made) if form == "async" else InThreads(multimail.Client(**made))
    with pytest.raises(multimail.InvalidArgumentError) as refused:
        await call(client)
    assert [field] == [violation.field for violation in refused.value.violations]


@pytest.mark.parametrize("arguments", [{}, {"email_id": "e", "message_id": "m"}])
async def test_an_event_is_about_one_mail(arguments: dict[str, str]) -> None:
    """A report names its mail by id or by Message-ID, never by both or neither, and its type is a known word."""
    async with multimail.AsyncClient(api_key="k", target="127.0.0.1:1") as client:
        with pytest.raises(multimail.InvalidArgumentError):
            await client.ingest_event("bounced", **arguments)  # type: ignore[arg-type]
        with pytest.raises(multimail.InvalidArgumentError, match="delivered"):
            await client.ingest_event("lost", email_id="e")


class Sparse(mail_service_pb2_grpc.MailServiceServicer):
    """A scripted peer whose pages of notifications hold little, or nothing, before the last one."""

    def __init__(self) -> None:
        self.pages: list[list[int]] = []

    async def ListNotifications(self, request: Any, context: Any) -> mail_service_pb2.ListNotificationsResponse:
        """One page."""
        number = int(request.page_token or 0)
        return mail_service_pb2.ListNotificationsResponse(
            notifications=[mail_pb2.Notification(seq=seq) for seq in self.pages[number]],
            next_page_token=str(number + 1) if number + 1 < len(self.pages) else "",
        )


@pytest.mark.parametrize("form", FORMS)
async def test_results_are_true_when_there_are_any(form: str) -> None:
    """Whether anything was found is known at once, how much only by walking; pages a filter emptied are passed over."""
    sparse, server = Sparse(), grpc.aio.server()
    mail_service_pb2_grpc.add_MailServiceServicer_to_server(sparse, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    made: dict[str, Any] = {"api_key": "k", "target": f"127.0.0.1:{port}"}
    client = multimail.AsyncClient(**made) if form == "async" else InThreads(multimail.Client(**made))
    for sparse.pages, found in (([[], [], [1], [], [2]], [1, 2]), ([[], []], []), ([[]], [])):
        results = await client.notifications.list()
        assert (bool(found), found[:1]) == (bool(results), [each.seq for each in results.items])
        walked = [each async for each in results] if form == "async" else await asyncio.to_thread(list, results)
        assert found == [each.seq for each in walked]
        with pytest.raises(TypeError):
            len(results)
    await client.close()
    await server.stop(None)


async def test_closing_the_client_ends_calls_under_way() -> None:
    """A call that waits when its client is closed ends with an error of ours, and the task is not cancelled."""
    async with await asyncio.start_server(lambda *_: asyncio.sleep(0), "127.0.0.1", 0) as deaf:
        client = multimail.AsyncClient(api_key="k", target=f"127.0.0.1:{deaf.sockets[0].getsockname()[1]}")
        waiting = asyncio.create_task(client.get_email("email_1"))
        while client._caller._channel is None:  # noqa: ASYNC110  until the call is under way
            await asyncio.sleep(0)
        await client.close()
        with pytest.raises(multimail.CancelledError):
            await asyncio.wait_for(waiting, 10)
