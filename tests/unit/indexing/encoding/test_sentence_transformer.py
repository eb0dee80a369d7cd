"""The adapter for sentence-transformers models, over a tiny one saved to disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder
from indexing.errors import EncoderError
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

PROMPTS = {"query": "the one: ", "passage": "a stone: ", "document": ""}
TEXTS = ["red apple", "the blue sky of the north and the old river in the west", "", "water fire stone bread"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"), prompts=PROMPTS)


def test_vectors_are_those_of_the_library(folder: Path) -> None:
    encoder = SentenceTransformerEncoder.load(str(folder), device="cpu")
    model = SentenceTransformer(str(folder), device="cpu")
    for found, expected in (
        (encoder.encode_queries(TEXTS), model.encode_query(TEXTS, normalize_embeddings=True)),
        (
            encoder.encode_documents(TEXTS),
            model.encode_document(TEXTS, prompt_name="passage", normalize_embeddings=True),
        ),
    ):
        np.testing.assert_allclose(found.vectors, expected, atol=1e-5)


def test_token_vectors_are_those_of_the_library(folder: Path) -> None:
    encoder = SentenceTransformerEncoder.load(str(folder), device="cpu", document_prompt="")
    model = SentenceTransformer(str(folder), device="cpu")
    hidden = model.encode(TEXTS, output_value="token_embeddings")
    tokens = encoder.encode_documents(TEXTS, with_tokens=True).tokens or ()
    for states, found in zip(hidden, tokens, strict=True):
        inner = states.numpy()[1:-1]
        np.testing.assert_allclose(
            found.vectors, inner / np.linalg.norm(inner, axis=1, keepdims=True), atol=1e-5
        )


def test_a_prompt_moves_the_vector_and_not_the_offsets(folder: Path) -> None:
    with_prompt = SentenceTransformerEncoder.load(str(folder), device="cpu").encode_queries(
        TEXTS, with_tokens=True
    )
    without = SentenceTransformerEncoder.load(str(folder), device="cpu", query_prompt="").encode_queries(
        TEXTS, with_tokens=True
    )
    assert np.abs(with_prompt.vectors - without.vectors).max() > 0.01
    assert with_prompt.tokens is not None
    assert without.tokens is not None
    for one, other in zip(with_prompt.tokens, without.tokens, strict=True):
        np.testing.assert_array_equal(one.offsets, other.offsets)


def test_a_shorter_vector_is_the_beginning_of_the_long_one(folder: Path) -> None:
    short = SentenceTransformerEncoder.load(str(folder), device="cpu", dim=8)
    beginning = (
        SentenceTransformerEncoder.load(str(folder), device="cpu").encode_documents(TEXTS).vectors[:, :8]
    )
    np.testing.assert_allclose(
        short.encode_documents(TEXTS).vectors,
        beginning / np.linalg.norm(beginning, axis=1, keepdims=True),
        atol=1e-5,
    )
    assert short.dim == 8


def test_a_smaller_window_cuts_earlier(folder: Path) -> None:
    encoder = SentenceTransformerEncoder.load(str(folder), device="cpu", max_tokens=5, document_prompt="")
    (tokens,) = encoder.encode_documents(["red green blue apple sky"], with_tokens=True).tokens or ()
    assert tokens.offsets.tolist() == [[0, 3], [4, 9], [10, 14]]


def test_bf16_is_close_to_fp32(folder: Path) -> None:
    exact = SentenceTransformerEncoder.load(str(folder), device="cpu")
    rounded = SentenceTransformerEncoder.load(str(folder), device="cpu:bf16")
    cosines = (exact.encode_documents(TEXTS).vectors * rounded.encode_documents(TEXTS).vectors).sum(axis=1)
    assert cosines.min() > 0.99
    assert cosines.min() < 1 - 1e-7
    assert exact.fingerprint != rounded.fingerprint


def test_whatever_changes_a_vector_changes_the_fingerprint(folder: Path, tmp_path: Path) -> None:
    other_weights = save_tiny_model(tmp_path, prompts=PROMPTS, seed=2)
    specs = [
        EncoderSpec(model=str(folder), device="cpu"),
        EncoderSpec(model=str(other_weights), device="cpu"),
        EncoderSpec(model=str(folder), device="cpu", max_tokens=20),
        EncoderSpec(model=str(folder), device="cpu", dim=16),
        EncoderSpec(model=str(folder), device="cpu", query_prompt="q: "),
        EncoderSpec(model=str(folder), device="cpu", document_prompt="q: "),
    ]
    fingerprints = [load_encoder(spec, tmp_path).fingerprint for spec in specs]
    assert len(set(fingerprints)) == len(specs)


def test_the_place_of_a_model_is_not_part_of_its_fingerprint(folder: Path, tmp_path: Path) -> None:
    again = save_tiny_model(tmp_path, prompts=PROMPTS)
    first, second = (SentenceTransformerEncoder.load(str(path), device="cpu") for path in (folder, again))
    assert first.fingerprint == second.fingerprint


def test_encoding_does_not_change_the_fingerprint(folder: Path) -> None:
    encoder = SentenceTransformerEncoder.load(str(folder), device="cpu")
    before = encoder.fingerprint
    encoder.encode_documents(TEXTS)
    assert (
        encoder.fingerprint
        == before
        == SentenceTransformerEncoder.load(str(folder), device="cpu").fingerprint
    )


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere.*give the folder"):
        SentenceTransformerEncoder.load(str(tmp_path / "nowhere"))


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        SentenceTransformerEncoder.load(str(tmp_path), device="cpu")


@pytest.mark.parametrize("setting", [{"dim": 33}, {"max_tokens": 41}], ids=["dim", "max_tokens"])
def test_settings_that_do_not_fit_the_model_are_refused(folder: Path, setting: dict[str, int]) -> None:
    with pytest.raises(EncoderError, match=next(iter(setting))):
        SentenceTransformerEncoder.load(str(folder), device="cpu", **setting)
