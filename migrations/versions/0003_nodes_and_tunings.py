"""Nodes, which lead to chunks and are no source; what was learned for searches; what made a question."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

IDENTIFIER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
INSTANT = sa.DateTime(timezone=True)
BARE = sa.text("tokens IS NULL")


def upgrade() -> None:
    op.add_column("golden_questions", sa.Column("generator", sa.String(length=64), nullable=True))
    op.create_table(
        "tunings",
        sa.Column("collection_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_tunings_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("collection_id", name=op.f("pk_tunings")),
    )
    op.create_table(
        "nodes",
        sa.Column("id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("collection_id", IDENTIFIER, nullable=False),
        sa.Column("chunker", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("level", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.String(length=64), nullable=False),
        sa.Column("document_id", IDENTIFIER, nullable=True),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(
            ["collection_id"],
            ["collections.id"],
            name=op.f("fk_nodes_collection_id_collections"),
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["document_id"],
            ["documents.id"],
            name=op.f("fk_nodes_document_id_documents"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_nodes")),
    )
    op.create_index(
        op.f("ix_nodes_collection_id_chunker_kind_level"),
        "nodes",
        ["collection_id", "chunker", "kind", "level"],
        unique=False,
    )
    op.create_index(op.f("ix_nodes_document_id"), "nodes", ["document_id"], unique=False)
    op.create_index(op.f("ix_nodes_text_hash"), "nodes", ["text_hash"], unique=False)
    op.create_table(
        "node_children",
        sa.Column("node_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("child_kind", sa.String(length=8), nullable=False),
        sa.Column("child_id", IDENTIFIER, autoincrement=False, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(
            ["node_id"], ["nodes.id"], name=op.f("fk_node_children_node_id_nodes"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("node_id", "child_kind", "child_id", name=op.f("pk_node_children")),
    )
    op.create_index(
        op.f("ix_node_children_child_kind_child_id"),
        "node_children",
        ["child_kind", "child_id"],
        unique=False,
    )
    op.create_index(
        "ix_vectors_without_tokens",
        "vectors",
        ["fingerprint", "text_hash"],
        unique=False,
        sqlite_where=BARE,
        postgresql_where=BARE,
    )


def downgrade() -> None:
    op.drop_index("ix_vectors_without_tokens", table_name="vectors", sqlite_where=BARE, postgresql_where=BARE)
    op.drop_table("node_children")
    op.drop_table("nodes")
    op.drop_table("tunings")
    op.drop_column("golden_questions", "generator")
