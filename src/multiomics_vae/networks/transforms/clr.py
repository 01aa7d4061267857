"""Centred log ratio: the usual input for surface proteins."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.networks.transforms.base import InputTransform


class CLR(InputTransform):
    """log(1 + x) minus its mean over the cell's proteins (Stoeckius et al. 2017)."""

    name = "clr"

    def forward(self, batch: ModalityBatch) -> Tensor:
        logs = batch.dense.log1p()  # (B_m, F)
        return logs - logs.mean(-1, keepdim=True)  # (B_m, F)
