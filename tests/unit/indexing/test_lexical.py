"""BM25 over the inverted index, against a naive sum, a hand sum and tantivy's own scores."""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import log
from pathlib import Path

import numpy as np
import pytest
import tantivy
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from indexing.analysis import build_analyzer
from indexing.bm25 import K1, B, coded_lengths, idf, length_code
from indexing.errors import IndexDamaged
from indexing.snapshot import Snapshot
from indexing.types import Ids
from indexing.version import VersionWriter
from tests import oracles
from tests.small_index import DIM, WORDS, SmallChunks, build_index, made_up_chunks, unit_vectors

QUERIES = (
    "river",
    "stone bridge",
    "the river and the river",
    "copper harbour letter salt",
    "engines at night",
)


def chunks_of(*texts: str) -> SmallChunks:
    n = len(texts)
    ids = np.arange(1, n + 1, dtype=np.int64)
    vectors = unit_vectors(n, DIM, np.random.default_rng(0))
    return SmallChunks(chunk_ids=ids, document_ids=ids * 10, texts=list(texts), vectors=vectors)


@pytest.fixture(scope="module")
def chunks() -> SmallChunks:
    return made_up_chunks(300, seed=3, max_words=70)


@pytest.fixture(scope="module")
def snapshot(chunks: SmallChunks, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return build_index(
        tmp_path_factory.mktemp("lexical") / "v", chunks.rows(slice(0, 200)), chunks.rows(slice(200, 300))
    )


def test_score_is_the_hand_sum(tmp_path: Path) -> None:
    # four chunks, average length 9 / 4; "river" stands in two of them, twice in the first
    snapshot = build_index(
        tmp_path / "v", chunks_of("river river stone", "river", "stone bridge", "night paper salt")
    )

    found = snapshot.lexical.search("river", 10)

    weight = log(1 + (4 - 2 + 0.5) / (2 + 0.5))
    first = weight * 2.2 * 2 / (2 + 1.2 * (0.25 + 0.75 * 3 / (9 / 4)))
    second = weight * 2.2 * 1 / (1 + 1.2 * (0.25 + 0.75 * 1 / (9 / 4)))
    assert dict(zip(found.chunk_ids.tolist(), found.scores.tolist(), strict=True)) == pytest.approx(
        {1: first, 2: second}, rel=1e-6
    )
    assert snapshot.lexical.contributions("river stone", 1) == pytest.approx(
        {"river": first, "stone": weight * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / (9 / 4)))}
    )


@pytest.mark.parametrize("text", QUERIES)
@pytest.mark.parametrize("limit", [1, 7, 100, 1000])
def test_search_gives_the_order_of_a_naive_sum(
    snapshot: Snapshot, chunks: SmallChunks, text: str, limit: int
) -> None:
    scores = oracles.bm25(chunks, text)
    expected = oracles.ranked(chunks, scores)[: min(limit, int((scores > 0).sum()))]

    found = snapshot.lexical.search(text, limit)

    assert found.chunk_ids.tolist() == expected
    by_id = dict(zip(chunks.chunk_ids.tolist(), scores, strict=True))
    np.testing.assert_allclose(found.scores, [by_id[chunk_id] for chunk_id in expected], rtol=1e-6)


@pytest.mark.parametrize("text", QUERIES)
def test_score_agrees_with_search_and_is_zero_without_a_term(
    snapshot: Snapshot, chunks: SmallChunks, text: str
) -> None:
    found = snapshot.lexical.search(text, 1000)
    expected = dict(zip(found.chunk_ids.tolist(), found.scores.tolist(), strict=True))

    scores = snapshot.lexical.score(text, chunks.chunk_ids)

    assert scores.tolist() == [expected.get(chunk_id, 0.0) for chunk_id in chunks.chunk_ids.tolist()]


def test_contributions_add_up_to_the_score(snapshot: Snapshot) -> None:
    found = snapshot.lexical.search("stone bridge river", 5)
    for chunk_id, score in zip(found.chunk_ids.tolist(), found.scores, strict=True):
        assert sum(snapshot.lexical.contributions("stone bridge river", chunk_id).values()) == pytest.approx(
            float(score)
        )


