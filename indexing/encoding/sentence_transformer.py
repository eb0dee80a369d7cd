"""Any sentence-transformers model as an encoder, by name or from a folder.

Importing this module is quick; torch and sentence-transformers are imported when a model is loaded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np

from indexing.encoding.base import Progress
from indexing.encoding.characters import without_surrogates
from indexing.encoding.hub import load_model
from indexing.encoding.identity import fingerprint
from indexing.encoding.layers import keep_layers
from indexing.encoding.model_identity import modules_description, tokenizer_sha256, weights_sha256
from indexing.encoding.torch_device import TorchPrecision, torch_device
from indexing.errors import EncoderError
from indexing.types import Encoding, Floats, TokenVectors

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

_TOKENS_PER_BATCH = {"cpu": 4096, "cuda": 65536}
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")


class SentenceTransformerEncoder:
    """An `Encoder` over a loaded SentenceTransformer.

    Texts of similar length share a batch of limited tokens. Calls from several threads take turns. Token
    vectors are the last hidden states, `min(dim, hidden width)` wide, from the same pass as the vectors.
    """

    library: ClassVar = "SentenceTransformer"
    """The class of sentence-transformers that reads the model."""

    def __init__(
        self,
        *,
        name: str,
        model: SentenceTransformer,
        precision: TorchPrecision,
        max_tokens: int | None = None,
        dim: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
    ) -> None:
        """A prompt, window or dimension of None is the model's own.

        Raises:
            EncoderError: `dim` or `max_tokens` do not fit the model, or the model does not say what its are.
        """
        self._name = name
        self._model = model.eval()
        self._turn = threading.Lock()
        self._max_tokens = _window(model, max_tokens)
        self._dim = _dimension(model, dim)
        model.max_seq_length = self._max_tokens
        self._query_prompt = _prompt(model, query_prompt, _QUERY_PROMPTS)
        self._document_prompt = _prompt(model, document_prompt, _DOCUMENT_PROMPTS)
        self._tokens_per_batch = _TOKENS_PER_BATCH.get(model.device.type, _TOKENS_PER_BATCH["cpu"])
        self._fingerprint = fingerprint(
            {
                "weights": weights_sha256(model),
                "modules": modules_description(model.children()),
                "tokenizer": tokenizer_sha256(model.tokenizer),
                "precision": precision,
                "max_tokens": self._max_tokens,
                "dim": self._dim,
                "query_prompt": self._query_prompt,
                "document_prompt": self._document_prompt,
                "normalised": True,
            }
        )

    @classmethod
    def load(
        cls,
        name: str,
        *,
        device: str = "auto",
        max_tokens: int | None = None,
        dim: int | None = None,
        layers: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        n_threads: int | None = None,
    ) -> Self:
        """The encoder of a model's name or folder. Code that comes with a model is never run.

        `device` is as `torch_device` reads it; `layers` takes the first so many transformer layers. What is
        None is as the model has it.

        Raises:
            EncoderError: there is no such model, it cannot be fetched, or it does not fit the settings.
        """
        import sentence_transformers
        import torch

        if n_threads is not None:
            torch.set_num_threads(n_threads)
        where = torch_device(device)
        model = load_model(getattr(sentence_transformers, cls.library), name, where.settings())
        if layers is not None:
            keep_layers(model.transformers_model, layers)
        return cls(
            name=name,
            model=model,
            precision=where.precision,
            max_tokens=max_tokens,
            dim=dim,
            query_prompt=query_prompt,
            document_prompt=document_prompt,
        )

    @property
    def name(self) -> str:
        return self._name

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def max_tokens(self) -> int:
        return self._max_tokens

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        if not texts:
            return []
        with self._turn:  # a tokenizer's truncation is state shared between calls
            encoded = self._model.tokenizer(
                [without_surrogates(text) for text in texts],
                add_special_tokens=False,
                truncation=False,
                return_attention_mask=False,
                verbose=False,
            )
        return [len(ids) for ids in encoded["input_ids"]]

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        return self._encode(texts, self._document_prompt, "document", with_tokens, progress)

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        return self._encode(texts, self._query_prompt, "query", with_tokens, None)

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
            outputs = self._forward(
                [without_surrogates(texts[row]) for row in rows], prompt, task, with_tokens
            )
            for row, output in zip(rows, outputs, strict=True):
                vectors[row], of_tokens = self._of_text(output, len(prompt), with_tokens)
                if of_tokens is not None:
                    tokens[row] = of_tokens
            n_done += len(rows)
            if progress is not None:
                progress(n_done, len(texts))
        kept = tuple(tokens[row] for row in range(len(texts))) if with_tokens else None
        return Encoding(vectors=vectors, tokens=kept)

    def _batches(self, texts: Sequence[str]) -> Iterator[list[int]]:
        """Rows of texts of similar length, the longest first: what does not fit in memory fails at once."""
        lengths = np.minimum(np.array(self.count_tokens(texts), np.int64) + 2, self._max_tokens)
        rows: list[int] = []
        for row in np.argsort(-lengths, kind="stable").tolist():
            if rows and (len(rows) + 1) * lengths[rows[0]] > self._tokens_per_batch:
                yield rows
                rows = []
            rows.append(row)
        if rows:
            yield rows

    def _forward(
        self, texts: list[str], prompt: str, task: Literal["query", "document"], with_tokens: bool
    ) -> Sequence[dict[str, torch.Tensor]]:
        """For each text its outputs and features, as tensors on the model's device."""
        try:
            with self._turn:
                outputs: Any = self._model.encode(
                    texts,
                    prompt=prompt,
                    task=task,
                    batch_size=len(texts),
                    output_value=None,
                    show_progress_bar=False,
                    processing_kwargs={"text": self._processing(with_tokens)},
                )
        except NotImplementedError as exc:  # offsets are asked of a tokenizer written in Python
            raise EncoderError(f"{self._name} gives no token vectors: its tokenizer has no offsets.") from exc
        return list(outputs)

    def _processing(self, with_tokens: bool) -> dict[str, Any]:
        """What is asked of the tokenizer."""
        processing: dict[str, Any] = {"truncation": True, "max_length": self._max_tokens}
        if with_tokens:
            processing |= {"return_offsets_mapping": True, "return_special_tokens_mask": True}
        return processing

    def _of_text(
        self, output: dict[str, torch.Tensor], prompt_length: int, with_tokens: bool
    ) -> tuple[Floats, TokenVectors | None]:
        """The vector of a text, and those of its tokens where they are asked for."""
        vector = unit_rows(_numpy(output["sentence_embedding"])[None, : self._dim])[0]
        return vector, self._token_vectors(output, prompt_length) if with_tokens else None

    def _token_vectors(self, output: dict[str, torch.Tensor], prompt_length: int) -> TokenVectors:
        if "offset_mapping" not in output:
            raise EncoderError(f"{self._name} gives no token vectors: its tokenizer has no offsets.")
        offsets = output["offset_mapping"].cpu().numpy().astype(np.int32) - prompt_length
        special = output["special_tokens_mask"].cpu().numpy().astype(bool)
        real = output["attention_mask"].cpu().numpy().astype(bool)
        of_text = real & ~special & (offsets[:, 1] > 0)
        hidden = _numpy(output["token_embeddings"])[of_text, : self._dim]
        return TokenVectors(vectors=unit_rows(hidden), offsets=np.maximum(offsets[of_text], 0))


