"""How covariates enter a network: one-hot categories beside standardised numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.schema import Schema


class CovariateEncoding(nn.Module):
    """Batch, categorical and continuous covariates as one tensor.

    A covariate with a single category says nothing and takes no column.

    Parameters
    ----------
    schema
        What was registered.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.batch_width = schema.n_batches if schema.n_batches > 1 else 0
        self.widths = tuple(len(c.categories) if len(c.categories) > 1 else 0 for c in schema.categorical)
        self.n_continuous = len(schema.continuous)

    @property
    def n_outputs(self) -> int:
        return self.batch_width + sum(self.widths) + self.n_continuous

    def forward(self, covariates: Covariates) -> Tensor:
        parts = [covariates.continuous]
        if self.batch_width:
            parts.append(F.one_hot(covariates.batch, self.batch_width))
        parts += [
            F.one_hot(covariates.categorical[:, column], width)
            for column, width in enumerate(self.widths)
            if width
        ]
        return torch.cat([part.to(covariates.continuous.dtype) for part in parts], dim=-1)  # (B, n_outputs)
