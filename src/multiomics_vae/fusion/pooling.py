"""Arithmetic that the fusion rules share: the prior as an expert, masked softmax, log-linear pooling.

Precisions are handled as logarithms, so neither a very sharp nor a very flat expert overflows, and a
masked expert is a log weight of -inf, whose share and gradient are exactly 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.distributions import Gaussian


def with_prior(experts: Gaussian) -> Gaussian:
    """Put N(0, I) before the experts ``(E, B, K)``, as row 0 of ``(E + 1, B, K)``.

    Parameters
    ----------
    experts
        ``(E, B, K)``.

    Examples
    --------
    >>> with_prior(Gaussian(torch.ones(2, 5, 3), torch.ones(2, 5, 3))).mean.shape
    torch.Size([3, 5, 3])
    """
    origin = torch.zeros_like(experts.mean[:1])  # (1, B, K)
    return Gaussian(torch.cat([origin, experts.mean]), torch.cat([origin, experts.log_variance]))


def masked_log_softmax(logits: Tensor, usable: Tensor) -> Tensor:
    """Log weights of the usable experts, with the prior as row 0.

    The prior's weight is 1 where nothing is usable and 0 elsewhere, so that the weights of every cell
    sum to 1.

    Parameters
    ----------
    logits, usable
        ``(E, B)``.

    Returns
    -------
    Tensor
        ``(E + 1, B)``; -inf for what is not used.

    Examples
    --------
    >>> masked_log_softmax(torch.zeros(2, 1), torch.tensor([[True], [True]])).exp().squeeze().tolist()
    [0.0, 0.5, 0.5]
    """
    nothing = ~usable.any(0, keepdim=True)  # (1, B)
    rows = torch.cat([torch.zeros_like(logits[:1]), logits])  # (E + 1, B)
    return rows.masked_fill(~torch.cat([nothing, usable]), -torch.inf).log_softmax(0)


def mixture_log_weights(log_weights: Tensor) -> Tensor:
    """Drop the prior's row of `masked_log_softmax` for a mixture over the E experts alone.

    A mixture needs no component for the prior, which would cost a decoded sample for nothing: where
    nothing is usable every component is already N(0, I), and the first of them takes the weight 1.

    Parameters
    ----------
    log_weights
        ``(E + 1, B)``, row 0 the prior.

    Returns
    -------
    Tensor
        ``(E, B)``.

    Examples
    --------
    >>> mixture_log_weights(torch.tensor([[0.0], [-torch.inf], [-torch.inf]])).exp().squeeze().tolist()
    [1.0, 0.0]
    """
    first = torch.where(log_weights[0] == 0.0, log_weights[0], log_weights[1])  # (B,)
    return torch.cat([first.unsqueeze(0), log_weights[2:]])  # (E, B)


def log_linear_pool(experts: Gaussian, log_weights: Tensor) -> tuple[Gaussian, Tensor]:
    """Weighted product of Gaussians, Π q_e^{w_e}, normalised.

    τ = Σ w_e τ_e and μ = Σ w_e τ_e μ_e / τ, with τ the precision. Weights of 1 give the product of
    experts, weights that sum to 1 the weighted geometric mean.

    Parameters
    ----------
    experts
        ``(E, B, K)``.
    log_weights
        log w, ``(E, B)``; -inf leaves an expert out. At least one a cell must be finite.

    Returns
    -------
    pooled
        ``(B, K)``.
    shares
        w_e τ_e / τ, ``(E, B, K)``; sums to 1 over E.

    Examples
    --------
    >>> pair = Gaussian(torch.tensor([[[0.0]], [[1.0]]]), torch.zeros(2, 1, 1))
    >>> log_linear_pool(pair, torch.zeros(2, 1))[0].mean.item()
    0.5
    """
    log_precision = log_weights.unsqueeze(-1) - experts.log_variance  # (E, B, K)
    shares = log_precision.softmax(0)  # (E, B, K)
    mean = (shares * experts.mean).sum(0)  # (B, K)
    return Gaussian(mean, -log_precision.logsumexp(0)), shares
