"""What is true of every call: keys, scopes, garbage, deadlines, health, reflection, and the printed grpcurl call."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.rpc.calls import read_refusal, stubs
from tests.rpc.relays import serving

import multimail
from multimail.v1 import contact_service_pb2 as contacts_pb
from multimail.v1 import mail_service_pb2 as mail_pb
from multimail_server.app import SERVICES
from multimail_server.rpc.auth import SCOPES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Account

GRPCURL = str(Path(sys.executable).parent / "grpcurl")
# One request per RPC that is well formed; what it names need not be there.
GET_CALLER = "/multimail.v1.ContactService/GetCaller"
SAMPLES = {
    "GetCaller": "{}",
    "CreateContact": '{"email": "a@b.test"}',
    "UpsertContact": '{"email": "a@b.test"}',
    "BatchUpsertContacts": '{"contacts": [{"email": "a@b.test"}]}',
    "ImportContacts": '{"import_id": "i", "contact": {"email": "a@b.test"}}',
    "GetContact": '{"email": "a@b.test"}',
    "BatchGetContacts": '{"contacts": [{"email": "a@b.test"}]}',
    "GetContactContext": '{"email": "a@b.test"}',
    "UpdateContact": '{"email": "a@b.test", "name": "A"}',
    "DeleteContact": '{"email": "a@b.test"}',
    "SearchContacts": '{"filters": {"metadata.n": {"gte": 1}}}',
    "CountContacts": "{}",
    "ExportContacts": "{}",
    "WatchContacts": '{"only_new": true}',
    "ListInteractions": '{"email": "a@b.test"}',
    "CreateMailbox": '{"email": "BOX"}',
    "GetMailbox": '{"email": "BOX"}',
    "ListMailboxes": "{}",
    "UpdateMailbox": '{"email": "BOX", "display_name": "Box"}',
    "DeleteMailbox": '{"email": "BOX"}',
    "SendEmail": '{"from_mailbox_email": "BOX", "to": ["a@b.test"], "subject": "s", "body": "b"}',
    "ReplyEmail": '{"email_id": "email_x"}',
    "CancelEmail": '{"id": "email_x"}',
    "UpdateEmail": '{"id": "email_x", "subject": "s"}',
    "ListHeldEmails": "{}",
    "ApproveEmails": '{"emails": [{"email_id": "email_x", "content_sha256": "00"}]}',
    "RejectEmails": '{"emails": [{"email_id": "email_x", "content_sha256": "00"}], "reason": "no"}',
    "ResolveEmail": '{"id": "email_x", "resolution": "RESOLUTION_SENT"}',
    "BatchCheckSends": '{"from_mailbox_email": "BOX", "to": ["a@b.test"]}',
    "IngestEvent": '{"email_id": "email_x", "type": "DELIVERY_EVENT_TYPE_DELIVERED"}',
    "ListSuppressions": "{}",
    "AddSuppression": '{"address": "a@b.test"}',
    "RemoveSuppression": '{"address": "a@b.test"}',
    "GetAttachment": '{"email_id": "email_x"}',
    "WatchNotifications": '{"only_new": true}',
    "IngestEmail": '{"mailbox_email": "BOX", "raw": "RnJvbTogYUBiLnRlc3QNCg0KaGk="}',
    "GetEmail": '{"id": "email_x"}',
    "ListEmails": "{}",
    "ListThreads": "{}",
    "GetThread": '{"id": "thread_x"}',
    "ListNotifications": "{}",
}


@pytest.fixture
async def channel(account: Account) -> AsyncIterator[grpc.aio.Channel]:
    """A bare channel to the service."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{account.running.grpc_port}") as made:
        yield made


