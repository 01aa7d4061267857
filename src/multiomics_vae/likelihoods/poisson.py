"""Poisson counts, the likelihood of ATAC fragments."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.kernels import PoissonKernel, poisson_quantile
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, FusedTerms, Likelihood, Support
from multiomics_vae.likelihoods.count_kernels import (
    log_mean_counts,
    positions_of_nonzero,
    start_log_frequency,
    take_entries,
)
from multiomics_vae.likelihoods.feature_part import FeaturePart, softmax_shares


class Poisson(Likelihood):
    """x ~ Poisson(μ = depth · softmax(outputs[0])): log p = x log μ − μ − log x!.

    Fragment counts carry more than open or closed (Martens et al. 2023). ``depth`` must be on the
    scale of a library size, because the means of a cell add up to it. There is nothing to disperse.

    Parameters
    ----------
    statistics
        Of the training cells: ``mean_frequency`` starts the biases.
    dispersion
        Only ``"feature"``.

    Raises
    ------
    InputError
        If ``dispersion`` is another.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["poisson"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(x, (logits,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "poisson"
    support: ClassVar[Support] = "counts"
    default_transform = "tfidf"
    normalised_over_features = True
    reads_depth = True

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        return (start_log_frequency(statistics.mean_frequency),)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        log_mean = log_mean_counts(outputs[0], cells.depth)  # (B, F)
        positions = positions_of_nonzero(x)
        count = x.reshape(-1).gather(0, positions)  # (n,)
        above_zero = count * take_entries(log_mean, positions) - torch.lgamma(count + 1.0)  # (n,)
        return (-log_mean.exp()).view(-1).scatter_add(0, positions, above_zero).view(x.shape)  # (B, F)

    def fused_terms(self, cells: CellContext) -> FusedTerms:
        return FusedTerms(PoissonKernel(), cells.depth)

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        return self.normalized(outputs, cells, part) * cells.depth.unsqueeze(-1)  # (B, F)

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        return self.mean(outputs, cells, part)  # (B, F)

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        return poisson_quantile(uniform, self.mean(outputs, cells, part))  # (B, F)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Share of each feature in the cell's fragments, softmax(outputs[0]): ``(B, F)``."""
        return softmax_shares(outputs[0], part)
