"""What documents of a test say, and the chunks they are cut into: one for each word."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from app.db import chunks, versions
from indexing.types import Block, Chunk, ChunkId, DocumentId, Heading, LoadedText, Page, stable_id

NOW = datetime(2024, 5, 1, tzinfo=UTC)
CHUNKER = "c" * 16
OTHER_CHUNKER = "o" * 16

LOADED = LoadedText(
    text="Head\none two",
    title="From the file",
    metadata={"author": "Ada", "tags": ["x", "y"]},
    pages=(Page(page=1, start=0, end=4), Page(page=2, start=5, end=12)),
    headings=(Heading(level=1, title="Head", start=0, end=4),),
    blocks=(Block(kind="list", start=5, end=12),),
)


def serve_version(session: Session, version_id: str, collection_id: int, chunker: str = CHUNKER) -> None:
    """A ready index version, and the one that is served."""
    versions.create(
        session,
        version_id,
        collection_id=collection_id,
        encoder_name="fake",
        encoder_fingerprint="e" * 16,
        encoder_spec={},
        chunker_fingerprint=chunker,
        chunker_spec={},
        dim=2,
        directory=version_id,
    )
    versions.set_status(session, version_id, "ready")
    versions.activate(session, version_id)


def chunks_of(document_id: int, words: Sequence[str], chunker: str = CHUNKER) -> Iterator[Chunk]:
    """The same word at the same place has the same id, whatever the revision."""
    start = 0
    for ordinal, word in enumerate(words):
        yield Chunk(
            id=ChunkId(stable_id(document_id, chunker, ordinal, start, word)),
            document_id=DocumentId(document_id),
            ordinal=ordinal,
            text=word,
            start=start,
            end=start + len(word),
        )
        start += len(word) + 1


def texts(session: Session, document_id: int) -> list[str]:
    """The texts of the document's chunks, in order."""
    return [chunk.text for chunk in chunks.of_document(session, document_id)]
