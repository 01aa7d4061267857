"""Methylated of covered reads, the likelihood of DNA methylation."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.kernels import beta_binomial_quantile, beta_quantile
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, Likelihood, Support
from multiomics_vae.likelihoods.count_kernels import (
    log_rising_factorial,
    positions_of_nonzero,
    take_entries,
)
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, columns_of, features_of

LOWEST_FRACTION = 1e-3
START_CONCENTRATION = 10.0


class BetaBinomial(Likelihood):
    """x methylated of n covered ~ BetaBinomial(n, α = c p, β = c (1 − p)), p = σ(outputs[0]).

    log p(x | n) = log C(n, x) + log α⁽ˣ⁾ + log β⁽ⁿ⁻ˣ⁾ − log c⁽ⁿ⁾, with rising factorials
    a⁽ᵏ⁾ = Γ(a + k)/Γ(a). Where nothing is covered it is 0. The concentration c belongs to a feature and
    starts at 10 (a standard deviation of 0.15 between cells at p = ½); c → ∞ is the binomial.

    Of cells without a coverage, mean, variance and draws are those of the methylated fraction itself,
    which is Beta(α, β): what would be seen at unlimited coverage.

    Parameters
    ----------
    statistics
        Of the training cells: ``methylated_fraction``, held to 0.001 … 0.999, starts the biases.
    dispersion
        ``"feature"``: one c a feature; ``"feature-batch"``: one a feature and batch.

    Raises
    ------
    InputError
        If ``dispersion`` is another, or if ``log_prob`` meets cells without a coverage.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["beta_binomial"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(methylated, (logits,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "beta_binomial"
    support: ClassVar[Support] = "fractions"
    default_transform = "methylation_fraction"
    dispersions = ("feature", "feature-batch")

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        start = torch.full((self.n_features,), math.log(START_CONCENTRATION))
        self.log_concentration = FeatureParameter(
            start, self.n_batches if dispersion == "feature-batch" else 1
        )

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        return (torch.logit(statistics.methylated_fraction, eps=LOWEST_FRACTION),)

    def coverage_of(self, cells: CellContext) -> Tensor:
        """The cells' coverage, ``(B, F)``; `InputError` if they have none."""
        if cells.coverage is None:
            raise InputError(
                "The likelihood 'beta_binomial' counts methylated of covered reads, but the cells have no "
                "coverage (None). Give the layer that holds it when registering, for example "
                'coverage_layers={"methylation": "coverage"}; normalized fractions need none.'
            )
        return cells.coverage

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        coverage = self.coverage_of(cells)  # (B, F)
        covered = positions_of_nonzero(coverage)
        trials = take_entries(coverage, covered)  # (n,)
        methylated = x.reshape(-1).gather(0, covered)  # (n,)
        logits = outputs[0].reshape(-1).gather(0, covered)  # (n,)
        log_c = take_entries(self.log_concentration(cells.batch), covered)  # (n,)
        unmethylated = trials - methylated
        value = (
            torch.lgamma(trials + 1.0)
            - torch.lgamma(methylated + 1.0)
            - torch.lgamma(unmethylated + 1.0)
            + log_rising_factorial(methylated, log_c + functional.logsigmoid(logits))
            + log_rising_factorial(unmethylated, log_c + functional.logsigmoid(-logits))
            - log_rising_factorial(trials, log_c)
        )  # (n,)
        return value.new_zeros(x.numel()).scatter(0, covered, value).view(x.shape)  # (B, F)

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        fraction = torch.sigmoid(outputs[0])  # (B, F)
        return fraction if cells.coverage is None else columns_of(cells.coverage, part) * fraction

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        p = torch.sigmoid(outputs[0])  # (B, F)
        c = self.log_concentration(cells.batch, features_of(part)).exp()
        of_fraction: Tensor = p * (1.0 - p) / (c + 1.0)  # (B, F)
        if cells.coverage is None:
            return of_fraction
        n = columns_of(cells.coverage, part)  # (B, F)
        of_counts: Tensor = n * (c + n) * of_fraction  # (B, F)
        return of_counts

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        log_c = self.log_concentration(cells.batch, features_of(part))
        log_alpha = log_c + functional.logsigmoid(outputs[0])  # (B, F)
        log_beta = log_c + functional.logsigmoid(-outputs[0])  # (B, F)
        if cells.coverage is None:
            return beta_quantile(uniform, log_alpha, log_beta)
        return beta_binomial_quantile(uniform, columns_of(cells.coverage, part), log_alpha, log_beta)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Mean methylated fraction, σ(outputs[0]), whatever the coverage: ``(B, F)``."""
        return torch.sigmoid(outputs[0])
