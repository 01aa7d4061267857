"""The normaliser of a softmax over very many features, without a tensor of all of them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.kernels.options import ChunkOptions


@dataclass(frozen=True)
class SoftmaxNormaliser:
    """What turns some logits of a cell into their shares among all: exp(l − highest) / total.

    Two numbers, because a rounded log Σ exp l of 40 would leave the same error in all shares of the cell.

    Parameters
    ----------
    highest
        Highest logit, ``(B, 1)``.
    total
        Σ exp(l − highest) over all F features, ``(B, 1)``.
    """

    highest: Tensor
    total: Tensor

    def shares(self, logits: Tensor) -> Tensor:
        """Softmax of all logits at some of them: ``(B, G)`` from ``(B, G)``."""
        return (logits - self.highest).exp() / self.total


def softmax_normaliser(
    hidden: Tensor, weight: Tensor, bias: Tensor, options: ChunkOptions | None = None
) -> SoftmaxNormaliser:
    """Find the normaliser of softmax(W h + b) a chunk of features at a time.

    The running total is kept in float64 (float32 on Metal, which has no other). It is not made for
    gradients: the log likelihoods of training have their own normaliser.

    Parameters
    ----------
    hidden
        h, ``(B, H)``.
    weight, bias
        W ``(F, H)`` and b ``(F,)``.
    options
        Size of a chunk; the rest does not apply.

    Returns
    -------
    SoftmaxNormaliser
        In the type of ``hidden``.

    Examples
    --------
    >>> normaliser = softmax_normaliser(torch.zeros(1, 2), torch.zeros(4, 2), torch.zeros(4))
    >>> normaliser.shares(torch.zeros(1, 1))
    tensor([[0.2500]])
    """
    n_cells, n_features = len(hidden), len(weight)
    size = (options or ChunkOptions()).chunk_size_for(n_cells, hidden.dtype, hidden.device)
    highest = hidden.new_full((n_cells, 1), -math.inf)  # (B, 1)
    wide = hidden.dtype if hidden.device.type == "mps" else torch.float64
    total = torch.zeros_like(highest, dtype=wide)  # (B, 1)
    with torch.no_grad():
        for start in range(0, n_features, size):
            chunk = slice(start, start + size)
            logits = torch.addmm(bias[chunk], hidden, weight[chunk].t())  # (B, n)
            now_highest = torch.maximum(highest, logits.amax(1, keepdim=True))  # (B, 1)
            total.mul_((highest - now_highest).exp_()).add_(
                logits.sub_(now_highest).exp_().sum(1, keepdim=True)
            )
            highest = now_highest
    return SoftmaxNormaliser(highest, total.to(hidden.dtype))
