"""Rotations of sentence vectors: what they keep, what they bring forward, what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sentence_transformers.base.modules import Dense

from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.fake import WordEncoder
from indexing.encoding.rotated_encoder import RotatedEncoder
from indexing.encoding.rotation import (
    Rotation,
    fitting_texts,
    principal_axes,
    rotation_named,
    save_rotation,
)
from indexing.errors import EncoderError
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

TEXTS = ["red apple", "the blue sky of the north", "", "water fire stone bread", "old river"]
MATRIX = np.linalg.qr(np.random.default_rng(5).standard_normal((64, 64)))[0].astype(np.float32)


@settings(max_examples=25, deadline=None)
@given(vectors=arrays(np.float32, (9, 6), elements=st.floats(-2, 2, width=16)))
def test_the_axes_are_orthonormal_and_rise_to_the_front(vectors: np.ndarray) -> None:
    axes = principal_axes(vectors)
    np.testing.assert_allclose(axes.T @ axes, np.eye(6), atol=1e-5)
    spread = ((vectors.astype(np.float64) @ axes) ** 2).sum(axis=0)
    assert (np.diff(spread) <= 1e-4).all()


def test_whole_vectors_keep_their_inner_products() -> None:
    plain, turned = WordEncoder(), RotatedEncoder(WordEncoder(), Rotation(MATRIX))
    one, other = plain.encode_documents(TEXTS).vectors, turned.encode_documents(TEXTS).vectors
    np.testing.assert_allclose(other @ other.T, one @ one.T, atol=1e-5)
    assert np.abs(one - other).max() > 0.1


def test_a_shorter_vector_is_the_beginning_of_the_turned_one() -> None:
    whole = RotatedEncoder(WordEncoder(), Rotation(MATRIX)).encode_documents(TEXTS).vectors[:, :10]
    short = RotatedEncoder(WordEncoder(), Rotation(MATRIX), dim=10)
    expected = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(short.encode_documents(TEXTS).vectors, expected, atol=1e-5)
    assert short.dim == 10


def test_token_vectors_are_turned_only_where_they_are_cut() -> None:
    (plain,) = WordEncoder().encode_documents(TEXTS[:1], with_tokens=True).tokens or ()
    turned = RotatedEncoder(WordEncoder(), Rotation(MATRIX))
    (whole,) = turned.encode_documents(TEXTS[:1], with_tokens=True).tokens or ()
    np.testing.assert_array_equal(whole.vectors, plain.vectors)
    short = RotatedEncoder(WordEncoder(), Rotation(MATRIX), dim=10)
    (cut,) = short.encode_documents(TEXTS[:1], with_tokens=True).tokens or ()
    expected = (plain.vectors @ MATRIX)[:, :10]
    np.testing.assert_allclose(
        cut.vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-5
    )
    np.testing.assert_array_equal(cut.offsets, plain.offsets)


def test_a_file_and_a_dense_module_of_the_library_are_the_same_rotation(tmp_path: Path) -> None:
    import torch

    save_rotation(Rotation(MATRIX[:, :8]), tmp_path / "rotation.npz")
    module = Dense(64, 8, bias=False, activation_function=torch.nn.Identity())
    module.linear.weight = torch.nn.Parameter(torch.from_numpy(MATRIX[:, :8].T.copy()))
    (tmp_path / "dense").mkdir()
    module.save(str(tmp_path / "dense"))
    file, dense = (
        rotation_named(str(tmp_path / name), WordEncoder(), tmp_path) for name in ("rotation.npz", "dense")
    )
    assert file.identity == dense.identity
    features = {"sentence_embedding": torch.from_numpy(WordEncoder().encode_documents(TEXTS).vectors)}
    expected = module(features)["sentence_embedding"].detach().numpy()
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = RotatedEncoder(WordEncoder(), dense).encode_documents(TEXTS).vectors
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_whatever_changes_a_vector_changes_the_fingerprint() -> None:
    encoders = [
        WordEncoder(),
        RotatedEncoder(WordEncoder(), Rotation(MATRIX)),
        RotatedEncoder(WordEncoder(), Rotation(MATRIX), dim=8),
        RotatedEncoder(WordEncoder(), Rotation(MATRIX[::-1])),
        RotatedEncoder(WordEncoder(max_tokens=20), Rotation(MATRIX)),
    ]
    assert len({encoder.fingerprint for encoder in encoders}) == len(encoders)
    assert RotatedEncoder(WordEncoder(), Rotation(MATRIX), dim=64).fingerprint == encoders[1].fingerprint


def test_axes_are_fitted_once_and_kept(tmp_path: Path) -> None:
    first = rotation_named("pca", WordEncoder(), tmp_path)
    (kept,) = tmp_path.glob("rotation-*.npz")
    written = kept.stat().st_mtime_ns
    assert rotation_named("pca", WordEncoder(), tmp_path).identity == first.identity
    assert kept.stat().st_mtime_ns == written
    assert rotation_named("pca", WordEncoder(dim=32), tmp_path).matrix.shape == (32, 32)
    np.testing.assert_allclose(first.matrix.T @ first.matrix, np.eye(64), atol=1e-5)


def test_the_texts_for_fitting_are_the_same_everywhere() -> None:
    texts = fitting_texts()
    assert texts == fitting_texts()
    assert len(set(texts)) == len(texts) == 2048


def test_layers_dimension_and_rotation_go_together(tmp_path: Path) -> None:
    folder = str(save_tiny_model(tmp_path / "model"))
    turned = tmp_path / "rotation.npz"
    save_rotation(Rotation(np.eye(32, dtype=np.float32)[::-1]), turned)
    spec = EncoderSpec(model=folder, device="cpu", layers=1, rotation=str(turned), dim=8)
    found = load_encoder(spec, tmp_path).encode_documents(TEXTS).vectors
    one_layer = load_encoder(EncoderSpec(model=folder, device="cpu", layers=1), tmp_path)
    last = one_layer.encode_documents(TEXTS).vectors[:, ::-1][:, :8]
    np.testing.assert_allclose(found, last / np.linalg.norm(last, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ({"other": np.eye(64)}, "cannot be read"),
        ({"matrix": np.full((64, 64), np.nan)}, "finite"),
        ({"matrix": np.zeros((64, 64))}, "zero"),
        ({"matrix": np.ones(64)}, "matrix"),
        ({"matrix": np.eye(32)}, "32 dimensions"),
        ({"matrix": np.array([{"a": 1}], dtype=object)}, "cannot be read"),
    ],
    ids=["no file", "no matrix", "not a number", "zeros", "a vector", "another width", "pickled"],
)
def test_what_is_no_rotation_is_refused(tmp_path: Path, content: dict | None, message: str) -> None:
    path = tmp_path / "rotation.npz"
    if content is not None:
        np.savez(path, **content)
    with pytest.raises(EncoderError, match=message):
        rotation_named(str(path), WordEncoder(), tmp_path)


def test_a_dense_module_that_does_more_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"bias": True}))
    with pytest.raises(EncoderError, match="no bias"):
        rotation_named(str(tmp_path), WordEncoder(), tmp_path)


def test_more_dimensions_than_the_rotation_has_are_refused() -> None:
    with pytest.raises(EncoderError, match="from 1 to 8"):
        RotatedEncoder(WordEncoder(), Rotation(MATRIX[:, :8]), dim=9)
