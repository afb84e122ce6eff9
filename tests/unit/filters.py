"""What a refused filter says."""

from __future__ import annotations

from typing import Any

import pytest

from multimail_server.aip.filtering import parse
from multimail_server.errors import DomainError, Reason, Violation


def refusal(text: str, check: Any = parse) -> Violation:
    """The one violation of a filter that is refused."""
    with pytest.raises(DomainError) as refused:
        check(text)
    assert Reason.INVALID_FILTER == refused.value.reason
    (violation,) = refused.value.violations
    assert "filter" == violation.field
    return violation
