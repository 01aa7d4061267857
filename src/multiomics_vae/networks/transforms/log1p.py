"""log(1 + counts per 10 000): the usual input of an RNA encoder."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.kernels import SparseRows
from multiomics_vae.networks.transforms.base import SparseTransform

TARGET_SUM = 1e4


class Log1p(SparseTransform):
    """log(1 + 10⁴ x / depth); the depth of a cell with no counts is 1, so its input is 0."""

    name = "log1p"

    def entries(self, rows: SparseRows, depth: Tensor) -> Tensor:
        factor = rows.for_each_entry(TARGET_SUM / depth)  # (nnz,)
        return factor.mul_(rows.values).log1p_()
