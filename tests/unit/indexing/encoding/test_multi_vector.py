"""The adapter for late-interaction models, over a tiny one saved to disk and loaded as any other model is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import MultiVectorEncoder

from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.multi_vector import is_multi_vector
from indexing.errors import EncoderError
from tests.unit.indexing.encoding.tiny_colbert import DIM, save_tiny_colbert
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

TEXTS = ["red apple", "the blue sky, of the north: and the old river.", "", "water fire stone bread " * 8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_colbert(tmp_path_factory.mktemp("colbert"))


@pytest.fixture(scope="module")
def encoder(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return load_encoder(EncoderSpec(model=str(folder), device="cpu"), tmp_path_factory.mktemp("cache"))


def test_token_vectors_are_those_that_the_library_scores_with(folder: Path, encoder: Encoder) -> None:
    model = MultiVectorEncoder(str(folder), device="cpu")
    for found, expected in (
        (encoder.encode_queries(TEXTS, with_tokens=True), model.encode_query(TEXTS, convert_to_numpy=True)),
        (
            encoder.encode_documents(TEXTS, with_tokens=True),
            model.encode_document(TEXTS, convert_to_numpy=True),
        ),
    ):
        for tokens, vectors in zip(found.tokens or (), expected, strict=True):
            assert tokens.vectors.shape == vectors.shape
            np.testing.assert_allclose(tokens.vectors, vectors, atol=1e-5)
            assert len(tokens.offsets) == len(vectors)


def test_the_sentence_vector_is_the_mean_of_the_token_vectors(encoder: Encoder) -> None:
    made = encoder.encode_documents(TEXTS, with_tokens=True)
    for vector, tokens in zip(made.vectors, made.tokens or (), strict=True):
        mean = tokens.vectors.mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS).vectors, made.vectors, atol=1e-5)


def test_queries_are_filled_up_with_masks_that_stand_for_no_characters(encoder: Encoder) -> None:
    (tokens,) = encoder.encode_queries(["red apple"], with_tokens=True).tokens or ()
    assert len(tokens.vectors) == 12
    standing = tokens.offsets[tokens.offsets[:, 1] > tokens.offsets[:, 0]]
    assert standing.tolist() == [[0, 3], [4, 9]]


def test_punctuation_of_documents_is_left_out(encoder: Encoder) -> None:
    text = "red, apple."
    (tokens,) = encoder.encode_documents([text], with_tokens=True).tokens or ()
    words = [text[start:end] for start, end in tokens.offsets.tolist() if end > start]
    assert words == ["red", "apple"]
    (query,) = encoder.encode_queries([text], with_tokens=True).tokens or ()
    assert [text[start:end] for start, end in query.offsets.tolist() if end > start] == [
        "red",
        ",",
        "apple",
        ".",
    ]


def test_the_window_is_that_of_documents(folder: Path, encoder: Encoder, tmp_path: Path) -> None:
    assert (encoder.max_tokens, encoder.dim) == (30, DIM)
    (whole,) = encoder.encode_documents([TEXTS[3]], with_tokens=True).tokens or ()
    assert len(whole.vectors) == 30
    short = load_encoder(EncoderSpec(model=str(folder), device="cpu", max_tokens=9), tmp_path)
    (cut,) = short.encode_documents([TEXTS[3]], with_tokens=True).tokens or ()
    assert len(cut.vectors) == 9


def test_a_shorter_vector_is_the_beginning_of_the_long_one(
    folder: Path, encoder: Encoder, tmp_path: Path
) -> None:
    short = load_encoder(EncoderSpec(model=str(folder), device="cpu", dim=8), tmp_path)
    (long_tokens,) = encoder.encode_documents(TEXTS[:1], with_tokens=True).tokens or ()
    (tokens,) = short.encode_documents(TEXTS[:1], with_tokens=True).tokens or ()
    beginning = long_tokens.vectors[:, :8]
    expected = beginning / np.linalg.norm(beginning, axis=1, keepdims=True)
    np.testing.assert_allclose(tokens.vectors, expected, atol=1e-5)


def test_whatever_changes_a_vector_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    fixed = {"strategy": "fixed", "attend": False, "length": 12}
    folders = [
        folder,
        save_tiny_colbert(tmp_path / "weights", seed=2),
        save_tiny_colbert(tmp_path / "documents", document_length=20),
        save_tiny_colbert(tmp_path / "queries", query_expansion={**fixed, "length": 10}),
        save_tiny_colbert(tmp_path / "attended", query_expansion={**fixed, "attend": True}),
        save_tiny_colbert(tmp_path / "unexpanded", query_expansion=None),
        save_tiny_colbert(tmp_path / "punctuation", skiplist_words=[]),
    ]
    specs = [EncoderSpec(model=str(saved), device="cpu") for saved in folders]
    specs += [
        EncoderSpec(model=str(folder), device="cpu", query_prompt="red "),
        EncoderSpec(model=str(folder), device="cpu", document_prompt="red "),
        EncoderSpec(model=str(folder), device="cpu", dim=16),
    ]
    fingerprints = [load_encoder(spec, tmp_path).fingerprint for spec in specs]
    assert len(set(fingerprints)) == len(specs)
    again = save_tiny_colbert(tmp_path / "again")
    assert load_encoder(EncoderSpec(model=str(again), device="cpu"), tmp_path).fingerprint == fingerprints[0]


def test_what_a_folder_holds_is_told_from_its_configuration(folder: Path, tmp_path: Path) -> None:
    assert is_multi_vector(str(folder))
    assert not is_multi_vector(str(save_tiny_model(tmp_path / "single")))
    stanford = tmp_path / "stanford"
    stanford.mkdir()
    (stanford / "config.json").write_text('{"architectures": ["HF_ColBERT"]}')
    assert is_multi_vector(str(stanford))
    with pytest.raises(EncoderError, match="cannot be loaded"):
        is_multi_vector(str(tmp_path))
