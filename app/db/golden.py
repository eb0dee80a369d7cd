"""Golden questions: `put` · `get` · `list_all` · `remove` · `remove_generated` · `rename_source`.

The caller commits.

A question is known by its collection and its words: putting it again adds to what it expects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app.db import collections
from app.db.dialects import insert
from app.db.documents import MAX_SOURCE_BYTES
from app.db.errors import GoldenQuestionNotFound
from app.db.tables import GoldenQuestionRow
from app.db.texts import checked_text
from app.db.types import utc_now
from indexing.types import stable_id


@dataclass(frozen=True, slots=True)
class Expected:
    """What must be found: a document, or the place in it where the quotation stands."""

    source: str
    quote: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenQuestion:
    """`generator` names what made the question, with its version; None where a person did."""

    id: int
    question: str
    expected: tuple[Expected, ...]
    created_at: datetime
    generator: str | None = None


def put(
    session: Session,
    collection_id: int,
    question: str,
    expected: Sequence[Expected],
    *,
    generator: str | None = None,
    now: datetime | None = None,
) -> GoldenQuestion:
    """Keep a question; where it is kept already, it expects the new things too.

    A generated question that a person puts becomes the person's.

    Raises CollectionNotFound, InvalidText.
    """
    for item in expected:
        checked_text("source", item.source, max_bytes=MAX_SOURCE_BYTES)
        checked_text("quote", item.quote)
    key = stable_id("golden", collections.get(session, collection_id).name, question)
    session.execute(
        insert(session, GoldenQuestionRow)
        .values(
            id=key,
            collection_id=collection_id,
            question=checked_text("question", question),
            expected=[],
            created_at=now or utc_now(),
            generator=generator,
        )
        .on_conflict_do_nothing()
    )
    row = session.get_one(GoldenQuestionRow, key, populate_existing=True, with_for_update=True)
    row.expected = _plain(dict.fromkeys((*_expected(row), *expected)))
    if generator is None:
        row.generator = None
    session.flush()
    return _question(row)


def get(session: Session, question_id: int) -> GoldenQuestion:
    """Raises GoldenQuestionNotFound."""
    row = session.get(GoldenQuestionRow, question_id, populate_existing=True)
    if row is None:
        raise GoldenQuestionNotFound("there is no such golden question")
    return _question(row)


def list_all(session: Session, collection_id: int) -> list[GoldenQuestion]:
    """A collection's questions, the oldest first."""
    statement = (
        select(GoldenQuestionRow)
        .where(GoldenQuestionRow.collection_id == collection_id)
        .order_by(GoldenQuestionRow.created_at, GoldenQuestionRow.id)
    )
    return [_question(row) for row in session.scalars(statement.execution_options(populate_existing=True))]


def remove(session: Session, question_id: int) -> None:
    """Raises GoldenQuestionNotFound."""
    statement = (
        delete(GoldenQuestionRow)
        .where(GoldenQuestionRow.id == question_id)
        .returning(GoldenQuestionRow.id)
        .execution_options(synchronize_session=False)
    )
    if session.execute(statement).scalar_one_or_none() is None:
        raise GoldenQuestionNotFound("there is no such golden question")


def remove_generated(session: Session, collection_id: int) -> int:
    """Forget the questions that no person put; how many."""
    statement = (
        delete(GoldenQuestionRow)
        .where(GoldenQuestionRow.collection_id == collection_id, GoldenQuestionRow.generator.is_not(None))
        .returning(GoldenQuestionRow.id)
        .execution_options(synchronize_session=False)
    )
    return len(session.scalars(statement).all())


def rename_source(session: Session, collection_id: int, renamed: Mapping[str, str]) -> int:
    """Let the questions expect a document under its new source; in how many that was one they expect."""
    statement = select(GoldenQuestionRow).where(GoldenQuestionRow.collection_id == collection_id)
    n_changed = 0
    for row in session.scalars(statement.with_for_update().execution_options(populate_existing=True)):
        before = _expected(row)
        after = [Expected(renamed.get(item.source, item.source), item.quote) for item in before]
        if after != list(before):
            row.expected = _plain(dict.fromkeys(after))
            n_changed += 1
    session.flush()
    return n_changed


def _question(row: GoldenQuestionRow) -> GoldenQuestion:
    return GoldenQuestion(
        id=row.id,
        question=row.question,
        expected=_expected(row),
        created_at=row.created_at,
        generator=row.generator,
    )


def _expected(row: GoldenQuestionRow) -> tuple[Expected, ...]:
    return tuple(Expected(item["source"], item["quote"]) for item in row.expected)


def _plain(expected: Mapping[Expected, None]) -> list[dict[str, str | None]]:
    return [{"source": item.source, "quote": item.quote} for item in expected]
