"""Questions from a passage without a language model: a heading, distinctive words, a sentence with a gap.

Such questions use the words of the passage, which people often do not. They show that a search works and
whether it got worse; that a search by words is better than one by meaning they cannot show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from indexing.sentences import split_sentences
from indexing.words import Word, words_of

VERSION = "sentences-1"
"""Goes up when the same passage gives other questions."""

MIN_WORDS, MAX_WORDS = 6, 60
N_KEYWORDS = 4
GAP = "…"

Rarity = Callable[[Sequence[str]], Sequence[float]]
"""For each word how rare it is in the collection, 0 for a word that no search looks for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A question, and the words of the passage that answer it, verbatim."""

    question: str
    quote: str


def drafts(text: str, heading_path: Sequence[str], rarity: Rarity) -> list[Draft]:
    """A question by the heading, one by keywords and one with a gap, as far as the passage gives them.

    All rest on the most distinctive sentence, that by the heading on the first one.
    """
    sentences = _sentences(text)
    if not sentences:
        return []
    sentence = max(sentences, key=lambda each: _distinctiveness(each, rarity))
    found = [
        _by_heading(heading_path, sentences[0], rarity),
        _by_keywords(sentence, rarity),
        _with_gap(sentence, rarity),
    ]
    return [draft for draft in found if draft is not None]


def similar(one: frozenset[str], other: frozenset[str]) -> bool:
    """Whether two questions ask nearly the same, by their words: at least three of four are common to both.

    >>> similar(frozenset("abcd"), frozenset("abc")), similar(frozenset("abc"), frozenset("abd"))
    (True, False)
    """
    return 4 * len(one & other) >= 3 * len(one | other)


def _sentences(text: str) -> list[str]:
    found = (text[start:end] for start, end in split_sentences(text))
    return [each for each in found if MIN_WORDS <= len(words_of(each)) <= MAX_WORDS]


def _distinctiveness(sentence: str, rarity: Rarity) -> float:
    """The mean rarity of the five rarest words; fewer words count as none."""
    rarities = sorted(rarity(sorted({word.form for word in words_of(sentence)})), reverse=True)
    return sum(rarities[:5]) / 5


def _by_heading(heading_path: Sequence[str], sentence: str, rarity: Rarity) -> Draft | None:
    """The last two headings; none for headings of less than two words that can be looked for."""
    question = ": ".join(" ".join(heading.split()) for heading in heading_path[-2:])
    words = sorted({word.form for word in words_of(question)})
    if sum(value > 0 for value in rarity(words)) < 2:
        return None
    return Draft(question=question, quote=sentence)


def _by_keywords(sentence: str, rarity: Rarity) -> Draft | None:
    """The rarest words in the order of the sentence."""
    words = {word.form: word for word in words_of(sentence) if _is_name(word)}
    chosen = _rarest(list(words.values()), rarity)[:N_KEYWORDS]
    if len(chosen) < 3:
        return None
    ordered = sorted(chosen, key=lambda word: word.start)
    return Draft(question=" ".join(sentence[word.start : word.end] for word in ordered), quote=sentence)


def _with_gap(sentence: str, rarity: Rarity) -> Draft | None:
    """The sentence with a gap where its rarest word stood."""
    words = words_of(sentence)
    rarest = _rarest([word for word in words if _is_name(word)], rarity)[:1]
    if not rarest:
        return None
    question = sentence
    for word in reversed([word for word in words if word.form == rarest[0].form]):
        question = question[: word.start] + GAP + question[word.end :]
    return Draft(question=" ".join(question.split()), quote=sentence)


def _rarest(words: Sequence[Word], rarity: Rarity) -> list[Word]:
    """The words that can be looked for, the rarest first, ties by place."""
    values = rarity([word.form for word in words])
    ranked = sorted(zip(words, values, strict=True), key=lambda pair: (-pair[1], pair[0].start))
    return [word for word, value in ranked if value > 0]


def _is_name(word: Word) -> bool:
    return len(word.form) >= 3 and not word.form.isdigit()
