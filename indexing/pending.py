"""Rows of a commit that are not written yet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from indexing.segments import SegmentRows
from indexing.sparse_codes import SparseCodes
from indexing.sparse_postings import SparsePostings
from indexing.terms import TermTableBuilder
from indexing.token_codes import SpilledCodes, TokenCodes
from indexing.types import Ids
from indexing.vectors import Halves, Mask

BLOCK_ROWS = 32_768
"""Rows whose terms are counted together: bounds the memory that takes."""


class PendingRows:
    """Rows in blocks; the codes of their tokens wait in files."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tokens: SpilledCodes | None = None
        self._blocks: list[SegmentRows] = []
        self._ids: set[int] = set()
        self._begin_block()

    def __len__(self) -> int:
        return len(self._ids)

    def claim(self, chunk_ids: Ids, wanted: Mask) -> Mask:
        """Which of the wanted chunks are not pending yet; those are, from now on."""
        new = wanted.copy()
        for position in np.flatnonzero(wanted).tolist():
            chunk_id = int(chunk_ids[position])
            new[position] = chunk_id not in self._ids
            self._ids.add(chunk_id)
        return new

    def extend(
        self,
        chunk_ids: Ids,
        document_ids: Ids,
        vectors: Halves,
        texts: Sequence[str],
        tokens: TokenCodes | None,
        sparse: SparseCodes | None,
    ) -> None:
        self._chunk_ids.append(chunk_ids)
        self._document_ids.append(document_ids)
        self._vectors.append(vectors)
        for text in texts:
            self._terms.add(text)
        if tokens is not None:
            if self._tokens is None:
                self._tokens = SpilledCodes(self._directory, tokens.codes.shape[1])
            self._tokens.add(tokens)
        if sparse is not None:
            self._sparse.append(sparse)
        if len(self._terms) >= BLOCK_ROWS:
            self._end_block()

    def blocks(self) -> list[SegmentRows]:
        if len(self._terms):
            self._end_block()
        return self._blocks

    def close(self) -> None:
        """Lets go of rows that no one is going to write."""
        if self._tokens is not None:
            self._tokens.close()

    def _begin_block(self) -> None:
        self._chunk_ids: list[Ids] = []
        self._document_ids: list[Ids] = []
        self._vectors: list[Halves] = []
        self._terms = TermTableBuilder()
        self._tokens = None
        self._sparse: list[SparseCodes] = []

    def _end_block(self) -> None:
        self._blocks.append(
            SegmentRows(
                chunk_ids=np.concatenate(self._chunk_ids),
                document_ids=np.concatenate(self._document_ids),
                vectors=np.concatenate(self._vectors),
                terms=self._terms.build(),
                tokens=None if self._tokens is None else self._tokens.read(),
                sparse=SparsePostings.of(SparseCodes.chained(self._sparse)) if self._sparse else None,
            )
        )
        self._begin_block()