async def refusal(call: Any) -> tuple[str, str, list[Any]]:
    """Code, reason and details of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    status = status_pb2.Status()
    for key, value in refused.value.trailing_metadata():
        if key == "grpc-status-details-bin":
            status.ParseFromString(value)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info), "the first detail is the ErrorInfo"
    assert info.domain == "multimail"
    return refused.value.code().name, info.reason, list(status.details)


@pytest.mark.parametrize("method", sorted(SCOPES))
async def test_no_method_answers_without_a_key(channel: grpc.aio.Channel, method: str) -> None:
    """Without a key, with a wrong one, or with garbage for a request, every RPC is UNAUTHENTICATED."""
    call = channel.unary_unary(method)
    wrong = ("authorization", "Bearer mm_live_" + "x" * 43)
    assert (await refusal(call(b"")))[:2] == ("UNAUTHENTICATED", "KEY_MISSING")
    assert (await refusal(call(b"\xff", metadata=[wrong])))[:2] == ("UNAUTHENTICATED", "KEY_INVALID")
    assert (await refusal(call(b"", metadata=[("authorization", "Bearer x")])))[:2] == (
        "UNAUTHENTICATED",
        "KEY_INVALID",
    )


@pytest.mark.parametrize("method", sorted(SCOPES.keys() - {GET_CALLER}))
async def test_scopes_and_garbage(channel: grpc.aio.Channel, account: Account, method: str) -> None:
    """A key without the method's scope is refused; with it, bytes that are no message are INVALID_ARGUMENT."""
    needed = SCOPES[method]
    lacking = await account.key(
        *({"read", "write", "admin", "send" if needed == "oversight" else "oversight"} - {needed})
    )
    call = channel.unary_unary(method)
    code, reason, _ = await refusal(call(b"", metadata=[("authorization", f"Bearer {lacking}")]))
    assert (code, reason) == ("PERMISSION_DENIED", "SCOPE_MISSING")
    having = await account.key(needed)
    code, reason, _ = await refusal(call(b"\xff\xff\xff", metadata=[("authorization", f"Bearer {having}")]))
    assert (code, reason) == ("INVALID_ARGUMENT", "MALFORMED_REQUEST")


async def test_every_key_learns_what_it_may(channel: grpc.aio.Channel, account: Account) -> None:
    """A key of any scope is told its account, its id, its agent and its scopes, and nothing of the key itself."""
    call = channel.unary_unary(
        GET_CALLER,
        request_serializer=contacts_pb.GetCallerRequest.SerializeToString,
        response_deserializer=contacts_pb.Caller.FromString,
    )
    for scopes in (["send"], ["oversight", "read"], ["admin", "read", "send", "write"]):
        key, row = await account.running.keys.create(account.name, "scout", scopes)
        told = await call(contacts_pb.GetCallerRequest(), metadata=[("authorization", f"Bearer {key}")])
        assert (account.name, row["_id"], "scout", scopes) == (told.account, told.key_id, told.agent, [*told.scopes])
        assert key not in str(told)


async def test_unknown_method(channel: grpc.aio.Channel, account: Account) -> None:
    """A method that is not there is UNIMPLEMENTED for who has a key, and tells others nothing."""
    call = channel.unary_unary("/multimail.v1.ContactService/Nope")
    assert (await refusal(call(b"")))[:2] == ("UNAUTHENTICATED", "KEY_MISSING")
    key = await account.key("read")
    assert (await refusal(call(b"", metadata=[("authorization", f"Bearer {key}")])))[:2] == (
        "UNIMPLEMENTED",
        "METHOD_UNKNOWN",
    )


async def test_required_fields_are_named(channel: grpc.aio.Channel, account: Account) -> None:
    """An empty request is refused with every field it needs, and an unknown enum value is named."""
    metadata = [("authorization", f"Bearer {await account.key('read', 'write', 'send', 'admin')}")]
    for method, request, fields in (
        ("ContactService/UpsertContact", contacts_pb.UpsertContactRequest(), {"email"}),
        ("ContactService/GetContact", contacts_pb.GetContactRequest(), {"id"}),
        ("ContactService/GetContact", contacts_pb.GetContactRequest(email=""), {"email"}),
        ("MailService/SendEmail", mail_pb.SendEmailRequest(), {"to", "from_mailbox_id"}),
        (
            "MailService/SendEmail",
            mail_pb.SendEmailRequest(from_mailbox_id="x", to=["a@b.test"], oversight_mode=99),
            {"oversight_mode"},
        ),
        (
            "MailService/ListEmails",
            mail_pb.ListEmailsRequest(page_size=-1, page_token="x" * 9000),
            {"page_size", "page_token"},
        ),
        ("MailService/ListEmails", mail_pb.ListEmailsRequest(states=[77]), {"states"}),
        ("MailService/GetEmail", mail_pb.GetEmailRequest(id="x\x00"), {"id"}),
        ("MailService/ListNotifications", mail_pb.ListNotificationsRequest(after_seq=-1), {"after_seq"}),
    ):  # fmt: skip
        call = channel.unary_unary(f"/multimail.v1.{method}", request_serializer=type(request).SerializeToString)
        code, reason, details = await refusal(call(request, metadata=metadata))
        bad = error_details_pb2.BadRequest()
        assert details[1].Unpack(bad)
        assert ("INVALID_ARGUMENT", "INVALID_FIELD", fields) == (
            code, reason, {violation.field for violation in bad.field_violations},
        )  # fmt: skip


