"""Whether the inputs of a fused log likelihood fit together; looks at shapes, never at values."""

from __future__ import annotations

import torch
from torch import Tensor

from multiomics_vae.errors import InputError
from multiomics_vae.kernels.chunked_entries import ChunkedEntries
from multiomics_vae.kernels.elementwise import ElementwiseKernel
from multiomics_vae.kernels.sparse_rows import SparseRows


def check_inputs(
    kernel: ElementwiseKernel,
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor,
    data: SparseRows | ChunkedEntries,
    depth: Tensor | None,
    offset: Tensor | None,
    log_dispersion: Tensor | None,
    batch: Tensor | None,
    cell_weights: Tensor | None,
) -> None:
    """Raise `InputError` unless shapes, types and devices agree and the kernel gets what it reads."""
    _check_kernel_needs(kernel, depth, offset, log_dispersion, batch)
    if hidden.ndim != 2 or weight.ndim != 2 or hidden.shape[1] != weight.shape[1]:
        raise InputError(
            f"hidden (B, H) and weight (F, H) must share H; they have shapes {tuple(hidden.shape)} and "
            f"{tuple(weight.shape)}. For example, of a linear layer: weight=layer.weight"
        )
    if hidden.dtype not in (torch.float32, torch.float64):
        raise InputError(
            f"hidden must be float32 or float64, not {hidden.dtype}. Use hidden.float(), and for fast "
            "products options=ChunkOptions(product_dtype=torch.bfloat16)"
        )
    (n_cells, n_features) = hidden.shape[0], weight.shape[0]
    if (data.n_cells, data.n_features) != (n_cells, n_features):
        raise InputError(
            f"data has {data.n_cells} rows of {data.n_features} features, but hidden has {n_cells} rows "
            f"and weight {n_features}. For example: hidden[:{data.n_cells}]"
        )
    rows = data.data if isinstance(data, ChunkedEntries) else data
    if rows.values.device != hidden.device:
        raise InputError(
            f"data is on {rows.values.device} but hidden on {hidden.device}. "
            f'For example: hidden.to("{rows.values.device}")'
        )
    learned = {"weight": weight, "bias": bias, "offset": offset, "log_dispersion": log_dispersion}
    for name, tensor in learned.items():
        if tensor is not None and (tensor.dtype != hidden.dtype or tensor.device != hidden.device):
            raise InputError(
                f"{name} is {tensor.dtype} on {tensor.device} but hidden {hidden.dtype} on {hidden.device}. "
                f"For example: hidden.to({name})"
            )
    if bias.shape != (n_features,):
        raise InputError(f"bias must have shape ({n_features},), not {tuple(bias.shape)}.")
    of_cells = {"depth": depth, "offset": offset, "batch": batch, "cell_weights": cell_weights}
    for name, tensor in of_cells.items():
        if tensor is not None and tensor.shape != (n_cells,):
            raise InputError(
                f"{name} must have one value a cell, shape ({n_cells},), not {tuple(tensor.shape)}. "
                f"For example: {name}.reshape(-1)"
            )
    if log_dispersion is not None:
        _check_dispersion(log_dispersion, n_features, batch)


def _check_kernel_needs(
    kernel: ElementwiseKernel,
    depth: Tensor | None,
    offset: Tensor | None,
    log_dispersion: Tensor | None,
    batch: Tensor | None,
) -> None:
    name = type(kernel).__name__
    if kernel.normalised != (depth is not None):
        wanted = "needs depth=..., (B,)" if kernel.normalised else "has no depth; use offset=..."
        raise InputError(f"{name} {wanted}.")
    if kernel.normalised and offset is not None:
        raise InputError(f"{name} takes a softmax over features, where an offset would cancel: offset=None.")
    if kernel.has_dispersion != (log_dispersion is not None):
        wanted = "needs log_dispersion=..., (F,)" if kernel.has_dispersion else "has no dispersion"
        raise InputError(f"{name} {wanted}.")
    if batch is not None and log_dispersion is None:
        raise InputError(f"{name} has no dispersion to look up by batch: batch=None.")


def _check_dispersion(log_dispersion: Tensor, n_features: int, batch: Tensor | None) -> None:
    if log_dispersion.ndim not in (1, 2) or log_dispersion.shape[-1] != n_features:
        raise InputError(
            f"log_dispersion must have shape ({n_features},) or (n_batches, {n_features}), "
            f"not {tuple(log_dispersion.shape)}."
        )
    if batch is None and log_dispersion.ndim == 2 and len(log_dispersion) != 1:
        raise InputError(
            f"log_dispersion has {len(log_dispersion)} rows, so batch must say which one each cell reads. "
            "For example: batch=torch.zeros(len(hidden), dtype=torch.int64)"
        )
    if batch is not None and batch.dtype != torch.int64:
        raise InputError(f"batch must be int64, not {batch.dtype}. For example: batch.long()")
