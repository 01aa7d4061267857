"""What every input transform is: the fixed first step of an encoder, saved with the model.

A transform is made from the statistics of the training cells, has buffers but no parameters, and
works row by row, so that a cell's input never depends on the cells beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn

from multiomics_vae.data.minibatch import ModalityBatch
from multiomics_vae.kernels import SparseRows
from multiomics_vae.likelihoods import FeatureStatistics


class InputTransform(nn.Module, ABC):
    """Abstract; one subclass a file.

    Parameters
    ----------
    statistics
        Of the training cells.
    """

    name: ClassVar[str]

    def __init__(self, statistics: FeatureStatistics) -> None:
        super().__init__()
        self.n_features = statistics.n_features

    @property
    def n_outputs(self) -> int:
        """Width of the transformed input."""
        return self.n_features

    @abstractmethod
    def forward(self, batch: ModalityBatch) -> Tensor | SparseRows:
        """Transform the rows of a modality: ``(B_m, n_outputs)``, 0 where nothing was observed."""


class SparseTransform(InputTransform):
    """A transform that leaves zeros at zero, so that sparse rows stay sparse. Abstract.

    A subclass says what becomes of the stored entries; that one formula serves both forms.
    """

    def forward(self, batch: ModalityBatch) -> Tensor | SparseRows:
        if isinstance(batch.values, SparseRows):
            return batch.values.with_values(self.entries(batch.values, batch.depth))
        rows = SparseRows.from_dense(batch.values)
        return rows.with_values(self.entries(rows, batch.depth)).to_dense()

    @abstractmethod
    def entries(self, rows: SparseRows, depth: Tensor) -> Tensor:
        """Transformed values of the stored entries.

        Parameters
        ----------
        rows
            Observations.
        depth
            Of each row, ``(B_m,)``.

        Returns
        -------
        Tensor
            ``(nnz,)``.
        """