async def test_deadline_without_time_is_refused(account: Account) -> None:
    """A call that has no time left fails as one of time, and the client says so."""
    client = await account.client()
    slow = multimail.AsyncClient(
        api_key=client._caller._endpoint.api_key, target=f"127.0.0.1:{account.running.grpc_port}", timeout=0.001
    )
    with pytest.raises(multimail.DeadlineExceededError):
        await slow.contacts.search()


async def test_health_answers_per_service(channel: grpc.aio.Channel) -> None:
    """Health says SERVING for the whole and for each service, needs no key, and knows no other service."""
    stub = health_pb2_grpc.HealthStub(channel)
    for service in ("", *SERVICES):
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.Check(health_pb2.HealthCheckRequest(service="nope"))
    assert refused.value.code() == grpc.StatusCode.NOT_FOUND


def grpcurl(*arguments: str) -> tuple[int, str]:
    """Runs the real grpcurl."""
    done = subprocess.run([GRPCURL, "-plaintext", *arguments], capture_output=True, text=True, check=False, timeout=30)
    return done.returncode, done.stdout + done.stderr


async def test_grpcurl_reaches_every_method(account: Account) -> None:
    """Grpcurl lists, describes and calls every RPC by reflection, with a key."""
    target = f"127.0.0.1:{account.running.grpc_port}"
    _, listed = await asyncio.to_thread(grpcurl, target, "list")
    assert set(SERVICES) <= set(listed.split())
    agent, overseer = await account.key("read", "write", "send", "admin"), await account.key("oversight")
    for method in SCOPES:
        name = method.removeprefix("/").replace("/", ".")
        code, described = await asyncio.to_thread(grpcurl, target, "describe", name)
        assert (code, "rpc " in described) == (0, True), described
    for method in SCOPES:
        verb = method.rpartition("/")[2]
        data = SAMPLES[verb].replace("BOX", account.mailbox())
        header = f"authorization: Bearer {overseer if SCOPES[method] == 'oversight' else agent}"
        ends = ("-max-time", "1") if verb.startswith("Watch") else ()  # a stream goes on until somebody ends it
        call = (*ends, "-H", header, "-d", data, target, method.removeprefix("/"))
        code, said = await asyncio.to_thread(grpcurl, *call)
        fine = ("Code: NotFound", "Code: AlreadyExists", *(["Code: DeadlineExceeded"] if ends else []))
        assert code == 0 or any(each in said for each in fine), said


async def test_unknown_methods_of_open_services(channel: grpc.aio.Channel) -> None:
    """A method that an open service does not have is UNIMPLEMENTED, also without a key, so that callers try another."""
    for method in ("/grpc.health.v1.Health/Nothing", "/grpc.reflection.v1.ServerReflection/Nothing"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary(method)(b"")
        assert grpc.StatusCode.UNIMPLEMENTED == refused.value.code()


async def test_too_fast_and_too_many(engine_uri: str, tmp_path: Path) -> None:
    """Past a key's rate a call is RESOURCE_EXHAUSTED and says when to come back; the client then comes back."""
    async with serving(engine_uri, tmp_path, "limited", rate_per_s=5) as account:
        request = contacts_pb.SearchContactsRequest(page_size=1)
        async with stubs(account) as (contacts, _):
            results = await asyncio.gather(
                *(contacts.SearchContacts(request) for _ in range(14)), return_exceptions=True
            )
            refused = [read_refusal(each) for each in results if isinstance(each, grpc.aio.AioRpcError)]
            assert {("RESOURCE_EXHAUSTED", "RATE_LIMITED")} == {(each.code, each.reason) for each in refused}
            assert all(0 < (each.retry_delay_s or 0) <= 2 for each in refused)
            assert 10 <= len(results) - len(refused) < 14, "the burst of two seconds passes"
        async with await account.client() as client:
            await asyncio.gather(*(client.contacts.search(limit=1) for _ in range(12)))


async def test_rate_refusal_names_its_time(channel: grpc.aio.Channel) -> None:
    """The bucket admits its burst, then refuses with a time, then admits again when that time is over."""
    from multimail_server.errors import DomainError
    from multimail_server.rpc.admission import Admission

    clock = [0.0]
    admission = Admission(max_concurrent=1, rate_per_s=2, clock=lambda: clock[0])
    for _ in range(4):
        with admission.admitted("key", "read"):
            continue
    with pytest.raises(DomainError) as refused, admission.admitted("key", "read"):
        raise AssertionError
    assert refused.value.retry_after_s == 0.5
    clock[0] += 0.5
    with admission.admitted("key", "read"), pytest.raises(DomainError) as busy:
        clock[0] += 10
        with admission.admitted("key", "read"):
            raise AssertionError
    assert busy.value.reason.value == "TOO_BUSY"
