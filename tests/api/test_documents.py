"""Documents over HTTP: sent in, ingested, read, replaced, deleted."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import Service
from tests.service import send_text, work

TEA = "# Tea\n\nWarm the pot with hot water before the leaves go in. Let it draw for four minutes.\n"
COFFEE = "# Coffee\n\nGrind the beans coarsely for a press and finely for espresso.\n"


def test_a_text_becomes_searchable_and_its_offsets_are_exact(service: Service) -> None:
    document = service.send(TEA, "tea.md", metadata={"kind": "drink"})
    assert document["status"] == "ready"
    assert document["title"] == "Tea"
    assert document["n_chunks"] == 1
    text = service.client.get(f"/v1/documents/{document['id']}/text").json()["text"]
    hits = service.client.post("/v1/search", json={"query": "warm the pot"}).json()["hits"]
    assert [hit["rank"] for hit in hits] == [1]
    assert text[hits[0]["start"] : hits[0]["end"]] == hits[0]["text"]
    assert set(hits[0]["scores"]) == {"bm25", "dense", "maxsim"}


def test_a_file_is_sent_as_a_form(service: Service) -> None:
    reply = service.client.post(
        "/v1/documents",
        files={"file": ("tea.txt", TEA.encode(), "text/plain")},
        data={"metadata": json.dumps({"year": 2024}), "title": "On tea"},
    )
    assert reply.status_code == 202
    body = reply.json()
    assert body["document"]["status"] == "pending"
    assert body["job"]["status"] == "todo"
    work(service.services)
    document = service.client.get(f"/v1/documents/{body['document']['id']}").json()
    assert (document["status"], document["title"], document["source"]) == ("ready", "On tea", "tea.txt")
    assert document["metadata"]["year"] == 2024
    file = service.client.get(f"/v1/documents/{document['id']}/file")
    assert file.content == TEA.encode()
    assert "attachment" in file.headers["content-disposition"]


def test_the_same_source_and_bytes_change_nothing(service: Service) -> None:
    service.send(TEA, "tea.md")
    reply = service.client.post("/v1/documents", json={"text": TEA, "source": "tea.md"})
    assert reply.status_code == 200
    assert reply.json()["job"] is None
    assert len(service.client.get("/v1/documents").json()["data"]) == 1


def test_new_bytes_replace_the_old_ones_when_they_are_ready(service: Service) -> None:
    first = service.send(TEA, "note.md")
    send_text(service.client, COFFEE, "note.md")
    assert service.sources("warm the pot") == ["note.md"], "served until the new revision is ready"
    work(service.services)
    second = service.client.get(f"/v1/documents/{first['id']}").json()
    assert (second["revision"], second["title"], second["status"]) == (2, "Coffee", "ready")
    assert service.sources("grind the beans", mode="bm25") == ["note.md"]
    assert service.sources("warm the pot", mode="bm25") == []
    assert not service.services.store.path(first["content_hash"]).exists()


def test_a_deleted_document_is_found_no_more(service: Service) -> None:
    document = service.send(TEA, "tea.md")
    service.send(COFFEE, "coffee.md")
    receipt = service.client.delete(f"/v1/documents/{document['id']}").json()
    assert receipt["removed"] == {"chunks": 1, "revisions": 1, "files": 1}
    for mode in ("bm25", "dense", "hybrid", "rrf", "rank_bm25"):
        assert "tea.md" not in service.sources("warm the pot", mode=mode), "before the index has followed"
    work(service.services)
    assert service.sources("warm the pot", mode="dense") == ["coffee.md"]
    assert service.client.get(f"/v1/documents/{document['id']}").status_code == 404


def test_a_patched_title_is_searched_and_metadata_is_filtered(service: Service) -> None:
    document = service.send(TEA, "tea.md", metadata={"year": 2020, "draft": True})
    reply = service.client.patch(
        f"/v1/documents/{document['id']}", json={"title": "Brewing manual", "metadata": {"draft": None}}
    )
    assert reply.json()["title"] == "Brewing manual"
    assert reply.json()["metadata"] == {"year": 2020}
    work(service.services)
    assert service.sources("brewing manual", mode="bm25") == ["tea.md"]
    assert service.sources("pot", filters={"year": {"$gte": 2020}}) == ["tea.md"]
    assert service.sources("pot", filters={"draft": True}) == []


def test_a_file_that_gives_no_text_fails_by_name_and_holds_up_no_other(service: Service) -> None:
    bad = service.client.post("/v1/documents", files={"file": ("x.pdf", b"%PDF-1.7 broken")}).json()
    empty = service.client.post("/v1/documents", files={"file": ("e.txt", b"  \n")}).json()
    odd = service.client.post("/v1/documents", files={"file": ("a.xyz", bytes(range(256)) * 9)}).json()
    good = send_text(service.client, TEA, "tea.md")
    work(service.services)

    def shown(body: dict) -> dict:
        return service.client.get(f"/v1/documents/{body['document']['id']}").json()

    assert shown(good)["status"] == "ready"
    assert [shown(body)["status"] for body in (bad, empty, odd)] == ["failed"] * 3
    codes = [shown(body)["error"]["code"] for body in (bad, empty, odd)]
    assert codes == ["corrupt_file", "empty_file", "unsupported_format"]
    job = service.client.get(f"/v1/jobs/{bad['job']['id']}").json()
    assert (job["status"], job["error"]["code"], job["attempts"]) == ("failed", "corrupt_file", 1)


def test_failed_content_sent_again_is_tried_again(service: Service) -> None:
    service.client.post("/v1/documents", files={"file": ("x.pdf", b"%PDF-1.7 broken")})
    work(service.services)
    again = service.client.post("/v1/documents", files={"file": ("x.pdf", b"%PDF-1.7 broken")})
    assert again.status_code == 202
    assert again.json()["document"]["status"] == "pending"


def test_chunks_come_in_reading_order(service: Service) -> None:
    sections = "".join(
        f"## Part {n}\n\n" + f"Sentence number {n} speaks of part {n} at length. " * 40 + "\n\n"
        for n in range(4)
    )
    document = service.send(f"# Long\n\n{sections}", "long.md")
    chunks = service.client.get(f"/v1/documents/{document['id']}/chunks").json()["data"]
    text = service.client.get(f"/v1/documents/{document['id']}/text").json()["text"]
    assert len(chunks) == document["n_chunks"] > 4
    assert [chunk["ordinal"] for chunk in chunks] == list(range(len(chunks)))
    assert all(text[chunk["start"] : chunk["end"]] == chunk["text"] for chunk in chunks)
    assert chunks[-1]["heading_path"] == ["Long", "Part 3"]


def test_pages_of_the_listing_neither_skip_nor_repeat(service: Service) -> None:
    for n in range(5):
        send_text(service.client, f"Text {n}", f"{n}.md")
    seen, cursor = [], None
    while True:
        params = {"limit": 2} | ({"cursor": cursor} if cursor else {})
        page = service.client.get("/v1/documents", params=params).json()
        seen += [document["source"] for document in page["data"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(seen) == [f"{n}.md" for n in range(5)]


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        ({"json": {}}, 422, "invalid_request"),
        ({"json": {"text": "x", "unknown": 1}}, 422, "invalid_request"),
        ({"json": {"text": "x", "collection": "../etc"}}, 422, "invalid_request"),
        ({"json": {"text": "x", "collection": "nowhere"}}, 404, "collection_not_found"),
        ({"json": {"text": "x", "source": "a\x00b"}}, 422, "invalid_text"),
        ({"content": b"\xff\xfe not json"}, 422, "invalid_request"),
        ({"data": {"title": "no file"}, "files": {"other": b"x"}}, 422, "invalid_request"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"metadata": "[1]"}}, 422, "invalid_request"),
        ({"files": {"file": ("a.txt", b"x")}, "data": {"metadata": "{"}}, 422, "invalid_request"),
    ],
)
def test_bad_input_gets_a_problem_and_leaves_nothing(
    service: Service, sent: dict, status: int, code: str
) -> None:
    reply = service.client.post("/v1/documents", **sent)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    assert service.client.get("/v1/documents").json()["data"] == []
