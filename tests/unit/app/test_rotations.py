"""A rotation fitted on a collection: made once, kept with the version, and taken up again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from app.db import versions
from app.search.searching import SearchRequest, search
from app.services import Services, open_services
from app.versions import building, rotations, verifying
from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec
from indexing.encoding.fake import WordEncoder
from indexing.encoding.rotated_encoder import RotatedEncoder
from indexing.encoding.rotation import NONE, is_fitted, rotation_named
from tests.service import settings_for
from tests.unit.app.texts import collection_id, ingest

WORDS = ("river", "stone", "bridge", "night", "garden", "engine", "paper", "window", "salt", "copper")
PAGES = {
    f"{number}.txt": f"The {WORDS[number % 10]} and the {WORDS[number // 10]} of page {number}."
    for number in range(rotations.MIN_CHUNKS // 10)
}
CUT = EncoderSpec(rotation="pca", dim=16)


def load(spec: EncoderSpec, cache_dir: Path) -> Encoder:
    """The fake encoder, turned and cut as a real one is."""
    if spec.rotation == NONE:
        return WordEncoder(dim=spec.dim or 64)
    return RotatedEncoder(
        WordEncoder(), rotation_named(spec.rotation, WordEncoder(), cache_dir), dim=spec.dim
    )


@pytest.fixture
def services(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setattr(rotations, "MIN_CHUNKS", len(PAGES))
    with open_services(settings_for(home, ""), load=load) as opened:
        ingest(opened, PAGES)
        yield opened


def test_a_build_fits_the_rotation_on_the_collection_and_keeps_it(services: Services) -> None:
    row = building.build(services, collection_id(services), encoder_spec=CUT)
    kept = EncoderSpec(**row.encoder_spec)
    assert is_fitted(kept.rotation)
    assert (row.dim, row.status) == (16, "ready")
    assert verifying.verify(services, row.id).ok
    encoder = services.encoders.get(kept)
    assert encoder.fingerprint == row.encoder_fingerprint
    made_up = services.encoders.get(CUT)
    texts = list(PAGES.values())
    whole = WordEncoder().encode_documents(texts).vectors
    assert _error(encoder, texts, whole) < _error(made_up, texts, whole)
    found = search(services, SearchRequest(query=texts[7], mode="dense", index_version=row.id, top_k=1))
    assert [passage.source for passage in found.passages] == ["7.txt"]


def test_a_rebuild_has_the_same_rotation_and_encodes_nothing(services: Services) -> None:
    row = building.build(services, collection_id(services), encoder_spec=CUT)
    encoder = services.encoders.get(EncoderSpec(**row.encoder_spec))

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a text was encoded again")

    encoder.encode_documents = refuse  # type: ignore[method-assign, assignment]
    again = building.rebuild(services, row)
    assert again.encoder_fingerprint == row.encoder_fingerprint


def test_an_interrupted_build_goes_on_with_its_rotation(services: Services) -> None:
    def stop(stage: str, _done: int, _total: int) -> None:
        if stage == "index":
            raise building.BuildStopped

    with pytest.raises(building.BuildStopped):
        building.build(services, collection_id(services), encoder_spec=CUT, progress=stop)
    with services.read() as session:
        (begun,) = versions.list_all(session, status="building")
    assert building.build(services, collection_id(services), encoder_spec=CUT).id == begun.id


def test_another_dimension_is_another_version(services: Services) -> None:
    row = building.build(services, collection_id(services), encoder_spec=CUT)
    assert rotations.made_for(row, CUT)
    assert not rotations.made_for(row, replace(CUT, dim=17))
    assert not rotations.made_for(row, replace(CUT, rotation=NONE))


def test_a_small_collection_gets_the_rotation_of_made_up_texts(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rotations, "MIN_CHUNKS", len(PAGES) + 1)
    assert rotations.fitted(services, collection_id(services), CUT) == CUT


def test_other_encoders_are_left_as_they_are(services: Services) -> None:
    plain = EncoderSpec(dim=16)
    assert rotations.fitted(services, collection_id(services), plain) == plain


def _error(encoder: Encoder, texts: list[str], whole: np.ndarray) -> float:
    """How far the inner products of short vectors are from those of whole ones."""
    short = encoder.encode_documents(texts).vectors
    return float(np.abs(short @ short.T - whole @ whole.T).mean())
