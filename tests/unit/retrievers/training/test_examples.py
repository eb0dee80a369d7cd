"""What is learned from: relevant texts, hard negatives of the fused ranking, and which are doubtful."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from indexing.encoding.fake import WordEncoder
from retrievers.evaluation.beir import load_collection
from retrievers.training.examples import (
    Example,
    group,
    load_examples,
    mine,
    parted,
    save_examples,
    without_doubtful,
)
from tests.unit.retrievers.training.data import write_data


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "made-up", n=30)


def mined(folder: Path, work: Path, *, limit: int | None = None) -> list[Example]:
    collection = load_collection(folder)
    return list(mine(collection, WordEncoder(), work, n_candidates=6, limit=limit, say=silent))


def test_negatives_are_the_best_of_what_is_not_relevant(folder: Path, tmp_path: Path) -> None:
    collection = load_collection(folder)
    text_of = {document.id: document.text for document in collection.documents()}
    relevant = {
        collection.queries[key]: {text_of[document_id] for document_id in judged}
        for key, judged in collection.qrels.items()
    }
    examples = mined(folder, tmp_path / "work")
    assert len(examples) > 20
    for example in examples:
        good = [text for text, grade in zip(example.texts, example.grades, strict=True) if grade]
        bad = [text for text, grade in zip(example.texts, example.grades, strict=True) if not grade]
        assert example.grades[0] > 0
        assert len(set(example.texts)) == len(example.texts) <= 6
        # A document is one chunk here, its title and its text.
        assert all(any(whole in text for whole in relevant[example.query]) for text in good)
        assert not any(whole in text for whole in relevant[example.query] for text in bad)
        scores = example.teacher[len(good) :]
        assert list(scores) == sorted(scores, reverse=True)


def test_a_limit_takes_a_part_that_is_always_the_same(folder: Path, tmp_path: Path) -> None:
    everything = mined(folder, tmp_path / "work")
    few = mined(folder, tmp_path / "work", limit=12)
    assert 0 < len(few) <= 12
    assert all(example in everything for example in few)
    save_examples(few, tmp_path / "kept.jsonl")
    assert load_examples(tmp_path / "kept.jsonl") == few
    learned, held = parted(everything)
    assert sorted([*learned, *held], key=repr) == sorted(everything, key=repr)


def example(grades: list[int], teacher: list[float]) -> Example:
    return Example(
        collection="made-up",
        query="q",
        texts=tuple(f"t{place}" for place in range(len(grades))),
        grades=tuple(grades),
        teacher=tuple(teacher),
    )


def test_a_negative_that_is_as_near_as_what_is_relevant_is_left_out() -> None:
    """It may be relevant and not judged."""
    one = example([2, 1, 0, 0, 0], [0.8, 0.4, 0.77, 0.76, 0.3])
    (found,) = without_doubtful([one], 0.95)
    assert (found.texts, found.grades, found.teacher) == (
        ("t0", "t1", "t3", "t4"),
        (2, 1, 0, 0),
        (0.8, 0.4, 0.76, 0.3),
    )
    assert without_doubtful([one], 0.1) == []  # nothing is left to learn from
    assert without_doubtful([one], None) == [one]


@given(
    grades=st.lists(st.integers(0, 2), min_size=1, max_size=8).map(lambda rest: [1, 0, *rest]),
    n=st.integers(2, 8),
    seed=st.integers(0, 1000),
)
def test_a_group_is_one_that_is_relevant_and_others_that_are_not(
    grades: list[int], n: int, seed: int
) -> None:
    one = example(grades, [0.0] * len(grades))
    first, *others = group(one, n, np.random.default_rng(seed))
    assert grades[first] > 0
    assert not any(grades[place] for place in others)
    assert len(set(others)) == len(others) == min(n - 1, grades.count(0))