def test_scores_are_those_of_tantivy_where_nothing_was_deleted(
    snapshot: Snapshot, chunks: SmallChunks
) -> None:
    schema = (
        tantivy.SchemaBuilder()
        .add_integer_field("id", fast=True)
        .add_text_field("text", tokenizer_name="a")
        .build()
    )
    index = tantivy.Index(schema)
    index.register_tokenizer("a", build_analyzer())
    writer = index.writer(heap_size=15_000_000, num_threads=1)
    for chunk_id, text in zip(chunks.chunk_ids.tolist(), chunks.texts, strict=True):
        writer.add_document(tantivy.Document(id=chunk_id, text=text))
    writer.commit()
    index.reload()
    searcher = index.searcher()
    hits = searcher.search(index.parse_query("stone bridge salt", ["text"]), limit=300).hits
    ids = np.array(searcher.fast_field_values("id", [address for _, address in hits]))

    np.testing.assert_allclose(
        snapshot.lexical.score("stone bridge salt", ids), [score for score, _ in hits], rtol=1e-5
    )


def test_scores_are_those_of_rank_bm25_with_the_same_numbers(snapshot: Snapshot, chunks: SmallChunks) -> None:
    analyzer = build_analyzer()
    short = [row for row, text in enumerate(chunks.texts) if len(text.split()) < 40]  # lengths kept exactly
    tokens = [analyzer.analyze(text) for text in chunks.texts]
    other = BM25Okapi(tokens, k1=K1, b=B)
    frequencies = Counter(term for words in tokens for term in set(words))
    other.idf = {term: idf(len(tokens), frequency) for term, frequency in frequencies.items()}
    for text in QUERIES:
        np.testing.assert_allclose(
            snapshot.lexical.score(text, chunks.chunk_ids[short]),
            other.get_scores(analyzer.analyze(text))[short],
            rtol=1e-6,
        )


@pytest.mark.parametrize("text", ["", "the of and", "zebra", "?!", "\x00", "x" * 500])
def test_a_query_without_a_known_term_finds_nothing(
    snapshot: Snapshot, chunks: SmallChunks, text: str
) -> None:
    assert len(snapshot.lexical.search(text, 10)) == 0
    assert not snapshot.lexical.score(text, chunks.chunk_ids).any()


def test_a_chunk_that_is_not_there_has_no_score(snapshot: Snapshot) -> None:
    with pytest.raises(KeyError):
        snapshot.lexical.score("river", np.array([-5]))


def test_a_long_query_is_served(snapshot: Snapshot, chunks: SmallChunks) -> None:
    text = " ".join(f"{word} nonsense{number}" for number, word in enumerate(WORDS * 30))
    expected = oracles.ranked(chunks, oracles.bm25(chunks, " ".join(WORDS * 30)))[:5]
    assert snapshot.lexical.search(text, 5).chunk_ids.tolist() == expected


def test_ties_at_the_border_go_to_the_lower_chunk_id(tmp_path: Path) -> None:
    n = 500
    equal = chunks_of(*["salt and copper"] * n)
    order = np.random.default_rng(0).permutation(n)
    snapshot = build_index(tmp_path / "v", equal.rows(order[:300]), equal.rows(order[300:]))
    assert snapshot.lexical.search("copper", 10).chunk_ids.tolist() == list(range(1, 11))


@settings(deadline=None, max_examples=60)
@given(allowed=st.sets(st.integers(0, 70)), text=st.sampled_from(QUERIES), limit=st.integers(1, 60))
def test_a_filter_is_kept_exactly(
    snapshot: Snapshot, chunks: SmallChunks, allowed: set[int], text: str, limit: int
) -> None:
    documents: Ids = np.array(sorted(3000 + number for number in allowed), dtype=np.int64)
    scores = oracles.bm25(chunks, text)
    matching = set(chunks.chunk_ids[scores > 0].tolist())
    expected = [i for i in oracles.ranked(chunks, scores, allowed=documents) if i in matching][:limit]

    found = snapshot.lexical.search(text, limit, snapshot.select(documents))

    assert found.chunk_ids.tolist() == expected


