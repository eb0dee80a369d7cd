"""Late interaction through the service: a checkpoint from a folder, the mode, the reranker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.settings import EncoderSettings
from app.upkeep import switching
from app.upkeep.orders import BuildOrder
from app.versions import building
from indexing.encoding.fake import WordEncoder
from retrievers.errors import ModeUnavailable
from retrievers.types import Mode
from tests.service import settings_for
from tests.unit.app.texts import PAGES, collection_id, ingest
from tests.unit.indexing.encoding.tiny_colbert import DIM, save_tiny_colbert

QUESTION = "when does the lease end"


@pytest.fixture
def plain(home: Path) -> Iterator[Services]:
    """A library whose version keeps no token vectors."""
    settings = settings_for(home, "", encoder=EncoderSettings(keep_tokens=False))
    with open_services(settings, load=lambda _spec, _dir: WordEncoder()) as opened:
        ingest(opened, PAGES)
        yield opened


def first_source(services: Services, mode: Mode, rerank: str | None = None) -> str:
    found = search(services, SearchRequest(query=QUESTION, mode=mode, rerank=rerank))
    return found.passages[0].source


def test_without_token_vectors_the_mode_says_what_to_run_and_the_reranker_encodes(plain: Services) -> None:
    with pytest.raises(ModeUnavailable, match="footnote index build"):
        first_source(plain, "late")
    assert first_source(plain, "rank_bm25", "late") == "leases.md"


def test_a_build_that_is_ordered_with_them_makes_the_mode_work(plain: Services) -> None:
    order = BuildOrder(settings={"encoder.keep_tokens": True})
    keep_tokens = order.keeps_tokens(plain.settings)
    built = building.build(plain, collection_id(plain), keep_tokens=keep_tokens)
    switching.activate(plain, built.id)
    assert first_source(plain, "late") == "leases.md"
    assert first_source(plain, "late", "late") == "leases.md"


def test_a_colbert_checkpoint_in_a_folder_is_an_encoder_like_any_other(home: Path, tmp_path: Path) -> None:
    folder = save_tiny_colbert(tmp_path)
    settings = settings_for(home, "", encoder=EncoderSettings(model=str(folder), device="cpu"))
    with open_services(settings) as services:
        ingest(services, PAGES)
        snapshot = services.snapshots.get(building.ensure_active(services, collection_id(services)).id)
        assert snapshot.manifest.spec.dim == DIM
        ids = snapshot.chunk_ids()
        assert all(len(tokens) > 1 for tokens in snapshot.token_vectors(ids))
        found = search(services, SearchRequest(query=QUESTION, mode="late"))
        assert len(found.passages) == len(ids)
        scores = [passage.scores["late"] for passage in found.passages]
        assert scores == sorted(scores, reverse=True)
        # Twelve vectors of the query, filled up with masks, and each has a nearest one.
        assert scores[0] > 6
