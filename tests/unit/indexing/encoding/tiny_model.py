"""A sentence-transformers model of 30,000 random weights, saved in the usual layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import BertWordPieceTokenizer

WORDS = [
    *("the", "a", "of", "and", "to", "in", "is", "was", "for", "on", "with", "one", "two", "first", "last"),
    *("red", "green", "blue", "apple", "sky", "tree", "river", "stone", "bread", "water", "fire"),
    *("north", "south", "east", "west", "old", "new"),
]
LETTERS = list("abcdefghijklmnopqrstuvwxyz0123456789")


def save_bare_bert(bare: Path, kind: Any, *, n_layers: int, seed: int) -> Path:
    """A BERT of a kind of the transformers library, of width 32, and its tokenizer of a few words."""
    import torch
    from transformers import BertConfig, BertTokenizerFast

    torch.manual_seed(seed)
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"!,.?'-:()&", *WORDS, *LETTERS]
    vocabulary = list(dict.fromkeys([*pieces, *(f"##{letter}" for letter in LETTERS), "##ing", "##ed"]))
    bare.mkdir(parents=True)
    (bare / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    tokenizer = BertWordPieceTokenizer(str(bare / "vocab.txt"), lowercase=True)
    tokenizer.save(str(bare / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=n_layers,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=64,
        # Larger than usual, so that the vectors of different texts are far apart.
        initializer_range=0.3,
    )
    kind(config).save_pretrained(bare)
    BertTokenizerFast(tokenizer_file=str(bare / "tokenizer.json"), model_max_length=40).save_pretrained(bare)
    return bare


def save_tiny_model(folder: Path, *, prompts: dict[str, str] | None = None, seed: int = 1) -> Path:
    """The folder, with a two-layer BERT of width 32, mean pooling and a window of 40 tokens."""
    from transformers import BertModel

    bare = save_bare_bert(folder / "bare", BertModel, n_layers=2, seed=seed)
    transformer = Transformer(str(bare), max_seq_length=40)
    model = SentenceTransformer(
        modules=[transformer, Pooling(transformer.get_embedding_dimension(), "mean")],
        prompts=prompts,
        device="cpu",
    )
    saved = folder / "model"
    model.save(str(saved), create_model_card=False)
    return saved
