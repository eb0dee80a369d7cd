"""Learning how a collection is searched best, on its golden questions or on ones made for this.

The present settings and others are asked every question; `retrievers.tuning.decide` says whether another is
adopted. What is adopted is kept with its evidence and holds for every search of the collection from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from sqlalchemy.orm import Session

from app.db import collections, tunings
from app.db import golden as questions
from app.db.golden import GoldenQuestion
from app.db.tunings import StoredTuning
from app.db.types import utc_now
from app.errors import InvalidRequest
from app.learning import golden, golden_generation
from app.search.searching import load_passages, spec_of, tuned
from retrievers.base import Retriever
from retrievers.evaluation.significance import Doubles
from retrievers.fused import FusedRetriever, FusionSpec
from retrievers.modes import fused_parts
from retrievers.pipeline import MARGIN, Pipeline
from retrievers.tuning import (
    GRIDS,
    MIN_QUESTIONS,
    Decision,
    Setting,
    decide,
    settings_to_try,
    weights_to_try,
)
from retrievers.types import Hit, Mode, Passage, Query

if TYPE_CHECKING:
    from app.services import Services
    from app.versions.indexes import OpenIndex
    from retrievers.modes import ModeSpec

TOP_K = golden.TOP_K
METRIC: golden.Metric = "ndcg"
TUNABLE: tuple[Mode, ...] = (*GRIDS, "fused")
"""The modes that have something to learn."""

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What was tried, and what came of it; `kept` says whether searches use it from now on."""

    mode: Mode
    metric: str
    generator: str | None
    decision: Decision
    kept: bool


def tune(
    services: Services,
    collection: str,
    *,
    mode: Mode | None = None,
    fusion: FusionSpec | None = None,
    n_synthetic: int = 0,
    min_questions: int = MIN_QUESTIONS,
    dry_run: bool = False,
    seed: int = 0,
    progress: Progress | None = None,
) -> Tuned:
    """Learns the settings of a mode (None: that of the settings) for a collection, and keeps what helps.

    With a `fusion`, or the mode `fused`, the weights of what is fused; searches in that mode that name no
    fusion then take this one. On the golden questions, or on `n_synthetic` made from the collection, which
    are not kept. Raises CollectionNotFound, InvalidRequest (`nothing_to_tune`, `invalid_fusion`,
    `no_questions`), and what `search` raises.
    """
    chosen = chosen_mode(services, mode, fusion)
    with services.read() as session:
        row = collections.get_by_name(session, collection)
        asked = [] if n_synthetic else golden_questions(session, collection)
        stored = tunings.get(session, row.id)
    generator = None
    if n_synthetic:
        made = golden_generation.generate(services, collection, n_synthetic, seed=seed, progress=progress)
        asked, generator = _as_questions(made), made.generator
    if row.active_version_id is None:
        raise InvalidRequest(f"The collection {collection} has no document yet.", code="no_questions")
    index = tuned(services.indexes.serving(row.id, row.active_version_id), stored)
    fused = (fusion or index.resources.tuning.fusion) if chosen == "fused" else None
    settings = settings_to_try(chosen, index.resources.tuning) if fused is None else weights_to_try(fused)
    ways = _ways(index, chosen, settings) if fused is None else _fusions(index, fused, settings)
    values = _values(services, row.id, ways, asked, progress)
    if not len(values):
        raise InvalidRequest("All that the questions expect is stale.", code="no_questions")
    decision = decide(values, settings, min_questions=min_questions, seed=seed)
    found = Tuned(
        mode=chosen,
        metric=f"{METRIC}@{TOP_K}",
        generator=generator,
        decision=decision,
        kept=decision.is_adopted and not dry_run,
    )
    if found.kept:
        with services.write() as session:
            before = {} if stored is None else stored.values
            learned = (
                decision.chosen if fused is None else {"fusion": fused.weighed(decision.chosen).values()}
            )
            tunings.put(session, row.id, {**before, **learned}, _evidence(found, index, settings, fused))
    return found


def chosen_mode(services: Services, mode: Mode | None, fusion: FusionSpec | None) -> Mode:
    """The mode whose weights are to be learned.

    Raises InvalidRequest: `nothing_to_tune` for a mode without any, or a fusion of one retriever, and
    `invalid_fusion`.
    """
    chosen: Mode = mode or ("fused" if fusion is not None else services.settings.search.mode)
    spec_of(chosen, fusion)
    if chosen not in TUNABLE:
        raise InvalidRequest(
            f"The mode {chosen} has nothing to learn: {', '.join(TUNABLE)}.", code="nothing_to_tune"
        )
    if fusion is not None and len(fusion.retrievers) < 2:
        raise InvalidRequest("A fusion of one retriever has no weights to learn.", code="nothing_to_tune")
    return chosen


def golden_questions(session: Session, collection: str) -> list[GoldenQuestion]:
    """What a collection can be tuned on. Raises CollectionNotFound, and InvalidRequest (`no_questions`)."""
    asked = questions.list_all(session, collections.get_by_name(session, collection).id)
    if not asked:
        raise InvalidRequest(
            f"The collection {collection} has no golden questions: add some, import or generate them.",
            code="no_questions",
        )
    return asked


