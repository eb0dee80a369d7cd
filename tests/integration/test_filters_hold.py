"""A filter holds in every mode: the hits are those of a brute-force search of all documents, by exact scores.

The documents have metadata of every kind; some were replaced, some deleted. What a search gives is compared
with plain loops: `naive_filters` says which documents are allowed, `oracles` scores every chunk.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_bm25 import BM25Okapi

from app.db import chunks, collections, documents, versions
from app.documents import deleting, intake
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from indexing.analysis import build_analyzer
from indexing.encoding.fake import WordEncoder
from retrievers.types import Mode
from tests import oracles
from tests.service import settings_for, work
from tests.small_index import WORDS, SmallChunks
from tests.unit.app.db import naive_filters
from tests.unit.app.db.test_filters import FILTERS

N_DOCUMENTS = 96
CANDIDATE_K = 20  # fewer than the chunks, so that fusion has to choose among them
HELD_ELSEWHERE = {"sparse", "tree", "tree_traversal", "expanded", "questions"}
"""They need something beside the index; their filters are held by the tests of each."""
MODES = [mode for mode in get_args(Mode) if mode not in HELD_ELSEWHERE]
SCORED_EXACTLY = {"bm25", "dense", "funnel", "rank_bm25", "hybrid", "rrf"}
GIVES_ALL = {"dense", "funnel", "hybrid", "rrf", "auto", "late", "prf", "fused"}
"""As many hits as are wanted, or as there are chunks; the others give only chunks with fitting words."""
QUERIES = ("river", "stone bridge paper", "harbour letter copper salt engine", "zebra")
VALUES = ["a", "A", "ab", "É", "ß", "%", "", 0, 1, -2, 1.5, 2**53, True, False, None, "2024-05-01"]


@dataclass(frozen=True, slots=True)
class World:
    """A searched collection, and what is known of it: each document's row, and every chunk as indexed."""

    services: Services
    rows: list[dict[str, Any]]
    chunks: SmallChunks

    def allowed(self, filters: Mapping[str, Any]) -> np.ndarray:
        return np.array([row["id"] for row in self.rows if naive_filters.holds(filters, row)], dtype=np.int64)


def text_of(chosen: random.Random) -> str:
    paragraphs = [
        " ".join(chosen.choices(WORDS, k=chosen.randint(1, 9))) for _ in range(chosen.randint(1, 3))
    ]
    return "".join(f"# {WORDS[n]}\n\n{text}.\n\n" for n, text in enumerate(paragraphs))


def metadata_of(chosen: random.Random, number: int) -> dict[str, Any]:
    """Some of the fields that `FILTERS` name, of any kind; and `part`, which is spread evenly."""
    kept: dict[str, Any] = {"part": number * 7 % N_DOCUMENTS / N_DOCUMENTS}
    for name in ("a", "b", "title"):
        if chosen.random() < 0.6:
            kept[name] = chosen.choice([chosen.choice(VALUES), chosen.sample(VALUES, k=chosen.randint(0, 3))])
    if chosen.random() < 0.5:
        kept["n"] = {"x": chosen.choice(VALUES)}
    return kept


@contextmanager
def filled_world(home: Path, url: str) -> Iterator[World]:
    chosen = random.Random(11)
    areas = {"search": {"candidate_k": CANDIDATE_K}}
    with open_services(settings_for(home, url, **areas), load=lambda _spec, _dir: WordEncoder()) as services:
        add(services, chosen, range(N_DOCUMENTS))
        add(services, chosen, range(0, N_DOCUMENTS, 5))  # new texts for some of them
        gone = [documents.id_of("default", f"{number}.md") for number in range(0, N_DOCUMENTS, 7)]
        list(deleting.delete_many(services, collections.id_of("default"), gone))
        yield observed(services)


def add(services: Services, chosen: random.Random, numbers: range) -> None:
    for number in numbers:
        submission = intake.Submission(filename=f"{number}.md", metadata=metadata_of(chosen, number))
        intake.submit(services, submission, BytesIO(text_of(chosen).encode()))
    work(services)


def observed(services: Services) -> World:
    """What the database says: the truth that the indexes have to agree with."""
    with services.read() as session:
        kept = documents.list_page(session, limit=1000).items
        version = versions.active(session, collections.id_of("default"))
        assert version is not None
        cut = [
            chunk
            for row in kept
            for chunk in chunks.of_document(session, row.id, chunker=version.chunker_fingerprint)
        ]
    texts = [chunk.contextual_text for chunk in cut]
    columns = ("id", "source", "title", "filename", "media_type", "status", "meta", "created_at")
    return World(
        services=services,
        rows=[{name: getattr(row, name) for name in columns} for row in kept],
        chunks=SmallChunks(
            chunk_ids=np.array([chunk.id for chunk in cut], dtype=np.int64),
            document_ids=np.array([chunk.document_id for chunk in cut], dtype=np.int64),
            texts=texts,
            vectors=WordEncoder().encode_documents(texts).vectors,
        ),
    )


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with filled_world(tmp_path_factory.mktemp("filters"), "") as made:
        yield made


