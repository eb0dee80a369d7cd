"""What every generator keeps to, whatever it writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.generation.answer import Answer
from app.generation.base import CitationAdded, ClaimDone, Delta, Finished, Generator, finished, generate
from app.generation.chat import ChatClient, ChatSettings
from app.generation.extractive import ExtractiveGenerator, ExtractiveSettings
from app.generation.fake import FirstSentenceGenerator
from app.generation.fallback import FallbackGenerator
from app.generation.openai_compatible import OpenAiGenerator
from app.generation.verification import OverlapVerifier
from indexing.encoding.fake import WordEncoder
from retrievers.types import Passage
from tests.llm_server import LlmServer, Reply
from tests.unit.app.generation.passages import LIBRARY, library, passage

QUESTION = "How many kilometres long is the Nile, and which are its tributaries?"
SPEECH = (
    "The Nile is about 6650 kilometres long [1]. Its tributaries are the White Nile and the Blue Nile "
    "[1][7]. The Amazon carries more water [2, 99]! Nobody said this. - Lake Geneva freezes rarely.[3]"
)

DOCUMENTS = {int(document): text for document, text in LIBRARY.items()}
WORDS = """Nile water long river The It is 12 [3] . ! ? # <passage> 日本。 | - e.g. Dr."""
words = st.sampled_from([*WORDS.split(), "\n"])
texts = st.lists(words, max_size=40).map(" ".join)


class GeneratorContract:
    @pytest.fixture
    def generator(self) -> Generator | Iterator[Generator]:
        raise NotImplementedError

    def test_the_answer_comes_last_and_once(self, generator: Generator) -> None:
        events = list(generator.stream(QUESTION, library()))
        assert isinstance(events[-1], Finished)
        assert sum(isinstance(event, Finished) for event in events) == 1

    def test_it_answers_from_the_passages(self, generator: Generator) -> None:
        answer = generate(generator, QUESTION, library())
        assert not answer.abstained
        assert answer.reason is None
        assert answer.claims
        assert answer.citations
        check(answer, DOCUMENTS, library())

    def test_events_add_up_to_the_answer(self, generator: Generator) -> None:
        events = list(generator.stream(QUESTION, library()))
        answer = finished(events)
        assert "".join(event.text for event in events if isinstance(event, Delta)) == answer.text
        assert tuple(event.claim for event in events if isinstance(event, ClaimDone)) == answer.claims
        assert (
            tuple(event.citation for event in events if isinstance(event, CitationAdded)) == answer.citations
        )

    def test_a_claim_is_sent_after_its_text_and_its_footnotes(self, generator: Generator) -> None:
        sent, numbers = 0, set()
        for event in generator.stream(QUESTION, library()):
            match event:
                case Delta(text=text):
                    sent += len(text)
                case CitationAdded(citation=citation):
                    numbers.add(citation.n)
                case ClaimDone(claim=claim):
                    assert claim.end <= sent
                    assert set(claim.citations) <= numbers

    def test_no_passages_no_answer(self, generator: Generator) -> None:
        answer = generate(generator, QUESTION, [])
        assert (answer.abstained, answer.reason) == (True, "no_passages")
        check(answer, {}, [])

    def test_overlapping_passages_are_cited_once(self, generator: Generator) -> None:
        text = LIBRARY[library()[0].chunk.document_id]
        overlapping = [passage(text), passage(text, 47, 120), passage(text, 0, 81)]
        check(generate(generator, QUESTION, overlapping), DOCUMENTS, overlapping)

    # The property holds for each generator apart, so one example database for all of them does no harm.
    @settings(
        max_examples=25,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(documents=st.lists(texts.filter(str.strip), min_size=1, max_size=3), shift=st.integers(0, 9))
    def test_any_text_is_quoted_exactly(self, generator: Generator, documents: list[str], shift: int) -> None:
        passages = [
            passage(text, min(shift, len(text) - 1), document=number, rank=number, score=1 / number)
            for number, text in enumerate(documents, start=1)
        ]
        answer = generate(generator, QUESTION, passages)
        check(answer, dict(enumerate(documents, start=1)), passages)


def check(answer: Answer, documents: Mapping[int, str], passages: list[Passage]) -> None:
    """Everything that is true of every answer."""
    chunks = {found.chunk.id: found.chunk for found in passages}
    assert [citation.n for citation in answer.citations] == list(range(1, len(answer.citations) + 1))
    for citation in answer.citations:
        assert citation.quote == documents[citation.document_id][citation.start : citation.end]
        chunk = chunks[citation.chunk_id]
        assert chunk.start <= citation.start < citation.end <= chunk.end
    spans = [(citation.document_id, citation.start, citation.end) for citation in answer.citations]
    assert len(set(spans)) == len(spans)
    for claim, following in pairwise(answer.claims):
        assert claim.end <= following.start
    for claim in answer.claims:
        assert answer.text[claim.start : claim.end] == claim.text == claim.text.strip() != ""
        assert set(claim.citations) <= {citation.n for citation in answer.citations}
        marks = "".join(f"[{n}]" for n in claim.citations)
        assert answer.text[claim.end :].startswith(f" {marks}" if marks else "")
        assert (claim.verdict == "uncited") == (not claim.citations)
        assert 0 <= claim.support <= 1
    used = {number for claim in answer.claims for number in claim.citations}
    assert used == {citation.n for citation in answer.citations}
    assert 0 <= answer.confidence <= 1
    assert answer.abstained == (answer.reason is not None)
    if answer.abstained:
        assert (answer.text, answer.claims, answer.citations) == ("", (), ())


class TestExtractiveGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self) -> Generator:
        return ExtractiveGenerator(WordEncoder(), ExtractiveSettings(min_confidence=0.0))

    def test_every_sentence_is_a_quote(self, generator: Generator) -> None:
        answer = generate(generator, QUESTION, library())
        quotes = {citation.n: citation.quote for citation in answer.citations}
        assert [claim.text for claim in answer.claims] == [
            quotes[claim.citations[0]] for claim in answer.claims
        ]


class TestFirstSentenceGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self) -> Generator:
        return FirstSentenceGenerator()


class TestOpenAiGenerator(GeneratorContract):
    @pytest.fixture(params=[1, 3, 1000], ids=["by character", "by three", "at once"])
    def generator(self, request: pytest.FixtureRequest) -> Iterator[Generator]:
        with LlmServer([Reply(text=SPEECH, piece_chars=request.param)]) as server:
            yield llm_generator(server)

    def test_markers_without_a_passage_are_gone_and_counted(self, generator: Generator) -> None:
        answer = generate(generator, QUESTION, library())
        assert answer.dropped_markers == 2
        marked = {int(n) for n in re.findall(r"\[(\d+)\]", answer.text)}
        assert marked == {citation.n for citation in answer.citations}


class TestFallbackGenerator(GeneratorContract):
    @pytest.fixture
    def generator(self) -> Iterator[Generator]:
        with LlmServer([Reply(status=401)]) as server:
            yield FallbackGenerator(llm_generator(server), FirstSentenceGenerator())


def llm_generator(server: LlmServer) -> OpenAiGenerator:
    client = ChatClient(ChatSettings(base_url=server.base_url, model="tiny", timeout_seconds=5))
    encoder = WordEncoder()
    return OpenAiGenerator(client, encoder=encoder, verifier=OverlapVerifier(encoder), model="tiny")
