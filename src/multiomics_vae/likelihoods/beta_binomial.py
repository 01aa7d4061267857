"""Methylated of covered reads, the likelihood of DNA methylation."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, Likelihood, Support
from multiomics_vae.likelihoods.count_kernels import (
    log_rising_factorial,
    positions_of_nonzero,
    take_entries,
)
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, columns_of

LOWEST_FRACTION = 1e-3
START_CONCENTRATION = 10.0


class BetaBinomial(Likelihood):
    """x methylated of n covered ~ BetaBinomial(n, α = c p, β = c (1 − p)), p = σ(outputs[0]).

    log p(x | n) = log C(n, x) + log α⁽ˣ⁾ + log β⁽ⁿ⁻ˣ⁾ − log c⁽ⁿ⁾, with rising factorials
    a⁽ᵏ⁾ = Γ(a + k)/Γ(a). Where nothing is covered it is 0. The concentration c belongs to a feature and
    starts at 10 (a standard deviation of 0.15 between cells at p = ½); c → ∞ is the binomial.

    Parameters
    ----------
    statistics
        Of the training cells: ``methylated_fraction``, held to 0.001 … 0.999, starts the biases.
    dispersion
        ``"feature"``: one c a feature; ``"feature-batch"``: one a feature and batch.

    Raises
    ------
    InputError
        If ``dispersion`` is another, or if a method needs the coverage and ``cells`` has none.

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
        return columns_of(self.coverage_of(cells), part) * torch.sigmoid(outputs[0])  # (B, F)

    def sample(
        self, outputs: tuple[Tensor, ...], cells: CellContext, generator: torch.Generator | None = None
    ) -> Tensor:
        coverage = self.coverage_of(cells)  # (B, F)
        log_c = self.log_concentration(cells.batch)
        log_alpha = _log_gamma_draw(log_c + functional.logsigmoid(outputs[0]), generator)  # (B, F)
        log_beta = _log_gamma_draw(log_c + functional.logsigmoid(-outputs[0]), generator)  # (B, F)
        fraction = torch.sigmoid(log_alpha - log_beta)  # (B, F)
        return torch.binomial(coverage.to(fraction.dtype), fraction, generator=generator)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Mean methylated fraction, σ(outputs[0]), whatever the coverage: ``(B, F)``."""
        return torch.sigmoid(outputs[0])


def _log_gamma_draw(log_shape: Tensor, generator: torch.Generator | None) -> Tensor:
    """Log of a draw from Gamma(a, 1), by G(a) = G(a + 1) · U^(1/a): G(a) itself underflows for tiny a."""
    shape = log_shape.exp().clamp(min=torch.finfo(log_shape.dtype).tiny)
    uniform = torch.rand(shape.shape, generator=generator, device=shape.device, dtype=shape.dtype)
    # (0, 1] instead of [0, 1): no log of 0
    return torch._standard_gamma(shape + 1.0, generator=generator).log() + torch.log1p(-uniform) / shape
