"""Each planted damage is found, and mended without encoding again what is kept anywhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.db import versions
from app.db.errors import VersionNotFound
from app.errors import Conflict
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.upkeep import repairing, switching
from app.versions import building, verifying
from app.versions.following import commit_pending
from app.worker import Worker
from indexing.errors import IndexOutdated, IndexVersionError
from tests.encoders import CountingEncoder
from tests.service import settings_for, work
from tests.unit.app import damage
from tests.unit.app.texts import PAGES, collection_id, follow, ingest, sources

LONG = "\n\n".join(
    f"# Part {n}\n\n" + f"Of matter {n} much is said here, day after day. " * 40 for n in range(6)
)
QUERIES = ("lease", "the pot", "dense score alpha", "matter 3")


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def services(home: Path, encoder: CountingEncoder):
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: encoder) as opened:
        ingest(opened, {**PAGES, "long.md": LONG})
        yield opened


def served(services: Services) -> str:
    return building.ensure_active(services, collection_id(services)).id


def kinds(services: Services, version: str) -> set[str]:
    return {problem.kind for problem in verifying.verify(services, version).problems}


def hits(services: Services) -> list[tuple[int, float]]:
    return [
        (passage.chunk.id, round(passage.score, 5))
        for query in QUERIES
        for mode in ("bm25", "dense", "hybrid")
        for passage in search(services, SearchRequest(query=query, mode=mode)).passages  # type: ignore[arg-type]
    ]


def test_a_sound_version_has_no_problem(services: Services) -> None:
    assert verifying.verify(services, served(services), files=True).problems == ()
    assert verifying.quick(services, served(services)).ok
    assert verifying.unnamed_directories(services) == []


@pytest.mark.parametrize("name", damage.EVERY)
def test_damage_is_found_and_mended(services: Services, encoder: CountingEncoder, name: str) -> None:
    plant, kind = damage.EVERY[name]
    version, before = served(services), hits(services)
    plant(services, version)
    assert kind in kinds(services, version)
    planned = repairing.repair(services, version, dry_run=True)
    assert planned.cures
    assert kind in kinds(services, version), "a dry run changes nothing"
    encoder.n_documents = 0
    done = repairing.repair(services, version)
    n_sampled = 2 * verifying.VECTORS_SAMPLED  # it looks before and after
    assert encoder.n_documents <= n_sampled or name == "wrong vector"
    assert kind in {problem.kind for problem in done.found}
    assert done.left == ()
    assert kinds(services, served(services)) == set()
    assert hits(services) == before
    assert (done.replaced_by is not None) == (name in damage.IN_FILES)
    assert served(services) == (done.replaced_by or version)
    if done.replaced_by:
        with services.read() as session, pytest.raises(VersionNotFound):
            versions.get(session, version)
        assert not (services.settings.indexes_dir / version).exists()
    # What was mended stays mended, and follows what changes.
    ingest(services, {"late.md": "A late arrival."})
    assert sources(services, "late arrival")[0] == "late.md"
    assert kinds(services, served(services)) == set()


def test_every_file_of_a_version_is_looked_at(services: Services) -> None:
    version = served(services)
    for path in damage.files(services, version):
        damage.flip(path)
        assert kinds(services, version) & {"checksum", "manifest"}, path.name
        damage.flip(path)
    assert kinds(services, version) == set()


def test_several_damages_at_once_are_mended(services: Services) -> None:
    version, before = served(services), hits(services)
    for plant in (
        damage.missing_chunks_of_a_document,
        damage.flipped_byte,
        damage.orphan_vector,
        damage.stale_row,
    ):
        plant(services, version)
    done = repairing.repair(services, version)
    assert done.left == ()
    assert hits(services) == before


def test_a_version_that_is_not_served_is_replaced_and_not_served(services: Services) -> None:
    first = served(services)
    beside = building.build(services, collection_id(services)).id
    damage.flipped_byte(services, beside)
    done = repairing.repair(services, beside)
    assert (done.left, served(services)) == ((), first)
    assert done.replaced_by is not None
    assert switching.activate(services, done.replaced_by).row.id == done.replaced_by


def test_a_text_that_is_gone_is_ingested_again_from_its_file(services: Services) -> None:
    version = served(services)
    damage.missing_text(services, version)
    assert "missing_text" in kinds(services, version)
    assert "the documents are ingested again from their files" in repairing.repair(services, version).cures
    work(services)
    follow(services)
    assert kinds(services, served(services)) == set()
    assert sources(services, "warm the pot", mode="bm25")[0] == "tea.md"


def test_files_of_the_store_are_looked_at_when_asked(services: Services) -> None:
    version = served(services)
    stored = sorted(
        path for path in services.settings.files_dir.rglob("*") if path.is_file() and path.stat().st_size
    )
    damage.flip(stored[0])
    stored[1].unlink()
    assert kinds(services, version) == set()
    found = verifying.verify(services, version, files=True).problems
    assert [problem.kind for problem in found] == ["file", "file"]
    done = repairing.repair(services, version)
    assert (done.found, done.cures) == ((), ()), "nobody but the user has the bytes"


def test_a_directory_that_no_row_names_is_told(services: Services) -> None:
    (services.settings.indexes_dir / ("a" * 32)).mkdir()
    (found,) = verifying.unnamed_directories(services)
    assert (found.kind, found.path) == ("directory", "a" * 32)


def test_who_mends_is_alone(services: Services) -> None:
    from app.versions import abandoned

    version = served(services)
    damage.flipped_byte(services, version)
    with (
        abandoned.building_lock(services.settings.indexes_dir, version),
        pytest.raises(Conflict, match="worked on"),
    ):
        repairing.repair(services, version)


@pytest.mark.parametrize("plant", [damage.forgotten_changes, damage.older_database])
def test_a_version_that_cannot_catch_up_says_so(services: Services, plant: damage.Damage) -> None:
    version = served(services)
    plant(services, version)
    with pytest.raises(IndexOutdated, match="footnote index repair"):
        commit_pending(services, version)


@pytest.mark.parametrize(
    "name", ["another format", "missing directory", "missing segment", "forgotten changes"]
)
def test_a_worker_that_starts_mends_what_cannot_be_used(
    services: Services, encoder: CountingEncoder, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    version, before = served(services), hits(services)
    damage.EVERY[name][0](services, version)
    encoder.n_documents = 0
    worker = Worker(services)
    worker.prepare()
    worker.close()
    assert encoder.n_documents == 0
    assert served(services) != version
    assert hits(services) == before
    assert "cannot be used and is made anew" in caplog.text
    assert repairing.mend_served(services) == [], "once is enough"


def test_a_damaged_version_is_not_activated(services: Services) -> None:
    first = served(services)
    for name, (plant, _) in damage.IN_FILES.items():
        if name in ("forgotten changes", "older database"):
            continue  # these concern every version
        beside = building.build(services, collection_id(services)).id
        plant(services, beside)
        with pytest.raises((Conflict, IndexVersionError)) as error:
            switching.activate(services, beside)
        assert error.value.code == "index_version_damaged", name
        assert served(services) == first
