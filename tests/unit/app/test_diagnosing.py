"""Diagnosis of planted failures: each kind is found, with its stage and evidence."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.db.golden import Expected
from app.errors import InvalidRequest
from app.generation.answer import Answer, abstention
from app.generation.base import Finished, GenerationEvent
from app.learning import diagnosis, golden
from app.learning.diagnosing import Asked, diagnose, golden_cases
from app.learning.diagnosis import Case, Diagnosis, summarise
from app.learning.diagnosis_checks import compare, has_format
from app.search.rerankers import RERANKERS
from app.search.searching import SearchRequest
from app.services import Services
from app.settings import LlmSettings
from retrievers.types import Passage, Query
from tests.unit.app.texts import ingest

FILLER = " ".join(f"filler{number}" for number in range(120))
PAGES = {
    "leases.md": "A lease lasts thirty seconds. The worker renews it; the queue takes it back.",
    "tea.md": "Warm the pot before the leaves go in. Green tea wants cooler water.",
    "long.md": f"Warm pot leaves tea water {FILLER}. ",
    "owl.md": "The owl hunts at night.",
}


@dataclass
class Scripted:
    """Says what is scripted for a question; `alone` where it sees one passage only."""

    texts: Mapping[str, str]
    alone: Mapping[str, str] | None = None
    name: str = "scripted"

    def stream(self, question: str, passages: Sequence[Passage]) -> Iterator[GenerationEvent]:
        text = self.texts.get(question, "")
        if len(passages) == 1 and self.alone is not None:
            text = self.alone[question]
        if not text:
            yield Finished(answer=abstention("declined_by_model", generator=self.name))
            return
        yield Finished(
            answer=Answer(
                text=text,
                abstained=False,
                reason=None,
                confidence=1.0,
                claims=(),
                citations=(),
                generator=self.name,
            )
        )


class Backwards:
    """A reranker that is always wrong."""

    def rerank(self, query: Query, passages: Sequence[Passage], top_k: int) -> list[Passage]:
        return list(reversed(passages))[:top_k]


@pytest.fixture
def filled(services: Services) -> Services:
    ingest(services, PAGES)
    return services


def one(services: Services, case: Case, generator: Any = None, **request: Any) -> Diagnosis:
    if generator is not None:
        services.__dict__["llm"] = generator
    asked = Asked(
        request=SearchRequest(query="", **{"mode": "bm25", "top_k": 3, **request}),
        generator=None if generator is None else "llm",
    )
    (found,) = diagnose(services, [case], asked)
    return found


def test_missing_content(filled: Services) -> None:
    assert one(filled, Case(question="who paints", answers=("purple elephants",))).failures == ("FP1",)
    assert one(filled, Case(question="tea", expected=(Expected("gone.md"),))).failures == ("FP1",)
    assert one(filled, Case(question="tea", expected=(Expected("tea.md", "not there"),))).failures == ("FP1",)
    refused = one(filled, Case(question="who paints", unanswerable=True), Scripted({}))
    assert refused.failures == ()
    answered = one(filled, Case(question="who", unanswerable=True), Scripted({"who": "An owl."}))
    assert (answered.failures, answered.evidence) == (("FP1",), {"answered": True})


def test_missed_the_top_ranks_with_the_rank_in_every_list(filled: Services) -> None:
    case = Case(question="warm pot leaves tea water lease", expected=(Expected("leases.md"),))
    found = one(filled, case, mode="hybrid", top_k=1)
    assert found.failures == ("FP2",)
    ranks = found.evidence["ranks"]
    assert set(ranks) == {"bm25", "dense", "dense_searched", "hybrid"}
    assert ranks["dense"] == ranks["dense_searched"] > 1
    assert ranks["hybrid"] > 1
    assert one(filled, case, mode="hybrid", top_k=4).failures == ()
    never = one(filled, Case(question="zebra", expected=(Expected("leases.md"),)))
    assert never.evidence["ranks"] == {"bm25": None}


def test_dropped_between_retrieval_and_prompt_with_the_stage(
    filled: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    tea = Case(question="warm the pot", answers=("cooler water",))
    assert one(filled, tea, top_k=1).failures == ()
    monkeypatch.setitem(RERANKERS, "backwards", lambda _parts: Backwards())  # type: ignore[arg-type]
    reranked = one(filled, tea, top_k=1, rerank="backwards")
    assert (reranked.failures, reranked.evidence["stage"]) == (("FP3",), "rerank")

    kept_out = Case(question="warm the pot", answers=("cooler water",), filters={"source": {"$ne": "tea.md"}})
    filtered = one(filled, kept_out)
    assert (filtered.failures, filtered.evidence["stage"]) == (("FP3",), "filter")

    llm = LlmSettings(context_tokens=128)
    filled.settings = filled.settings.model_copy(update={"llm": llm})
    question = f"filler1 filler2 filler3 {' '.join(f'filler{n}' for n in range(20))} owl"
    budget = one(filled, Case(question=question, answers=("hunts at night",)), Scripted({question: "x"}))
    assert (budget.failures, budget.evidence["stage"]) == (("FP3",), "token_budget")
    assert budget.evidence["rank"] == 2


def test_not_extracted_and_whether_the_passage_alone_would_do(filled: Services) -> None:
    case = Case(question="how long is a lease", answers=("thirty seconds",))
    question = case.question
    wrong = one(filled, case, Scripted({question: "An hour."}, {question: "Thirty seconds."}), mode="hybrid")
    assert wrong.failures == ("FP4",)
    assert wrong.evidence["right_with_the_passage_alone"] is True
    silent = one(filled, case, Scripted({}), mode="hybrid")
    assert silent.failures == ("FP4",)
    assert silent.evidence["abstained"] == "declined_by_model"
    assert silent.evidence["right_with_the_passage_alone"] is False
    assert one(filled, case, Scripted({question: "It lasts thirty seconds [1]."})).failures == ()


def test_wrong_format(filled: Services) -> None:
    case = Case(question="how long is a lease", answers=("thirty seconds",), format="list")
    found = one(filled, case, Scripted({case.question: "It lasts thirty seconds."}))
    assert (found.failures, found.evidence) == (("FP5",), {"format": "list"})
    right = one(filled, case, Scripted({case.question: "- thirty\n- seconds"}))
    assert right.failures == ()


def test_incorrect_specificity(filled: Services) -> None:
    case = Case(question="how is tea made", answers=("Warm the pot before the green leaves go in slowly",))
    filled_case = Case(question=case.question, answers=case.answers, expected=(Expected("tea.md"),))
    general = one(filled, filled_case, Scripted({case.question: "With leaves."}), mode="hybrid")
    assert (general.failures, general.evidence["specificity"]) == (("FP6",), "too_general")
    lengthy = "Thirty seconds. " + "The owl hunts. It flies far. " * 5
    short = Case(question="how long is a lease", answers=("thirty seconds",))
    found = one(filled, short, Scripted({short.question: lengthy}))
    assert (found.failures, found.evidence["specificity"]) == (("FP6",), "too_long")


def test_incomplete_where_the_rest_was_in_context(filled: Services) -> None:
    answers = ("The worker renews it; the queue takes it back.",)
    case = Case(question="what happens to a lease", answers=answers)
    found = one(filled, case, Scripted({case.question: "The worker renews it."}))
    assert found.failures == ("FP7",)
    assert found.evidence["missing"] == ["the queue takes it back."]


def test_golden_questions_are_diagnosed_and_summed_up(filled: Services) -> None:
    golden.add(filled, "default", "warm the pot", [Expected("tea.md", "Warm the pot")])
    golden.add(filled, "default", "zebra", [Expected("owl.md")])
    asked = Asked(request=SearchRequest(query="", mode="bm25", top_k=3), generator=None)
    told: list[tuple[str, int, int]] = []
    found = diagnose(filled, golden_cases(filled, "default"), asked, lambda *step: told.append(step))
    summary = summarise(found)
    assert (summary.n_questions, summary.n_right, summary.counts["FP2"]) == (2, 1, 1)
    assert list(summary.advice) == ["FP2"]
    assert told[-1] == ("diagnose", 2, 2)


def test_the_generator_that_quotes_is_diagnosed_too(filled: Services) -> None:
    case = Case(question="when does the owl hunt at night", answers=("at night",))
    asked = Asked(request=SearchRequest(query="", mode="hybrid", top_k=3), generator="extractive")
    (found,) = diagnose(filled, [case], asked)
    assert (found.failures, found.answer) == ((), "The owl hunts at night. [1]")


def test_a_file_is_read_or_refused_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    lines: list[dict[str, Any]] = [
        {"question": "a", "answer": "b"},
        {"question": "a", "answers": ["b", "c"], "format": "/\\d+/"},
        {"question": "a", "source": "s", "quote": "q"},
        {"question": "a", "expected": [{"source": "s"}]},
        {"question": "a", "unanswerable": True},
    ]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n\n")
    cases = diagnosis.read(path)
    assert [case.answers for case in cases] == [("b",), ("b", "c"), (), (), ()]
    assert cases[2].expected == (Expected("s", "q"),)
    for bad in ("{", "[]", '{"question": "a"}', '{"question": "", "answer": "b"}'):
        path.write_text('{"question": "a", "answer": "b"}\n' + bad)
        with pytest.raises(InvalidRequest, match="line 2"):
            diagnosis.read(path)
    path.write_text("\n\n")
    with pytest.raises(InvalidRequest, match="no question"):
        diagnosis.read(path)
    for wrong in ("poem", "/(/", "//"):
        path.write_text(json.dumps({"question": "a", "answer": "b", "format": wrong}))
        with pytest.raises(InvalidRequest, match="format"):
            diagnosis.read(path)


@pytest.mark.parametrize(
    ("answer", "wanted", "expected"),
    [
        ("| a | b |\n| 1 | 2 |", "table", True),
        ("a, b", "table", False),
        ('{"a": 1} [1]', "json", True),
        ("a: 1", "json", False),
        ("about 30 [1]", "number", True),
        ("about [1]", "number", False),
        ("2024-05-01", r"/^\d{4}-/", True),
    ],
)
def test_formats(answer: str, wanted: str, expected: bool) -> None:
    assert has_format(answer, wanted) is expected


def test_the_reference_that_fits_best_counts() -> None:
    assert compare("It lasts thirty seconds.", ("an hour", "thirty seconds")).verdict == "right"
    assert compare("It lasts a day.", ("an hour", "thirty seconds")).verdict == "wrong"


def test_an_expression_that_explodes_is_given_up() -> None:
    with pytest.raises(InvalidRequest, match="takes longer"):
        has_format("a" * 60 + "!", "/^(a|aa|b?a)+$/")
