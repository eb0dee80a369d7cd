"""Searching: what was deleted since the index was made is not shown, and takes no place from the others."""

from __future__ import annotations

import pytest

from app.db import documents
from app.db.errors import CollectionNotFound, FilterError
from app.documents import intake
from app.search.searching import SearchRequest, search
from app.services import Services
from app.versions import building
from indexing.errors import IndexMissing
from retrievers.pipeline import MARGIN
from retrievers.timings import Timings
from retrievers.types import Mode
from tests.unit.app.texts import collection_id, follow, ingest, sources, submit

N = 32
MODES: list[Mode] = ["bm25", "dense", "hybrid", "rrf"]


@pytest.fixture
def filled(services: Services) -> Services:
    """Documents of which each is a better match than the next."""
    ingest(services, {f"{n}.md": "pot " * (8 - n) + "water " * (n + 1) for n in range(8)})
    return services


def test_as_many_come_back_as_exist_though_many_went(services: Services) -> None:
    ingest(services, {f"{n:02d}.md": "pot " * (N - n) + "water " * (n + 1) for n in range(N)})
    best = {mode: sources(services, "pot", mode=mode, top_k=N) for mode in MODES}
    assert {len(found) for found in best.values()} == {N}
    gone = best["bm25"][: MARGIN + 4]
    for source in gone:
        intake.delete(services, documents.id_of("default", source))
    for mode, before in best.items():
        after = [source for source in before if source not in gone]
        assert sources(services, "pot", mode=mode, top_k=4) == after[:4], "the index has not followed yet"
        assert sources(services, "pot", mode=mode, top_k=N) == after
    follow(services)
    for mode, before in best.items():
        assert set(sources(services, "pot", mode=mode, top_k=N)) == set(before) - set(gone)


def test_ranks_count_from_one_without_gaps(filled: Services) -> None:
    intake.delete(filled, documents.id_of("default", sources(filled, "pot", top_k=1)[0]))
    found = search(filled, SearchRequest(query="pot", top_k=5)).passages
    assert [passage.rank for passage in found] == [1, 2, 3, 4, 5]
    assert [passage.score for passage in found] == sorted((p.score for p in found), reverse=True)


def test_all_gone_is_an_empty_result(filled: Services) -> None:
    for source in sources(filled, "pot"):
        intake.delete(filled, documents.id_of("default", source))
    assert sources(filled, "pot") == []


def test_a_superseded_chunk_is_not_shown_though_the_index_has_it(services: Services) -> None:
    ingest(services, {"note.md": "warm the pot"})
    version = building.ensure_active(services, collection_id(services)).id
    held = services.snapshots.get(version)
    ingest(services, {"note.md": "grind the beans"})
    services.snapshots.get = lambda *_: held  # type: ignore[method-assign]
    assert sources(services, "pot") == []
    texts = [p.chunk.text for p in search(services, SearchRequest(query="beans")).passages]
    assert texts == [], "the snapshot that the request holds does not know the new text"


def test_what_is_pending_is_not_shown(services: Services) -> None:
    submit(services, "tea.md", "warm the pot")
    result = search(services, SearchRequest(query="pot"))
    assert (result.passages, result.index_version) == ((), None)


def test_a_filter_that_allows_nothing_asks_no_index(filled: Services) -> None:
    found = search(filled, SearchRequest(query="pot", filters={"year": 1}))
    assert found.passages == ()
    assert "retrieve" not in found.timings_ms


def test_an_empty_filter_allows_everything(filled: Services) -> None:
    assert len(search(filled, SearchRequest(query="pot", filters={})).passages) == 8


def test_what_cannot_be_done_raises(filled: Services) -> None:
    with pytest.raises(CollectionNotFound):
        search(filled, SearchRequest(query="pot", collection="nowhere"))
    with pytest.raises(FilterError):
        search(filled, SearchRequest(query="pot", filters={"year": {"$near": 1}}))


def test_an_index_that_is_lost_is_named(filled: Services) -> None:
    version = building.ensure_active(filled, collection_id(filled)).id
    (filled.settings.indexes_dir / version / "manifest.json").unlink()
    filled.snapshots.forget(version)
    with pytest.raises(IndexMissing, match="footnote index rebuild"):
        search(filled, SearchRequest(query="pot"))


def test_stages_are_timed_apart_and_added_up(filled: Services) -> None:
    timings = search(filled, SearchRequest(query="pot", mode="hybrid")).timings_ms
    assert list(timings) == ["filter", "open", "encode", "retrieve", "load", "total"]
    assert timings["total"] == pytest.approx(sum(timings.values()) - timings["total"], abs=0.01)


def test_a_stage_that_fails_is_timed_too() -> None:
    timings = Timings()
    with pytest.raises(ZeroDivisionError), timings.stage("encode"):
        raise ZeroDivisionError
    assert "encode" in timings.ms
