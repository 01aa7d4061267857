"""Features that a whole data set lacks, though the model knows them: unobserved, and not zero."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from multiomics_vae.kernels import FeatureSample


@dataclass(frozen=True, eq=False)
class FeatureNorms:
    """What the cells that a model was trained on show on average in one modality.

    Parameters
    ----------
    share
        Of each feature in the sum of all cells, ``(F,)``; adds up to 1.
    usual
        Mean of the encoder's transformed input, ``(F,)``.
    square
        Mean of its square, ``(F,)``.
    """

    share: Tensor
    usual: Tensor
    square: Tensor


@dataclass(frozen=True, eq=False)
class Gaps:
    """Which features of counts were not measured in any cell, and what is taken in their place.

    A count that was not measured looks like a zero, in the values as in the sum of a cell. So

    - the depth of a cell is its sum divided by ``kept_share``, what the measured features make up of the sum
      of the cells that the model was trained on (done once, when the cells are read);
    - an encoder's input of such a feature is its usual value, so that it moves the encoder nowhere;
    - its likelihood is left out.

    Parameters
    ----------
    measured
        ``(F,)``, bool; at least one is True.
    norms
        Of the model's training cells.
    """

    measured: Tensor
    norms: FeatureNorms

    @cached_property
    def kept_share(self) -> float:
        """Part of a cell's sum that the measured features usually have; above 0."""
        kept = float(self.norms.share[self.measured].sum() / self.norms.share.sum())
        return max(kept, 1e-6)

    @cached_property
    def kept_length(self) -> float:
        """Length of the measured part of a transformed cell, for one of length 1 on average; above 0."""
        square = self.norms.square
        kept = float(square[self.measured].sum() / square.sum().clamp(min=1e-12))
        return float(max(kept, 1e-6) ** 0.5)

    @cached_property
    def filling(self) -> Tensor:
        """The usual transformed input where nothing was measured, 0 elsewhere: ``(F,)``."""
        return self.norms.usual.masked_fill(self.measured, 0.0)

    def filled(self, transformed: Tensor) -> Tensor:
        """An encoder's transformed input, ``(B_m, F)``, with usual values where nothing was measured."""
        return torch.where(self.measured, transformed, self.filling)

    @cached_property
    def sample(self) -> FeatureSample:
        """The measured features as a part of all."""
        return FeatureSample(self.measured.nonzero().squeeze(1), len(self.measured))

    def only(self, measured: Tensor) -> Gaps:
        """The same with other measured features, ``(F,)``, bool."""
        return replace(self, measured=measured)

    def to(self, device: torch.device | str) -> Gaps:
        """Copy to a device; itself if it is there."""
        if self.measured.device == torch.device(device):
            return self
        norms = FeatureNorms(*(t.to(device) for t in (self.norms.share, self.norms.usual, self.norms.square)))
        return Gaps(self.measured.to(device), norms)
