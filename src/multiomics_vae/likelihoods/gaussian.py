"""Gaussian values, the likelihood of real measurements."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, Likelihood, Support
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, columns_of, features_of

LOG_2PI = math.log(2.0 * math.pi)
LOWEST_SHARE = 1e-4
CONSTANT_BELOW = 1e-10


class GaussianValues(Likelihood):
    """x ~ N(location + scale · outputs[0], σ²) with location and scale those of the data.

    The decoder works in standardised units, so that a feature's unit changes neither its learning rate
    nor the prior on its weights.

    σ² = exp(learned) + floor, the floor being 1e-4 of the data's variance (σ never below 1 % of the
    data's standard deviation), so that no feature can draw all of the fit to itself. σ² starts at the
    data's variance. A feature that is constant in training counts as having variance 1.

    Parameters
    ----------
    statistics
        Of the training cells: ``mean`` and ``variance`` are location and scale, and start σ² and its floor.
    dispersion
        ``"feature"``: one σ² a feature; ``"feature-batch"``: one a feature and batch; ``"shared"``:
        one for all features (with a linear decoder, probabilistic PCA); ``"fixed"``: the data's
        variance, not learned, which is half the squared error of standardised data.

    Raises
    ------
    InputError
        If ``dispersion`` is another.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["gaussian"](statistics, dispersion="shared")  # doctest: +SKIP
    >>> likelihood.log_prob(x, (mean,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "gaussian"
    support: ClassVar[Support] = "real"
    default_transform = "standardise"
    dispersions = ("feature", "feature-batch", "shared", "fixed")
    log_data_variance: Tensor
    location: Tensor

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        variance = statistics.variance.to(torch.get_default_dtype())  # (F,)
        is_constant = variance <= CONSTANT_BELOW * statistics.mean.square()
        variance = torch.where(is_constant, torch.ones_like(variance), variance)
        if dispersion == "shared":
            variance = variance.mean(0, keepdim=True)  # (1,)
        self.register_buffer("log_data_variance", variance.log())  # (F,) or (1,)
        self.register_buffer("location", statistics.mean.to(variance.dtype).clone())  # (F,)
        self.learned: FeatureParameter | None = None
        if dispersion != "fixed":
            start = variance.log() + math.log1p(-LOWEST_SHARE)
            self.learned = FeatureParameter(start, self.n_batches if dispersion == "feature-batch" else 1)

    def log_variance(self, cells: CellContext, part: FeaturePart | None = None) -> Tensor:
        """Log σ² for every cell and feature (of a part), of a shape that broadcasts to ``(B, F)``."""
        part = None if self.dispersion == "shared" else part
        of_data = columns_of(self.log_data_variance, part)  # (F,) or (1,)
        if self.learned is None:
            return of_data.unsqueeze(0)  # (1, F)
        return torch.logaddexp(self.learned(cells.batch, features_of(part)), of_data + math.log(LOWEST_SHARE))

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        return (torch.zeros_like(statistics.mean),)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        log_variance = self.log_variance(cells)  # (B, F), (1, F) or (1, 1)
        squared = ((x - self.mean(outputs, cells)) * (-0.5 * log_variance).exp()).square()  # (B, F)
        return -0.5 * (squared + (log_variance + LOG_2PI))

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        one_scale = len(self.log_data_variance) == 1
        log_variance = self.log_data_variance if one_scale else columns_of(self.log_data_variance, part)
        return columns_of(self.location, part) + (0.5 * log_variance).exp() * outputs[0]  # (B, F)

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        return self.log_variance(cells, part).exp().expand_as(outputs[0])  # (B, F)

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        center = self.mean(outputs, cells, part)  # (B, F)
        noise: Tensor = torch.special.ndtri(uniform).to(center.dtype)  # (B, F)
        sd = (0.5 * self.log_variance(cells, part)).exp()  # (B, F) or what broadcasts to it
        return center + sd * noise
