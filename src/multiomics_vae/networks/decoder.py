"""The decoder of one modality: from z and covariates to the outputs that its likelihood reads."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from multiomics_vae.networks.blocks import MLP

START_SD = 0.01


class Decoder(nn.Module):
    """Hidden layers on z and covariates, then one linear layer for each output of the likelihood.

    The covariates enter the last layer too, so that a batch shifts features directly. With 0 hidden
    layers the decoder is linear, the right choice where each feature is seen in few cells.

    Parameters
    ----------
    n_latent, n_covariates, n_hidden, n_layers, dropout
        Sizes.
    weight_precision
        Precision of the Gaussian prior N(0, 1/precision) on the weights of the last layer; 0 is flat.
        A feature seen in a few dozen cells cannot afford free weights.
    start_biases
        Bias of every output at the start, so that training begins at the marginal model.
    """

    def __init__(
        self,
        n_latent: int,
        n_covariates: int,
        n_hidden: int,
        n_layers: int,
        dropout: float,
        weight_precision: float,
        start_biases: tuple[Tensor, ...],
    ) -> None:
        super().__init__()
        self.hidden = MLP(n_latent + n_covariates * (n_layers > 0), n_hidden, n_layers, dropout)
        self.n_covariates = n_covariates
        self.weight_precision = weight_precision
        self.outputs = nn.ModuleList()
        for bias in start_biases:
            layer = nn.Linear(self.hidden.n_outputs + n_covariates, len(bias))
            with torch.no_grad():
                # Small weights: the start is the marginal model up to a ripple that breaks symmetry.
                layer.weight.normal_(std=START_SD)
                layer.bias.copy_(bias)
            self.outputs.append(layer)

    @property
    def last_layers(self) -> tuple[nn.Linear, ...]:
        """The linear layer of every output."""
        return cast(tuple[nn.Linear, ...], tuple(self.outputs))

    def last_hidden(self, z: Tensor, covariates: Tensor) -> Tensor:
        """What the last layer reads, from z ``(B, K)`` and covariates ``(B, D)``: ``(B, H)``."""
        hidden = z
        if len(self.hidden.layers):
            hidden = self.hidden(torch.cat([z, covariates], dim=-1))
        return torch.cat([hidden, covariates], dim=-1) if self.n_covariates else hidden

    def forward(self, z: Tensor, covariates: Tensor, features: Tensor | None = None) -> tuple[Tensor, ...]:
        """Outputs for every row of z.

        Parameters
        ----------
        z
            ``(B, K)``.
        covariates
            ``(B, D)``.
        features
            Columns of the outputs to compute, taken before the last product; None means all.

        Returns
        -------
        tuple of Tensor
            One tensor ``(B, width)`` for each output.
        """
        return self.read_out(self.last_hidden(z, covariates), features)

    def read_out(self, hidden: Tensor, features: Tensor | None = None) -> tuple[Tensor, ...]:
        """Outputs from what the last layer reads, ``(B, H)``; ``features`` as in `forward`."""
        if features is None:
            return tuple(layer(hidden) for layer in self.last_layers)  # (B, width) each
        return tuple(
            nn.functional.linear(hidden, layer.weight[features], layer.bias[features])
            for layer in self.last_layers
        )

    def log_prior(self) -> Tensor | None:
        """Log prior density of the last layer's weights, up to a constant; None for a flat prior."""
        if self.weight_precision == 0.0:
            return None
        squares = torch.stack([layer.weight.square().sum() for layer in self.last_layers])
        return -0.5 * self.weight_precision * squares.sum()
