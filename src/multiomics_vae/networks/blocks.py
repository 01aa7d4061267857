"""The one building block of all networks here: a multilayer perceptron that works row by row."""

from __future__ import annotations

from torch import Tensor, nn


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

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.layers(x)  # (B, n_outputs)
        return hidden
