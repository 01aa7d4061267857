"""Negative binomial counts, the likelihood of RNA."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from multiomics_vae.kernels import NegativeBinomialKernel, negative_binomial_quantile
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, FusedTerms, Likelihood, Support
from multiomics_vae.likelihoods.count_kernels import (
    LOG_DISPERSION_RANGE,
    log_mean_counts,
    negative_binomial_log_prob,
    negative_binomial_variance,
    start_log_dispersion,
    start_log_frequency,
)
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, features_of, softmax_shares


class NegativeBinomial(Likelihood):
    """x ~ NB(mean μ = depth · softmax(outputs[0]), inverse dispersion θ); variance μ + μ²/θ.

    The parametrisation of scVI (Lopez et al. 2018). ``depth`` must be on the scale of a library size,
    because the means of a cell add up to it. θ starts at the method of moments given
    each cell's depth, held to 0.1 … 100.

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
    >>> likelihood = LIKELIHOODS["nb"](statistics, dispersion="feature-batch")  # doctest: +SKIP
    >>> likelihood.log_prob(x, (logits,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "nb"
    support: ClassVar[Support] = "counts"
    default_transform = "log1p"
    dispersions = ("feature", "feature-batch")
    normalised_over_features = True
    reads_depth = True

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        start = start_log_dispersion(statistics.overdispersion)  # (F,)
        self.log_dispersion = FeatureParameter(start, self.n_batches if dispersion == "feature-batch" else 1)

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        return (start_log_frequency(statistics.mean_frequency),)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        log_mean = log_mean_counts(outputs[0], cells.depth)  # (B, F)
        return negative_binomial_log_prob(x, log_mean, self.log_dispersion(cells.batch))

    def fused_terms(self, cells: CellContext) -> FusedTerms:
        log_dispersion = self.log_dispersion.table.clamp(*LOG_DISPERSION_RANGE)
        return FusedTerms(NegativeBinomialKernel(), cells.depth, None, log_dispersion, cells.batch)

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        return self.normalized(outputs, cells, part) * cells.depth.unsqueeze(-1)  # (B, F)

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        log_dispersion = self.log_dispersion(cells.batch, features_of(part))
        return negative_binomial_variance(self.mean(outputs, cells, part), log_dispersion)  # (B, F)

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        log_dispersion = self.log_dispersion(cells.batch, features_of(part))
        return negative_binomial_quantile(uniform, self.mean(outputs, cells, part), log_dispersion)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Share of each feature in the cell's library, softmax(outputs[0]): ``(B, F)``, rows sum to 1."""
        return softmax_shares(outputs[0], part)
