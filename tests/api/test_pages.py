"""Pages of citations."""

from __future__ import annotations

import json
from io import BytesIO

from pptx import Presentation

from tests.api.conftest import Service
from tests.service import work


def page_of(service: Service, question: str) -> int | None:
    answer = service.client.post("/v1/answer", json={"query": question, "top_k": 3}).json()
    streamed = service.client.post("/v1/answer", json={"query": question, "top_k": 3, "stream": True}).text
    first = next(line for line in streamed.splitlines() if line.startswith("data: ") and '"quote"' in line)
    assert json.loads(first.removeprefix("data: "))["page"] == answer["citations"][0]["page"]
    page: int | None = answer["citations"][0]["page"]
    return page


def test_a_citation_names_the_page_it_begins_on_not_its_chunks(service: Service) -> None:
    deck = Presentation()
    for sentence in (
        "The lighthouse keeper counts the ships at dawn.",
        "The harbour master paints every buoy in spring.",
    ):
        slide = deck.slides.add_slide(deck.slide_layouts[5])
        slide.shapes.title.text = sentence
    file = BytesIO()
    deck.save(file)
    service.client.post("/v1/documents", files={"file": ("harbour.pptx", file.getvalue())})
    work(service.services)
    assert page_of(service, "who counts the ships at dawn") == 1
    assert page_of(service, "who paints every buoy in spring") == 2
