"""Ids as they are shown outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import NotFound
from app.ids import format_id, parse_id


@given(st.integers(0, 2**63 - 1))
def test_what_is_shown_is_read_back(number: int) -> None:
    shown = format_id(number)
    assert len(shown) == 16
    assert parse_id(shown, "document") == number
    assert parse_id(shown.upper(), "document") == number


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ff",
        "0" * 15,
        "0" * 17,
        "g" * 16,
        "8" + "0" * 15,
        "-" + "0" * 15,
        "0x" + "0" * 14,
        "../../etc/passwd",
        "+00000000000000f",
        "0000_0000_0000_f",
        " 00000000000000f",
        "٠" * 16,
    ],
)
def test_anything_else_is_not_found_by_name(text: str) -> None:
    with pytest.raises(NotFound, match="16 hexadecimal digits") as error:
        parse_id(text, "chunk")
    assert error.value.code == "chunk_not_found"
