"""The first layers of a transformer, as 2D Matryoshka models use them.

Li et al. 2024, https://arxiv.org/abs/2402.14776: a model trained for it gives usable vectors after any
layer, and half the layers take half the time. What stands behind the layers, a last normalisation for
example, stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from indexing.errors import EncoderError

if TYPE_CHECKING:
    import torch


def keep_layers(model: torch.nn.Module | None, n_layers: int) -> None:
    """Takes the layers behind the first `n_layers` out of a model of the transformers library.

    Raises EncoderError if it has fewer, or no one stack of layers that its configuration counts.
    """
    config: Any = getattr(model, "config", None)
    n_whole = getattr(config, "num_hidden_layers", None)
    stacks = _stacks(model, n_whole)
    if len(stacks) != 1:
        raise EncoderError("The layers of this model cannot be told apart; leave encoder.layers empty.")
    if not 1 <= n_layers <= len(stacks[0]):
        raise EncoderError(f"layers must be from 1 to {len(stacks[0])} for this model, not {n_layers}.")
    del stacks[0][n_layers:]
    config.num_hidden_layers = n_layers


def _stacks(model: torch.nn.Module | None, n_layers: int | None) -> list[Any]:
    """The lists of modules, all of one class, that are as long as the model is deep."""
    import torch

    lists = [] if model is None else [m for m in model.modules() if isinstance(m, torch.nn.ModuleList)]
    return [found for found in lists if len(found) == n_layers and len({type(layer) for layer in found}) == 1]
