"""A number for every feature and batch, with rows for batches that a fitted model has never seen."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multiomics_vae.likelihoods.feature_parameter import FeatureParameter


class ExtendedFeatureParameter(FeatureParameter):
    """The rows of known batches as they were fitted, then one a new batch, started at their average.

    Parameters
    ----------
    fitted
        One row a known batch.
    n_new
        Rows to add.

    Examples
    --------
    >>> fitted = FeatureParameter(torch.tensor([[0.0, 2.0], [2.0, 4.0]]), n_rows=2)
    >>> ExtendedFeatureParameter(fitted, n_new=1)(torch.tensor([2])).tolist()
    [[1.0, 3.0]]
    """

    def __init__(self, fitted: FeatureParameter, n_new: int) -> None:
        nn.Module.__init__(self)
        self.known = fitted.table
        self.new = nn.Parameter(fitted.table.detach().mean(0).expand(n_new, -1).clone())

    @property
    def table(self) -> Tensor:  # type: ignore[override]
        """All rows: ``(n_batches, F)``."""
        return torch.cat([self.known, self.new])
