"""Deletions over HTTP: a receipt with the answer, kept to be read later, on both databases."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from tests.api.conftest import Service

TEA = "# Tea\n\nWarm the pot before the leaves go in."
COFFEE = "# Coffee\n\nGrind the beans, pour in circles."


def test_a_deletion_is_answered_with_a_receipt_that_is_kept(service: Service) -> None:
    tea = service.send(TEA, "tea.md", metadata={"kind": "leaf"})
    service.send(COFFEE, "coffee.md")
    answer = service.client.delete(f"/v1/documents/{tea['id']}").json()
    receipt = answer["receipt"]
    assert answer["removed"] == {"chunks": 1, "revisions": 1, "files": 1}
    assert receipt["document_ids"] == [tea["id"]]
    assert receipt["rows"]["attributes"] == receipt["rows"]["vectors"] == 1
    assert [(probe["n_found_before"], probe["n_found_after"]) for probe in receipt["probe"]] == [(1, 0)] * 2
    assert (receipt["pending"], receipt["purged_at"]) == ([], None)
    assert service.client.get(f"/v1/deletions/{receipt['id']}").json() == receipt
    assert service.client.get("/v1/deletions").json() == {"data": [receipt], "next_cursor": None}
    assert "tea.md" not in service.client.get("/v1/deletions").text
    assert service.client.get("/v1/deletions/none").json()["code"] == "deletion_not_found"
    assert service.client.delete(f"/v1/documents/{tea['id']}").status_code == 404
    assert service.sources("pot", mode="dense") == ["coffee.md"]


def test_receipts_come_in_pages(service: Service) -> None:
    ids = [service.send(f"{TEA} {number}", f"{number}.md")["id"] for number in range(3)]
    for document_id in ids:
        service.client.delete(f"/v1/documents/{document_id}")
    first = service.client.get("/v1/deletions?limit=2").json()
    rest = service.client.get(f"/v1/deletions?limit=2&cursor={first['next_cursor']}").json()
    assert [item["document_ids"][0] for item in first["data"] + rest["data"]] == ids[::-1]
    assert rest["next_cursor"] is None
    assert service.client.get("/v1/deletions?collection=other").json()["data"] == []
    assert service.client.get("/v1/deletions?cursor=x").json()["code"] == "invalid_cursor"


def test_many_are_deleted_by_what_they_have_in_common(service: Service) -> None:
    for source, year in {"a/tea.md": 2014, "a/coffee.md": 2024, "b/tea.md": 2014}.items():
        service.send(f"{TEA} {source}", source, metadata={"year": year})
    body = {"source": "a/*", "filters": {"year": {"$lt": 2020}}}
    dry = service.client.post("/v1/documents/delete", json={**body, "dry_run": True}).json()
    done = service.client.post("/v1/documents/delete", json=body).json()
    assert (dry["n_documents"], dry["ids"], dry["receipts"]) == (1, done["ids"], [])
    assert done["receipts"][0]["rows"]["documents"] == 1
    assert set(service.sources("pot", mode="bm25")) == {"a/coffee.md", "b/tea.md"}
    nothings: list[dict[str, object]] = [{}, {"filters": {}}]
    for nothing in nothings:
        refused = service.client.post("/v1/documents/delete", json=nothing)
        assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert service.client.post("/v1/documents/delete", json={"filters": {"$x": 1}}).status_code == 422
    left = [row["id"] for row in service.client.get("/v1/documents").json()["data"]]
    both = service.client.post("/v1/documents/delete", json={"ids": left, "purge": True}).json()
    assert both["n_documents"] == 2
    assert both["receipts"][0]["purged_at"] is not None


def test_a_collection_is_deleted_with_a_receipt_that_outlives_it(service: Service) -> None:
    service.client.post("/v1/collections", json={"name": "papers"})
    service.send(TEA, "tea.md", collection="papers")
    receipt = service.client.delete("/v1/collections/papers").json()["receipt"]
    assert (receipt["kind"], receipt["rows"]["documents"], receipt["files"]["removed"]) == (
        "collection",
        1,
        1,
    )
    assert service.client.get("/v1/deletions?collection=papers").json()["data"] == [receipt]
    purged = service.client.post("/v1/deletions/purge", json={"collection": "papers"}).json()
    assert (purged["deletions"], purged["pending"]) == ([receipt["id"]], [])


def test_a_purge_says_what_it_did(service: Service, database: str) -> None:
    tea = service.send(TEA, "tea.md")
    receipt = service.client.delete(f"/v1/documents/{tea['id']}?purge=true").json()["receipt"]
    assert receipt["purged_at"] is not None
    said = service.client.post("/v1/deletions/purge", json={}).json()
    assert said["deletions"] == []
    assert said["database"].startswith("sqlite" if database == "sqlite" else "postgresql")


def test_a_request_repeated_after_the_deletion_brings_nothing_back(service: Service) -> None:
    key = {"Idempotency-Key": "one"}
    body = {"text": TEA, "source": "tea.md"}
    document = service.client.post("/v1/documents", json=body, headers=key).json()["document"]
    receipt = service.client.delete(f"/v1/documents/{document['id']}").json()["receipt"]
    assert receipt["rows"]["redacted_answers"] == 1
    again = service.client.post("/v1/documents", json=body, headers=key)
    assert (again.status_code, again.json()["code"]) == (410, "document_deleted")
    assert "tea.md" not in again.text
    assert service.client.get("/v1/documents").json()["data"] == []


def test_of_many_who_delete_the_same_one_gets_the_receipt(service: Service) -> None:
    tea = service.send(TEA, "tea.md")
    with ThreadPoolExecutor(8) as pool:
        statuses = list(
            pool.map(lambda _: service.client.delete(f"/v1/documents/{tea['id']}").status_code, range(8))
        )
    assert sorted(statuses) == [200] + [404] * 7
    assert len(service.client.get("/v1/deletions").json()["data"]) == 1


def test_sixteen_uploads_of_one_source_give_one_document(service: Service) -> None:
    texts = [f"{TEA} Version {number}." for number in range(4)]

    def send(number: int) -> int:
        body = {"text": texts[number % 4], "source": "tea.md"}
        return service.client.post("/v1/documents", json=body).status_code

    with ThreadPoolExecutor(16) as pool:
        statuses = set(pool.map(send, range(16)))
    assert statuses <= {200, 202}
    (document,) = service.client.get("/v1/documents").json()["data"]
    shown = service.send(texts[0], "tea.md")
    assert shown["id"] == document["id"]
    assert (shown["status"], shown["n_chunks"]) == ("ready", 1)
    assert service.client.get(f"/v1/documents/{shown['id']}/text").json()["text"].endswith("Version 0.")
    assert service.sources("pot", mode="bm25") == ["tea.md"]
