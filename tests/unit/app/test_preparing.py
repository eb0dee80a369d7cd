"""Chunks with ids of their own, pages, and vectors that are made once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.db import collections, loaded_texts
from app.db.chunks import ChunkText
from app.errors import InvalidRequest
from app.services import Services, fitting_chunker
from app.settings import ChunkerSettings
from app.versions.preparing import chunk_missing, chunks_of, encode_missing, page_at, vectors_of
from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.fake import WordEncoder
from indexing.types import Chunk, LoadedText, Page, text_hash
from tests.encoders import CountingEncoder
from tests.unit.app.texts import PAGES, ingest

TEXT = "".join(f"Paragraph {n} speaks of matter {n} at some length, as it should.\n\n" for n in range(20))
SPEC = ChunkerSpec(max_tokens=40, overlap_tokens=8, min_tokens=10)


def chunker(spec: ChunkerSpec = SPEC) -> Chunker:
    return Chunker(spec, WordEncoder().count_tokens)


def cut(
    text: str = TEXT, *, document_id: int = 7, title: str | None = "T", spec: ChunkerSpec = SPEC
) -> list[Chunk]:
    return chunks_of(document_id, LoadedText(text=text), title, chunker(spec))


def test_chunks_are_slices_in_order_with_ids_of_their_own() -> None:
    chunks = cut()
    assert len(chunks) > 5
    assert all(TEXT[chunk.start : chunk.end] == chunk.text for chunk in chunks)
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert all(0 < chunk.id < 2**63 for chunk in chunks)
    assert {chunk.heading_path for chunk in chunks} == {("T",)}


def test_the_same_text_gives_the_same_ids() -> None:
    assert [chunk.id for chunk in cut()] == [chunk.id for chunk in cut()]


@pytest.mark.parametrize(
    "other",
    [
        cut(document_id=8),
        cut(title="Another"),
        cut(spec=ChunkerSpec(max_tokens=40, overlap_tokens=7, min_tokens=10)),
        cut("x" + TEXT),
        cut(TEXT.replace("matter", "subject")),
    ],
    ids=["document", "title", "chunker", "place", "text"],
)
def test_each_thing_that_makes_a_chunk_changes_its_id(other: list[Chunk]) -> None:
    assert not {chunk.id for chunk in cut()} & {chunk.id for chunk in other}


def test_a_change_at_the_end_leaves_the_chunks_at_the_beginning() -> None:
    before, after = cut(), cut(TEXT.replace("Paragraph 19", "The last one"))
    assert [chunk.id for chunk in before[:3]] == [chunk.id for chunk in after[:3]]
    assert before[-1].id != after[-1].id


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 9)), max_size=8), st.integers(0, 120))
def test_a_character_is_on_the_last_page_that_begins_before_it(sizes: list[tuple[int, int]], at: int) -> None:
    pages, start = [], 0
    for number, (gap, length) in enumerate(sizes, start=1):
        pages.append(Page(page=number, start=start + gap, end=start + gap + length))
        start += gap + length
    begun = [page.page for page in pages if page.start <= at]
    expected = begun[-1] if begun else (1 if pages else None)
    assert page_at(pages, at) == expected


def test_a_chunk_has_the_page_it_begins_on() -> None:
    half = TEXT.index("Paragraph 10")
    pages = (Page(page=4, start=0, end=half), Page(page=5, start=half, end=len(TEXT)))
    chunks = chunks_of(7, LoadedText(text=TEXT, pages=pages), None, chunker())
    assert [chunk.page for chunk in chunks] == [4 if chunk.start < half else 5 for chunk in chunks]


def test_a_text_is_encoded_once(services: Services) -> None:
    encoder = CountingEncoder()
    texts = {text_hash(text): text for text in ("red apple", "green apple")}
    said: list[tuple[int, int]] = []
    assert encode_missing(services, encoder, texts, lambda done, total: said.append((done, total))) == 2
    assert said == [(2, 2)]
    texts[text_hash("blue sky")] = "blue sky"
    assert encode_missing(services, encoder, texts) == 1
    assert encode_missing(services, encoder, texts) == 0
    assert encoder.n_documents == 3
    assert encode_missing(services, CountingEncoder(dim=32), texts) == 3, "another encoder, other vectors"


def test_vectors_come_in_the_order_asked_for_and_what_lacks_is_made(services: Services) -> None:
    encoder = CountingEncoder()
    chunks = cut()
    kept = encoder.encode_documents([chunks[0].contextual_text]).vectors[0].astype("<f2").tobytes()
    entries = [
        ChunkText(
            chunk_id=chunk.id,
            document_id=chunk.document_id,
            text_hash=text_hash(chunk.contextual_text),
            text=chunk.contextual_text,
            vector=kept if n == 0 else None,
        )
        for n, chunk in enumerate(chunks)
    ]
    encoder.n_documents = 0
    vectors = vectors_of(services, encoder, list(reversed(entries)))
    assert encoder.n_documents == len(chunks) - 1
    expected = encoder.encode_documents([chunk.contextual_text for chunk in reversed(chunks)]).vectors
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(vectors, expected, atol=1e-3)  # kept as float16


def test_kept_texts_are_cut_for_another_chunker_and_only_once(services: Services) -> None:
    ids = list(ingest(services, PAGES).values())
    fine = chunker(ChunkerSpec(max_tokens=16, overlap_tokens=2, min_tokens=4))
    with services.read() as session:
        assert sorted(loaded_texts.without_chunks(session, ids, fine.spec.fingerprint)) == sorted(ids)
        changes = collections.get_by_name(session, "default").change_number
    for _ in range(2):
        chunk_missing(services, ids, fine)
    with services.read() as session:
        assert loaded_texts.without_chunks(session, ids, fine.spec.fingerprint) == []
        assert collections.get_by_name(session, "default").change_number == changes, (
            "nothing that is served changed"
        )


@pytest.mark.parametrize(
    ("given", "window", "expected"),
    [
        ({}, 8192, ChunkerSpec()),
        ({}, 64, ChunkerSpec(max_tokens=64, overlap_tokens=16, min_tokens=16)),
        ({"max_tokens": 64}, 64, ChunkerSpec(max_tokens=64, overlap_tokens=16, min_tokens=16)),
        (
            {"max_tokens": 64, "overlap_tokens": 0},
            256,
            ChunkerSpec(max_tokens=64, overlap_tokens=0, min_tokens=16),
        ),
    ],
    ids=["a wide window", "a narrow window", "as wide as set", "all set"],
)
def test_the_chunker_fits_the_window(given: dict[str, int], window: int, expected: ChunkerSpec) -> None:
    spec = fitting_chunker(ChunkerSettings(**given), window)
    assert spec.max_tokens <= window
    assert (spec.max_tokens, spec.overlap_tokens) == (
        expected.max_tokens,
        min(expected.overlap_tokens, expected.max_tokens // 4),
    )
    assert spec.min_tokens <= spec.max_tokens // 4


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"max_tokens": 257}, "chunk_too_long"),
        ({"max_tokens": 64, "overlap_tokens": 64}, "invalid_chunker"),
    ],
)
def test_what_would_be_cut_silently_is_refused(given: dict[str, int], code: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        fitting_chunker(ChunkerSettings(**given), 256)
    assert error.value.code == code
