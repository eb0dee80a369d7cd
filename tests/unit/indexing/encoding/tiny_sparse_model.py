"""Sparse encoders of a few thousand random weights, saved in the usual layouts."""

from __future__ import annotations

from pathlib import Path

from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Router, Transformer
from sentence_transformers.sparse_encoder.modules import SparseStaticEmbedding, SpladePooling

from tests.unit.indexing.encoding.tiny_model import LETTERS, WORDS


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
    import torch
    from tokenizers import BertWordPieceTokenizer
    from transformers import BertConfig, BertForMaskedLM, BertTokenizerFast

    torch.manual_seed(seed)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!,.?'-:()&", *WORDS, *LETTERS]
    vocabulary = list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in LETTERS), "##ing", "##ed"]))
    bare = folder / "bare"
    bare.mkdir(parents=True)
    (bare / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    BertWordPieceTokenizer(str(bare / "vocab.txt"), lowercase=True).save(str(bare / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.3,
    )
    BertForMaskedLM(config).save_pretrained(bare)
    BertTokenizerFast(tokenizer_file=str(bare / "tokenizer.json"), model_max_length=40).save_pretrained(bare)
    transformer = Transformer(str(bare), transformer_task="fill-mask", max_seq_length=40)
    return [transformer, SpladePooling("max")]


def _saved(model: SparseEncoder, folder: Path) -> Path:
    saved = folder / "model"
    model.save(str(saved), create_model_card=False)
    return saved
