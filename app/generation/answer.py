"""What a question gives: an answer, its claims, and the citations they rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from indexing.types import ChunkId, DocumentId

Verdict = Literal["supported", "partial", "unsupported", "uncited"]
AbstentionReason = Literal["no_passages", "nothing_close_enough", "declined_by_model", "empty_answer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Citation:
    """A footnote: `quote` is characters `[start, end)` of the document's canonical text, exactly.

    `n` counts from 1 in order of first use in the answer; no two citations of an answer cover the same span.
    """

    n: int
    document_id: DocumentId
    chunk_id: ChunkId
    title: str | None
    source: str
    page: int | None
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One sentence of the answer: characters `[start, end)` of `Answer.text`, its markers left out.

    `citations` are the numbers of the footnotes behind it; `support` in [0, 1] says how far they carry it.
    """

    text: str
    start: int
    end: int
    citations: tuple[int, ...]
    verdict: Verdict
    support: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens as the language model's server counted them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer to one question.

    `text` carries markers such as `[1]` after each sentence. An abstention has no text, no claims and no
    citations, and says why in `reason`. `notes` tell what a reader should know of how it came about, for
    example that a language model could not be reached. `dropped_markers` counts markers naming no passage.
    """

    text: str
    abstained: bool
    reason: AbstentionReason | None
    confidence: float
    claims: tuple[Claim, ...]
    citations: tuple[Citation, ...]
    generator: str
    notes: tuple[str, ...] = ()
    dropped_markers: int = 0
    usage: Usage | None = None


def abstention(
    reason: AbstentionReason,
    *,
    generator: str,
    confidence: float = 0.0,
    notes: tuple[str, ...] = (),
    dropped_markers: int = 0,
    usage: Usage | None = None,
) -> Answer:
    """The answer that gives none."""
    return Answer(
        text="",
        abstained=True,
        reason=reason,
        confidence=confidence,
        claims=(),
        citations=(),
        generator=generator,
        notes=notes,
        dropped_markers=dropped_markers,
        usage=usage,
    )


_EXPLANATIONS: dict[AbstentionReason, str] = {
    "no_passages": "No passage was found for this question.",
    "nothing_close_enough": "The passages found do not seem to answer this question.",
    "declined_by_model": "The language model found no answer in the passages.",
    "empty_answer": "The language model gave no answer.",
}


def explain(reason: AbstentionReason) -> str:
    """The reason as a sentence for a person.

    >>> explain("no_passages")
    'No passage was found for this question.'
    """
    return _EXPLANATIONS[reason]
