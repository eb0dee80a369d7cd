"""Token vectors on the way into an index version: encoded once, and the same in the database and there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import delete, select, update

from app.db.tables import ChunkRow, VectorRow
from app.documents import deleting
from app.services import Services, open_services
from app.settings import EncoderSettings
from app.upkeep import repairing
from app.upkeep.orders import BuildOrder
from app.versions import building
from indexing import token_vectors
from indexing.encoding.fake import WordEncoder
from indexing.errors import IndexMissing
from indexing.merging import merge_version
from indexing.token_codec import ROTATED, codec_for
from indexing.token_pooling import pooled
from indexing.types import contextual_text
from indexing.verification import verify_version
from tests.encoders import CountingEncoder
from tests.service import settings_for
from tests.unit.app.texts import PAGES, collection_id, follow, ingest


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


@pytest.fixture
def keeping(home: Path, encoder: CountingEncoder) -> Iterator[Services]:
    with open_services(settings_for(home, ""), load=lambda _spec, _dir: encoder) as opened:
        yield opened


@pytest.fixture
def plain(home: Path, encoder: CountingEncoder) -> Iterator[Services]:
    """Services that make versions without token vectors."""
    settings = settings_for(home, "", encoder=EncoderSettings(keep_tokens=False))
    with open_services(settings, load=lambda _spec, _dir: encoder) as opened:
        yield opened


def assert_same_in_both(services: Services, version: str) -> int:
    """The version has the kept codes of every chunk's tokens; how many chunks that are."""
    with services.read() as session:
        rows = session.execute(
            select(ChunkRow.id, VectorRow.tokens, VectorRow.n_tokens).join(
                VectorRow, VectorRow.text_hash == ChunkRow.text_hash
            )
        ).all()
    snapshot = services.snapshots.get(version)
    ids = np.array([row.id for row in rows], dtype=np.int64)
    assert sorted(ids.tolist()) == snapshot.chunk_ids().tolist()
    codec = codec_for("made-up", snapshot.manifest.spec.dim)
    for row, codes in zip(rows, snapshot.token_codes(ids), strict=True):
        np.testing.assert_array_equal(codes, token_vectors.codes_of(row.tokens, row.n_tokens, codec))
    assert verify_version(snapshot.directory) == []
    return len(rows)


def test_they_follow_the_database_through_changes_merges_and_rebuilds(
    keeping: Services, encoder: CountingEncoder
) -> None:
    ids = ingest(keeping, PAGES)
    row = building.ensure_active(keeping, collection_id(keeping))
    n_chunks = assert_same_in_both(keeping, row.id)
    assert encoder.n_documents == n_chunks

    first, *_ = ids.values()
    deleting.delete(keeping, first)
    follow(keeping)
    left = assert_same_in_both(keeping, row.id)
    assert left < n_chunks
    merge_version(keeping.settings.indexes_dir / row.id, purge=True)
    assert assert_same_in_both(keeping, row.id) == left
    assert assert_same_in_both(keeping, building.rebuild(keeping, row).id) == left
    assert encoder.n_documents == n_chunks, "a rebuild encodes nothing twice"


def test_they_are_close_to_what_the_encoder_gives(keeping: Services) -> None:
    ingest(keeping, PAGES)
    snapshot = keeping.snapshots.get(building.ensure_active(keeping, collection_id(keeping)).id)
    with keeping.read() as session:
        texts = {chunk.id: chunk.text for chunk in session.scalars(select(ChunkRow))}
        headings = {chunk.id: tuple(chunk.heading_path) for chunk in session.scalars(select(ChunkRow))}
    chunk_ids = np.array(sorted(texts), dtype=np.int64)
    wanted = [contextual_text(headings[i], texts[i]) for i in chunk_ids.tolist()]
    made = WordEncoder().encode_documents(wanted, with_tokens=True).tokens or ()
    for found, text, tokens in zip(snapshot.token_vectors(chunk_ids), wanted, made, strict=True):
        expected = pooled(text, tokens)
        assert found.shape == expected.shape
        assert (found * expected).sum(axis=1).mean() > 0.85


def test_a_version_without_them_is_built_again_with_them_once_they_are_set(
    plain: Services, keeping: Services, encoder: CountingEncoder
) -> None:
    ingest(plain, PAGES)
    without = building.ensure_active(plain, collection_id(plain))
    with pytest.raises(IndexMissing, match="footnote index build"):
        plain.snapshots.get(without.id).token_vectors(np.empty(0, np.int64))
    encoder.n_documents = 0
    with_tokens = building.build(keeping, collection_id(keeping))
    assert encoder.n_documents == assert_same_in_both(keeping, with_tokens.id)
    again = building.build(plain, collection_id(plain))
    assert plain.snapshots.get(again.id).manifest.spec.token_codec is None


@pytest.mark.parametrize("made_with", [True, False])
def test_a_version_keeps_to_what_it_began_with_whatever_is_set_later(
    keeping: Services, plain: Services, made_with: bool
) -> None:
    first, then = (keeping, plain) if made_with else (plain, keeping)
    ingest(first, dict(list(PAGES.items())[:1]))
    row = building.ensure_active(first, collection_id(first))
    ingest(then, PAGES)
    if made_with:
        assert_same_in_both(then, row.id)
        return
    with then.read() as session:
        assert session.scalars(select(VectorRow).where(VectorRow.tokens.is_not(None))).all() == []


def test_a_build_can_be_ordered_with_or_without_them(plain: Services) -> None:
    ingest(plain, dict(list(PAGES.items())[:1]))
    for ordered in (True, False):
        order = BuildOrder(settings={"encoder.keep_tokens": ordered})
        keep_tokens = order.keeps_tokens(plain.settings)
        built = building.build(plain, collection_id(plain), keep_tokens=keep_tokens)
        assert (plain.snapshots.get(built.id).manifest.spec.token_codec is not None) == ordered


def test_those_kept_with_eight_bits_are_not_encoded_again(
    keeping: Services, encoder: CountingEncoder
) -> None:
    ingest(keeping, PAGES)
    row = building.ensure_active(keeping, collection_id(keeping))
    with keeping.write() as session:
        for kept in session.scalars(select(VectorRow)):
            n, dim = kept.n_tokens or 0, kept.dim
            vectors = token_vectors.vectors_of(kept.tokens or b"", n, dim)
            scales = (np.abs(vectors).max(axis=1, initial=0.0) / 127).astype("<f2")
            rounded = np.rint(vectors / scales.astype(np.float32)[:, None]).clip(-127, 127).astype(np.int8)
            old = scales.tobytes() + bytes(8 * n) + rounded.tobytes()
            session.execute(update(VectorRow).where(VectorRow.text_hash == kept.text_hash).values(tokens=old))
    encoder.n_documents = 0
    assert_same_in_both(keeping, building.rebuild(keeping, row).id)
    assert encoder.n_documents == 0


def test_lost_ones_are_taken_from_the_index(keeping: Services, encoder: CountingEncoder) -> None:
    ingest(keeping, PAGES)
    row = building.ensure_active(keeping, collection_id(keeping))
    with keeping.write() as session:
        before = {kept.text_hash: kept.tokens for kept in session.scalars(select(VectorRow))}
        session.execute(delete(VectorRow))
    encoder.n_documents = 0
    assert repairing.repair(keeping, row.id).left == ()
    with keeping.read() as session:
        assert {kept.text_hash: kept.tokens for kept in session.scalars(select(VectorRow))} == before
    assert all((tokens or b"").startswith(b"footcod1\t" + ROTATED.encode()) for tokens in before.values())
