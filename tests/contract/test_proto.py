"""The contract: what is written in the protos is so, and nothing breaks it unseen."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from google.api import annotations_pb2

import multimail
from multimail.v1 import contact_service_pb2, error_reason_pb2, mail_service_pb2
from multimail_server.errors import Reason
from multimail_server.rpc.auth import SCOPES
from multimail_server.rpc.status import CODES

ROOT = Path(__file__).resolve().parent.parent.parent
PROTOS = ROOT / "protos" / "multimail" / "v1"
SERVICES = [
    contact_service_pb2.DESCRIPTOR.services_by_name["ContactService"],
    mail_service_pb2.DESCRIPTOR.services_by_name["MailService"],
]


def protos_tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs the tool that `make check` runs."""
    return subprocess.run(
        [sys.executable, "tools/protos.py", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_contract_is_clean() -> None:
    """The protos pass lint and format, break nothing since the last commit, and make the committed stubs."""
    done = protos_tool("check")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("line", "said"),
    [("  string name = 3 [", '"3" with name "name"'), ("  int32 thread_count = 11 [", '"11" with name "thread_count"')],
)
def test_removed_field_is_refused(tmp_path: Path, line: str, said: str) -> None:
    """A field that is taken out of a message fails the compatibility check, which names it."""
    changed = tmp_path / "protos"
    shutil.copytree(ROOT / "protos", changed)
    proto = changed / "multimail" / "v1" / "contact.proto"
    text = proto.read_text()
    assert line in text
    proto.write_text("\n".join(each for each in text.split("\n") if not each.startswith(line)))
    done = protos_tool("breaking", str(ROOT / "protos"), str(changed))
    assert done.returncode != 0
    assert said in done.stderr


def test_every_reason_has_a_sample() -> None:
    """Every error reason of the proto is one of the code, and its comment holds a whole ErrorInfo with that reason."""
    text = (PROTOS / "error_reason.proto").read_text()
    found = re.findall(r"((?:  //[^\n]*\n)+)  ERROR_REASON_(\w+) = \d+;", text)
    samples = {}
    for comment, name in found:
        body = "".join(line.strip().removeprefix("//") for line in comment.split("\n"))
        if name != "UNSPECIFIED":
            samples[name] = json.loads(body[body.index("{") :])
    expected = {
        name.removeprefix("ERROR_REASON_") for name in error_reason_pb2.ErrorReason.DESCRIPTOR.values_by_name
    } - {"UNSPECIFIED"}
    assert expected == set(samples) == {reason.value for reason in Reason} == {reason.value for reason in CODES}
    for name, sample in samples.items():
        assert (name, "multimail") == (sample["reason"], sample["domain"])
        assert all(isinstance(value, str) for value in sample["metadata"].values())


def test_every_method_has_a_route() -> None:
    """Every RPC says how it is reached by HTTP, but those that a client streams to, which HTTP cannot carry."""
    for service in SERVICES:
        for method in service.methods:
            if method.client_streaming:
                continue
            assert method.GetOptions().Extensions[annotations_pb2.http].WhichOneof("pattern"), method.full_name


def test_scopes_are_those_of_the_comments() -> None:
    """The table of scopes holds exactly the RPCs, each with the scope its comment names."""
    documented = {}
    for name in ("contact_service", "mail_service"):
        text = (PROTOS / f"{name}.proto").read_text()
        service = re.search(r"service (\w+) {", text)
        assert service is not None
        for comment, method in re.findall(r"((?:  //[^\n]*\n)+)  rpc (\w+)\(", text):
            words = " ".join(line.strip().removeprefix("//").strip() for line in comment.split("\n"))
            scope = re.search(r"Scope: (\w+)", words)
            assert scope is not None, method
            documented[f"/multimail.v1.{service[1]}/{method}"] = scope[1]
    assert documented == SCOPES


def test_public_names_of_the_client() -> None:
    """The client's public names are these; taking one away breaks callers."""
    assert multimail.__all__ == sorted(multimail.__all__)
    assert {
        "AbortedError", "AlreadyExistsError", "AsyncClient", "AsyncImport", "AsyncResults", "AsyncStream",
        "AsyncWatch", "Attachment", "AuthenticationResults", "Caller", "CancelledError", "Client", "Contact",
        "ContactChange", "ContactContext", "ContactRow", "DeadlineExceededError", "Decision", "DecisionOutcome",
        "DeliveryEvent", "Email", "Erasure", "FailedPreconditionError", "Guard", "GuardRefusedError",
        "HeldEmail", "HeldPerson", "Import", "Interaction", "InternalError", "InvalidArgumentError", "Mailbox",
        "MultimailError", "NotFoundError", "Notification", "OutgoingAttachment", "PermissionDeniedError",
        "Recipient", "Refusal", "ResourceExhaustedError", "Results", "RowOutcome", "SearchPlan", "SendCheck",
        "Stream", "Suppression", "Thread", "UnauthenticatedError", "UnavailableError", "UnimplementedError",
        "Violation", "Watch", "channel_options", "words",
    } == set(multimail.__all__)  # fmt: skip