def _window(model: SentenceTransformer, wanted: int | None) -> int:
    longest = model.max_seq_length
    if longest is None:
        raise EncoderError("The model does not say how many tokens it takes; set max_tokens.")
    if wanted is not None and not 3 <= wanted <= longest:
        raise EncoderError(f"max_tokens must be from 3 to {longest} for this model, not {wanted}.")
    return wanted or longest


def _dimension(model: SentenceTransformer, wanted: int | None) -> int:
    full = model.get_embedding_dimension()
    if full is None:
        raise EncoderError("The model does not say how many dimensions its vectors have.")
    if wanted is not None and not 1 <= wanted <= full:
        raise EncoderError(f"dim must be from 1 to {full} for this model, not {wanted}.")
    return wanted or full


def _prompt(model: SentenceTransformer, wanted: str | None, names: Sequence[str]) -> str:
    """The prompt that is set, else the first the model has under one of the names, else none."""
    if wanted is not None:
        return wanted
    found = (model.prompts.get(name) for name in names)
    return next((prompt for prompt in found if prompt), "")


def _numpy(tensor: torch.Tensor) -> Floats:
    return np.asarray(tensor.float().cpu().numpy(), np.float32)


def unit_rows(vectors: Floats) -> Floats:
    """Each row divided by its length; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1), np.float32)