@settings(deadline=None, max_examples=15)
@given(
    sizes=st.lists(st.integers(1, 120), min_size=1, max_size=6),
    n_removed=st.integers(0, 40),
    share=st.floats(0, 1),
    text=st.sampled_from(QUERIES),
    seed=st.integers(0, 1000),
)
def test_any_history_gives_what_scoring_every_chunk_gives(
    sizes: list[int], n_removed: int, share: float, text: str, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    everything = made_up_chunks(sum(sizes), seed=seed, max_words=8)
    bounds = np.cumsum([0, *sizes])
    documents = np.unique(everything.document_ids)
    removed = np.sort(rng.choice(documents, min(n_removed, len(documents) - 1), replace=False))
    left = everything.rows(~np.isin(everything.document_ids, removed))
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder) / "v"
        build_index(directory, *(everything.rows(slice(a, b)) for a, b in pairwise(bounds)))
        with VersionWriter(directory) as writer, writer.commit(change=100) as commit:
            commit.replace_documents(removed)
        lexical = (snapshot := Snapshot.open(directory)).lexical
        scores = lexical.score(text, left.chunk_ids)
        np.testing.assert_allclose(scores, oracles.bm25(left, text), rtol=1e-6)

        allowed = np.sort(rng.choice(documents, int(share * len(documents)), replace=False))
        for selection, wanted in (
            (None, documents),
            (snapshot.select(allowed), allowed),
        ):
            matching = left.rows((scores > 0) & np.isin(left.document_ids, wanted))
            expected = oracles.ranked(matching, lexical.score(text, matching.chunk_ids))
            for limit in (1, 2, 3, 10, len(everything), 10**6):
                found = lexical.search(text, limit, selection)
                assert found.chunk_ids.tolist() == expected[:limit]
                assert found.scores.tolist() == lexical.score(text, found.chunk_ids).tolist()


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, SmallChunks]:
    """So many rows, with so few different texts, that limits are far below the number of equal scores."""
    chunks = made_up_chunks(20_000, seed=21, max_words=5, per_document=1)
    directory = tmp_path_factory.mktemp("many") / "v"
    return build_index(directory, chunks.rows(slice(0, 13_000)), chunks.rows(slice(13_000, None))), chunks


@pytest.mark.parametrize("n_allowed", [0, 1, 30, 1000, 10_000, 19_999, 20_000])
@pytest.mark.parametrize("text", QUERIES)
def test_ties_and_limits_among_many(many: tuple[Snapshot, SmallChunks], text: str, n_allowed: int) -> None:
    snapshot, chunks = many
    allowed = np.sort(np.random.default_rng(n_allowed).choice(chunks.document_ids, n_allowed, replace=False))
    scores = snapshot.lexical.score(text, chunks.chunk_ids)
    matching = (scores > 0) & np.isin(chunks.document_ids, allowed)
    order = np.lexsort((chunks.chunk_ids[matching], -scores[matching]))
    for limit in (1, 100, 203, 204, 5000, 20_000):
        found = snapshot.lexical.search(text, limit, snapshot.select(allowed))
        np.testing.assert_array_equal(found.chunk_ids, chunks.chunk_ids[matching][order[:limit]])
        np.testing.assert_array_equal(found.scores, scores[matching][order[:limit]])


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, SmallChunks]:
    """Common words in most rows, and some words in few of them, often twice with equal scores."""
    chunks = made_up_chunks(12_000, seed=31, max_words=9, per_document=1)
    rng = np.random.default_rng(0)
    for word, n in (("zebra", 1), ("yak", 12), ("walrus", 90), ("vole", 700)):
        for row in rng.choice(len(chunks), n, replace=False):
            chunks.texts[row] += f" {word}"
    directory = tmp_path_factory.mktemp("uneven") / "v"
    build_index(directory, chunks.rows(slice(0, 9000)), chunks.rows(slice(9000, None)))
    gone = np.sort(rng.choice(chunks.document_ids, 500, replace=False))
    with VersionWriter(directory) as writer, writer.commit(change=3) as commit:
        commit.replace_documents(gone)
    return Snapshot.open(directory), chunks.rows(~np.isin(chunks.document_ids, gone))


