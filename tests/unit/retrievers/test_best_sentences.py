"""The best sentence against a loop over its tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder
from indexing.sentences import split_sentences
from indexing.types import TokenVectors
from retrievers.best_sentences import best_sentence, score_sentences

ENCODER = WordEncoder()
WORDS = st.lists(st.sampled_from(["Tea", "pot", "warm", "water", "jobs"]), min_size=1, max_size=4)
TEXTS = st.lists(WORDS, min_size=1, max_size=4).map(
    lambda sentences: " ".join(" ".join(words).capitalize() + "." for words in sentences)
)


def tokens_of(text: str) -> TokenVectors:
    tokens = ENCODER.encode_documents([text], with_tokens=True).tokens
    assert tokens is not None
    return tokens[0]


@settings(deadline=None, max_examples=40)
@given(text=TEXTS, query=WORDS.map(" ".join), heading=st.sampled_from(["", "Tea water\n"]))
def test_a_sentence_is_scored_by_its_own_tokens(text: str, query: str, heading: str) -> None:
    asked = tokens_of(query)
    scored = score_sentences(text, tokens_of(heading + text), asked, skipped=len(heading))
    assert [(sentence.start, sentence.end) for sentence in scored] == split_sentences(text)
    for sentence in scored:
        own = tokens_of(text[sentence.start : sentence.end]).vectors
        naive = [max(float(q @ d) for d in own) for q in asked.vectors]
        assert sentence.score == pytest.approx(sum(naive) / len(naive), abs=1e-5)
    best = best_sentence(text, tokens_of(heading + text), asked, skipped=len(heading))
    assert best is not None
    assert best.score == max(sentence.score for sentence in scored)


def test_the_sentence_with_the_words_of_the_query_is_the_best() -> None:
    text = "Warm the pot. Green tea wants cooler water. Jobs return to the queue."
    best = best_sentence(text, tokens_of(text), tokens_of("which tea wants water"))
    assert best is not None
    assert text[best.start : best.end] == "Green tea wants cooler water."


def test_without_tokens_there_is_no_best_sentence() -> None:
    none = TokenVectors(vectors=np.empty((0, 64), np.float32), offsets=np.empty((0, 2), np.int32))
    assert best_sentence("Warm the pot.", none, tokens_of("pot")) is None
    assert best_sentence("Warm the pot.", tokens_of("Warm the pot."), none) is None


def test_a_sentence_beyond_the_window_of_the_model_has_no_score() -> None:
    text = "Warm the pot. Green tea wants water."
    whole = tokens_of(text)
    cut = TokenVectors(vectors=whole.vectors[:3], offsets=whole.offsets[:3])
    assert [sentence.start for sentence in score_sentences(text, cut, tokens_of("tea"))] == [0]
