"""Whether an index still finds a text: searches with the text's own words and vectors, before and after."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from app.db import chunks, vectors, versions
from app.db.tables import IndexVersionRow
from indexing.analysis import build_analyzer
from indexing.snapshot import Snapshot
from indexing.types import Chunk, text_hash
from retrievers.bm25 import Bm25Retriever
from retrievers.dense import DenseRetriever
from retrievers.types import Query

if TYPE_CHECKING:
    from app.services import Services

DOCUMENTS_PROBED = 5
CHUNKS_PROBED = 3
WORDS = 8
TOP_K = 50
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What would find a chunk if anything did: its most distinctive words, and its vector."""

    document_id: int
    query: Query


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """How many of the searches of a mode found their document among the best hits."""

    mode: str
    n_searches: int
    n_found: int


def prepare(services: Services, collection_id: int, document_ids: Sequence[int]) -> list[Search]:
    """The searches for some chunks of some of the documents; none where no index is served."""
    with services.read() as session:
        version = versions.active(session, collection_id)
    if version is None:
        return []
    snapshot = services.snapshots.get(version.id)
    return [
        search
        for document_id in document_ids[:DOCUMENTS_PROBED]
        for search in _searches(services, snapshot, version, document_id)
    ]


def found(services: Services, collection_id: int, searches: Sequence[Search]) -> tuple[Found, ...]:
    """What the served index finds: its files are asked, and the database authorises nothing away."""
    with services.read() as session:
        version = versions.active(session, collection_id)
    if version is None or not searches:
        return ()
    snapshot = services.snapshots.get(version.id)
    with_vectors = [search for search in searches if _fits(search, snapshot)]
    modes = (("bm25", Bm25Retriever(snapshot), searches), ("dense", DenseRetriever(snapshot), with_vectors))
    return tuple(
        Found(
            mode=mode,
            n_searches=len(asked),
            n_found=sum(
                any(hit.document_id == search.document_id for hit in hits)
                for search, hits in zip(
                    asked, retriever.retrieve([search.query for search in asked], TOP_K), strict=True
                )
            ),
        )
        for mode, retriever, asked in modes
    )


def _searches(
    services: Services, snapshot: Snapshot, version: IndexVersionRow, document_id: int
) -> list[Search]:
    with services.read() as session:
        cut = chunks.of_document(
            session, document_id, chunker=version.chunker_fingerprint, limit=CHUNKS_PROBED
        )
        hashes = [text_hash(chunk.contextual_text) for chunk in cut]
        kept = vectors.load(session, version.encoder_fingerprint, hashes)
    return [
        Search(
            document_id=document_id,
            query=Query(text=" ".join(distinctive_words(snapshot, chunk)), vector=_vector(kept.get(key))),
        )
        for chunk, key in zip(cut, hashes, strict=True)
    ]


def distinctive_words(snapshot: Snapshot, chunk: Chunk) -> list[str]:
    """The words of a chunk that add most to its BM25 score; its first words where it is not in the index."""
    analyzer = build_analyzer()
    words = dict.fromkeys(_WORD.findall(chunk.contextual_text))
    try:
        weights = snapshot.lexical.contributions(chunk.contextual_text, chunk.id)
    except KeyError:
        return list(words)[:WORDS]
    weight_of = {
        word: max((weights.get(t, 0.0) for t in analyzer.analyze(word)), default=0.0) for word in words
    }
    return sorted(words, key=lambda word: -weight_of[word])[:WORDS]


def _vector(kept: bytes | None) -> np.ndarray[tuple[int], np.dtype[np.float32]] | None:
    return None if kept is None else np.frombuffer(kept, dtype="<f2").astype(np.float32)


def _fits(search: Search, snapshot: Snapshot) -> bool:
    """Whether the search has a vector of the index that is served now."""
    return search.query.vector is not None and len(search.query.vector) == snapshot.manifest.spec.dim
