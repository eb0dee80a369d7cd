"""What chunks are cut from: `newest_text` · `newest_text_key` · `without_chunks`. The caller commits."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import exists, func, select
from sqlalchemy.orm import Session

from app.db import revisions
from app.db.dialects import in_batches
from app.db.tables import ChunkRow, DocumentRow, RevisionRow
from indexing.types import Block, Heading, LoadedText
from indexing.types import Page as TextPage


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptText:
    """The canonical text of a revision as its loader gave it, and the title it is shown under."""

    revision: int
    title: str | None
    loaded: LoadedText


def newest_text(session: Session, document_id: int, *, lock: bool = True) -> KeptText | None:
    """The text that chunks are to be cut from: of the last revision that was loaded.

    The document stays locked until the commit, so that no chunk comes after its revision has gone. Without
    the lock, see `newest_text_key`.
    """
    document = session.get(DocumentRow, document_id, populate_existing=True, with_for_update=lock or None)
    revision = revisions.newest_with_text(session, document_id)
    if document is None or revision is None or revision.text is None:
        return None
    return KeptText(
        revision=revision.number,
        title=_cut_under(session, document, revision),
        loaded=LoadedText(
            text=revisions.whole_text(session, revision),
            title=revision.title,
            metadata=revision.meta,
            pages=tuple(TextPage(**page) for page in revision.pages),
            headings=tuple(Heading(**heading) for heading in revision.headings),
            blocks=tuple(Block(**block) for block in revision.blocks),
        ),
    )


def newest_text_key(session: Session, document_id: int) -> tuple[int, str | None] | None:
    """Revision and title of what `newest_text` gives; the document stays locked until the commit."""
    document = session.get(DocumentRow, document_id, populate_existing=True, with_for_update=True)
    revision = revisions.newest_with_text(session, document_id)
    if document is None or revision is None:
        return None
    return revision.number, _cut_under(session, document, revision)


def without_chunks(session: Session, document_ids: Iterable[int], chunker: str) -> list[int]:
    """Those of the documents whose `newest_text` has no chunk under this chunker, sorted."""
    found: list[int] = []
    for batch in in_batches(sorted(set(document_ids))):
        loaded = (
            select(RevisionRow.document_id, func.max(RevisionRow.number).label("number"))
            .where(RevisionRow.document_id.in_(batch), RevisionRow.text.is_not(None))
            .group_by(RevisionRow.document_id)
            .subquery()
        )
        cut = exists().where(
            ChunkRow.document_id == loaded.c.document_id,
            ChunkRow.chunker == chunker,
            ChunkRow.revision == loaded.c.number,
        )
        found += session.scalars(select(loaded.c.document_id).where(~cut).order_by(loaded.c.document_id))
    return found


def _cut_under(session: Session, document: DocumentRow, revision: RevisionRow) -> str | None:
    """The title that a revision's chunks begin with."""
    return revisions.own_title(document, revisions.served(session, document)) or revision.title
