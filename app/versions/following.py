"""Index versions follow the changes of their collection.

To apply changes, everything of each touched document is taken out and its present chunks are put in, so that
applying a change twice, or late, gives the same index. The manifest says up to which change number that was
done.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.ahead import ahead
from app.db import chunks, collections, versions
from app.db.dialects import in_batches
from app.db.tables import ChangeRow, IndexVersionRow
from app.versions import nodes, sparse
from app.versions.preparing import chunk_missing, tokens_of, vectors_of
from indexing.chunking import Chunker, ChunkerSpec
from indexing.commit import Commit
from indexing.encoding.base import Encoder, Progress
from indexing.encoding.factory import EncoderSpec
from indexing.encoding.sparse import SparseEncoder
from indexing.errors import IndexOutdated, IndexVersionError
from indexing.files import checkpoint
from indexing.manifest import load_manifest
from indexing.token_codec import codec_named
from indexing.version import VersionWriter

if TYPE_CHECKING:
    from app.services import Services

logger = logging.getLogger(__name__)

CHANGES_A_COMMIT = 2000
CHUNKS_A_BATCH = 2000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a version turns text into entries."""

    encoder: Encoder
    chunker: Chunker
    with_tokens: bool = False
    """Whether token vectors are kept too."""
    sparse: SparseEncoder | None = None
    """What makes the sparse vectors, where there are any."""


def recipe_of(services: Services, row: IndexVersionRow) -> Recipe:
    encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))
    chunker = Chunker(ChunkerSpec(**row.chunker_spec), encoder.count_tokens)
    try:
        spec = load_manifest(services.settings.indexes_dir / row.id).spec
    except IndexVersionError:
        return Recipe(encoder, chunker)  # it will be made anew
    return Recipe(encoder, chunker, spec.token_codec is not None, services.sparse_encoders.of_version(spec))


def lagging(services: Services) -> list[str]:
    """The served versions that have changes to apply."""
    with services.read() as session:
        return versions.lagging(session)


def commit_pending(services: Services, version_id: str, progress: Progress | None = None) -> int:
    """Applies every change that the version has not seen; gives the last change number applied.

    One process at a time extends a version; others wait for it here. Raises IndexOutdated where the log of
    changes does not reach back to what the version has.
    """
    with services.read() as session:
        row = versions.get(session, version_id)
    recipe = recipe_of(services, row)
    with VersionWriter(services.settings.indexes_dir / version_id) as writer:
        while _commit_some(services, row, recipe, writer, progress):
            pass
        manifest = writer.manifest
    checkpoint("index-committed")
    with services.write() as session:
        versions.set_counts(
            session,
            version_id,
            n_documents=manifest.n_documents,
            n_chunks=manifest.n_chunks,
            change_number=manifest.change,
        )
    nodes.follow(services, row)
    return manifest.change


def pending(services: Services, row: IndexVersionRow, reached: int, limit: int = 1) -> Sequence[ChangeRow]:
    """The next changes after the number that a version has reached.

    Numbers have no gaps, so a log that does not go on with the next one has forgotten some. And a version
    that is ahead of its collection belongs to another state of the database. Raises IndexOutdated for both.
    """
    with services.read() as session:
        last = collections.get(session, row.collection_id).change_number
        changes = collections.changes_since(session, row.collection_id, reached, limit=limit)
    if reached > last:
        raise IndexOutdated(
            f"Index version {row.id} has seen change {reached}, but the database knows changes up to {last}: "
            "it is older than the index. `footnote index repair` makes the version anew."
        )
    if reached < last and (not changes or changes[0].number != reached + 1):
        raise IndexOutdated(
            f"Index version {row.id} has seen changes up to {reached} of {last}, and those that follow are "
            "forgotten. `footnote index repair` makes the version anew."
        )
    return changes


def _commit_some(
    services: Services, row: IndexVersionRow, recipe: Recipe, writer: VersionWriter, progress: Progress | None
) -> bool:
    """One commit of the next changes; False when there were none."""
    changes = pending(services, row, writer.manifest.change, CHANGES_A_COMMIT)
    if not changes:
        return False
    touched = sorted({change.document_id for change in changes})
    chunk_missing(services, touched, recipe.chunker)
    with writer.commit(change=changes[-1].number) as commit:
        commit.replace_documents(np.asarray(touched, dtype=np.int64))
        add_documents(services, commit, recipe, touched, progress)
    logger.info(
        "index commit",
        extra={
            "action": "index_commit",
            "version": row.id,
            "change": changes[-1].number,
            "n_documents": len(touched),
        },
    )
    return True


def add_documents(
    services: Services,
    commit: Commit,
    recipe: Recipe,
    document_ids: Sequence[int],
    progress: Progress | None = None,
) -> int:
    """Adds the chunks that the documents have now, with their vectors; gives how many."""
    fingerprint = recipe.encoder.fingerprint
    name = commit.spec.token_codec
    codec = None if name is None else codec_named(name, recipe.encoder.dim)
    done = 0
    with services.read() as session:
        rows = chunks.of_documents(session, document_ids, recipe.chunker.spec.fingerprint, fingerprint)
        for batch in ahead(in_batches(rows, CHUNKS_A_BATCH)):
            commit.add(
                chunk_ids=np.asarray([row.chunk_id for row in batch], dtype=np.int64),
                document_ids=np.asarray([row.document_id for row in batch], dtype=np.int64),
                texts=[row.text for row in batch],
                vectors=vectors_of(services, recipe.encoder, batch, with_tokens=codec is not None),
                tokens=None if codec is None else tokens_of(services, recipe.encoder, codec, batch),
                sparse=None if recipe.sparse is None else sparse.codes_of(services, recipe.sparse, batch),
            )
            done += len(batch)
            if progress is not None:
                progress(done, done)
    return done
