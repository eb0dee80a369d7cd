"""Sparse encoders of a few thousand random weights, saved in the usual layouts."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from tests.unit.indexing.encoding.tiny_model import save_bare_bert


def save_tiny_splade(folder: Path, *, seed: int = 1) -> Path:
    """A SPLADE model: queries and documents go through the same masked language model."""
    model = SparseEncoder(modules=_splade(folder, seed), device="cpu")
    return _saved(model, folder)


def save_tiny_inference_free(folder: Path, *, seed: int = 1) -> Path:
    """An inference-free model: the weights of a query's terms are looked up."""
    import torch

    document = _splade(folder, seed)
    tokenizer = document[0].tokenizer
    weights = torch.linspace(0.5, 2.0, len(tokenizer.get_vocab()))
    query = [SparseStaticEmbedding(tokenizer=tokenizer, weight=weights, frozen=True)]
    router = Router.for_query_document(query_modules=query, document_modules=document)
    return _saved(SparseEncoder(modules=[router], device="cpu"), folder)


def _splade(folder: Path, seed: int) -> list:
    from transformers import BertForMaskedLM

    bare = save_bare_bert(folder / "bare", BertForMaskedLM, n_layers=1, seed=seed)
    transformer = Transformer(str(bare), transformer_task="fill-mask", max_seq_length=40)
    return [transformer, SpladePooling("max")]


def _saved(model: SparseEncoder, folder: Path) -> Path:
    saved = folder / "model"
    model.save(str(saved), create_model_card=False)
    return saved
