"""Golden questions, the files that a synced folder brought, receipts of deletions, and leases of keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.create_table(
        "golden_questions",
        sa.Column("id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=False),
        sa.Column("question", sa.Text(), nullable=False),
        sa.Column("expected", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_golden_questions_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_golden_questions")),
    )
    op.create_index(
        op.f("ix_golden_questions_collection_id_created_at_id"),
        "golden_questions",
        ["collection_id", "created_at", "id"],
        unique=False,
    )
    op.create_table(
        "synced_files",
        sa.Column("document_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("n_bytes", IDENTIFIER, nullable=False),
        sa.Column("modified_ns", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_synced_files_document_id_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", name=op.f("pk_synced_files")),
    )
    op.create_table(
        "deletions",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=False),
        sa.Column("collection", sa.Text(), nullable=False),
        sa.Column("document_ids", sa.JSON(), nullable=False),
        sa.Column("change_number", IDENTIFIER, nullable=False),
        sa.Column("receipt", sa.JSON(), nullable=False),
        sa.Column("deleted_at", INSTANT, nullable=False),
        sa.Column("purged_at", INSTANT, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    op.create_index(op.f("ix_deletions_deleted_at_id"), "deletions", ["deleted_at", "id"], unique=False)
    op.create_index(
        op.f("ix_deletions_collection_id_change_number"),
        "deletions",
        ["collection_id", "change_number"],
        unique=False,
    )
    op.add_column("idempotency_keys", sa.Column("holder", sa.String(length=32), nullable=True))
    op.add_column("idempotency_keys", sa.Column("lease_expires_at", INSTANT, nullable=True))
    op.add_column("idempotency_keys", sa.Column("document_id", IDENTIFIER, nullable=True))
    op.create_index(
        op.f("ix_idempotency_keys_document_id"), "idempotency_keys", ["document_id"], unique=False
    )
    op.create_table(
        "text_parts",
        sa.Column("document_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id", "number"],
            ["revisions.document_id", "revisions.number"],
            name=op.f("fk_text_parts_document_id_revisions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("document_id", "number", "position", name=op.f("pk_text_parts")),
    )
    op.create_table(
        "staged_chunks",
        sa.Column("document_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("chunker", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("id", IDENTIFIER, nullable=False),
        sa.Column("start", sa.Integer(), nullable=False),
        sa.Column("end", sa.Integer(), nullable=False),
        sa.Column("page", sa.Integer(), nullable=True),
        sa.Column("heading_path", sa.JSON(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.String(length=64), nullable=False),
        sa.Column("n_tokens", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["document_id", "revision"],
            ["revisions.document_id", "revisions.number"],
            name=op.f("fk_staged_chunks_document_id_revisions"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint(
            "document_id", "revision", "chunker", "ordinal", name=op.f("pk_staged_chunks")
        ),
    )


def downgrade() -> None:
    op.drop_table("staged_chunks")
    op.drop_table("text_parts")
    op.drop_index(op.f("ix_idempotency_keys_document_id"), table_name="idempotency_keys")
    op.drop_column("idempotency_keys", "document_id")
    op.drop_column("idempotency_keys", "lease_expires_at")
    op.drop_column("idempotency_keys", "holder")
    op.drop_table("deletions")
    op.drop_table("synced_files")
    op.drop_table("golden_questions")
