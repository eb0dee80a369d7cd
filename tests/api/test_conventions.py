"""What a program that knows HTTP takes for granted."""

from __future__ import annotations

from tests.api.conftest import Service
from tests.service import send_text, work

TEA = "# Tea\n\nWarm the pot before the leaves go in.\n"


def test_head_is_get_without_its_body(service: Service) -> None:
    for path in ("/", "/health/live", "/health/ready", "/metrics", "/openapi.json", "/v1/documents"):
        whole, head = service.client.get(path), service.client.head(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-type"] == whole.headers["content-type"]
        assert head.headers["x-request-id"]
    assert 'method="HEAD",route="/health/live"' in service.client.get("/metrics").text
    waiting = send_text(service.client, TEA, "tea.md")["job"]["id"]
    head = service.client.head(f"/v1/jobs/{waiting}/events")
    assert (head.status_code, head.content) == (200, b""), "a stream is not waited for"
    assert service.client.head(f"/v1/documents/{'0' * 16}").status_code == 404
    assert service.client.head("/v1/search").status_code == 405


def test_a_wrong_method_is_told_the_right_one(service: Service) -> None:
    reply = service.client.put("/v1/search")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


def test_errors_are_described_as_they_are_sent(service: Service) -> None:
    described = service.client.get("/openapi.json").json()
    problem = described["components"]["schemas"]["Problem"]
    sent = service.client.post("/v1/search", json={"query": ""}).json()
    assert set(sent) <= set(problem["properties"])
    assert set(problem["required"]) <= set(sent)
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            assert "422" not in operation["responses"], (method, path)
            content = operation["responses"]["default"]["content"]
            assert content == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }, (method, path)


def test_json_without_its_content_type_is_told_so(service: Service) -> None:
    for headers in ({}, {"Content-Type": "application/x-www-form-urlencoded"}):
        reply = service.client.post("/v1/search", content=b'{"query": "tea"}', headers=headers)
        assert (reply.status_code, reply.json()["code"]) == (422, "invalid_request")
        assert "Content-Type: application/json" in reply.json()["detail"]


def test_a_media_type_has_no_case(service: Service) -> None:
    part = b'Content-Disposition: form-data; name="file"; filename="tea.md"\r\n\r\nWarm the pot.'
    form = b"--X\r\n" + part + b"\r\n--X--\r\n"
    headers = {"Content-Type": "Multipart/Form-Data; boundary=X"}
    reply = service.client.post("/v1/documents", content=form, headers=headers)
    assert (reply.status_code, reply.json()["document"]["source"]) == (202, "tea.md")


def test_every_list_has_data_and_a_cursor(service: Service) -> None:
    for path in ("collections", "documents", "jobs", "indexes", "golden", "deletions"):
        body = service.client.get(f"/v1/{path}").json()
        assert (type(body["data"]), body["next_cursor"]) == (list, None), path


def test_a_body_in_which_nothing_is_required_may_be_left_out(service: Service) -> None:
    service.send(TEA, "tea.md")
    for path in ("golden/run", "deletions/purge", "indexes"):
        assert service.client.post(f"/v1/{path}").status_code in (200, 202), path


def test_a_stream_that_cannot_begin_is_refused_as_the_whole_answer_is(service: Service) -> None:
    for body, status, code in (
        ({"collection": "nowhere"}, 404, "collection_not_found"),
        ({"filters": {"year": {"$near": 1}}}, 422, "invalid_filter"),
        ({"generator": "llm"}, 422, "llm_not_configured"),
        ({"transform": "hyde"}, 422, "llm_not_configured"),
        ({"rerank": "cross_encoder"}, 422, "reranker_not_configured"),
    ):
        for stream in (False, True):
            reply = service.client.post("/v1/answer", json={"query": "x", "stream": stream, **body})
            assert (reply.status_code, reply.json()["code"]) == (status, code), body


def test_the_same_bytes_change_nothing_while_they_wait_either(service: Service) -> None:
    first = send_text(service.client, TEA, "tea.md")
    again = service.client.post("/v1/documents", json={"text": TEA, "source": "tea.md"})
    assert (again.status_code, again.json()["job"]) == (200, first["job"])
    other = service.client.post("/v1/documents", json={"text": TEA + "More.", "source": "tea.md"})
    assert other.status_code == 202
    back = service.client.post("/v1/documents", json={"text": TEA, "source": "tea.md"})
    assert back.status_code == 202
    work(service.services)
    assert service.client.get(f"/v1/documents/{first['document']['id']}/text").json()["text"] == TEA


def test_a_job_whose_document_was_deleted_is_not_retried(service: Service) -> None:
    sent = service.client.post("/v1/documents", files={"file": ("x.pdf", b"%PDF-1.7 broken")}).json()
    work(service.services)
    service.client.delete(f"/v1/documents/{sent['document']['id']}")
    reply = service.client.post(f"/v1/jobs/{sent['job']['id']}/retry")
    assert (reply.status_code, reply.json()["code"]) == (409, "job_not_retryable")
    assert service.client.get(f"/v1/jobs/{sent['job']['id']}").json()["status"] == "failed"


def test_an_original_file_is_sent_again_only_when_it_changed(service: Service) -> None:
    document = service.send(TEA, "tea.md")
    path = f"/v1/documents/{document['id']}/file"
    tag = service.client.get(path).headers["etag"]
    for given in (tag, f'"other", W/{tag}', "*"):
        again = service.client.get(path, headers={"If-None-Match": given})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    assert service.client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    send_text(service.client, TEA + "More.", "tea.md")
    work(service.services)
    changed = service.client.get(path, headers={"If-None-Match": tag})
    assert (changed.status_code, changed.text) == (200, TEA + "More.")


def test_a_downloaded_file_has_no_folders_in_its_name(service: Service) -> None:
    reply = service.client.post("/v1/documents", files={"file": ("../../a/tea.md", TEA.encode())})
    document = reply.json()["document"]
    assert document["source"] == "../../a/tea.md"
    file = service.client.get(f"/v1/documents/{document['id']}/file")
    assert file.headers["content-disposition"] == 'attachment; filename="tea.md"'
