"""Centred log ratio: the usual input for surface proteins."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.networks.transforms.base import InputTransform


class CLR(InputTransform):
    """log(1 + x) minus its mean over the cell's proteins (Stoeckius et al. 2017).

    Of the measured proteins where there are gaps, plus what these usually lie above the mean of all.
    """

    name = "clr"

    def forward(self, batch: ModalityBatch) -> Tensor:
        logs = batch.dense.log1p()  # (B_m, F)
        if batch.gaps is None:
            return logs - logs.mean(-1, keepdim=True)  # (B_m, F)
        measured = batch.gaps.measured  # (F,)
        above = batch.gaps.norms.usual[measured].mean()
        return logs - logs[:, measured].mean(-1, keepdim=True) + above  # (B_m, F)
