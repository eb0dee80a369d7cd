"""Which versions are kept, and what goes with those that are not."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import func, select, update

from app.db import collections, versions
from app.db.errors import VersionActive, VersionNotFound
from app.db.tables import ChangeRow, ChunkRow, IndexVersionRow, VectorRow
from app.db.types import utc_now
from app.errors import Conflict
from app.search.searching import SearchRequest, search
from app.services import Services
from app.settings import IndexSettings
from app.upkeep import switching
from app.upkeep.orders import BuildOrder
from app.upkeep.upkeep import Upkeep
from app.versions import abandoned, building, retention
from tests.unit.app import damage
from tests.unit.app.texts import PAGES, collection_id, ingest, sources, unfinished


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def build(services: Services, **order: object) -> str:
    encoder_spec, chunker_spec = BuildOrder(settings=order).specs(services)
    owner = collection_id(services)
    return building.build(services, owner, encoder_spec=encoder_spec, chunker_spec=chunker_spec).id


def served(services: Services) -> str:
    return building.ensure_active(services, collection_id(services)).id


def present(services: Services) -> set[str]:
    with services.read() as session:
        named = {row.id for row in versions.list_all(session) if row.status != "failed"}
    assert named == {path.name for path in services.settings.indexes_dir.iterdir() if path.is_dir()}
    return named


def count(services: Services, table: type) -> int:
    with services.read() as session:
        return session.scalars(select(func.count()).select_from(table)).one()


def test_the_served_one_and_the_last_ready_ones_are_kept(filled: Services) -> None:
    first = served(filled)
    second, third, fourth = (build(filled) for _ in range(3))
    assert present(filled) == {first, second, third, fourth}
    assert [row.id for row in retention.superfluous(filled, collection_id(filled))] == [second]
    assert retention.prune(filled, collection_id(filled)) == [second]
    assert present(filled) == {first, third, fourth}
    assert retention.prune(filled, collection_id(filled), keep=0) == [fourth, third]
    assert present(filled) == {first}
    assert sources(filled, "lease")[0] == "leases.md"


def test_the_one_to_roll_back_to_is_the_last_to_go(filled: Services) -> None:
    first = served(filled)
    build(filled)
    last = build(filled)
    switching.activate(filled, last)
    retention.prune(filled, collection_id(filled), keep=1)
    assert present(filled) == {first, last}
    assert switching.rollback(filled, collection_id(filled)).row.id == first


def test_activation_collects_what_is_superfluous(filled: Services) -> None:
    filled.settings = filled.settings.model_copy(update={"index": IndexSettings(keep_versions=1)})
    first = served(filled)
    second, third = build(filled), build(filled)
    switching.activate(filled, third)
    assert present(filled) == {first, third}, f"{second} was never served"


def test_a_version_that_waits_to_be_served_is_kept(filled: Services) -> None:
    filled.settings = filled.settings.model_copy(update={"index": IndexSettings(keep_versions=0)})
    first = served(filled)
    older, newer = build(filled), build(filled)
    assert retention.prune(filled, collection_id(filled)) == [older]
    assert present(filled) == {first, newer}
    assert retention.prune(filled, collection_id(filled), keep=0) == [newer], "who asks for it gets it"


def test_failures_are_kept_until_a_later_build_went_well(filled: Services) -> None:
    failed = unfinished(filled)
    with filled.write() as session:
        versions.set_status(session, failed, "failed", error="why")
    assert retention.superfluous(filled, collection_id(filled)) == []
    build(filled)
    assert [row.id for row in retention.superfluous(filled, collection_id(filled))] == [failed]


def test_what_is_being_built_or_worked_on_stays(filled: Services) -> None:
    beside = build(filled)
    begun = unfinished(filled)
    with abandoned.building_lock(filled.settings.indexes_dir, beside):
        assert retention.prune(filled, collection_id(filled), keep=0) == []
        with pytest.raises(Conflict) as error:
            retention.delete(filled, beside)
    assert error.value.code == "index_version_busy"
    assert present(filled) >= {beside, begun}


def test_the_served_version_cannot_be_deleted(filled: Services) -> None:
    with pytest.raises(VersionActive):
        retention.delete(filled, served(filled))
    with pytest.raises(VersionNotFound):
        retention.delete(filled, "0" * 32)
    beside = build(filled)
    retention.delete(filled, beside)
    assert present(filled) == {served(filled)}


def test_a_version_that_a_request_reads_stays_readable(filled: Services) -> None:
    first, last = served(filled), build(filled)
    index = filled.indexes.serving(collection_id(filled), first)
    switching.activate(filled, last)
    retention.prune(filled, collection_id(filled), keep=0)
    assert not damage.folder(filled, first).exists()
    from retrievers.types import Query

    hits = index.retriever("bm25").retrieve([Query(text="lease")], 5)[0]
    assert hits
    result = search(filled, SearchRequest(query="lease"))
    assert result.index_version == last


def test_chunks_go_with_the_last_version_of_their_chunker(
    filled: Services,
) -> None:
    n_chunks, n_vectors = count(filled, ChunkRow), count(filled, VectorRow)
    fine = {"chunker.max_tokens": 16, "chunker.overlap_tokens": 0}
    beside, other = build(filled, **fine), build(filled, **fine)
    assert count(filled, ChunkRow) > n_chunks
    retention.delete(filled, beside)
    retention.tidy(filled, collection_id(filled))
    assert count(filled, ChunkRow) > n_chunks, "another version needs them"
    retention.delete(filled, other)
    retention.tidy(filled, collection_id(filled))
    assert count(filled, ChunkRow) == n_chunks
    assert count(filled, VectorRow) > n_vectors
    assert retention.forget_orphans(filled, 3600) == 0, "they may be about to be needed"
    assert retention.forget_orphans(filled, 0) > 0
    assert count(filled, VectorRow) == n_vectors
    assert sources(filled, "lease")[0] == "leases.md"


def test_changes_are_forgotten_that_every_version_has(filled: Services) -> None:
    owner = collection_id(filled)
    beside = build(filled)
    ingest(filled, {"late.md": "A late arrival."})
    with filled.read() as session:
        behind = versions.get(session, beside).change_number
        last = collections.get(session, owner).change_number
    assert behind < last
    retention.forget_changes(filled, owner)
    assert count(filled, ChangeRow) == last - behind, "the other version lacks them"
    switching.activate(filled, beside)
    assert sources(filled, "late arrival")[0] == "late.md"
    retention.delete(filled, next(version for version in present(filled) if version != beside))
    retention.forget_changes(filled, owner)
    assert count(filled, ChangeRow) == 0
    ingest(filled, {"later.md": "A later arrival."})
    assert sources(filled, "later arrival")[0] == "later.md"


def test_a_build_that_waits_to_be_gone_on_with_keeps_its_changes(filled: Services) -> None:
    def stop_at_the_index(stage: str, done: int, _total: int) -> None:
        if stage == "index" and done:
            raise building.BuildStopped

    with pytest.raises(building.BuildStopped):
        building.build(filled, collection_id(filled), progress=stop_at_the_index)
    ingest(filled, {"late.md": "A late arrival."})
    retention.forget_changes(filled, collection_id(filled))
    switching.activate(filled, build(filled))
    assert sources(filled, "late arrival")[0] == "late.md"


def test_upkeep_keeps_what_is_to_be_kept(filled: Services) -> None:
    first = served(filled)
    with filled.write() as session:
        long_ago = utc_now() - timedelta(days=1)
        session.execute(update(IndexVersionRow).values(created_at=long_ago, activated_at=long_ago))
    for _ in range(4):
        build(filled)
    upkeep = Upkeep(filled)
    assert upkeep.step(lambda: False)
    assert len(present(filled)) == 3
    assert first in present(filled)
    assert not upkeep.step(lambda: False), "not again at once"
