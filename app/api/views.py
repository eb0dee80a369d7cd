"""From rows and values to responses: the one place where the two meet."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from app.answer import Citation, Claim
from app.answering import AnswerResult
from app.api.explanation import MatchOut, SentenceOut, explanation_out, search_explanation_out
from app.api.schemas import (
    AnswerOut,
    ChunkOut,
    CitationOut,
    ClaimOut,
    CollectionOut,
    Deleted,
    DocumentOut,
    ErrorBody,
    GoldenExpectedOut,
    GoldenItemOut,
    GoldenOut,
    GoldenOutcomeOut,
    GoldenRunOut,
    HitOut,
    IndexRemovalOut,
    IndexReport,
    IndexSwitched,
    IndexVersionOut,
    JobOut,
    MeanOut,
    ProbeOut,
    ReceiptOut,
    SearchOut,
    TransformedOut,
    VariantOut,
)
from app.db.golden import GoldenQuestion
from app.db.tables import CollectionRow, DocumentRow, IndexVersionRow, JobRow
from app.deleting import Receipt
from app.golden import GoldenRun, Mean, Outcome
from app.ids import format_id
from app.searching import SearchResult
from app.switching import Switched
from app.upkeep import recall_of
from app.verifying import Report
from indexing.types import Chunk
from retrievers.transformation.base import Transformed
from retrievers.types import Passage


def error_body(code: str | None, detail: str | None) -> ErrorBody | None:
    return ErrorBody(code=code, detail=detail or "") if code else None


def document_out(row: DocumentRow, collection: str) -> DocumentOut:
    return DocumentOut(
        id=format_id(row.id),
        collection=collection,
        source=row.source,
        title=row.title,
        status=row.status,
        error=error_body(row.error_code, row.error_detail),
        content_hash=row.content_hash,
        filename=row.filename,
        media_type=row.media_type,
        n_bytes=row.n_bytes,
        n_chunks=row.n_chunks,
        n_pages=row.n_pages or None,
        revision=row.revision,
        metadata=row.meta,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def receipt_out(receipt: Receipt) -> ReceiptOut:
    return ReceiptOut(
        id=receipt.id,
        kind=receipt.kind,
        collection=receipt.collection,
        document_ids=list(receipt.document_ids),
        change_number=receipt.change_number,
        deleted_at=receipt.deleted_at,
        purged_at=receipt.purged_at,
        rows=dict(receipt.rows),
        files=dict(receipt.files),
        indexes=[IndexRemovalOut.model_validate(item) for item in receipt.indexes],
        probe=[ProbeOut.model_validate(item) for item in receipt.probe],
        pending=list(receipt.pending),
    )


def deleted_out(receipt: Receipt) -> Deleted:
    """The receipt of one document; `removed` is the short form."""
    return Deleted(
        id=receipt.document_ids[0],
        deleted=True,
        removed={
            "chunks": receipt.rows["chunks"],
            "revisions": receipt.rows["revisions"],
            "files": receipt.files["removed"],
        },
        receipt=receipt_out(receipt),
    )


def job_out(row: JobRow) -> JobOut:
    return JobOut(
        id=row.id,
        kind=row.kind,
        status=row.status,
        document_id=format_id(row.document_id) if row.document_id is not None else None,
        attempts=row.attempts,
        max_attempts=row.max_attempts,
        progress={"done": row.progress_done, "total": row.progress_total, "note": row.progress_note},
        error=error_body(row.error_code, row.error_detail),
        result=row.result,
        created_at=row.created_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def collection_out(row: CollectionRow, n_documents: int, n_chunks: int) -> CollectionOut:
    return CollectionOut(
        name=row.name,
        description=row.description or None,
        n_documents=n_documents,
        n_chunks=n_chunks,
        index_version=row.active_version_id,
        created_at=row.created_at,
    )


def chunk_out(chunk: Chunk) -> ChunkOut:
    return ChunkOut(
        chunk_id=format_id(chunk.id),
        ordinal=chunk.ordinal,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        heading_path=list(chunk.heading_path),
        n_tokens=chunk.n_tokens,
        text=chunk.text,
    )


def text_json(parts: Iterable[str], pages: Sequence[Mapping[str, int]]) -> Iterator[str]:
    """The JSON of a `TextOut`, part by part, so that a long text is never held whole.

    >>> "".join(text_json(['say "a', ' b"'], [{"page": 1, "start": 0, "end": 10}]))
    '{"text": "say \\\\"a b\\\\"", "pages": [{"page": 1, "start": 0, "end": 10}]}'
    """
    yield '{"text": "'
    for part in parts:
        yield json.dumps(part, ensure_ascii=False)[1:-1]
    yield f'", "pages": {json.dumps(list(pages))}}}'


def hit_out(passage: Passage, found: SearchResult | None = None) -> HitOut:
    """A passage, with what its search found out about it."""
    chunk = passage.chunk
    return HitOut(
        rank=passage.rank,
        score=passage.score,
        chunk_id=format_id(chunk.id),
        document_id=format_id(chunk.document_id),
        title=passage.title,
        source=passage.source,
        text=chunk.text,
        start=chunk.start,
        end=chunk.end,
        page=chunk.page,
        heading_path=list(chunk.heading_path),
        scores=dict(passage.scores),
        **({} if found is None else _details(chunk, found)),
    )


def _details(chunk: Chunk, found: SearchResult) -> dict[str, Any]:
    explanation = found.explanation.hits.get(chunk.id) if found.explanation else None
    sentence, matches = found.sentences.get(chunk.id), found.matches.get(chunk.id)
    details: dict[str, Any] = {}
    if explanation is not None:
        details["explanation"] = explanation_out(explanation, start=chunk.start)
    if sentence is not None:
        details["best_sentence"] = SentenceOut(
            start=chunk.start + sentence.start,
            end=chunk.start + sentence.end,
            text=chunk.text[sentence.start : sentence.end],
            score=sentence.score,
        )
    if matches is not None:
        details["matches"] = [
            MatchOut(ngram=match.ngram.text, start=chunk.start + match.start, end=chunk.start + match.end)
            for match in matches
        ]
    return details


def search_out(result: SearchResult) -> SearchOut:
    return SearchOut(
        query=result.query,
        mode=result.mode,
        index_version=result.index_version,
        hits=[hit_out(passage, result) for passage in result.passages],
        explanation=search_explanation_out(result.explanation) if result.explanation else None,
        transformed=transformed_out(result.transformed) if result.transformed else None,
        notes=list(result.notes),
        timings_ms=dict(result.timings_ms),
    )


def transformed_out(transformed: Transformed) -> TransformedOut:
    return TransformedOut(
        name=transformed.name,
        variants=[
            VariantOut(text=variant.text, weight=variant.weight, passages=list(variant.passages))
            for variant in transformed.variants
        ],
        note=transformed.note,
    )


def claim_out(claim: Claim) -> ClaimOut:
    return ClaimOut(
        text=claim.text,
        start=claim.start,
        end=claim.end,
        citations=list(claim.citations),
        verdict=claim.verdict,
        support=claim.support,
    )


def citation_out(citation: Citation) -> CitationOut:
    return CitationOut(
        n=citation.n,
        document_id=format_id(citation.document_id),
        chunk_id=format_id(citation.chunk_id),
        title=citation.title,
        source=citation.source,
        page=citation.page,
        start=citation.start,
        end=citation.end,
        quote=citation.quote,
    )


def answer_out(result: AnswerResult) -> AnswerOut:
    answer, search = result.answer, result.search
    return AnswerOut(
        query=search.query,
        answer=answer.text,
        abstained=answer.abstained,
        reason=answer.reason,
        confidence=answer.confidence,
        claims=[claim_out(claim) for claim in answer.claims],
        citations=[citation_out(citation) for citation in answer.citations],
        hits=[hit_out(passage) for passage in search.passages],
        generator=answer.generator,
        notes=[*search.notes, *answer.notes],
        dropped_markers=answer.dropped_markers,
        index_version=search.index_version,
        timings_ms=dict(result.timings_ms),
    )


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


def golden_out(question: GoldenQuestion, collection: str) -> GoldenOut:
    return GoldenOut(
        id=format_id(question.id),
        collection=collection,
        question=question.question,
        expected=[GoldenExpectedOut(source=item.source, quote=item.quote) for item in question.expected],
        created_at=question.created_at,
        generator=question.generator,
    )


def golden_run_out(run: GoldenRun) -> GoldenRunOut:
    return GoldenRunOut(
        index_version=run.version_id,
        mode=run.mode,
        top_k=run.top_k,
        n_questions=run.n_measured,
        n_stale=len(run.outcomes) - run.n_measured,
        recall=_mean_out(run.mean("recall")),
        mrr=_mean_out(run.mean("mrr")),
        ndcg=_mean_out(run.mean("ndcg")),
        questions=[_outcome_out(outcome) for outcome in run.outcomes],
    )


def _mean_out(mean: Mean | None) -> MeanOut | None:
    return MeanOut(mean=mean.mean, low=mean.low, high=mean.high) if mean is not None else None


def _outcome_out(outcome: Outcome) -> GoldenOutcomeOut:
    values = outcome.values or {}
    return GoldenOutcomeOut(
        id=format_id(outcome.question.id),
        question=outcome.question.question,
        recall=values.get("recall"),
        mrr=values.get("mrr"),
        ndcg=values.get("ndcg"),
        expected=[
            GoldenItemOut(
                source=item.expected.source, quote=item.expected.quote, rank=item.rank, stale=item.stale
            )
            for item in outcome.items
        ],
    )
