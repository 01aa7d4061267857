"""The observations of drawn features, which can be looked up before a step needs them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.feature_sample import FeatureSample
from multiomics_vae.kernels.fused import chunk_rows
from multiomics_vae.kernels.options import ChunkOptions
from multiomics_vae.kernels.sparse_rows import SparseRows


@dataclass(frozen=True, eq=False)
class DrawnEntries:
    """Some features of B cells.

    Parameters
    ----------
    sample
        Which they are.
    chunked
        Their observations, sorted for the fused likelihoods; None if no feature was drawn.
    count
        Σ x of each cell over all features, drawn or not, ``(B,)``; None if nobody wants it.

    Examples
    --------
    >>> rows = SparseRows.from_dense(torch.tensor([[0.0, 2.0, 3.0]]))
    >>> DrawnEntries.draw(rows, torch.tensor([0.0, 1.0, 0.0]), torch.Generator()).count
    tensor([5.])
    """

    sample: FeatureSample
    chunked: ChunkedEntries | None
    count: Tensor | None

    @classmethod
    def draw(
        cls, values: SparseRows, chances: Tensor, generator: torch.Generator, with_count: bool = True
    ) -> DrawnEntries:
        """Draw features and look their entries up.

        Parameters
        ----------
        values
            All observations, ``(B, F)``.
        chances
            Of all features, ``(F,)``, on the generator's device.
        generator
            Decides which.
        with_count
            Whether to count; shares among features need it.
        """
        sample, chunked = FeatureSample.draw(chances, generator), None
        if len(sample.features):
            like = values.values.new_empty(values.n_cells, 1)
            chunked = chunk_rows(sample.entries(values), like, ChunkOptions())
        return cls(sample, chunked, values.row_sums() if with_count else None)
