"""Index versions follow the database: twice is once, late is in time, and what is wrong is found."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, insert, inspect, select, update

from app.db import collections, documents, inventory, versions
from app.db.errors import VersionNotFound, VersionNotReady
from app.db.tables import ChunkRow, IndexVersionRow, VectorRow
from app.documents import deleting, intake
from app.errors import Conflict
from app.search.searching import SearchRequest, search
from app.services import Services
from app.upkeep import switching
from app.versions import building, following, retention, verifying
from indexing.errors import IndexDamaged
from tests.unit.app.texts import PAGES, collection_id, follow, ingest, sources, unfinished

QUERIES = ("lease", "the pot", "dense score alpha", "water")


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def active_of(services: Services) -> IndexVersionRow:
    return building.ensure_active(services, collection_id(services))


def problems(services: Services, version_id: str) -> list[verifying.Problem]:
    """What is wrong with the index of a version."""
    with services.read() as session:
        return verifying.index_problems(services, versions.get(session, version_id))


def hits(services: Services) -> list[tuple[int, float]]:
    """What searches give, in every mode."""
    return [
        (passage.chunk.id, round(passage.score, 6))
        for query in QUERIES
        for mode in ("bm25", "dense", "hybrid")
        for passage in search(services, SearchRequest(query=query, mode=mode)).passages
    ]


def indexed(services: Services, version: str) -> list[int]:
    ids: list[int] = services.snapshots.get(version).chunk_ids().tolist()
    return ids


def directories(services: Services) -> set[str]:
    return {path.name for path in services.settings.indexes_dir.iterdir()}


@pytest.mark.parametrize("with_tokens", [False, True])
def test_a_single_missing_vector_is_noticed(filled: Services, with_tokens: bool) -> None:
    fingerprint = active_of(filled).encoder_fingerprint

    def has_every_vector() -> bool:
        with filled.read() as session:
            return inventory.has_every_vector(session, fingerprint, with_tokens=with_tokens)

    with filled.write() as session:
        session.execute(update(VectorRow).values(tokens=b"codes" if with_tokens else None, n_tokens=1))
    assert has_every_vector()
    with filled.write() as session:
        one = session.scalars(select(VectorRow.text_hash).limit(1)).one()
        of_one = VectorRow.text_hash == one
        statement = update(VectorRow).values(tokens=None) if with_tokens else delete(VectorRow)
        session.execute(statement.where(of_one).execution_options(synchronize_session=False))
    assert not has_every_vector()
    with filled.write() as session:
        session.execute(delete(ChunkRow).where(ChunkRow.text_hash == one))
    assert has_every_vector(), "no chunk needs it"


def test_the_first_need_makes_an_empty_version_that_is_served(services: Services) -> None:
    row = active_of(services)
    assert (row.status, row.n_chunks) == ("ready", 0)
    assert active_of(services).id == row.id
    assert problems(services, row.id) == []


def test_many_who_need_the_first_version_get_the_same(services: Services) -> None:
    owner, start = collection_id(services), threading.Barrier(4)

    def ensure() -> str:
        start.wait(10)
        return building.ensure_active(services, owner).id

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(ensure) for _ in range(4)]
        given = {future.result(timeout=30) for future in futures}
    assert len(given) == 1
    with services.read() as session:
        assert [row.id for row in versions.list_all(session)] == list(given)
    assert directories(services) == given, "those that came too late left nothing"


def test_committing_twice_is_committing_once(filled: Services) -> None:
    version = active_of(filled).id
    before, manifest = hits(filled), filled.snapshots.get(version).manifest
    assert following.commit_pending(filled, version) == manifest.change
    assert filled.snapshots.get(version).manifest == manifest, "nothing to do writes nothing"
    assert hits(filled) == before


def test_a_version_of_which_the_end_was_not_recorded_catches_up(filled: Services) -> None:
    """As after a kill between the commit and the row in the database, or the other way round."""
    version = active_of(filled).id
    before = hits(filled)
    with filled.write() as session:
        versions.set_counts(session, version, n_documents=0, n_chunks=0, change_number=0)
    assert following.lagging(filled) == [version]
    follow(filled)
    assert following.lagging(filled) == []
    row = active_of(filled)
    assert (row.n_documents, row.n_chunks) == (len(PAGES), len(indexed(filled, version)))
    assert hits(filled) == before


def test_changes_beyond_one_commit_are_all_applied(filled: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "CHANGES_A_COMMIT", 2)
    monkeypatch.setattr(following, "CHUNKS_A_BATCH", 1)
    late = unfinished(filled)
    following.commit_pending(filled, late)
    assert indexed(filled, late) == indexed(filled, active_of(filled).id)
    assert problems(filled, late) == []


def test_a_deleted_document_leaves_the_index_with_the_next_commit(filled: Services) -> None:
    version = active_of(filled).id
    n_before = len(indexed(filled, version))
    intake.delete(filled, documents.id_of("default", "tea.md"))
    assert following.lagging(filled) == [version]
    follow(filled)
    assert len(indexed(filled, version)) == n_before - 1
    assert problems(filled, version) == []


def test_a_rebuilt_index_gives_the_same_hits_and_encodes_nothing(filled: Services) -> None:
    before, first = hits(filled), active_of(filled).id
    with filled.read() as session:
        kept = session.scalars(select(VectorRow.created_at)).all()
    stages: list[str] = []
    row = building.rebuild(filled, active_of(filled), lambda stage, _done, _total: stages.append(stage))
    switching.replace(filled, row.id)
    assert row.id != first
    assert active_of(filled).id == row.id
    assert hits(filled) == before
    with filled.read() as session:
        assert session.scalars(select(VectorRow.created_at)).all() == kept
    assert [*dict.fromkeys(stages)] == ["chunk", "encode", "index", "verify"]


def test_a_collection_that_never_had_a_document_is_built(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, n_parts = building.VersionWriter.commit, 0

    def counted(*args: Any, **named: Any) -> Any:
        nonlocal n_parts
        n_parts += 1
        assert n_parts < 10, "the build goes on without end"
        return commit(*args, **named)

    monkeypatch.setattr(building.VersionWriter, "commit", counted)
    built = building.build(services, collection_id(services))
    assert (built.status, built.n_chunks) == ("ready", 0)
    switching.activate(services, built.id)
    ingest(services, PAGES)
    assert sources(services, "lease")
    assert problems(services, built.id) == []


def test_a_collection_that_was_emptied_is_rebuilt(filled: Services) -> None:
    """The log of how it became empty is forgotten by then."""
    version = active_of(filled)
    with filled.read() as session:
        members = documents.ids_of_collection(session, collection_id(filled))
    deleting.delete_some(filled, collection_id(filled), members)
    follow(filled)
    assert retention.forget_changes(filled, collection_id(filled)) > 0
    made = building.rebuild(filled, version)
    assert (made.status, made.n_chunks, problems(filled, made.id)) == ("ready", 0, [])
    switching.activate(filled, made.id)
    ingest(filled, PAGES)
    assert sources(filled, "lease")


def test_lost_vectors_are_made_again(filled: Services) -> None:
    before = hits(filled)
    with filled.write() as session:
        session.execute(delete(VectorRow))
    switching.replace(filled, building.rebuild(filled, active_of(filled)).id)
    assert hits(filled) == before


def test_a_version_with_another_chunker_stands_beside(filled: Services) -> None:
    owner, first = collection_id(filled), active_of(filled)
    fine = replace(filled.chunker_spec(), max_tokens=16, overlap_tokens=0, min_tokens=0)
    row = building.build(filled, owner, chunker_spec=fine)
    assert (row.status, active_of(filled).id) == ("ready", first.id)
    assert row.n_documents == len(PAGES)
    assert problems(filled, row.id) == []
    assert problems(filled, first.id) == []
    assert sources(filled, "lease")[0] == "leases.md"
    switching.activate(filled, row.id)
    assert sources(filled, "lease")[0] == "leases.md"


def test_activation_catches_up_first_and_rollback_too(filled: Services) -> None:
    owner, first = collection_id(filled), active_of(filled).id
    beside = building.build(filled, owner).id
    ingest(filled, {"late.md": "A late arrival."})
    intake.delete(filled, documents.id_of("default", "tea.md"))
    follow(filled)
    assert len(indexed(filled, beside)) == len(PAGES), "it is not served, so nobody waits for it"
    assert switching.activate(filled, beside).row.id == active_of(filled).id == beside
    assert sources(filled, "late arrival")[0] == "late.md"
    assert problems(filled, beside) == []
    ingest(filled, {"later.md": "A later arrival."})
    assert switching.rollback(filled, owner).row.id == active_of(filled).id == first
    assert sources(filled, "later arrival")[0] == "later.md"
    assert "tea.md" not in sources(filled, "warm the pot")
    assert problems(filled, first) == []


def test_there_is_nothing_to_go_back_to(filled: Services) -> None:
    with pytest.raises(Conflict) as error:
        switching.rollback(filled, collection_id(filled))
    assert error.value.code == "no_previous_version"


def test_only_a_ready_version_of_this_service_is_served(filled: Services) -> None:
    with pytest.raises(VersionNotReady):
        switching.activate(filled, unfinished(filled))
    with pytest.raises(VersionNotFound):
        switching.activate(filled, "0" * 32)


def test_a_build_that_fails_is_recorded_and_leaves_no_files(
    filled: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, served = hits(filled), directories(filled)

    def no_disk(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(following, "vectors_of", no_disk)
    with pytest.raises(OSError, match="no space"):
        building.build(filled, collection_id(filled))
    monkeypatch.undo()
    with filled.read() as session:
        failed = next(row for row in versions.list_all(session) if row.status == "failed")
    assert "no space left" in (failed.error or "")
    assert directories(filled) == served
    assert hits(filled) == before


def test_a_flipped_byte_is_found_in_every_file(filled: Services) -> None:
    version = active_of(filled).id
    folder = filled.settings.indexes_dir / version
    files = [folder / record.name for record in filled.snapshots.get(version).manifest.files]
    assert len(files) > 3
    for path in files:
        if path.stat().st_size:
            flip(path)
            found = problems(filled, version)
            assert [item.kind for item in found] == ["checksum"], path.name
            assert path.name in found[0].path
            flip(path)
    assert problems(filled, version) == []


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_chunk_that_only_the_database_has_is_found_and_so_is_one_it_lacks(filled: Services) -> None:
    version = active_of(filled)
    with filled.write() as session:
        known = session.scalars(select(ChunkRow).limit(1)).one()
        values = {column.key: getattr(known, column.key) for column in inspect(ChunkRow).column_attrs}
        session.execute(insert(ChunkRow).values({**values, "id": 12345, "ordinal": 99}))
    (lost,) = problems(filled, version.id)
    assert (lost.kind, "1 chunks of the database are not in the index" in lost.detail) == ("ids", True)
    with filled.write() as session:
        session.execute(delete(ChunkRow).where(ChunkRow.id.in_([12345, values["id"]])))
    (extra,) = problems(filled, version.id)
    assert "1 chunks of the index are not in the database" in extra.detail


def test_changes_on_their_way_are_no_problem(filled: Services) -> None:
    version = active_of(filled).id
    intake.delete(filled, documents.id_of("default", "tea.md"))
    assert problems(filled, version) == []
    with filled.read() as session:
        assert collections.get(session, collection_id(filled)).change_number > active_of(filled).change_number


def test_a_build_that_does_not_pass_its_check_is_not_served(filled: Services) -> None:
    before, stood = active_of(filled).id, directories(filled)

    def spoil(stage: str, done: int, total: int) -> None:
        if stage == "verify" and done == 0:
            (folder,) = (
                path
                for path in filled.settings.indexes_dir.iterdir()
                if path.is_dir() and path.name not in stood
            )
            records = filled.snapshots.get(folder.name).manifest.files
            flip(next(folder / record.name for record in records if record.size))

    with pytest.raises(IndexDamaged, match="sha256"):
        building.rebuild(filled, active_of(filled), spoil)
    assert active_of(filled).id == before
    assert directories(filled) == stood
