"""Questions made from a collection: each has one answer, none is like another, and they go with the text."""

from __future__ import annotations

import json

import pytest

from app.db import documents
from app.db import golden as questions
from app.db.golden import Expected
from app.documents import intake
from app.learning import golden, golden_asking, golden_generation
from app.learning.golden_writing import GAP, drafts, similar
from app.services import Services
from indexing.language_model import ScriptedLanguageModel
from indexing.words import words_of
from tests.unit.app.texts import collection_id, ingest

ANIMALS = ("heron", "otter", "badger", "lizard", "falcon", "beaver")
PLACES = ("harbour", "quarry", "orchard", "meadow", "canal", "marsh")
PAGES = {
    f"{animal}.md": f"# Life of the {animal}\n\nThe {animal} sleeps near the {place} until evening comes.\n"
    for animal, place in zip(ANIMALS, PLACES, strict=True)
}
BOILERPLATE = "All rights of the publisher are reserved under the law."


def rarity(words: list[str]) -> list[float]:
    """Longer words are rarer."""
    return [float(len(word)) if len(word) > 3 else 0.0 for word in words]


def test_a_passage_gives_a_heading_keywords_and_a_gap() -> None:
    text = "Short one here. The committee postponed the extraordinary assembly until Tuesday morning."
    heading, keywords, gap = drafts(text, ["Rules", "Annual  meetings"], rarity)
    assert heading.question == "Rules: Annual meetings"
    assert keywords.question == "committee postponed extraordinary assembly"
    assert gap.question == f"The committee postponed the {GAP} assembly until Tuesday morning."
    assert {draft.quote for draft in (heading, keywords, gap)} == {text[16:]}
    assert drafts("Too short.", ["A heading of words"], rarity) == []
    assert len(drafts(text, ["The 1"], rarity)) == 2


def test_likeness_is_of_words_whatever_their_order() -> None:
    assert similar(frozenset("abcd"), frozenset("dcba"))
    assert not similar(frozenset("ab"), frozenset("ac"))


def test_generated_questions_find_what_they_expect(services: Services) -> None:
    ingest(services, PAGES | {f"legal{i}.md": BOILERPLATE for i in range(3)})
    made = golden_generation.generate(services, "default", 5)
    assert len(made.questions) == 5
    assert made == golden_generation.generate(services, "default", 5)
    assert not {item.expected.source for item in made.questions} & {f"legal{i}.md" for i in range(3)}
    for item in made.questions:
        assert item.expected.quote is not None
        assert item.expected.quote in PAGES[item.expected.source]
    words = [frozenset(word.form for word in words_of(item.question)) for item in made.questions]
    assert not any(similar(one, other) for n, one in enumerate(words) for other in words[:n])
    assert {GAP in item.question for item in made.questions} == {True, False}

    golden_generation.keep(services, "default", made)
    found = golden.run(services, collection_id(services), mode="bm25")
    assert found.n_measured == 5
    assert found.mean("recall").mean == 1.0  # type: ignore[union-attr]
    more = golden_generation.generate(services, "default", 50)
    assert not {item.question for item in more.questions} & {item.question for item in made.questions}


def test_a_persons_questions_stay_and_one_that_is_put_again_becomes_theirs(services: Services) -> None:
    ingest(services, PAGES)
    made = golden_generation.generate(services, "default", 2)
    golden_generation.keep(services, "default", made)
    golden.add(services, "default", made.questions[0].question, [Expected("otter.md")])
    assert golden_generation.remove(services, "default") == 1
    (left,) = listed(services)
    assert (left.question, left.generator) == (made.questions[0].question, None)


def test_what_repeats_a_deleted_document_goes_with_it(services: Services) -> None:
    ingest(services, PAGES)
    golden_generation.keep(services, "default", golden_generation.generate(services, "default", 6))
    golden.add(services, "default", "where does it sleep", [Expected("otter.md")])
    before = listed(services)
    doomed = [item for item in before if item.generator and item.expected[0].source == "otter.md"]
    assert doomed
    intake.delete(services, documents.id_of("default", "otter.md"))
    assert listed(services) == [item for item in before if item not in doomed]


def model(reply: str) -> ScriptedLanguageModel:
    return ScriptedLanguageModel(reply=lambda _messages, _seed: reply, name="scripted")


def test_a_language_model_writes_where_one_is_set(services: Services) -> None:
    ingest(services, PAGES)
    reply = 'Here: {"question": "Where does the otter rest?", "quote": "sleeps  near the quarry"}'
    services.__dict__["language_model"] = model(reply)
    made = golden_generation.generate(services, "default", 3)
    assert made.generator == "golden-1:scripted"
    (only,) = made.questions
    assert only.expected == Expected("otter.md", "sleeps near the quarry")
    assert made.n_refused == len(PAGES) - 1
    plain = golden_generation.generate(services, "default", 3, source="sentences")
    assert (plain.generator, len(plain.questions)) == ("sentences-1", 3)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "no JSON",
        "{",
        "[]",
        "{}",
        '{"question": 1, "quote": "warm"}',
        '{"question": " ", "quote": "warm"}',
    ],
)
def test_a_reply_that_is_no_question_is_left_out(reply: str) -> None:
    assert golden_asking.parse(reply, "Keep it warm.") is None
    made_up = json.dumps({"question": "What?", "quote": "Keep it cold."})
    assert golden_asking.parse(made_up, "Keep it warm.") is None


def listed(services: Services) -> list[questions.GoldenQuestion]:
    with services.read() as session:
        return questions.list_all(session, collection_id(services))