def show(services: Services, collection: str) -> StoredTuning | None:
    """What searches of a collection use in place of the settings. Raises CollectionNotFound."""
    with services.read() as session:
        return tunings.get(session, collections.get_by_name(session, collection).id)


def reset(services: Services, collection: str) -> bool:
    """Lets the searches of a collection follow the settings again; whether something was learned."""
    with services.write() as session:
        return tunings.remove(session, collections.get_by_name(session, collection).id)


def _as_questions(made: golden_generation.Generated) -> list[GoldenQuestion]:
    """The questions that were made as golden ones, kept nowhere."""
    now: datetime = utc_now()
    return [
        GoldenQuestion(
            id=number,
            question=item.question,
            expected=(item.expected,),
            created_at=now,
            generator=made.generator,
        )
        for number, item in enumerate(made.questions)
    ]


def _evidence(
    found: Tuned, index: OpenIndex, settings: Sequence[Setting], fused: FusionSpec | None
) -> Mapping[str, Any]:
    return {
        **({} if fused is None else {"fusion": fused.values()}),
        "mode": found.mode,
        "metric": found.metric,
        "questions": "golden" if found.generator is None else found.generator,
        "n_settings": len(settings),
        "before": dict(settings[0]),
        "index_version": index.snapshot.manifest.spec.version,
        "encoder": index.encoder.name,
        **asdict(found.decision),
    }


def _values(
    services: Services,
    collection_id: int,
    ways: Sequence[Pipeline],
    asked: Sequence[GoldenQuestion],
    progress: Progress | None,
) -> Doubles:
    """The metric of every question that is not stale in every way, shape (n_questions, n_ways)."""
    with services.read() as session:
        targets = golden.targets_of(session, collection_id, asked)
    rows = []
    for done, question in enumerate(asked, start=1):
        if not all(isinstance(targets[item], str) for item in question.expected):
            found = _ranked(ways, question.question)
            loaded = _loaded(services, collection_id, found)
            outcomes = [
                golden.outcome_of(question, targets, _passages(hits, loaded), TOP_K) for hits in found
            ]
            rows.append([outcome.values[METRIC] for outcome in outcomes if outcome.values is not None])
        if progress is not None:
            progress("ask", done, len(asked))
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(ways))


def _ways(index: OpenIndex, mode: Mode, settings: Sequence[Setting]) -> list[Pipeline]:
    """For each setting the steps of a search under it: those that the search takes when it is adopted."""
    resources, spec = index.resources, spec_of(mode, None)
    return [
        _pipeline(
            index,
            spec,
            spec.build(replace(resources, tuning=replace(resources.tuning, **setting))),  # type: ignore[arg-type]
        )
        for setting in settings
    ]


def _fusions(index: OpenIndex, fusion: FusionSpec, weights: Sequence[Setting]) -> list[Pipeline]:
    """For each of the weights the steps of a search with them; the lists that are fused are searched once."""
    parts = {
        name: replace(part, retriever=_Remembering(part.retriever))
        for name, part in fused_parts(index.resources, fusion).items()
    }
    candidate_k = index.resources.tuning.candidate_k
    return [
        _pipeline(
            index,
            spec_of("fused", fusion),
            FusedRetriever(parts, fusion.weighed(chosen), candidate_k=candidate_k),
        )
        for chosen in weights
    ]


def _pipeline(index: OpenIndex, spec: ModeSpec, retriever: Retriever) -> Pipeline:
    return Pipeline(
        retriever=retriever,
        encoder=index.encoder,
        needs_vector=spec.needs_vector,
        needs_tokens=spec.needs_tokens,
    )


class _Remembering:
    """Gives what it gave when it is asked the same once more, and forgets it when it is asked another."""

    def __init__(self, retriever: Retriever) -> None:
        self._retriever = retriever
        self._queries: Sequence[Query] = ()
        self._found: dict[int, list[list[Hit]]] = {}

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        if queries is not self._queries:
            self._queries, self._found = queries, {}
        if top_k not in self._found:
            self._found[top_k] = self._retriever.retrieve(queries, top_k)
        return self._found[top_k]


def _ranked(ways: Sequence[Pipeline], text: str) -> list[list[Hit]]:
    """The hits of each way; the query is encoded once."""
    transformed = ways[0].transform(text)
    queries = ways[0].encode(Query(text=text), transformed)
    return [way.retrieve(queries, transformed, TOP_K + MARGIN) for way in ways]


def _loaded(services: Services, collection_id: int, found: Sequence[Sequence[Hit]]) -> Mapping[int, Passage]:
    hits = {hit.chunk_id: hit for ranking in found for hit in ranking}
    return {
        passage.chunk.id: passage for passage in load_passages(services, collection_id, list(hits.values()))
    }


def _passages(hits: Sequence[Hit], loaded: Mapping[int, Passage]) -> list[Passage]:
    there = [loaded[hit.chunk_id] for hit in hits if hit.chunk_id in loaded][:TOP_K]
    return [replace(passage, rank=rank) for rank, passage in enumerate(there, start=1)]
