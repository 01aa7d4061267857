"""A random part of the features, which estimates a sum over all of them without bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from multiomics_vae.errors import InputError
from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.sparse_rows import SparseRows

FEWEST_COMPILED = 2**17  # entries; below, compiling costs more than it saves


@dataclass(frozen=True)
class FeatureSample:
    """n of F features, each equally likely to be among them.

    For terms t_f that do not depend on one another, E[(F/n) Σ_{f in sample} t_f] = Σ_f t_f, for values
    and gradients alike (Horvitz & Thompson 1952): every feature is drawn with probability n/F. This holds
    for elementwise log likelihoods; one normalised over features needs all of them.

    Parameters
    ----------
    features
        Which, increasing, ``(n,)``, int64.
    n_features
        F.

    Examples
    --------
    >>> FeatureSample.draw(100, 10, torch.Generator()).scale
    10.0
    """

    features: Tensor
    n_features: int

    @classmethod
    def draw(cls, n_features: int, n_drawn: int, generator: torch.Generator) -> FeatureSample:
        """Draw ``n_drawn`` features without replacement, on the generator's device.

        Raises
        ------
        InputError
            If ``n_drawn`` is not in 1 … ``n_features``.
        """
        if not 1 <= n_drawn <= n_features:
            raise InputError(f"Of {n_features} features, 1 to {n_features} can be drawn, not {n_drawn}.")
        shuffled = torch.randperm(n_features, generator=generator, device=generator.device)  # (F,)
        # Marked and looked for, which takes a tenth of sorting.
        drawn = torch.zeros(n_features, dtype=torch.bool, device=generator.device)  # (F,)
        drawn[shuffled[:n_drawn]] = True
        return cls(drawn.nonzero().squeeze(1), n_features)

    @property
    def scale(self) -> float:
        """F / n, the inverse of the probability that a feature is drawn."""
        return self.n_features / len(self.features)

    def entries(self, data: SparseRows) -> SparseRows:
        """The stored entries of the drawn features, which are numbered anew: ``(B, n)``."""
        features, columns = self.features, data.columns
        size = data.n_cells * data.n_features
        if columns.device.type == "cpu" and data.values.dtype == torch.float32 and size >= FEWEST_COMPILED:
            from multiomics_vae.kernels.compiled.kept_entries import kept_entries

            return kept_entries(data, features)
        new_column = torch.full((self.n_features,), -1, dtype=columns.dtype, device=columns.device)  # (F,)
        new_column[features] = torch.arange(len(features), dtype=columns.dtype, device=columns.device)
        found = new_column.index_select(0, columns)  # (nnz,)
        kept = (found >= 0).nonzero().squeeze(1)  # (k,)
        # Entries keep their order, so a row starts where the first kept entry at or after its start is.
        pointers = torch.searchsorted(kept, data.row_pointers)  # (B + 1,)
        return SparseRows(
            pointers, found.index_select(0, kept), data.values.index_select(0, kept), len(features)
        )

    def rows_of(self, table: Tensor) -> Tensor:
        """Rows of the drawn features, of a table ``(F, ...)``: ``(n, ...)``; differentiable once."""
        taken: Tensor = _TakeRows.apply(table, self.features)  # type: ignore[no-untyped-call]
        return taken


class _TakeRows(torch.autograd.Function):
    """index_select, whose gradient, zeros for the most part, is made in memory that is cheap to touch."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        ctx.like = table.new_empty(0)
        ctx.shape = tuple(table.shape)
        return table.index_select(0, rows)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        gradient = empty_buffer(ctx.shape, ctx.like).zero_()
        return gradient.index_copy_(0, rows, upstream), None
