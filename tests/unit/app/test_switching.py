"""A version is served only if it is sound and finds what golden questions ask for."""

from __future__ import annotations

import pytest

from app.db import chunks, documents
from app.db.golden import Expected
from app.errors import Conflict
from app.learning import golden
from app.services import Services
from app.settings import IndexSettings
from app.upkeep import switching
from app.versions import building
from indexing.chunking import ChunkerSpec
from tests.unit.app import damage
from tests.unit.app.texts import PAGES, collection_id, ingest


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def served(services: Services) -> str:
    return building.ensure_active(services, collection_id(services)).id


def recalls(monkeypatch: pytest.MonkeyPatch, by_version: dict[str, float | None]) -> None:
    monkeypatch.setattr(golden, "recall", lambda _services, _collection, version: by_version[version])


@pytest.mark.parametrize(
    ("before", "after", "margin", "passes"),
    [
        (0.9, 0.9, 0.02, True),
        (0.9, 0.88, 0.02, True),
        (0.9, 0.87, 0.02, False),
        (0.9, 0.5, 0.5, True),
        (0.5, 0.9, 0.0, True),
        (None, None, 0.0, True),
    ],
)
def test_recall_may_drop_by_no_more_than_the_margin(
    filled: Services,
    monkeypatch: pytest.MonkeyPatch,
    before: float | None,
    after: float | None,
    margin: float,
    passes: bool,
) -> None:
    filled.settings = filled.settings.model_copy(update={"index": IndexSettings(max_recall_drop=margin)})
    first, beside = served(filled), building.build(filled, collection_id(filled)).id
    recalls(monkeypatch, {first: before, beside: after})
    if passes:
        switched = switching.activate(filled, beside)
        assert (switched.row.id, switched.forced) == (beside, False)
        assert (switched.recall is None) == (before is None)
        return
    with pytest.raises(Conflict, match=r"from 0\.900 to 0\.870") as error:
        switching.activate(filled, beside)
    assert error.value.code == "recall_dropped"
    assert served(filled) == first
    assert switching.activate(filled, beside, force=True).forced
    assert served(filled) == beside


def test_going_back_asks_no_questions(filled: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    first, beside = served(filled), building.build(filled, collection_id(filled)).id
    switching.activate(filled, beside)
    recalls(monkeypatch, {first: 0.0, beside: 1.0})
    assert switching.rollback(filled, collection_id(filled)).row.id == first


def test_a_served_version_that_cannot_be_asked_holds_nothing_up(filled: Services) -> None:
    first, beside = served(filled), building.build(filled, collection_id(filled)).id
    damage.missing_manifest(filled, first)
    switched = switching.activate(filled, beside)
    assert (switched.row.id, switched.recall) == (beside, None)


def test_real_questions_are_asked_of_both_versions(filled: Services) -> None:
    first, beside = served(filled), building.build(filled, collection_id(filled)).id
    golden.add(filled, "default", "Who renews the lease?", [Expected(source="leases.md")])
    switched = switching.activate(filled, beside)
    assert switched.recall is not None
    assert (switched.recall.before, switched.recall.after) == (1.0, 1.0)
    assert switching.rollback(filled, collection_id(filled)).row.id == first


def test_documents_count_the_chunks_of_what_is_served(filled: Services) -> None:
    def counted() -> list[int]:
        with filled.read() as session:
            page = documents.list_page(session, collection_id=collection_id(filled), limit=10)
        return [row.n_chunks for row in page.items]

    coarse = counted()
    fine = ChunkerSpec(max_tokens=16, overlap_tokens=0, min_tokens=2)
    switching.activate(filled, building.build(filled, collection_id(filled), chunker_spec=fine).id)
    assert sum(counted()) > sum(coarse)
    with filled.read() as session:
        assert sum(counted()) == chunks.count(session, chunker=fine.fingerprint)
    switching.rollback(filled, collection_id(filled))
    assert counted() == coarse