def brute_force(world: World, mode: str, query: str, allowed: np.ndarray, top_k: int) -> dict[int, float]:
    """Every chunk that may be a hit, with its score: all chunks of allowed documents are looked at."""
    may = np.isin(world.chunks.document_ids, allowed)
    bm25 = oracles.bm25(world.chunks, query)
    dense = oracles.cosine(world.chunks, WordEncoder().encode_queries([query]).vectors[0])
    match mode:
        case "bm25":
            return scored(world, bm25, may & (bm25 > 0))
        case "dense" | "funnel":  # whose prefix is as long as these vectors
            return scored(world, dense, may)
        case "rank_bm25":
            analyze = build_analyzer().analyze
            okapi = BM25Okapi([analyze(text) for text in world.chunks.texts]).get_scores(analyze(query))
            return scored(world, np.asarray(okapi), may & (np.asarray(okapi) > 0))
    depth = max(top_k + 8, CANDIDATE_K)  # a search asks for eight more than it shows
    by_term = [key for key, _ in ranking(scored(world, bm25, may & (bm25 > 0)))][:depth]
    by_vector = [key for key, _ in ranking(scored(world, dense, may))][:depth]
    if mode == "rrf":
        return {
            key: sum(1 / (60 + order.index(key) + 1) for order in (by_term, by_vector) if key in order)
            for key in {*by_term, *by_vector}
        }
    both = np.isin(world.chunks.chunk_ids, [*by_term, *by_vector])
    most, nearest = bm25[both].max(initial=0.0), (dense[both] + 1).max(initial=0.0)
    fused = (dense + 1) / (nearest or 1.0)
    if most:
        fused = 0.8 * fused + 0.2 * bm25 / most
    return scored(world, fused, both)


def scored(world: World, scores: np.ndarray, rows: np.ndarray) -> dict[int, float]:
    return dict(zip(world.chunks.chunk_ids[rows].tolist(), scores[rows].tolist(), strict=True))


def ranking(scores: Mapping[int, float]) -> list[tuple[int, float]]:
    """Best first, ties by id, as single precision sees them."""
    return sorted(scores.items(), key=lambda item: (-float(np.float32(item[1])), item[0]))


def check(world: World, mode: Any, query: str, filters: Mapping[str, Any], top_k: int, allowed: Any) -> None:
    """The hits are the best of the allowed chunks: `top_k`, or all where there are fewer; exactly scored."""
    request = SearchRequest(query=query, mode=mode, filters=filters, top_k=top_k)
    hits = search(world.services, request).passages
    if mode not in SCORED_EXACTLY:
        assert {hit.chunk.document_id for hit in hits} <= set(allowed.tolist())
        assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
        if mode in GIVES_ALL:
            assert len(hits) == min(top_k, int(np.isin(world.chunks.document_ids, allowed).sum()))
        return
    expected = brute_force(world, mode, query, allowed, top_k)
    assert len(hits) == min(top_k, len(expected))
    assert {hit.chunk.document_id for hit in hits} <= set(allowed.tolist())
    scores = [hit.score for hit in hits]
    assert scores == pytest.approx([expected[hit.chunk.id] for hit in hits], rel=1e-5, abs=1e-6)
    assert scores == pytest.approx([score for _, score in ranking(expected)][:top_k], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_any_filter_gives_what_brute_force_gives(world: World, mode: str) -> None:
    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(filters=FILTERS, query=st.sampled_from(QUERIES), top_k=st.integers(1, 400))
    def hold(filters: dict[str, Any], query: str, top_k: int) -> None:
        check(world, mode, query, filters, top_k, world.allowed(filters))

    hold()


@pytest.mark.parametrize("top_k", [1, 10, 400])
@pytest.mark.parametrize("mode", MODES)
def test_at_every_share_of_the_documents(world: World, mode: str, top_k: int) -> None:
    """From none to all, one document at a time where they are few."""
    shares = [0, 1, 2, 3, 5, 9, 24, 48, 72, 91, 94, 95, 96]
    for number, share in enumerate(shares):
        filters = {"part": {"$lt": share / N_DOCUMENTS}}
        allowed = world.allowed(filters)
        assert len(allowed) <= share
        check(world, mode, QUERIES[number % 3], filters, top_k, allowed)
    assert len(world.allowed({"part": {"$lt": 1}})) == len(world.rows)


@pytest.mark.parametrize("mode", MODES)
def test_dates_divide_the_documents_exactly(world: World, mode: str) -> None:
    instants = sorted(row["created_at"] for row in world.rows)
    for instant in (instants[0], instants[len(instants) // 3], instants[-1]):
        for operator, holds in {"$lt": datetime.__lt__, "$gte": datetime.__ge__}.items():
            filters = {"created_at": {operator: instant.isoformat()}}
            kept = [row["id"] for row in world.rows if holds(row["created_at"], instant)]
            check(world, mode, "stone bridge", filters, 30, np.array(kept, dtype=np.int64))


def test_what_the_index_has_not_forgotten_yet_costs_no_hit(database_url: str, tmp_path: Path) -> None:
    """Deleted behind the index: as many hits come as allowed chunks are there, none of a deleted document."""
    with filled_world(tmp_path / "home", database_url) as made:
        gone = [row["id"] for row in made.rows[::3]]
        intake.delete_all(made.services, collections.id_of("default"), gone)
        left = observed(made.services)
        for filters in (
            {"part": {"$lt": 0.3}},
            {"a": {"$ne": "a"}},
            {"$not": {"b": {"$in": [1, True, None]}}},
        ):
            for mode in MODES:
                for top_k in (1, 10, 400):
                    check_number(left, mode, filters, top_k)


def check_number(world: World, mode: Any, filters: Mapping[str, Any], top_k: int) -> None:
    """So many hits as there are, all allowed; their scores are those of an index that is behind."""
    allowed = world.allowed(filters)
    may = np.isin(world.chunks.document_ids, allowed)
    matching = may & (oracles.bm25(world.chunks, "river stone") > 0)
    request = SearchRequest(query="river stone", mode=mode, filters=filters, top_k=top_k)
    hits = search(world.services, request).passages
    assert {hit.chunk.document_id for hit in hits} <= set(allowed.tolist())
    if mode in GIVES_ALL:
        assert len(hits) == min(top_k, int(may.sum()))
    if mode == "bm25":
        assert len(hits) == min(top_k, int(matching.sum()))
