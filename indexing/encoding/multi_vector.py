"""Any late-interaction (ColBERT) checkpoint that sentence-transformers reads, by name or from a folder.

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832: texts begin with the marker of queries or of
documents, queries are filled up with [MASK] tokens, and the vectors of a document's punctuation are left out.
All of this is as the checkpoint has it; those of Stanford's ColBERT and of PyLate are read too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from indexing.encoding.base import Progress
from indexing.encoding.characters import without_surrogates
from indexing.encoding.hub import load_model
from indexing.encoding.identity import fingerprint
from indexing.encoding.layers import keep_layers
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder, TorchPrecision
from indexing.types import Encoding, Floats, TokenVectors

if TYPE_CHECKING:
    import torch

_BF16 = ":bf16"
_MODEL_TYPES = {"MultiVectorEncoder", "ColBERT"}
_STANFORD = "HF_ColBERT"


class MultiVectorAdapter(SentenceTransformerEncoder):
    """An `Encoder` over a loaded `MultiVectorEncoder`.

    Token vectors are those that the model scores with, special tokens and appended masks among them: they
    stand for no characters, so their offsets are empty. The sentence vector is the mean of a text's token
    vectors, of length 1; a checkpoint has none of its own, and none is trained for it.
    """

    def __init__(self, *, model: Any, **settings: Any) -> None:
        """`settings` are those of `SentenceTransformerEncoder`; `max_tokens` is the window of documents."""
        transformer = model[0]
        model.max_seq_length = transformer.document_length or model.max_seq_length
        super().__init__(model=model, **settings)
        transformer.document_length = self._max_tokens
        described = [(type(module).__name__, module.get_config_dict()) for module in model.children()]
        self._fingerprint = fingerprint(
            {"model": self._fingerprint, "modules": json.dumps(described, sort_keys=True, default=str)}
        )

    def _encode(
        self,
        texts: Sequence[str],
        prompt: str,
        task: Literal["query", "document"],
        with_tokens: bool,
        progress: Progress | None,
    ) -> Encoding:
        vectors = np.empty((len(texts), self._dim), np.float32)
        tokens: dict[int, TokenVectors] = {}
        n_done = 0
        for rows in self._batches(texts):
            outputs = self._forward([without_surrogates(texts[row]) for row in rows], prompt, task, True)
            for row, output in zip(rows, outputs, strict=True):
                tokens[row] = self._token_vectors(output, len(prompt))
                vectors[row] = _mean(tokens[row].vectors)
            n_done += len(rows)
            if progress is not None:
                progress(n_done, len(texts))
        kept = tuple(tokens[row] for row in range(len(texts))) if with_tokens else None
        return Encoding(vectors=vectors, tokens=kept)

    def _processing(self, with_tokens: bool) -> dict[str, Any]:
        # How long a text may be depends on whether it is a query: the model knows.
        return {"return_offsets_mapping": True} if with_tokens else {}

    def _token_vectors(self, output: dict[str, torch.Tensor], prompt_length: int) -> TokenVectors:
        scored = output["attention_mask"].cpu().numpy().astype(bool)
        hidden = output["token_embeddings"].float().cpu().numpy()[scored, : self._dim]
        lengths = np.linalg.norm(hidden, axis=1, keepdims=True)
        offsets = np.zeros((len(scored), 2), np.int32)
        found = output.get("offset_mapping")
        # Masks may be appended behind what the tokenizer gave; pooled vectors stand for several tokens.
        if found is not None and len(found) <= len(scored):
            offsets[: len(found)] = np.maximum(found.cpu().numpy() - prompt_length, 0)
        return TokenVectors(
            vectors=np.asarray(hidden / np.where(lengths > 0, lengths, 1), np.float32),
            offsets=offsets[scored],
        )


def is_multi_vector(name: str) -> bool:
    """Whether the model's configuration says that it gives a vector for each token.

    Raises EncoderError as `load_model` does.
    """
    return load_model(_says_multi_vector, name, {})


def load_multi_vector(
    name: str,
    *,
    device: str = "auto",
    max_tokens: int | None = None,
    dim: int | None = None,
    layers: int | None = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    n_threads: int | None = None,
) -> MultiVectorAdapter:
    """The encoder of a late-interaction model; what is None is as the checkpoint has it, its markers too.

    Raises:
        EncoderError: there is no such model, it cannot be fetched, or it does not fit the settings.
    """
    import torch
    from sentence_transformers import MultiVectorEncoder

    if n_threads is not None:
        torch.set_num_threads(n_threads)
    precision: TorchPrecision = "bf16" if device.endswith(_BF16) else "fp32"
    torch_device = device.removesuffix(_BF16)
    settings: dict[str, Any] = {
        "device": None if torch_device == "auto" else torch_device,
        "model_kwargs": {"dtype": torch.bfloat16 if precision == "bf16" else torch.float32},
    }
    model = load_model(MultiVectorEncoder, name, settings)
    if layers is not None:
        keep_layers(model.transformers_model, layers)
    return MultiVectorAdapter(
        name=name,
        model=model,
        precision=precision,
        max_tokens=max_tokens,
        dim=dim,
        query_prompt=query_prompt,
        document_prompt=document_prompt,
    )


def _says_multi_vector(name: str, *, local_files_only: bool = False) -> bool:
    from sentence_transformers.util import load_file_path

    files = ("config_sentence_transformers.json", "config.json")
    paths = [load_file_path(name, file, local_files_only=local_files_only) for file in files]
    if paths == [None, None]:
        raise FileNotFoundError(f"there is no {' and no '.join(files)}")
    library, model = ({} if path is None else json.loads(Path(path).read_text("utf-8")) for path in paths)
    return library.get("model_type") in _MODEL_TYPES or _STANFORD in (model.get("architectures") or ())


def _mean(vectors: Floats) -> Floats:
    """The mean, of length 1; the constant vector where there is none."""
    total = vectors.sum(axis=0)
    length = float(np.linalg.norm(total))
    dim = vectors.shape[1]
    return np.asarray(total / length if length else np.full(dim, dim**-0.5), np.float32)
