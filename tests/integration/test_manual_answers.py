"""The manual answers questions about itself, with the encoder that ships and nothing else."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.cli.ingest import ingest_files
from app.generation.extractive import DEFAULT_MIN_CONFIDENCE
from app.main import create_app
from app.services import Services, open_services
from tests.service import settings_for

DOCS = Path(__file__).parents[2] / "docs"
QUESTIONS = [json.loads(line) for line in (DOCS / "manual_questions.jsonl").read_text("utf-8").splitlines()]
OFF_TOPIC = (
    "Who won the football world cup in 1998?",
    "How long should I boil an egg?",
    "What is the capital of Mongolia?",
)
MAY_MISS = 1


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """A service that has read the manual."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("FOOTNOTE_")]:
            patch.delenv(name)
        settings = settings_for(tmp_path_factory.mktemp("manual") / "home", "")
    with open_services(settings) as services:
        pages = sorted(path for path in (DOCS / "manual").iterdir() if not path.name.startswith("_"))
        report = ingest_files(services, [(path, path.name) for path in pages], "default", say=lambda *_: None)
        assert report.failed == []
        assert len(report.ready) == len(pages)
        yield services


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[TestClient]:
    with TestClient(create_app(services)) as client:
        yield client


@pytest.fixture(scope="module")
def answers(client: TestClient) -> dict[str, Any]:
    """The answer to each question."""
    return {item["question"]: ask(client, item["question"]) for item in QUESTIONS}


def ask(client: TestClient, question: str) -> Any:
    reply = client.post("/v1/answer", json={"query": question})
    assert reply.status_code == 200, reply.text
    return reply.json()


def squeezed(text: str) -> str:
    """Without the marks and breaks that a format adds."""
    return " ".join(text.replace("`", "").split())


def test_each_question_is_answered_from_its_page(answers: dict[str, Any]) -> None:
    missed = []
    for item in QUESTIONS:
        answer = answers[item["question"]]
        right = [
            citation
            for citation in answer["citations"]
            if citation["source"] == item["page"]
            and squeezed(item["contains"]) in squeezed(citation["quote"])
        ]
        if answer["abstained"] or not right:
            given = [(citation["source"], citation["quote"]) for citation in answer["citations"]]
            missed.append(f"{item['question']} → {answer['reason'] or given}")
    assert len(missed) <= MAY_MISS, "\n".join(missed)


def test_every_citation_is_the_exact_characters_of_its_page(
    client: TestClient, answers: dict[str, Any]
) -> None:
    n_citations = 0
    for answer in answers.values():
        for citation in answer["citations"]:
            text = client.get(f"/v1/documents/{citation['document_id']}/text").json()["text"]
            assert text[citation["start"] : citation["end"]] == citation["quote"] != ""
            n_citations += 1
        for claim in answer["claims"]:
            assert claim["citations"], "no sentence is without a footnote"
            assert claim["verdict"] == "supported", "it is quoted word for word"
    assert n_citations >= len(QUESTIONS) - MAY_MISS


def test_a_citation_of_a_pdf_has_its_page(client: TestClient, answers: dict[str, Any]) -> None:
    pages = []
    for item in QUESTIONS:
        if item["page"].endswith(".pdf"):
            for citation in answers[item["question"]]["citations"]:
                if citation["source"] == item["page"]:
                    pages.append(citation["page"])
                    listed = client.get(f"/v1/documents/{citation['document_id']}/text").json()["pages"]
                    (on,) = [page for page in listed if page["page"] == citation["page"]]
                    assert on["start"] <= citation["start"] < on["end"]
    assert pages
    assert all(page >= 1 for page in pages)


@pytest.mark.parametrize("question", OFF_TOPIC)
def test_what_the_manual_does_not_say_is_refused(client: TestClient, question: str) -> None:
    answer = ask(client, question)
    assert (answer["abstained"], answer["answer"], answer["citations"]) == (True, "", [])
    assert answer["reason"] in ("nothing_close_enough", "no_passages")
    assert answer["confidence"] < DEFAULT_MIN_CONFIDENCE
