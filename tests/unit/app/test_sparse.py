"""Learned sparse vectors in the service: made once, kept, searched, followed, verified and mended."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select

from app.db import versions
from app.db.tables import VectorRow
from app.documents import deleting
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import SparseSettings
from app.upkeep import repairing
from app.versions import building, verifying
from indexing.encoding.fake import WordEncoder
from indexing.errors import EncoderMismatch
from indexing.merging import merge_version
from retrievers.errors import ModeUnavailable
from tests.service import settings_for
from tests.unit.app.texts import collection_id, follow, ingest
from tests.unit.indexing.encoding.tiny_sparse_model import save_tiny_inference_free

PAGES = {
    "river.txt": "The old river in the north.",
    "bread.txt": "One bread, two apple trees and water.",
    "fire.txt": "Red fire under the blue sky.",
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_inference_free(tmp_path_factory.mktemp("sparse"))


@pytest.fixture
def services(home: Path, model: Path) -> Iterator[Services]:
    sparse = SparseSettings(model=str(model), device="cpu")
    with open_services(settings_for(home, "", sparse=sparse), load=lambda *_: WordEncoder()) as opened:
        ingest(opened, PAGES)
        yield opened


def found(services: Services, query: str = "red river", **fields: object) -> dict[str, float]:
    request = replace(SearchRequest(query=query, mode="sparse"), **fields)
    return {passage.source: passage.score for passage in search(services, request).passages}


def served(services: Services) -> versions.IndexVersionRow:
    return building.ensure_active(services, collection_id(services))


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("a text was encoded again")


def test_scores_are_inner_products_of_what_the_model_gives(services: Services) -> None:
    encoder = services.sparse_encoders.set_up()
    assert encoder is not None
    query = encoder.encode_query("red river")
    expected = {}
    for source, text in PAGES.items():
        (vector,) = encoder.encode_documents([text])
        weights = dict(zip(vector.terms.tolist(), vector.weights.tolist(), strict=True))
        pairs = zip(query.terms.tolist(), query.weights.tolist(), strict=True)
        expected[source] = sum(weight * weights.get(term, 0.0) for term, weight in pairs)
    scores = found(services)
    assert list(scores) == sorted(expected, key=lambda source: -expected[source])
    for source, score in scores.items():
        assert score == pytest.approx(expected[source], rel=0.01)


def test_a_filter_is_kept(services: Services) -> None:
    assert list(found(services, filters={"source": {"$eq": "bread.txt"}})) == ["bread.txt"]


def test_sparse_is_one_of_the_retrievers_that_can_be_fused(services: Services) -> None:
    from retrievers.fused import FusionSpec

    request = SearchRequest(
        query="red river", mode="fused", fusion=FusionSpec(retrievers=("bm25", "sparse"), method="rrf")
    )
    assert {passage.source for passage in search(services, request).passages} == set(PAGES)


def test_a_rebuild_encodes_nothing(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    before = found(services)
    monkeypatch.setattr(services.sparse_encoders.set_up(), "encode_documents", refuse)
    row = building.rebuild(services, served(services))
    assert found(services, index_version=row.id) == before
    assert verifying.verify(services, row.id).ok


def test_a_deleted_document_is_found_no_more_and_its_vector_goes(services: Services) -> None:
    deleting.delete(services, _id_of(services, "fire.txt"))
    follow(services)
    assert set(found(services)) == {"river.txt", "bread.txt"}
    assert _n_kept(services) == 2
    merge_version(services.settings.indexes_dir / served(services).id, purge=True)
    assert set(found(services)) == {"river.txt", "bread.txt"}
    assert verifying.verify(services, served(services).id).ok


def test_lost_vectors_come_back_from_the_index(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    row = served(services)
    fingerprint = services.sparse_encoders.set_up().fingerprint
    with services.read() as session:
        kept = _kept(session, fingerprint)
    with services.write() as session:
        session.execute(delete(VectorRow).where(VectorRow.fingerprint == fingerprint))
    assert [problem.kind for problem in verifying.verify(services, row.id).problems] == ["missing_vectors"]
    monkeypatch.setattr(services.sparse_encoders.set_up(), "encode_documents", refuse)
    repairing.repair(services, row.id)
    with services.read() as session:
        assert _kept(session, fingerprint) == kept
    assert verifying.verify(services, row.id).ok


def test_a_version_without_sparse_vectors_says_what_to_set(home: Path) -> None:
    with open_services(settings_for(home, ""), load=lambda *_: WordEncoder()) as services:
        ingest(services, PAGES)
        with pytest.raises(ModeUnavailable, match="FOOTNOTE_SPARSE_MODEL"):
            found(services)


def test_a_version_keeps_its_model_whatever_is_set_later(services: Services, home: Path) -> None:
    before = found(services)
    with open_services(settings_for(home, ""), load=lambda *_: WordEncoder()) as without:
        assert found(without) == before
        ingest(without, {"new.txt": "A new red river."})
        assert "new.txt" in found(without)


def test_another_model_in_the_place_of_the_first_is_refused(
    services: Services, model: Path, home: Path, tmp_path: Path
) -> None:
    other = save_tiny_inference_free(tmp_path / "other", seed=2)
    model.rename(tmp_path / "first")
    other.rename(model)
    try:
        with (
            open_services(settings_for(home, ""), load=lambda *_: WordEncoder()) as later,
            pytest.raises(EncoderMismatch, match="index build"),
        ):
            found(later)
    finally:
        model.rename(other)
        (tmp_path / "first").rename(model)


def test_the_terms_of_a_hit_add_up_to_its_score(services: Services) -> None:
    result = search(services, SearchRequest(query="red river", mode="sparse", explain=True))
    assert result.explanation is not None
    for passage in result.passages:
        terms = result.explanation.hits[passage.chunk.id].terms["sparse"]
        assert set(terms) <= {"red", "river"}
        assert sum(terms.values()) == pytest.approx(passage.score, rel=1e-6)


def _id_of(services: Services, source: str) -> int:
    passages = search(services, SearchRequest(query="red river", mode="sparse")).passages
    return next(int(passage.chunk.document_id) for passage in passages if passage.source == source)


def _kept(session: object, fingerprint: str) -> dict[str, bytes]:
    rows = session.execute(  # type: ignore[attr-defined]
        select(VectorRow.text_hash, VectorRow.vector).where(VectorRow.fingerprint == fingerprint)
    )
    return {key: vector for key, vector in rows if vector}


def _n_kept(services: Services) -> int:
    with services.read() as session:
        return len(_kept(session, services.sparse_encoders.set_up().fingerprint))


def test_empty_texts_have_an_empty_vector_and_are_not_found(services: Services) -> None:
    encoder = services.sparse_encoders.set_up()
    assert encoder is not None
    assert len(encoder.encode_query("")) == 0
    assert found(services, query="") == {}
    assert np.isfinite(list(found(services).values())).all()
