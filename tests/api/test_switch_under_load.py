"""Another encoder, and back, while many ask: no request fails, and each answer comes from one version."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.db import chunks, versions
from app.services import Services, open_services
from app.upkeep import switching
from app.versions import building
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.encoding.fake import WordEncoder
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder
from tests.api.test_many_clients import listening
from tests.service import settings_for
from tests.unit.app.texts import collection_id, ingest
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

N_CLIENTS = 4
SECONDS_EACH = 1.0
SAID = "The {n} old river of the north is blue and red. "
PAGES = {f"{n}.md": f"# Part {n}\n\n" + SAID.format(n=n) * 12 for n in range(12)}
QUERY = {"query": "the blue river of the north", "top_k": 5}


def load(spec: EncoderSpec, _folder: Path) -> Encoder:
    if spec.model == "default":
        return WordEncoder()
    return SentenceTransformerEncoder.load(spec.model, device="cpu", n_threads=1)


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with open_services(settings_for(tmp_path / "home", ""), load=load) as opened:
        ingest(opened, PAGES)
        yield opened


class Asking:
    """Threads that search without a pause, and what they were answered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(N_CLIENTS)]
        self.replies: list[tuple[float, float, int, dict[str, Any]]] = []

    def __enter__(self) -> Asking:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._stop.is_set():
                started = time.monotonic()
                reply = client.post(f"{self._url}/v1/search", json=QUERY)
                self.replies.append((started, time.monotonic() - started, reply.status_code, reply.json()))


def ids_of(services: Services, version: str) -> set[str]:
    with services.read() as session:
        row = versions.get(session, version)
        ids = chunks.ids_of_collection(session, row.collection_id, row.chunker_fingerprint)
    return {f"{chunk_id:016x}" for chunk_id in ids.tolist()}


@pytest.mark.parametrize("elsewhere", [False, True], ids=["over HTTP", "by another process"])
def test_a_switch_and_back_under_load(services: Services, tmp_path: Path, elsewhere: bool) -> None:
    model = str(save_tiny_model(tmp_path / "tiny"))
    first = building.ensure_active(services, collection_id(services)).id
    with open_services(services.settings, load=load) as others:
        second = build(others, model)
        with listening(services) as url, Asking(url) as asking:
            time.sleep(SECONDS_EACH)
            seconds = []
            for version in (second, first):
                started = time.monotonic()
                if elsewhere:
                    with others.write() as session:
                        versions.activate(session, version)
                elif version == second:
                    httpx.post(f"{url}/v1/indexes/{second}/activate", timeout=30).raise_for_status()
                else:
                    httpx.post(f"{url}/v1/indexes/rollback", timeout=30).raise_for_status()
                seconds.append(time.monotonic() - started)
                until_answered_from(asking, version)
                time.sleep(SECONDS_EACH)
    assert {status for _, _, status, _ in asking.replies} == {200}
    assert {body["index_version"] for *_, body in asking.replies} == {first, second}
    wholly = {version: ids_of(services, version) for version in (first, second)}
    assert not wholly[first] & wholly[second]
    for *_, body in asking.replies:
        given = {hit["chunk_id"] for hit in body["hits"]}
        assert len(given) == QUERY["top_k"]
        assert given <= wholly[body["index_version"]]
    assert max(took for _, took, _, _ in asking.replies) < 10, "no request waits for files and models"


def build(services: Services, model: str) -> str:
    from app.upkeep.orders import BuildOrder

    encoder_spec, chunker_spec = BuildOrder(encoder=model).specs(services)
    owner = collection_id(services)
    return building.build(services, owner, encoder_spec=encoder_spec, chunker_spec=chunker_spec).id


def until_answered_from(asking: Asking, version: str) -> None:
    deadline = time.monotonic() + 30
    while asking.replies[-1][3].get("index_version") != version:
        assert time.monotonic() < deadline, "the new version is not answered from"
        time.sleep(0.02)


def test_a_switch_takes_less_than_a_second(services: Services, tmp_path: Path) -> None:
    """When the version is ready and caught up: the time of the call, not that of the next request."""
    second = build(services, str(save_tiny_model(tmp_path / "tiny")))
    took = []
    for _ in range(3):
        started = time.monotonic()
        switching.activate(services, second)
        switching.rollback(services, collection_id(services))
        took.append((time.monotonic() - started) / 2)
    assert min(took) < 1
