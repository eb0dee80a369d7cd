"""Encoding with ONNX Runtime on the CPU: every text alone, several texts at a time.

A pass takes one text and one thread, and as many passes run as there are cores. There is no padding, and a
vector depends on its text alone: int8 activations are scaled over the tensor of a pass, so in a batch the
companions would move a vector. Measured on two cores, it is also the fastest way from about 100 tokens up:
one text fills a core's vector units and stays in its cache, and no core waits for another.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

# Read when the library is imported: without it, the library notes a device id and may send usage home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime

from indexing.encoding.base import Progress
from indexing.encoding.characters import without_surrogates
from indexing.encoding.identity import fingerprint
from indexing.errors import EncoderError
from indexing.files import sha256_of
from indexing.types import Encoding, Floats, TokenVectors

_Pass = tuple[Floats, TokenVectors | None]

_MIN_TOKENS = 3
"""The two special tokens around every text, and one between."""

_SUBMITTED_AT_ONCE = 1024


class OnnxEncoder:
    """An `Encoder` over a graph of `bert_graph` and a tokenizer that puts one special token at either end.

    Safe to call from several threads; each call uses up to `n_threads` threads of its own.
    """

    def __init__(
        self,
        *,
        name: str,
        graph: bytes,
        graph_identity: str,
        tokenizer_path: Path,
        max_tokens: int,
        longest_input: int,
        dim: int | None = None,
        query_prompt: str = "",
        document_prompt: str = "",
        n_threads: int | None = None,
    ) -> None:
        """`graph_identity` names the weights and their precision, `longest_input` is the model's own limit in
        tokens; `dim` cuts vectors to their first numbers.

        Raises:
            EncoderError: the graph or the tokenizer cannot be opened, or `dim` or `max_tokens` do not fit it.
        """
        self._name = name
        self._prompts = {"query": query_prompt, "document": document_prompt}
        self._n_threads = n_threads or available_cores()
        self._session = _open_session(graph)
        self._tokenizer, self._uncut_tokenizer = (
            _open_tokenizer(tokenizer_path),
            _open_tokenizer(tokenizer_path),
        )
        full_dim = int(self._session.get_outputs()[0].shape[1])
        _require("dim", dim or full_dim, 1, full_dim)
        _require("max_tokens", max_tokens, _MIN_TOKENS, longest_input)
        self._dim = dim or full_dim
        self._max_tokens = max_tokens
        self._tokenizer.enable_truncation(max_tokens)
        self._fingerprint = fingerprint(
            {
                "graph": graph_identity,
                "tokenizer": sha256_of(tokenizer_path),
                "max_tokens": max_tokens,
                "dim": self._dim,
                "query_prompt": query_prompt,
                "document_prompt": document_prompt,
                "pooling": "mean",
                "normalised": True,
            }
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
        counts: list[int] = []
        for start in range(0, len(texts), _SUBMITTED_AT_ONCE):  # encodings are far larger than their texts
            some = [without_surrogates(text) for text in texts[start : start + _SUBMITTED_AT_ONCE]]
            encodings = self._uncut_tokenizer.encode_batch_fast(some, add_special_tokens=False)
            counts.extend(len(encoding) for encoding in encodings)
        return counts

    def encode_documents(
        self, texts: Sequence[str], *, with_tokens: bool = False, progress: Progress | None = None
    ) -> Encoding:
        return self._encode(texts, self._prompts["document"], with_tokens, progress)

    def encode_queries(self, texts: Sequence[str], *, with_tokens: bool = False) -> Encoding:
        return self._encode(texts, self._prompts["query"], with_tokens, None)

    def _encode(
        self, texts: Sequence[str], prompt: str, with_tokens: bool, progress: Progress | None
    ) -> Encoding:
        vectors = np.empty((len(texts), self._dim), np.float32)
        tokens: list[TokenVectors] = []
        # Closed at once when `progress` raises, so that no pass begins after a cancellation.
        with closing(self._passes(texts, prompt, with_tokens)) as passes:
            for row, (vector, text_tokens) in enumerate(passes):
                vectors[row] = vector
                if text_tokens is not None:
                    tokens.append(text_tokens)
                if progress is not None:
                    progress(row + 1, len(texts))
        return Encoding(vectors=vectors, tokens=tuple(tokens) if with_tokens else None)

    def _passes(self, texts: Sequence[str], prompt: str, with_tokens: bool) -> Generator[_Pass, None, None]:
        """What `_encode_one` gives for each text, in order."""

        def encode(text: str) -> _Pass:
            return self._encode_one(text, prompt, with_tokens)

        n_workers = min(self._n_threads, len(texts))
        if n_workers <= 1:
            yield from map(encode, texts)
            return
        # A pool of the call's own: a query never waits behind the texts of another call.
        with ThreadPoolExecutor(n_workers, thread_name_prefix="encoder") as pool:
            for start in range(0, len(texts), _SUBMITTED_AT_ONCE):
                yield from pool.map(encode, texts[start : start + _SUBMITTED_AT_ONCE])

    def _encode_one(self, text: str, prompt: str, with_tokens: bool) -> _Pass:
        # A batch of one, because encoding a batch lets other threads run meanwhile.
        encoding = self._tokenizer.encode_batch([prompt + without_surrogates(text)])[0]
        feeds = {"input_ids": np.array([encoding.ids], np.int32)}
        if not with_tokens:
            (sentence,) = self._session.run(["sentence"], feeds)
            return self._cut(sentence)[0], None
        sentence, hidden = self._session.run(["sentence", "tokens"], feeds)
        offsets = np.array(encoding.offsets, np.int32).reshape(-1, 2)[1:-1] - len(prompt)
        of_text = offsets[:, 1] > 0
        tokens = TokenVectors(
            vectors=self._cut(hidden[0, 1:-1][of_text]), offsets=np.maximum(offsets[of_text], 0)
        )
        return self._cut(sentence)[0], tokens

    def _cut(self, vectors: Floats) -> Floats:
        """The first `dim` numbers of each row, of length 1 again."""
        if self._dim == vectors.shape[1]:
            return vectors
        shorter = vectors[:, : self._dim]
        return np.asarray(shorter / np.linalg.norm(shorter, axis=1, keepdims=True), np.float32)


def available_cores() -> int:
    """Cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _open_session(graph: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Anything above fuses Add and LayerNormalization, which is slower (see bert_graph).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    # A pattern is kept for every length seen; here that saves no time and costs memory.
    options.enable_mem_pattern = False
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as exc:  # onnxruntime's errors share no base class
        raise EncoderError(f"ONNX Runtime cannot open the model: {exc}") from exc


def _open_tokenizer(path: Path) -> Tokenizer:
    """A tokenizer that neither pads nor cuts."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as exc:  # the Rust side raises a bare Exception
        raise EncoderError(f"The tokenizer {path} cannot be opened: {exc}") from exc
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _require(setting: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise EncoderError(f"{setting} must be from {low} to {high} for this model, not {value}.")
