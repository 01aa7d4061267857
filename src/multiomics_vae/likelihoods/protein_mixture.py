"""Surface proteins: background or foreground, the likelihood of CITE-seq antibodies."""

from __future__ import annotations

import math
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
    negative_binomial_log_prob,
    negative_binomial_variance,
    start_log_dispersion,
)
from multiomics_vae.likelihoods.extended_parameter import ExtendedFeatureParameter
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart, features_of

LOG_2PI = math.log(2.0 * math.pi)
LOWEST_BACKGROUND = 1e-3
LOWEST_PRIOR_SD = 0.1
START_BACKGROUND_PROBABILITY = 0.5


def start_background(statistics: FeatureStatistics) -> Tensor:
    """Background count of each protein in each batch, one standard deviation below the mean of log(1 + x).

    At least a tenth of the protein's own level, and at least 0.001: ``(n_batches, F)``.
    """
    one_below = torch.expm1(statistics.log1p_mean - statistics.log1p_sd)
    tenth = 0.1 * torch.expm1(statistics.log1p_mean)
    return torch.maximum(one_below, tenth).clamp(min=LOWEST_BACKGROUND)  # (n_batches, F)


class ProteinMixture(Likelihood):
    """x ~ π NB(b, θ) + (1 − π) NB(f, θ): background b, foreground f = b (1 + exp(outputs[0])).

    After totalVI (Gayoso et al. 2021). π = σ(outputs[1]) is the probability of background. b belongs to
    a protein and batch; it is learned, and its log-normal prior keeps log b near its start, one standard
    deviation of log(1 + x) below the mean. The foreground is above the background by construction.
    Depth is not used: an antibody's count does not follow the RNA library.

    Parameters
    ----------
    statistics
        Of the training cells: ``log1p_mean`` and ``log1p_sd`` start b and its prior, ``mean`` and
        ``variance`` start θ (not below 1, as the two levels are not dispersion).
    dispersion
        ``"feature"``: one θ a protein; ``"feature-batch"``: one a protein and batch.

    Raises
    ------
    InputError
        If ``dispersion`` is another.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["protein_mixture"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(x, (log_increase, background_logits), cells)  # doctest: +SKIP
    """

    name = "protein_mixture"
    support: ClassVar[Support] = "counts"
    default_transform = "clr"
    dispersions = ("feature", "feature-batch")
    prior_mean: Tensor
    prior_sd: Tensor

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        excess = (statistics.variance - statistics.mean).clamp(min=0.0)  # (F,)
        spread = excess / statistics.mean.square().clamp(min=1e-12)  # (F,): depth plays no part here
        log_theta = start_log_dispersion(spread).clamp(min=0.0)  # (F,)
        self.log_dispersion = FeatureParameter(
            log_theta, self.n_batches if dispersion == "feature-batch" else 1
        )
        self.log_background = FeatureParameter(start_background(statistics).log(), self.n_batches)
        self.register_buffer("prior_mean", self.log_background.table.detach().clone())
        prior_sd = statistics.log1p_sd.to(self.prior_mean).clamp(min=LOWEST_PRIOR_SD)
        self.register_buffer("prior_sd", prior_sd)

    @property
    def output_widths(self) -> tuple[int, ...]:
        """Log of the foreground's increase over background, and logits of background: both F."""
        return (self.n_features, self.n_features)

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        background = start_background(statistics).mean(0)  # (F,)
        increase = (statistics.mean / background - 1.0) / (1.0 - START_BACKGROUND_PROBABILITY)  # (F,)
        log_increase = increase.clamp(min=0.01).log()
        logit = math.log(START_BACKGROUND_PROBABILITY / (1.0 - START_BACKGROUND_PROBABILITY))
        return (log_increase, torch.full_like(log_increase, logit))

    def log_levels(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> tuple[Tensor, Tensor]:
        """Logs of the background mean and of the foreground mean, ``(B, F)`` each."""
        background = self.log_background(cells.batch, features_of(part))
        log_background = background.expand_as(outputs[0])  # (B, F)
        return log_background, log_background + functional.softplus(outputs[0])  # log(1 + eᵒ) = softplus(o)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        log_background, log_foreground = self.log_levels(outputs, cells)  # (B, F)
        log_theta = self.log_dispersion(cells.batch)
        background = negative_binomial_log_prob(x, log_background, log_theta)  # (B, F)
        foreground = negative_binomial_log_prob(x, log_foreground, log_theta)  # (B, F)
        # log[σ(l) p + σ(−l) q] = log[eˡ p + q] − softplus(l)
        return torch.logaddexp(outputs[1] + background, foreground) - functional.softplus(outputs[1])

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        log_background, log_foreground = self.log_levels(outputs, cells, part)  # (B, F)
        is_background = torch.sigmoid(outputs[1])  # (B, F)
        return is_background * log_background.exp() + (1.0 - is_background) * log_foreground.exp()

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        background, foreground = (level.exp() for level in self.log_levels(outputs, cells, part))  # (B, F)
        log_theta = self.log_dispersion(cells.batch, features_of(part))
        share = torch.sigmoid(outputs[1])  # (B, F)
        within = share * negative_binomial_variance(background, log_theta) + (
            1.0 - share
        ) * negative_binomial_variance(foreground, log_theta)
        return within + share * (1.0 - share) * (foreground - background).square()

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        log_background, log_foreground = self.log_levels(outputs, cells, part)  # (B, F)
        share = torch.sigmoid(outputs[1]).to(uniform)  # (B, F)
        # A number chooses a component, and what is left of it is uniform again.
        is_background = uniform < share
        rest = torch.where(is_background, uniform / share, (uniform - share) / (1.0 - share))
        mean = torch.where(is_background, log_background, log_foreground).exp()  # (B, F)
        log_theta = self.log_dispersion(cells.batch, features_of(part))
        return negative_binomial_quantile(inside_unit(rest), mean, log_theta)

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Foreground part of the mean, (1 − π) f: protein level without background, ``(B, F)``."""
        log_foreground = self.log_levels(outputs, cells, part)[1]  # (B, F)
        return torch.sigmoid(-outputs[1]) * log_foreground.exp()

    def add_batches(self, n_new: int) -> None:
        """Also a background, which belongs to a batch; its prior is as wide as batches differ."""
        super().add_batches(n_new)
        if not isinstance(self.log_background, ExtendedFeatureParameter):
            self.log_background = ExtendedFeatureParameter(self.log_background, n_new)
        between = self.prior_mean.var(0, correction=0)  # (F,)
        sd = (self.prior_sd.square().mean(0) + between).sqrt()  # (F,)
        self.prior_mean = torch.cat([self.prior_mean, self.prior_mean.mean(0).expand(n_new, -1)])
        self.prior_sd = torch.cat([self.prior_sd, sd.expand(n_new, -1)])

    def log_prior(self) -> Tensor | None:
        """Log density of log b under its normal prior, summed over proteins and batches: a scalar."""
        standard = (self.log_background.table - self.prior_mean) / self.prior_sd  # (n_batches, F)
        return -0.5 * (standard.square() + LOG_2PI).sum() - self.prior_sd.log().sum()
