"""A collection in the BEIR layout, chunked, encoded and indexed as by the service, but without a database."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from indexing.chunking import Chunker, ChunkerSpec
from indexing.encoding.base import Encoder
from indexing.manifest import VersionSpec
from indexing.snapshot import Snapshot
from indexing.token_codec import codec_for
from indexing.token_codes import TokenCodes
from indexing.token_pooling import pooled
from indexing.types import Chunk, ChunkId, DocumentId, Ids, LoadedText, stable_id
from indexing.version import VersionWriter, create_version
from retrievers.ensemble import EnsembleRetriever
from retrievers.hybrid import HybridRetriever
from retrievers.types import Passage, Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    id: DocumentId
    name: str
    title: str | None
    text: str


class IndexedCollection:
    """Gives passages for questions by the default mode, or by `hybrid`."""

    def __init__(
        self, folder: Path, encoder: Encoder, directory: Path, mode: Literal["auto", "hybrid"] = "auto"
    ) -> None:
        self._encoder = encoder
        self._codec = codec_for(encoder.name, encoder.dim)
        self.documents = {document.id: document for document in read_documents(folder)}
        chunker = Chunker(ChunkerSpec(max_tokens=encoder.max_tokens), encoder.count_tokens)
        self._chunks = {
            chunk.id: chunk for document in self.documents.values() for chunk in cut(document, chunker)
        }
        snapshot = self._index(directory, chunker.spec.fingerprint)
        self._retriever = EnsembleRetriever(snapshot) if mode == "auto" else HybridRetriever(snapshot)

    def _index(self, directory: Path, chunker_fingerprint: str) -> Snapshot:
        spec = VersionSpec(
            version="benchmark",
            encoder_name=self._encoder.name,
            encoder_fingerprint=self._encoder.fingerprint,
            dim=self._encoder.dim,
            chunker_fingerprint=chunker_fingerprint,
            settings={"token_codec": self._codec.name, "token_bytes": self._codec.width},
        )
        create_version(directory, spec)
        chunks = list(self._chunks.values())
        texts = [chunk.contextual_text for chunk in chunks]
        encoding = self._encoder.encode_documents(texts, with_tokens=True)
        tokens = [
            self._codec.encode(pooled(text, of_text))
            for text, of_text in zip(texts, encoding.tokens or (), strict=True)
        ]
        with VersionWriter(directory) as writer, writer.commit(change=1) as commit:
            commit.add(
                chunk_ids=np.array([chunk.id for chunk in chunks], np.int64),
                document_ids=np.array([chunk.document_id for chunk in chunks], np.int64),
                texts=texts,
                vectors=encoding.vectors,
                tokens=TokenCodes.of(tokens, self._codec.width),
            )
        return Snapshot.open(directory)

    def passages(self, question: str, top_k: int, titled: str | None = None) -> list[Passage]:
        """The best passages, of all documents or of those with one title."""
        encoding = self._encoder.encode_queries([question], with_tokens=True)
        query = Query(
            text=question,
            vector=encoding.vectors[0],
            tokens=(encoding.tokens or (None,))[0],
            allowed_documents=None if titled is None else self._titled(titled),
        )
        return [
            Passage(
                chunk=self._chunks[hit.chunk_id],
                score=hit.score,
                rank=hit.rank,
                title=self.documents[hit.document_id].title,
                source=self.documents[hit.document_id].name,
                scores=hit.scores,
            )
            for hit in self._retriever.retrieve([query], top_k)[0]
        ]

    def _titled(self, title: str) -> Ids:
        return np.array(
            sorted(document.id for document in self.documents.values() if document.title == title), np.int64
        )


def read_documents(folder: Path) -> Iterator[Document]:
    for record in read_lines(folder, "corpus"):
        yield Document(
            id=DocumentId(stable_id("document", folder.name, record["_id"])),
            name=record["_id"],
            title=record["title"] or None,
            text=record["text"],
        )


def cut(document: Document, chunker: Chunker) -> Iterator[Chunk]:
    spans = chunker.split(LoadedText(text=document.text), document.title)
    for ordinal, span in enumerate(spans):
        yield Chunk(
            id=ChunkId(stable_id(document.id, ordinal)),
            document_id=document.id,
            ordinal=ordinal,
            text=document.text[span.start : span.end],
            start=span.start,
            end=span.end,
            heading_path=span.heading_path,
            n_tokens=span.n_tokens,
        )


def read_lines(folder: Path, name: str) -> Iterator[dict[str, Any]]:
    """The records of `name`.jsonl, which may be gzipped."""
    path = folder / f"{name}.jsonl"
    text = path.read_text() if path.exists() else gzip.decompress(Path(f"{path}.gz").read_bytes()).decode()
    yield from (json.loads(line) for line in text.split("\n") if line)


def sample(records: Sequence[Mapping[str, Any]], size: int | None, seed: int = 0) -> list[Mapping[str, Any]]:
    """`size` of the records in their order, or all of them."""
    if size is None or size >= len(records):
        return list(records)
    return [records[at] for at in np.sort(np.random.default_rng(seed).permutation(len(records))[:size])]
