"""Many documents accepted at once, on each database: the same rows as one after the other."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from app.db import arrivals, collections, documents, jobs, queue
from app.db.arrivals import NewDocument
from app.db.errors import InvalidText, MetadataError
from app.db.jobs import NewJob
from app.db.tables import AttributeRow, DocumentRow, JobRow, RevisionRow

TIMES = ("created_at", "updated_at")


def new(number, **others):
    return NewDocument(
        **{
            "source": f"{number}.txt",
            "content_hash": f"{number:064d}",
            "n_bytes": number,
            "filename": "a.txt",
            "metadata": {"year": number, "tags": ["x", "y"]},
            **others,
        }
    )


def values(session, table):
    """Every row as a dictionary, without what depends on the time."""
    statement = select(table.__table__).order_by(*table.__table__.primary_key.columns)
    return [
        {name: value for name, value in row._mapping.items() if name not in TIMES}
        for row in session.execute(statement)
    ]


@pytest.fixture
def collection(session):
    return collections.create(session, "papers")


def insert(session, collection, *items):
    by_id = {documents.id_of(collection.name, item.source): item for item in items}
    return arrivals.insert_new(session, collection, by_id)


def test_many_at_once_give_the_rows_of_one_after_the_other(session, collection):
    items = [new(number, title=title) for number, title in ((3, None), (1, "One"), (2, None))]
    with session.begin_nested() as undone:
        for item in items:
            documents.upsert_pending(
                session,
                collection=collection,
                source=item.source,
                content_hash=item.content_hash,
                n_bytes=item.n_bytes,
                title=item.title,
                filename=item.filename,
                meta=item.metadata,
            )
        singly = [values(session, table) for table in (DocumentRow, RevisionRow, AttributeRow)]
        undone.rollback()
    assert values(session, DocumentRow) == []
    inserted = insert(session, collection, *items)
    assert inserted == {documents.id_of("papers", item.source) for item in items}
    assert [values(session, table) for table in (DocumentRow, RevisionRow, AttributeRow)] == singly


def test_documents_are_listed_in_the_order_they_came_in(session, collection):
    insert(session, collection, *(new(number) for number in (5, 2, 9, 4)))
    listed = documents.list_page(session, collection_id=collection.id).items
    assert [document.source for document in listed] == ["5.txt", "2.txt", "9.txt", "4.txt"]


def test_a_document_that_is_there_is_left_as_it_is(session, collection):
    insert(session, collection, new(1))
    before = values(session, DocumentRow)
    inserted = insert(session, collection, new(1, content_hash="f" * 64, title="Other"), new(2))
    assert inserted == {documents.id_of("papers", "2.txt")}
    assert [row for row in values(session, DocumentRow) if row["source"] == "1.txt"] == before


@pytest.mark.parametrize(
    ("others", "error"),
    [({"source": "a\0b"}, InvalidText), ({"metadata": {"a": {"b": object()}}}, MetadataError)],
    ids=["source", "metadata"],
)
def test_what_cannot_be_stored_is_refused(session, collection, others, error):
    with pytest.raises(error):
        insert(session, collection, new(1), new(2, **others))


class TestJobs:
    def job(self, number):
        return NewJob(collection_id=1, document_id=number, payload={"n": number}, dedup_key=f"k{number}")

    def test_are_claimed_in_the_order_given(self, session):
        jobs.enqueue_all(session, "ingest", [self.job(number) for number in (4, 1, 3)], max_attempts=2)
        claimed = queue.claim(session, "w", ["ingest"], limit=9)
        assert [(job.document_id, job.payload["n"], job.max_attempts) for job in claimed] == [
            (4, 4, 2),
            (1, 1, 2),
            (3, 3, 2),
        ]

    def test_a_live_job_of_the_same_key_stays_alone(self, session):
        live = jobs.enqueue(session, "ingest", document_id=1, dedup_key="k1").job
        jobs.enqueue_all(session, "ingest", [self.job(1), self.job(2)])
        ids = {job.dedup_key: job.id for job in session.scalars(select(JobRow))}
        assert len(ids) == 2
        assert ids["k1"] == live.id
