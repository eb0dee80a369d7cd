"""What a document needs before it is indexed: chunks under the version's chunker, vectors of its encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.exc import IntegrityError

from app.db import chunks, loaded_texts, revisions, staging, vectors, versions
from app.db.chunks import ChunkText
from indexing import token_vectors
from indexing.chunking import Chunker
from indexing.encoding.base import Encoder, Progress
from indexing.long_text import LongText, parts_of
from indexing.token_codec import TokenCodec, codec_for
from indexing.token_codes import TokenCodes
from indexing.token_pooling import pooled
from indexing.types import (
    Chunk,
    ChunkId,
    DocumentId,
    Floats,
    LoadedText,
    Page,
    TextSpan,
    contextual_text,
    stable_id,
    text_hash,
)

if TYPE_CHECKING:
    from app.services import Services

TEXTS_A_SAVE = 512
CHUNKS_A_TRANSACTION = 2000


class Chunks(Sequence[Chunk]):
    """A document's chunks, made when they are looked at: what is held of each is where it lies."""

    def __init__(self, document_id: int, loaded: LoadedText, spans: Sequence[TextSpan], chunker: str) -> None:
        self._document_id = DocumentId(document_id)
        self._loaded = loaded
        self._spans = spans
        self._chunker = chunker
        self._page_starts = np.array([page.start for page in loaded.pages], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> Chunk: ...
    @overload
    def __getitem__(self, index: slice) -> list[Chunk]: ...
    def __getitem__(self, index: int | slice) -> Chunk | list[Chunk]:
        if isinstance(index, slice):
            return [self._chunk(ordinal) for ordinal in range(len(self))[index]]
        return self._chunk(range(len(self))[index])

    def _chunk(self, ordinal: int) -> Chunk:
        span = self._spans[ordinal]
        text = self._loaded.text[span.start : span.end]
        # The id depends on the document, the chunker and the text alone.
        contextual = text_hash(contextual_text(span.heading_path, text))
        identity = stable_id(self._document_id, self._chunker, ordinal, span.start, contextual)
        return Chunk(
            id=ChunkId(identity),
            document_id=self._document_id,
            ordinal=ordinal,
            text=text,
            start=span.start,
            end=span.end,
            heading_path=span.heading_path,
            page=_page_at(self._loaded.pages, self._page_starts, span.start),
            n_tokens=span.n_tokens,
        )


def chunks_of(
    document_id: int,
    loaded: LoadedText,
    title: str | None,
    chunker: Chunker,
    progress: Progress | None = None,
) -> Chunks:
    """A document's chunks; `progress` is told of the characters that were looked at."""
    spans = chunker.split(loaded, title, progress)
    return Chunks(document_id, loaded, spans, chunker.spec.fingerprint)


def page_at(pages: Sequence[Page], position: int) -> int | None:
    """The page that a character stands on; between two pages, the one before; None where there are none.

    >>> pages = (Page(page=1, start=0, end=10), Page(page=2, start=12, end=20))
    >>> [page_at(pages, position) for position in (0, 11, 12)]
    [1, 1, 2]
    """
    return _page_at(pages, np.array([page.start for page in pages], dtype=np.int64), position)


def _page_at(pages: Sequence[Page], starts: NDArray[np.int64], position: int) -> int | None:
    index = int(np.searchsorted(starts, position, side="right")) - 1
    return pages[max(index, 0)].page if pages else None


def chunk_missing(services: Services, document_ids: Sequence[int], chunker: Chunker) -> None:
    """Chunks those documents that were not yet cut by this chunker, from their kept text."""
    with services.read() as session:
        without = loaded_texts.without_chunks(session, document_ids, chunker.spec.fingerprint)
    for document_id in without:
        while not _chunked(services, document_id, chunker):
            pass


def _chunked(services: Services, document_id: int, chunker: Chunker) -> bool:
    """Cuts and writes; False where another text has come meanwhile.

    Cutting a long text takes a minute, in which no one must have to wait for the database.
    """
    with services.read() as session:
        kept = loaded_texts.newest_text(session, document_id, lock=False)
    if kept is None:
        return True
    made = chunks_of(document_id, kept.loaded, kept.title, chunker)
    fingerprint = chunker.spec.fingerprint
    is_long = len(made) > CHUNKS_A_TRANSACTION
    if is_long and not stage(services, document_id, kept.revision, fingerprint, made):
        return False
    with services.write() as session:
        same = loaded_texts.newest_text_key(session, document_id) == (kept.revision, kept.title)
        if same and is_long:
            staging.move(session, document_id, kept.revision, fingerprint)
        elif same:
            chunks.insert(session, kept.revision, fingerprint, made)
        if same:
            # The document may have been published while the served version lacked it.
            versions.count_chunks_of(session, document_id)
    if is_long:
        unstage(services, document_id, fingerprint)
    return same


def stage(
    services: Services,
    document_id: int,
    revision: int,
    chunker: str,
    made: Sequence[Chunk],
    progress: Progress | None = None,
) -> bool:
    """Writes the chunks of a long document where no one sees them; False where the document has gone.

    In transactions of their own: a lease must not end while others wait for the database.
    """
    unstage(services, document_id, chunker)
    for start in range(0, len(made), CHUNKS_A_TRANSACTION):
        part = made[start : start + CHUNKS_A_TRANSACTION]
        try:
            with services.write() as session:
                staging.put(session, revision, chunker, part)
        except IntegrityError:
            return False
        if progress is not None:
            progress(start + len(part), len(made))
    return True


def keep_text_parts(services: Services, document_id: int, revision: int, text: str | LongText) -> bool:
    """Writes what is behind the first part of a long text, which is seen once the first part is kept.

    False where the document has gone.
    """
    with services.write() as session:
        revisions.remove_text_parts(session, [(document_id, revision)])
    for position, part in enumerate(islice(parts_of(text), 1, None), start=1):
        try:
            with services.write() as session:
                revisions.add_text_part(session, document_id, revision, position, part)
        except IntegrityError:
            return False
    return True


def unstage(services: Services, document_id: int, chunker: str) -> None:
    """Removes what `stage` has written: it is moved, or an earlier attempt has left it."""
    n_removed = 1
    while n_removed:
        with services.write() as session:
            n_removed = staging.discard(session, document_id, chunker)


def encode_missing(
    services: Services,
    encoder: Encoder,
    texts: Mapping[str, str],
    progress: Progress | None = None,
    *,
    with_tokens: bool = False,
) -> int:
    """Encodes those of the texts (by hash) that have no kept vector, or lack wanted token vectors;
    gives how many that were."""
    with services.read() as session:
        known = vectors.known(session, encoder.fingerprint, texts, with_tokens=with_tokens)
    missing = {key: text for key, text in texts.items() if key not in known}
    encode_texts(services, encoder, missing, progress, with_tokens=with_tokens)
    return len(missing)


def encode_texts(
    services: Services,
    encoder: Encoder,
    texts: Mapping[str, str],
    progress: Progress | None = None,
    *,
    with_tokens: bool = False,
) -> None:
    """Encodes texts by hash and keeps each part as soon as it is made, so that a kill costs one part."""
    codec = codec_for(encoder.name, encoder.dim) if with_tokens else None
    items = list(texts.items())
    for start in range(0, len(items), TEXTS_A_SAVE):
        part = items[start : start + TEXTS_A_SAVE]
        made = encoder.encode_documents([text for _, text in part], with_tokens=with_tokens)
        rows = [
            vectors.StoredVector(text_hash=key, vector=vector.astype("<f2").tobytes())
            for (key, _), vector in zip(part, made.vectors, strict=True)
        ]
        if codec is not None and made.tokens is not None:
            rows = [
                _with_tokens(row, codec, pooled(text, of_row))
                for row, (_, text), of_row in zip(rows, part, made.tokens, strict=True)
            ]
        with services.write() as session:
            vectors.save(session, encoder.fingerprint, encoder.dim, rows)
        if progress is not None:
            progress(start + len(part), len(items))


def _with_tokens(row: vectors.StoredVector, codec: TokenCodec, tokens: Floats) -> vectors.StoredVector:
    kept = token_vectors.to_bytes(codec.name, codec.encode(tokens))
    return replace(row, tokens=kept, n_tokens=len(tokens))


def vectors_of(
    services: Services, encoder: Encoder, entries: Sequence[ChunkText], *, with_tokens: bool = False
) -> Floats:
    """The vectors of chunks, shape (n_chunks, dim); what is not kept yet is encoded and kept."""
    missing = {entry.text_hash: entry.text for entry in entries if entry.vector is None}
    loaded: dict[str, bytes] = {}
    if missing:
        encode_texts(services, encoder, missing, with_tokens=with_tokens)
        with services.read() as session:
            loaded = vectors.load(session, encoder.fingerprint, missing)
    joined = b"".join(entry.vector or loaded[entry.text_hash] for entry in entries)
    return np.frombuffer(joined, dtype="<f2").reshape(len(entries), encoder.dim).astype(np.float32)


def tokens_of(
    services: Services, encoder: Encoder, codec: TokenCodec, entries: Sequence[ChunkText]
) -> TokenCodes:
    """The codes of the chunks' tokens; what is not kept yet is encoded and kept."""
    texts = {entry.text_hash: entry.text for entry in entries}
    with services.read() as session:
        kept = vectors.load_tokens(session, encoder.fingerprint, texts)
    missing = {key: text for key, text in texts.items() if key not in kept}
    if missing:
        encode_texts(services, encoder, missing, with_tokens=True)
        with services.read() as session:
            kept |= vectors.load_tokens(session, encoder.fingerprint, missing)
    codes = {
        key: token_vectors.codes_of(row.tokens or b"", row.n_tokens or 0, codec) for key, row in kept.items()
    }
    return TokenCodes.of([codes[entry.text_hash] for entry in entries], codec.width)
