"""Segments: immutable directories of rows, one row per chunk, sorted by chunk id.

A row is a chunk id, its document id, its vector, its terms and, in versions that keep them, the codes of its
token vectors and its sparse vector. Rows die by a bitmap kept outside the directory; merging segments leaves
the dead rows out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexing import token_lists
from indexing.columns import read_columns, write_columns
from indexing.errors import IndexDamaged
from indexing.files import check_file
from indexing.found import Found
from indexing.manifest import SegmentKind, SegmentRecord, VersionSpec
from indexing.postings import Postings
from indexing.spans import spans
from indexing.sparse_postings import SparsePostings, write_sparse_postings
from indexing.terms import TermTable
from indexing.token_codec import TokenCodec
from indexing.token_codes import TokenCodes, write_token_codes
from indexing.token_lists import MIN_ROWS, TokenLists
from indexing.types import Floats, Ids
from indexing.vectors import Halves, Mask, Rows, VectorStore, write_vectors

_FILE = "rows.col"
_ROWS_A_SLICE = 16_384


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRows:
    """The columns of rows in any order, in memory or mapped."""

    chunk_ids: Ids
    document_ids: Ids
    vectors: Halves
    terms: TermTable
    tokens: TokenCodes | None = None
    sparse: SparsePostings | None = None

    def __len__(self) -> int:
        return len(self.chunk_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What `write_segment` wrote; `chunk_ids` are sorted."""

    kind: SegmentKind
    n_tokens: int
    chunk_ids: Ids


def write_segment(
    directory: Path,
    parts: Sequence[tuple[SegmentRows, Rows]],
    pause: Callable[[], None] = lambda: None,
    codec: TokenCodec | None = None,
) -> Written:
    """Writes the given rows of each part as one segment; no chunk may stand twice among them.

    Vectors and codes are copied slice by slice, and `pause` is called between slices: what it raises ends the
    writing. `codec` is that of the tokens; without it they get no lists.
    """
    chunk_ids = np.concatenate([part.chunk_ids[taken] for part, taken in parts])
    order = np.argsort(chunk_ids, kind="stable")
    chunk_ids = chunk_ids[order]
    owners = np.repeat(np.arange(len(parts)), [len(taken) for _, taken in parts])[order]
    rows = np.concatenate([taken for _, taken in parts])[order]
    document_ids = np.concatenate([part.document_ids[taken] for part, taken in parts])[order]
    documents, document_of = np.unique(document_ids, return_inverse=True)
    sizes = np.bincount(document_of, minlength=len(documents))
    columns = {
        "chunk_ids": chunk_ids,
        "documents": documents,
        "document_of": document_of.astype(np.uint32),
        "starts": np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(sizes)]),
        "by_document": np.argsort(document_of, kind="stable").astype(np.uint32),
    }
    write_columns(directory / _FILE, columns)
    halves = _vectors([part.vectors for part, _ in parts], owners, rows, pause)
    coded = write_vectors(directory, halves, len(rows), parts[0][0].vectors.shape[1], pause)
    terms = TermTable.gather([part.terms for part, _ in parts], owners, rows)
    terms.save(directory)
    pause()
    Postings.build(terms).save(directory)
    if tokens := [part.tokens for part, _ in parts if part.tokens is not None]:
        write_token_codes(directory, tokens, owners, rows, pause)
        if codec is not None and len(rows) >= MIN_ROWS:
            TokenLists.build(TokenCodes.load(directory, len(rows), codec.width), codec, pause).save(directory)
    if sparse := [part.sparse for part, _ in parts if part.sparse is not None]:
        write_sparse_postings(directory, sparse, owners, rows, pause)
    n_tokens = int(terms.lengths.sum(dtype=np.int64))
    return Written(kind="rabitq" if coded else "flat", n_tokens=n_tokens, chunk_ids=chunk_ids)


def _vectors(
    sources: Sequence[Halves], owners: Rows, rows: Rows, pause: Callable[[], None]
) -> Iterator[Halves]:
    """Row r is row `rows[r]` of source `owners[r]`, slice by slice."""
    for start in range(0, len(rows), _ROWS_A_SLICE):
        pause()
        part = slice(start, start + _ROWS_A_SLICE)
        halves = np.empty((len(rows[part]), sources[0].shape[1]), dtype=np.float16)
        for number, source in enumerate(sources):
            of_source = owners[part] == number
            halves[of_source] = source[rows[part][of_source]]
        yield halves


