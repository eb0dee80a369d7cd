"""The shapes of requests and responses. Ids are strings of 16 hexadecimal digits outside the process."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from app.api.base import Request as Request
from app.api.base import Response as Response
from app.api.explanation import ExplanationOut, MatchOut, SearchExplanationOut, SentenceOut
from retrievers.fused import FusionSpec
from retrievers.fusion import Method
from retrievers.types import Mode

Metadata = dict[str, Any]
Filters = Annotated[
    dict[str, Any] | None,
    Field(
        description="Conditions on metadata, title, source and dates; see the manual's page on filters",
        examples=[{"year": {"$gte": 2020}, "$not": {"title": {"$like": "%draft%"}}}],
    ),
]
CollectionName = Annotated[
    str,
    Field(
        min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="The collection",
        examples=["default"],
    ),
]  # fmt: skip
TopK = Annotated[int | None, Field(ge=1, le=1000, description="How many to return", examples=[5])]
DocumentStatus = Literal["pending", "processing", "ready", "failed"]
JobStatus = Literal["todo", "doing", "succeeded", "failed", "cancelled"]


class ErrorBody(Response):
    code: str
    detail: str


class CollectionIn(Request):
    name: CollectionName
    description: str | None = Field(None, max_length=2000)


class CollectionOut(Response):
    name: str
    description: str | None
    n_documents: int
    n_chunks: int
    index_version: str | None
    created_at: datetime


class CollectionList(Response):
    data: list[CollectionOut]


class DocumentIn(Request):
    """A document given as text."""

    text: str = Field(
        description="The text; Markdown headings are understood", examples=["# Tea\nWarm the pot."]
    )
    collection: CollectionName = "default"
    source: str | None = Field(
        None,
        max_length=2000,
        description="What identifies the document in its collection; default: its title, or its hash",
    )
    title: str | None = Field(None, max_length=1000)
    metadata: Metadata = Field(default_factory=dict, examples=[{"author": "Ada", "year": 2024}])
    format: str = Field("md", description="The format of the text, as a file extension")


class DocumentPatch(Request):
    title: str | None = Field(None, max_length=1000)
    metadata: Metadata | None = Field(None, description="Replaces the metadata; null values remove a field")


class DocumentOut(Response):
    id: str
    collection: str
    source: str
    title: str | None
    status: DocumentStatus
    error: ErrorBody | None
    content_hash: str
    filename: str | None
    media_type: str | None
    n_bytes: int
    n_chunks: int
    n_pages: int | None
    revision: int
    metadata: Metadata
    created_at: datetime
    updated_at: datetime


class JobOut(Response):
    id: str
    kind: str
    status: JobStatus
    document_id: str | None
    attempts: int
    max_attempts: int
    progress: dict[str, Any]
    error: ErrorBody | None
    result: dict[str, Any] | None
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class Submitted(Response):
    document: DocumentOut
    job: JobOut | None


class DocumentList(Response):
    data: list[DocumentOut]
    next_cursor: str | None


class JobList(Response):
    data: list[JobOut]
    next_cursor: str | None


class PageOut(Response):
    page: int
    start: int
    end: int


class TextOut(Response):
    text: str
    pages: list[PageOut]


class ChunkOut(Response):
    chunk_id: str
    ordinal: int
    start: int
    end: int
    page: int | None
    heading_path: list[str]
    n_tokens: int
    text: str


class ChunkList(Response):
    data: list[ChunkOut]
    next_cursor: str | None = None


class IndexRemovalOut(Response):
    version: str
    n_rows: int = Field(description="Chunks removed: the words and the vector of each")
    n_nodes: int = Field(0, description="Summaries, questions and expansions removed that rested on them")
    change_number: int = Field(description="The last change that the version has followed")
    pending: str | None = Field(description="Why it is not done yet; null where it is")


class ProbeOut(Response):
    mode: str
    n_searches: int
    n_found_before: int
    n_found_after: int


class ReceiptOut(Response):
    """What a deletion removed where; it holds ids and numbers, and neither text nor names of documents."""

    id: str
    kind: Literal["documents", "collection"]
    collection: str
    document_ids: list[str]
    change_number: int
    deleted_at: datetime
    purged_at: datetime | None = Field(description="When the last byte was written over; null before a purge")
    rows: dict[str, int] = Field(description="Rows removed from the database, by table")
    files: dict[str, int] = Field(
        description="Original files removed, and kept because other documents have the same bytes"
    )
    indexes: list[IndexRemovalOut]
    probe: list[ProbeOut] = Field(description="Searches with the documents' own words and vectors")
    pending: list[str] = Field(description="What is still to be done")


class Deleted(Response):
    id: str
    deleted: bool
    removed: dict[str, int]
    receipt: ReceiptOut


class DeletionList(Response):
    data: list[ReceiptOut]
    next_cursor: str | None


class DeleteIn(Request):
    """Which documents are to be deleted; what is given must all hold."""

    collection: CollectionName = "default"
    ids: list[str] | None = Field(None, min_length=1, max_length=1000)
    filters: Filters = None
    source: str | None = Field(
        None, min_length=1, max_length=2000, description="A pattern for the source: `*`, `?`, `[abc]`"
    )
    dry_run: bool = Field(False, description="Only say which documents would be deleted")
    purge: bool = Field(False, description="Write over the bytes at once")


class DeletedMany(Response):
    n_documents: int
    ids: list[str] = Field(description="The documents; with `dry_run` those that would be deleted")
    receipts: list[ReceiptOut]


class PurgeIn(Request):
    collection: CollectionName = "default"


class PurgedOut(Response):
    deletions: list[str] = Field(description="The receipts of which no byte is left")
    n_vectors: int = Field(description="Kept vectors removed that no chunk needs")
    database: str = Field(description="What was done to the database")
    pending: list[str] = Field(description="What was in the way; purge again")


class FusionIn(Request):
    retrievers: list[str] = Field(
        ["bm25", "dense"],
        min_length=1,
        max_length=16,
        description="Modes, each once",
        examples=[["bm25", "dense"]],
    )
    method: Method = "rrf"
    weights: dict[str, float] = Field(
        default_factory=dict, description="By retriever, 1 where none is given; `rrf` takes none"
    )
    k: int = Field(60, ge=1, le=10_000, description="The constant of reciprocal ranks")

    @model_validator(mode="after")
    def _makes_sense(self) -> FusionIn:
        self.spec()
        return self

    def spec(self) -> FusionSpec:
        return FusionSpec(
            retrievers=tuple(self.retrievers), method=self.method, weights=self.weights, k=self.k
        )


class SearchIn(Request):
    query: str = Field(min_length=1, max_length=10_000, examples=["How do I roll back an index?"])
    collection: CollectionName = "default"
    top_k: TopK = None
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    filters: Filters = None
    rerank: bool | str | None = Field(
        None, description="Order the hits anew: a reranker's name, or true for the `search.reranker` setting"
    )
    transform: str | None = Field(None, description="Transform the query first: a transformation's name")
    fusion: FusionIn | None = Field(None, description="What the mode `fused` fuses, and how")
    explain: bool = Field(
        False, description="Say of each hit which lists found it, by which terms and by which tokens"
    )
    sentences: bool = Field(False, description="Point to the sentence of each hit that fits best")


class HitOut(Response):
    rank: int
    score: float
    chunk_id: str
    document_id: str
    title: str | None
    source: str
    text: str
    start: int
    end: int
    page: int | None
    heading_path: list[str]
    scores: dict[str, float]
    explanation: ExplanationOut | None = Field(None, description="With `explain`: why it is a hit")
    best_sentence: SentenceOut | None = Field(None, description="With `sentences`, where it has one")
    matches: list[MatchOut] | None = Field(
        None, description="With the mode `ngram`: where n-grams of the query stand in the text"
    )


class VariantOut(Response):
    text: str
    weight: float = Field(description="Weight of its ranking among the others'")
    passages: list[str] = Field(
        description="Passages a language model made up, averaged into the vector; never a source"
    )


class TransformedOut(Response):
    name: str
    variants: list[VariantOut]
    note: str | None = Field(description="Why the query was searched as it is, or with less than asked for")


class SearchOut(Response):
    query: str
    mode: str
    index_version: str | None
    hits: list[HitOut]
    explanation: SearchExplanationOut | None = Field(None, description="With `explain`: how was searched")
    transformed: TransformedOut | None = Field(
        None, description="With `transform`: what was searched with instead of the query"
    )
    notes: list[str] = Field(
        default_factory=list, description="What to know of how the hits were found, as where a step fell back"
    )
    timings_ms: dict[str, float]


class AnswerIn(Request):
    query: str = Field(min_length=1, max_length=10_000, examples=["How do I roll back an index?"])
    collection: CollectionName = "default"
    top_k: Annotated[int | None, Field(ge=1, le=100, description="Passages the answer may rest on")] = None
    mode: Mode | None = None
    filters: Filters = None
    rerank: bool | str | None = Field(
        None, description="Order the hits anew: a reranker's name, or true for the `search.reranker` setting"
    )
    transform: str | None = Field(None, description="Transform the query first: a transformation's name")
    generator: Literal["auto", "extractive", "llm"] | None = None
    stream: bool = Field(False, description="Answer as server-sent events")


class ClaimOut(Response):
    text: str
    start: int
    end: int
    citations: list[int]
    verdict: str
    support: float


class CitationOut(Response):
    n: int
    document_id: str
    chunk_id: str
    title: str | None
    source: str
    page: int | None
    start: int
    end: int
    quote: str


class AnswerOut(Response):
    query: str
    answer: str
    abstained: bool
    reason: str | None
    confidence: float
    claims: list[ClaimOut]
    citations: list[CitationOut]
    hits: list[HitOut]
    generator: str
    notes: list[str]
    dropped_markers: int
    index_version: str | None
    timings_ms: dict[str, float]


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


class IndexSwitched(IndexVersionOut):
    recall_before: float | None = Field(description="Recall@10 of the golden questions, if there are any")
    recall_after: float | None
    forced: bool = Field(description="Served although Recall@10 dropped by more than is allowed")


class IndexBuildIn(Request):
    collection: CollectionName = "default"
    encoder: str | None = Field(
        None, max_length=1000, description="`default`, or a sentence-transformers name or folder"
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


class IndexBuilding(Response):
    job: JobOut


class GoldenExpected(Request):
    source: str = Field(
        min_length=1, max_length=2000, description="The document's source, or its id", examples=["tea"]
    )
    quote: str | None = Field(
        None,
        min_length=1,
        max_length=10_000,
        description="A verbatim quotation of the document: the place that must be found",
    )


class GoldenIn(Request):
    question: str = Field(min_length=1, max_length=10_000, pattern=r"\S", examples=["How is tea made?"])
    collection: CollectionName = "default"
    expected: list[GoldenExpected] = Field(
        min_length=1, max_length=1000, description="The documents, or places in them, that must be found"
    )


class GoldenExpectedOut(Response):
    source: str
    quote: str | None


class GoldenOut(Response):
    id: str
    collection: str
    question: str
    expected: list[GoldenExpectedOut]
    created_at: datetime
    generator: str | None = Field(None, description="What made the question; null where a person did")


class GoldenList(Response):
    data: list[GoldenOut]


class GoldenDeleted(Response):
    id: str
    deleted: bool


class GoldenRunIn(Request):
    collection: CollectionName = "default"
    index_version: str | None = Field(None, max_length=64, description="Default: the version that is served")
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    top_k: Annotated[int, Field(ge=1, le=1000, description="How many passages are looked at")] = 10


class GoldenItemOut(Response):
    source: str
    quote: str | None
    rank: int | None
    stale: Literal["document_missing", "document_not_ready", "quote_missing"] | None


class GoldenOutcomeOut(Response):
    id: str
    question: str
    recall: float | None
    mrr: float | None
    ndcg: float | None
    expected: list[GoldenItemOut]


class MeanOut(Response):
    """The mean over the questions, with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float


