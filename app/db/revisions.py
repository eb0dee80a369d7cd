"""The contents that a document has had: rows of `revisions`, by document and number.

`get` · `served` · `newest` · `newest_with_text` · `accept` · `change` · `supersede` · `unreferenced` ·
`content_hashes`. Texts: `n_text_parts` · `text_part` · `text_parts` · `whole_text` · `set_text_parts` ·
`add_text_part` · `remove_text_parts`. What a document has of its user, not of the revision served:
`own_title` · `own_metadata`. What becomes of a revision is in `app.db.documents` and `app.db.batches`. The
caller commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Select, func, select, tuple_, update
from sqlalchemy import delete as delete_from
from sqlalchemy.orm import Session

from app.db.dialects import in_batches, insert
from app.db.errors import RevisionNotFound
from app.db.tables import DocumentRow, RevisionRow, TextPartRow
from indexing.long_text import LongText, text_of_parts


def get(session: Session, document_id: int, number: int) -> RevisionRow:
    """Raises RevisionNotFound."""
    row = session.get(RevisionRow, (document_id, number), populate_existing=True)
    if row is None:
        raise RevisionNotFound(f"the document has no revision {number}")
    return row


def served(session: Session, document: DocumentRow) -> RevisionRow | None:
    """The revision of which the document's chunks are searched; None before its first is ready."""
    return get(session, document.id, document.revision) if document.revision else None


def newest(session: Session, document_id: int) -> RevisionRow | None:
    """The revision that was accepted last, whatever became of it."""
    return session.scalars(_newest(document_id)).one_or_none()


def newest_with_text(session: Session, document_id: int) -> RevisionRow | None:
    """The last revision that was loaded, whether it is served yet or not."""
    return session.scalars(_newest(document_id, RevisionRow.text.is_not(None))).one_or_none()


def n_text_parts(session: Session, document_id: int, number: int) -> int:
    """In how many parts a revision's text is kept; 0 where it has none."""
    of_revision = RevisionRow.document_id == document_id, RevisionRow.number == number
    has_text = session.scalars(select(RevisionRow.text.is_not(None)).where(*of_revision)).one_or_none()
    if not has_text:
        return 0
    further = select(func.count()).where(TextPartRow.document_id == document_id, TextPartRow.number == number)
    return 1 + session.scalars(further).one()


def text_part(session: Session, document_id: int, number: int, position: int) -> str | None:
    """A part of a revision's text, counted from 0; None where there is none."""
    if position == 0:
        statement = select(RevisionRow.text).where(
            RevisionRow.document_id == document_id, RevisionRow.number == number
        )
        return session.scalars(statement).one_or_none()
    return session.scalars(
        select(TextPartRow.text).where(
            TextPartRow.document_id == document_id,
            TextPartRow.number == number,
            TextPartRow.position == position,
        )
    ).one_or_none()


def text_parts(session: Session, document_id: int, number: int) -> Iterator[str]:
    """A revision's text, part by part; none where there is no text."""
    for position in count():
        part = text_part(session, document_id, number, position)
        if part is None:
            return
        yield part


def whole_text(session: Session, row: RevisionRow) -> str | LongText:
    """The text of a revision that has one."""
    return text_of_parts(text_parts(session, row.document_id, row.number))


def set_text_parts(session: Session, document_id: int, number: int, parts: Iterable[str]) -> None:
    """Replace what is kept of a text behind its first part."""
    remove_text_parts(session, [(document_id, number)])
    for position, part in enumerate(parts, start=1):
        add_text_part(session, document_id, number, position, part)


def add_text_part(session: Session, document_id: int, number: int, position: int, part: str) -> None:
    """Keep a part of a text behind its first. Raises IntegrityError where the revision has gone."""
    session.execute(
        insert(session, TextPartRow).values(
            document_id=document_id, number=number, position=position, text=part
        )
    )


def remove_text_parts(session: Session, keys: Iterable[tuple[int, int]]) -> None:
    """Remove the further parts of texts, given by document and number."""
    for batch in in_batches(keys):
        session.execute(
            delete_from(TextPartRow)
            .where(tuple_(TextPartRow.document_id, TextPartRow.number).in_(batch))
            .execution_options(synchronize_session=False)
        )


