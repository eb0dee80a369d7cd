"""A snapshot: one immutable view of an index version, open for reading."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np

from indexing.device_scan import DeviceScans
from indexing.errors import EncoderMismatch, IndexDamaged, IndexMissing
from indexing.found import Found
from indexing.lexical import LexicalIndex
from indexing.manifest import Manifest, SegmentRecord, VersionSpec, load_manifest
from indexing.nearest import VectorIndex
from indexing.segment_set import SegmentSet, Selection
from indexing.segments import Segment, SegmentFiles
from indexing.sparse_index import SparseIndex
from indexing.token_codec import TokenCodec, codec_named
from indexing.token_codes import Codes, TokenCodes
from indexing.token_products import best_products
from indexing.token_search import search_tokens
from indexing.types import DocumentId, Floats, Ids

_NO_CODES: Codes = np.empty((0, 0), dtype=np.uint8)


class Snapshot:
    """Maps the files of the version as they are now; later commits do not change it.

    Safe to use from several threads. Files that a later commit removes stay readable until the snapshot is
    closed or forgotten. Opening writes nothing. With `previous`, an earlier snapshot of the version, what
    both have is opened once.
    """

    def __init__(
        self,
        directory: Path,
        manifest: Manifest,
        previous: Snapshot | None = None,
        scans: DeviceScans | None = None,
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        known = {segment.name: segment for segment in previous.segments.segments} if previous else {}
        self.segments: SegmentSet = SegmentSet(
            [
                _segment(directory, record, manifest.spec, known.get(record.name))
                for record in manifest.segments
            ],
            manifest.spec.dim,
        )
        self.lexical = LexicalIndex(self.segments)
        self.vectors = VectorIndex(self.segments, scans)

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        expected_fingerprint: str | None = None,
        previous: Snapshot | None = None,
        scans: DeviceScans | None = None,
    ) -> Snapshot:
        """With `scans`, vectors are searched on their device.

        Raises IndexMissing, IndexDamaged, or EncoderMismatch if the encoder is another than expected."""
        manifest = load_manifest(directory)
        while True:
            check_encoder(manifest, expected_fingerprint)
            try:
                return cls(directory, manifest, previous, scans)
            except (FileNotFoundError, IndexDamaged) as exc:
                # A writer may have removed what two commits ago was still in use: look again.
                newer = load_manifest(directory)
                if newer.commit == manifest.commit:
                    raise IndexDamaged(f"The index version in {directory} is damaged: {exc}") from exc
                manifest = newer
            except (ValueError, TypeError, KeyError, RuntimeError, OSError) as exc:
                raise IndexDamaged(f"The index version in {directory} cannot be opened: {exc!r}") from exc

    def close(self) -> None:
        """Lets go of the files. The snapshot must not be in use any more."""
        del self.lexical, self.vectors, self.segments

    def __enter__(self) -> Snapshot:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def select(self, document_ids: Ids | None) -> Selection:
        """The rows a search may give when only these documents (sorted ids) are allowed; None allows all."""
        return self.segments.select(document_ids)

    def document_chunks(self, document_id: DocumentId) -> Ids:
        """The document's chunk ids, sorted."""
        wanted = np.array([document_id], dtype=np.int64)
        none = np.empty(0, dtype=np.int64)
        parts = [part.chunk_ids[part.rows_of_documents(wanted)] for part in self.segments.segments]
        return np.sort(np.concatenate([none, *parts]))

    @property
    def sparse(self) -> SparseIndex:
        """Search by sparse vectors. Raises IndexMissing if the version has none."""
        if self.manifest.spec.sparse_fingerprint is None:
            raise IndexMissing(
                f"Index version {self.manifest.spec.version} has no sparse vectors: set "
                "FOOTNOTE_SPARSE_MODEL to a SparseEncoder model, then run `footnote index build`."
            )
        return SparseIndex(self.segments)

    def token_codes(self, chunk_ids: Ids) -> list[Codes]:
        """The codes of each chunk's tokens, shape (n_tokens, width), views of the mapped files.

        Raises KeyError if the version lacks a chunk, IndexMissing if it has no token vectors.
        """
        self._token_codec_name()
        found: list[Codes] = [_NO_CODES] * len(chunk_ids)
        for segment, positions, rows in self.segments.located(chunk_ids):
            assert segment.tokens is not None
            for position, row in zip(positions.tolist(), rows.tolist(), strict=True):
                found[position] = segment.tokens[row]
        return found

    def token_vectors(self, chunk_ids: Ids) -> list[Floats]:
        """The vectors of each chunk's tokens, shape (n_tokens, dim), as their codes tell; in reading order.

        Raises what `token_codes` does, and EncoderError if this program does not have the codec.
        """
        codes = self.token_codes(chunk_ids)
        codec = self._codec()
        vectors = codec.decode(np.concatenate([np.empty((0, codec.width), dtype=np.uint8), *codes]))
        return np.split(vectors, np.cumsum([len(part) for part in codes])[:-1]) if codes else []

    def best_products(self, vectors: Floats, chunk_ids: Ids) -> Floats:
        """The largest inner product of each vector (n, dim) with a token of each chunk, shape (n_chunks, n).

        The vectors are of length 1 at most; 0 for a chunk without tokens. Raises what `token_vectors` does.
        """
        codes = self.token_codes(chunk_ids)
        codec = self._codec()
        return best_products(vectors, TokenCodes.of(codes, codec.width), codec)

    def search_tokens(
        self, vectors: Floats, weights: Floats, limit: int, selection: Selection | None = None
    ) -> Found:
        """The `limit` best chunks by Σ_i w_i max_j ⟨q_i, d_j⟩, best first, ties by chunk id.

        Recall is that of the lists of centroids (`indexing.token_search`). Raises what `token_vectors` does.
        """
        return search_tokens(self.segments, self._codec(), vectors, weights, limit, selection)

    def _codec(self) -> TokenCodec:
        return codec_named(self._token_codec_name(), self.manifest.spec.dim)

    def _token_codec_name(self) -> str:
        spec = self.manifest.spec
        if spec.token_codec is None:
            raise IndexMissing(
                f"Index version {spec.version} was built without token vectors: run `footnote index build`."
            )
        return spec.token_codec

    def documents(self) -> Ids:
        """The ids of all documents with a chunk, sorted."""
        return self.segments.documents()

    def chunk_ids(self) -> Ids:
        """The ids of all chunks, sorted."""
        none = np.empty(0, dtype=np.int64)
        return np.sort(
            np.concatenate([none, *(part.chunk_ids[part.live_rows] for part in self.segments.segments)])
        )


def check_encoder(manifest: Manifest, expected_fingerprint: str | None) -> None:
    built_with = manifest.spec.encoder_fingerprint
    if expected_fingerprint is not None and expected_fingerprint != built_with:
        raise EncoderMismatch(
            f"Index version {manifest.spec.version} was built with encoder {manifest.spec.encoder_name} "
            f"({built_with}), but the encoder in use is {expected_fingerprint}. "
            "Run `footnote index build` to build a version with it, or set the former encoder again."
        )


def _segment(directory: Path, record: SegmentRecord, spec: VersionSpec, known: Segment | None) -> Segment:
    if known is None:
        return Segment(directory, record, SegmentFiles(directory, record, spec))
    return known if known.record == record else Segment(directory, record, known.files)
