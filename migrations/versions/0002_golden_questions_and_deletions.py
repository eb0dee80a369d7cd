"""Golden questions, and the files that a synced folder brought."""

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


def downgrade() -> None:
    op.drop_table("synced_files")
    op.drop_table("golden_questions")
