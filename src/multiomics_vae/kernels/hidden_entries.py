"""A random part of the stored entries hidden, as dropout does it, at a tenth of its cost on a processor."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from multiomics_vae.errors import InputError

FEWEST_COMPILED = 2**15  # entries; below, compiling costs more than it saves
WORD = 2**32


def hide_entries(values: Tensor, share: float) -> Tensor:
    """Each entry is 0 with probability p, else multiplied by 1 / (1 − p): what it is on average stays.

    Parameters
    ----------
    values
        ``(n,)``, without gradient.
    share
        p, from 0 to below 1.

    Returns
    -------
    Tensor
        ``(n,)``. What is hidden depends on torch's generator alone, not on the number of threads.

    Raises
    ------
    InputError
        If p is out of range.

    Examples
    --------
    >>> hide_entries(torch.ones(3), 0.0)
    tensor([1., 1., 1.])
    """
    if not 0.0 <= share < 1.0:
        raise InputError(
            "The share of entries to hide is a number from 0 to below 1, "
            f"not {share!r}: hide_entries(values, 0.2)"
        )
    if share == 0.0:
        return values
    if values.device.type != "cpu" or values.dtype != torch.float32 or len(values) < FEWEST_COMPILED:
        return functional.dropout(values, share)
    # Imported here, because the compiler loads slowly.
    from multiomics_vae.kernels.compiled.blocks import Blocks
    from multiomics_vae.kernels.compiled.hidden_entries_loop import hide_numbers

    start, middle = torch.randint(WORD, (2,)).tolist()
    seeds = np.uint32(start), np.uint32(middle)
    below, scale = np.uint32(round(share * WORD)), np.float32(1.0 / (1.0 - share))
    hidden = torch.empty_like(values)
    given, out = values.numpy(), hidden.numpy()

    def work(_: int, low: int, high: int) -> None:
        hide_numbers(given[low:high], low, seeds, below, scale, out[low:high])

    with Blocks() as blocks:
        blocks.each(len(values), work)
    return hidden
