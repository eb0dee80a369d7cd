"""A snapshot: one immutable view of an index version, open for reading."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from indexing.errors import EncoderMismatch, IndexDamaged
from indexing.files import load_array
from indexing.lexical import LexicalIndex
from indexing.manifest import Manifest, load_manifest
from indexing.nearest import VectorIndex
from indexing.segments import Segment, SegmentSet, Selection
from indexing.types import DocumentId, Ids


class Snapshot:
    """Maps the files of the version as they are now; later commits do not change it.

    Safe to use from several threads. Files that a later commit removes stay readable until the snapshot is
    closed or forgotten.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self.manifest = manifest
        dead = _tombstones(directory, manifest)
        self.segments = SegmentSet(
            [
                Segment(
                    record.name,
                    directory / record.name,
                    record.kind,
                    manifest.spec.dim,
                    dead[dead[:, 0] == number, 1],
                )
                for number, record in enumerate(manifest.segments)
            ],
            manifest.spec.dim,
        )
        self.lexical = LexicalIndex(self.segments)
        self.vectors = VectorIndex(self.segments)

    @classmethod
    def open(cls, directory: Path, *, expected_fingerprint: str | None = None) -> Snapshot:
        """Raises IndexMissing, IndexDamaged, or EncoderMismatch if the encoder is another than expected."""
        manifest = load_manifest(directory)
        while True:
            check_encoder(manifest, expected_fingerprint)
            try:
                _check_sizes(directory, manifest)
                return cls(directory, manifest)
            except (FileNotFoundError, IndexDamaged) as exc:
                # A writer may have removed what two commits ago was still in use: look again.
                newer = load_manifest(directory)
                if newer.commit == manifest.commit:
                    raise IndexDamaged(f"The index version in {directory} is damaged: {exc}") from exc
                manifest = newer
            except (ValueError, RuntimeError, OSError) as exc:
                raise IndexDamaged(f"The index version in {directory} cannot be opened: {exc}") from exc

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


def _check_sizes(directory: Path, manifest: Manifest) -> None:
    for record in manifest.files:
        size = (directory / record.name).stat().st_size
        if size != record.size:
            raise IndexDamaged(f"{record.name} has {size} bytes instead of {record.size}.")


def _tombstones(directory: Path, manifest: Manifest) -> NDArray[np.int64]:
    """Dead rows, shape (n, 2): the number of the segment in the manifest, the row."""
    if manifest.tombstones is None:
        return np.empty((0, 2), dtype=np.int64)
    return np.array(load_array(directory / manifest.tombstones.name))
