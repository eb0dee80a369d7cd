"""A cross-encoder of a few thousand random weights, saved in the usual layout."""

from __future__ import annotations

from pathlib import Path

from tests.unit.indexing.encoding.tiny_model import save_tiny_model


def save_tiny_cross_encoder(folder: Path, *, n_labels: int = 1, window: int = 40) -> Path:
    """The folder, with a two-layer BERT of width 32 and a head, as transformers saves it."""
    import torch
    from transformers import AutoTokenizer, BertConfig, BertForSequenceClassification

    bare = save_tiny_model(folder / "backbone").parent / "bare"
    torch.manual_seed(5)
    config = BertConfig.from_pretrained(bare, num_labels=n_labels)
    config.initializer_range = 0.5
    saved = folder / "cross-encoder"
    BertForSequenceClassification(config).save_pretrained(saved)
    AutoTokenizer.from_pretrained(bare, model_max_length=window).save_pretrained(saved)
    return saved
