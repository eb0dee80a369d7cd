"""Ways to damage an index version and the rows it needs, and what to look for afterwards."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from sqlalchemy import delete, insert, inspect, select, update

from app.db import versions
from app.db.tables import ChangeRow, ChunkRow, CollectionRow, IndexVersionRow, RevisionRow, VectorRow
from app.db.types import utc_now
from app.services import Services

Damage = Callable[[Services, str], None]


def folder(services: Services, version: str) -> Path:
    return services.settings.indexes_dir / version


def files(services: Services, version: str) -> list[Path]:
    """The files of a version that have anything in them."""
    records = services.snapshots.get(version).manifest.files
    return [folder(services, version) / record.name for record in records if record.size]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def flipped_byte(services: Services, version: str) -> None:
    flip(max(files(services, version), key=lambda path: path.stat().st_size))


def cut_file(services: Services, version: str) -> None:
    path = files(services, version)[0]
    path.write_bytes(path.read_bytes()[:-1])


def missing_segment(services: Services, version: str) -> None:
    segment = folder(services, version) / services.snapshots.get(version).manifest.segments[0].name
    for path in segment.iterdir():
        path.unlink()
    segment.rmdir()


def missing_manifest(services: Services, version: str) -> None:
    (folder(services, version) / "manifest.json").unlink()


def broken_manifest(services: Services, version: str) -> None:
    (folder(services, version) / "manifest.json").write_text("{")


def other_format(services: Services, version: str) -> None:
    """As a release of long ago wrote it."""
    (folder(services, version) / "manifest.json").write_text('{"format": 0}')


def missing_directory(services: Services, version: str) -> None:
    folder(services, version).rename(folder(services, version).with_suffix(".gone"))


def forgotten_changes(services: Services, version: str) -> None:
    """As where a directory of long ago was put back: changes that it lacks are not known any more."""
    with services.write() as session:
        row = versions.get(session, version)
        more = CollectionRow.change_number + 5
        session.execute(
            update(CollectionRow).where(CollectionRow.id == row.collection_id).values(change_number=more)
        )


def older_database(services: Services, version: str) -> None:
    """As where a database of long ago was put back."""
    with services.write() as session:
        session.execute(delete(ChangeRow).where(ChangeRow.number > 1))
        session.execute(update(CollectionRow).values(change_number=1))
        session.execute(update(IndexVersionRow).values(change_number=1))


def stale_row(services: Services, version: str) -> None:
    """A chunk of a revision that is no longer served."""
    with services.write() as session:
        known = session.scalars(select(ChunkRow).limit(1)).one()
        values = {column.key: getattr(known, column.key) for column in inspect(ChunkRow).column_attrs}
        session.execute(insert(ChunkRow).values({**values, "id": 12345, "ordinal": 0, "revision": 0}))


def orphan_vector(services: Services, version: str) -> None:
    with services.write() as session:
        row = versions.get(session, version)
        values = {"fingerprint": row.encoder_fingerprint, "text_hash": "0" * 64, "dim": row.dim}
        old = utc_now() - timedelta(days=1)
        session.execute(insert(VectorRow).values(**values, vector=b"\0" * 2 * row.dim, created_at=old))


def missing_chunk(services: Services, version: str) -> None:
    with services.write() as session:
        first = session.scalars(select(ChunkRow.id).order_by(ChunkRow.id).limit(1)).one()
        session.execute(delete(ChunkRow).where(ChunkRow.id == first))


def missing_chunks_of_a_document(services: Services, version: str) -> None:
    with services.write() as session:
        first = session.scalars(select(ChunkRow.document_id).order_by(ChunkRow.id).limit(1)).one()
        session.execute(delete(ChunkRow).where(ChunkRow.document_id == first))


def missing_vectors(services: Services, version: str) -> None:
    with services.write() as session:
        session.execute(delete(VectorRow))


def wrong_vector(services: Services, version: str) -> None:
    with services.write() as session:
        row = versions.get(session, version)
        session.execute(update(VectorRow).values(vector=b"\x00\x3c" * row.dim))


def missing_text(services: Services, version: str) -> None:
    with services.write() as session:
        session.execute(update(RevisionRow).values(text=None))


IN_FILES: dict[str, tuple[Damage, str]] = {
    "flipped byte": (flipped_byte, "checksum"),
    "cut file": (cut_file, "size"),
    "missing segment": (missing_segment, "missing"),
    "missing manifest": (missing_manifest, "manifest"),
    "broken manifest": (broken_manifest, "manifest"),
    "another format": (other_format, "manifest"),
    "missing directory": (missing_directory, "directory"),
    "forgotten changes": (forgotten_changes, "outdated"),
    "older database": (older_database, "outdated"),
}
"""Each with the kind of problem that it is found as."""
IN_DATABASE: dict[str, tuple[Damage, str]] = {
    "stale row": (stale_row, "stale_chunks"),
    "orphan vector": (orphan_vector, "orphan_vectors"),
    "missing chunk": (missing_chunk, "ids"),
    "missing chunks of a document": (missing_chunks_of_a_document, "missing_chunks"),
    "missing vectors": (missing_vectors, "missing_vectors"),
    "wrong vector": (wrong_vector, "vector"),
}
EVERY = IN_FILES | IN_DATABASE
