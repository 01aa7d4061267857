"""The same log likelihoods written plainly, on dense tensors: what the fused ones must agree with."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.kernels.fused import LogLikelihood
from multiomics_vae.kernels.sparse_rows import SparseRows


def bernoulli_reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows,
    *,
    offset: Tensor | None = None,
    cell_weights: Tensor | None = None,
) -> LogLikelihood:
    """Do what `bernoulli_log_likelihood` does, with autograd and ``(B, F)`` temporaries."""
    logits = functional.linear(hidden, weight, bias)  # (B, F)
    if offset is not None:
        logits = logits + offset.unsqueeze(1)  # (B, F)
    is_open = (data.to_dense() > 0).to(hidden.dtype)  # (B, F)
    log_prob = is_open * functional.logsigmoid(logits) + (1 - is_open) * functional.logsigmoid(
        -logits
    )  # (B, F)
    return _summed(log_prob, cell_weights)


def poisson_reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows,
    depth: Tensor,
    *,
    cell_weights: Tensor | None = None,
) -> LogLikelihood:
    """Do what `poisson_log_likelihood` does, with autograd and ``(B, F)`` temporaries."""
    log_mean = _log_mean(hidden, weight, bias, depth)  # (B, F)
    x = data.to_dense()  # (B, F)
    return _summed(x * log_mean - log_mean.exp() - torch.lgamma(x + 1), cell_weights)


def negative_binomial_reference(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows,
    depth: Tensor,
    log_dispersion: Tensor,
    *,
    batch: Tensor | None = None,
    cell_weights: Tensor | None = None,
) -> LogLikelihood:
    """Do what `negative_binomial_log_likelihood` does, with autograd and ``(B, F)`` temporaries."""
    log_mean = _log_mean(hidden, weight, bias, depth)  # (B, F)
    x = data.to_dense()  # (B, F)
    log_theta = log_dispersion if batch is None else log_dispersion[batch]  # (F,) or (B, F)
    theta = log_theta.exp()
    log_sum = torch.logaddexp(log_theta, log_mean)  # (B, F)
    log_prob = theta * (log_theta - log_sum) + x * (log_mean - log_sum)  # (B, F)
    log_prob = log_prob + torch.lgamma(x + theta) - torch.lgamma(theta) - torch.lgamma(x + 1)  # (B, F)
    return _summed(log_prob, cell_weights)


def _log_mean(hidden: Tensor, weight: Tensor, bias: Tensor, depth: Tensor) -> Tensor:
    logits = functional.linear(hidden, weight, bias)  # (B, F)
    return functional.log_softmax(logits, dim=1) + depth.log().unsqueeze(1)  # (B, F)


def _summed(log_prob: Tensor, cell_weights: Tensor | None) -> LogLikelihood:
    per_cell = log_prob.sum(1)  # (B,)
    total = per_cell.sum() if cell_weights is None else (per_cell * cell_weights).sum()
    return LogLikelihood(total, per_cell.detach())
