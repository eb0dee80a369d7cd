"""Questions and expansions: what is made of chunks, how it is found, and that it goes with its chunks."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from app.db import expansions, jobs, versions
from app.db import nodes as node_rows
from app.db.tables import NodeRow
from app.documents import deleting
from app.errors import InvalidRequest
from app.nodes import expanding
from app.nodes.expansion_writers import ExpansionKind, How, chosen_how
from app.search.searching import SearchRequest, SearchResult, search
from app.services import Services, open_services
from app.settings import ExpansionSettings
from app.upkeep import upkeep
from indexing.encoding.fake import WordEncoder
from indexing.errors import LanguageModelError
from indexing.language_model import Message, ScriptedLanguageModel
from retrievers.errors import ModeUnavailable
from tests.service import settings_for, work
from tests.unit.app.texts import collection_id, ingest

# Two pages about one matter in other words, one about another.
TEXTS = {
    "queue.md": "A job returns to the queue when its lease ends. Workers renew a lease.",
    "lock.md": "A job keeps its lease while the worker beats. The reaper takes stale locks of a lease.",
    "tea.md": "Warm the pot before the green leaves go in.",
    "pot.md": "A pot of green leaves wants cooler water from the kettle.",
}


def asking(messages: Sequence[Message], _seed: int) -> str:
    """Questions of the words of the passage, and one that strays."""
    words = re.findall(r"\w+", messages[-1].content)[1:-1]
    return f"1. Who {' '.join(words[:6])}?\n2. What {' '.join(words[-6:])}?\n3. Is the moon made of cheese?"


@pytest.fixture
def services(database_url: str, tmp_path: Path) -> Iterator[Services]:
    with opened(tmp_path, database_url) as opened_services:
        ingest(opened_services, TEXTS)
        yield opened_services


@pytest.fixture
def lone(tmp_path: Path, sqlite_template: Path) -> Iterator[Services]:
    """Services on SQLite alone, for what is no matter of the database."""
    (tmp_path / "footnote.db").write_bytes(sqlite_template.read_bytes())
    with opened(tmp_path, "") as opened_services:
        ingest(opened_services, TEXTS)
        yield opened_services


def opened(home: Path, url: str, **areas: Any) -> Any:
    return open_services(settings_for(home, url, **areas), load=lambda _spec, _dir: WordEncoder())


def with_model(services: Services, reply: Any = asking) -> Services:
    services.__dict__["language_model"] = ScriptedLanguageModel(reply=reply)
    return services


def expand(services: Services, kind: ExpansionKind = "expansion", how: How = "neighbours") -> Any:
    return expanding.expand(services, collection_id(services), kind, how)


def found(services: Services, query: str, mode: Any, **fields: Any) -> SearchResult:
    return search(services, SearchRequest(query=query, mode=mode, **fields))


def sources(result: SearchResult) -> list[str]:
    return [passage.source for passage in result.passages]


def texts_of(services: Services, kind: str) -> list[str]:
    with services.read() as session:
        return list(session.scalars(select(NodeRow.text).where(NodeRow.kind == kind).order_by(NodeRow.id)))


def document_id(services: Services, source: str) -> int:
    (passage,) = [p for p in found(services, "a", "dense").passages if p.source == source]
    return int(passage.chunk.document_id)


def test_a_chunk_is_found_by_the_words_of_its_neighbour(services: Services) -> None:
    assert sources(found(services, "reaper", "bm25")) == ["lock.md"]
    made = expand(services)
    assert (made.kind, made.model, made.n_chunks, made.n_nodes) == ("expansion", "neighbours-10-20", 4, 4)
    result = found(services, "reaper", "expanded")
    assert sources(result)[:1] == ["lock.md"]
    assert "queue.md" in sources(result)
    first = result.passages[0]
    assert first.score == pytest.approx(first.scores["bm25"] + 0.5 * first.scores["expansion"])


def test_what_was_made_is_never_a_source(lone: Services) -> None:
    expand(lone)
    expand(with_model(lone), "question", "llm")
    made = {*texts_of(lone, "expansion"), *texts_of(lone, "question")}
    assert made
    for mode in ("expanded", "questions"):
        for passage in found(lone, "who returns to the queue", mode).passages:
            assert passage.chunk.text in TEXTS[passage.source]
            assert passage.chunk.text not in made


def test_made_twice_it_is_there_once(services: Services) -> None:
    first = expand(services)
    assert texts_of(services, "expansion")
    again = expand(services)
    assert (first.n_nodes, again.n_chunks, again.n_nodes) == (4, 0, 0)


def test_stopped_amid_it_goes_on_where_it_was(lone: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expanding, "CHUNKS_A_BATCH", {"neighbours": 1, "llm": 1})

    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        expanding.expand(lone, collection_id(lone), "expansion", "neighbours", stop)
    assert len(texts_of(lone, "expansion")) == 2
    assert expand(lone).n_chunks == 2
    assert len(texts_of(lone, "expansion")) == 4


def test_with_a_chunk_goes_what_tells_of_it(services: Services) -> None:
    """Also the expansions of other chunks that took words from it; its own questions."""
    expand(services)
    expand(with_model(services), "question", "llm")
    assert any("reaper" in text for text in texts_of(services, "expansion"))
    deleting.delete(services, document_id(services, "lock.md"))
    for kind in ("expansion", "question"):
        assert not any("reaper" in text for text in texts_of(services, kind)), kind
    assert sources(found(services, "reaper", "expanded")) == []
    with services.read() as session:
        assert node_rows.dangling(session, collection_id(services)) == set()
    expand(services)
    assert len(texts_of(services, "expansion")) == 3
    assert sources(found(services, "reaper", "expanded")) == []


def test_questions_lead_to_their_chunk(lone: Services) -> None:
    made = expand(with_model(lone), "question", "llm")
    assert made.model == "scripted/questions-1"
    assert made.n_nodes + made.n_dropped == 12
    questions = texts_of(lone, "question")
    assert len(questions) == made.n_nodes
    asked = next(text for text in questions if "kettle" in text)
    result = found(lone, asked, "questions")
    assert sources(result)[0] == "pot.md"
    first = result.passages[0]
    assert first.score == pytest.approx(first.scores["questions"], abs=1e-3) == pytest.approx(1, abs=1e-3)
    assert first.scores["dense"] < first.scores["questions"]
    assert len(result.passages) == 4, "chunks whose questions are far away come too"


def test_questions_that_stray_are_dropped(lone: Services) -> None:
    made = expand(with_model(lone), "question", "llm")
    assert made.n_dropped >= 3
    assert sum("cheese" in text for text in texts_of(lone, "question")) <= 1


def test_questions_of_a_model_can_be_the_expansion(services: Services) -> None:
    expand(services)
    made = expand(with_model(services), "expansion", "llm")
    assert made.n_nodes == 4
    texts = texts_of(services, "expansion")
    assert len(texts) == 4, "in place of the neighbours' words"
    assert all(text.startswith(("Who", "What")) for text in texts)
    assert "lock.md" in sources(found(services, "who keeps", "expanded"))


@pytest.mark.parametrize("mode", ["expanded", "questions"])
def test_a_filter_holds(services: Services, mode: Any) -> None:
    expand(services)
    expand(with_model(services), "question", "llm")
    only = {"source": {"$in": ["queue.md", "pot.md"]}}
    for query in ("reaper lease", "green leaves pot", "job"):
        result = found(services, query, mode, filters=only)
        assert set(sources(result)) <= {"queue.md", "pot.md"}
        if mode == "questions":
            assert len(result.passages) == 2
    assert sources(found(services, "reaper", "expanded", filters=only))[0] == "queue.md"


@pytest.mark.parametrize("mode", ["expanded", "questions"])
def test_a_mode_without_what_it_needs_says_what_to_do(lone: Services, mode: Any) -> None:
    with pytest.raises(ModeUnavailable, match="footnote expand"):
        found(lone, "lease", mode)


def test_questions_without_a_model_say_what_to_set(lone: Services) -> None:
    with pytest.raises(InvalidRequest, match="FOOTNOTE_LLM_BASE_URL") as raised:
        chosen_how(lone, "question")
    assert raised.value.code == "llm_not_configured"
    assert chosen_how(lone, "expansion") == "neighbours"
    assert chosen_how(with_model(lone), "expansion") == "llm"


def test_the_setting_chooses_what_expands(tmp_path: Path) -> None:
    with opened(tmp_path, "", expansion=ExpansionSettings(model="neighbours")) as services:
        assert chosen_how(with_model(services), "expansion") == "neighbours"
        assert chosen_how(services, "question") == "llm"


def test_a_model_that_fails_on_some_chunks_leaves_them_for_later(lone: Services) -> None:
    def failing(messages: Sequence[Message], seed: int) -> str:
        if "kettle" in messages[-1].content:
            raise LanguageModelError("bad_response", "garbled")
        return asking(messages, seed)

    made = expand(with_model(lone, failing), "question", "llm")
    assert (made.n_chunks, made.n_failed) == (4, 1)
    assert not any("kettle" in text for text in texts_of(lone, "question"))
    assert expand(with_model(lone), "question", "llm").n_chunks >= 1
    assert any("kettle" in text for text in texts_of(lone, "question"))


def test_a_model_that_is_gone_ends_the_work_by_name(lone: Services) -> None:
    def failing(_messages: Sequence[Message], _seed: int) -> str:
        raise LanguageModelError("unavailable", "not there")

    with pytest.raises(LanguageModelError):
        expand(with_model(lone, failing), "question", "llm")
    assert texts_of(lone, "question") == []


def test_a_job_does_it_and_says_what_came_of_it(services: Services) -> None:
    with services.write() as session:
        job = jobs.enqueue(
            session,
            upkeep.EXPAND,
            payload={"expand": "expansion"},
            collection_id=collection_id(services),
        ).job
    work(services)
    with services.read() as session:
        done = jobs.get(session, job.id)
        kept_up = expansions.all_wanted(session)
    assert (done.status, done.result and done.result["n_nodes"]) == ("succeeded", 4)
    assert kept_up == [(collection_id(services), "expansion", "neighbours")]


def test_what_comes_later_is_expanded_too(services: Services) -> None:
    expand(services)
    expanding.keep_up(services, collection_id(services), "expansion", "neighbours")
    ingest(services, {"reap.md": "The reaper of a lease takes stale locks at noon."})
    keeping = expanding.Keeping(services)
    assert keeping.step(lambda: False)
    with services.read() as session:
        row = versions.active(session, collection_id(services))
        assert row is not None
        lacking = expansions.n_missing(
            session, row.collection_id, row.chunker_fingerprint, "expansion", "neighbours-10-20"
        )
    assert lacking == 0
    assert not keeping.step(lambda: False), "looks only now and then"


def test_removed_it_is_gone_and_not_made_again(services: Services) -> None:
    expand(services)
    expanding.keep_up(services, collection_id(services), "expansion", "neighbours")
    assert expanding.remove(services, collection_id(services), "expansion") == 4
    assert texts_of(services, "expansion") == []
    assert not expanding.Keeping(services).step(lambda: False)
    with services.read() as session:
        assert expansions.all_wanted(session) == []


def test_a_plan_counts_and_makes_nothing(services: Services) -> None:
    planned = expanding.plan(services, collection_id(services), "expansion", "neighbours")
    assert (planned.model, planned.n_chunks) == ("neighbours-10-20", 4)
    assert texts_of(services, "expansion") == []
