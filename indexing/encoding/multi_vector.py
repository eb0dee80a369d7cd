"""Any late-interaction (ColBERT) checkpoint that sentence-transformers reads, by name or from a folder.

Khattab and Zaharia 2020, https://arxiv.org/abs/2004.12832: texts begin with the marker of queries or of
documents, queries are filled up with [MASK] tokens, and the vectors of a document's punctuation are left out.
All of this is as the checkpoint has it; those of Stanford's ColBERT and of PyLate are read too.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from indexing.encoding.hub import load_model
from indexing.encoding.identity import fingerprint
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder, unit_rows
from indexing.types import Floats, TokenVectors

if TYPE_CHECKING:
    import torch

_MODEL_TYPES = {"MultiVectorEncoder", "ColBERT"}
_STANFORD = "HF_ColBERT"


class MultiVectorAdapter(SentenceTransformerEncoder):
    """An `Encoder` over a loaded `MultiVectorEncoder`.

    Token vectors are those that the model scores with, special tokens and appended masks among them: they
    stand for no characters, so their offsets are empty. The sentence vector is the mean of a text's token
    vectors, of length 1; a checkpoint has none of its own, and none is trained for it.
    """

    library: ClassVar = "MultiVectorEncoder"

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

    def _of_text(
        self, output: dict[str, torch.Tensor], prompt_length: int, with_tokens: bool
    ) -> tuple[Floats, TokenVectors | None]:
        tokens = self._token_vectors(output, prompt_length)
        return _mean(tokens.vectors), tokens if with_tokens else None

    def _processing(self, with_tokens: bool) -> dict[str, Any]:
        # How long a text may be depends on whether it is a query: the model knows.
        return {"return_offsets_mapping": True} if with_tokens else {}

    def _token_vectors(self, output: dict[str, torch.Tensor], prompt_length: int) -> TokenVectors:
        scored = output["attention_mask"].cpu().numpy().astype(bool)
        hidden = output["token_embeddings"].float().cpu().numpy()[scored, : self._dim]
        offsets = np.zeros((len(scored), 2), np.int32)
        found = output.get("offset_mapping")
        # Masks may be appended behind what the tokenizer gave; pooled vectors stand for several tokens.
        if found is not None and len(found) <= len(scored):
            offsets[: len(found)] = np.maximum(found.cpu().numpy() - prompt_length, 0)
        return TokenVectors(vectors=unit_rows(hidden), offsets=offsets[scored])


def is_multi_vector(name: str) -> bool:
    """Whether the model's configuration says that it gives a vector for each token.

    Raises EncoderError as `load_model` does.
    """
    return load_model(_says_multi_vector, name, {})


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
