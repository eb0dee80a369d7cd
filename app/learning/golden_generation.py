"""Golden questions made from a collection: by a language model where one is set, else from its sentences.

They are kept beside a person's own, marked with what made them, and can be removed apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from app.db import chunks, collections, golden, versions
from app.db.chunks import StoredChunk
from app.db.golden import Expected
from app.errors import InvalidRequest
from app.learning import golden_asking, golden_writing
from app.learning.golden_writing import Draft, Rarity
from indexing.errors import LanguageModelError
from indexing.snapshot import Snapshot
from indexing.words import words_of

if TYPE_CHECKING:
    from app.services import Services

Source = Literal["auto", "llm", "sentences"]
Progress = Callable[[str, int, int], None]

PASSAGES_A_QUESTION = 10
"""How many passages are looked at for each question wanted, before there are found to be no more."""

BATCH = 50
TWICE = 0.9
"""A sentence that another document matches so nearly as well as its own stands there too, or nearly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A question that was made."""

    question: str
    expected: Expected


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """`generator` names what made the questions; `n_refused` passages gave none that could be used."""

    generator: str
    questions: tuple[Written, ...]
    n_refused: int


def generate(
    services: Services,
    collection: str,
    n_questions: int,
    *,
    source: Source = "auto",
    seed: int = 0,
    progress: Progress | None = None,
) -> Generated:
    """Questions from passages of all over a collection, none like another or like one that is kept.

    The same collection and seed give the same questions, a language model apart. Nothing is kept: see `keep`.
    Raises CollectionNotFound, InvalidRequest (`llm_not_configured`), LanguageModelError where the model
    answered nothing at all, and what opening an index raises.
    """
    write, name = _writer(services, source)
    with services.read() as session:
        row = collections.get_by_name(session, collection)
        known = [question.question for question in golden.list_all(session, row.id)]
        version_id = row.active_version_id
    found: list[Written] = []
    n_refused = 0
    if version_id is not None:
        index = services.indexes.serving(row.id, version_id)
        seen = _Seen(known)
        for stored in _passages(services, row.id, version_id, n_questions, seed):
            written = _first_new(stored, write(stored, index.snapshot, len(found)), seen)
            n_refused += written is None
            if written is not None:
                found.append(written)
                if progress is not None:
                    progress("write", len(found), n_questions)
                if len(found) == n_questions:
                    break
    return Generated(generator=name, questions=tuple(found), n_refused=n_refused)


def keep(services: Services, collection: str, generated: Generated) -> int:
    """Keeps the questions with the mark of what made them; how many there were."""
    with services.write() as session:
        owner = collections.get_by_name(session, collection).id
        for item in generated.questions:
            golden.put(session, owner, item.question, [item.expected], generator=generated.generator)
    return len(generated.questions)


def remove(services: Services, collection: str) -> int:
    """Forgets the questions that were generated, and none of a person's own; how many went."""
    with services.write() as session:
        return golden.remove_generated(session, collections.get_by_name(session, collection).id)


Write = Callable[[StoredChunk, Snapshot, int], Iterable[Draft]]
"""From a passage, its index and the number of questions so far to drafts, the most wanted first."""


def _writer(services: Services, source: Source) -> tuple[Write, str]:
    model = services.language_model
    if source == "sentences" or (source == "auto" and model is None):
        return _from_sentences, golden_writing.VERSION
    if model is None:
        raise InvalidRequest(
            "No language model is set up: set FOOTNOTE_LLM_BASE_URL and FOOTNOTE_LLM_MODEL.",
            code="llm_not_configured",
        )
    seconds = services.settings.llm.timeout_seconds
    n_answers = 0

    def from_model(stored: StoredChunk, _snapshot: Snapshot, _n_found: int) -> list[Draft]:
        nonlocal n_answers
        try:
            draft = golden_asking.ask(model, stored.chunk.text, timeout_seconds=seconds)
        except LanguageModelError:
            if n_answers:
                return []  # one call that failed costs one question
            raise
        n_answers += 1
        return [draft] if draft is not None else []

    return from_model, golden_asking.version(model)


def _from_sentences(stored: StoredChunk, snapshot: Snapshot, n_found: int) -> list[Draft]:
    rarity: Rarity = snapshot.lexical.rarity
    found = golden_writing.drafts(stored.chunk.text, stored.chunk.heading_path, rarity)
    unique = [draft for draft in found if _stands_once(draft.quote, stored, snapshot)]
    turn = n_found % max(len(unique), 1)  # each kind in its turn, as far as the passage has it
    return unique[turn:] + unique[:turn]


def _stands_once(quote: str, stored: StoredChunk, snapshot: Snapshot) -> bool:
    """Whether no other document says nearly the same: there the question would have two answers."""
    found = snapshot.lexical.search(quote, 10)
    own = found.document_ids == stored.chunk.document_id
    best = found.scores[own].max(initial=0.0)
    return bool(best > 0 and found.scores[~own].max(initial=0.0) < TWICE * best)


def _passages(
    services: Services, collection_id: int, version_id: str, n_questions: int, seed: int
) -> Iterator[StoredChunk]:
    """Passages in a random order, one of each document first."""
    with services.read() as session:
        chunker = versions.get(session, version_id).chunker_fingerprint
        ids = chunks.ids_of_collection(session, collection_id, chunker)
    order = np.random.default_rng(seed).permutation(np.sort(ids)).tolist()
    taken: Counter[int] = Counter()
    later: list[StoredChunk] = []
    for stored in _loaded(services, order[: n_questions * PASSAGES_A_QUESTION]):
        taken[stored.chunk.document_id] += 1
        if taken[stored.chunk.document_id] == 1:
            yield stored
        else:
            later.append(stored)
    yield from later


def _loaded(services: Services, chunk_ids: Sequence[int]) -> Iterator[StoredChunk]:
    for start in range(0, len(chunk_ids), BATCH):
        batch = chunk_ids[start : start + BATCH]
        with services.read() as session:
            rows = chunks.load_passages(session, batch)
        yield from (rows[chunk_id] for chunk_id in batch if chunk_id in rows)


class _Seen:
    """The questions so far, by their words."""

    def __init__(self, questions: Iterable[str]) -> None:
        self._words = [_words(question) for question in questions]

    def add(self, question: str) -> bool:
        """Whether the question is like none before; then it counts too."""
        words = _words(question)
        if any(golden_writing.similar(words, other) for other in self._words):
            return False
        self._words.append(words)
        return True


def _words(question: str) -> frozenset[str]:
    return frozenset(word.form for word in words_of(question))


def _first_new(stored: StoredChunk, drafts: Iterable[Draft], seen: _Seen) -> Written | None:
    for draft in drafts:
        if seen.add(draft.question):
            return Written(question=draft.question, expected=Expected(stored.source, draft.quote))
    return None
