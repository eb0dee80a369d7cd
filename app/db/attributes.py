"""The flattened metadata of documents, which filters look at."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.dialects import in_batches, insert
from app.db.metadata import TEXT_KEY_LENGTH, flatten
from app.db.tables import AttributeRow


def set_attributes(session: Session, document_id: int, metadata: Mapping[str, Any]) -> None:
    """Make the filters see this metadata, and no other. Raises MetadataError."""
    set_attributes_of(session, {document_id: metadata})


def set_attributes_of(session: Session, metadata: Mapping[int, Mapping[str, Any]]) -> None:
    """The same for many documents, by id. Raises MetadataError."""
    rows: list[dict[str, Any]] = [
        {
            "document_id": document_id,
            "field": field,
            "position": position,
            "text_value": value.text,
            "text_key": value.text[:TEXT_KEY_LENGTH] if value.text is not None else None,
            "number_value": value.number,
        }
        for document_id, values in metadata.items()
        for position, (field, value) in enumerate(flatten(values))
    ]
    for ids in in_batches(sorted(metadata)):
        session.execute(delete(AttributeRow).where(AttributeRow.document_id.in_(ids)))
    for batch in in_batches(rows):
        session.execute(insert(session, AttributeRow), batch)
