"""The tables. Rows are plain records: no relationship is ever loaded behind the reader's back."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from app.db.types import Identifier, SortedText, UtcDateTime

NAMING_CONVENTION = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

LIVE = text("status IN ('todo', 'doing')")
DOING = text("status = 'doing'")
BARE = text("tokens IS NULL")


class Base(DeclarativeBase):
    metadata = MetaData(naming_convention=NAMING_CONVENTION)


class CollectionRow(Base):
    """A set of documents that is searched together; `change_number` is the last one allotted."""

    __tablename__ = "collections"

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(SortedText, unique=True)
    description: Mapped[str] = mapped_column(Text, default="")
    change_number: Mapped[int] = mapped_column(Identifier, default=0)
    # No foreign key: versions point at collections already, and activation checks the version itself.
    active_version_id: Mapped[str | None] = mapped_column(String(64))
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DocumentRow(Base):
    """A source within a collection; `revision` is the one served, 0 while none is."""

    __tablename__ = "documents"
    __table_args__ = (
        UniqueConstraint("collection_id", "source"),
        Index(None, "collection_id", "created_at", "id"),
    )

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    source: Mapped[str] = mapped_column(SortedText)
    title: Mapped[str | None] = mapped_column(SortedText)
    status: Mapped[str] = mapped_column(String(16))
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    content_hash: Mapped[str] = mapped_column(String(64))
    media_type: Mapped[str | None] = mapped_column(SortedText)
    filename: Mapped[str | None] = mapped_column(SortedText)
    n_bytes: Mapped[int] = mapped_column(Identifier, default=0)
    n_chunks: Mapped[int] = mapped_column(Integer, default=0)
    n_pages: Mapped[int] = mapped_column(Integer, default=0)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, default=dict)
    revision: Mapped[int] = mapped_column(Integer, default=0)
    change_number: Mapped[int] = mapped_column(Identifier, default=0)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class RevisionRow(Base):
    """One accepted content of a document; its text goes once a later revision is served.

    `text` is the beginning of a long text, whose other parts are in `text_parts`.
    """

    __tablename__ = "revisions"

    document_id: Mapped[int] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    content_hash: Mapped[str] = mapped_column(String(64), index=True)
    filename: Mapped[str | None] = mapped_column(Text)
    media_type: Mapped[str | None] = mapped_column(Text)
    n_bytes: Mapped[int] = mapped_column(Identifier, default=0)
    title: Mapped[str | None] = mapped_column(Text)
    meta: Mapped[dict[str, Any]] = mapped_column("metadata", JSON, default=dict)
    text: Mapped[str | None] = mapped_column(Text)
    pages: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    headings: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    blocks: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    status: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    ready_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class TextPartRow(Base):
    """A part of a revision's text behind the first, so that no one has to hold a long text whole."""

    __tablename__ = "text_parts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["document_id", "number"], ["revisions.document_id", "revisions.number"], ondelete="CASCADE"
        ),
    )

    document_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    text: Mapped[str] = mapped_column(Text)


class AttributeRow(Base):
    """One scalar of a document's metadata, flattened for filters.

    `text_key` is the beginning of `text_value`: short enough for every index, and all of it for most values.
    """

    __tablename__ = "attributes"
    __table_args__ = (
        Index(None, "field", "text_key"),
        Index(None, "field", "number_value"),
    )

    document_id: Mapped[int] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    field: Mapped[str] = mapped_column(SortedText, primary_key=True)
    position: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    text_value: Mapped[str | None] = mapped_column(SortedText)
    text_key: Mapped[str | None] = mapped_column(SortedText)
    number_value: Mapped[float | None] = mapped_column(Float(53))


