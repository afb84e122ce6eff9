"""The job that removes the files of mail: of one that was never accepted, or of an erased person's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

Document = dict[str, Any]


def removal(account: str, email_id: str, files: Sequence[str], due_at: datetime) -> Document:
    """The job that removes files which no mail refers to any more, or never will."""
    return {
        "_id": removal_id(account, email_id),
        "account": account,
        "type": "remove_files",
        "files": list(files),
        "due_at": due_at,
    }


def removal_id(account: str, email_id: str) -> str:
    """The id of that job."""
    return f"remove_files/{account}/{email_id}"
