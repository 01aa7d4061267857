"""One-hot coding of categorical codes."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import FeatureStatistics
from multiomics_vae.networks.transforms.base import InputTransform


class OneHot(InputTransform):
    """1 at the category of each feature; all zeros for a feature that was not measured."""

    name = "one_hot"

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__(statistics)
        sizes = statistics.n_categories.to(torch.int64)
        self.register_buffer("offsets", sizes.cumsum(0) - sizes)  # (F,)
        self.register_buffer("sizes", sizes, persistent=False)  # (F,)
        self._n_outputs = int(sizes.sum())
        self.offsets: Tensor
        self.sizes: Tensor

    @property
    def n_outputs(self) -> int:
        return self._n_outputs

    def forward(self, batch: ModalityBatch) -> Tensor:
        values = batch.dense  # (B_m, F)
        codes = values.to(torch.int64)  # (B_m, F)
        # An unknown code would light up a category of the next feature.
        unknown = (codes < 0) | (codes >= self.sizes)  # (B_m, F)
        if bool(unknown.any()):
            row, feature = unknown.nonzero()[0].tolist()
            known = int(self.sizes[feature])
            raise InputError(
                f"Feature {feature} has the code {values[row, feature].item():g}, but the model knows the "
                f"codes 0 to {known - 1} of this feature. Recode the values, or mask them: "
                f"values[values >= {known}] = numpy.nan"
            )
        columns = codes + self.offsets  # (B_m, F)
        measured = torch.ones_like(values)
        if batch.observed is not None:
            measured = measured * batch.observed
        hot = values.new_zeros(len(columns), self._n_outputs)
        return hot.scatter_(1, columns, measured)  # (B_m, sum of categories)
