"""1 where a feature was seen, 0 elsewhere."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.kernels import SparseRows
from multiomics_vae.networks.transforms.base import SparseTransform


class Binarise(SparseTransform):
    """x > 0."""

    name = "binarise"

    def entries(self, rows: SparseRows, depth: Tensor) -> Tensor:
        return (rows.values > 0).to(rows.values.dtype)  # (nnz,)
