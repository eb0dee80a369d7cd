from __future__ import annotations

import json
from pathlib import Path

import pytest

from indexing.errors import LoadError
from indexing.loaders.canonical import loaded_text
from indexing.loaders.wire import FRAME, decode_answer, encode_answer, encode_error
from indexing.types import Block, Heading, LoadedText, Page


def parts(frame: bytes) -> tuple[bytes, bytes]:
    n_header, n_text = FRAME.unpack_from(frame)
    assert len(frame) == FRAME.size + n_header + n_text
    return frame[FRAME.size : FRAME.size + n_header], frame[FRAME.size + n_header :]


def test_text_comes_back_as_it_went() -> None:
    loaded = loaded_text(
        "Ünï\n\ncode",
        title="Títle",
        metadata={"n": 1, "tags": ["a", "b"]},
        pages=[Page(page=1, start=0, end=9)],
        headings=[Heading(level=1, title="Ünï", start=0, end=3)],
        blocks=[Block(kind="code", start=5, end=9)],
    )
    assert decode_answer(*parts(b"".join(encode_answer(loaded)))) == loaded


def test_error_comes_back_as_it_went() -> None:
    with pytest.raises(LoadError, match="locked") as caught:
        decode_answer(*parts(encode_error(LoadError("encrypted_file", "locked"))))
    assert caught.value.code == "encrypted_file"


def header(**changes: object) -> bytes:
    fields: dict[str, object] = {"title": None, "metadata": {}, "pages": [], "headings": [], "blocks": []}
    return json.dumps(fields | changes).encode()


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"no json", b"x"),
        (b"[1]", b"x"),
        (header(), b"\xff"),
        (header(), b"  "),
        (header(), b"nul \0"),
        (header(title=7), b"x"),
        (header(metadata={"a": {"b": 1}}), b"x"),
        (header(metadata={"a": [1]}), b"x"),
        (header(pages=[[1]]), b"x"),
        (header(blocks=[["program", 0, 1]]), b"x"),
        (b'{"error": "no_such_code", "detail": ""}', b""),
        (b'{"error": "corrupt_file"}', b""),
    ],
)
def test_answer_of_a_child_gone_wild_is_a_crash(answer: bytes, text: bytes) -> None:
    with pytest.raises(LoadError) as caught:
        decode_answer(answer, text)
    assert caught.value.code == "loader_crashed"


def test_spans_outside_the_text_are_left_out() -> None:
    loaded = decode_answer(header(blocks=[["code", -5, 99], ["list", 50, 60]]), b"text")
    assert loaded == LoadedText(text="text", blocks=(Block(kind="code", start=0, end=4),))


def test_no_pickle_is_read() -> None:
    source = Path(__file__).parents[4] / "indexing" / "loaders"
    for module in source.glob("*.py"):
        assert "import pickle" not in module.read_text()
