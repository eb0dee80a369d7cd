"""Labels of a user's own list for a text: infer terms, retrieve labels, rank them.

Infer–Retrieve–Rank: D'Oosterlinck et al. 2024, https://arxiv.org/abs/2401.12178. Terms are inferred from the
text, each leads to labels of the list, and the labels found are ranked anew; so whatever is inferred, only
labels of the list come out.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import e, log

from indexing.bm25 import idf
from indexing.encoding.base import Encoder
from indexing.sentences import split_sentences
from indexing.types import Floats
from indexing.words import words_of

PRIOR_WEIGHT = 1.0
LEXICAL_WEIGHT = 0.25
"""The best of those tried in benchmarks/labels.py; the dense score weighs 1."""

THRESHOLD = 0.4
"""Where precision and recall met there, for a label without a prior."""

N_SENTENCES = 4
N_TERMS = 8
_LETTER = re.compile(r"[^\W\d_]")

TermsOf = Callable[[str], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A label; its description helps to find it. `prior` is the share of documents that bear it, if known."""

    name: str
    description: str = ""
    prior: float = 0.0

    @property
    def text(self) -> str:
        return f"{self.name}: {self.description}" if self.description else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelScore:
    """`evidence` is the inferred term that is nearest to the label, and `dense` their cosine.

    `lexical` is the part of the label's words that the text has, by their idf among the labels.
    """

    label: Label
    score: float
    evidence: str
    dense: float
    lexical: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """What a text is about: terms and sentences with their vectors, shape (n, dim), and the index's terms."""

    terms: tuple[str, ...]
    vectors: Floats
    index_terms: frozenset[str]


def key_terms(text: str, rarity: Callable[[Sequence[str]], Sequence[float]]) -> list[tuple[str, float]]:
    """The words that set a text apart, as often as they come times their rarity, the best first.

    >>> key_terms("Tea, tea and water.", lambda words: [{"tea": 2, "water": 3}.get(w, 0) for w in words])
    [('tea', 4.0), ('water', 3.0)]
    """
    counts = Counter(word.form for word in words_of(text) if _LETTER.search(word.form))
    weights = {
        word: count * float(rare)
        for (word, count), rare in zip(counts.items(), rarity(list(counts)), strict=True)
    }
    return sorted(
        ((word, value) for word, value in weights.items() if value), key=lambda item: (-item[1], item[0])
    )


def infer_terms(
    text: str, rarity: Callable[[Sequence[str]], Sequence[float]], *, title: str | None = None
) -> list[str]:
    """Without a model: the title, the words that set the text apart, and the sentences with most of them.

    A sentence counts the weight of its distinct words over the root of their number: by the sum alone the
    longest would win, by the mean the shortest.
    """
    weights = dict(key_terms(text, rarity))
    best = [word for word, _ in list(weights.items())[:N_TERMS]]
    scored = []
    for start, end in split_sentences(text):
        words = {word.form for word in words_of(text[start:end])}
        if len(words) > 2:
            scored.append(
                (sum(weights.get(word, 0.0) for word in words) / len(words) ** 0.5, -start, (start, end))
            )
    chosen = sorted(span for _, _, span in sorted(scored, reverse=True)[:N_SENTENCES])
    sentences = [" ".join(text[start:end].split()) for start, end in chosen]
    return [term for term in (title or "", " ".join(best), *sentences) if term.strip()]


def encode_inferred(terms: Sequence[str], text: str, encoder: Encoder, terms_of: TermsOf) -> Inferred:
    """The terms, and behind them the text as a whole, as far as it fits the encoder's window."""
    everything = (*terms, text)
    return Inferred(
        terms=everything,
        vectors=encoder.encode_documents(everything).vectors,
        index_terms=frozenset(terms_of(text)),
    )


class LabelSpace:
    """The labels of a list, encoded. Safe to use from several threads.

    Raises ValueError for no label, or one that is there twice.
    """

    def __init__(
        self,
        labels: Sequence[Label],
        encoder: Encoder,
        terms_of: TermsOf,
        *,
        prior_weight: float = PRIOR_WEIGHT,
    ) -> None:
        if not labels or len({label.name for label in labels}) < len(labels):
            raise ValueError("A list of labels has at least one, and each once.")
        self.labels = tuple(labels)
        self._vectors = encoder.encode_documents([label.text for label in labels]).vectors
        self._terms = [frozenset(terms_of(label.text)) for label in labels]
        frequencies = Counter(term for terms in self._terms for term in terms)
        self._idf = {term: idf(len(labels), n_labels) for term, n_labels in frequencies.items()}
        self._priors = [log(prior_weight * label.prior + e) for label in labels]

    def retrieve(self, inferred: Inferred, top_k: int) -> list[LabelScore]:
        """The `top_k` best by (max_t cos(t, l) + w · lexical) · ln(A · prior + e), ties by name.

        IReRa, section 3, has the same without the lexical part.
        """
        cosines = self._vectors @ inferred.vectors.T
        nearest = cosines.argmax(axis=1)
        found = []
        for number, label in enumerate(self.labels):
            dense = float(cosines[number, nearest[number]])
            lexical = self._shared(number, inferred.index_terms)
            found.append(
                LabelScore(
                    label=label,
                    score=(dense + LEXICAL_WEIGHT * lexical) * self._priors[number],
                    evidence=inferred.terms[int(nearest[number])],
                    dense=dense,
                    lexical=lexical,
                )
            )
        return sorted(found, key=_best_first)[:top_k]

    def _shared(self, number: int, terms: frozenset[str]) -> float:
        total = sum(self._idf[term] for term in self._terms[number])
        return sum(self._idf[term] for term in self._terms[number] & terms) / total if total else 0.0


def _best_first(found: LabelScore) -> tuple[float, str]:
    return -found.score, found.label.name
