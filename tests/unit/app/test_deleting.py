"""A deletion says what was removed where, and nothing of the text is left: not in an index, not in a file."""

from __future__ import annotations

import threading
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app import purging
from app.db import chunks, collections, documents, vectors, versions
from app.db.errors import DocumentNotFound
from app.documents import deleting, ingestion, intake
from app.documents.deleting import Choice
from app.documents.receipts import IndexRemoval, Probe, read_receipt
from app.errors import InvalidRequest
from app.search.searching import SearchRequest, search
from app.services import Services
from app.versions import building
from indexing.types import text_hash
from indexing.version import VersionWriter
from tests.service import work

MARKER = "zyzzyvine"
TEA = "# Tea\n\nWarm the pot before the leaves go in.\n"
SECRET = f"# Secret\n\nThe {MARKER} opens the harbour gate.\n"


@pytest.fixture
def filled(services: Services) -> Services:
    for source, text in {"tea.md": TEA, "secret.md": SECRET}.items():
        add(services, source, text)
    work(services)
    return services


def add(services: Services, source: str, text: str) -> int:
    accepted = intake.submit(services, intake.Submission(filename=source), BytesIO(text.encode()))
    return accepted.document.id


def id_of(source: str) -> int:
    return documents.id_of("default", source)


def found(services: Services, query: str, mode: str = "bm25") -> list[str]:
    request = SearchRequest(query=query, mode=mode)  # type: ignore[arg-type]
    return [passage.source for passage in search(services, request).passages]


def active_of(services: Services) -> Any:
    with services.read() as session:
        return versions.active(session, collections.id_of("default"))


def test_the_receipt_says_what_was_removed_where(filled: Services) -> None:
    receipt = deleting.delete(filled, id_of("secret.md"))
    version = active_of(filled)
    assert receipt.rows == {
        "documents": 1, "revisions": 1, "text_parts": 0, "chunks": 1, "attributes": 0, "synced_files": 0,
        "staged_chunks": 0, "nodes": 0, "node_children": 0, "vectors": 1, "redacted_jobs": 1,
        "redacted_answers": 0,
    }  # fmt: skip
    assert receipt.files == {"removed": 1, "kept": 0, "kept_for_documents": 0}
    assert receipt.indexes == (
        IndexRemoval(version=version.id, n_rows=1, change_number=version.change_number),
    )
    assert receipt.probe == (
        Probe(mode="bm25", n_searches=1, n_found_before=1, n_found_after=0),
        Probe(mode="dense", n_searches=1, n_found_before=1, n_found_after=0),
    )
    assert (receipt.pending, receipt.purged_at) == ((), None)
    assert read_receipt(filled, receipt.id) == receipt
    with pytest.raises(DocumentNotFound):
        deleting.delete(filled, id_of("secret.md"))


def test_the_index_has_nothing_of_it_before_any_worker_comes(filled: Services) -> None:
    deleting.delete(filled, id_of("secret.md"))
    snapshot = filled.snapshots.get(active_of(filled).id)
    assert snapshot.documents().tolist() == [id_of("tea.md")]
    assert found(filled, MARKER) == []
    work(filled)
    assert found(filled, "warm the pot") == ["tea.md"]


def test_the_retriever_that_is_held_in_memory_forgets_it_too(filled: Services) -> None:
    def score() -> float:
        request = SearchRequest(query="leaves", mode="rank_bm25")
        return search(filled, request).passages[0].score

    for name in ("coffee", "cocoa"):
        add(filled, f"{name}.md", f"# {name}\n\nStir the {name}.\n")
    work(filled)
    before = score()
    deleting.delete(filled, id_of("secret.md"))
    assert score() != before, "its statistics are those of the documents that are left"


def test_the_same_bytes_of_another_document_stay(filled: Services) -> None:
    add(filled, "copy.md", SECRET)
    work(filled)
    receipt = deleting.delete(filled, id_of("secret.md"))
    assert receipt.files == {"removed": 0, "kept": 1, "kept_for_documents": 1}
    assert receipt.rows["vectors"] == 0, "the other document's chunk has the same text"
    assert found(filled, MARKER) == ["copy.md"]
    assert found(filled, MARKER, "dense")[0] == "copy.md"
    assert deleting.delete(filled, id_of("copy.md")).rows["vectors"] == 1


