"""Reranking with a cross-encoder: one pass of a transformer over the query and a passage together.

Nogueira and Cho 2019, https://arxiv.org/abs/1901.04085. Importing this module is quick; torch and
sentence-transformers are imported when a model is loaded.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.encoding.characters import without_surrogates
from indexing.encoding.hub import load_model
from indexing.encoding.torch_device import torch_device
from indexing.errors import EncoderError
from indexing.types import Floats, text_hash
from retrievers.reranking.calibration import Calibration, load_calibration
from retrievers.reranking.placing import as_they_were, placed
from retrievers.types import Passage, Query

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

_TOKENS_PER_BATCH = {"cpu": 1024, "cuda": 65536}
_BLOCK = 32
"""Passages among which those of similar length share a batch; blocks come in the former order."""
_CACHED = 50_000
_HEAD = "ForSequenceClassification"
_OVERLAP = 4
"""A window repeats one part in so many of the window before."""


@dataclass(frozen=True, slots=True)
class _Pair:
    """A window of the passage at `place`; a passage that fits has one window."""

    place: int
    text: str
    n_tokens: int


class CrossEncoderModel:
    """A loaded cross-encoder: logits of a query with texts. Calls from several threads take turns.

    A text that does not fit the model's window together with the query is read in overlapping windows and has
    the logit of its best one (MaxP; Dai and Callan 2019, https://arxiv.org/abs/1905.09217). A query that
    takes more than half of the window is cut there.
    """

    def __init__(self, name: str, model: CrossEncoder, calibration: Calibration) -> None:
        """Raises EncoderError for a model that gives several scores, or does not say what its window is."""
        if model.num_labels != 1:
            raise EncoderError(
                f"{name} gives {model.num_labels} scores for a pair; a reranker gives one. It may be a "
                "classifier."
            )
        if not _scores_pairs(model):
            raise EncoderError(f"{name} has no head that scores pairs: it is not a cross-encoder.")
        if not model.max_seq_length:
            raise EncoderError(f"{name} does not say how many tokens it takes: set its max_tokens.")
        self.name = name
        self.calibration = calibration
        self._model = model.eval()
        self._window: int = model.max_seq_length
        self._turn = threading.Lock()
        self._tokens_per_batch = _TOKENS_PER_BATCH.get(model.device.type, _TOKENS_PER_BATCH["cpu"])
        self._logits: OrderedDict[tuple[str, str], float] = OrderedDict()

    def logits(
        self, query: str, texts: Sequence[str], until: float = np.inf
    ) -> tuple[dict[int, float], bool]:
        """The logit of each text by its place, and whether all were scored.

        Texts are scored in their order, in blocks, until the monotonic clock reads `until`; the first batch
        is always scored once the model is free. Raises EncoderError where the model gives no numbers.
        """
        keys = [(query, text_hash(text)) for text in texts]
        found: dict[int, float] = {}
        wait = max(until - time.monotonic(), 0.0)
        if not self._turn.acquire(timeout=min(wait, threading.TIMEOUT_MAX)):
            return found, False
        try:
            for place, key in enumerate(keys):
                if key in self._logits:
                    self._logits.move_to_end(key)
                    found[place] = self._logits[key]
            missing = [place for place in range(len(texts)) if place not in found]
            for place, logit in self._score(query, texts, missing, until):
                found[place] = logit
                self._keep(keys[place], logit)
        finally:
            self._turn.release()
        return found, len(found) == len(texts)

    def _keep(self, key: tuple[str, str], logit: float) -> None:
        self._logits[key] = logit
        if len(self._logits) > _CACHED:
            self._logits.popitem(last=False)

    def _score(
        self, query: str, texts: Sequence[str], places: Sequence[int], until: float
    ) -> Iterator[tuple[int, float]]:
        """(place, logit) of each text whose windows were all read before the time was over."""
        asked, n_asked, room = self._asked(query)
        for start in range(0, len(places), _BLOCK):
            block = places[start : start + _BLOCK]
            pairs = [pair for place in block for pair in self._windows(place, texts[place], room)]
            waiting = {place: sum(pair.place == place for pair in pairs) for place in block}
            best = dict.fromkeys(block, -np.inf)
            for batch in self._batches(pairs, n_asked):
                for pair, logit in zip(batch, self._forward(asked, batch), strict=True):
                    best[pair.place] = max(best[pair.place], float(logit))
                    waiting[pair.place] -= 1
                    if not waiting[pair.place]:
                        yield pair.place, best[pair.place]
                if time.monotonic() > until:
                    return

    def _asked(self, query: str) -> tuple[str, int, int]:
        """The query, cut if need be, its tokens with the special ones, and those left for a passage."""
        n_special = self._model.tokenizer.num_special_tokens_to_add(pair=True)
        most = (self._window - n_special) // 2
        text = without_surrogates(query)
        ends = self._ends(text)
        if len(ends) > most:
            text = text[: ends[most - 1]]
        n_tokens = n_special + min(len(ends), most)
        return text, n_tokens, self._window - n_tokens

    def _windows(self, place: int, text: str, room: int) -> list[_Pair]:
        text = without_surrogates(text)
        ends = self._ends(text)
        if len(ends) <= room:
            return [_Pair(place, text, len(ends) or len(text) // 4)]
        step = room - room // _OVERLAP
        starts = range(0, len(ends) - room + step, step)
        edges = [0, *ends]
        return [
            _Pair(place, text[edges[at] : edges[min(at + room, len(ends))]], min(room, len(ends) - at))
            for at in starts
        ]

    def _ends(self, text: str) -> list[int]:
        """Where each token of the text ends; nothing for a tokenizer without offsets, whose texts are cut."""
        if not self._model.tokenizer.is_fast:
            return []
        encoded = self._model.tokenizer(
            text, add_special_tokens=False, truncation=False, return_offsets_mapping=True, verbose=False
        )
        return [end for _, end in encoded["offset_mapping"]]

    def _batches(self, pairs: Sequence[_Pair], n_query: int) -> Iterator[list[_Pair]]:
        """Pairs of similar length, longest first, of limited tokens with their padding."""
        batch: list[_Pair] = []
        for pair in sorted(pairs, key=lambda pair: (-pair.n_tokens, pair.place)):
            if batch and (len(batch) + 1) * (batch[0].n_tokens + n_query) > self._tokens_per_batch:
                yield batch
                batch = []
            batch.append(pair)
        if batch:
            yield batch

    def _forward(self, query: str, batch: Sequence[_Pair]) -> Floats:
        import torch

        logits: Any = self._model.predict(
            [(query, pair.text) for pair in batch],
            batch_size=len(batch),
            activation_fn=torch.nn.Identity(),
            show_progress_bar=False,
        )
        if not np.isfinite(logits).all():
            raise EncoderError(f"{self.name} gives what is no number.")
        return np.asarray(logits, np.float32)


def _scores_pairs(model: CrossEncoder) -> bool:
    """Whether the checkpoint had the weights of a head; without, the library draws some at random."""
    architectures = getattr(model.config, "architectures", None)
    if len(list(model.children())) > 1 or not architectures:
        return True  # a head in a module of its own
    return any(name.endswith(_HEAD) for name in architectures)


class CrossEncoderReranker:
    """Orders passages by a cross-encoder, as many as it reads within `seconds`; safe to use from threads.

    The score is the calibrated chance of relevance. Passages that were not reached keep their former order
    below, and `note` is told.
    """

    def __init__(
        self, model: CrossEncoderModel, *, seconds: float, note: Callable[[str], None] = lambda _: None
    ) -> None:
        self._model = model
        self._seconds = seconds
        self._note = note

    def rerank(self, query: Query, passages: Sequence[Passage], top_k: int) -> list[Passage]:
        until = time.monotonic() + self._seconds
        texts = [passage.chunk.contextual_text for passage in passages]
        logits, all_scored = self._model.logits(query.text, texts, until)
        if not all_scored:
            self._note(f"rerank: {len(logits)} of {len(passages)} passages within {self._seconds:g} s")
        if not logits:
            return as_they_were(passages, top_k)
        chances = self._model.calibration(np.array(list(logits.values()), np.float32))
        return placed(passages, dict(zip(logits, chances.tolist(), strict=True)), top_k)


def load_cross_encoder(
    name: str, *, device: str = "auto", max_tokens: int | None = None, n_threads: int | None = None
) -> CrossEncoderModel:
    """The cross-encoder of a name or folder. Code that comes with a model is never run.

    `device` is as `torch_device` reads it.

    Raises:
        EncoderError: there is no such model, it cannot be fetched, or it is not one that reranks.
    """
    import torch
    from sentence_transformers import CrossEncoder

    if n_threads is not None:
        torch.set_num_threads(n_threads)
    settings = {**torch_device(device).settings(), "max_length": max_tokens}
    model = load_model(CrossEncoder, name, settings)
    return CrossEncoderModel(name, model, load_calibration(Path(name).expanduser()))
