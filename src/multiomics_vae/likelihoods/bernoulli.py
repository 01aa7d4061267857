"""Open or closed, the likelihood of binary ATAC peaks."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiomics_vae.kernels import BernoulliKernel
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, FusedTerms, Likelihood, Support
from multiomics_vae.likelihoods.feature_part import FeaturePart

LOWEST_FRACTION = 1e-5


class Bernoulli(Likelihood):
    """[x > 0] ~ Bernoulli with logits outputs[0] + γ (log depth − mean log depth).

    log p = x · logit − softplus(logit): logit space throughout, never a probability. γ is one learned
    number, 1 at the start, when twice the depth means twice the odds.

    Parameters
    ----------
    statistics
        Of the training cells: ``nonzero_fraction``, held to 1e-5 … 1 − 1e-5, starts the biases,
        ``mean_log_depth`` centres the depth.
    dispersion
        Only ``"feature"``; there is nothing to disperse.

    Raises
    ------
    InputError
        If ``dispersion`` is another.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["bernoulli"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(x, (logits,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "bernoulli"
    support: ClassVar[Support] = "binary"
    default_transform = "tfidf"
    reads_depth = True
    mean_log_depth: Tensor

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        self.gamma = nn.Parameter(torch.tensor(1.0))
        self.register_buffer("mean_log_depth", torch.tensor(float(statistics.mean_log_depth)))

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        return (torch.logit(statistics.nonzero_fraction, eps=LOWEST_FRACTION),)

    def depth_logits(self, cells: CellContext) -> Tensor:
        """What depth adds to every logit of a cell, γ (log depth − mean log depth): ``(B, 1)``."""
        return (self.gamma * (cells.depth.log() - self.mean_log_depth)).unsqueeze(-1)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        logits = outputs[0] + self.depth_logits(cells)  # (B, F)
        return torch.where(x > 0, logits, 0.0) - functional.softplus(logits)

    def fused_terms(self, cells: CellContext) -> FusedTerms:
        return FusedTerms(BernoulliKernel(), offset=self.depth_logits(cells).squeeze(-1))

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        return torch.sigmoid(outputs[0] + self.depth_logits(cells))

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        logits = outputs[0] + self.depth_logits(cells)  # (B, F)
        return torch.sigmoid(logits) * torch.sigmoid(-logits)

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        closed = torch.sigmoid(-outputs[0] - self.depth_logits(cells))  # (B, F)
        return (uniform > closed).to(closed.dtype)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Probability of being open in a cell of average log depth, σ(outputs[0]): ``(B, F)``."""
        return torch.sigmoid(outputs[0])
