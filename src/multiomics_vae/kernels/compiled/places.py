"""Where the stored entries of a block of features lie in sparse rows."""

from __future__ import annotations

from typing import Any

from multiomics_vae.kernels.compiled.compile import compiled_formula


@compiled_formula
def first_at(columns: Any, low: Any, high: Any, feature: Any) -> Any:
    """The first of the entries ``low`` … ``high`` − 1 of a row at or after a feature; ``high`` if none is."""
    while low < high:
        middle = (low + high) // 2
        if columns[middle] < feature:
            low = middle + 1
        else:
            high = middle
    return low
