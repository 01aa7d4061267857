"""The encoder of one modality: from its rows of a minibatch to hidden features and an expert."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.distributions import Gaussian
from multiomics_vae.kernels import SparseRows, hide_entries
from multiomics_vae.networks.blocks import MLP
from multiomics_vae.networks.projection import Projection
from multiomics_vae.networks.transforms import InputTransform

LOG_VARIANCE_BOUND = 10.0
START_LOG_VARIANCE = -1.0


class GaussianHead(nn.Module):
    """Linear maps from hidden features to the mean and log variance of an expert.

    The log variance is bounded to ±10: a standard deviation between 0.007 and 148 prior deviations.
    """

    def __init__(self, n_hidden: int, n_latent: int) -> None:
        super().__init__()
        self.mean = nn.Linear(n_hidden, n_latent)
        self.log_variance = nn.Linear(n_hidden, n_latent)
        # Every expert starts with the same moderate width, whatever it reads.
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, START_LOG_VARIANCE)

    def forward(self, features: Tensor) -> Gaussian:
        log_variance = self.log_variance(features).clamp(-LOG_VARIANCE_BOUND, LOG_VARIANCE_BOUND)
        return Gaussian(self.mean(features), log_variance)  # (..., K)


class Encoder(nn.Module):
    """Transform, fixed projection, covariates beside them, hidden layers; then the expert's head.

    Parameters
    ----------
    transform
        Fixed input transform, made from the training cells.
    projection
        Fixed projection of the transformed input to few dimensions; None to read all features.
    n_covariates
        Width of the covariate encoding; 0 keeps covariates out.
    n_hidden, n_layers, dropout, n_latent
        Sizes of the hidden layers and of the latent space.
    input_dropout
        Share of the inputs hidden in training: the encoder must not lean on single genes or peaks.
    """

    def __init__(
        self,
        transform: InputTransform,
        projection: Projection | None,
        n_covariates: int,
        n_hidden: int,
        n_layers: int,
        dropout: float,
        n_latent: int,
        input_dropout: float,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.projection = projection
        self.n_covariates = n_covariates
        n_inputs = projection.n_outputs if projection else transform.n_outputs
        self.input_dropout = nn.Dropout(input_dropout)
        self.hidden = MLP(n_inputs + n_covariates, n_hidden, n_layers, dropout)
        self.head = GaussianHead(self.hidden.n_outputs, n_latent)

    def inputs(self, batch: ModalityBatch) -> Tensor | SparseRows:
        """The fixed part, which has nothing to learn, with inputs hidden in training: ``(B_m, n_inputs)``."""
        with torch.no_grad():
            found: Tensor | SparseRows | None = batch.encoder_inputs
            if found is None:
                found = self.projected(batch) if self.projection else self.transformed(batch)
            if not isinstance(found, SparseRows):
                hidden: Tensor = self.input_dropout(found)
                return hidden
            # Hiding a zero changes nothing: draw for the stored entries only, which are few.
            share = self.input_dropout.p if self.training else 0.0
            return found.with_values(hide_entries(found.values, share))

    def transformed(self, batch: ModalityBatch) -> Tensor | SparseRows:
        """The transformed rows, dense where features are missing: ``(B_m, F)``."""
        transformed: Tensor | SparseRows = self.transform(batch)
        if batch.gaps is None:
            return transformed
        return batch.gaps.filled(_dense(transformed))

    def projected(self, batch: ModalityBatch) -> Tensor:
        """Transform and fixed projection of the rows, ``(B_m, R)``; only where there is a projection."""
        assert self.projection is not None
        transformed: Tensor | SparseRows = self.transform(batch)
        if batch.gaps is None:
            found: Tensor = self.projection(transformed)
        elif isinstance(transformed, SparseRows):
            # The same as filling every row, without making it dense: a projection is linear.
            found = self.projection(transformed) + batch.gaps.filling @ self.projection.components
        else:
            found = self.projection(batch.gaps.filled(transformed))
        return found

    def forward(self, batch: ModalityBatch, covariates: Tensor) -> Tensor:
        """Hidden features of the rows, ``(B_m, H)``; ``covariates`` are those rows', ``(B_m, D)``."""
        inputs = self.inputs(batch)  # (B_m, n_inputs)
        beside = covariates if self.n_covariates else None
        if isinstance(inputs, SparseRows):
            return self.hidden.read_sparse(inputs, beside)  # (B_m, H)
        features: Tensor = self.hidden(inputs if beside is None else torch.cat([inputs, beside], dim=-1))
        return features


def _dense(rows: Tensor | SparseRows) -> Tensor:
    return rows.to_dense() if isinstance(rows, SparseRows) else rows
