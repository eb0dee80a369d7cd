"""What a sync knows of the documents below a folder: `below` · `record`. The caller commits.

A document belongs to a sync when it has a row here, written with the revision that the sync took in. The row
goes with its document.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sqlalchemy import select
from sqlalchemy.orm import Session

from app.db.dialects import in_batches, insert
from app.db.tables import DocumentRow, SyncedFileRow


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncedFile:
    """The file behind a document, as it was when it was taken in."""

    document_id: int
    content_hash: str
    n_bytes: int
    modified_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A document below the folder; `file` is None where no sync took it in."""

    document_id: int
    source: str
    filename: str | None
    content_hash: str
    n_bytes: int
    n_chunks: int
    status: str
    file: SyncedFile | None


def below(session: Session, collection_id: int, folder: str) -> dict[str, Known]:
    """The documents whose source is a path below the folder, by source."""
    start = folder.rstrip("/") + "/"
    # By range, which an index can answer: "0" is the character after "/".
    end = start[:-1] + "0"
    statement = (
        select(DocumentRow, SyncedFileRow)
        .outerjoin(SyncedFileRow, SyncedFileRow.document_id == DocumentRow.id)
        .where(
            DocumentRow.collection_id == collection_id, DocumentRow.source >= start, DocumentRow.source < end
        )
        .order_by(DocumentRow.source)
    )
    return {row.source: _known(row, synced) for row, synced in session.execute(statement)}


def record(session: Session, files: Iterable[SyncedFile]) -> None:
    """Keep how the files were. Documents that are gone meanwhile must not be named."""
    statement = insert(session, SyncedFileRow)
    excluded = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=[SyncedFileRow.document_id],
        set_={name: excluded[name] for name in ("content_hash", "n_bytes", "modified_ns")},
    )
    for batch in in_batches(sorted(files, key=lambda file: file.document_id)):
        session.execute(statement, [asdict(file) for file in batch])


def _known(row: DocumentRow, synced: SyncedFileRow | None) -> Known:
    file = None
    if synced is not None:
        file = SyncedFile(
            document_id=row.id,
            content_hash=synced.content_hash,
            n_bytes=synced.n_bytes,
            modified_ns=synced.modified_ns,
        )
    return Known(
        document_id=row.id,
        source=row.source,
        filename=row.filename,
        content_hash=row.content_hash,
        n_bytes=row.n_bytes,
        n_chunks=row.n_chunks,
        status=row.status,
        file=file,
    )
