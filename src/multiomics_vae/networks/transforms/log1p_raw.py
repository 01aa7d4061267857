"""log(1 + x) without normalisation, for counts whose total carries meaning."""

from __future__ import annotations

from torch import Tensor

from multiomics_vae.kernels import SparseRows
from multiomics_vae.networks.transforms.base import SparseTransform


class Log1pRaw(SparseTransform):
    """log(1 + x)."""

    name = "log1p_raw"

    def entries(self, rows: SparseRows, depth: Tensor) -> Tensor:
        return rows.values.log1p()  # (nnz,)
