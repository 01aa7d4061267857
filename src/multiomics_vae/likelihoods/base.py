"""What every likelihood p(x | z) is, and what it is made from.

A likelihood owns the parameters that belong to features (dispersions, scales, background levels).
The decoder supplies, for every cell, one or more unconstrained ``outputs``; a likelihood says how
wide each is (``output_widths``), at which value its bias starts (``start_biases``), and what it means.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from multiomics_vae.errors import InputError, did_you_mean
from multiomics_vae.kernels import ElementwiseKernel
from multiomics_vae.likelihoods.extended_parameter import ExtendedFeatureParameter
from multiomics_vae.likelihoods.feature_parameter import FeatureParameter
from multiomics_vae.likelihoods.feature_part import FeaturePart

Support = Literal["counts", "binary", "real", "codes", "fractions"]


@dataclass(frozen=True)
class FeatureStatistics:
    """Summary of one modality's registered cells: what a likelihood and a transform start from.

    Only observed entries count. F features, ``n_batches`` batches.

    Parameters
    ----------
    n_features, n_batches
        Sizes.
    mean, variance
        Of the values, per feature, ``(F,)``.
    nonzero_fraction
        Share of cells in which the feature is above 0, ``(F,)``.
    mean_frequency
        Σ x / Σ library over cells: the feature's share of a library, ``(F,)``.
    overdispersion
        1/θ of a negative binomial with mean depth · frequency, by the method of moments,
        Σ [(x − depth · frequency)² − x] / Σ (depth · frequency)², not below 0, ``(F,)``.
    methylated_fraction
        Σ methylated / Σ coverage, ``(F,)``; zeros without coverage.
    n_categories
        One more than the largest code, ``(F,)``, int64; meaningful for codes only.
    log1p_mean, log1p_sd
        Mean and standard deviation of log(1 + x) per batch, ``(n_batches, F)``.
    mean_log_depth
        Mean over cells of the log depth.
    category_frequency
        Share of each category of each feature, ``(F, largest n_categories)``; empty for data that are
        no codes.
    has_unobserved
        True if some entries of present cells were not measured.
    """

    n_features: int
    n_batches: int
    mean: Tensor
    variance: Tensor
    nonzero_fraction: Tensor
    mean_frequency: Tensor
    overdispersion: Tensor
    methylated_fraction: Tensor
    n_categories: Tensor
    log1p_mean: Tensor
    log1p_sd: Tensor
    mean_log_depth: float
    has_unobserved: bool = False
    category_frequency: Tensor = field(default_factory=lambda: torch.zeros(0, 0))

    @classmethod
    def empty(
        cls, n_features: int, n_batches: int, n_categories: tuple[int, ...] | None, has_unobserved: bool
    ) -> FeatureStatistics:
        """Neutral statistics of the right sizes, for a model whose weights come from a checkpoint."""
        ones, zeros = torch.ones(n_features), torch.zeros(n_features)
        return cls(
            n_features=n_features,
            n_batches=n_batches,
            mean=zeros,
            variance=ones,
            nonzero_fraction=0.5 * ones,
            mean_frequency=ones / max(n_features, 1),
            overdispersion=ones,
            methylated_fraction=0.5 * ones,
            n_categories=torch.tensor(n_categories or (1,) * n_features, dtype=torch.int64),
            log1p_mean=zeros.expand(n_batches, -1).clone(),
            log1p_sd=ones.expand(n_batches, -1).clone(),
            mean_log_depth=0.0,
            has_unobserved=has_unobserved,
        )


@dataclass(frozen=True)
class CellContext:
    """What a likelihood knows of each cell beside z.

    Parameters
    ----------
    depth
        Library size, size factor or number of open peaks, positive, ``(B,)``.
    batch
        Batch code, ``(B,)``, int64.
    coverage
        Trials behind a methylated count, ``(B, F)``; None for other data.
    """

    depth: Tensor
    batch: Tensor
    coverage: Tensor | None = None


@dataclass(frozen=True)
class FusedTerms:
    """A kernel and what it needs beside the decoder's last layer and the data.

    Parameters
    ----------
    kernel
        The arithmetic.
    depth
        ``(B,)``, for a mean that is a share of the depth.
    offset
        Added to the logits, ``(B,)``.
    log_dispersion
        ``(1 or n_batches, F)``.
    batch
        Row of ``log_dispersion`` of each cell, ``(B,)``.
    """

    kernel: ElementwiseKernel
    depth: Tensor | None = None
    offset: Tensor | None = None
    log_dispersion: Tensor | None = None
    batch: Tensor | None = None


def inside_unit(uniform: Tensor) -> Tensor:
    """Keep uniform numbers off 0 and 1, where an inverse distribution function may be infinite."""
    limits = torch.finfo(uniform.dtype)
    return uniform.clamp(limits.tiny, 1.0 - limits.eps / 2)


class Likelihood(nn.Module, ABC):
    """p(x | outputs, cell): abstract; one subclass a file.

    Class attributes
    ----------------
    name
        Key in the registry.
    support
        What the data must be: ``"counts"`` (integers ≥ 0), ``"binary"``, ``"real"``, ``"codes"``
        (integers naming categories), ``"fractions"`` (counts with a coverage).
    default_transform
        Name of the encoder's input transform that suits this kind of data.
    dispersions
        Allowed values of ``dispersion``; ``("feature",)`` where there is no choice.
    normalised_over_features
        True if the mean needs every feature's output: depth times a softmax of the first output over
        features.
    reads_depth
        True if x depends on the depth of its cell.

    Parameters
    ----------
    statistics
        Of the training cells; start values come from it.
    dispersion
        Which cells and features share a dispersion or scale; one of ``dispersions``.

    Raises
    ------
    InputError
        If ``dispersion`` is not one of ``dispersions``.
    """

    name: ClassVar[str]
    support: ClassVar[Support]
    default_transform: ClassVar[str]
    dispersions: ClassVar[tuple[str, ...]] = ("feature",)
    normalised_over_features: ClassVar[bool] = False
    reads_depth: ClassVar[bool] = False

    def __init__(self, statistics: FeatureStatistics, dispersion: str = "feature") -> None:
        super().__init__()
        if dispersion not in self.dispersions:
            raise InputError(
                f"The likelihood {self.name!r} has no dispersion {dispersion!r}. "
                f"{did_you_mean(dispersion, self.dispersions)} "
                f'For example: dispersion="{self.dispersions[0]}".'
            )
        self.n_features = statistics.n_features
        self.n_batches = statistics.n_batches
        self.dispersion = dispersion

    @property
    def output_widths(self) -> tuple[int, ...]:
        """Width of each output that the decoder supplies."""
        return (self.n_features,)

    @abstractmethod
    def start_biases(self, statistics: FeatureStatistics) -> tuple[Tensor, ...]:
        """Biases, one tensor an output, at which the decoder is the marginal model of the data."""

    @abstractmethod
    def log_prob(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        """Log probability of every entry of ``x``, ``(B, F)``; ``outputs`` are ``(B, width)`` each."""

    def forward(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        """The same as `log_prob`."""
        return self.log_prob(x, outputs, cells)

    def log_prob_as_it_is(self, x: Tensor, outputs: tuple[Tensor, ...], cells: CellContext) -> Tensor:
        """`log_prob` whose gradient goes to the outputs and leaves the likelihood's own parameters alone."""
        held = {name: parameter.detach() for name, parameter in self.named_parameters()}
        found: Tensor = torch.func.functional_call(self, held, (x, outputs, cells))
        return found

    def output_columns(self, features: Tensor) -> Tensor:
        """Columns of every output that some features need, from positions ``(G,)``; by default theirs."""
        return features

    @abstractmethod
    def mean(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """E[x | outputs, cell], ``(B, F)``; for codes, the most probable code.

        With a ``part``, ``outputs`` are those of `output_columns` only, and so is the mean, ``(B, G)``.
        """

    @abstractmethod
    def variance(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """Var[x | outputs, cell], ``(B, F)``; for codes, the probability that x is not the `mean`.

        With a ``part``, of its features only, as in `mean`.
        """

    @abstractmethod
    def from_uniform(
        self,
        uniform: Tensor,
        outputs: tuple[Tensor, ...],
        cells: CellContext,
        part: FeaturePart | None = None,
    ) -> Tensor:
        """Turn uniform numbers into one draw of every entry, so that the caller owns the randomness.

        Parameters
        ----------
        uniform
            In (0, 1), one an entry, ``(B, F)``, best in float64: their resolution is that of the tails.
        outputs, cells, part
            As in `mean`.

        Returns
        -------
        Tensor
            ``(B, F)``.
        """

    def sample(
        self, outputs: tuple[Tensor, ...], cells: CellContext, generator: torch.Generator | None = None
    ) -> Tensor:
        """One draw of x for every cell, ``(B, F)``; reads no global random state."""
        device = outputs[0].device
        wide = torch.float32 if device.type == "mps" else torch.float64
        shape = (len(outputs[0]), self.n_features)
        uniform = torch.rand(shape, generator=generator, device=device, dtype=wide)  # (B, F)
        return self.from_uniform(inside_unit(uniform), outputs, cells)

    @property
    def is_fused(self) -> bool:
        """Whether `fused_terms` has an answer."""
        return type(self).fused_terms is not Likelihood.fused_terms

    def fused_terms(self, cells: CellContext) -> FusedTerms | None:
        """What computes this likelihood fused with the decoder's last layer; None where nothing does.

        Only for a likelihood of one output whose zeros are cheap; `log_prob` stays the reference.
        """
        return None

    def normalized(
        self, outputs: tuple[Tensor, ...], cells: CellContext, part: FeaturePart | None = None
    ) -> Tensor:
        """The mean with the cell's depth taken out, ``(B, F)``; by default the mean itself.

        With a ``part``, of its features only, as in `mean`.
        """
        return self.mean(outputs, cells, part)

    def add_batches(self, n_new: int) -> None:
        """Give batches that come after the known ones parameters of their own, started at the average.

        The parameters of known batches are no longer parameters to be learned but what they were.
        """
        if self.dispersion == "feature-batch":
            for name, child in list(self.named_children()):
                if isinstance(child, FeatureParameter):
                    setattr(self, name, ExtendedFeatureParameter(child, n_new))
        self.n_batches += n_new

    def log_prior(self) -> Tensor | None:
        """Log prior density of the feature parameters, a scalar; None where they have none."""
        return None
