"""The open snapshots: a commit is seen by the next request, and changes nothing for the one before."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.services import Services
from app.versions import building
from indexing.errors import EncoderMismatch, IndexDamaged, IndexMissing
from tests.unit.app.texts import PAGES, collection_id, ingest


@pytest.fixture
def version(services: Services) -> str:
    """A version with the leases in it."""
    ingest(services, {"leases.md": PAGES["leases.md"]})
    return building.ensure_active(services, collection_id(services)).id


def test_without_a_commit_it_is_the_same_one(services: Services, version: str) -> None:
    assert services.snapshots.get(version) is services.snapshots.get(version)


def test_a_commit_is_seen_by_the_next_and_not_by_the_one_before(services: Services, version: str) -> None:
    before = services.snapshots.get(version)
    ids = before.chunk_ids().tolist()
    ingest(services, {"tea.md": PAGES["tea.md"]})
    after = services.snapshots.get(version)
    assert len(after.chunk_ids()) == len(ids) + 1
    assert before.chunk_ids().tolist() == ids, "a request keeps what it began with"
    assert before.manifest.change < after.manifest.change


def test_a_held_snapshot_answers_after_its_files_were_superseded(services: Services, version: str) -> None:
    from retrievers.bm25 import Bm25Retriever
    from retrievers.types import Query

    held = Bm25Retriever(services.snapshots.get(version))
    expected = [hit.chunk_id for hit in held.retrieve([Query(text="lease")], 5)[0]]
    assert expected
    for n in range(3):
        ingest(services, {"leases.md": f"# Leases {n}\n\nA new text about a lease.\n"})
        services.snapshots.get(version)
    assert [hit.chunk_id for hit in held.retrieve([Query(text="lease")], 5)[0]] == expected


def test_a_missing_version_is_named_with_what_mends_it(services: Services, version: str) -> None:
    with pytest.raises(IndexMissing, match="footnote index rebuild"):
        services.snapshots.get("f" * 32)
    services.snapshots.get(version)
    shutil.rmtree(services.settings.indexes_dir / version)
    with pytest.raises(IndexMissing):
        services.snapshots.get(version)


def test_a_version_of_another_encoder_is_refused(services: Services, version: str) -> None:
    with pytest.raises(EncoderMismatch):
        services.snapshots.get(version, "another fingerprint")


def test_also_when_it_is_open_already(services: Services, version: str) -> None:
    services.snapshots.get(version)
    with pytest.raises(EncoderMismatch):
        services.snapshots.get(version, "another fingerprint")


def test_a_manifest_that_is_none_is_damage(services: Services, version: str) -> None:
    (services.settings.indexes_dir / version / "manifest.json").write_text("{")
    with pytest.raises(IndexDamaged):
        services.snapshots.get(version)


def test_many_who_ask_at_once_get_one(services: Services, version: str) -> None:
    services.snapshots.forget(version)
    with ThreadPoolExecutor(8) as threads:
        given = set(threads.map(lambda _: id(services.snapshots.get(version)), range(32)))
    assert len(given) == 1


def test_a_forgotten_version_is_opened_anew(services: Services, version: str) -> None:
    first = services.snapshots.get(version)
    services.snapshots.forget(version)
    services.snapshots.forget("never known")
    assert services.snapshots.get(version) is not first


def test_a_file_in_the_place_of_the_folder_is_damage(services: Services, version: str) -> None:
    directory = services.settings.indexes_dir / version
    shutil.rmtree(directory)
    directory.write_text("no folder")
    with pytest.raises(IndexDamaged, match="no folder"):
        services.snapshots.get(version)
