"""A learned number for every feature, or for every feature of every batch."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class FeatureParameter(nn.Module):
    """A table of one row, or of one row a batch, that cells look up.

    Parameters
    ----------
    start
        Start values, ``(F,)``; or ``(n_batches, F)`` for a table of one row a batch.
    n_rows
        1 for one row that all cells share, ``n_batches`` for one row a batch.

    Examples
    --------
    >>> parameter = FeatureParameter(torch.zeros(3), n_rows=2)
    >>> parameter(torch.tensor([0, 1, 1, 0])).shape
    torch.Size([4, 3])
    """

    def __init__(self, start: Tensor, n_rows: int = 1) -> None:
        super().__init__()
        table = start.expand(n_rows, start.shape[-1]).to(torch.get_default_dtype())  # (n_rows, F)
        self.table = nn.Parameter(table.clone())

    def forward(self, batch: Tensor, features: Tensor | None = None) -> Tensor:
        """Look up the values of cells with batch codes ``(B,)``: ``(B, F)``, or ``(1, F)`` if shared.

        With ``features``, positions ``(G,)``, of these only.
        """
        table = self.table if features is None else self.table[:, features]
        return table if len(table) == 1 else table[batch]
