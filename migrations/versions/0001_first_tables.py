"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# Written out here, and not taken from the models: a migration stays what it was when the models move on.
IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
SORTED_TEXT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
INSTANT = sa.DateTime(timezone=True)
LIVE = sa.text("status IN ('todo', 'doing')")
DOING = sa.text("status = 'doing'")


def upgrade() -> None:
    op.create_table(
        "collections",
        sa.Column("id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("name", SORTED_TEXT, nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("change_number", IDENTIFIER, nullable=False),
        sa.Column("active_version_id", sa.String(length=64), nullable=True),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
        sa.UniqueConstraint("name", name=op.f("uq_collections_name")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.String(length=255), nullable=False),
        sa.Column("method", sa.String(length=16), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("request_hash", sa.String(length=64), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("response", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=True),
        sa.Column("document_id", IDENTIFIER, nullable=True),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("priority", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("run_after", INSTANT, nullable=False),
        sa.Column("dedup_key", sa.String(length=255), nullable=True),
        sa.Column("worker", sa.String(length=255), nullable=True),
        sa.Column("heartbeat_at", INSTANT, nullable=True),
        sa.Column("lease_expires_at", INSTANT, nullable=True),
        sa.Column("progress_done", IDENTIFIER, nullable=False),
        sa.Column("progress_total", IDENTIFIER, nullable=True),
        sa.Column("progress_note", sa.Text(), nullable=True),
        sa.Column("cancel_requested", sa.Boolean(), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT, nullable=True),
        sa.Column("finished_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(op.f("ix_jobs_created_at_id"), "jobs", ["created_at", "id"], unique=False)
    op.create_index(op.f("ix_jobs_document_id"), "jobs", ["document_id"], unique=False)
    op.create_index(
        op.f("ix_jobs_status_priority_created_at_id"),
        "jobs",
        ["status", "priority", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        "uq_jobs_doing_document_id",
        "jobs",
        ["document_id"],
        unique=True,
        sqlite_where=DOING,
        postgresql_where=DOING,
    )
    op.create_index(
        "uq_jobs_live_dedup_key", "jobs", ["dedup_key"], unique=True, sqlite_where=LIVE, postgresql_where=LIVE
    )
    op.create_table(
        "vectors",
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("text_hash", sa.String(length=64), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("vector", sa.LargeBinary(), nullable=False),
        sa.Column("tokens", sa.LargeBinary(), nullable=True),
        sa.Column("n_tokens", sa.Integer(), nullable=True),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("fingerprint", "text_hash", name=op.f("pk_vectors")),
    )
    op.create_index(op.f("ix_vectors_created_at"), "vectors", ["created_at"], unique=False)
    op.create_table(
        "changes",
        sa.Column("collection_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("number", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("document_id", IDENTIFIER, nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_changes_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", "number", name=op.f("pk_changes")),
    )
    op.create_table(
        "documents",
        sa.Column("id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=False),
        sa.Column("source", SORTED_TEXT, nullable=False),
        sa.Column("title", SORTED_TEXT, nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("error_code", sa.String(length=64), nullable=True),
        sa.Column("error_detail", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("media_type", SORTED_TEXT, nullable=True),
        sa.Column("filename", SORTED_TEXT, nullable=True),
        sa.Column("n_bytes", IDENTIFIER, nullable=False),
        sa.Column("n_chunks", sa.Integer(), nullable=False),
        sa.Column("n_pages", sa.Integer(), nullable=False),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("change_number", IDENTIFIER, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("updated_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_documents_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_documents")),
        sa.UniqueConstraint("collection_id", "source", name=op.f("uq_documents_collection_id_source")),
    )
    op.create_index(
        op.f("ix_documents_collection_id_created_at_id"),
        "documents",
        ["collection_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "index_versions",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("encoder_name", sa.Text(), nullable=False),
        sa.Column("encoder_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("encoder_spec", sa.JSON(), nullable=False),
        sa.Column("chunker_fingerprint", sa.String(length=64), nullable=False),
        sa.Column("chunker_spec", sa.JSON(), nullable=False),
        sa.Column("dim", sa.Integer(), nullable=False),
        sa.Column("n_documents", sa.Integer(), nullable=False),
        sa.Column("n_chunks", sa.Integer(), nullable=False),
        sa.Column("change_number", IDENTIFIER, nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("activated_at", INSTANT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_index_versions_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_index_versions")),
    )
    op.create_index(
        op.f("ix_index_versions_collection_id"), "index_versions", ["collection_id"], unique=False
    )
    op.create_table(
        "attributes",
        sa.Column("document_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("field", SORTED_TEXT, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text_value", SORTED_TEXT, nullable=True),
        sa.Column("text_key", SORTED_TEXT, nullable=True),
        sa.Column("number_value", sa.Float(precision=53), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_attributes_document_id_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "field", "position", name=op.f("pk_attributes")),
    )
    op.create_index(
        op.f("ix_attributes_field_number_value"), "attributes", ["field", "number_value"], unique=False
    )
    op.create_index(op.f("ix_attributes_field_text_key"), "attributes", ["field", "text_key"], unique=False)
    op.create_table(
        "chunks",
        sa.Column("id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("document_id", IDENTIFIER, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("chunker", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("heading_path", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.String(length=64), nullable=False),
        sa.Column("n_tokens", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_chunks_document_id_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_chunks")),
    )
    op.create_index(
        op.f("ix_chunks_document_id_chunker_ordinal"),
        "chunks",
        ["document_id", "chunker", "ordinal"],
        unique=False,
    )
    op.create_index(op.f("ix_chunks_text_hash"), "chunks", ["text_hash"], unique=False)
    op.create_table(
        "revisions",
        sa.Column("document_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("filename", sa.Text(), nullable=True),
        sa.Column("media_type", sa.Text(), nullable=True),
        sa.Column("n_bytes", IDENTIFIER, nullable=False),
        sa.Column("title", sa.Text(), nullable=True),
        sa.Column("metadata", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("pages", sa.JSON(), nullable=False),
        sa.Column("headings", sa.JSON(), nullable=False),
        sa.Column("blocks", sa.JSON(), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("ready_at", INSTANT, nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_revisions_document_id_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "number", name=op.f("pk_revisions")),
    )
    op.create_index(op.f("ix_revisions_content_hash"), "revisions", ["content_hash"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_revisions_content_hash"), table_name="revisions")
    op.drop_table("revisions")
    op.drop_index(op.f("ix_chunks_text_hash"), table_name="chunks")
    op.drop_index(op.f("ix_chunks_document_id_chunker_ordinal"), table_name="chunks")
    op.drop_table("chunks")
    op.drop_index(op.f("ix_attributes_field_text_key"), table_name="attributes")
    op.drop_index(op.f("ix_attributes_field_number_value"), table_name="attributes")
    op.drop_table("attributes")
    op.drop_index(op.f("ix_index_versions_collection_id"), table_name="index_versions")
    op.drop_table("index_versions")
    op.drop_index(op.f("ix_documents_collection_id_created_at_id"), table_name="documents")
    op.drop_table("documents")
    op.drop_table("changes")
    op.drop_index(op.f("ix_vectors_created_at"), table_name="vectors")
    op.drop_table("vectors")
    op.drop_index("uq_jobs_live_dedup_key", table_name="jobs", sqlite_where=LIVE, postgresql_where=LIVE)
    op.drop_index("uq_jobs_doing_document_id", table_name="jobs", sqlite_where=DOING, postgresql_where=DOING)
    op.drop_index(op.f("ix_jobs_status_priority_created_at_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_document_id"), table_name="jobs")
    op.drop_index(op.f("ix_jobs_created_at_id"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("collections")
