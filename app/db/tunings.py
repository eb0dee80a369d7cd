"""What was learned for the searches of a collection: `put` · `get` · `remove`. The caller commits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import delete
from sqlalchemy.orm import Session

from app.db.tables import TuningRow
from app.db.types import utc_now


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTuning:
    """`values` take the place of the settings of the same names; `evidence` is what was measured for them."""

    values: Mapping[str, Any]
    evidence: Mapping[str, Any]
    created_at: datetime


def get(session: Session, collection_id: int) -> StoredTuning | None:
    row = session.get(TuningRow, collection_id, populate_existing=True)
    if row is None:
        return None
    return StoredTuning(values=row.settings, evidence=row.evidence, created_at=row.created_at)


def put(session: Session, collection_id: int, values: Mapping[str, Any], evidence: Mapping[str, Any]) -> None:
    """Keeps the values in place of those there were."""
    session.merge(
        TuningRow(
            collection_id=collection_id,
            settings=dict(values),
            evidence=dict(evidence),
            created_at=utc_now(),
        )
    )
    session.flush()


def remove(session: Session, collection_id: int) -> bool:
    """Whether there was one."""
    statement = (
        delete(TuningRow)
        .where(TuningRow.collection_id == collection_id)
        .returning(TuningRow.collection_id)
        .execution_options(synchronize_session=False)
    )
    return session.execute(statement).scalar_one_or_none() is not None
