"""Covariate weights for categories that a fitted model has never seen, beside weights that stay as they are.

A new category is encoded as the average of the known ones and by a column of its own. The weights of the
new columns start at 0, so it starts at the average of the known categories; the known part is kept apart,
so that known cells go through the very products that they went through before.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multiomics_vae.data.minibatch import Covariates
from multiomics_vae.kernels import SparseRows
from multiomics_vae.kernels.sparse_layer import sparse_linear
from multiomics_vae.networks.covariates import CovariateEncoding

SINGLE_KNOWN_SD = 1.0
SMALLEST_SD = 1e-3


class ExtendedEncoding(nn.Module):
    """The covariates as a fitted model encodes them, then a column for every new category.

    Parameters
    ----------
    known
        Of the fitted model.
    n_new
        New categories of the batch and of each categorical covariate, whose codes follow the known ones.
    """

    n_new: Tensor

    def __init__(self, known: CovariateEncoding, n_new: tuple[int, ...]) -> None:
        super().__init__()
        self.known = known
        self.register_buffer("n_new", torch.tensor(n_new, dtype=torch.int64))
        self._widths = n_new
        # A covariate with one known category takes no column, and its one code is 0.
        self._n_known = tuple(max(1, width) for width in (known.batch_width, *known.widths))

    @property
    def n_outputs(self) -> int:
        return self.known.n_outputs + sum(self._widths)

    def forward(self, covariates: Covariates) -> Tensor:
        codes = [covariates.batch, *covariates.categorical.unbind(1)]  # (B,) each
        is_new = [code >= n for code, n in zip(codes, self._n_known, strict=True)]  # (B,) each
        # The known encoding averages the batch code -1 itself, over the batches that it learned from.
        stand_in = [-1, *(0 for _ in codes[1:])]
        first = [
            torch.where(new, code_of_new, code)
            for new, code_of_new, code in zip(is_new, stand_in, codes, strict=True)
        ]
        categorical = torch.stack(first[1:], 1) if len(first) > 1 else covariates.categorical
        encoded = self.known(Covariates(first[0], categorical, covariates.continuous))  # (B, D)
        start = self.known.n_continuous
        columns = []
        for place, (code, new, n_known) in enumerate(zip(codes, is_new, self._n_known, strict=True)):
            width = n_known if n_known > 1 else 0
            if place:
                average = encoded.new_zeros(encoded.shape[1])  # (D,)
                average[start : start + width] = 1.0 / n_known
                own = torch.zeros_like(average, dtype=torch.bool)
                own[start : start + width] = True
                encoded = torch.where(new.unsqueeze(1) & own, average, encoded)  # (B, D)
            start += width
            if self._widths[place]:
                # One column too many, which takes the known cells.
                column = torch.where(new, code - n_known, self._widths[place])  # (B,)
                columns.append(F.one_hot(column, self._widths[place] + 1)[:, :-1].to(encoded.dtype))
        return torch.cat([encoded, *columns], dim=-1)  # (B, D + number of new categories)

    def learn_from(self, batches: Tensor) -> None:
        """Leave what the fitted model learned from as it is; all new categories learn."""


class ExtendedLinear(nn.Module):
    """A linear layer whose last inputs are the columns of new categories.

    known x[: n] + bias + new x[n :], with everything but ``new`` as it was fitted. ``new`` starts at 0; its
    prior is N(0, s²) with s the spread of the weights of the known categories, so that a few cells do not
    move it further than categories differ.

    Parameters
    ----------
    fitted
        Of the model as it was.
    n_new
        Columns to add.
    spread
        s.
    """

    spread: Tensor

    def __init__(self, fitted: nn.Linear, n_new: int, spread: Tensor) -> None:
        super().__init__()
        self.known = fitted.weight
        self.bias = fitted.bias
        self.new = nn.Parameter(fitted.weight.new_zeros(fitted.out_features, n_new))
        self.register_buffer("spread", spread.detach().clone())

    @property
    def weight(self) -> Tensor:
        """All weights side by side: ``(n_outputs, n_inputs)``."""
        return torch.cat([self.known, self.new], dim=1)

    def forward(self, x: Tensor) -> Tensor:
        n_known = self.known.shape[1]
        # Contiguous, as it was when the model was fitted: strides may change the last bits of a product.
        as_before = F.linear(x[..., :n_known].contiguous(), self.known, self.bias)
        return as_before + F.linear(x[..., n_known:], self.new)

    def read_sparse(self, rows: SparseRows, beside: Tensor | None) -> Tensor:
        """Do what `forward` does to sparse rows ``(B, F)`` with dense numbers ``(B, D)`` behind them."""
        n_beside = self.known.shape[1] - rows.n_features
        known = None if beside is None else beside[:, :n_beside].contiguous()
        found = sparse_linear(rows, known, self.known, self.bias)
        return found if beside is None else found + F.linear(beside[:, n_beside:], self.new)

    def log_prior(self) -> Tensor:
        """Log density of the new weights under their prior, up to a constant: a scalar."""
        return -0.5 * (self.new / self.spread).square().sum()


def extended(layer: nn.Linear, n_categories: tuple[int, ...], start: int, n_new: int) -> ExtendedLinear:
    """A layer with columns for new categories.

    Parameters
    ----------
    layer
        Of a fitted model.
    n_categories
        Columns that each covariate has among the layer's inputs, one covariate after the other.
    start
        The first of these columns.
    n_new
        Columns to add.
    """
    weight, n = layer.weight.detach(), 0
    squares = weight.new_zeros(())
    for width in n_categories:
        if width > 1:
            of_categories = weight[:, start : start + width]  # (n_outputs, C)
            squares = squares + of_categories.var(1).mean() * width
            n += width
        start += width
    sd = (squares / n).sqrt().clamp(min=SMALLEST_SD) if n else torch.full_like(squares, SINGLE_KNOWN_SD)
    return ExtendedLinear(layer, n_new, sd)
