"""Sparse vectors of chunks: made where a model is set, kept like dense ones, put into index versions.

They stand in the same table as dense vectors, under the fingerprint of the sparse encoder, so that what
removes, verifies, backs up and restores kept vectors takes them along. A version says in its manifest which
encoder its sparse vectors are of; what is set counts when a version is made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from app.db import inventory, vectors
from app.db.chunks import ChunkText
from app.db.tables import IndexVersionRow
from indexing.encoding.sparse import SparseEncoder, sparse_settings
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes
from indexing.types import Scalar

if TYPE_CHECKING:
    from app.services import Services

TEXTS_A_SAVE = 256

Say = Callable[[str, int, int], None]


def version_settings(services: Services) -> dict[str, Scalar]:
    """What the manifest of a new version says of its sparse vectors."""
    return sparse_settings(services.sparse_encoders.set_up(), services.settings.sparse.max_terms)


def encode_missing(services: Services, encoder: SparseEncoder, texts: Mapping[str, str]) -> int:
    """Encodes those of the texts (by hash) that have no kept sparse vector; gives how many that were."""
    with services.read() as session:
        known = vectors.known(session, encoder.fingerprint, texts)
    missing = [(key, text) for key, text in texts.items() if key not in known]
    for start in range(0, len(missing), TEXTS_A_SAVE):
        part = missing[start : start + TEXTS_A_SAVE]
        codes = SparseCodes.of(encoder.encode_documents([text for _, text in part]))
        _save(services, encoder, [key for key, _ in part], codes)
    return len(missing)


def encode_chunks(services: Services, row: IndexVersionRow, encoder: SparseEncoder, say: Say) -> None:
    """Encodes the chunks of a version that lack a sparse vector, in batches that are saved one by one."""
    of_version = (row.collection_id, row.chunker_fingerprint, encoder.fingerprint)
    with services.read() as session:
        total = inventory.n_without_vector(session, *of_version)
    done, after = 0, -1
    while total:
        with services.read() as session:
            missing = inventory.without_vector(session, *of_version, after=after, limit=TEXTS_A_SAVE)
        say("encode sparse", min(done, total), total)
        if not missing:
            return
        encode_missing(services, encoder, {item.text_hash: item.text for item in missing})
        after = missing[-1].chunk_id
        done += len(missing)


def codes_of(services: Services, encoder: SparseEncoder, entries: Sequence[ChunkText]) -> SparseCodes:
    """The sparse vectors of chunks; what is not kept yet is encoded and kept."""
    texts = {entry.text_hash: entry.text for entry in entries}
    encode_missing(services, encoder, texts)
    with services.read() as session:
        kept = vectors.load(session, encoder.fingerprint, texts)
    return SparseCodes.from_bytes([kept[entry.text_hash] for entry in entries])


def keep_indexed(
    services: Services, row: IndexVersionRow, encoder: SparseEncoder, snapshot: Snapshot
) -> None:
    """Puts sparse vectors that only the index has back into the database, byte for byte."""
    of_version = (row.collection_id, row.chunker_fingerprint, encoder.fingerprint)
    known = set(snapshot.chunk_ids().tolist())
    after = -1
    while True:
        with services.read() as session:
            missing = inventory.without_vector(session, *of_version, after=after, limit=TEXTS_A_SAVE)
        if not missing:
            return
        after = missing[-1].chunk_id
        found = {item.chunk_id: item.text_hash for item in missing if item.chunk_id in known}
        ids = np.asarray(sorted(found), dtype=np.int64)
        for segment, positions, rows in snapshot.segments.located(ids):
            if segment.sparse is not None:
                hashes = [found[chunk_id] for chunk_id in ids[positions].tolist()]
                _save(services, encoder, hashes, segment.sparse.forward(rows))


def _save(services: Services, encoder: SparseEncoder, hashes: Sequence[str], codes: SparseCodes) -> None:
    kept = [
        vectors.StoredVector(text_hash=text_hash, vector=codes.to_bytes(row))
        for row, text_hash in enumerate(hashes)
    ]
    with services.write() as session:
        vectors.save(session, encoder.fingerprint, encoder.n_terms, kept)
