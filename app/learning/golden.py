"""Golden questions: what a search must find, and how much of it a version finds.

`recall` is the number that decides on a version; `run` gives it question by question, `compare` two versions.

Ranks are those of passages. A document is found at the rank of its first passage, a quotation at the rank
where the passages so far hold at least half of it, wherever the chunker cut. What an expectation names and is
no longer there makes it stale: it is reported and left out of every mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import log2
from typing import TYPE_CHECKING, Literal

from app.db import collections, documents, golden, revisions
from app.db.golden import Expected, GoldenQuestion
from app.errors import InvalidRequest, NotFound
from app.ids import parse_id
from app.search.searching import SearchRequest, search
from retrievers.evaluation.significance import Comparison, bootstrap_interval
from retrievers.evaluation.significance import compare as compare_values
from retrievers.types import Mode, Passage

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.db.tables import DocumentRow
    from app.services import Services

TOP_K = 10
METRICS = ("recall", "mrr", "ndcg")

Metric = Literal["recall", "mrr", "ndcg"]
Span = tuple[int, int]
Stale = Literal["document_missing", "document_not_ready", "quote_missing"]
Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One expectation: the rank at which it was found, None beyond the last rank; or why it is stale."""

    expected: Expected
    rank: int | None
    stale: Stale | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a question; `values` is None where all that it expects is stale."""

    question: GoldenQuestion
    items: tuple[Item, ...]
    values: Mapping[Metric, float] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The mean over the questions, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenRun:
    """All golden questions of a collection, asked of one version."""

    version_id: str | None
    mode: Mode
    top_k: int
    outcomes: tuple[Outcome, ...]

    @property
    def n_measured(self) -> int:
        return sum(outcome.values is not None for outcome in self.outcomes)

    def values(self, metric: Metric) -> dict[str, float]:
        """The metric by question id, of the questions that were measured."""
        return {
            str(outcome.question.id): outcome.values[metric]
            for outcome in self.outcomes
            if outcome.values is not None
        }

    def mean(self, metric: Metric) -> Mean | None:
        """None where no question was measured."""
        values = list(self.values(metric).values())
        if not values:
            return None
        low, high = bootstrap_interval(values)
        return Mean(mean=sum(values) / len(values), low=low, high=high)


@dataclass(frozen=True, slots=True)
class Target:
    """Where an expectation lies in the served text; `spans` is None for a document as a whole."""

    document_id: int
    spans: tuple[Span, ...] | None


def add(services: Services, collection: str, question: str, expected: Sequence[Expected]) -> GoldenQuestion:
    """Keeps a question whose documents are there, named by source or by id.

    Raises CollectionNotFound, NotFound (`document_not_found`), and InvalidRequest (`quote_not_found`).
    """
    with services.write() as session:
        collection_id = collections.get_by_name(session, collection).id
        found = [_resolved(session, collection_id, item) for item in expected]
        return golden.put(session, collection_id, question.strip(), found)


def add_all(services: Services, collection: str, questions: Iterable[tuple[str, Sequence[Expected]]]) -> int:
    """Keeps all the questions or none, and says how many; their documents may come later.

    Raises CollectionNotFound, InvalidText.
    """
    with services.write() as session:
        collection_id = collections.get_by_name(session, collection).id
        return len([golden.put(session, collection_id, question, wanted) for question, wanted in questions])


def recall(services: Services, collection_id: int, version_id: str) -> float | None:
    """The mean Recall@10 of a version, served or not, in the default mode.

    None where the collection has no golden questions, or nothing that they expect is there any more.
    Raises what `search` raises.
    """
    found = run(services, collection_id, version_id).mean("recall")
    return found.mean if found is not None else None


def run(
    services: Services,
    collection_id: int,
    version_id: str | None = None,
    *,
    mode: Mode | None = None,
    top_k: int = TOP_K,
    progress: Progress | None = None,
) -> GoldenRun:
    """Asks every golden question of a version (None: the one served). Raises what `search` raises."""
    chosen = mode or services.settings.search.mode
    with services.read() as session:
        collection = collections.get(session, collection_id)
        questions = golden.list_all(session, collection_id)
        targets = targets_of(session, collection_id, questions)
        version_id = version_id or collection.active_version_id
    outcomes: list[Outcome] = []
    for question in questions:
        request = SearchRequest(
            query=question.question,
            collection=collection.name,
            top_k=top_k,
            mode=chosen,
            index_version=version_id,
        )
        stale = all(isinstance(targets[item], str) for item in question.expected)
        passages = () if stale else search(services, request).passages
        outcomes.append(outcome_of(question, targets, passages, top_k))
        if progress is not None:
            progress("ask", len(outcomes), len(questions))
    return GoldenRun(version_id=version_id, mode=chosen, top_k=top_k, outcomes=tuple(outcomes))


def compare(first: GoldenRun, second: GoldenRun, metric: Metric = "recall") -> Comparison | None:
    """Second minus first over the questions measured in both; None where there is none."""
    one, two = first.values(metric), second.values(metric)
    both = one.keys() & two.keys()
    if not both:
        return None
    return compare_values({key: one[key] for key in both}, {key: two[key] for key in both})


def recall_of(ranks: Sequence[int | None]) -> float:
    """The share of the expectations that were found.

    >>> recall_of([1, None])
    0.5
    """
    return sum(rank is not None for rank in ranks) / len(ranks)


def reciprocal_rank(ranks: Sequence[int | None]) -> float:
    """One divided by the rank of what was found first, 0 if nothing was.

    >>> reciprocal_rank([None, 4, 2])
    0.5
    """
    return max((1 / rank for rank in ranks if rank is not None), default=0.0)


def ndcg(ranks: Sequence[int | None], top_k: int = TOP_K) -> float:
    """Discounted gain over that of a ranking with the expectations at ranks 1, 2, 3 …

    One passage may hold several quotations, which is better than that ranking can be: the value ends at 1.

    >>> ndcg([1, 2]), ndcg([1, 1]), round(ndcg([2, None]), 4)
    (1.0, 1.0, 0.3869)
    """
    gain = sum(1 / log2(1 + rank) for rank in ranks if rank is not None)
    return min(1.0, gain / sum(1 / log2(1 + rank) for rank in range(1, min(len(ranks), top_k) + 1)))


def occurrences(quote: str, text: str) -> tuple[Span, ...]:
    r"""Where a quotation stands in a text, in which any white space equals any other.

    >>> occurrences("warm the", "Then warm\nthe pot; warm the pot.")
    ((5, 13), (19, 27))
    """
    words = [re.escape(word) for word in quote.split()]
    return tuple(match.span() for match in re.finditer(r"\s+".join(words), text)) if words else ()


def rank_of_span(span: Span, passages: Sequence[Passage]) -> int | None:
    """The rank at which these passages of one document hold at least half of the span together."""
    start, end = span
    held: set[int] = set()
    for passage in passages:
        held.update(range(max(start, passage.chunk.start), min(end, passage.chunk.end)))
        if 2 * len(held) >= end - start:
            return passage.rank
    return None


def _resolved(session: Session, collection_id: int, item: Expected) -> Expected:
    """The expectation by source, of a document that is there and says what is quoted."""
    document = _find(session, collection_id, item.source)
    if item.quote is not None and document.revision:
        text = revisions.get(session, document.id, document.revision).text or ""
        if not occurrences(item.quote, text):
            raise InvalidRequest(f"{document.source} does not say this: {item.quote}", code="quote_not_found")
    return Expected(document.source, item.quote)


def _find(session: Session, collection_id: int, name: str) -> DocumentRow:
    document = documents.get_by_source(session, collection_id, name)
    if document is None:
        document = documents.get(session, parse_id(name, "document"))
        if document.collection_id != collection_id:
            raise NotFound("The document is of another collection.", code="document_not_found")
    return document


def targets_of(
    session: Session, collection_id: int, questions: Sequence[GoldenQuestion]
) -> dict[Expected, Target | Stale]:
    """Where each expectation lies now; texts are read one at a time, since there may be large ones."""
    quotes: dict[str, set[str | None]] = {}
    for question in questions:
        for item in question.expected:
            quotes.setdefault(item.source, set()).add(item.quote)
    return {
        Expected(source, quote): target
        for source, wanted in quotes.items()
        for quote, target in _targets_in(session, collection_id, source, wanted).items()
    }


def _targets_in(
    session: Session, collection_id: int, source: str, quotes: set[str | None]
) -> dict[str | None, Target | Stale]:
    document = documents.get_by_source(session, collection_id, source)
    if document is None:
        return dict.fromkeys(quotes, "document_missing")
    if not document.revision:
        return dict.fromkeys(quotes, "document_not_ready")
    text = None
    if quotes != {None}:
        text = revisions.get(session, document.id, document.revision).text
    found: dict[str | None, Target | Stale] = {}
    for quote in quotes:
        spans = occurrences(quote, text or "") if quote is not None else None
        found[quote] = "quote_missing" if spans == () else Target(document.id, spans)
    return found


def outcome_of(
    question: GoldenQuestion,
    targets: Mapping[Expected, Target | Stale],
    passages: Sequence[Passage],
    top_k: int,
) -> Outcome:
    """What became of a question whose search gave these passages, ranked from 1."""
    items = tuple(_item(expected, targets[expected], passages) for expected in question.expected)
    ranks = [item.rank for item in items if item.stale is None]
    values: dict[Metric, float] | None = None
    if ranks:
        values = {"recall": recall_of(ranks), "mrr": reciprocal_rank(ranks), "ndcg": ndcg(ranks, top_k)}
    return Outcome(question=question, items=items, values=values)


def _item(expected: Expected, target: Target | Stale, passages: Sequence[Passage]) -> Item:
    if not isinstance(target, Target):
        return Item(expected=expected, rank=None, stale=target)
    own = [passage for passage in passages if passage.chunk.document_id == target.document_id]
    if target.spans is None:
        ranks = [passage.rank for passage in own[:1]]
    else:
        ranks = [rank for span in target.spans if (rank := rank_of_span(span, own)) is not None]
    return Item(expected=expected, rank=min(ranks, default=None), stale=None)
