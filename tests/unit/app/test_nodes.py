"""The indexes of nodes follow the database, lead to chunks, and keep nothing of what was deleted."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import delete

from app import purging
from app.db import chunks, collections, documents, versions
from app.db import nodes as node_rows
from app.db.tables import ChunkRow
from app.documents import deleting, intake
from app.services import Services
from app.upkeep import repairing, switching
from app.versions import building, nodes, verifying
from indexing.nodes import Node
from indexing.types import DocumentId
from tests.service import work

MARKER = "zyzzyvine"
TEXTS = {
    "tea.md": "# Tea\n\nWarm the pot before the leaves go in.\n",
    "gate.md": "# Gate\n\nThe keeper opens the harbour gate at dawn.\n",
    "boats.md": "# Boats\n\nSmall boats lie along the quay at night.\n",
}


def add(services: Services, source: str, text: str) -> None:
    intake.submit(services, intake.Submission(filename=source), BytesIO(text.encode()))
    work(services)


def version_of(services: Services) -> Any:
    with services.read() as session:
        return versions.active(session, collections.id_of("default"))


def chunk_of(services: Services, source: str) -> Any:
    row = version_of(services)
    with services.read() as session:
        owner = documents.id_of("default", source)
        return chunks.ids_of_documents(session, [owner], row.chunker_fingerprint).tolist()[0]


@pytest.fixture
def noted(services: Services) -> Services:
    """Three documents, a question on each, a summary of the gate, and one of gate and boats over it."""
    for source, text in TEXTS.items():
        add(services, source, text)
    owner = {source: DocumentId(documents.id_of("default", source)) for source in TEXTS}
    leaf = {source: chunk_of(services, source) for source in TEXTS}
    made = [
        Node(kind="question", text=f"What of {source}?", chunks=(leaf[source],), document_id=owner[source])
        for source in TEXTS
    ]
    gate = Node(
        kind="summary", text=f"{MARKER} gate", chunks=(leaf["gate.md"],), document_id=owner["gate.md"]
    )
    both = Node(kind="summary", text=f"{MARKER} all", chunks=(leaf["boats.md"],), nodes=(gate.id,), level=2)
    row = version_of(services)
    with services.write() as session:
        node_rows.save(session, row.collection_id, row.chunker_fingerprint, [*made, gate, both])
    nodes.follow(services, row)
    return services


def indexed(services: Services, kind: Any) -> list[int]:
    row = version_of(services)
    snapshot = services.indexes.open(row.id).nodes.open(kind)
    return [int(key) for key in snapshot.chunk_ids()] if snapshot is not None else []


def stored(services: Services, kind: Any) -> list[int]:
    row = version_of(services)
    with services.read() as session:
        return [int(key) for key in node_rows.ids(session, row.collection_id, row.chunker_fingerprint, kind)]


def assert_followed(services: Services, **n_expected: int) -> None:
    for kind, n in n_expected.items():
        assert indexed(services, kind) == stored(services, kind)
        assert len(indexed(services, kind)) == n


def test_each_kind_has_an_index_that_leads_to_chunks(noted: Services) -> None:
    assert_followed(noted, question=3, summary=2, expansion=0)
    index = noted.indexes.open(version_of(noted).id)
    vector = index.encoder.encode_queries(["What of gate.md?"]).vectors[0]
    questions = index.nodes.open("question")
    assert questions is not None
    found = questions.vectors.search(vector, 1)
    assert found.document_ids.tolist() == [documents.id_of("default", "gate.md")]
    leaves = index.nodes.leaves(found.chunk_ids.tolist())[int(found.chunk_ids[0])]
    assert leaves.tolist() == [chunk_of(noted, "gate.md")]


def test_following_again_writes_nothing(noted: Services) -> None:
    row = version_of(noted)
    before = (nodes.directory_of(noted, row.id, "summary") / "manifest.json").read_bytes()
    assert nodes.follow(noted, row) == 0
    assert (nodes.directory_of(noted, row.id, "summary") / "manifest.json").read_bytes() == before


def test_a_commit_to_the_version_leaves_the_nodes_in_peace(noted: Services) -> None:
    add(noted, "new.md", "# New\n\nSomething else.\n")
    assert_followed(noted, question=3, summary=2)


def test_a_replaced_document_takes_its_nodes_out_of_the_index(noted: Services) -> None:
    add(noted, "gate.md", "# Gate\n\nIt stays shut.\n")
    assert_followed(noted, question=2, summary=0)


def test_a_deletion_counts_the_nodes_and_a_purge_leaves_no_byte_of_them(noted: Services) -> None:
    row = version_of(noted)
    vector = summary_vector(noted)
    assert traces(noted.settings.home, MARKER.encode()), "the text is in the database"
    assert traces(noted.settings.home / "indexes", vector), "and the vector in the index"
    building.rebuild(noted, row)  # a version kept beside has nodes too
    receipt = deleting.delete(noted, documents.id_of("default", "gate.md"))
    assert (receipt.rows["nodes"], receipt.rows["node_children"]) == (3, 4)
    assert [(item.n_rows, item.n_nodes) for item in receipt.indexes] == [(1, 3), (1, 3)]
    assert_followed(noted, question=2, summary=0)
    assert purging.purge(noted, row.collection_id).pending == ()
    assert traces(noted.settings.home, MARKER.encode()) == []
    assert traces(noted.settings.home, vector) == []


def test_a_purge_wipes_an_index_whose_removal_was_cut_short(noted: Services) -> None:
    row = version_of(noted)
    vector = summary_vector(noted)
    beside = building.rebuild(noted, row)
    (nodes.directory_of(noted, beside.id, "summary") / "manifest.json").unlink()
    deleting.delete(noted, documents.id_of("default", "gate.md"))
    assert purging.purge(noted, row.collection_id).pending == ()
    assert traces(noted.settings.home, vector) == []
    switching.activate(noted, beside.id)
    assert_followed(noted, question=2, summary=0)


def summary_vector(services: Services) -> bytes:
    index = services.indexes.open(version_of(services).id)
    snapshot = index.nodes.open("summary")
    assert snapshot is not None
    vectors = verifying.indexed_vectors(snapshot, snapshot.chunk_ids())
    return bytes(vectors.astype("<f2")[0].tobytes())


def traces(folder: Path, needle: bytes) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file() and needle in path.read_bytes()]


def test_a_new_version_has_the_nodes_and_a_rollback_follows(noted: Services) -> None:
    before = version_of(noted)
    switching.activate(noted, building.rebuild(noted, before).id)
    assert version_of(noted).id != before.id
    assert_followed(noted, question=3, summary=2)
    add(noted, "gate.md", "# Gate\n\nIt stays shut.\n")
    switching.activate(noted, before.id)
    assert_followed(noted, question=2, summary=0)


def test_damage_is_found_and_mended(noted: Services) -> None:
    row = version_of(noted)
    path = next(nodes.directory_of(noted, row.id, "summary").glob("segment-*/*"))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    report = verifying.verify(noted, row.id)
    assert {problem.kind for problem in report.problems} == {"nodes"}
    mended = repairing.repair(noted, row.id)
    assert (mended.left, mended.replaced_by) == ((), None)
    assert_followed(noted, question=3, summary=2)


def test_an_index_that_a_killed_process_began_is_none_and_is_made(noted: Services) -> None:
    before = version_of(noted)
    beside = building.rebuild(noted, before)
    directory = nodes.directory_of(noted, beside.id, "summary")
    (directory / "manifest.json").unlink()
    assert verifying.verify(noted, beside.id).ok, "it is not served"
    switching.activate(noted, beside.id)
    assert_followed(noted, question=3, summary=2)
    (directory / "manifest.json").unlink()
    assert {problem.kind for problem in verifying.verify(noted, beside.id).problems} == {"nodes"}
    repairing.repair(noted, beside.id)
    assert_followed(noted, question=3, summary=2)


def test_nodes_that_rest_on_nothing_are_found_and_removed(noted: Services) -> None:
    row = version_of(noted)
    assert verifying.verify(noted, row.id).ok
    with noted.write() as session:  # as no way of the program does it
        session.execute(delete(ChunkRow).where(ChunkRow.id == chunk_of(noted, "tea.md")))
    kinds = {problem.kind for problem in verifying.verify(noted, row.id).problems}
    assert "stale_nodes" in kinds
    repairing.repair(noted, row.id)
    assert_followed(noted, question=2, summary=2)
    assert verifying.verify(noted, row.id).ok


def test_a_version_forgets_its_nodes_with_its_directory(noted: Services) -> None:
    row = version_of(noted)
    nodes.remove(noted, row.id)
    assert indexed(noted, "question") == []
    nodes.follow(noted, row)
    assert_followed(noted, question=3, summary=2)


def test_vectors_of_nodes_are_those_of_the_encoder(noted: Services) -> None:
    index = noted.indexes.open(version_of(noted).id)
    snapshot = index.nodes.open("summary")
    assert snapshot is not None
    with noted.read() as session:
        texts = [node_rows.load(session, [key])[key].text for key in snapshot.chunk_ids().tolist()]
    made = index.encoder.encode_documents(texts).vectors
    np.testing.assert_allclose(verifying.indexed_vectors(snapshot, snapshot.chunk_ids()), made, atol=1e-3)