class ChunkRow(Base):
    """A chunk of the served revision. Every row here may be shown."""

    __tablename__ = "chunks"
    __table_args__ = (Index(None, "document_id", "chunker", "ordinal"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    document_id: Mapped[int] = mapped_column(ForeignKey("documents.id", ondelete="CASCADE"))
    revision: Mapped[int] = mapped_column(Integer)
    chunker: Mapped[str] = mapped_column(String(64))
    ordinal: Mapped[int] = mapped_column(Integer)
    start: Mapped[int] = mapped_column(Integer)
    end: Mapped[int] = mapped_column(Integer)
    page: Mapped[int | None] = mapped_column(Integer)
    heading_path: Mapped[list[str]] = mapped_column(JSON, default=list)
    text: Mapped[str] = mapped_column(Text)
    text_hash: Mapped[str] = mapped_column(String(64), index=True)
    n_tokens: Mapped[int] = mapped_column(Integer, default=0)


class StagedChunkRow(Base):
    """A chunk of a long document that is being saved: shown to no one until it is moved to `chunks`."""

    __tablename__ = "staged_chunks"
    __table_args__ = (
        ForeignKeyConstraint(
            ["document_id", "revision"], ["revisions.document_id", "revisions.number"], ondelete="CASCADE"
        ),
    )

    document_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    chunker: Mapped[str] = mapped_column(String(64), primary_key=True)
    ordinal: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    id: Mapped[int] = mapped_column(Identifier)
    start: Mapped[int] = mapped_column(Integer)
    end: Mapped[int] = mapped_column(Integer)
    page: Mapped[int | None] = mapped_column(Integer)
    heading_path: Mapped[list[str]] = mapped_column(JSON, default=list)
    text: Mapped[str] = mapped_column(Text)
    text_hash: Mapped[str] = mapped_column(String(64))
    n_tokens: Mapped[int] = mapped_column(Integer, default=0)


class VectorRow(Base):
    """A kept embedding, by encoder and text: `vector` is float16 bytes, little-endian, of length `dim`."""

    __tablename__ = "vectors"
    __table_args__ = (
        Index(
            "ix_vectors_without_tokens", "fingerprint", "text_hash", sqlite_where=BARE, postgresql_where=BARE
        ),
    )

    fingerprint: Mapped[str] = mapped_column(String(64), primary_key=True)
    text_hash: Mapped[str] = mapped_column(String(64), primary_key=True)
    dim: Mapped[int] = mapped_column(Integer)
    vector: Mapped[bytes] = mapped_column(LargeBinary)
    tokens: Mapped[bytes | None] = mapped_column(LargeBinary)
    n_tokens: Mapped[int | None] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)


class JobRow(Base):
    """A piece of work; at most one live job per `dedup_key`, and one in work per document."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index(None, "status", "priority", "created_at", "id"),
        Index(None, "created_at", "id"),
        Index("uq_jobs_live_dedup_key", "dedup_key", unique=True, sqlite_where=LIVE, postgresql_where=LIVE),
        Index(
            "uq_jobs_doing_document_id",
            "document_id",
            unique=True,
            sqlite_where=DOING,
            postgresql_where=DOING,
        ),
    )

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(64))
    # No foreign keys: a job outlives the document and the collection it worked on.
    collection_id: Mapped[int | None] = mapped_column(Identifier)
    document_id: Mapped[int | None] = mapped_column(Identifier, index=True)
    payload: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    status: Mapped[str] = mapped_column(String(16))
    priority: Mapped[int] = mapped_column(Integer, default=0)
    attempts: Mapped[int] = mapped_column(Integer, default=0)
    max_attempts: Mapped[int] = mapped_column(Integer, default=5)
    run_after: Mapped[datetime] = mapped_column(UtcDateTime)
    dedup_key: Mapped[str | None] = mapped_column(String(255))
    worker: Mapped[str | None] = mapped_column(String(255))
    heartbeat_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    progress_done: Mapped[int] = mapped_column(Identifier, default=0)
    progress_total: Mapped[int | None] = mapped_column(Identifier)
    progress_note: Mapped[str | None] = mapped_column(Text)
    cancel_requested: Mapped[bool] = mapped_column(Boolean, default=False)
    error_code: Mapped[str | None] = mapped_column(String(64))
    error_detail: Mapped[str | None] = mapped_column(Text)
    result: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IndexVersionRow(Base):
    """An index directory beside the database, and how far it has followed the changes."""

    __tablename__ = "index_versions"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"), index=True)
    status: Mapped[str] = mapped_column(String(16))
    encoder_name: Mapped[str] = mapped_column(Text)
    encoder_fingerprint: Mapped[str] = mapped_column(String(64))
    encoder_spec: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    chunker_fingerprint: Mapped[str] = mapped_column(String(64))
    chunker_spec: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    dim: Mapped[int] = mapped_column(Integer)
    n_documents: Mapped[int] = mapped_column(Integer, default=0)
    n_chunks: Mapped[int] = mapped_column(Integer, default=0)
    change_number: Mapped[int] = mapped_column(Identifier, default=0)
    directory: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    activated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)


class ChangeRow(Base):
    """A document was changed or deleted; numbers are gap-free within a collection."""

    __tablename__ = "changes"

    collection_id: Mapped[int] = mapped_column(
        ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    number: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    # No foreign key: a deletion is logged for a document that is gone.
    document_id: Mapped[int] = mapped_column(Identifier)
    kind: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class IdempotencyKeyRow(Base):
    """A request that was answered, so that its repetition gets the same answer.

    While it is worked on, `holder` has it until the lease ends; its hash is known at the end.
    """

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    method: Mapped[str] = mapped_column(String(16))
    path: Mapped[str] = mapped_column(Text)
    request_hash: Mapped[str] = mapped_column(String(64), default="")
    status_code: Mapped[int | None] = mapped_column(Integer)
    response: Mapped[Any] = mapped_column(JSON(none_as_null=True), nullable=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    holder: Mapped[str | None] = mapped_column(String(32))
    lease_expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    # Whose names the answer holds; no foreign key, since the key outlives the document.
    document_id: Mapped[int | None] = mapped_column(Identifier, index=True)


class GoldenQuestionRow(Base):
    """A question, and what a search for it must find: `[{"source": …, "quote": … or null}, …]`.

    `generator` names what made it, with its version; NULL where a person did.
    """

    __tablename__ = "golden_questions"
    __table_args__ = (Index(None, "collection_id", "created_at", "id"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    question: Mapped[str] = mapped_column(Text)
    expected: Mapped[list[dict[str, Any]]] = mapped_column(JSON, default=list)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    generator: Mapped[str | None] = mapped_column(String(64))


class TuningRow(Base):
    """What was learned for the searches of a collection, in which mode, and on what evidence."""

    __tablename__ = "tunings"

    collection_id: Mapped[int] = mapped_column(
        ForeignKey("collections.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    # The name of the attribute is free in SQL, `values` is not.
    settings: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    evidence: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SyncedFileRow(Base):
    """A document that a sync took from a folder, and the file as it was then.

    `modified_ns` is None where the file was so fresh that a later change could bear the same time.
    """

    __tablename__ = "synced_files"

    document_id: Mapped[int] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    content_hash: Mapped[str] = mapped_column(String(64))
    n_bytes: Mapped[int] = mapped_column(Identifier)
    modified_ns: Mapped[int | None] = mapped_column(BigInteger)


class DeletionRow(Base):
    """What was deleted, when, and what of it was still to be done: numbers and ids, no text and no names."""

    __tablename__ = "deletions"
    __table_args__ = (Index(None, "deleted_at", "id"), Index(None, "collection_id", "change_number"))

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16))
    # No foreign keys: a receipt outlives what it is about.
    collection_id: Mapped[int] = mapped_column(Identifier)
    collection: Mapped[str] = mapped_column(Text)
    document_ids: Mapped[list[str]] = mapped_column(JSON, default=list)
    change_number: Mapped[int] = mapped_column(Identifier)
    receipt: Mapped[dict[str, Any]] = mapped_column(JSON, default=dict)
    deleted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    purged_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class NodeRow(Base):
    """A text that leads to chunks and is never shown as a source: a summary, a question, an expansion.

    `document_id` is None where its leaves are of several documents. It goes with any chunk that it rests on.
    """

    __tablename__ = "nodes"
    __table_args__ = (Index(None, "collection_id", "chunker", "kind", "level"),)

    id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    collection_id: Mapped[int] = mapped_column(ForeignKey("collections.id", ondelete="CASCADE"))
    chunker: Mapped[str] = mapped_column(String(64))
    kind: Mapped[str] = mapped_column(String(16))
    level: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    text_hash: Mapped[str] = mapped_column(String(64), index=True)
    document_id: Mapped[int | None] = mapped_column(
        ForeignKey("documents.id", ondelete="CASCADE"), index=True
    )
    model: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class NodeChildRow(Base):
    """What a node rests on: a chunk or another node."""

    __tablename__ = "node_children"
    __table_args__ = (Index(None, "child_kind", "child_id"),)

    node_id: Mapped[int] = mapped_column(
        ForeignKey("nodes.id", ondelete="CASCADE"), primary_key=True, autoincrement=False
    )
    child_kind: Mapped[str] = mapped_column(String(8), primary_key=True)
    # No foreign key: it names a chunk or a node.
    child_id: Mapped[int] = mapped_column(Identifier, primary_key=True, autoincrement=False)
    position: Mapped[int] = mapped_column(Integer)
