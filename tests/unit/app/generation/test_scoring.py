"""Scores of sentences, against plain loops and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from app.generation.candidates import candidates, is_sentence
from app.generation.scoring import (
    ENCODED_CHARS,
    LARGEST_PENALTY,
    Closeness,
    best_matches,
    coverage,
    relative_scores,
    score,
    token_weights,
    word_rarity,
)
from app.generation.words import stems
from indexing.encoding.fake import WordEncoder
from indexing.types import TokenVectors
from tests.unit.app.generation.passages import AMAZON, NILE, library, passage

ENCODER = WordEncoder()


def tokens_of(text: str) -> TokenVectors:
    tokens = ENCODER.encode_documents([text], with_tokens=True).tokens
    assert tokens is not None
    return tokens[0]


def test_late_interaction_equals_the_plain_loops() -> None:
    question = "How long is the Nile, and does the Amazon carry water?"
    scored = score(ENCODER, question, candidates(library()))
    query = tokens_of(question)
    words = [set(stems(candidate.text)) for candidate in scored.candidates]
    weights = token_weights(question, query, word_rarity(question, words))
    for candidate, given in zip(scored.candidates, scored.scores, strict=True):
        tokens = tokens_of(candidate.text)
        late = 0.0
        for weight, vector in zip(weights, query.vectors, strict=True):
            late += weight * max(float(vector @ other) for other in tokens.vectors)
        best = max(candidate.passage.score for candidate in scored.candidates)
        assert given == pytest.approx(late + (candidate.passage.score - best) / best, abs=1e-5)


def test_the_sentence_with_the_words_asked_for_wins() -> None:
    scored = score(ENCODER, "How many square kilometres does the basin cover?", candidates(library()))
    best = scored.candidates[int(scored.scores.argmax())]
    assert best.text == "Its basin covers 7 million square kilometres."


def test_closeness_is_highest_for_the_text_itself() -> None:
    same = score(ENCODER, AMAZON, candidates([passage(AMAZON)])).closeness
    other = score(ENCODER, "Who wrote it?", candidates([passage(AMAZON)])).closeness
    assert same.confidence > 0.99 > 0.1 > other.confidence
    assert same.passage == pytest.approx(1)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1.0])
def test_confidence_is_a_share(value: float) -> None:
    assert 0 <= Closeness(sentence=value, tokens=value, passage=value).confidence <= 1


def test_rare_words_weigh_more_and_fill_words_little() -> None:
    rarity = word_rarity("Which river is long?", [{"river"}, {"river", "long"}])
    assert rarity == {"river": pytest.approx(math.log(2)), "long": pytest.approx(math.log(3))}
    question = tokens_of("Which river is long?")
    which, river, is_, long = token_weights("Which river is long?", question, rarity)
    assert which == is_ < river < long
    assert which + river + is_ + long == pytest.approx(1)
    assert coverage(rarity, [{"river"}, set()]).tolist() == [
        pytest.approx(rarity["river"] / sum(rarity.values())),
        0,
    ]


def test_a_question_without_words_weighs_its_tokens_alike() -> None:
    nothing = tokens_of("?")
    assert token_weights("?", nothing, {}).tolist() == []
    assert len(score(ENCODER, "?", candidates(library())).scores) == 7


def test_passage_scores_count_relative_to_the_best() -> None:
    made = [passage(NILE, score=score) for score in (20.0, 18.0, 1.0)]
    assert relative_scores(made).tolist() == pytest.approx([0, -0.1, -LARGEST_PENALTY])
    logits = [passage(NILE, score=score) for score in (-1.0, -1.1)]
    assert relative_scores(logits).tolist() == pytest.approx([0, -0.1 / 1.1])
    assert relative_scores([passage(NILE, score=0.0)]).tolist() == [0]


def test_only_promising_sentences_of_a_long_text_are_encoded() -> None:
    filler = " ".join(f"Sentence number {n} speaks about nothing in particular." for n in range(200))
    scored = score(ENCODER, "How long is the Nile?", candidates([passage(f"{filler} {NILE}")]))
    assert sum(len(candidate.text) for candidate in scored.candidates) <= ENCODED_CHARS
    assert "It is about 6650 kilometres long." in [candidate.text for candidate in scored.candidates]


def test_a_text_without_tokens_matches_nothing() -> None:
    query, empty = tokens_of("one two"), tokens_of("—")
    assert np.array_equal(best_matches(query, empty), np.zeros(2))


def test_overlapping_passages_give_each_sentence_once_and_whole() -> None:
    cut = [passage(NILE, 0, 70), passage(NILE, 47, len(NILE))]
    texts = [candidate.text for candidate in candidates(cut)]
    assert texts == [
        "The Nile flows north through eleven countries.",
        "It is about 6650 kilometres long.",
        "Its two main tributaries are the White Nile and the Blue Nile.",
    ]


def test_headings_are_quoted_only_where_there_is_nothing_else() -> None:
    assert [c.text for c in candidates([passage("# Rivers\n\nThe Nile is long.")])] == ["The Nile is long."]
    assert [c.text for c in candidates([passage("Refund window")])] == ["Refund window"]
    assert candidates([passage(" \n ")]) == []
    assert is_sentence("水は百度で沸騰する。")