def accept(
    session: Session,
    document_id: int,
    content_hash: str,
    file: Mapping[str, Any],
    now: datetime,
    *,
    in_work: bool,
) -> int:
    """The number of the revision that waits: the newest if of these bytes and not in work, else a new one.

    The caller holds the document's row.
    """
    last = newest(session, document_id)
    again = last is not None and last.content_hash == content_hash and last.status in ("pending", "failed")
    if last is not None and again and not in_work:
        change(session, document_id, last.number, status="pending", **file)
        return last.number
    number = last.number + 1 if last is not None else 1
    session.execute(
        insert(session, RevisionRow).values(
            document_id=document_id,
            number=number,
            content_hash=content_hash,
            status="pending",
            meta={},
            pages=[],
            headings=[],
            blocks=[],
            created_at=now,
            **file,
        )
    )
    return number


def change(session: Session, document_id: int, number: int, **values: Any) -> None:
    """Set columns of a revision. Raises RevisionNotFound."""
    statement = (
        update(RevisionRow)
        .where(RevisionRow.document_id == document_id, RevisionRow.number == number)
        .values(**values)
        .returning(RevisionRow.number)
        .execution_options(synchronize_session=False)
    )
    if session.execute(statement).scalar_one_or_none() is None:
        raise RevisionNotFound(f"the document has no revision {number}")


def supersede(session: Session, document_ids: Iterable[int]) -> tuple[str, ...]:
    """End the revisions before those that are served, and give the files that no document needs any more.

    The rows stay as a record, without the text, which can be long.
    """
    hashes: set[str] = set()
    served = select(DocumentRow.revision).where(DocumentRow.id == RevisionRow.document_id).scalar_subquery()
    for batch in in_batches(document_ids):
        ended = session.execute(
            update(RevisionRow)
            .where(
                RevisionRow.document_id.in_(batch),
                RevisionRow.number < served,
                RevisionRow.status != "superseded",
            )
            .values(status="superseded", text=None, pages=[], headings=[], blocks=[])
            .returning(RevisionRow.document_id, RevisionRow.number, RevisionRow.content_hash)
            .execution_options(synchronize_session=False)
        ).all()
        hashes.update(row.content_hash for row in ended)
        remove_text_parts(session, [(row.document_id, row.number) for row in ended])
    return unreferenced(session, hashes)


def unreferenced(session: Session, hashes: Iterable[str]) -> tuple[str, ...]:
    """Those of the hashes whose file no revision needs; a superseded one needs none."""
    wanted = set(hashes)
    for batch in in_batches(sorted(wanted)):
        statement = select(RevisionRow.content_hash).where(
            RevisionRow.content_hash.in_(batch), RevisionRow.status != "superseded"
        )
        wanted -= set(session.scalars(statement))
    return tuple(sorted(wanted))


def content_hashes(session: Session, *, collection_id: int | None = None) -> tuple[str, ...]:
    """The hash of every file that some revision needs, of one collection or of all."""
    statement = select(RevisionRow.content_hash).where(RevisionRow.status != "superseded").distinct()
    if collection_id is not None:
        statement = statement.join(DocumentRow, DocumentRow.id == RevisionRow.document_id).where(
            DocumentRow.collection_id == collection_id
        )
    return tuple(session.scalars(statement))


def own_title(document: DocumentRow, served: RevisionRow | None) -> str | None:
    """The title that the user gave; None where it is only what the served revision's loader said."""
    return None if served is not None and document.title == served.title else document.title


def own_metadata(document: DocumentRow, served: RevisionRow | None) -> dict[str, Any]:
    """The metadata that does not come from the served revision's loader."""
    loaded = served.meta if served is not None else {}
    return {
        name: value for name, value in document.meta.items() if name not in loaded or loaded[name] != value
    }


def _newest(document_id: int, *where: Any) -> Select[RevisionRow]:
    return (
        select(RevisionRow)
        .where(RevisionRow.document_id == document_id, *where)
        .order_by(RevisionRow.number.desc())
        .limit(1)
        .execution_options(populate_existing=True)
    )