def test_no_name_of_the_document_is_kept(filled: Services) -> None:
    receipt = deleting.delete(filled, id_of("secret.md"))
    assert "secret" not in repr(read_receipt(filled, receipt.id))
    with filled.read() as session:
        jobs = session.connection().exec_driver_sql("SELECT payload, error_detail FROM jobs").all()
    assert "secret.md" not in repr(jobs)
    assert "tea.md" in repr(jobs)


def test_a_document_that_was_never_indexed_is_deleted_with_its_job(services: Services) -> None:
    document_id = add(services, "secret.md", SECRET)
    receipt = deleting.delete(services, document_id)
    assert (receipt.rows["chunks"], receipt.indexes, receipt.probe) == (0, (), ())
    work(services)
    assert list(services.store.folder.rglob("*secret*")) == []
    with services.read() as session:
        assert documents.counts(session) == {}


def test_an_index_that_another_writes_to_is_pending_and_follows(
    filled: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deleting, "WAIT_SECONDS", 0.1)
    version = active_of(filled)
    with VersionWriter(filled.settings.indexes_dir / version.id):
        receipt = deleting.delete(filled, id_of("secret.md"))
    assert len(receipt.pending) == 1
    assert version.id in receipt.pending[0]
    assert {probe.n_found_after for probe in receipt.probe} == {1}, "said as it is"
    assert found(filled, MARKER) == [], "the database shows it no more"
    work(filled)
    assert read_receipt(filled, receipt.id).pending == ()


def test_a_source_that_comes_back_is_not_taken_out_by_its_former_deletion(filled: Services) -> None:
    version = active_of(filled)
    taken = intake.delete_all(filled, version.collection_id, [id_of("secret.md")])
    add(filled, "secret.md", SECRET)
    work(filled)
    removed = deleting.remove_from_indexes(
        filled, version.collection_id, [(taken.change_number, taken.document_ids)]
    )
    assert [item.n_rows for item in removed] == [0]
    assert found(filled, MARKER) == ["secret.md"]


def test_an_ingest_that_counted_on_a_vector_that_went_encodes_anew(filled: Services) -> None:
    encode = ingestion.encode

    def deleted_meanwhile(*arguments: Any) -> Any:
        cut = encode(*arguments)
        assert deleting.delete(filled, id_of("secret.md")).rows["vectors"] == 1
        return cut

    add(filled, "copy.md", SECRET)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ingestion, "encode", deleted_meanwhile)
        work(filled)
    assert found(filled, MARKER, "dense")[0] == "copy.md"


def test_many_are_chosen_by_filter_and_pattern(filled: Services) -> None:
    add(filled, "secret.txt", SECRET)
    work(filled)

    def sources(**choice: object) -> list[str]:
        return [source for _, source in deleting.chosen(filled, Choice(collection="default", **choice))]  # type: ignore[arg-type]

    assert sources(source="secret.*") == ["secret.md", "secret.txt"]
    assert sources(source="secret.*", where={"source": {"$ne": "secret.txt"}}) == ["secret.md"]
    assert sources(document_ids=(id_of("tea.md"), 5)) == ["tea.md"]
    assert sources(source="SECRET*") == []
    nothings: list[dict[str, object]] = [{}, {"where": {}}, {"document_ids": ()}]
    for nothing in nothings:
        with pytest.raises(InvalidRequest):
            sources(**nothing)
    chosen = deleting.chosen(filled, Choice(collection="default", source="secret.*"))
    (receipt,) = deleting.delete_many(filled, collections.id_of("default"), [key for key, _ in chosen])
    assert receipt.rows["documents"] == 2
    assert receipt.files == {"removed": 1, "kept": 0, "kept_for_documents": 0}
    assert list(deleting.delete_many(filled, collections.id_of("default"), [key for key, _ in chosen])) == []


