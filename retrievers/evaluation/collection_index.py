"""The index of a collection, built as ingested documents are: chunks, vectors, an index version."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from typing import TypeVar
from uuid import uuid4

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.encoding.sparse import SparseEncoder, sparse_settings
from indexing.errors import IndexVersionError
from indexing.files import publish_directory, sync_directory
from indexing.loaders.canonical import clean
from indexing.locks import DirectoryLock
from indexing.manifest import FORMAT, VersionSpec
from indexing.snapshot import Snapshot
from indexing.sparse_codes import SparseCodes
from indexing.token_codec import codec_for
from indexing.token_codes import TokenCodes
from indexing.token_pooling import KEPT_PER_ROOT, pooled
from indexing.types import ChunkId, LoadedText, contextual_text, stable_id
from indexing.version import VersionWriter, create_version
from retrievers.evaluation.beir import BeirCollection, BeirDocument
from retrievers.evaluation.errors import EvaluationError

Progress = Callable[[str, int, int], None]
"""Called with (stage, done, total)."""

CHUNKS_A_BATCH = 256
_LAYOUT = f"tokens-{KEPT_PER_ROOT}"
"""Part of an index's name: what else than the four below decides what it holds."""
_FACTS = "collection.json"

_UNUSABLE = (OSError, ValueError, TypeError, IndexVersionError)

T = TypeVar("T")


class _BuildLock(DirectoryLock):
    """Held by the one who builds an index, beside its directory."""

    def __init__(self, directory: Path) -> None:
        self.name = f".{directory.name}.lock"
        super().__init__(directory.parent)


@dataclass(frozen=True, slots=True, kw_only=True)
class IndexFacts:
    """Counts and times of a built index; documents without text and title are counted, but have no chunk."""

    n_documents: int
    n_chunks: int
    chunk_seconds: float
    encode_seconds: float
    index_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionChunk:
    """A chunk with its contextual text; `[start, end)` are characters of the document's cleaned text."""

    id: ChunkId
    document_id: int
    text: str
    start: int
    end: int
    n_tokens: int


def open_index(
    collection: BeirCollection,
    encoder: Encoder,
    chunker_spec: ChunkerSpec,
    work_dir: Path,
    progress: Progress,
    sparse: SparseEncoder | None = None,
) -> tuple[Snapshot, IndexFacts]:
    """The collection's index: built at first, found again while corpus, encoders and chunker are the same.

    Raises EvaluationError if the collection cannot be read.
    """
    parts = [FORMAT, _LAYOUT, collection.content_hash(), encoder.fingerprint, chunker_spec.fingerprint]
    if sparse is not None:
        parts.append(sparse.fingerprint)
    key = blake2b("/".join(map(str, parts)).encode(), digest_size=8).hexdigest()
    directory = work_dir / f"{collection.name}-{key}"
    with suppress(*_UNUSABLE):
        return _open(directory, encoder)
    work_dir.mkdir(parents=True, exist_ok=True)
    lock = _BuildLock(directory)
    lock.acquire()
    try:
        with suppress(*_UNUSABLE):  # built by another meanwhile
            return _open(directory, encoder)
        shutil.rmtree(directory, ignore_errors=True)
        working = work_dir / f"{directory.name}.{uuid4().hex}"
        try:
            _build(collection, encoder, chunker_spec, sparse, working, progress)
            sync_directory(working)
            publish_directory(working, directory)
        finally:
            shutil.rmtree(working, ignore_errors=True)
        return _open(directory, encoder)
    finally:
        lock.release()


def document_names(collection: BeirCollection) -> dict[int, str]:
    """Each document's id in the index, with its id in the collection."""
    return {_document_id(document): document.id for document in collection.documents()}


