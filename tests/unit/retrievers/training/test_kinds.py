"""Each kind of training: it learns, it can be stopped, killed and resumed, and what it writes loads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from indexing.encoding.factory import EncoderSpec, load_encoder
from indexing.encoding.fake import WordEncoder
from indexing.encoding.sentence_transformer import SentenceTransformerEncoder
from retrievers.reranking.calibration import load_calibration
from retrievers.reranking.cross_encoder import load_cross_encoder
from retrievers.training.cross_encoder import CrossEncoderLearner, CrossEncoderSpec
from retrievers.training.errors import TrainingError
from retrievers.training.examples import Example
from retrievers.training.late import LateLearner, LateSpec
from retrievers.training.learner import Learner, Objective
from retrievers.training.matryoshka import ROTATION, MatryoshkaSpec, RotationLearner, WholeModelLearner
from retrievers.training.run import WORK, MakeLearner, Training
from tests.unit.indexing.encoding.tiny_model import save_tiny_model
from tests.unit.retrievers.training.data import Killed, run, training, write_data

KINDS = ("cross-encoder", "late", "rotation", "whole")
Examples = Sequence[Example]


def silent(_stage: str, _done: int, _total: int) -> None:
    pass


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data") / "made-up")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model as sentence-transformers saves it; `bare` beside it is the transformer alone."""
    return save_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def maker(tiny: Path) -> Callable[[str], tuple[object, MakeLearner, float]]:
    bare = tiny.parent / "bare"
    encoder = SentenceTransformerEncoder.load(str(tiny), device="cpu")

    def make(kind: str) -> tuple[object, MakeLearner, float]:
        """(encoder, learner, learning rate)"""
        dims = MatryoshkaSpec(dims=(4, 8), model=str(tiny) if kind == "whole" else None, layers=1)

        def learner(learned: Examples, held: Examples) -> Learner:
            if kind == "cross-encoder":
                spec = CrossEncoderSpec(base=str(bare), layers=2, max_tokens=40, group_size=4, seed=3)
                return CrossEncoderLearner(spec, learned, Objective())
            if kind == "late":
                objective = Objective(distillation="margin_mse", weight=0.1)
                return LateLearner(LateSpec(base=bare, dim=16), encoder, learned, held, objective, silent)
            if kind == "rotation":
                return RotationLearner(dims, encoder, learned, held, silent)
            return WholeModelLearner(dims, learned)

        return encoder, learner, {"cross-encoder": 3e-3, "late": 1e-2, "rotation": 2e-2, "whole": 3e-3}[kind]

    return make


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that was learned, by file and name."""
    from safetensors.torch import load_file

    found = {
        f"{path.relative_to(folder)}:{name}": values
        for path in sorted(folder.rglob("*.safetensors"))
        for name, values in load_file(path).items()
    }
    if (folder / ROTATION).exists():
        found["matrix"] = torch.from_numpy(np.load(folder / ROTATION)["matrix"])
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_learns_and_goes_on_as_if_never_disturbed(
    kind: str, data: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, rate = maker(kind)
    whole = run(training(tmp_path / "whole", data, rate=rate), encoder, make)
    assert whole.finished
    assert np.mean(whole.losses[-4:]) < np.mean(whole.losses[:4])

    what = training(tmp_path / "parts", data, rate=rate)
    stopped = run(what, encoder, make, stop_after=7)
    assert not stopped.finished
    assert len(stopped.losses) == 7
    with pytest.raises(Killed):
        run(what, encoder, make, resume=True, kill_after=11)
    resumed = run(what, encoder, make, resume=True)
    assert resumed.finished
    assert resumed.losses == whole.losses
    assert resumed.measured == whole.measured
    ours, theirs = weights(tmp_path / "parts"), weights(tmp_path / "whole")
    assert ours.keys() == theirs.keys() != set()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not (tmp_path / "parts" / WORK).exists()
    card = (tmp_path / "parts" / "README.md").read_text()
    assert "| made-up |" in card
    assert "CC0" in card
    assert f"{whole.measured['made-up'].after:.4f}" in card


def test_the_cross_encoder_is_loaded_by_its_folder(
    data: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, _ = maker("cross-encoder")
    out = tmp_path / "out"
    done = run(training(out, data, steps=2), encoder, make)
    assert done.use == f"FOOTNOTE_RERANK_MODEL={out}"
    model = load_cross_encoder(str(out), device="cpu")
    logits, complete = model.logits("red apple", ["green apple sky", "old water"])
    assert complete
    assert all(np.isfinite(value) for value in logits.values())
    assert model.calibration == load_calibration(out)


def test_the_late_head_is_loaded_as_an_encoder(
    data: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, _ = maker("late")
    run(training(tmp_path / "out", data, steps=2), encoder, make)
    late = load_encoder(EncoderSpec(model=str(tmp_path / "out"), device="cpu"), tmp_path)
    tokens = late.encode_queries(["red apple"], with_tokens=True).tokens
    assert tokens is not None
    assert tokens[0].vectors.shape[1] == 16


def test_the_rotation_is_orthogonal_and_turns_the_encoder(
    data: Path, tiny: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, _ = maker("rotation")
    run(training(tmp_path / "out", data, steps=10, rate=1e-2), encoder, make)
    path = tmp_path / "out" / ROTATION
    matrix = np.load(path)["matrix"]
    assert matrix.T @ matrix == pytest.approx(np.eye(len(matrix)), abs=1e-4)
    turned = load_encoder(EncoderSpec(model=str(tiny), device="cpu", rotation=str(path)), tmp_path)
    texts = ["red apple", "old river stone"]
    before = encoder.encode_documents(texts).vectors  # type: ignore[attr-defined]
    after = turned.encode_documents(texts).vectors
    assert after == pytest.approx(before @ matrix, abs=1e-4)


def test_the_whole_model_is_loaded_as_an_encoder(
    data: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, _ = maker("whole")
    run(training(tmp_path / "out", data, steps=2), encoder, make)
    cut = load_encoder(EncoderSpec(model=str(tmp_path / "out"), device="cpu", dim=8), tmp_path)
    assert cut.encode_documents(["red apple"]).vectors.shape == (1, 8)


def changed(what: Training) -> Training:
    return replace(what, plan=replace(what.plan, steps=what.plan.steps + 1))


def test_what_was_begun_is_not_taken_up_with_other_options(
    data: Path, tmp_path: Path, maker: Callable[[str], tuple[object, MakeLearner, float]]
) -> None:
    encoder, make, _ = maker("rotation")
    what = training(tmp_path / "out", data)
    run(what, encoder, make, stop_after=2)
    with pytest.raises(TrainingError, match="other data or options"):
        run(changed(what), encoder, make, resume=True)
    with pytest.raises(TrainingError, match="not empty"):
        run(what, encoder, make)


def test_nothing_to_go_on_with(tmp_path: Path, data: Path) -> None:
    def never(_: Examples, __: Examples) -> Learner:
        raise AssertionError

    with pytest.raises(TrainingError, match="nothing to go on with"):
        run(training(tmp_path / "out", data), WordEncoder(), never, resume=True)


def test_too_little_to_learn_from(tmp_path: Path) -> None:
    def never(_: Examples, __: Examples) -> Learner:
        raise AssertionError

    few = write_data(tmp_path / "few", n=2)
    with pytest.raises(TrainingError, match="too few"):
        run(training(tmp_path / "out", few), WordEncoder(), never)
