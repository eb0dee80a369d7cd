"""Index versions."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from app.api.schemas.base import CollectionName, Request, Response
from app.db.tables import CollectionRow, IndexVersionRow
from app.upkeep.switching import Switched
from app.upkeep.upkeep import recall_of
from app.versions.verifying import Report


class IndexVersionOut(Response):
    id: str
    collection: str
    status: str
    active: bool
    encoder: str
    encoder_fingerprint: str
    chunker_fingerprint: str
    dim: int
    n_documents: int
    n_chunks: int
    change_number: int
    created_at: datetime
    activated_at: datetime | None
    error: str | None


class IndexVersionList(Response):
    data: list[IndexVersionOut]
    next_cursor: None = Field(None, description="There is one page")


class IndexSwitched(IndexVersionOut):
    recall_before: float | None = Field(description="Recall@10 of the golden questions, if there are any")
    recall_after: float | None
    forced: bool = Field(description="Served although Recall@10 dropped by more than is allowed")


class IndexBuildIn(Request):
    collection: CollectionName = "default"
    encoder: str | None = Field(
        None,
        min_length=1,
        max_length=1000,
        description="`default`, or a sentence-transformers name or folder",
    )
    chunker: Literal["fine", "default", "coarse"] | None = Field(None, description="The sizes of chunks")
    settings: dict[str, str | bool | int | float | None] = Field(
        default_factory=dict,
        max_length=50,
        description="Settings of encoder and chunker for this build; null goes back to the default",
        examples=[{"encoder.dim": 128, "chunker.max_tokens": 128}],
    )
    activate: bool = Field(True, description="Switch to the new version when it is built and verified")
    force: bool = Field(False, description="Switch even if Recall@10 on golden questions drops")


class IndexActivateIn(Request):
    force: bool = Field(False, description="Switch even if Recall@10 on golden questions drops")


class IndexRollbackIn(Request):
    collection: CollectionName = "default"


class IndexVerifyIn(Request):
    vectors: int = Field(32, ge=0, le=10_000, description="How many vectors are compared with the encoder")
    files: bool = Field(False, description="Look at the original files of the collection too")


class IndexExpandIn(Request):
    collection: CollectionName = "default"
    kind: Literal["questions", "expansion"] = Field(
        "expansion", description="Questions with vectors of their own, or words to find a chunk by"
    )
    remove: bool = Field(False, description="Remove what was made, and keep it up no longer")


class IndexPruneIn(Request):
    collection: CollectionName = "default"
    keep: Annotated[int | None, Field(ge=0, le=1000)] = Field(
        None, description="Ready versions kept beside the one served; default: the setting"
    )
    dry_run: bool = Field(False, description="Only say what would go")


class IndexPruned(Response):
    removed: list[str]


class IndexProblem(Response):
    kind: str
    path: str
    detail: str


class IndexReport(Response):
    version: str
    ok: bool
    behind: int = Field(description="Changes that the version has yet to apply")
    problems: list[IndexProblem]


def version_out(row: IndexVersionRow, collection: CollectionRow) -> IndexVersionOut:
    return IndexVersionOut(
        id=row.id,
        collection=collection.name,
        status=row.status,
        active=row.id == collection.active_version_id,
        encoder=row.encoder_name,
        encoder_fingerprint=row.encoder_fingerprint,
        chunker_fingerprint=row.chunker_fingerprint,
        dim=row.dim,
        n_documents=row.n_documents,
        n_chunks=row.n_chunks,
        change_number=row.change_number,
        created_at=row.created_at,
        activated_at=row.activated_at,
        error=row.error,
    )


def switched_out(switched: Switched, collection: CollectionRow) -> IndexSwitched:
    shown = version_out(switched.row, collection).model_dump()
    return IndexSwitched(**shown, **recall_of(switched))


def report_out(report: Report) -> IndexReport:
    return IndexReport.model_validate(report)
