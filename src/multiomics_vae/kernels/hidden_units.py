"""Hidden units of a layer: layer normalisation, ReLU and dropout, on a processor in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from multiomics_vae.errors import InputError
from multiomics_vae.kernels.hidden_entries import WORD

FEWEST_COMPILED = 2**14  # units of all rows; below, compiling costs more than it saves


def hidden_units(x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, share: float) -> Tensor:
    """dropout(max(0, w (x − mean) / √(variance + ε) + b)), mean and variance over the units of a row.

    Layer normalisation (Ba et al. 2016), ReLU and dropout are three operations of PyTorch, and five on the
    way back, each of which takes longer to be called than to be computed for a minibatch of usual size.

    Parameters
    ----------
    x
        ``(B, H)``, differentiable once.
    weight, bias
        w and b, ``(H,)``, differentiable once.
    epsilon
        ε.
    share
        Of the units that are hidden, from 0 to below 1; the others are multiplied by 1 / (1 − share).

    Returns
    -------
    Tensor
        ``(B, H)``. What is hidden depends on torch's generator alone.

    Raises
    ------
    InputError
        If the share is out of range.

    Examples
    --------
    >>> hidden_units(torch.tensor([[1.0, 3.0]]), torch.ones(2), torch.zeros(2), 0.0, 0.0)
    tensor([[0., 1.]])
    """
    if not 0.0 <= share < 1.0:
        raise InputError(
            f"The share of units to hide is a number from 0 to below 1, not {share!r}: MLP(..., dropout=0.1)"
        )
    is_usual = all(t.dtype == torch.float32 and t.device.type == "cpu" for t in (x, weight, bias))
    if not is_usual or x.ndim != 2 or x.numel() < FEWEST_COMPILED:
        shown = functional.layer_norm(x, weight.shape, weight, bias, epsilon).relu()
        return functional.dropout(shown, share) if share else shown
    found: Tensor = _HiddenUnits.apply(x, weight, bias, epsilon, share)  # type: ignore[no-untyped-call]
    return found


class _HiddenUnits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, epsilon: float, share: float) -> Tensor:
        # Imported here, because the compiler loads slowly.
        from multiomics_vae.kernels.compiled.hidden_units_loop import write_units

        x = x.detach().contiguous()
        out, moments = torch.empty_like(x), x.new_empty(2, len(x))
        start, middle = torch.randint(WORD, (2,)).tolist() if share else (0, 0)
        ctx.scale = np.float32(1.0 / (1.0 - share))
        write_units(
            x.numpy(),
            weight.detach().numpy(),
            bias.detach().numpy(),
            np.float32(epsilon),
            (np.uint32(start), np.uint32(middle)),
            np.uint32(round(share * WORD)),
            ctx.scale,
            out.numpy(),
            moments[0].numpy(),
            moments[1].numpy(),
        )
        ctx.save_for_backward(x, weight, out, moments)
        return out

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        from multiomics_vae.kernels.compiled.hidden_units_loop import write_gradients

        x, weight, out, moments = ctx.saved_tensors
        by_x, by_both = torch.empty_like(x), x.new_empty(2, x.shape[1])
        write_gradients(
            x.numpy(),
            weight.detach().numpy(),
            out.detach().numpy(),
            moments[0].numpy(),
            moments[1].numpy(),
            ctx.scale,
            upstream.contiguous().numpy(),
            by_x.numpy(),
            by_both[0].numpy(),
            by_both[1].numpy(),
        )
        return by_x, by_both[0], by_both[1], None, None
