"""Category codes, the likelihood of clinical and other nominal tables."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods.base import CellContext, FeatureStatistics, Likelihood, Support
from multiomics_vae.likelihoods.feature_part import FeaturePart, columns_of

LOWEST_FREQUENCY = 1e-6


class Categorical(Likelihood):
    """x_f ∈ {0, …, C_f − 1} with probabilities softmax(outputs[0][f, :C_f]).

    Every feature has C = max C_f outputs, feature after feature; those beyond its own C_f are masked,
    so an impossible category has probability 0. The biases start at the log frequencies of the data.

    Parameters
    ----------
    statistics
        Of the registered cells: ``n_categories``, and ``category_frequency`` for the biases.
    dispersion
        Only ``"feature"``; there is nothing to disperse.

    Raises
    ------
    InputError
        If ``dispersion`` is another, or if ``log_prob`` meets a code that is no category of its feature.

    Examples
    --------
    >>> likelihood = LIKELIHOODS["categorical"](statistics)  # doctest: +SKIP
    >>> likelihood.log_prob(codes, (logits,), cells).sum(-1)  # doctest: +SKIP
    """

    name = "categorical"
    support: ClassVar[Support] = "codes"
    default_transform = "one_hot"
    n_categories: Tensor

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__(statistics, dispersion)
        n_categories = statistics.n_categories.clamp(min=1)  # (F,)
        self.largest = int(n_categories.max())
        self.register_buffer("n_categories", n_categories)

    @property
    def output_widths(self) -> tuple[int, ...]:
        """F · C, the categories of a feature side by side."""
        return (self.n_features * self.largest,)

    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        frequency = statistics.category_frequency  # (F, C)
        if frequency.numel() == 0:
            return (torch.zeros(self.output_widths),)
        return (frequency.clamp(min=LOWEST_FREQUENCY).log().flatten(),)

    def output_columns(self, features: Tensor) -> Tensor:
        first = features.unsqueeze(1) * self.largest  # (G, 1)
        return (first + torch.arange(self.largest, device=features.device)).flatten()  # (G · C,)

    def category_log_probs(self, outputs: tuple[Tensor, ...], part: FeaturePart | None = None) -> Tensor:
        """Log probability of every category, -inf for impossible ones: ``(B, F, C)``."""
        n_categories = columns_of(self.n_categories, part)  # (F,)
        logits = outputs[0].view(len(outputs[0]), len(n_categories), self.largest)  # (B, F, C)
        code = torch.arange(self.largest, device=logits.device)  # (C,)
        impossible = code >= n_categories.unsqueeze(-1)  # (F, C)
        return functional.log_softmax(logits.masked_fill(impossible, -torch.inf), dim=-1)

    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        codes = x.long()  # (B, F)
        unknown = (codes < 0) | (codes >= self.n_categories) | (codes != x)  # (B, F)
        if bool(unknown.any()):
            row, feature = unknown.nonzero()[0].tolist()
            n_known = int(self.n_categories[feature])
            raise InputError(
                f"Row {row}, feature {feature} has the code {x[row, feature].item():g}, but the model knows "
                f"the codes 0 to {n_known - 1} of this feature. Recode the values, or mask them: "
                f"values[values >= {n_known}] = numpy.nan."
            )
        return self.category_log_probs(outputs).gather(-1, codes.unsqueeze(-1)).squeeze(-1)  # (B, F)

    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """The most probable code of each feature, ``(B, F)``."""
        return self.category_log_probs(outputs, part).argmax(-1).to(outputs[0].dtype)

    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """The probability that the code is not the most probable one, ``(B, F)``."""
        return 1.0 - self.category_log_probs(outputs, part).amax(-1).exp()

    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        edges = self.category_log_probs(outputs, part).to(uniform).exp().cumsum(-1)  # (B, F, C)
        # Rounding may end the sum below 1; a draw must not fall on a category that is not there.
        above = uniform.unsqueeze(-1) * edges[..., -1:] > edges  # (B, F, C)
        return above.sum(-1).to(outputs[0].dtype)
