"""Zero mean and unit variance per feature; unmeasured entries become 0, the mean."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.likelihoods import FeatureStatistics
from multiomics_vae.networks.transforms.base import InputTransform

CONSTANT_BELOW = 1e-5


class Standardise(InputTransform):
    """(x − mean) / sd over the training cells.

    An encoder cannot tell an unmeasured entry from an average one by the value alone, so where the
    modality has unmeasured entries the mask is appended: the input is then ``2 F`` wide.
    """

    name = "standardise"

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__(statistics)
        sd = statistics.variance.sqrt()
        self.register_buffer("centre", statistics.mean.clone())  # (F,)
        # A constant feature carries nothing: its scale of 1 keeps the input at 0. What is constant is
        # told relative to the mean, because currents in amperes are all below 1e-6.
        varies = sd > CONSTANT_BELOW * statistics.mean.abs()
        self.register_buffer("scale", sd.where(varies, sd.new_ones(())))  # (F,)
        self.appends_mask = statistics.has_unobserved
        self.centre: Tensor
        self.scale: Tensor

    @property
    def n_outputs(self) -> int:
        return 2 * self.n_features if self.appends_mask else self.n_features

    def forward(self, batch: ModalityBatch) -> Tensor:
        values = (batch.dense - self.centre) / self.scale  # (B_m, F)
        if not self.appends_mask:
            return values if batch.observed is None else values * batch.observed
        observed = (
            values.new_ones(values.shape) if batch.observed is None else batch.observed.to(values.dtype)
        )
        return torch.cat([values * observed, observed], dim=-1)  # (B_m, 2 F)
