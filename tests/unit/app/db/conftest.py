"""A collection that is served, uploads to it, and the steps of their ingestion."""

from __future__ import annotations

import pytest

from app.db import batches, collections, documents
from app.db.batches import LoadedRevision
from indexing.types import LoadedText
from tests.unit.app.db.papers import CHUNKER, NOW, chunks_of, serve_version


@pytest.fixture
def collection(session):
    row = collections.create(session, "papers", now=NOW)
    serve_version(session, "v1", row.id)
    return row


@pytest.fixture
def upload(session, collection):
    def upload(content="a", source="a.txt", **others):
        return documents.upsert_pending(
            session,
            collection=collection,
            source=source,
            content_hash=content * 64,
            n_bytes=10,
            **{"filename": "a.txt", "media_type": "text/plain", "now": NOW, **others},
        )

    return upload


@pytest.fixture
def save(session, collection):
    """Begin and save what was uploaded, cut into words; gives its number by document."""

    def save(*uploads, loaded=None, words=("one", "two")):
        numbers = {upserted.document.id: upserted.revision for upserted in uploads}
        text = loaded or LoadedText(text=" ".join(words))
        items = [
            LoadedRevision(file=file, text=text, chunks=tuple(chunks_of(document_id, words)))
            for document_id, file in batches.begin(session, numbers).items()
        ]
        batches.save(session, collection.id, items, CHUNKER)
        return numbers

    return save


@pytest.fixture
def ingest(session, collection, save):
    """Take uploads all the way, and give the files that no document needs any more."""

    def ingest(*uploads, loaded=None, words=("one", "two")):
        numbers = save(*uploads, loaded=loaded, words=words)
        return batches.publish(session, collection.id, numbers).content_hashes

    return ingest
