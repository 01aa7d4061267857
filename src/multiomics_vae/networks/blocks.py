"""The one building block of all networks here: a multilayer perceptron that works row by row."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from multiomics_vae.kernels import SparseRows
from multiomics_vae.kernels.hidden_units import hidden_units
from multiomics_vae.kernels.sparse_layer import is_wide, sparse_linear
from multiomics_vae.networks.extension import ExtendedLinear

N_STAGES = 4  # linear map, layer normalisation, ReLU, dropout


class MLP(nn.Module):
    """Hidden layers of linear map, layer normalisation, ReLU and dropout.

    Layer normalisation, not batch normalisation: a cell's result must not depend on the cells that
    happen to share its minibatch, and a minibatch may hold one cell.

    Parameters
    ----------
    n_inputs, n_hidden, n_layers
        Sizes; with 0 layers the input is passed on unchanged.
    dropout
        Share of hidden units dropped in training.

    Examples
    --------
    >>> import torch
    >>> MLP(10, n_hidden=4, n_layers=2, dropout=0.1)(torch.zeros(3, 10)).shape
    torch.Size([3, 4])
    """

    def __init__(self, n_inputs: int, n_hidden: int, n_layers: int, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = n_inputs
        for _ in range(n_layers):
            layers += [nn.Linear(width, n_hidden), nn.LayerNorm(n_hidden), nn.ReLU(), nn.Dropout(dropout)]
            width = n_hidden
        self.layers = nn.Sequential(*layers)
        self.n_outputs = width
        # Of the first product where the input is sparse and so may be wide; None follows PyTorch's switch.
        self.sparse_product_dtype: torch.dtype | None = None

    def forward(self, x: Tensor) -> Tensor:
        return self._from(x, 0)  # (B, n_outputs)

    def read_sparse(self, rows: SparseRows, beside: Tensor | None = None) -> Tensor:
        """Do what `forward` does to sparse rows ``(B, F)`` with dense numbers ``(B, D)`` behind them.

        Neither needs a gradient.
        """
        first = self.layers[0] if len(self.layers) else None
        hidden = None
        if isinstance(first, nn.Linear) and is_wide(rows, first.weight):
            hidden = sparse_linear(rows, beside, first.weight, first.bias, self.sparse_product_dtype)
        elif isinstance(first, ExtendedLinear) and is_wide(rows, first.known):
            hidden = first.read_sparse(rows, beside)
        if hidden is not None:
            return self._from(hidden, 1)  # (B, n_outputs)
        dense = rows.to_dense()
        return self.forward(dense if beside is None else torch.cat([dense, beside], dim=-1))

    def _from(self, hidden: Tensor, start: int) -> Tensor:
        """Go through the layers from a linear map, or from what it has found, on."""
        stages = list(self.layers)
        for i in range(0, len(stages), N_STAGES):
            norm, dropout = cast(nn.LayerNorm, stages[i + 1]), cast(nn.Dropout, stages[i + 3])
            if i >= start:
                hidden = stages[i](hidden)  # (B, H)
            share = dropout.p if dropout.training else 0.0
            hidden = hidden_units(hidden, norm.weight, norm.bias, norm.eps, share)
        return hidden
