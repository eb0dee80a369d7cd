"""Made-up chunks and index versions of them, for tests that need a real index.

    python -m tests.small_index DIRECTORY

commits `SECOND` to the version in DIRECTORY, in a process of its own that a test may kill.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from indexing.snapshot import Snapshot
from indexing.types import Floats, Ids
from indexing.version import VersionSpec, VersionWriter, create_version

DIM = 16
WORDS = (
    "river",
    "stone",
    "bridge",
    "night",
    "garden",
    "engine",
    "paper",
    "window",
    "salt",
    "copper",
    "letter",
    "harbour",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SmallChunks:
    """Parallel columns, as `Commit.add` takes them."""

    chunk_ids: Ids
    document_ids: Ids
    texts: list[str]
    vectors: Floats

    def __len__(self) -> int:
        return len(self.chunk_ids)

    def rows(self, rows: Sequence[int] | np.ndarray | slice) -> SmallChunks:
        places = np.arange(len(self))[rows]
        return SmallChunks(
            chunk_ids=self.chunk_ids[places],
            document_ids=self.document_ids[places],
            texts=[self.texts[place] for place in places],
            vectors=self.vectors[places],
        )

    def columns(self) -> dict[str, object]:
        return {
            "chunk_ids": self.chunk_ids,
            "document_ids": self.document_ids,
            "texts": self.texts,
            "vectors": self.vectors,
        }


def unit_vectors(n: int, dim: int, rng: np.random.Generator) -> Floats:
    vectors = rng.standard_normal((n, dim), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def made_up_chunks(
    n: int, *, seed: int = 0, dim: int = DIM, per_document: int = 5, max_words: int = 12
) -> SmallChunks:
    """n chunks of 1 to `max_words` words; every tenth repeats the one before, text and vector: a tie."""
    rng = np.random.default_rng(seed)
    chances = 1 / np.arange(1, len(WORDS) + 1)
    chances /= chances.sum()
    words = np.array(WORDS)[rng.choice(len(WORDS), size=(n, max_words), p=chances)]
    texts = [" ".join(row[:size]) for row, size in zip(words, rng.integers(1, max_words + 1, n), strict=True)]
    vectors = unit_vectors(n, dim, rng)
    for row in range(10, n, 10):
        texts[row] = texts[row - 1]
        vectors[row] = vectors[row - 1]
    return SmallChunks(
        chunk_ids=rng.permutation(n).astype(np.int64) * 1_000_003 + seed,
        document_ids=1000 * seed + rng.permutation(np.arange(n, dtype=np.int64) // per_document),
        texts=texts,
        vectors=vectors,
    )


def small_spec(dim: int = DIM) -> VersionSpec:
    return VersionSpec(
        version="v1",
        encoder_name="made-up",
        encoder_fingerprint="0123456789abcdef",
        dim=dim,
        chunker_fingerprint="fedcba9876543210",
    )


def commit_chunks(directory: Path, chunks: SmallChunks, *, change: int) -> None:
    """Replaces the chunks' documents by the chunks."""
    with VersionWriter(directory) as writer, writer.commit(change=change) as commit:
        commit.replace_documents(np.unique(chunks.document_ids))
        commit.add(**chunks.columns())


def build_index(directory: Path, *batches: SmallChunks) -> Snapshot:
    """A new version with one commit per batch, open; a document may be spread over batches."""
    create_version(directory, small_spec(batches[0].vectors.shape[1]))
    with VersionWriter(directory) as writer:
        for number, batch in enumerate(batches, start=1):
            with writer.commit(change=number) as commit:
                commit.add(**batch.columns())
    return Snapshot.open(directory)


FIRST = made_up_chunks(2500, seed=1, max_words=6)
"""So many that its segment is not merged with a small one."""
SECOND = made_up_chunks(40, seed=2)
SECOND.document_ids[:20] = FIRST.document_ids[:20]
"""Some of its documents replace documents of `FIRST`."""

if __name__ == "__main__":
    commit_chunks(Path(sys.argv[1]), SECOND, change=2)
