"""Each transformation over a model one can follow: what is searched with, and when it falls back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from indexing.encoding.fake import WordEncoder
from indexing.errors import LanguageModelError
from indexing.language_model import LanguageModel, Message, ScriptedLanguageModel
from indexing.types import Floats
from retrievers.pipeline import Pipeline
from retrievers.transformation.asking import Asking
from retrievers.transformation.base import Transformation, Transformed, Variant
from retrievers.transformation.hyde import Hyde
from retrievers.transformation.rewriting import decompose, multi_query, step_back
from retrievers.types import Hit, Query

QUERY = "How long is the Nile?"
Reply = Callable[[Sequence[Message], int], str]


def asking(reply: Reply, seconds: float = 5.0) -> Asking:
    return Asking(model=ScriptedLanguageModel(reply=reply), seconds=seconds)


def failing(_messages: Sequence[Message], _seed: int) -> str:
    raise LanguageModelError("rate_limited", "Too many requests.")


ALL: dict[str, Callable[[Asking], Transformation]] = {
    "hyde": lambda asking: Hyde(asking=asking),
    "multi_query": multi_query,
    "decompose": decompose,
    "step_back": step_back,
}
EVERY = pytest.mark.parametrize("name", list(ALL))


def test_hyde_asks_for_several_passages_each_with_its_seed() -> None:
    transformed = Hyde(
        asking=asking(lambda messages, seed: f"Passage: Number {seed} on {messages[-1].content}"),
        n_passages=3,
    ).transform(QUERY)
    (variant,) = transformed.variants
    assert (variant.text, variant.weight, transformed.note) == (QUERY, 1.0, None)
    assert [passage.split(" on ")[0] for passage in variant.passages] == ["Number 0", "Number 1", "Number 2"]


def test_hyde_does_with_the_passages_that_came() -> None:
    def reply(_messages: Sequence[Message], seed: int) -> str:
        return failing(_messages, seed) if seed == 1 else f"Passage number {seed}"

    transformed = Hyde(asking=asking(reply), n_passages=3).transform(QUERY)
    assert transformed.variants[0].passages == ("Passage number 0", "Passage number 2")
    assert transformed.note == "hyde: 1 of 3 passages are missing (llm_rate_limited)."


def test_the_vector_is_the_mean_of_query_and_passages() -> None:
    """Equation 8 of Gao et al. 2022, by a loop."""
    encoder = WordEncoder()
    variant = Variant(text=QUERY, passages=("The Nile is long.", "It is 6650 km long."))
    (query,) = pipeline(encoder).encode(Query(text=QUERY), Transformed(variants=(variant,)))
    total: Floats = encoder.encode_queries([QUERY]).vectors[0].copy()
    for passage in variant.passages:
        total += encoder.encode_documents([passage]).vectors[0]
    assert query.vector is not None
    np.testing.assert_allclose(query.vector, total / 3 / np.linalg.norm(total / 3), atol=1e-6)
    assert query.text == QUERY, "lexical retrieval keeps the words of the query"


def test_paraphrases_are_searched_beside_the_query_and_count_less() -> None:
    said = f"1. What is the length of the Nile?\n2. {QUERY}\n3. Nile length in km?\n4. Its extent?\n5. x y"
    transformed = multi_query(asking(lambda _messages, _seed: said)).transform(QUERY)
    assert [variant.text for variant in transformed.variants] == [
        QUERY,
        "What is the length of the Nile?",
        "Nile length in km?",
        "Its extent?",
    ]
    assert all(variant.weight < transformed.variants[0].weight for variant in transformed.variants[1:])


def test_the_model_is_told_how_many_are_wanted() -> None:
    told = []

    def reply(messages: Sequence[Message], _seed: int) -> str:
        told.append(messages[0].content)
        return "another wording"

    multi_query(asking(reply), 2).transform(QUERY)
    assert "Write 2 other wordings" in told[0]


def test_a_question_without_parts_is_searched_as_it_is() -> None:
    transformed = decompose(asking(lambda _messages, _seed: QUERY.upper())).transform(QUERY)
    assert (transformed.variants, transformed.note) == ((Variant(text=QUERY),), None)


def test_sub_questions_are_searched_beside_the_query() -> None:
    said = "Where does the Nile begin?\nWhere does it end?"
    transformed = decompose(asking(lambda _messages, _seed: said)).transform(QUERY)
    assert [variant.text for variant in transformed.variants] == [QUERY, *said.splitlines()]


def test_one_more_general_question_stands_beside_the_query() -> None:
    said = "What is known of the rivers of Africa?\nWhat is a river?"
    transformed = step_back(asking(lambda _messages, _seed: said)).transform(QUERY)
    assert [variant.text for variant in transformed.variants] == [QUERY, said.splitlines()[0]]


@EVERY
def test_a_model_that_fails_leaves_the_query_as_it_is(name: str) -> None:
    transformed = ALL[name](asking(failing)).transform(QUERY)
    assert transformed.variants == (Variant(text=QUERY),)
    assert transformed.name == name
    assert transformed.note == (
        f"{name}: llm_rate_limited: Too many requests. The query was searched as it is."
    )


@EVERY
@pytest.mark.parametrize("said", ["", "   ", "[]", "```\n```", "\x00", "…"])
def test_a_model_that_writes_nothing_usable_leaves_the_query_as_it_is(name: str, said: str) -> None:
    transformed = ALL[name](asking(lambda _messages, _seed: said)).transform(QUERY)
    assert transformed.variants == (Variant(text=QUERY),)
    assert transformed.note is not None
    assert "nothing usable" in transformed.note


@EVERY
def test_a_model_that_is_late_is_left(name: str) -> None:
    released = threading.Event()

    def reply(_messages: Sequence[Message], _seed: int) -> str:
        released.wait(10)
        return "too late"

    began = time.monotonic()
    transformed = ALL[name](asking(reply, seconds=0.05)).transform(QUERY)
    took = time.monotonic() - began
    released.set()
    assert took < 2
    assert transformed.variants == (Variant(text=QUERY),)
    assert "llm_timeout" in str(transformed.note)


def test_calls_run_side_by_side() -> None:
    together = threading.Barrier(4, timeout=5)

    def reply(_messages: Sequence[Message], seed: int) -> str:
        together.wait()
        return f"Passage {seed}"

    transformed = Hyde(asking=asking(reply), n_passages=4).transform(QUERY)
    assert len(transformed.variants[0].passages) == 4


def test_a_fault_of_our_own_is_not_hidden() -> None:
    def reply(_messages: Sequence[Message], _seed: int) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        multi_query(asking(reply)).transform(QUERY)


class Lists:
    """A retriever that knows the ranking of each text."""

    def __init__(self, rankings: dict[str, list[int]]) -> None:
        self.rankings = rankings

    def retrieve(self, queries: Sequence[Query], top_k: int) -> list[list[Hit]]:
        return [
            [
                Hit(chunk_id=key, document_id=key, score=1 / rank, rank=rank)  # type: ignore[arg-type]
                for rank, key in enumerate(self.rankings[query.text][:top_k], start=1)
            ]
            for query in queries
        ]


def pipeline(encoder: WordEncoder, retriever: Lists | None = None, **parts: object) -> Pipeline:
    return Pipeline(retriever=retriever or Lists({}), encoder=encoder, **parts)  # type: ignore[arg-type]


def found(rankings: dict[str, list[int]], model: LanguageModel, top_k: int) -> list[int]:
    steps = pipeline(
        WordEncoder(), Lists(rankings), transformation=multi_query(Asking(model=model)), needs_vector=False
    )
    transformed = steps.transform("q")
    hits = steps.retrieve(steps.encode(Query(text="q"), transformed), transformed, top_k)
    return [int(hit.chunk_id) for hit in hits]


def test_rankings_are_fused_by_weighted_reciprocal_ranks() -> None:
    rankings = {"q": [1, 2, 3], "pa": [3, 4], "pb": [4, 3]}
    model = ScriptedLanguageModel(reply=lambda _messages, _seed: "pa\npb")
    scores: dict[int, float] = {}
    for weight, ranking in ((1.0, rankings["q"]), (0.5, rankings["pa"]), (0.5, rankings["pb"])):
        for rank, key in enumerate(ranking, start=1):
            scores[key] = scores.get(key, 0.0) + weight / (60 + rank)
    assert found(rankings, model, 10) == sorted(scores, key=lambda key: (-scores[key], key))


def test_the_best_do_not_depend_on_how_many_are_shown() -> None:
    rng = np.random.default_rng(5)
    rankings = {text: [int(key) for key in rng.permutation(90)] for text in ("q", "pa", "pb")}
    model = ScriptedLanguageModel(reply=lambda _messages, _seed: "pa\npb")
    assert found(rankings, model, 5) == found(rankings, model, 50)[:5]