@settings(deadline=None, max_examples=60)
@given(
    words=st.lists(st.sampled_from(["zebra", "yak", "walrus", "vole", *WORDS[:4]]), min_size=1, max_size=7),
    limit=st.sampled_from([1, 5, 20, 100, 1000]),
    n_allowed=st.sampled_from([None, 10, 600, 6000]),
)
def test_rare_words_beside_common_ones(
    uneven: tuple[Snapshot, SmallChunks], words: list[str], limit: int, n_allowed: int | None
) -> None:
    snapshot, chunks = uneven
    text, selection = " ".join(words), None
    scores = snapshot.lexical.score(text, chunks.chunk_ids)
    matching = scores > 0
    if n_allowed is not None:
        allowed = np.sort(np.random.default_rng(1).choice(chunks.document_ids, n_allowed, replace=False))
        matching &= np.isin(chunks.document_ids, allowed)
        selection = snapshot.select(allowed)
    order = np.lexsort((chunks.chunk_ids[matching], -scores[matching]))[:limit]

    found = snapshot.lexical.search(text, limit, selection)

    np.testing.assert_array_equal(found.chunk_ids, chunks.chunk_ids[matching][order])
    np.testing.assert_array_equal(found.scores, scores[matching][order])


def test_a_count_beyond_255_counts_as_255(tmp_path: Path) -> None:
    long = "salt " * 255 + "copper " * 745
    longer = "salt " * 300 + "copper " * 700
    snapshot = build_index(tmp_path / "v", chunks_of(long, longer, "stone", "river", "salt"))
    first, second = snapshot.lexical.score("salt", np.array([1, 2]))
    assert first == second > 0


def test_deleted_chunks_do_not_count(tmp_path: Path) -> None:
    chunks = made_up_chunks(3000, seed=8)
    directory = tmp_path / "v"
    build_index(directory, chunks)
    gone = np.unique(chunks.document_ids)[:30]
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(gone)
    left = chunks.rows(~np.isin(chunks.document_ids, gone))
    snapshot, fresh = Snapshot.open(directory), build_index(tmp_path / "fresh", left)
    for text in QUERIES:
        found, expected = (index.lexical.search(text, 3000) for index in (snapshot, fresh))
        assert found.chunk_ids.tolist() == expected.chunk_ids.tolist()
        assert found.scores.tolist() == expected.scores.tolist()


def test_postings_that_point_to_no_row_are_damage(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    rows = (
        build_index(directory, chunks_of("salt", "salt copper")).segments.segments[0].postings.rows.tobytes()
    )
    (path,) = directory.glob("segment-*/postings.col")
    data = path.read_bytes()
    path.write_bytes(data.replace(rows, b"\xff" * len(rows)))
    with pytest.raises(IndexDamaged, match="postings"):
        Snapshot.open(directory).lexical.search("salt", 5)


def test_damage_is_found_where_chunks_are_deleted_too(tmp_path: Path) -> None:
    directory = tmp_path / "v"
    chunks = made_up_chunks(3000, seed=8)
    rows = build_index(directory, chunks).segments.segments[0].postings.rows.tobytes()
    with VersionWriter(directory) as writer, writer.commit(change=2) as commit:
        commit.replace_documents(chunks.document_ids[:1])
    (path,) = directory.glob("segment-*/postings.col")
    path.write_bytes(path.read_bytes().replace(rows, b"\xff" * len(rows)))
    with pytest.raises(IndexDamaged, match="postings"):
        Snapshot.open(directory).lexical.search("salt", 5)


def test_threads_get_the_same(snapshot: Snapshot) -> None:
    expected = [snapshot.lexical.search(text, 20).chunk_ids.tolist() for text in QUERIES]
    with ThreadPoolExecutor(8) as threads:
        runs = threads.map(lambda text: snapshot.lexical.search(text, 20).chunk_ids.tolist(), QUERIES * 40)
    assert list(runs) == expected * 40


@settings(deadline=None)
@given(st.integers(0, 2**31))
def test_coded_length_is_the_largest_code_below(length: int) -> None:
    codes = length_code(np.array([length]))
    assert coded_lengths()[codes].tolist() == [oracles.coded_length(length)]
