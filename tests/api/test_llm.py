"""Answers of a language model over HTTP: markers become quotes; a model that fails is bridged or named."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.generation.prompt import NO_ANSWER
from app.settings import LlmSettings
from tests.llm_server import LlmServer, Reply
from tests.service import running_service
from tests.unit.app.texts import PAGES, ingest

QUESTION = "When does a job return to the queue?"
TEXT = "A job returns to the queue when its lease ends [1]. Its worker renews the lease [1]."
KEY = "sk-very-secret"


class Asked:
    """A service with documents, and the language model that it asks."""

    def __init__(self, client: TestClient, server: LlmServer) -> None:
        self.client = client
        self.server = server

    def answer(self, **fields: Any) -> Any:
        reply = self.client.post("/v1/answer", json={"query": QUESTION, **fields})
        assert reply.status_code == 200, reply.text
        return reply.json()

    def events(self, **fields: Any) -> list[tuple[str, Any]]:
        """The events of a streamed answer, by name."""
        events, name = [], ""
        body = {"query": QUESTION, "stream": True, **fields}
        with self.client.stream("POST", "/v1/answer", json=body) as reply:
            assert reply.status_code == 200
            assert reply.headers["content-type"].startswith("text/event-stream")
            for line in reply.iter_lines():
                if line.startswith("event: "):
                    name = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    events.append((name, json.loads(line.removeprefix("data: "))))
        return events


class Ask:
    """Starts services; each has the same documents and a model of its own."""

    def __init__(self, folder: Path, template: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.template = template
        self.stack = stack

    def __call__(self, *script: Reply, **llm: Any) -> Asked:
        return self.stack.enter_context(self._opened(script, llm))

    @contextmanager
    def _opened(self, script: Sequence[Reply], llm: dict[str, Any]) -> Iterator[Asked]:
        home = self.folder / "home"
        home.mkdir()
        shutil.copyfile(self.template, home / "footnote.db")
        with LlmServer(script) as server:
            settings = LlmSettings(
                **{
                    "base_url": server.base_url,
                    "model": "tiny",
                    "api_key": KEY,
                    "timeout_seconds": 5.0,
                    **llm,
                }
            )
            with running_service(home, "", llm=settings) as (client, services):
                ingest(services, PAGES)
                yield Asked(client, server)


@pytest.fixture
def ask(tmp_path: Path, sqlite_template: Path) -> Iterator[Ask]:
    with ExitStack() as stack:
        yield Ask(tmp_path, sqlite_template, stack)


def test_every_marker_becomes_a_quote_of_the_source(ask: Ask) -> None:
    asked = ask(Reply(text=TEXT))
    answer = asked.answer()
    assert not answer["abstained"]
    assert answer["generator"] == "llm:tiny"
    assert answer["notes"] == []
    assert "when its lease ends" in answer["answer"]
    assert [claim["text"] for claim in answer["claims"]] == [
        answer["answer"][claim["start"] : claim["end"]] for claim in answer["claims"]
    ]
    assert len(answer["claims"]) == 2
    assert all(claim["citations"] for claim in answer["claims"])
    assert [citation["n"] for citation in answer["citations"]] == list(range(1, len(answer["citations"]) + 1))
    for citation in answer["citations"]:
        text = asked.client.get(f"/v1/documents/{citation['document_id']}/text").json()["text"]
        assert text[citation["start"] : citation["end"]] == citation["quote"] != ""
        assert citation["source"] == "leases.md"
        assert citation["chunk_id"] in {hit["chunk_id"] for hit in answer["hits"]}


def test_the_model_sees_the_question_and_the_passages_and_the_key_stays_in_the_header(ask: Ask) -> None:
    asked = ask(Reply(text=TEXT))
    answer = asked.answer()
    (request,) = asked.server.requests
    assert request.path == "/v1/chat/completions"
    assert request.body["model"] == "tiny"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert QUESTION in request.user
    assert "A job returns to the queue when its lease ends." in request.user
    assert KEY not in json.dumps(answer) + json.dumps(request.body)


def test_a_marker_that_names_no_passage_is_removed_and_counted(ask: Ask) -> None:
    answer = ask(Reply(text="It returns when the lease ends [1][97]. Pigs fly [98].")).answer()
    assert answer["dropped_markers"] == 2
    assert "97" not in answer["answer"]
    assert [claim["verdict"] == "uncited" for claim in answer["claims"]] == [False, True]
    assert answer["claims"][1]["citations"] == []


def test_a_model_that_declines_is_an_abstention(ask: Ask) -> None:
    answer = ask(Reply(text=NO_ANSWER)).answer()
    assert (answer["abstained"], answer["reason"], answer["answer"]) == (True, "declined_by_model", "")
    assert answer["citations"] == answer["claims"] == []


def test_without_passages_the_model_is_not_asked(ask: Ask) -> None:
    asked = ask(Reply(text=TEXT))
    answer = asked.answer(filters={"source": "nothing.md"})
    assert (answer["abstained"], answer["reason"]) == (True, "no_passages")
    assert asked.server.requests == []


def test_the_extractive_generator_can_be_asked_for_by_name(ask: Ask) -> None:
    asked = ask(Reply(text=TEXT))
    answer = asked.answer(generator="extractive")
    assert answer["generator"] == "extractive"
    assert asked.server.requests == []


@pytest.mark.parametrize("piece_chars", [1, 7, 1000])
def test_a_streamed_answer_is_the_whole_one_in_parts(ask: Ask, piece_chars: int) -> None:
    asked = ask(Reply(text=TEXT, piece_chars=piece_chars))
    whole = asked.answer()
    events = asked.events()
    names = [name for name, _ in events]
    assert (names[0], names[-1]) == ("hits", "done")
    assert "error" not in names
    assert "".join(data["text"] for name, data in events if name == "delta") == whole["answer"]
    done = events[-1][1]
    for field in ("answer", "claims", "citations", "confidence", "generator"):
        assert done[field] == whole[field]
    assert [data for name, data in events if name == "claim"] == whole["claims"]
    assert [data for name, data in events if name == "citation"] == whole["citations"]


FAILURES = [
    pytest.param(Reply(status=429, headers={"Retry-After": "0"}), "llm_rate_limited", id="429"),
    pytest.param(Reply(status=503, headers={"Retry-After": "0"}), "llm_unavailable", id="503"),
    pytest.param(Reply(status=401), "llm_rejected", id="401"),
    pytest.param(Reply(silent_seconds=2.0, text=TEXT), "llm_timeout", id="silence"),
    pytest.param(Reply(body="<html>", content_type="text/html"), "llm_bad_response", id="no completion"),
]


@pytest.mark.parametrize(("reply", "code"), FAILURES)
def test_a_model_that_fails_is_bridged_with_a_note(ask: Ask, reply: Reply, code: str) -> None:
    asked = ask(reply, timeout_seconds=0.5)
    answer = asked.answer()
    assert not answer["abstained"]
    assert answer["generator"] == "extractive"
    (note,) = answer["notes"]
    assert note.startswith(f"{code}: ")
    assert KEY not in note
    events = asked.events()
    assert [name for name, _ in events if name == "error"] == []
    assert events[-1][1]["notes"][0].startswith(f"{code}: ")


@pytest.mark.parametrize(("reply", "code"), FAILURES)
def test_without_the_bridge_it_is_a_problem_and_an_error_event(ask: Ask, reply: Reply, code: str) -> None:
    asked = ask(reply, timeout_seconds=0.5, fallback=False)
    failed = asked.client.post("/v1/answer", json={"query": QUESTION})
    assert (failed.status_code, failed.json()["code"]) == (502, code)
    assert failed.headers["content-type"] == "application/problem+json"
    assert KEY not in failed.text
    events = asked.events()
    assert [name for name, _ in events] == ["hits", "error"]
    body = events[-1][1]
    assert (body["status"], body["code"]) == (502, code)
    assert body["request_id"], "the stream is part of its request"


def test_a_model_that_breaks_off_is_an_error_even_with_the_bridge(ask: Ask) -> None:
    """What was sent cannot be taken back."""
    asked = ask(Reply(text=TEXT, ending="broken"))
    events = asked.events()
    names = [name for name, _ in events]
    assert "delta" in names
    assert names[-1] == "error"
    assert events[-1][1]["code"] == "llm_bad_response"
    whole = asked.client.post("/v1/answer", json={"query": QUESTION})
    assert (whole.status_code, whole.json()["code"]) == (502, "llm_bad_response")


def test_a_refused_request_is_sent_again_and_then_answered(ask: Ask) -> None:
    asked = ask(Reply(status=429, headers={"Retry-After": "0"}), Reply(text=TEXT))
    answer = asked.answer()
    assert (answer["generator"], answer["notes"]) == ("llm:tiny", [])
    assert len(asked.server.requests) == 2


def test_an_answer_that_reached_its_limit_says_so(ask: Ask) -> None:
    answer = ask(Reply(text=TEXT, finish_reason="length")).answer()
    assert answer["notes"] == ["cut_off: the answer reached the limit of tokens"]


def test_a_model_that_is_not_there_is_bridged_at_once(ask: Ask) -> None:
    asked = ask(Reply(), base_url="http://127.0.0.1:9/v1")
    (note,) = asked.answer()["notes"]
    assert note.startswith("llm_unavailable: ")
