"""Losses over the candidates of queries, as functions of PyTorch tensors.

`scores`, `labels` and `teacher` have the shape (n_queries, n_candidates) and stand for the same candidates.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def contrastive(scores: Tensor, labels: Tensor) -> Tensor:
    """The mean over queries of -log of the share that softmax gives to what is relevant.

    Gao, Dai and Callan 2021 (localized contrastive estimation), https://arxiv.org/abs/2101.08751, equation 6,
    summed over several relevant candidates; with in-batch candidates it is InfoNCE.
    """
    import torch

    relevant = scores.masked_fill(labels <= 0, -torch.inf)
    return (torch.logsumexp(scores, dim=1) - torch.logsumexp(relevant, dim=1)).mean()


def margin_mse(scores: Tensor, teacher: Tensor) -> Tensor:
    """The mean squared difference between the student's and the teacher's margins of the first candidate.

    Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666, equation 4.
    """
    margins = scores[:, :1] - scores[:, 1:]
    wanted = teacher[:, :1] - teacher[:, 1:]
    return ((margins - wanted) ** 2).mean()


def kl_divergence(scores: Tensor, teacher: Tensor) -> Tensor:
    """KL of the teacher's softmax over the candidates from the student's, mean over queries.

    As ColBERTv2 is distilled: Santhanam et al. 2022, https://arxiv.org/abs/2112.01488, section 3.2.
    """
    from torch.nn import functional

    return functional.kl_div(
        functional.log_softmax(scores, dim=1),
        functional.log_softmax(teacher, dim=1),
        reduction="batchmean",
        log_target=True,
    )
