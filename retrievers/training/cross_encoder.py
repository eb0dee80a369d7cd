"""Training a cross-encoder: the last layers of a transformer and a head over query and passage together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.errors import EncoderError
from indexing.types import Floats
from retrievers.reranking.calibration import fit_calibration
from retrievers.training.errors import TrainingError
from retrievers.training.examples import Example, group
from retrievers.training.learner import Objective

if TYPE_CHECKING:
    import torch

_SCORED_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class CrossEncoderSpec:
    """`layers` are the last ones that are trained; the embeddings and the first layers stay as they are."""

    base: str
    layers: int = 2
    max_tokens: int = 256
    group_size: int = 6
    device: str = "cpu"
    seed: int = 0


class CrossEncoderLearner:
    """Learns from groups of one relevant and several other candidates of the same query.

    Other queries' passages are no negatives here: every pair costs a pass of its own.
    """

    use = "FOOTNOTE_RERANK_MODEL={folder}"

    def __init__(self, spec: CrossEncoderSpec, learned: Sequence[Example], objective: Objective) -> None:
        """Raises EncoderError where the base cannot be loaded, TrainingError where it has fewer layers."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        logging: Any = transformers_logging

        self._spec = spec
        self._learned = learned
        self._objective = objective
        torch.manual_seed(spec.seed)  # the head is drawn
        verbosity = logging.get_verbosity()
        logging.set_verbosity_error()  # that the head is new is no surprise
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(spec.base, local_files_only=True)
            model: Any = AutoModelForSequenceClassification.from_pretrained(
                spec.base, num_labels=1, local_files_only=True
            )
        except (OSError, ValueError) as exc:
            raise EncoderError(f"The base model {spec.base!r} cannot be loaded: {exc}") from exc
        finally:
            logging.set_verbosity(verbosity)
        self._model = model.to(spec.device)
        _freeze(self._model, spec.layers)

    @property
    def module(self) -> torch.nn.Module:
        return self._model  # type: ignore[no-any-return]

    def loss_of(self, places: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        import torch

        examples = [self._learned[place] for place in places]
        groups = [group(example, self._spec.group_size, rng) for example in examples]
        size = min(map(len, groups))
        pairs = [
            (example.query, example.texts[place])
            for example, chosen in zip(examples, groups, strict=True)
            for place in chosen[:size]
        ]
        self._model.train()
        scores = self._logits(pairs).reshape(-1, size)
        teacher = [
            [example.teacher[place] for place in chosen[:size]]
            for example, chosen in zip(examples, groups, strict=True)
        ]
        labels = torch.zeros_like(scores)
        labels[:, 0] = 1
        return self._objective.loss(scores, labels, torch.tensor(teacher, device=scores.device))

    def score(self, example: Example) -> Floats:
        import torch

        self._model.eval()
        pairs = [(example.query, text) for text in example.texts]
        with torch.inference_mode():
            parts = [
                self._logits(pairs[start : start + _SCORED_AT_ONCE]).float().cpu().numpy()
                for start in range(0, len(pairs), _SCORED_AT_ONCE)
            ]
        return np.concatenate(parts).astype(np.float32)

    def save(self, folder: Path, held: Sequence[Example]) -> None:
        self._model.save_pretrained(folder)
        self._tokenizer.model_max_length = self._spec.max_tokens
        self._tokenizer.save_pretrained(folder)
        logits = np.concatenate([self.score(example) for example in held])
        relevant = np.array([grade > 0 for example in held for grade in example.grades], np.float32)
        fit_calibration(logits, relevant).save(folder)

    def _logits(self, pairs: Sequence[tuple[str, str]]) -> torch.Tensor:
        encoded = self._tokenizer(
            [query for query, _ in pairs],
            [text for _, text in pairs],
            truncation="longest_first",
            max_length=self._spec.max_tokens,
            padding=True,
            return_tensors="pt",
        ).to(self._spec.device)
        logits: torch.Tensor = self._model(**encoded).logits[:, 0]
        return logits


def _freeze(model: Any, n_layers: int) -> None:
    """Leaves the last layers, and what comes after them, to be trained."""
    encoder = getattr(model.base_model, "encoder", None)
    layers = getattr(encoder, "layer", None)
    if layers is None or not 1 <= n_layers <= len(layers):
        raise TrainingError(f"The base model does not have {n_layers} layers that could be trained.")
    for parameter in model.base_model.parameters():
        parameter.requires_grad = False
    pooler = getattr(model.base_model, "pooler", None)
    for part in (*layers[-n_layers:], *([pooler] if pooler is not None else [])):
        for parameter in part.parameters():
            parameter.requires_grad = True
