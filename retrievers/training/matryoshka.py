"""Training for vectors that may be cut: a rotation of kept sentence vectors, or a whole model.

Kusupati et al. 2022, https://arxiv.org/abs/2205.13147: the loss is the sum over prefixes of the vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.encoding.base import Encoder
from indexing.encoding.hub import load_model
from indexing.encoding.rotation import Rotation, principal_axes, save_rotation
from indexing.types import Floats
from retrievers.training.errors import TrainingError
from retrievers.training.examples import Example, Say, first_texts, group
from retrievers.training.losses import contrastive

if TYPE_CHECKING:
    import torch

ROTATION = "rotation.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class MatryoshkaSpec:
    """`dims` are the prefixes that are to be usable; quality is measured with the smallest.

    `layers` above 0 also trains so many other layers a step, as 2D-Matryoshka does. `model` is the
    sentence-transformers model that is trained as a whole; None trains a rotation.
    """

    dims: tuple[int, ...]
    model: str | None = None
    layers: int = 0
    group_size: int = 4
    scale: float = 20.0
    device: str = "cpu"


class RotationLearner:
    """Learns an orthogonal matrix R that begins as the principal axes: inner products of whole vectors stay.

    The loss is the contrastive one of every prefix, over the candidates of a query and the relevant passages
    of the others in the batch.
    """

    use = "FOOTNOTE_ENCODER_ROTATION={folder}/" + ROTATION

    def __init__(
        self,
        spec: MatryoshkaSpec,
        encoder: Encoder,
        learned: Sequence[Example],
        held: Sequence[Example],
        say: Say,
    ) -> None:
        """Raises TrainingError where a prefix is longer than the encoder's vectors."""
        import torch
        from torch.nn.utils import parametrizations

        _check_dims(spec, encoder.dim)
        self._spec = spec
        self._learned = learned
        examples = [*learned, *held]
        queries = list(dict.fromkeys(example.query for example in examples))
        self._queries = dict(zip(queries, encoder.encode_queries(queries).vectors, strict=True))
        texts = first_texts(examples)
        vectors = encoder.encode_documents(
            texts, progress=lambda done, total: say("encode", done, total)
        ).vectors
        self._texts = dict(zip(texts, vectors, strict=True))
        axes = principal_axes(vectors)
        # A product of two: a fixed start, and a turn away from it that begins as the identity.
        self._axes = torch.from_numpy(axes)
        self._turn = torch.nn.Linear(encoder.dim, encoder.dim, bias=False)
        torch.nn.init.eye_(self._turn.weight)
        parametrizations.orthogonal(self._turn, orthogonal_map="matrix_exp")

    @property
    def module(self) -> torch.nn.Module:
        return self._turn

    def loss_of(self, places: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        import torch

        examples = [self._learned[place] for place in places]
        chosen = [group(example, self._spec.group_size, rng) for example in examples]
        texts = list(
            dict.fromkeys(e.texts[place] for e, some in zip(examples, chosen, strict=True) for place in some)
        )
        labels = torch.tensor([_relevant(example, texts) for example in examples])
        asked = self._turned([self._queries[example.query] for example in examples])
        found = self._turned([self._texts[text] for text in texts])
        losses = [
            contrastive(_cosines(asked, found, dim) * self._spec.scale, labels) for dim in self._spec.dims
        ]
        return torch.stack(losses).mean()

    def score(self, example: Example) -> Floats:
        import torch

        with torch.inference_mode():
            asked = self._turned([self._queries[example.query]])
            found = self._turned([self._texts[text] for text in example.texts])
            return np.asarray(_cosines(asked, found, min(self._spec.dims))[0].numpy(), np.float32)

    def save(self, folder: Path, held: Sequence[Example]) -> None:  # noqa: ARG002
        import torch

        with torch.no_grad():
            matrix = (self._axes @ self._turn.weight.T).numpy()
        save_rotation(Rotation(matrix.astype(np.float32)), folder / ROTATION)

    def _turned(self, vectors: Sequence[Floats]) -> torch.Tensor:
        import torch

        turned: torch.Tensor = self._turn(torch.from_numpy(np.stack(vectors)) @ self._axes)
        return turned


class WholeModelLearner:
    """Learns all weights of a model by `MatryoshkaLoss` or `Matryoshka2dLoss` of sentence-transformers.

    The loss within is `MultipleNegativesRankingLoss` (InfoNCE) over triples of query, relevant passage and
    hard negative. The full size is always among the prefixes: left out, whole vectors would become worse. Of
    queries for which one's passage would be a false negative of the other, a step takes the first.
    """

    use = "FOOTNOTE_ENCODER_MODEL={folder}"

    def __init__(self, spec: MatryoshkaSpec, learned: Sequence[Example]) -> None:
        from sentence_transformers import SentenceTransformer
        from sentence_transformers.sentence_transformer import losses as st

        self._spec = spec
        self._learned = learned
        model: Any = load_model(SentenceTransformer, spec.model or "", {"device": spec.device})
        self._model = model
        _check_dims(spec, model.get_embedding_dimension())
        within = st.MultipleNegativesRankingLoss(model)
        dims = sorted({*spec.dims, model.get_embedding_dimension()})
        if spec.layers:
            self._loss: Any = st.Matryoshka2dLoss(
                model, within, dims, n_layers_per_step=spec.layers, n_dims_per_step=-1
            )
        else:
            self._loss = st.MatryoshkaLoss(model, within, dims)

    @property
    def module(self) -> torch.nn.Module:
        return self._model  # type: ignore[no-any-return]

    def loss_of(self, places: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        from sentence_transformers.util import batch_to_device

        examples = [self._learned[place] for place in places]
        triples = _apart(examples, [group(example, 2, rng) for example in examples])
        columns = [list(column) for column in zip(*triples, strict=True)]
        self._model.train()
        features = [batch_to_device(self._model.preprocess(column), self._model.device) for column in columns]
        loss: torch.Tensor = self._loss(features, None)
        return loss

    def score(self, example: Example) -> Floats:
        self._model.eval()
        dim = min(self._spec.dims)
        asked = self._model.encode_query([example.query], show_progress_bar=False)[:, :dim]
        found = self._model.encode_document(list(example.texts), show_progress_bar=False)[:, :dim]
        found = found / np.linalg.norm(found, axis=1, keepdims=True)
        return np.asarray(found @ asked[0], np.float32)

    def save(self, folder: Path, held: Sequence[Example]) -> None:  # noqa: ARG002
        self._model.save(str(folder), create_model_card=False)


def _check_dims(spec: MatryoshkaSpec, full: int) -> None:
    wrong = [dim for dim in spec.dims if not 1 <= dim <= full]
    if wrong or not spec.dims:
        raise TrainingError(f"Prefixes are from 1 to {full} numbers long, not {wrong or 'none'}.")


def _apart(examples: Sequence[Example], chosen: Sequence[Sequence[int]]) -> list[tuple[str, str, str]]:
    """(query, relevant text, hard negative) of examples none of whose texts is relevant to another's query.

    The first of those that are in each other's way stays.
    """
    kept: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    relevant_to_kept: set[str] = set()
    for example, (good, bad) in zip(examples, chosen, strict=True):
        relevant = {text for text, grade in zip(example.texts, example.grades, strict=True) if grade > 0}
        own = {example.texts[good], example.texts[bad]}
        if not (own & relevant_to_kept or relevant & seen):
            kept.append((example.query, example.texts[good], example.texts[bad]))
            seen |= own
            relevant_to_kept |= relevant
    return kept


def _relevant(example: Example, texts: Sequence[str]) -> list[float]:
    relevant = {text for text, grade in zip(example.texts, example.grades, strict=True) if grade > 0}
    return [float(text in relevant) for text in texts]


def _cosines(asked: torch.Tensor, found: torch.Tensor, dim: int) -> torch.Tensor:
    """Cosines of the first `dim` numbers, shape (n_asked, n_found)."""
    from torch.nn import functional

    return functional.normalize(asked[:, :dim], dim=1) @ functional.normalize(found[:, :dim], dim=1).T
