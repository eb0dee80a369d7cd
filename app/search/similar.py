"""Finding what is like some passages, documents or texts, and unlike others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from app.db import chunks, collections, documents, filters
from app.db.errors import DocumentNotFound
from app.errors import InvalidRequest, NotFound
from app.ids import parse_id
from app.search.searching import check_text, load_passages
from indexing.types import DocumentId
from retrievers.hits import to_hits
from retrievers.similar import Operands, similar, similarities, stored_vectors

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

    from app.services import Services
    from app.versions.indexes import OpenIndex
    from indexing.types import Floats
    from retrievers.types import Passage

MAX_ITEMS = 100
SPARE = 8
"""Chunks fetched beyond `top_k`, for those that went since the index was written."""

By = Literal["chunks", "documents"]
Kind = Literal["chunk", "document", "text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarRequest:
    """Sets of items: the id of a chunk or of a document, the source of one, or a text.

    What was named is no result, unless `include_given`.
    """

    like: tuple[tuple[str, ...], ...] = ()
    unlike: tuple[tuple[str, ...], ...] = ()
    collection: str = "default"
    top_k: int = 10
    filters: Mapping[str, Any] | None = None
    by: By = "chunks"
    include_given: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """What a name was taken for; `id` of a chunk or document."""

    name: str
    kind: Kind
    id: int | None = None
    document_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SimilarResult:
    """Passages, best first; where documents were asked for, the best passage of each."""

    index_version: str | None
    items: tuple[Item, ...]
    passages: tuple[Passage, ...]


def find_similar(services: Services, request: SimilarRequest) -> SimilarResult:
    """What is most like the sets.

    Raises CollectionNotFound, FilterError, NotFound (`item_not_found`), InvalidRequest (`invalid_sets`), and
    IndexVersionError when the index cannot be read.
    """
    groups = (*request.like, *request.unlike)
    names = [name for group in groups for name in group]
    if not groups or not all(groups) or len(names) > MAX_ITEMS or not all(map(str.strip, names)):
        raise InvalidRequest(
            f"Give at least one set, at least one item in each, and at most {MAX_ITEMS} in all.",
            code="invalid_sets",
        )
    for name in names:
        check_text("example", name)
    with services.read() as session:
        collection = collections.get_by_name(session, request.collection)
        items = {name: _item(session, collection.id, name) for name in dict.fromkeys(names)}
        allowed = (
            filters.allowed_documents(session, collection.id, request.filters) if request.filters else None
        )
        version = collection.active_version_id
    result = SimilarResult(index_version=version, items=tuple(items.values()), passages=())
    if version is None or (allowed is not None and not len(allowed)):
        return result
    index = services.indexes.serving(collection.id, version)
    vectors = _vectors(index, list(items.values()))
    operands = Operands(
        like=tuple(np.stack([vectors[name] for name in group]) for group in request.like),
        unlike=tuple(np.stack([vectors[name] for name in group]) for group in request.unlike),
    )
    excluded = [] if request.include_given else list(items.values())
    found = similar(
        index.snapshot,
        operands,
        request.top_k + SPARE,
        allowed_documents=allowed,
        without_chunks=[item.id for item in excluded if item.kind == "chunk" and item.id is not None],
        without_documents=_documents(excluded, request.by),
        by_document=request.by == "documents",
    )
    hits = to_hits(
        found.chunk_ids,
        found.document_ids,
        similarities(index.snapshot, operands, found.chunk_ids),
        by=found.scores,
        top_k=len(found),
    )
    passages = load_passages(services, collection.id, hits)[: request.top_k]
    return SimilarResult(
        index_version=index.snapshot.manifest.spec.version, items=result.items, passages=passages
    )


def _documents(items: Sequence[Item], by: By) -> list[int]:
    """The documents that cannot be results: those named and, among documents, those of chunks that were."""
    named = {item.id for item in items if item.kind == "document"}
    owners = {item.document_id for item in items if item.kind == "chunk"} if by == "documents" else set()
    return [document_id for document_id in named | owners if document_id is not None]


def _item(session: Session, collection_id: int, name: str) -> Item:
    by_source = documents.get_by_source(session, collection_id, name)
    if by_source is not None:
        return Item(name=name, kind="document", id=by_source.id)
    try:
        number = parse_id(name, "item")
    except NotFound:
        return Item(name=name, kind="text")
    passage = chunks.load_passages(session, [number], collection_id=collection_id).get(number)
    if passage is not None:
        return Item(name=name, kind="chunk", id=number, document_id=passage.chunk.document_id)
    try:
        row = documents.get(session, number)
    except DocumentNotFound:
        row = None
    if row is None or row.collection_id != collection_id:
        raise NotFound(f"The collection has neither a chunk nor a document {name!r}.", code="item_not_found")
    return Item(name=name, kind="document", id=number)


def _vectors(index: OpenIndex, items: Sequence[Item]) -> dict[str, Floats]:
    """A vector of length 1 for each item; a document's is the mean of its chunks'."""
    texts = [item.name for item in items if item.kind == "text"]
    found: dict[str, Floats] = {}
    if texts:
        found.update(zip(texts, index.encoder.encode_documents(texts).vectors, strict=True))
    for item in items:
        if item.id is None:
            continue
        ids = np.array([item.id], dtype=np.int64)
        if item.kind == "document":
            ids = index.snapshot.document_chunks(DocumentId(item.id))
        try:
            mean = stored_vectors(index.snapshot, ids).sum(axis=0)
        except KeyError:
            ids = ids[:0]
        if not len(ids):
            raise NotFound(f"The served index has nothing of {item.name!r} yet.", code="item_not_found")
        found[item.name] = np.asarray(mean / max(float(np.linalg.norm(mean)), 1e-9), dtype=np.float32)
    return found
