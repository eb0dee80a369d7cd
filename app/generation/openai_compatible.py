"""Answers by a language model behind an OpenAI-compatible endpoint, with every marker resolved to a quote."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from app.generation.answer import Answer, Usage, abstention
from app.generation.base import Finished, GenerationEvent
from app.generation.chat import ChatClient, ChatPart
from app.generation.citations import Marker, MarkerReader, has_marker
from app.generation.claims import ClaimReader, SentenceEnded, Written
from app.generation.draft import Draft
from app.generation.prompt import NO_ANSWER, build_prompt
from app.generation.spans import SpanFinder
from app.generation.verification import Verifier
from indexing.encoding.base import Encoder
from retrievers.types import Passage

_THOUGHTS = ("<think>", "</think>")
_NOTES = {
    "length": "cut_off: the answer reached the limit of tokens",
    "content_filter": "content_filter: the server withheld part of the answer",
}


class OpenAiGenerator:
    """Sends the question with numbered passages and reads the answer as it is written.

    Each sentence keeps the markers that name a passage of the prompt; each becomes a footnote to the
    passage's sentence that carries it best. Other markers are removed and counted.
    """

    def __init__(
        self,
        client: ChatClient,
        *,
        encoder: Encoder,
        verifier: Verifier,
        model: str,
        context_tokens: int = 3000,
    ) -> None:
        self._client = client
        self._encoder = encoder
        self._verifier = verifier
        self._spans = SpanFinder(encoder)
        self._model = model
        self._context_tokens = context_tokens

    @property
    def name(self) -> str:
        return f"llm:{self._model}"

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        if not passages:
            yield Finished(answer=abstention("no_passages", generator=self.name))
            return
        prompt = build_prompt(
            question,
            passages,
            context_tokens=self._context_tokens,
            count_tokens=self._encoder.count_tokens,
        )
        parts = _Parts(self._client.stream(prompt.messages))
        opening = _Opening()
        writing = _Writing(self.name, prompt.passages, self._spans, self._verifier)
        for text in without_thoughts(parts.texts()):
            yield from writing.read(opening.read(text))
        if opening.declines:
            yield Finished(answer=abstention("declined_by_model", generator=self.name, usage=parts.usage))
            return
        yield from writing.read(opening.rest())
        yield from writing.close()
        yield Finished(answer=writing.answer(parts))


class _Parts:
    """The text of a completion, keeping how it ended and what it used."""

    def __init__(self, parts: Iterator[ChatPart]) -> None:
        self._parts = parts
        self.usage: Usage | None = None
        self.finish_reason: str | None = None

    def texts(self) -> Iterator[str]:
        for part in self._parts:
            self.usage = part.usage or self.usage
            self.finish_reason = part.finish_reason or self.finish_reason
            if part.text:
                yield part.text

    @property
    def notes(self) -> tuple[str, ...]:
        note = _NOTES.get(self.finish_reason or "")
        return (note,) if note else ()


class _Opening:
    """Keeps an answer back while it may still be the sentence that declines."""

    _phrase = NO_ANSWER.rstrip(".").casefold()

    def __init__(self) -> None:
        self._kept = ""
        self._passed = False

    def read(self, text: str) -> str:
        if self._passed:
            return text
        self._kept += text
        said = self._said
        if self._phrase.startswith(said) or said.startswith(self._phrase):
            return ""
        return self.rest()

    @property
    def _said(self) -> str:
        return " ".join(self._kept.split()).lstrip("\"'*“").casefold()

    @property
    def declines(self) -> bool:
        return not self._passed and self._said.startswith(self._phrase) and not has_marker(self._kept)

    def rest(self) -> str:
        kept, self._kept, self._passed = self._kept, "", True
        return kept


class _Writing:
    """From the model's text to events: markers read, sentences closed, footnotes resolved."""

    def __init__(self, name: str, passages: Sequence[Passage], spans: SpanFinder, verifier: Verifier) -> None:
        self._name = name
        self._passages = passages
        self._spans = spans
        self._verifier = verifier
        self._markers = MarkerReader()
        self._claims = ClaimReader()
        self._draft = Draft(name)
        self._dropped = 0

    def read(self, text: str) -> Iterator[GenerationEvent]:
        yield from self._take(self._markers.feed(text))

    def close(self) -> Iterator[GenerationEvent]:
        yield from self._take(self._markers.close())
        yield from self._write(self._claims.close())

    def _take(self, pieces: Iterator[str | Marker]) -> Iterator[GenerationEvent]:
        for piece in pieces:
            if isinstance(piece, Marker):
                known = tuple(n for n in piece.numbers if 1 <= n <= len(self._passages))
                self._dropped += max(len(piece.numbers), 1) - len(known)
                self._claims.marker(known)
            else:
                yield from self._write(self._claims.text(piece))

    def _write(self, readings: Iterator[Written | SentenceEnded]) -> Iterator[GenerationEvent]:
        for reading in readings:
            if isinstance(reading, Written):
                text = reading.text if self._draft.length else reading.text.lstrip()
                yield from self._draft.write(text)
            else:
                yield from self._close_sentence(reading)

    def _close_sentence(self, sentence: SentenceEnded) -> Iterator[GenerationEvent]:
        end = self._draft.length
        start = end - sentence.length
        claim = self._draft.text[start:end]
        passages = [self._passages[number - 1] for number in sentence.numbers]
        spans = [(passage, *self._spans.find(claim, passage)) for passage in passages]
        support = self._verifier.verify(claim, [_text(*span) for span in spans])
        yield from self._draft.close_claim(
            start=start, end=end, spans=spans, verdict=support.verdict, support=support.score
        )

    def answer(self, parts: _Parts) -> Answer:
        claims = self._draft.claims
        if not claims:
            return abstention(
                "empty_answer",
                generator=self._name,
                notes=parts.notes,
                dropped_markers=self._dropped,
                usage=parts.usage,
            )
        return self._draft.answer(
            confidence=sum(claim.support for claim in claims) / len(claims),
            notes=parts.notes,
            dropped_markers=self._dropped,
            usage=parts.usage,
        )


def _text(passage: Passage, start: int, end: int) -> str:
    return passage.chunk.text[start - passage.chunk.start : end - passage.chunk.start]


def without_thoughts(texts: Iterator[str]) -> Iterator[str]:
    """The text without a `<think>` block at its beginning, which some local models write.

    >>> list(without_thoughts(iter(["<thi", "nk>Hm.</th", "ink>\\n", "Yes."])))
    ['\\n', 'Yes.']
    """
    opening, closing = _THOUGHTS
    kept: str | None = ""
    for text in texts:
        if kept is None:
            yield text
            continue
        kept += text
        begun = kept.lstrip()
        if begun.startswith(opening):
            _, closed, rest = begun.partition(closing)
            if not closed:
                continue
            kept = rest
        elif opening.startswith(begun):
            continue
        if kept:
            yield kept
        kept = None
    if kept and not kept.lstrip().startswith(opening):
        yield kept