def test_a_collection_is_deleted_with_a_receipt(filled: Services) -> None:
    with filled.write() as session:
        collections.create(session, "papers")
    submission = intake.Submission(filename="secret.md", collection="papers")
    intake.submit(filled, submission, BytesIO(SECRET.replace("harbour", "garden").encode()))
    work(filled)
    receipt = deleting.delete_collection(filled, "papers")
    assert (receipt.kind, receipt.collection, receipt.document_ids) == ("collection", "papers", ())
    assert receipt.rows["documents"] == receipt.rows["chunks"] == receipt.rows["vectors"] == 1
    assert receipt.files["removed"] == 1
    assert [item.pending for item in receipt.indexes] == [None]
    assert [path.name for path in filled.settings.indexes_dir.iterdir() if path.is_dir()] == [
        active_of(filled).id
    ]
    assert found(filled, MARKER) == ["secret.md"]


def traces(home: Path, needles: dict[str, bytes]) -> dict[str, list[str]]:
    """The files under a folder in which each needle stands."""
    files = [path for path in home.rglob("*") if path.is_file()]
    held = {path: path.read_bytes() for path in files}
    return {
        name: sorted(str(path.relative_to(home)) for path, data in held.items() if needle in data)
        for name, needle in needles.items()
    }


def needles_of(services: Services, source: str) -> dict[str, bytes]:
    with services.read() as session:
        (chunk,) = chunks.of_document(session, id_of(source))
        version = versions.active(session, collections.id_of("default"))
        assert version is not None
        key = text_hash(chunk.contextual_text)
        vector = vectors.load(session, version.encoder_fingerprint, [key])[key]
    return {"word": MARKER.encode(), "vector": vector, "name": source.encode()}


def test_after_a_purge_no_byte_is_left_anywhere(filled: Services) -> None:
    for number in range(30):  # so that pages of the database are split and moved
        add(filled, f"page-{number}.md", f"# Page {number}\n\n{'Warm the pot again. ' * 40}{number}\n")
    work(filled)
    needles = needles_of(filled, "secret.md")
    before = traces(filled.settings.home, needles)
    assert any(name.startswith("files/") for name in before["word"])
    assert any("footnote.db" in name for name in before["word"])
    assert any(name.startswith("indexes/") for name in before["vector"])
    assert any("footnote.db" in name for name in before["vector"])
    receipt = deleting.delete(filled, id_of("secret.md"))
    assert traces(filled.settings.home, needles)["word"], "the bytes wait for a purge"
    purged = purging.purge(filled, collections.id_of("default"))
    assert purged.pending == ()
    assert purged.deletion_ids == (receipt.id,)
    assert read_receipt(filled, receipt.id).purged_at is not None
    assert traces(filled.settings.home, needles) == {"word": [], "vector": [], "name": []}
    assert found(filled, "warm the pot")


def test_a_purge_reaches_the_versions_that_are_kept_for_a_rollback(filled: Services) -> None:
    needles = needles_of(filled, "secret.md")
    former = active_of(filled)
    building.rebuild(filled, former)
    with filled.read() as session:
        kept = versions.list_all(session, collection_id=former.collection_id, status="ready")
    assert len(kept) == 2
    receipt = deleting.delete(filled, id_of("secret.md"))
    assert [item.n_rows for item in receipt.indexes] == [1, 1]
    assert purging.purge(filled, former.collection_id).pending == ()
    assert traces(filled.settings.home, needles)["vector"] == []


def test_what_was_replaced_goes_with_a_purge_too(filled: Services) -> None:
    needles = needles_of(filled, "secret.md")
    add(filled, "secret.md", "# Secret\n\nNothing to see.\n")
    work(filled)
    assert purging.purge(filled, collections.id_of("default")).pending == ()
    left = traces(filled.settings.home, needles)
    assert (left["word"], left["vector"]) == ([], [])


def test_deleting_and_ingesting_at_once_leaves_an_index_that_agrees(filled: Services) -> None:
    errors: list[BaseException] = []

    def delete_again_and_again() -> None:
        try:
            for _ in range(5):
                with suppress(DocumentNotFound):
                    deleting.delete(filled, id_of("secret.md"))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=delete_again_and_again)
    thread.start()
    for _ in range(5):
        add(filled, "secret.md", SECRET)
        work(filled)
    thread.join()
    work(filled)
    assert errors == []
    version = active_of(filled)
    with filled.read() as session:
        expected = chunks.ids_of_collection(session, version.collection_id, version.chunker_fingerprint)
    assert np.array_equal(filled.snapshots.get(version.id).chunk_ids(), expected)
