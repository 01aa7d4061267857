"""Methylated share of the reads, shrunk towards the site's average where coverage is low."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.errors import InputError
from multiomics_vae.likelihoods import FeatureStatistics
from multiomics_vae.networks.transforms.base import InputTransform

PSEUDO_READS = 1.0


class MethylationFraction(InputTransform):
    """(methylated + p) / (coverage + 1) − p with p the site's average: 0 where nothing was covered."""

    name = "methylation_fraction"

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__(statistics)
        self.register_buffer("average", statistics.methylated_fraction.clone())  # (F,)
        self.average: Tensor

    def forward(self, batch: ModalityBatch) -> Tensor:
        if batch.coverage is None:
            raise InputError(
                "A methylation modality needs its coverage; name the layer that holds it: "
                "MultiVAE.setup_mudata(mdata, coverage_layers={'meth': 'coverage'})"
            )
        reads = batch.coverage + PSEUDO_READS  # (B_m, F)
        fraction = torch.addcmul(batch.dense, self.average, torch.full_like(self.average, PSEUDO_READS))
        return fraction / reads - self.average  # (B_m, F)
