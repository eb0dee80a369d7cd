"""Labels of a list for a text, against the formula."""

from __future__ import annotations

from collections.abc import Sequence
from math import e, log

import numpy as np
import pytest

from indexing.analysis import build_analyzer
from indexing.bm25 import idf
from indexing.encoding.fake import WordEncoder
from retrievers.labels import Label, LabelSpace, encode_inferred, infer_terms, key_terms

ENCODER = WordEncoder()
TERMS_OF = build_analyzer().analyze
LABELS = (
    Label(name="hot drinks", description="tea and coffee"),
    Label(name="drinks", prior=0.5),
    Label(name="queues of jobs"),
    Label(name="bridges"),
)
TEXT = "The worker takes jobs from queues. Tea is one of the drinks. The worker renews leases of jobs it has."


def rarity(words: Sequence[str]) -> list[float]:
    return [0.0 if word in ("the", "is", "of", "it", "one") else 2.0 for word in words]


def test_a_score_is_that_of_the_formula() -> None:
    space = LabelSpace(LABELS, ENCODER, TERMS_OF, prior_weight=3.0)
    inferred = encode_inferred(["jobs worker", "tea drinks"], TEXT, ENCODER, TERMS_OF)
    found = {item.label.name: item for item in space.retrieve(inferred, 10)}
    assert len(found) == len(LABELS)
    terms = {label.name: set(TERMS_OF(label.text)) for label in LABELS}
    for label in LABELS:
        vector = ENCODER.encode_documents([label.text]).vectors[0]
        cosines = [float(vector @ ENCODER.encode_documents([term]).vectors[0]) for term in inferred.terms]
        weights = {t: idf(len(LABELS), sum(t in own for own in terms.values())) for t in terms[label.name]}
        lexical = sum(w for t, w in weights.items() if t in TERMS_OF(TEXT)) / sum(weights.values())
        item = found[label.name]
        assert item.dense == pytest.approx(max(cosines), abs=1e-5)
        assert item.lexical == pytest.approx(lexical)
        assert item.evidence == inferred.terms[int(np.argmax(cosines))]
        assert item.score == pytest.approx(
            (max(cosines) + 0.25 * lexical) * log(3 * label.prior + e), abs=1e-5
        )


def test_the_best_label_comes_first_and_is_one_of_the_list() -> None:
    space = LabelSpace(LABELS, ENCODER, TERMS_OF)
    inferred = encode_inferred(infer_terms(TEXT, rarity), TEXT, ENCODER, TERMS_OF)
    found = space.retrieve(inferred, 2)
    assert len(found) == 2
    assert found[0].score >= found[1].score
    assert {item.label for item in found} <= set(LABELS)


def test_what_sets_a_text_apart_is_inferred_without_a_model() -> None:
    assert [word for word, _ in key_terms(TEXT, rarity)][:2] == ["jobs", "worker"]
    terms = infer_terms(TEXT, rarity, title="Queues")
    assert terms[0] == "Queues"
    assert terms[1].startswith("jobs worker")
    assert all(term in TEXT for term in terms[2:])
    assert infer_terms("", rarity) == []


def test_a_list_without_labels_or_with_one_twice_is_refused() -> None:
    for labels in ([], [Label(name="tea"), Label(name="tea")]):
        with pytest.raises(ValueError, match="each once"):
            LabelSpace(labels, ENCODER, TERMS_OF)
