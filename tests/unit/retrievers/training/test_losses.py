"""Losses against the same sums written out, one query and one candidate at a time."""

from __future__ import annotations

from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from retrievers.training.examples import Example
from retrievers.training.learner import Objective
from retrievers.training.losses import contrastive, kl_divergence, margin_mse
from retrievers.training.matryoshka import MatryoshkaSpec, WholeModelLearner
from tests.unit.indexing.encoding.tiny_model import save_tiny_model

Rows = list[list[float]]


def share(row: list[float], place: int) -> float:
    return exp(row[place]) / sum(map(exp, row))


def tables(seed: int, n: int, width: int) -> tuple[Rows, Rows, Rows]:
    """Scores, the teacher's, and labels of which each row has one at least."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, (n, width))
    labels[:, 0] = 1
    return rng.normal(0, 2, (n, width)).tolist(), rng.normal(0, 2, (n, width)).tolist(), labels.tolist()


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10_000), n=st.integers(1, 4), width=st.integers(2, 6))
def test_losses_are_the_sums(seed: int, n: int, width: int) -> None:
    scores, teacher, labels = tables(seed, n, width)
    relevant = [
        -log(sum(share(row, place) for place in range(width) if wanted[place]))
        for row, wanted in zip(scores, labels, strict=True)
    ]
    margins = [
        ((row[0] - row[place]) - (taught[0] - taught[place])) ** 2
        for row, taught in zip(scores, teacher, strict=True)
        for place in range(1, width)
    ]
    distances = [
        sum(share(taught, place) * log(share(taught, place) / share(row, place)) for place in range(width))
        for row, taught in zip(scores, teacher, strict=True)
    ]
    s, t, y = (torch.tensor(rows, dtype=torch.float64) for rows in (scores, teacher, labels))
    assert float(contrastive(s, y)) == pytest.approx(np.mean(relevant), abs=1e-9)
    assert float(margin_mse(s, t)) == pytest.approx(np.mean(margins))
    assert float(kl_divergence(s, t)) == pytest.approx(np.mean(distances), abs=1e-9)


def test_the_objective_is_taught_by_the_candidates_that_have_a_fused_score() -> None:
    scores, _, labels = tables(1, 3, 5)
    teacher = [[0.6, 0.5], [0.4, 0.3], [0.9, 0.1]]
    s, y, t = torch.tensor(scores), torch.tensor(labels), torch.tensor(teacher)
    first = torch.tensor([row[:2] for row in scores])
    expected = contrastive(s, y) + 0.5 * kl_divergence(first, 20 * t)
    found = Objective(distillation="kl", weight=0.5, teacher_scale=20.0).loss(s, y, t)
    assert float(found) == pytest.approx(float(expected))
    assert float(Objective(distillation="none").loss(s, y, t)) == pytest.approx(float(contrastive(s, y)))


def example(query: str, *texts: str) -> Example:
    """Of the texts the first is relevant."""
    return Example(
        collection="made-up",
        query=query,
        texts=texts,
        grades=(1, *(0 for _ in texts[1:])),
        teacher=tuple(1.0 / place for place in range(1, len(texts) + 1)),
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


def learner_of(tiny: Path, dims: tuple[int, ...], examples: list[Example]) -> WholeModelLearner:
    learner = WholeModelLearner(MatryoshkaSpec(dims=dims, model=str(tiny)), examples)
    for module in learner.module.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return learner


def info_nce(learner: WholeModelLearner, examples: list[Example], dims: tuple[int, ...]) -> float:
    """Σ over prefixes of InfoNCE at a temperature of 1/20, over all relevant texts and hard negatives."""
    model: Any = learner.module
    encode = model.encode
    queries = encode([one.query for one in examples])
    texts = encode([one.texts[0] for one in examples] + [one.texts[1] for one in examples])
    total = 0.0
    for dim in dims:
        losses = []
        for number, query in enumerate(queries):
            cosines = [
                20 * query[:dim] @ text[:dim] / np.linalg.norm(query[:dim]) / np.linalg.norm(text[:dim])
                for text in texts
            ]
            losses.append(-log(share(cosines, number)))
        total += float(np.mean(losses))
    return total


def test_a_whole_model_learns_its_prefixes_and_its_full_vectors(tiny: Path) -> None:
    """Without the full size in the loss, whole vectors would be worth less after training than before."""
    examples = [
        example("red apple", "green apple", "old river"),
        example("north sky", "blue sky", "new fire"),
    ]
    learner = learner_of(tiny, (4, 8), examples)
    loss = learner.loss_of([0, 1], np.random.default_rng(0))
    assert float(loss.detach()) == pytest.approx(info_nce(learner, examples, (4, 8, 32)), rel=1e-4)


def test_what_is_relevant_to_one_question_of_a_batch_is_no_negative_of_another(tiny: Path) -> None:
    examples = [
        example("red apple", "green apple", "old river"),
        example("apple tree", "green apple", "blue sky"),
        example("stone", "stone bread", "green apple"),
        example("river", "old river", "first fire"),
        example("north sky", "south sky", "new fire"),
    ]
    learner = learner_of(tiny, (32,), examples)
    apart = [examples[0], examples[4]]
    together = learner.loss_of([0, 1, 2, 3, 4], np.random.default_rng(0))
    assert float(together.detach()) == pytest.approx(info_nce(learner, apart, (32,)), rel=1e-4)
