"""How covariates enter a network: one-hot categories beside standardised numbers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.data.schema import Schema


class CovariateEncoding(nn.Module):
    """Batch, categorical and continuous covariates as one tensor.

    A covariate with a single category says nothing and takes no column. A batch without a training cell, and
    the code -1 of a batch that is not registered, read as the average of the batches that were trained on:
    their own columns of the networks' weights mean nothing.

    Parameters
    ----------
    schema
        What was registered.
    """

    learned: Tensor
    n_new: Tensor | None  # zeros, where a query has no new category; a checkpoint is known by them

    def __init__(self, schema: Schema) -> None:
        super().__init__()
        self.batch_width = schema.n_batches if schema.n_batches > 1 else 0
        self.register_buffer("learned", torch.ones(self.batch_width, dtype=torch.bool))
        self.register_buffer("n_new", None)
        self.widths = tuple(len(c.categories) if len(c.categories) > 1 else 0 for c in schema.categorical)
        self.n_continuous = len(schema.continuous)

    @property
    def n_outputs(self) -> int:
        return self.batch_width + sum(self.widths) + self.n_continuous

    def forward(self, covariates: Covariates) -> Tensor:
        parts = [covariates.continuous]
        if self.batch_width:
            parts.append(self._batch(covariates.batch).to(covariates.continuous.dtype))
        parts += [
            F.one_hot(covariates.categorical[:, column], width)
            for column, width in enumerate(self.widths)
            if width
        ]
        return torch.cat([part.to(covariates.continuous.dtype) for part in parts], dim=-1)  # (B, n_outputs)

    def learn_from(self, batches: Tensor) -> None:
        """Say which batches are trained on: all those among some codes."""
        if self.batch_width:
            self.learned.zero_()
            self.learned[batches[batches >= 0]] = True

    def _batch(self, codes: Tensor) -> Tensor:
        own = F.one_hot(codes.clamp(min=0), self.batch_width).float()  # (B, batch_width)
        known = (codes >= 0) & self.learned[codes]  # (B,)
        learned = self.learned.float()
        return torch.where(known[:, None], own, learned / learned.sum())
