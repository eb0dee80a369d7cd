"""n-gram retrieval against reading every text."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from math import log

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tantivy import TextAnalyzerBuilder, Tokenizer

from indexing.analysis import build_analyzer
from indexing.snapshot import Snapshot
from indexing.types import ChunkId
from indexing.words import words_of
from retrievers.ngram import NgramRetriever
from retrievers.ngrams import find, ngrams_of
from retrievers.types import Query
from tests.small_index import SmallChunks, build_index, unit_vectors

WORDS = ("the", "hot", "tea", "pot", "pots", "of", "warm", "leaf")
ANALYZER = build_analyzer()


def made_up_texts(n: int, seed: int) -> SmallChunks:
    rng = np.random.default_rng(seed)
    texts = [" ".join(rng.choice(WORDS, size=rng.integers(1, 9))) for _ in range(n)]
    return SmallChunks(
        chunk_ids=rng.permutation(n).astype(np.int64) + 1000 * seed,
        document_ids=np.arange(n, dtype=np.int64) // 4 + 1000 * seed,
        texts=texts,
        vectors=unit_vectors(n, 8, rng),
    )


FIRST, SECOND = made_up_texts(300, 1), made_up_texts(60, 2)
TEXTS = {
    ChunkId(key): text
    for chunks in (FIRST, SECOND)
    for key, text in zip(chunks.chunk_ids.tolist(), chunks.texts, strict=True)
}
DOCUMENT_OF = {
    key: document
    for chunks in (FIRST, SECOND)
    for key, document in zip(chunks.chunk_ids.tolist(), chunks.document_ids.tolist(), strict=True)
}


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Snapshot]:
    with build_index(tmp_path_factory.mktemp("ngram") / "v", FIRST, SECOND) as opened:
        yield opened


def retriever_of(snapshot: Snapshot) -> NgramRetriever:
    return NgramRetriever(snapshot, lambda keys: [TEXTS[key] for key in keys])


def naive(query: str, allowed: set[int] | None = None) -> list[tuple[int, float]]:
    """(chunk id, score) of every hit, best first: all n-grams looked for in all texts."""
    quoted = [tuple(re.findall(r"\w+", part.lower())) for part in re.findall(r'"([^"]*)"', query)]
    quoted = [words for words in quoted if words]
    keys = dict.fromkeys(quoted, True)
    for words in [*quoted, *(tuple(re.findall(r"\w+", part.lower())) for part in query.split('"')[::2])]:
        for size in range(1, 6):
            for start in range(len(words) - size + 1):
                gram = words[start : start + size]
                if ANALYZER.analyze(gram[0]) and ANALYZER.analyze(gram[-1]):
                    keys.setdefault(gram, False)
    weights = {}
    for gram in keys:
        terms = set(ANALYZER.analyze(" ".join(gram)))
        n_with = sum(terms <= set(ANALYZER.analyze(text)) for text in TEXTS.values())
        share = (n_with + 0.5) / (len(TEXTS) + 1)
        weights[gram] = max(0.0, log((1 - share) / share)) ** 2 if terms else 0.0
    hits = []
    for chunk_id, text in TEXTS.items():
        if allowed is not None and DOCUMENT_OF[chunk_id] not in allowed:
            continue
        padded = f" {text} "
        terms = set(ANALYZER.analyze(text))
        found = [
            gram
            for gram, required in keys.items()
            if (f" {' '.join(gram)} " in padded)
            or (len(gram) == 1 and not required and set(ANALYZER.analyze(gram[0])) <= terms)
        ]
        if any(gram not in found for gram, required in keys.items() if required):
            continue
        score, covered = 0.0, set()
        for gram in sorted(found, key=lambda gram: (-weights[gram], gram)):
            score += weights[gram] * (0.2 + 0.8 * len(set(gram) - covered) / len(set(gram)))
            covered |= set(gram)
        if score > 0 or any(keys.values()):
            hits.append((chunk_id, score))
    return sorted(hits, key=lambda hit: (-np.float32(hit[1]), hit[0]))


WORD = st.sampled_from([*WORDS, "zebra"])
FREE = st.lists(WORD, max_size=6).map(" ".join)
QUERIES = st.lists(st.tuples(st.booleans(), FREE), min_size=1, max_size=3).map(
    lambda parts: " ".join(f'"{text}"' if quoted else text for quoted, text in parts)
)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=QUERIES, top_k=st.integers(1, 400), allowed=st.none() | st.sets(st.integers(0, 100)))
def test_the_hits_are_those_of_reading_all_texts(
    snapshot: Snapshot, query: str, top_k: int, allowed: set[int] | None
) -> None:
    documents = None if allowed is None else {document + 1000 for document in allowed}
    ids = None if documents is None else np.array(sorted(documents), dtype=np.int64)
    (hits,) = retriever_of(snapshot).retrieve([Query(text=query, allowed_documents=ids)], top_k)
    expected = naive(query, documents)[:top_k]
    assert [hit.chunk_id for hit in hits] == [chunk_id for chunk_id, _ in expected]
    np.testing.assert_allclose([hit.score for hit in hits], [score for _, score in expected], rtol=1e-5)


def test_what_is_quoted_stands_in_every_hit_word_for_word(snapshot: Snapshot) -> None:
    (hits,) = retriever_of(snapshot).retrieve([Query(text='warm "pot of the" tea')], 1000)
    assert {hit.chunk_id for hit in hits} == {
        key for key, text in TEXTS.items() if " pot of the " in f" {text} "
    }
    assert hits


def test_few_texts_are_read(snapshot: Snapshot) -> None:
    read: list[ChunkId] = []

    def texts(keys: Sequence[ChunkId]) -> list[str]:
        read.extend(keys)
        return [TEXTS[key] for key in keys]

    NgramRetriever(snapshot, texts).retrieve([Query(text="leaf pots warm tea")], 3)
    assert 0 < len(read) < len(TEXTS) / 2
    read.clear()
    NgramRetriever(snapshot, texts).retrieve([Query(text="leaf")], 3)
    assert read == [], "the postings of one word say all"


def test_a_query_of_more_terms_than_a_row_has_bits_is_answered(snapshot: Snapshot) -> None:
    long = " ".join(f"word{number}" for number in range(100))
    (hits,) = retriever_of(snapshot).retrieve([Query(text=f'leaf {long} "hot tea"')], 1000)
    assert {hit.chunk_id for hit in hits} == {
        key for key, text in TEXTS.items() if " hot tea " in f" {text} "
    }


def test_matches_have_their_places() -> None:
    text = "Pots, and the POT of tea; the pot of tea!"
    found = find(ngrams_of('"pot of tea" pot', ANALYZER.analyze), text, ANALYZER.analyze)
    shown = {(match.ngram.text, text[match.start : match.end]) for match in found}
    assert shown == {
        ("pot of tea", "POT of tea"),
        ("pot of tea", "pot of tea"),
        ("pot", "Pots"),
        ("pot", "POT"),
        ("pot", "pot"),
        ("tea", "tea"),
    }


def test_a_quotation_mark_without_its_pair_is_no_quotation() -> None:
    assert not any(ngram.required for ngram in ngrams_of('the 12" record', ANALYZER.analyze))
    assert any(ngram.required for ngram in ngrams_of("a “record” player", ANALYZER.analyze))


def test_what_the_analyzer_keeps_together_lies_within_one_word() -> None:
    tokenizer = TextAnalyzerBuilder(Tokenizer.simple()).build()
    letters = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    kept = set("".join(tokenizer.analyze(" ".join(letters))))
    assert kept <= {letter for word in letters for letter in word if words_of(word)}
