"""A late-interaction model of random weights, saved in the layout of sentence-transformers."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

from tests.unit.indexing.encoding.tiny_model import save_tiny_model

DIM = 24


def save_tiny_colbert(folder: Path, *, seed: int = 1, **changes: Any) -> Path:
    """The folder, with markers, queries of 12 tokens filled up by masks, and documents of 30 at most.

    `changes` are put over the settings of the transformer; `skiplist_words` over those of the mask.
    """
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    bare = save_tiny_model(folder / "backbone", seed=seed).parent / "bare"
    skipped = changes.pop("skiplist_words", list(string.punctuation))
    settings = {
        "document_length": 30,
        "query_expansion": {"strategy": "fixed", "attend": False, "length": 12},
        **changes,
    }
    transformer = Transformer(str(bare), max_seq_length=40, **settings)
    torch.manual_seed(seed)
    names = {"module_input_name": "token_embeddings"}
    head = Dense(32, DIM, bias=False, activation_function=torch.nn.Identity(), **names)
    model = MultiVectorEncoder(
        modules=[transformer, head, MultiVectorMask(skiplist_words=skipped), Normalize(**names)],
        prompts={"query": "one ", "document": "two "},
        device="cpu",
    )
    saved = folder / "colbert"
    model.save(str(saved), create_model_card=False)
    return saved
