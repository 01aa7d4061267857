"""Where the stored entries of a block of features lie in sparse rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiomics_vae.kernels.compiled.compile import compiled_formula, compiled_loop


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


@compiled_loop
def find_places(
    pointers: NDArray[np.int64],
    columns: NDArray[np.int64],
    edges: NDArray[np.int64],
    places: NDArray[np.int64],
) -> None:
    """Look up where the entries of every chunk of features begin, once for all walks over the chunks.

    A search in memory that nobody has read lately takes longer than what is done with the entries found.

    Parameters
    ----------
    pointers, columns
        The data, as in `SparseRows`, B cells.
    edges
        The first feature of each chunk, and one past the last feature, ``(n + 1,)``.
    places
        Written: the first entry of each cell at or after each edge, ``(B, n + 1)``.
    """
    for cell in range(len(pointers) - 1):
        entry = pointers[cell]
        for i in range(len(edges)):
            entry = first_at(columns, entry, pointers[cell + 1], edges[i])
            places[cell, i] = entry