class GoldenRunOut(Response):
    index_version: str | None
    mode: str
    top_k: int
    n_questions: int
    n_stale: int
    recall: MeanOut | None
    mrr: MeanOut | None
    ndcg: MeanOut | None
    questions: list[GoldenOutcomeOut]


class TuneIn(Request):
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    n_synthetic: int = Field(
        0, ge=0, le=10_000, description="Make so many questions for this instead of taking the golden ones"
    )
    dry_run: bool = Field(False, description="Only say what would be adopted")


class TuningOut(Response):
    values: dict[str, Any] = Field(description="What takes the place of the settings; empty: nothing")
    evidence: dict[str, Any] | None
    created_at: datetime | None


class TuningReset(Response):
    reset: bool = Field(description="Whether anything had been adopted")


class QuestionIn(Request):
    question: str = Field(min_length=1, max_length=10_000, pattern=r"\S", examples=["How long is a lease?"])
    answers: list[Annotated[str, Field(min_length=1, max_length=10_000, pattern=r"\S")]] = Field(
        default_factory=list, max_length=20, description="Wordings of the answer, of which each would do"
    )
    expected: list[GoldenExpected] = Field(default_factory=list, max_length=100)
    unanswerable: bool = Field(False, description="The question is to be refused")
    format: str | None = Field(None, max_length=200, description="`list`, `table`, `json` or `number`")
    filters: Filters = None


class DiagnoseIn(Request):
    questions: list[QuestionIn] = Field(min_length=1, max_length=100)
    collection: CollectionName = "default"
    mode: Mode | None = Field(None, description="Default: the `search.mode` setting")
    top_k: Annotated[int | None, Field(ge=1, le=100, description="Passages an answer may rest on")] = None
    rerank: bool | str | None = None
    generator: Literal["auto", "extractive", "llm"] | None = None
    only_search: bool = Field(False, description="Answer nothing: look at FP1 to FP3 alone")


class DiagnosisOut(Response):
    question: str
    cause: str | None = Field(description="FP1 to FP7, or null where all went well")
    failures: list[str]
    answer: str | None
    evidence: dict[str, Any]


class DiagnoseOut(Response):
    n_questions: int
    n_right: int
    counts: dict[str, int]
    advice: dict[str, str]
    questions: list[DiagnosisOut]


class Health(Response):
    status: Literal["ok", "unavailable"]
    checks: dict[str, str] = Field(default_factory=dict)
