"""Whatever is sent as JSON, the service neither crashes nor answers with anything but a problem."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.service import running_service
from tests.unit.app.texts import PAGES, ingest

# Also what JSON can say and UTF-8 cannot, and numbers that no database can hold.
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["\ud800", "a\x00b", "", "lease", "$gt", "x" * 3000]
)
NUMBERS = st.integers() | st.floats() | st.sampled_from([2**63, -(2**63) - 1, 10**400, 1e308])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
OPERATORS = st.sampled_from(
    ["$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$like", "$and", "$or", "$not"]
)
FILTERS = st.recursive(
    st.dictionaries(
        st.sampled_from(["first", "title", "source", "created_at"]) | OPERATORS | TEXTS, VALUES, max_size=2
    ),
    lambda inner: st.dictionaries(OPERATORS | TEXTS, inner | st.lists(inner, max_size=2), max_size=2),
    max_leaves=4,
)
QUERIES = TEXTS | st.sampled_from(["when does the lease end", '"(+lease', "lease AND", "*:*"])
BODIES = {
    "/v1/search": {
        "query": QUERIES,
        "collection": st.sampled_from(["default", "nowhere"]) | TEXTS,
        "top_k": st.integers(-1, 1001) | VALUES,
        "mode": st.sampled_from(["auto", "bm25", "dense", "hybrid", "rrf", "rank_bm25"]) | VALUES,
        "filters": FILTERS | VALUES,
        "rerank": st.booleans() | VALUES,
        "transform": st.sampled_from(["hyde", "step_back", "magic"]) | TEXTS | VALUES,
        "explain": st.booleans() | VALUES,
    },
    "/v1/answer": {
        "query": QUERIES,
        "top_k": st.integers(0, 101) | VALUES,
        "filters": FILTERS | VALUES,
        "generator": st.sampled_from(["auto", "extractive", "llm"]) | VALUES,
        "stream": st.booleans() | VALUES,
    },
    "/v1/documents": {
        "text": TEXTS,
        "source": TEXTS | VALUES,
        "title": TEXTS | VALUES,
        "collection": st.sampled_from(["default", "nowhere"]) | TEXTS,
        "metadata": st.dictionaries(TEXTS, VALUES, max_size=3) | VALUES,
        "format": st.sampled_from(["md", "txt", "html"]) | TEXTS,
    },
}
NEEDED = {"/v1/search": "query", "/v1/answer": "query", "/v1/documents": "text"}


@st.composite
def requests(draw: st.DrawFn) -> tuple[str, Any]:
    """A path and a body: mostly what it needs, some of what it may have, sometimes anything."""
    path = draw(st.sampled_from(sorted(BODIES)))
    fields = BODIES[path]
    if draw(st.integers(0, 9)) == 0:
        return path, draw(VALUES)
    chosen = draw(st.sets(st.sampled_from(sorted(fields)), max_size=3)) | {NEEDED[path]}
    body = {name: draw(fields[name]) for name in sorted(chosen)}
    if draw(st.integers(0, 9)) == 0:
        body |= draw(st.dictionaries(TEXTS, VALUES, max_size=1))
    return path, body


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("any") / "home"
    home.mkdir()
    shutil.copyfile(sqlite_template, home / "footnote.db")
    with running_service(home, "") as (client, services):
        ingest(services, PAGES)
        yield client


@settings(max_examples=250, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(requests())
@example(("/v1/search", {"query": "\ud800"}))
@example(("/v1/answer", {"query": "\ud800"}))
@example(("/v1/documents", {"text": "\ud800"}))
@example(("/v1/search", {"query": "lease", "\ud800": 1}))
@example(("/v1/search", {"query": "lease", "filters": {"\ud800": 1}}))
@example(("/v1/search", {"query": "lease", "filters": {"first": "\ud800"}}))
@example(("/v1/search", {"query": "lease", "filters": {"first": {"$gt": 10**400}}}))
@example(("/v1/search", {"query": "lease", "filters": {"first": float("nan")}}))
@example(("/v1/search", {"query": "lease", "collection": "\ud800"}))
@example(("/v1/documents", {"text": "x", "metadata": {"a": "\ud800"}}))
@example(("/v1/documents", {"text": "x", "metadata": {"a": float("nan")}}))
@example(("/v1/documents", {"text": "x", "metadata": {"a": 10**400}}))
@example(("/v1/documents", {"text": "x", "title": "\ud800"}))
@example(("/v1/documents", {"text": "x", "format": "\x00/.."}))
def test_no_body_is_too_odd(client: TestClient, request: tuple[str, Any]) -> None:
    path, body = request
    reply = client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"})
    assert reply.status_code < 500, reply.text
    if reply.status_code >= 400:
        assert reply.headers["content-type"] == "application/problem+json"
        problem = reply.json()
        assert problem["status"] == reply.status_code
        assert problem["code"]
        assert problem["request_id"] == reply.headers["x-request-id"]


@pytest.mark.parametrize("path", sorted(BODIES))
@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b'{"query": "x"}{', b"[" * 100_000, b'{"filters":' * 50_000], ids=range(6)
)
def test_what_is_no_json_is_a_problem(client: TestClient, path: str, content: bytes) -> None:
    reply = client.post(path, content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code in (400, 422), reply.text
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json()["code"] in ("invalid_request", "bad_request")


def test_a_filter_nested_without_end_is_a_problem(client: TestClient) -> None:
    depth = 200
    content = '{"query": "x", "filters": ' + '{"$not": ' * depth + '{"a": 1}' + "}" * depth + "}"
    reply = client.post("/v1/search", content=content, headers={"Content-Type": "application/json"})
    assert reply.status_code == 422, reply.text
    assert reply.json()["code"] == "invalid_filter"
