"""Training a head for late interaction: a projection of token vectors that are computed once and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from indexing.encoding.base import Encoder
from indexing.encoding.rotation import principal_axes
from indexing.types import Floats
from retrievers.training.examples import Example, Say, first_texts, group
from retrievers.training.learner import Objective

if TYPE_CHECKING:
    import torch

_ENCODED_AT_ONCE = 256
_FITTED_TOKENS = 100_000
_TOKENS = "token_embeddings"


@dataclass(frozen=True, slots=True, kw_only=True)
class LateSpec:
    """`base` is the folder of the encoder's transformer, which goes into what is saved. `scale` turns the
    mean over query tokens into logits."""

    base: Path
    dim: int
    group_size: int = 8
    scale: float = 20.0


class LateLearner:
    """Learns W in MaxSim(q, d) = 1/|q| Σ_i max_j cos(W q_i, W d_j) (Khattab and Zaharia 2020, equation 3).

    W begins as the principal axes of the token vectors, and with the full dimension as the identity: what
    the encoder knows is the start, and small steps keep near it. The relevant passages of the other queries
    of a batch are negatives too.
    """

    use = "FOOTNOTE_ENCODER_MODEL={folder}"

    def __init__(
        self,
        spec: LateSpec,
        encoder: Encoder,
        learned: Sequence[Example],
        held: Sequence[Example],
        objective: Objective,
        say: Say,
    ) -> None:
        import torch

        self._spec = spec
        self._learned = learned
        self._objective = objective
        examples = [*learned, *held]
        self._queries = _tokens(encoder, list(dict.fromkeys(e.query for e in examples)), True, say)
        self._texts = _tokens(encoder, first_texts(examples), False, say)
        self._head = torch.nn.Linear(encoder.dim, spec.dim, bias=False)
        with torch.no_grad():
            self._head.weight.copy_(torch.from_numpy(_start(list(self._texts.values()), spec.dim).T.copy()))

    @property
    def module(self) -> torch.nn.Module:
        return self._head

    def loss_of(self, places: Sequence[int], rng: np.random.Generator) -> torch.Tensor:
        import torch

        examples = [self._learned[place] for place in places]
        groups = [group(example, self._spec.group_size, rng) for example in examples]
        size = min(map(len, groups))
        own = [
            [example.texts[place] for place in chosen[:size]]
            for example, chosen in zip(examples, groups, strict=True)
        ]
        firsts = [texts[0] for texts in own]
        scores = []
        for row, (example, texts) in enumerate(zip(examples, own, strict=True)):
            others = [text for at, text in enumerate(firsts) if at != row]
            scores.append(self._scores(example.query, [*texts, *others]))
        table = torch.stack(scores)
        labels = torch.zeros_like(table)
        for row, example in enumerate(examples):
            relevant = {text for text, grade in zip(example.texts, example.grades, strict=True) if grade > 0}
            others = [text for at, text in enumerate(firsts) if at != row]
            labels[row, 0] = 1
            for at, text in enumerate(others, start=size):
                labels[row, at] = float(text in relevant)
        teacher = torch.tensor(
            [
                [example.teacher[place] for place in chosen[:size]]
                for example, chosen in zip(examples, groups, strict=True)
            ]
        )
        return self._objective.loss(table, labels, teacher)

    def score(self, example: Example) -> Floats:
        import torch

        with torch.inference_mode():
            return np.asarray(self._scores(example.query, example.texts).numpy(), np.float32)

    def save(self, folder: Path, held: Sequence[Example]) -> None:  # noqa: ARG002
        """A multi-vector model of sentence-transformers, whose first part is the base as it is."""
        _save_model(self._spec, self._head, folder)

    def _scores(self, query: str, texts: Sequence[str]) -> torch.Tensor:
        """Logits of texts for a query, shape (n_texts,)."""
        import torch
        from torch.nn import functional

        parts = [torch.from_numpy(self._texts[text].astype(np.float32)) for text in texts]
        asked = torch.from_numpy(self._queries[query].astype(np.float32))
        turned = functional.normalize(self._head(torch.cat([asked, *parts])), dim=1)
        likeness = turned[: len(asked)] @ turned[len(asked) :].T
        ends = np.cumsum([len(part) for part in parts]).tolist()
        best = [
            likeness[:, start:end].amax(dim=1).mean()
            for start, end in zip([0, *ends[:-1]], ends, strict=True)
        ]
        return torch.stack(best) * self._spec.scale


def _start(tokens: Sequence[Floats], dim: int) -> Floats:
    """The first principal axes of token vectors, shape (n_in, dim); the identity for all dimensions."""
    if tokens[0].shape[1] == dim:
        return np.eye(dim, dtype=np.float32)
    vectors = np.concatenate(tokens)
    step = -(-len(vectors) // _FITTED_TOKENS)
    return principal_axes(vectors[::step].astype(np.float32))[:, :dim]


def _tokens(encoder: Encoder, texts: Sequence[str], queries: bool, say: Say) -> dict[str, Any]:
    """Token vectors of each text in half precision, at least one for each."""
    encode: Any = encoder.encode_queries if queries else encoder.encode_documents
    found = {}
    for start in range(0, len(texts), _ENCODED_AT_ONCE):
        some = texts[start : start + _ENCODED_AT_ONCE]
        encoded = encode(some, with_tokens=True)
        for text, tokens, vector in zip(some, encoded.tokens, encoded.vectors, strict=True):
            vectors = tokens.vectors if len(tokens.vectors) else vector[None]
            found[text] = vectors.astype(np.float16)
        say("encode queries" if queries else "encode", start + len(some), len(texts))
    return found


def _save_model(spec: LateSpec, head: torch.nn.Linear, folder: Path) -> None:
    import torch
    from sentence_transformers import MultiVectorEncoder
    from sentence_transformers.base.modules import Dense, Normalize, Transformer
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    dense = Dense(
        head.in_features,
        head.out_features,
        bias=False,
        activation_function=torch.nn.Identity(),
        init_weight=head.weight.detach().clone(),
        module_input_name=_TOKENS,
    )
    model = MultiVectorEncoder(
        modules=[Transformer(str(spec.base)), dense, MultiVectorMask(skiplist_words=[]), Normalize(_TOKENS)],
        device="cpu",
    )
    model.save(str(folder), create_model_card=False)
