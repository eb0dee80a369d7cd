"""The one training loop: seeded, with checkpoints, and the same result whether interrupted or not."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import numpy as np

from retrievers.training.errors import TrainingError

if TYPE_CHECKING:
    import torch

Say = Callable[[str, int, int], None]
LossOf = Callable[[Sequence[int], np.random.Generator], "torch.Tensor"]
"""The loss of the examples at these places; whatever is drawn is drawn from the generator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to train. The learning rate rises over the first tenth of the steps and then falls to zero."""

    steps: int
    batch_size: int
    learning_rate: float
    seed: int = 0
    weight_decay: float = 0.0
    max_norm: float = 1.0
    checkpoint_steps: int = 100

    def rate(self, step: int) -> float:
        """The learning rate of a step, which count from 0."""
        warm = max(self.steps // 10, 1)
        if step < warm:
            return self.learning_rate * (step + 1) / warm
        return self.learning_rate * (self.steps - step) / max(self.steps - warm, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """What came of it: the loss of every step; `finished` is false where it was told to stop."""

    losses: tuple[float, ...]
    finished: bool


def fit(
    module: torch.nn.Module,
    loss_of: LossOf,
    n_examples: int,
    plan: Plan,
    checkpoint: Path,
    *,
    resume: bool,
    stop: Callable[[], bool],
    say: Say,
) -> Fit:
    """Trains the parameters of the module that ask for gradients.

    Everything random in a step follows from the seed and the number of the step, so that a run taken up again
    gives the parameters of one that was never stopped. `stop` is asked after every step.

    Raises:
        TrainingError: the loss is no number, or the checkpoint is of another plan.
    """
    import torch

    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay)
    losses = _restore(checkpoint, module, optimizer, plan) if resume and checkpoint.exists() else []
    batches = _batches(n_examples, plan, start=len(losses))
    for step in range(len(losses), plan.steps):
        _seed(plan.seed, step)
        for settings in optimizer.param_groups:
            settings["lr"] = plan.rate(step)
        optimizer.zero_grad()
        loss = loss_of(next(batches), np.random.default_rng((plan.seed, 1, step)))
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(f"The loss of step {step} is {value}: try a lower learning rate.")
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(parameters, plan.max_norm)
        optimizer.step()
        losses.append(value)
        say("train", step + 1, plan.steps)
        stopping = stop() and step + 1 < plan.steps
        if stopping or (step + 1) % plan.checkpoint_steps == 0 or step + 1 == plan.steps:
            _keep(checkpoint, module, optimizer, plan, losses)
        if stopping:
            return Fit(losses=tuple(losses), finished=False)
    return Fit(losses=tuple(losses), finished=True)


def _seed(seed: int, step: int) -> None:
    """Dropout and what the losses of sentence-transformers draw depend on the step alone."""
    import torch

    value = int(np.random.SeedSequence((seed, 0, step)).generate_state(1)[0])
    torch.manual_seed(value)
    random.seed(value)


def _batches(n_examples: int, plan: Plan, start: int) -> Iterator[list[int]]:
    """Places of the examples of each step from `start` on; every epoch has an order of its own."""
    size = min(plan.batch_size, n_examples)
    a_epoch = n_examples // size
    step = start
    while True:
        order = np.random.default_rng((plan.seed, 2, step // a_epoch)).permutation(n_examples)
        for number in range(step % a_epoch, a_epoch):
            yield order[number * size : (number + 1) * size].tolist()
            step += 1


def _trained(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {
        name: parameter.detach() for name, parameter in module.named_parameters() if parameter.requires_grad
    }


def _keep(
    path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, plan: Plan, losses: list[float]
) -> None:
    """Writes beside, then renames: a kill leaves the checkpoint before."""
    import torch

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{uuid4().hex}.part")
    state: dict[str, Any] = {
        "plan": asdict(plan),
        "losses": losses,
        "module": _trained(module),
        "optimizer": optimizer.state_dict(),
    }
    try:
        torch.save(state, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _restore(
    path: Path, module: torch.nn.Module, optimizer: torch.optim.Optimizer, plan: Plan
) -> list[float]:
    """Puts the state of the checkpoint into module and optimizer; gives the losses so far."""
    import torch

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        kept = state["plan"]
    except Exception as exc:  # torch raises errors of many families
        raise TrainingError(f"{path} cannot be read: {exc}. Begin anew without --resume.") from exc
    if kept != asdict(plan):
        raise TrainingError(
            f"{path} is of another plan: {kept}. Resume with the same options, or begin anew."
        )
    own = _trained(module)
    if own.keys() != state["module"].keys():
        raise TrainingError(f"{path} is of another model. Begin anew without --resume.")
    for name, values in state["module"].items():
        own[name].copy_(values)
    optimizer.load_state_dict(state["optimizer"])
    return list(state["losses"])
