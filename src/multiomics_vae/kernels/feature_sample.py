"""A part of the features, which may stand for all of them."""

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
    """n of F features: a drawn part that stands for all, or simply those that there are.

    Parameters
    ----------
    features
        Which, increasing, ``(n,)``, int64.
    n_features
        F.
    chances
        With which each was drawn, independently of the others, ``(n,)``; None if they stand for themselves.

    Examples
    --------
    >>> FeatureSample.draw(torch.tensor([1.0, 0.0, 1.0]), torch.Generator()).features
    tensor([0, 2])
    """

    features: Tensor
    n_features: int
    chances: Tensor | None = None

    @classmethod
    def draw(cls, chances: Tensor, generator: torch.Generator) -> FeatureSample:
        """Draw each feature with a chance of its own, as `chances_by_size` makes them.

        Parameters
        ----------
        chances
            Of all features, 0 to 1, ``(F,)``, on the generator's device.
        generator
            Decides.
        """
        uniform = torch.rand(len(chances), generator=generator, device=generator.device)  # (F,)
        features = (uniform < chances).nonzero().squeeze(1)  # (n,)
        return cls(features, len(chances), chances.index_select(0, features))

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


def chances_by_size(sizes: Tensor, n_drawn: int) -> Tensor:
    """Chances of being drawn, min(1, c · size), which add up to ``n_drawn``.

    An estimated sum varies least if features are drawn in proportion to what they contribute.

    Parameters
    ----------
    sizes
        Positive, ``(F,)``.
    n_drawn
        How many features are to be drawn on average.

    Returns
    -------
    Tensor
        ``(F,)``.

    Raises
    ------
    InputError
        If so many cannot be drawn, or a size is not positive.

    Examples
    --------
    >>> chances_by_size(torch.tensor([1.0, 1.0, 8.0]), 2)
    tensor([0.5000, 0.5000, 1.0000])
    """
    if not 1 <= n_drawn <= len(sizes):
        raise InputError(f"Of {len(sizes)} features, 1 to {len(sizes)} can be drawn, not {n_drawn}.")
    if not bool((sizes > 0).all()):
        lowest = float(sizes.min())
        raise InputError(f"Sizes of features must be positive, and one is {lowest:g}: sizes.clamp(min=0.01)")
    # With k features certain, the others share out the rest in proportion to their sizes.
    ordered, order = sizes.double().sort(descending=True)  # (F,)
    after = ordered.flip(0).cumsum(0).flip(0)  # (F,), sum of a size and of all that are smaller
    still = n_drawn - torch.arange(len(sizes), device=sizes.device)  # (F,)
    n_certain = int(((still > 0) & (ordered * still >= after)).sum())
    chances = torch.ones_like(ordered)
    if n_certain < n_drawn:
        chances[n_certain:] = ordered[n_certain:] * ((n_drawn - n_certain) / after[n_certain])
    else:
        chances[n_certain:] = 0.0
    return torch.empty_like(sizes).index_copy_(0, order, chances.clamp(max=1.0).to(sizes.dtype))


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