def collection_chunks(collection: BeirCollection, chunker: Chunker) -> Iterator[CollectionChunk]:
    """The chunks of all documents. A document without text consists of its title."""
    for document in collection.documents():
        text, title = clean(document.text), clean(document.title)
        loaded = LoadedText(text=text if text.strip() else title)
        document_id = _document_id(document)
        for ordinal, span in enumerate(chunker.split(loaded, title)):
            yield CollectionChunk(
                id=ChunkId(stable_id(document_id, chunker.spec.fingerprint, ordinal, span.start, span.end)),
                document_id=document_id,
                text=contextual_text(span.heading_path, loaded.text[span.start : span.end]),
                start=span.start,
                end=span.end,
                n_tokens=span.n_tokens,
            )


def _open(directory: Path, encoder: Encoder) -> tuple[Snapshot, IndexFacts]:
    facts = IndexFacts(**json.loads((directory / _FACTS).read_text("utf-8")))
    return Snapshot.open(directory / "version", expected_fingerprint=encoder.fingerprint), facts


def _build(
    collection: BeirCollection,
    encoder: Encoder,
    spec: ChunkerSpec,
    sparse: SparseEncoder | None,
    directory: Path,
    progress: Progress,
) -> None:
    n_documents = _check_texts(collection)
    chunker = Chunker(spec, encoder.count_tokens)
    began = time.perf_counter()
    chunks = list(collection_chunks(collection, chunker))
    chunk_seconds = time.perf_counter() - began
    version = directory / "version"
    codec = codec_for(encoder.name, encoder.dim)
    create_version(
        version,
        VersionSpec(
            version=collection.name,
            encoder_name=encoder.name,
            encoder_fingerprint=encoder.fingerprint,
            dim=encoder.dim,
            chunker_fingerprint=spec.fingerprint,
            settings={
                "token_codec": codec.name,
                "token_bytes": codec.width,
                **sparse_settings(sparse),
            },
        ),
    )
    encode_seconds = 0.0
    began = time.perf_counter()
    with VersionWriter(version) as writer, writer.commit(change=1) as commit:
        for done, batch in _batches(iter(chunks)):
            encoding_began = time.perf_counter()
            encoding = encoder.encode_documents([chunk.text for chunk in batch], with_tokens=True)
            tokens = [
                codec.encode(pooled(chunk.text, of_chunk))
                for chunk, of_chunk in zip(batch, encoding.tokens or (), strict=True)
            ]
            codes = None
            if sparse is not None:
                codes = SparseCodes.of(sparse.encode_documents([chunk.text for chunk in batch]))
            encode_seconds += time.perf_counter() - encoding_began
            commit.add(
                chunk_ids=np.array([chunk.id for chunk in batch], dtype=np.int64),
                document_ids=np.array([chunk.document_id for chunk in batch], dtype=np.int64),
                texts=[chunk.text for chunk in batch],
                vectors=encoding.vectors,
                tokens=TokenCodes.of(tokens, codec.width),
                sparse=codes,
            )
            progress("encode", done + len(batch), len(chunks))
    facts = IndexFacts(
        n_documents=n_documents,
        n_chunks=len(chunks),
        chunk_seconds=chunk_seconds,
        encode_seconds=encode_seconds,
        index_seconds=time.perf_counter() - began - encode_seconds,
    )
    (directory / _FACTS).write_text(json.dumps(asdict(facts)), "utf-8")


def _check_texts(collection: BeirCollection) -> int:
    """The number of documents; raises EvaluationError where none has a text or an id stands twice."""
    seen: set[str] = set()
    with_text = 0
    for document in collection.documents():
        if document.id in seen:
            raise EvaluationError(f"{collection.folder}: the document {document.id} is there twice.")
        seen.add(document.id)
        with_text += bool(document.text.strip())
    if not with_text:
        raise EvaluationError(
            f"{collection.folder}: no document has a text. Where the texts lie in files beside the corpus, "
            "put them into the corpus first."
        )
    return len(seen)


def _document_id(document: BeirDocument) -> int:
    return stable_id("document", document.id)


def _batches(chunks: Iterator[CollectionChunk]) -> Iterator[tuple[int, list[CollectionChunk]]]:
    done = 0
    while batch := list(islice(chunks, CHUNKS_A_BATCH)):
        yield done, batch
        done += len(batch)
