"""Negative binomial counts, some of which are lost to 0."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.kernels import negative_binomial_quantile
from multiomics_vae.likelihoods.base import (
    CellContext,
    FeatureStatistics,
    Likelihood,
    Support,
    inside_unit,
)
from multiomics_vae.likelihoods.count_kernels import (
    log_mean_counts,
    negative_binomial_log_prob,
    negative_binomial_variance,
    start_log_dispersion,
    start_log_frequency,
)
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, features_of, softmax_shares

START_DROPOUT_LOGIT = -5.0


class ZeroInflatedNegativeBinomial(Likelihood):
    """x is 0 with probability π = σ(outputs[1]), else NB(depth · softmax(outputs[0]), θ).

    log p(0) = log(π + (1 − π) NB(0)) and log p(x) = log(1 − π) + log NB(x), both from the logit of π
    (scVI, Lopez et al. 2018). Dropout starts rare, π = 0.7 %; θ starts as in the negative binomial.

    The means before dropout add up to the depth, so those after it add up to a share 1 − π of it, whatever
    the biases: with the library size as depth no start has both π > 0 and the data's mean (1 − π) μ. The
    start has the data's proportions, and means 0.7 % below the data's. A rarer dropout would be
    nearer, but its gradient shrinks with π, and it would hardly be learned.

    Parameters
    ----------
    statistics
        Of the training cells: ``overdispersion`` starts θ, ``mean_frequency`` the biases.
    dispersion
        ``"feature"``: one θ a feature; ``"feature-batch"``: one a feature and batch.

    Raises
    ------
    InputError
        If ``dispersion`` is another.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["zinb"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(x, (logits, dropout_logits), cells).sum(-1)  # doctest: +SKIP
    """

    name = "zinb"
    support: ClassVar[Support] = "counts"
    default_transform = "log1p"
    dispersions = ("feature", "feature-batch")
    normalised_over_features = True
    reads_depth = True

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        start = start_log_dispersion(statistics.overdispersion)  # (F,)
        self.log_dispersion = FeatureParameter(start, self.n_batches if dispersion == "feature-batch" else 1)

    @property
    def output_widths(self) -> tuple[int, ...]:
        """Logits of the mean, and logits of dropout: both F."""
        return (self.n_features, self.n_features)

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        log_frequency = start_log_frequency(statistics.mean_frequency)  # (F,)
        return (log_frequency, torch.full_like(log_frequency, START_DROPOUT_LOGIT))

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        log_mean = log_mean_counts(outputs[0], cells.depth)  # (B, F)
        dropout = outputs[1]  # (B, F)
        counted = negative_binomial_log_prob(x, log_mean, self.log_dispersion(cells.batch))  # (B, F)
        either = torch.where(x > 0, counted, torch.logaddexp(dropout, counted))  # (B, F)
        return either - functional.softplus(dropout)

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        kept = torch.sigmoid(-outputs[1])  # (B, F)
        return kept * self.normalized(outputs, cells, part) * cells.depth.unsqueeze(-1)

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        kept = torch.sigmoid(-outputs[1])  # (B, F)
        mean = self._mean_before_dropout(outputs, cells, part)  # (B, F)
        counted = negative_binomial_variance(mean, self.log_dispersion(cells.batch, features_of(part)))
        return kept * (counted + (1.0 - kept) * mean.square())

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        lost = torch.sigmoid(outputs[1]).to(uniform)  # (B, F)
        # What is left of a number above the share of lost counts is uniform again.
        rest = inside_unit((uniform - lost) / (1.0 - lost))  # (B, F)
        mean = self._mean_before_dropout(outputs, cells, part)  # (B, F)
        counts = negative_binomial_quantile(rest, mean, self.log_dispersion(cells.batch, features_of(part)))
        return torch.where(uniform > lost, counts, 0.0)

    def _mean_before_dropout(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None
    ) -> Tensor:
        return self.normalized(outputs, cells, part) * cells.depth.unsqueeze(-1)  # (B, F)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Share of each feature before dropout, softmax(outputs[0]): ``(B, F)``, rows sum to 1."""
        return softmax_shares(outputs[0], part)
