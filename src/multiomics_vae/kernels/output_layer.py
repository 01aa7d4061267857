"""The matrix products of an output layer, chunk by chunk, into buffers that are reused."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from multiomics_vae.kernels.allocation import empty_buffer
from multiomics_vae.kernels.rounded_copy import RoundedCopy


@dataclass(frozen=True)
class Wanted:
    """Of which inputs the gradient is wanted."""

    hidden: bool
    weight: bool
    bias: bool
    offset: bool
    log_dispersion: bool

    @property
    def layer(self) -> bool:
        """True if any gradient needs the slopes of all logits."""
        return self.hidden or self.weight or self.bias or self.offset

    @property
    def any(self) -> bool:
        return self.layer or self.log_dispersion


class OutputLayer:
    """Logits W hᵀ + b + o of a chunk of features, and the gradients that flow back through them.

    Features come first, ``(n, B)``: a chunk of any width is then a contiguous part of one buffer, and
    so is its part of the weight's gradient.

    Parameters
    ----------
    hidden
        h, ``(B, H)``.
    weight, bias
        W ``(F, H)`` and b ``(F,)``.
    offset
        o, added to every logit of a cell, ``(B,)``; None for none.
    cell_weights
        ``(B,)``; None for 1.
    chunk_size
        Features in the widest chunk.
    product_dtype
        Type of the factors of matrix products; None for that of ``hidden``.
    wanted
        Which gradients to make room for.
    gradient_dtype
        Type of the gradient by the weight: that of the products, in which they come, or that of ``weight``.
    """

    def __init__(
        self,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor,
        offset: Tensor | None,
        cell_weights: Tensor | None,
        chunk_size: int,
        product_dtype: torch.dtype | None,
        wanted: Wanted,
        gradient_dtype: torch.dtype | None = None,
    ) -> None:
        low = None if product_dtype == hidden.dtype else product_dtype
        # (F, H), if there is one: it saves rounding.
        self.rounded_weight = RoundedCopy.of(weight) if low == torch.bfloat16 else None
        # Threads that take part have an autograd mode of their own.
        hidden, weight = hidden.detach(), weight.detach()
        self.hidden, self.weight, self.bias, self.offset = hidden, weight, bias, offset
        self.cell_weights, self.wanted = cell_weights, wanted
        (n_cells, n_hidden), n_features = hidden.shape, weight.shape[0]
        self._low = low
        self.hidden_columns = hidden.to(low or hidden.dtype).t().contiguous()  # (H, B)
        if low is not None:
            width = min(chunk_size, n_features)
            self._low_square = hidden.new_empty(width, n_cells, dtype=low)  # (chunk, B)
            self._low_weight = hidden.new_empty(width, n_hidden, dtype=low)  # (chunk, H)
            self._low_gradient = hidden.new_empty(width, n_hidden, dtype=low)  # (chunk, H)
            self._rounded: slice | None = None
        self.hidden_gradient = torch.zeros_like(hidden) if wanted.hidden else None  # (B, H)
        self.bias_gradient = torch.empty_like(bias) if wanted.bias else None  # (F,)
        self.offset_gradient = hidden.new_zeros(n_cells) if wanted.offset else None  # (B,)
        self.weight_gradient: Tensor | None = None
        if wanted.weight:
            like = weight if gradient_dtype is None else weight.new_empty(0, dtype=gradient_dtype)
            self.weight_gradient = empty_buffer((n_features, n_hidden), like)  # (F, H)
            weighted = hidden if cell_weights is None else hidden * cell_weights.unsqueeze(1)
            self.weighted_hidden = weighted.to(low or hidden.dtype).contiguous()  # (B, H)

    @property
    def n_rows(self) -> int:
        """B."""
        return self.hidden_columns.shape[1]

    @property
    def product_dtype(self) -> torch.dtype:
        """Type of the factors of products."""
        return self.hidden_columns.dtype

    def logits(self, features: slice, out: Tensor) -> None:
        """Write the logits of some features to ``out``, ``(n, B)``."""
        factor, bias = self._factor(features), self.bias[features].unsqueeze(1)
        if self._low is None:
            torch.addmm(bias, factor, self.hidden_columns, out=out)
        else:
            product = self._low_square[: len(out)]
            torch.mm(factor, self.hidden_columns, out=product)
            # Copied first: a sum of two types is slower than a copy and a sum.
            out.copy_(product).add_(bias)
        if self.offset is not None:
            out.add_(self.offset)

    def add_gradient(self, features: slice, slope: Tensor) -> None:
        """Take in the slopes of some features' logits, ``(n, B)``, each feature once."""
        if self.bias_gradient is not None:
            bias_part = self.bias_gradient[features]
            if self.cell_weights is None:
                torch.sum(slope, 1, out=bias_part)
            else:
                torch.mv(slope, self.cell_weights, out=bias_part)
        if self.offset_gradient is not None:
            self.offset_gradient += slope.sum(0)
        if self.weight_gradient is None and self.hidden_gradient is None:
            return
        if self._low is not None:
            slope = self._low_square[: len(slope)].copy_(slope)
        self.add_products(features, slope)

    def add_products(self, features: slice, slope: Tensor) -> None:
        """The part of `add_gradient` that is matrix products; ``slope`` in their type."""
        if self.weight_gradient is not None:
            part = self.weight_gradient[features]
            if part.dtype == slope.dtype:
                torch.mm(slope, self.weighted_hidden, out=part)
            else:
                part.copy_(torch.mm(slope, self.weighted_hidden, out=self._low_gradient[: len(slope)]))
        if self.hidden_gradient is not None:
            if self._low is None:
                self.hidden_gradient.addmm_(slope.t(), self._factor(features))
            else:
                self.hidden_gradient += torch.mm(slope.t(), self._factor(features))

    def finish(self) -> None:
        """Apply the cells' weights where they were left to the end, because they cost less there."""
        if self.cell_weights is None:
            return
        if self.hidden_gradient is not None:
            self.hidden_gradient.mul_(self.cell_weights.unsqueeze(1))
        if self.offset_gradient is not None:
            self.offset_gradient.mul_(self.cell_weights)

    def _factor(self, features: slice) -> Tensor:
        """The weights of some features in the type of the products, ``(n, H)``."""
        part = self.weight[features]
        if self._low is None:
            return part
        if self.rounded_weight is not None:
            return self.rounded_weight[features]
        rounded = self._low_weight[: len(part)]
        if self._rounded != features:
            rounded.copy_(part)
            self._rounded = features
        return rounded
