"""MaxSim over the token vectors that an index version keeps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder
from indexing.errors import IndexMissing
from indexing.snapshot import Snapshot
from indexing.token_codec import codec_for
from indexing.token_codes import TokenCodes
from indexing.types import Floats, TokenVectors
from indexing.version import VersionWriter, create_version
from retrievers.errors import ModeUnavailable
from retrievers.late_interaction import (
    FILL_WORD_WEIGHT,
    LateInteractionRetriever,
    maxsim,
    token_matches,
    token_weights,
)
from retrievers.types import Query
from tests.small_index import DIM, WORDS, SmallChunks, build_index, made_up_chunks, small_spec

CODEC = codec_for("made-up", DIM)
ENCODER = WordEncoder(dim=DIM)


def build_token_index(directory: Path, *batches: SmallChunks) -> Snapshot:
    """A version with the token vectors of the chunks' words, one commit a batch."""
    spec = small_spec()
    create_version(directory, replace(spec, settings={"token_codec": CODEC.name, "token_bytes": CODEC.width}))
    with VersionWriter(directory) as writer:
        for number, batch in enumerate(batches, start=1):
            made = ENCODER.encode_documents(batch.texts, with_tokens=True).tokens or ()
            tokens = TokenCodes.of([CODEC.encode(token.vectors) for token in made], CODEC.width)
            with writer.commit(change=number) as commit:
                commit.add(
                    chunk_ids=batch.chunk_ids,
                    document_ids=batch.document_ids,
                    texts=batch.texts,
                    vectors=batch.vectors,
                    tokens=tokens,
                )
    return Snapshot.open(directory)


def tokens_of(text: str) -> TokenVectors:
    made = ENCODER.encode_queries([text], with_tokens=True).tokens
    assert made is not None
    return made[0]


def naive_maxsim(query: TokenVectors, chunks: list[Floats], weights: Floats | None) -> list[float]:
    scores = []
    for chunk in chunks:
        score = 0.0
        for number, vector in enumerate(query.vectors):
            best = max((float(vector @ token) for token in chunk), default=0.0)
            score += best * (1.0 if weights is None else float(weights[number]))
        scores.append(score)
    return scores


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    batches = made_up_chunks(2500, seed=1, max_words=6), made_up_chunks(60, seed=2)
    return build_token_index(tmp_path_factory.mktemp("tokens") / "version", *batches)


@settings(deadline=None, max_examples=25)
@given(words=st.lists(st.sampled_from(WORDS), max_size=20), weighted=st.booleans(), seed=st.integers(0, 99))
def test_it_is_the_sum_of_a_loop(snapshot: Snapshot, words: list[str], weighted: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    query = tokens_of(" ".join(words))
    chunk_ids = random.choice(snapshot.chunk_ids(), 15, replace=False)
    weights = random.random(len(words), dtype=np.float32) if weighted else None
    expected = naive_maxsim(query, snapshot.token_vectors(chunk_ids), weights)
    np.testing.assert_allclose(maxsim(snapshot, query, chunk_ids, weights), expected, atol=0.02)


def test_a_chunk_that_has_the_words_comes_first(snapshot: Snapshot) -> None:
    ids = snapshot.chunk_ids()
    scores = maxsim(snapshot, tokens_of("harbour letter"), ids)
    matches = token_matches(snapshot, tokens_of("harbour letter"), ids)
    np.testing.assert_allclose(matches.sum(axis=1), scores, rtol=1e-5)
    best = snapshot.lexical.score("harbour letter", ids[scores.argmax()][None])[0]
    assert best == pytest.approx(float(snapshot.lexical.search("harbour letter", 1).scores[0]), rel=0.5)


def test_a_version_without_token_vectors_says_what_to_run(tmp_path: Path) -> None:
    chunks = made_up_chunks(10)
    without = build_index(tmp_path / "version", chunks)
    with pytest.raises(IndexMissing, match="footnote index build"):
        maxsim(without, tokens_of("river"), chunks.chunk_ids)


def test_rare_words_weigh_more_and_empty_ones_little(snapshot: Snapshot) -> None:
    text = "the river, the harbour and a zebra"
    weights = dict(
        zip(text.replace(",", "").split(), token_weights(snapshot, text, tokens_of(text)), strict=True)
    )
    assert weights["zebra"] > weights["harbour"] > weights["river"] > 0
    assert weights["the"] == pytest.approx(FILL_WORD_WEIGHT * weights["zebra"])
    frequency = float(sum(weights.values()) + weights["the"])  # "the" stands twice
    assert frequency == pytest.approx(1)


def test_a_token_that_stands_for_no_characters_weighs_the_mean(snapshot: Snapshot) -> None:
    tokens = TokenVectors(
        vectors=np.zeros((3, DIM), np.float32), offsets=np.array([[0, 5], [6, 13], [0, 0]], np.int32)
    )
    river, harbour, mask = token_weights(snapshot, "river harbour", tokens).tolist()
    assert mask == pytest.approx((river + harbour) / 2)


def test_without_any_word_all_tokens_weigh_the_same(snapshot: Snapshot) -> None:
    tokens = TokenVectors(
        vectors=np.zeros((2, DIM), np.float32), offsets=np.array([[0, 1], [1, 2]], np.int32)
    )
    assert token_weights(snapshot, "?!", tokens).tolist() == [0.5, 0.5]


def test_the_retriever_finds_the_best_of_all_chunks(snapshot: Snapshot) -> None:
    query = Query(text="harbour letter", tokens=tokens_of("harbour letter"))
    retriever = LateInteractionRetriever(snapshot)
    (hits,) = retriever.retrieve([query], 10)
    ids = snapshot.chunk_ids()
    assert [hit.score for hit in hits] == pytest.approx(
        np.sort(maxsim(snapshot, tokens_of(query.text), ids))[::-1][:10].tolist(), abs=0.02
    )
    assert all(hit.scores == {"late": hit.score} for hit in hits)
    chosen = np.array([hit.chunk_id for hit in hits], dtype=np.int64)
    assert retriever.score(query, chosen).tolist() == pytest.approx([hit.score for hit in hits])


def test_a_query_without_token_vectors_is_refused_and_one_without_tokens_finds_nothing(
    snapshot: Snapshot,
) -> None:
    retriever = LateInteractionRetriever(snapshot)
    with pytest.raises(ValueError, match="tokens"):
        retriever.retrieve([Query(text="river")], 5)
    assert retriever.retrieve([Query(text="", tokens=tokens_of(""))], 5) == [[]]


def test_the_mode_says_what_to_run_where_there_are_no_token_vectors(tmp_path: Path) -> None:
    without = build_index(tmp_path / "version", made_up_chunks(10))
    with pytest.raises(ModeUnavailable, match="footnote index build"):
        LateInteractionRetriever(without)