class SegmentFiles:
    """The open files of a segment: shared by all snapshots that have it. Safe to use from several threads.

    Raises IndexDamaged if a file is not what its record says, as far as a quick look shows.
    """

    def __init__(self, root: Path, record: SegmentRecord, spec: VersionSpec) -> None:
        for file in record.files:
            check_file(root, file)
        directory = root / record.name
        columns = read_columns(directory / _FILE)
        self.name = record.name
        self.chunk_ids: Ids = columns["chunk_ids"]
        self.documents: Ids = columns["documents"]
        self.document_of: NDArray[np.uint32] = columns["document_of"]
        self.starts: NDArray[np.int64] = columns["starts"]
        self.by_document: NDArray[np.uint32] = columns["by_document"]
        self.terms = TermTable.load(directory)
        self.postings = Postings.load(directory)
        self.vectors = VectorStore(directory, record.n_rows, spec.dim, coded=record.kind == "rabitq")
        self.tokens: TokenCodes | None = None
        if spec.token_bytes:
            self.tokens = TokenCodes.load(directory, record.n_rows, spec.token_bytes)
        self.token_lists: TokenLists | None = None
        if any(file.name == f"{record.name}/{token_lists.FILE}" for file in record.files):
            self.token_lists = TokenLists.load(directory, record.n_rows, spec.dim)
        self.sparse: SparsePostings | None = None
        if spec.sparse_fingerprint is not None:
            self.sparse = SparsePostings.load(directory, record.n_rows)
        lengths = {len(self.chunk_ids), len(self.document_of), len(self.by_document), len(self.terms)}
        if lengths != {record.n_rows} or len(self.starts) != len(self.documents) + 1:
            raise IndexDamaged(f"The columns of {self.name} have {lengths} rows instead of {record.n_rows}.")


class Segment:
    """A segment as a snapshot has it, with the rows that are dead there. Safe to use from several threads."""

    def __init__(self, root: Path, record: SegmentRecord, files: SegmentFiles) -> None:
        self.record = record
        self.files = files
        self.chunk_ids = files.chunk_ids
        self.terms = files.terms
        self.postings = files.postings
        self.vectors = files.vectors
        self.tokens = files.tokens
        self.token_lists = files.token_lists
        self.sparse = files.sparse
        self.live = _live_rows(root, record)

    def __len__(self) -> int:
        return self.record.n_rows

    @property
    def name(self) -> str:
        return self.record.name

    @property
    def n_live(self) -> int:
        return self.record.n_live

    @property
    def n_tokens(self) -> int:
        """Terms of the live rows, each as often as it stands there."""
        return self.record.n_tokens

    @cached_property
    def live_rows(self) -> Rows:
        return np.arange(len(self)) if self.live is None else np.flatnonzero(self.live)

    def find(self, chunk_ids: Ids) -> Rows:
        """The live row of every chunk, -1 where there is none."""
        rows = np.searchsorted(self.chunk_ids, chunk_ids)
        rows[rows == len(self)] = 0
        hit = self.chunk_ids[rows] == chunk_ids
        if self.live is not None:
            hit &= self.live[rows]
        return np.where(hit, rows, -1)

    def rows_of_documents(self, document_ids: Ids) -> Rows:
        """The live rows of the documents (sorted ids), document by document."""
        places = self._places(document_ids)
        starts, ends = self.files.starts[places], self.files.starts[places + 1]
        rows = self.files.by_document[spans(starts, ends - starts)].astype(np.int64)
        return rows if self.live is None else rows[self.live[rows]]

    def mask_of_documents(self, document_ids: Ids) -> Mask:
        """Which rows are live and belong to one of the documents (sorted ids)."""
        wanted = np.zeros(len(self.files.documents), dtype=np.bool_)
        wanted[self._places(document_ids)] = True
        mask = wanted[self.files.document_of]
        if self.live is not None:
            mask &= self.live
        return mask

    def document_ids_of(self, rows: Rows) -> Ids:
        return self.files.documents[self.files.document_of[rows]]

    @property
    def live_documents(self) -> Ids:
        """The documents with a live row, sorted."""
        if self.live is None:
            return self.files.documents
        present = np.zeros(len(self.files.documents), dtype=np.bool_)
        present[self.files.document_of[self.live]] = True
        return self.files.documents[present]

    def found(self, rows: Rows, scores: Floats) -> Found:
        """Raises IndexDamaged where a column points to what is not there."""
        try:
            return Found(
                chunk_ids=self.chunk_ids[rows], document_ids=self.document_ids_of(rows), scores=scores
            )
        except IndexError as exc:
            raise IndexDamaged(f"A column of {self.name} is damaged: {exc}") from exc

    def columns(self) -> SegmentRows:
        """All rows, the dead ones included, as they are on disk."""
        return SegmentRows(
            chunk_ids=self.chunk_ids,
            document_ids=self.files.documents[self.files.document_of],
            vectors=self.vectors.halves,
            terms=self.terms,
            tokens=self.tokens,
            sparse=self.sparse,
        )

    def _places(self, document_ids: Ids) -> Rows:
        """Where those of the documents that the segment has stand among its documents."""
        documents = self.files.documents
        places = np.searchsorted(documents, document_ids)
        places[places == len(documents)] = 0
        return np.asarray(places[documents[places] == document_ids])


def write_dead_rows(path: Path, n_rows: int, dead: Rows) -> None:
    """Writes the bitmap of a segment's dead rows."""
    bits = np.zeros(n_rows, dtype=np.bool_)
    bits[dead] = True
    path.write_bytes(np.packbits(bits, bitorder="little").tobytes())


def _live_rows(root: Path, record: SegmentRecord) -> Mask | None:
    """Which rows are live; None where all are."""
    if record.dead is None:
        return None
    check_file(root, record.dead)
    bits = np.fromfile(root / record.dead.name, dtype=np.uint8)
    live = np.unpackbits(bits, count=record.n_rows, bitorder="little") == 0
    if np.count_nonzero(live) != record.n_live:
        raise IndexDamaged(f"{record.dead.name} has another number of dead rows than {record.n_dead}.")
    return np.asarray(live)
